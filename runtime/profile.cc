// See profile.h.
#include "runtime/profile.h"

#include <algorithm>
#include <string_view>

namespace hob {
namespace {

// "q" of "blk.12.q"; names of what is in no block stay as they are.
std::string_view WithoutBlock(std::string_view name) {
  constexpr std::string_view kBlock = "blk.";
  if (!name.starts_with(kBlock)) return name;
  const size_t digits = name.find_first_not_of("0123456789", kBlock.size());
  if (digits == std::string_view::npos || name[digits] != '.') return name;
  return name.substr(digits + 1);
}

}  // namespace

// Whole pairs of cache lines: participants do not share them.
Profile::Profile(const Graph& graph, size_t participants)
    : graph_(graph),
      participants_(participants),
      stride_(RoundUp(graph.ops().size() + 1, 2 * kAlignment / sizeof(Clock::duration))),
      counters_(participants * stride_ * sizeof(Clock::duration)) {
  Clear();
}

void Profile::Clear() { std::fill_n(Row(0), participants_ * stride_, Clock::duration::zero()); }

double Profile::Seconds(const Op& op) const {
  Clock::duration sum{};
  for (size_t i = 0; i < participants_; ++i) sum += Counter(i, op);
  return std::chrono::duration<double>(sum).count();
}

std::map<std::string, double> Profile::SecondsByKind() const {
  std::map<std::string, double> seconds;
  for (const Op& op : graph_.ops()) seconds[OpName(op.kind)] += Seconds(op);
  return seconds;
}

std::map<std::string, double> Profile::SecondsOfMatmuls() const {
  std::map<std::string, double> seconds;
  for (const Op& op : graph_.ops()) {
    if (op.matrix == nullptr || op.kind == OpKind::kEmbed) continue;
    seconds[std::string(WithoutBlock(graph_.tensors()[op.output].name))] += Seconds(op);
  }
  return seconds;
}

}  // namespace hob
