// Start at Sample: the filters run in the order in which they stand there, which is that of
// llama.cpp: repetition penalty, top-k, top-p, min-p, temperature. So top-p and min-p judge the
// probabilities at temperature 1, and a high temperature does not let in what they kept out.
//
// No expression here could be fused into a multiply-add, and sums run in double over values in a
// fixed order: by id until top-k or top-p sorts the candidates, then from the most probable down.
#include "runtime/sampler.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>

#include "kernels/reference.h"
#include "runtime/error.h"

namespace hob {
namespace {

constexpr size_t kDefaultPenaltyWindow = 64;

void Check(bool good, const char* name, double value, const char* expected) {
  if (good) return;
  throw Error(HOB_ERROR_ARGUMENT,
              std::string(name) + " is " + std::to_string(value) + "; expected " + expected);
}

// The smallest id with the largest logit; NaN is passed over, 0 if there is nothing else.
int32_t Greedy(std::span<const float> logits) {
  size_t best = 0;
  for (size_t i = 1; i < logits.size(); ++i) {
    if (logits[i] > logits[best] || (std::isnan(logits[best]) && !std::isnan(logits[i]))) best = i;
  }
  return static_cast<int32_t>(best);
}

// exp((logit - largest) / temperature). Two infinite logits count as equal.
float Weight(float logit, float largest, float temperature) {
  if (logit == largest) return 1.0f;
  return reference::Exp((logit - largest) / temperature);
}

}  // namespace

Pcg32::Pcg32(uint64_t seed, uint64_t stream) : increment_(stream << 1 | 1) {
  Next();
  state_ += seed;
  Next();
}

uint32_t Pcg32::Next() {
  const uint64_t old = state_;
  state_ = old * 6364136223846793005u + increment_;
  const auto bits = static_cast<uint32_t>((old >> 18 ^ old) >> 27);
  const auto turn = static_cast<uint32_t>(old >> 59);
  return bits >> turn | bits << (-turn & 31);
}

Sampler::Sampler(const hob_sampler_options& options) : options_(options), random_(options.seed) {
  const auto in_unit = [](float x) { return x >= 0.0f && x <= 1.0f; };
  Check(options_.temperature >= 0.0f && std::isfinite(options_.temperature), "temperature",
        options_.temperature, "0 or more");
  Check(options_.top_k >= 0, "top_k", options_.top_k, "0 or more");
  Check(in_unit(options_.top_p), "top_p", options_.top_p, "0 to 1");
  Check(in_unit(options_.min_p), "min_p", options_.min_p, "0 to 1");
  Check(options_.repetition_penalty >= 0.0f && std::isfinite(options_.repetition_penalty),
        "repetition_penalty", options_.repetition_penalty, "0 or more");
  if (options_.penalty_window == 0) options_.penalty_window = kDefaultPenaltyWindow;
}

int32_t Sampler::Sample(std::span<const float> logits, std::span<const int32_t> recent) {
  if (penalizes()) logits = Penalize(logits, recent);
  const int32_t best = Greedy(logits);
  const float largest = logits[best];
  if (options_.temperature == 0.0f) return best;
  // Nothing has a probability: every logit is NaN or -inf.
  if (!(largest > -std::numeric_limits<float>::infinity())) return best;

  Gather(logits, largest);
  KeepTopK();
  KeepTopP();
  KeepMinP();
  return Draw(largest);
}

bool Sampler::Better(const Candidate& a, const Candidate& b) {
  return a.logit != b.logit ? a.logit > b.logit : a.id < b.id;
}

bool Sampler::penalizes() const {
  return options_.repetition_penalty != 0.0f && options_.repetition_penalty != 1.0f;
}

// A copy with the recent tokens made less likely. It is computed from the untouched logits, so a
// token that occurs twice is not penalized twice.
std::span<const float> Sampler::Penalize(std::span<const float> logits,
                                         std::span<const int32_t> recent) {
  penalized_.assign(logits.begin(), logits.end());
  for (int32_t id : recent.last(std::min(recent.size(), options_.penalty_window))) {
    if (id < 0 || static_cast<size_t>(id) >= logits.size()) continue;
    const float logit = logits[id];
    penalized_[id] =
        logit > 0.0f ? logit / options_.repetition_penalty : logit * options_.repetition_penalty;
  }
  return penalized_;
}

// Collects what can be chosen at all: NaN cannot.
void Sampler::Gather(std::span<const float> logits, float largest) {
  candidates_.clear();
  candidates_.reserve(logits.size());
  for (size_t i = 0; i < logits.size(); ++i) {
    if (std::isnan(logits[i])) continue;
    candidates_.push_back({logits[i], static_cast<int32_t>(i), Weight(logits[i], largest, 1.0f)});
  }
}

void Sampler::KeepTopK() {
  const auto k = static_cast<size_t>(options_.top_k);
  if (k == 0 || k >= candidates_.size()) return;
  std::partial_sort(candidates_.begin(), candidates_.begin() + static_cast<ptrdiff_t>(k),
                    candidates_.end(), Better);
  candidates_.resize(k);
}

void Sampler::KeepTopP() {
  if (options_.top_p == 0.0f || options_.top_p == 1.0f) return;
  double total = 0.0;
  for (const Candidate& candidate : candidates_) total += candidate.weight;
  const double wanted = options_.top_p * total;

  // The set is small as a rule: sorts only as far as it reaches, in growing steps.
  double reached = 0.0;
  size_t sorted = 0;
  for (size_t kept = 0; kept < candidates_.size(); ++kept) {
    if (kept == sorted) {
      sorted = std::min(candidates_.size(), std::max<size_t>(64, 4 * sorted));
      std::partial_sort(candidates_.begin() + static_cast<ptrdiff_t>(kept),
                        candidates_.begin() + static_cast<ptrdiff_t>(sorted), candidates_.end(),
                        Better);
    }
    reached += candidates_[kept].weight;
    if (reached >= wanted) {
      candidates_.resize(kept + 1);
      return;
    }
  }
}

void Sampler::KeepMinP() {
  // The best candidate's weight is 1.
  std::erase_if(candidates_, [&](const Candidate& c) { return c.weight < options_.min_p; });
}

int32_t Sampler::Draw(float largest) {
  double total = 0.0;
  for (Candidate& candidate : candidates_) {
    candidate.weight = Weight(candidate.logit, largest, options_.temperature);
    total += candidate.weight;
  }
  const double point = random_.Next() * 0x1p-32 * total;
  double reached = 0.0;
  for (const Candidate& candidate : candidates_) {
    reached += candidate.weight;
    if (reached > point) return candidate.id;
  }
  return candidates_.back().id;  // not reached: point < total, and `reached` ends as total
}

}  // namespace hob
