// Loops that do nothing but arithmetic, or nothing but loads, compiled for every target.

#include "bench/ceilings.h"

#include <benchmark/benchmark.h>
#include <time.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <map>
#include <memory>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "bench/ceilings.cc"
#include <hwy/foreach_target.h>
// After foreach_target.h, which sets the target:
#include "kernels/isa-inl.h"

#ifndef HOB_BENCH_CEILINGS_ONCE
#define HOB_BENCH_CEILINGS_ONCE
namespace hob::bench {

// A format as far as the int8 dot asks: codes that no target has to move.
struct SmallCodes {
  static constexpr int kZero = 0, kMaxLevel = 15;
};

// One target's loops.
struct PeakKernels {
  // `turns` turns of 12 independent accumulators; they return the operations that were done.
  double (*int8_dot)(size_t turns);
  double (*bf16_dot)(size_t turns);
  double (*f32_fma)(size_t turns);
  // Reads all bytes (a multiple of 1024) and returns something made of them.
  uint32_t (*read)(const uint32_t* data, size_t bytes);
};

}  // namespace hob::bench
#endif  // HOB_BENCH_CEILINGS_ONCE

HWY_BEFORE_NAMESPACE();
namespace hob::bench {
namespace HWY_NAMESPACE {
namespace kernels = hob::HWY_NAMESPACE;
namespace hn = hwy::HWY_NAMESPACE;
using kernels::DF32;
using kernels::DI32;
using kernels::DI8;
using kernels::DU32;
using kernels::DU8;

// The compiler must take `v` as changed: nothing made of it can be left out or moved ahead.
template <class V>
HWY_INLINE void Opaque(V& v) {
#if HWY_ARCH_X86
  __asm__("" : "+v"(v.raw));
#elif HWY_TARGET_IS_SVE
  __asm__("" : "+w"(v));
#else
  __asm__("" : "+w"(v.raw));
#endif
}

// Keeps a loop's result, so that the loop stays.
template <class D, class V>
HWY_INLINE void Keep(D d, V v) {
  benchmark::DoNotOptimize(hn::ReduceSum(d, v));
}

// 12 chains hide the latency of any unit (4 to 5 cycles, 2 units), and leave registers for the
// operands even where there are 16. Every accumulator has a name: compilers keep arrays of vectors
// in memory.
#define HOB_BENCH_CHAINS(STEP) \
  STEP(0) STEP(1) STEP(2) STEP(3) STEP(4) STEP(5) STEP(6) STEP(7) STEP(8) STEP(9) STEP(10) STEP(11)
constexpr double kChains = 12;

#define HOB_BENCH_DECLARE(i) auto a##i = start;
#define HOB_BENCH_ADD(i) start = hn::Add(start, a##i);

HWY_NOINLINE double Int8Dot(size_t turns) {
  const DI32 di;
  auto start = hn::Zero(di);
  auto codes = kernels::ToCodes<SmallCodes>(hn::Set(DU8(), uint8_t{3}));
  auto acts = hn::Set(DI8(), int8_t{5});
  HOB_BENCH_CHAINS(HOB_BENCH_DECLARE)
  for (size_t i = 0; i < turns; ++i) {
#define HOB_BENCH_STEP(j) \
  Opaque(acts);           \
  a##j = kernels::Dot4(a##j, codes, acts);
    HOB_BENCH_CHAINS(HOB_BENCH_STEP)
#undef HOB_BENCH_STEP
  }
  HOB_BENCH_CHAINS(HOB_BENCH_ADD)
  Keep(di, start);
  return kChains * 8 * static_cast<double>(hn::Lanes(di) * turns);
}

HWY_NOINLINE double BF16Dot(size_t turns) {
  const DF32 df;
  [[maybe_unused]] const kernels::BF16Scope scope;
  auto start = hn::Zero(df);
  auto w = hn::Set(DU32(), 0x3F803F80u), x = hn::Set(DU32(), 0x3F003F00u);
  HOB_BENCH_CHAINS(HOB_BENCH_DECLARE)
  for (size_t i = 0; i < turns; ++i) {
#define HOB_BENCH_STEP(j) \
  Opaque(a##j);           \
  a##j = kernels::BF16Dot(a##j, w, x);
    HOB_BENCH_CHAINS(HOB_BENCH_STEP)
#undef HOB_BENCH_STEP
  }
  HOB_BENCH_CHAINS(HOB_BENCH_ADD)
  Keep(df, start);
  return kChains * 4 * static_cast<double>(hn::Lanes(df) * turns);
}

HWY_NOINLINE double F32Fma(size_t turns) {
  const DF32 df;
  auto start = hn::Zero(df);
  const auto w = hn::Set(df, 1.0f), x = hn::Set(df, 0.5f);
  HOB_BENCH_CHAINS(HOB_BENCH_DECLARE)
  for (size_t i = 0; i < turns; ++i) {
#define HOB_BENCH_STEP(j) \
  Opaque(a##j);           \
  a##j = hn::MulAdd(w, x, a##j);
    HOB_BENCH_CHAINS(HOB_BENCH_STEP)
#undef HOB_BENCH_STEP
  }
  HOB_BENCH_CHAINS(HOB_BENCH_ADD)
  Keep(df, start);
  return kChains * 2 * static_cast<double>(hn::Lanes(df) * turns);
}

HWY_NOINLINE uint32_t Read(const uint32_t* data, size_t bytes) {
  const DU32 du;
  const size_t lanes = hn::Lanes(du), end = bytes / sizeof(uint32_t);
  auto s0 = hn::Zero(du), s1 = s0, s2 = s0, s3 = s0;
  for (size_t i = 0; i < end; i += 4 * lanes) {
    s0 = hn::Xor(s0, hn::LoadU(du, data + i));
    s1 = hn::Xor(s1, hn::LoadU(du, data + i + lanes));
    s2 = hn::Xor(s2, hn::LoadU(du, data + i + 2 * lanes));
    s3 = hn::Xor(s3, hn::LoadU(du, data + i + 3 * lanes));
  }
  return hn::GetLane(hn::Xor(hn::Xor(s0, s1), hn::Xor(s2, s3)));
}

#undef HOB_BENCH_CHAINS
#undef HOB_BENCH_DECLARE
#undef HOB_BENCH_ADD

}  // namespace HWY_NAMESPACE
}  // namespace hob::bench
HWY_AFTER_NAMESPACE();

namespace hob {

template <>
const bench::PeakKernels& KernelsOn<bench::PeakKernels, HWY_TARGET>() {
  namespace t = bench::HWY_NAMESPACE;
  static constexpr bench::PeakKernels kKernels = {t::Int8Dot, t::BF16Dot, t::F32Fma, t::Read};
  return kKernels;
}

}  // namespace hob

#if HWY_ONCE
namespace hob::bench {
namespace {

uint32_t ScalarRead(const uint32_t* data, size_t bytes) {
  uint32_t sum = 0;
  for (size_t i = 0; i < bytes / sizeof *data; ++i) sum ^= data[i];
  return sum;
}

const PeakKernels& Peaks(Target target) {
  static constexpr PeakKernels kScalarKernels = {nullptr, nullptr, nullptr, ScalarRead};
  return FindKernels<PeakKernels, HWY_TARGETS>(target, kScalarKernels);
}

template <class F>
double Seconds(F run) {
  const double start = ThreadSeconds();
  run();
  return ThreadSeconds() - start;
}

// The least time of 9 runs, which are of 10 ms or more: a ceiling is what is reached at best.
template <class F>
double LeastSeconds(F run) {
  double least = Seconds(run);
  for (int i = 0; i < 8; ++i) least = std::min(least, Seconds(run));
  return least;
}

double OpsPerSecond(double (*loop)(size_t turns)) {
  if (loop == nullptr) return 0;
  size_t turns = 1000;
  double ops = 0;
  while (Seconds([&] { ops = loop(turns); }) < 0.01) turns *= 2;
  return ops / LeastSeconds([&] { loop(turns); });
}

size_t CacheBytes(int level, size_t otherwise) {
  for (const auto& cache : benchmark::CPUInfo::Get().caches) {
    if (cache.level == level && cache.type != "Instruction") return static_cast<size_t>(cache.size);
  }
  return otherwise;
}

// The best rate of reading `bytes` again and again.
double ReadRate(size_t bytes) {
  bytes = bytes / 1024 * 1024;
  const auto free_it = [](uint32_t* p) { std::free(p); };
  const std::unique_ptr<uint32_t, decltype(free_it)> data(
      static_cast<uint32_t*>(std::aligned_alloc(1024, bytes)), free_it);
  std::fill_n(data.get(), bytes / sizeof(uint32_t), 0x01020304u);
  const auto read = Peaks(SupportedTargets().front()).read;
  size_t turns = 1;
  const auto run = [&] {
    for (size_t i = 0; i < turns; ++i) {
      const uint32_t* from = data.get();
      benchmark::DoNotOptimize(from);
      benchmark::DoNotOptimize(read(from, bytes));
    }
  };
  while (Seconds(run) < 0.01) turns *= 2;
  return static_cast<double>(bytes) * static_cast<double>(turns) / LeastSeconds(run);
}

}  // namespace

double ThreadSeconds() {
#if defined(CLOCK_THREAD_CPUTIME_ID)
  timespec now;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
#else
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
#endif
}

const Arithmetic& ArithmeticOn(Target target) {
  static std::map<Target, Arithmetic> measured;
  const auto [found, is_new] = measured.try_emplace(target);
  if (is_new) {
    const PeakKernels& peaks = Peaks(target);
    found->second = {OpsPerSecond(peaks.int8_dot), OpsPerSecond(peaks.bf16_dot),
                     OpsPerSecond(peaks.f32_fma)};
  }
  return found->second;
}

size_t BeyondCaches() {
  constexpr size_t kLeast = size_t{256} << 20, kMost = size_t{1} << 30;
  return std::clamp(2 * CacheBytes(3, 0), kLeast, kMost);
}

const Level& LevelAt(size_t index) {
  static const auto levels = [] {
    const size_t l1 = CacheBytes(1, 32 << 10), l2 = CacheBytes(2, 512 << 10);
    // Of an L3 cache others use a part; a core alone never sees more than a share of a large one.
    const size_t l3 = std::clamp(CacheBytes(3, 0), 2 * l2, size_t{32} << 20);
    // Each is measured with a working set that surely is there and not in the level before.
    return std::array<Level, kLevels>{{{"l1", l1, ReadRate(l1 / 2)},
                                       {"l2", l2, ReadRate(std::max(l2 / 2, 2 * l1))},
                                       {"l3", l3, ReadRate(std::max(l3 / 2, 2 * l2))},
                                       {"memory", SIZE_MAX, ReadRate(BeyondCaches())}}};
  }();
  return levels[index];
}

const Level& LevelOf(size_t bytes) {
  size_t index = 0;
  while (bytes > LevelAt(index).bytes) ++index;
  return LevelAt(index);
}

double FloorSeconds(double ops, double ops_per_second, double bytes, const Level& level) {
  const double compute = ops_per_second > 0 ? ops / ops_per_second : 0;
  return std::max(compute, bytes / level.read_rate);
}

}  // namespace hob::bench
#endif  // HWY_ONCE
