// Which instruction set runs: the list, the choice, and the tables that lead from one to the other.
//
// Every op family has a struct of function pointers (RowKernels, AttentionKernels, one for each
// weight format). Its .cc file is compiled once per SIMD target; each pass specializes
// KernelsOn<Family, HWY_TARGET>() with the table of that target, and FindKernels picks one at run
// time. The scalar reference fills the same struct and serves everywhere. This header knows no
// instruction set by name: targets.cc lists them.
#ifndef HOB_KERNELS_TARGETS_H_
#define HOB_KERNELS_TARGETS_H_

#include <cstddef>
#include <cstdint>
#include <vector>

namespace hob {

// One bit of Highway's HWY_TARGETS, or kScalar.
using Target = int64_t;
inline constexpr Target kScalar = 0;

// Set beside a bit of Highway's on CPUs that have, besides what that target says, an int8 dot
// instruction. Only the weight formats have code of their own for it.
inline constexpr Target kWithDot = Target{1} << 62;

// "avx3_dl", "sve_256", ..., "scalar".
const char* TargetName(Target target);

// What this build has and this CPU runs, best first; kScalar last.
const std::vector<Target>& SupportedTargets();

// The target in use; -1 if HOB_TARGET names none (then no kernel may run).
Target ActiveTarget();

// Whether kernels go the ways that suit Intel's cores, where these differ from AMD's
// (docs/design.md): weights of one row are asked for ahead of it, several streams side by side,
// which disturbs Zen 4's own looking ahead; and dots read activations from memory themselves
// (WithLoadingDot), which saves Intel instructions and costs AMD loads.
bool OnIntel();

// Has it one way or the other, whatever the CPU is; bits do not depend on it. For tests.
void SetOnIntel(bool on_intel);

// Caps the choice; an unknown name changes nothing and returns false. nullptr lifts the cap.
bool CapTarget(const char* name);

// The names that CapTarget knows in this build, for messages: "avx3_dl avx3 avx2 scalar".
const char* KnownTargetNames();

// What to say when ActiveTarget() is -1: HOB_TARGET's value and what it may be. Static storage.
const char* BadTargetMessage();

// Table of one family for one target. Specialized in each pass over the family's .cc file.
template <class Family, Target kTarget>
const Family& KernelsOn();

// The table for `target` out of the compiled ones (a constant bit set, HWY_TARGETS), by walking its
// bits, a better target's being lower: its own, or of a file that is not compiled for it the best
// that is (kernels/CMakeLists.txt); `scalar` if there is none, or asked for.
template <class Family, uint64_t kTargets>
const Family& FindKernels(Target target, const Family& scalar) {
  if constexpr (kTargets == 0) {
    return scalar;
  } else {
    constexpr uint64_t kLowest = kTargets & (~kTargets + 1);
    const Target wanted = target & ~kWithDot;
    if (wanted != kScalar && wanted <= static_cast<Target>(kLowest)) {
      return KernelsOn<Family, static_cast<Target>(kLowest)>();
    }
    return FindKernels<Family, (kTargets & (kTargets - 1))>(target, scalar);
  }
}

}  // namespace hob

#endif  // HOB_KERNELS_TARGETS_H_
