// What this machine can do at most, measured in the process that measures the kernels: arithmetic
// of each instruction set, and reads from each level of the memory hierarchy. One thread.
#ifndef HOB_BENCH_CEILINGS_H_
#define HOB_BENCH_CEILINGS_H_

#include <cstddef>

#include "kernels/targets.h"

namespace hob::bench {

// Operations per second in registers, a multiplication and an addition being two.
struct Arithmetic {
  double int8_dot;  // sums of 4 products of bytes, as the kernels do them on this target
  double bf16_dot;  // the bf16 step, likewise
  double f32_fma;
};

// Measured at the first call for each target. All zero for kScalar, which has no ceiling of its
// own.
const Arithmetic& ArithmeticOn(Target target);

// A level of the memory hierarchy; the last is the memory itself.
struct Level {
  const char* name;
  size_t bytes;      // up to how much data counts as being there
  double read_rate;  // bytes per second
};
inline constexpr size_t kLevels = 4;

// L1, L2, L3, memory; measured at the first call, with the best target's loads.
const Level& LevelAt(size_t index);

// The level that a working set of `bytes`, used over and over, is read from.
const Level& LevelOf(size_t bytes);

// How much data to go through so that none of it is still in a cache at the next turn.
size_t BeyondCaches();

// Processor time of the calling thread. The clock on the wall would count other programs, too.
double ThreadSeconds();

// The least time that so many operations on so many bytes from `level` can take.
double FloorSeconds(double ops, double ops_per_second, double bytes, const Level& level);

}  // namespace hob::bench

#endif  // HOB_BENCH_CEILINGS_H_
