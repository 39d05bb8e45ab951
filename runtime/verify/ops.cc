#include "runtime/verify/ops.h"

#include <cmath>

namespace hob::verify {

Kernels KernelsOf(Target target) {
  return {TargetName(target), RowsFor(target), AttentionFor(target),
          [target](const Format& format) { return format.kernels(target); }};
}

bool Checked::Right() const {
  if (bound == HUGE_VAL) return true;
  if (std::isnan(want)) return std::isnan(got);
  if (std::isinf(want)) return got == want;
  return std::fabs(got - want) <= bound;
}

std::span<const Op> Ops() {
  static const std::vector<Op> ops = [] {
    std::vector<Op> all = WeightOps();
    for (const std::vector<Op>& family : {RowOps(), AttentionOps()}) {
      all.insert(all.end(), family.begin(), family.end());
    }
    return all;
  }();
  return ops;
}

const Op* FindOp(std::string_view name) {
  for (const Op& op : Ops()) {
    if (op.name == name) return &op;
  }
  return nullptr;
}

}  // namespace hob::verify
