// What this machine can do at most, measured in the process that measures kernels or models:
// arithmetic of each instruction set, and reads from each level of the memory hierarchy, for one
// thread or several at once. Everything is measured when it is first asked for. Start with
// ArithmeticNow and ReadRateNow. Not for several threads to call at once.
#ifndef HOB_MEASURE_CEILINGS_H_
#define HOB_MEASURE_CEILINGS_H_

#include <cstddef>

#include "kernels/targets.h"

namespace hob::measure {

// Operations per second in registers, all threads together; a multiplication and an addition are
// two.
struct Arithmetic {
  double int8_dot;  // sums of 4 products of bytes, as the kernels do them on this target
  double bf16_dot;  // the bf16 step, likewise
  double f32_fma;
};

// The best of many runs. All zero for kScalar, which has no ceiling of its own.
const Arithmetic& ArithmeticOn(Target target, size_t threads);

// One of them at this moment, in a few milliseconds: clocks drift by more than kernels differ, so
// what is compared must have been measured side by side.
double ArithmeticNow(Target target, double Arithmetic::*kind, size_t threads);

// Levels of the memory hierarchy, by index: L1, L2, L3, memory.
inline constexpr size_t kLevels = 4;
const char* LevelName(size_t index);

// Bytes per second that the threads read together, with the best target's loads, in the fastest of
// several ways.
double ReadRateOf(size_t index, size_t threads);

// The same at this moment, in the way that was the fastest.
double ReadRateNow(size_t index, size_t threads);

// The level that a working set of `bytes`, shared out to the threads and used over and over, is
// read from.
size_t LevelOf(size_t bytes, size_t threads);

// Of a core's own caches.
size_t L1Bytes();
size_t L2Bytes();

// How much data to go through so that none of it is still in a cache at the next turn.
size_t BeyondCaches();

// The least time that so many operations on so many bytes can take.
double FloorSeconds(double ops, double ops_per_second, double bytes, double read_rate);

}  // namespace hob::measure

#endif  // HOB_MEASURE_CEILINGS_H_
