#include "runtime/verify/verify.h"

#include <algorithm>
#include <cfloat>
#include <cmath>
#include <cstdio>
#include <cstring>

#include "runtime/verify/sha256.h"

namespace hob::verify {
namespace {

// An element as people and bits have it: "1.5 (0x3fc00000)".
std::string ElementText(const Array& array, size_t index) {
  uint32_t bits = 0;
  const size_t bytes = TypeBytes(array.type);
  std::memcpy(&bits, array.bytes.data() + index * bytes, bytes);
  char text[48];
  if (array.type == Type::kF32) {
    std::snprintf(text, sizeof(text), "%.9g (0x%08x)",
                  static_cast<double>(std::bit_cast<float>(bits)), bits);
  } else if (array.type == Type::kI8 || array.type == Type::kI32) {
    const int value =
        array.type == Type::kI8 ? static_cast<int8_t>(bits) : static_cast<int32_t>(bits);
    std::snprintf(text, sizeof(text), "%d", value);
  } else {
    std::snprintf(text, sizeof(text), "0x%0*x", static_cast<int>(2 * bytes), bits);
  }
  return text;
}

// A unit of the last place of a binary32 near x.
double UlpOf(double x) {
  const int exponent = x == 0 ? FLT_MIN_EXP - 1 : std::max(std::ilogb(x), FLT_MIN_EXP - 1);
  return std::ldexp(1.0, exponent - (FLT_MANT_DIG - 1));
}

void AddTo(Sha256* digest, const Case& c, const Outputs& outputs) {
  digest->Add(c.op + "\n" + c.variant + "\n" + c.name + "\n");
  for (const Array& output : outputs) {
    digest->Add(output.name + "\n");
    digest->Add(output.bytes.data(), output.bytes.size());
  }
}

// One op and variant, case by case.
Line VerifyLine(const Op& op, const std::string& variant, std::span<const Kernels> kernels) {
  Line line = {op.name, variant};
  Sha256 digest;
  std::vector<Sha256> digests(kernels.size());
  for (const Kernels& target : kernels) line.targets.push_back({target.name});
  for (const Case& c : op.make(variant, Extent::kAll)) {
    Outputs want = op.reference(c);
    if (op.check != nullptr) AddChecked(op.check(c, want), c.name, &line);
    MakeNansEqual(&want);
    AddTo(&digest, c, want);
    ++line.cases;
    for (const Array& output : want) line.outputs += CountOf(output.shape);
    for (size_t i = 0; i < kernels.size(); ++i) {
      Outputs got = op.run(c, kernels[i]);
      MakeNansEqual(&got);
      AddTo(&digests[i], c, got);
      TargetResult& target = line.targets[i];
      Difference first = {target.target, c.name};
      const size_t different = CountDifferent(got, want, &first);
      if (different > 0 && target.different == 0) line.differences.push_back(first);
      target.different += different;
    }
  }
  line.digest = digest.Finish();
  for (size_t i = 0; i < kernels.size(); ++i) line.targets[i].digest = digests[i].Finish();
  return line;
}

}  // namespace

size_t CountDifferent(const Outputs& got, const Outputs& want, Difference* first) {
  size_t different = 0;
  for (size_t o = 0; o < want.size(); ++o) {
    const size_t bytes = TypeBytes(want[o].type);
    for (size_t i = 0; i < CountOf(want[o].shape); ++i) {
      const size_t at = i * bytes;
      if (std::memcmp(got[o].bytes.data() + at, want[o].bytes.data() + at, bytes) == 0) continue;
      if (different++ > 0) continue;
      first->output = want[o].name + "[" + std::to_string(i) + "]";
      first->got = ElementText(got[o], i);
      first->want = ElementText(want[o], i);
    }
  }
  return different;
}

void AddChecked(const std::vector<Checked>& checked, const std::string& test, Line* line) {
  for (const Checked& c : checked) {
    ++line->checked;
    if (!c.Right()) ++line->beyond;
    if (!std::isfinite(c.want) || !std::isfinite(c.bound)) continue;
    const double error = std::fabs(c.got - c.want);
    const double share = error == 0 ? 0 : error / c.bound;  // infinite where the bound is 0
    if (share > line->worst.share || line->worst.test.empty()) {
      line->worst = {error, c.bound, error / UlpOf(c.want), share, test};
    }
  }
}

Report Verify(const VerifyOptions& options, std::span<const Kernels> kernels) {
  std::vector<std::pair<const Op*, std::string>> wanted;
  for (const Op& op : Ops()) {
    if (!options.op.empty() && options.op != op.name) continue;
    if (!options.format.empty() && !op.has_formats) continue;
    for (const std::string& variant : op.variants()) {
      if (options.format.empty() || options.format == variant) wanted.emplace_back(&op, variant);
    }
  }
  Report report;
  Sha256 digest;
  for (const auto& [op, variant] : wanted) {
    if (options.progress) {
      options.progress(static_cast<float>(report.lines.size()) / static_cast<float>(wanted.size()));
    }
    Line line = VerifyLine(*op, variant, kernels);
    digest.Add(line.digest);
    report.ok &= line.beyond == 0;
    for (const TargetResult& target : line.targets) report.ok &= target.different == 0;
    report.lines.push_back(std::move(line));
  }
  report.digest = digest.Finish();
  return report;
}

}  // namespace hob::verify
