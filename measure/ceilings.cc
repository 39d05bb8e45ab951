// Loops that do nothing but arithmetic, or nothing but loads, compiled for every target.

#include "measure/ceilings.h"

#include <hwy/cache_control.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <map>
#include <memory>
#include <numeric>
#include <tuple>
#include <utility>
#include <vector>

#include "measure/machine.h"
#include "measure/team.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "measure/ceilings.cc"
#include <hwy/foreach_target.h>
// After foreach_target.h, which sets the target:
#include "kernels/isa-inl.h"

#ifndef HOB_MEASURE_CEILINGS_ONCE
#define HOB_MEASURE_CEILINGS_ONCE
namespace hob::measure {

// The compiler must take `value` as used, and memory as changed.
template <class T>
inline void KeepValue(const T& value) {
  __asm__ volatile("" : : "r"(value) : "memory");
}

// A format as far as the int8 dot asks: codes that no target has to move.
struct SmallCodes {
  static constexpr int kZero = 0, kMaxLevel = 15;
};

// A way to read memory: so many streams side by side, each asking for what is `ahead` bytes further
// on (0: the processor guesses for itself).
struct ReadPattern {
  size_t streams, ahead;
};

// Numbers of streams that there is a loop for.
inline constexpr size_t kStreams[] = {1, 2, 3, 4, 6, 8};

// Bytes that a turn of such a loop takes from each stream.
inline constexpr size_t kReadStep = 256;

// One target's loops.
struct PeakKernels {
  // `turns` turns of 12 independent accumulators; they return the operations that were done.
  double (*int8_dot)(size_t turns);
  double (*int8_extra_dot)(size_t turns);  // on CPUs with kWithDot (kernels/targets.h)
  double (*bf16_dot)(size_t turns);
  double (*f32_fma)(size_t turns);
  // Reads all bytes (a multiple of streams * kReadStep) and returns something made of them.
  uint32_t (*read)(const uint8_t* data, size_t bytes, const ReadPattern& pattern);
};

}  // namespace hob::measure
#endif  // HOB_MEASURE_CEILINGS_ONCE

HWY_BEFORE_NAMESPACE();
namespace hob::measure {
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
  KeepValue(hn::ReduceSum(d, v));
}

// 12 chains hide the latency of any unit (4 to 5 cycles, 2 units), and leave registers for the
// operands even where there are 16. Every accumulator has a name: compilers keep arrays of vectors
// in memory.
#define HOB_MEASURE_CHAINS(STEP) \
  STEP(0) STEP(1) STEP(2) STEP(3) STEP(4) STEP(5) STEP(6) STEP(7) STEP(8) STEP(9) STEP(10) STEP(11)
constexpr double kChains = 12;

#define HOB_MEASURE_DECLARE(i) auto a##i = start;
#define HOB_MEASURE_ADD(i) start = hn::Add(start, a##i);

template <class Codes>
HWY_NOINLINE double Int8Dot(size_t turns) {
  const DI32 di;
  auto start = hn::Zero(di);
  auto codes = kernels::ToCodes<Codes>(hn::Set(DU8(), uint8_t{3}));
  auto acts = hn::Set(DI8(), int8_t{5});
  HOB_MEASURE_CHAINS(HOB_MEASURE_DECLARE)
  for (size_t i = 0; i < turns; ++i) {
#define HOB_MEASURE_STEP(j) \
  Opaque(acts);             \
  a##j = kernels::Dot4<Codes>(a##j, codes, acts);
    HOB_MEASURE_CHAINS(HOB_MEASURE_STEP)
#undef HOB_MEASURE_STEP
  }
  HOB_MEASURE_CHAINS(HOB_MEASURE_ADD)
  Keep(di, start);
  return kChains * 8 * static_cast<double>(hn::Lanes(di) * turns);
}

HWY_NOINLINE double BF16Dot(size_t turns) {
  const DF32 df;
  [[maybe_unused]] const kernels::BF16Scope scope;
  auto start = hn::Zero(df);
  auto w = hn::Set(DU32(), 0x3F803F80u), x = hn::Set(DU32(), 0x3F003F00u);
  HOB_MEASURE_CHAINS(HOB_MEASURE_DECLARE)
  for (size_t i = 0; i < turns; ++i) {
#define HOB_MEASURE_STEP(j) \
  Opaque(a##j);             \
  a##j = kernels::BF16Dot(a##j, w, x);
    HOB_MEASURE_CHAINS(HOB_MEASURE_STEP)
#undef HOB_MEASURE_STEP
  }
  HOB_MEASURE_CHAINS(HOB_MEASURE_ADD)
  Keep(df, start);
  return kChains * 4 * static_cast<double>(hn::Lanes(df) * turns);
}

HWY_NOINLINE double F32Fma(size_t turns) {
  const DF32 df;
  auto start = hn::Zero(df);
  const auto w = hn::Set(df, 1.0f), x = hn::Set(df, 0.5f);
  HOB_MEASURE_CHAINS(HOB_MEASURE_DECLARE)
  for (size_t i = 0; i < turns; ++i) {
#define HOB_MEASURE_STEP(j) \
  Opaque(a##j);             \
  a##j = hn::MulAdd(w, x, a##j);
    HOB_MEASURE_CHAINS(HOB_MEASURE_STEP)
#undef HOB_MEASURE_STEP
  }
  HOB_MEASURE_CHAINS(HOB_MEASURE_ADD)
  Keep(df, start);
  return kChains * 2 * static_cast<double>(hn::Lanes(df) * turns);
}

template <size_t kCount, bool kAhead>
HWY_NOINLINE uint32_t ReadStreams(const uint8_t* data, size_t bytes, size_t ahead) {
  const DU32 du;
  const size_t lanes = hn::Lanes(du), part = bytes / kCount;
  auto s0 = hn::Zero(du), s1 = s0, s2 = s0, s3 = s0;
  for (size_t at = 0; at < part; at += kReadStep) {
    // Unrolled, so that every address is one register and a constant.
    HWY_UNROLL(8)
    for (size_t stream = 0; stream < kCount; ++stream) {
      const uint8_t* from = data + stream * part + at;
      if constexpr (kAhead) {
        for (size_t line = 0; line < kReadStep; line += 64) hwy::Prefetch(from + ahead + line);
      }
      const auto* x = reinterpret_cast<const uint32_t*>(from);
      for (size_t i = 0; i < kReadStep / sizeof *x; i += 4 * lanes) {
        s0 = hn::Xor(s0, hn::Load(du, x + i));
        s1 = hn::Xor(s1, hn::Load(du, x + i + lanes));
        s2 = hn::Xor(s2, hn::Load(du, x + i + 2 * lanes));
        s3 = hn::Xor(s3, hn::Load(du, x + i + 3 * lanes));
      }
    }
  }
  return hn::GetLane(hn::Xor(hn::Xor(s0, s1), hn::Xor(s2, s3)));
}

template <size_t kCount>
uint32_t ReadStreams(const uint8_t* data, size_t bytes, size_t ahead) {
  return ahead == 0 ? ReadStreams<kCount, false>(data, bytes, 0)
                    : ReadStreams<kCount, true>(data, bytes, ahead);
}

uint32_t Read(const uint8_t* data, size_t bytes, const ReadPattern& pattern) {
  switch (pattern.streams) {
    case 2:
      return ReadStreams<2>(data, bytes, pattern.ahead);
    case 3:
      return ReadStreams<3>(data, bytes, pattern.ahead);
    case 4:
      return ReadStreams<4>(data, bytes, pattern.ahead);
    case 6:
      return ReadStreams<6>(data, bytes, pattern.ahead);
    case 8:
      return ReadStreams<8>(data, bytes, pattern.ahead);
    default:
      return ReadStreams<1>(data, bytes, pattern.ahead);
  }
}

#undef HOB_MEASURE_CHAINS
#undef HOB_MEASURE_DECLARE
#undef HOB_MEASURE_ADD

}  // namespace HWY_NAMESPACE
}  // namespace hob::measure
HWY_AFTER_NAMESPACE();

namespace hob {

template <>
const measure::PeakKernels& KernelsOn<measure::PeakKernels, HWY_TARGET>() {
  namespace t = measure::HWY_NAMESPACE;
  using Codes = measure::SmallCodes;
  static constexpr measure::PeakKernels kKernels = {t::Int8Dot<Codes>,
                                                    t::Int8Dot<t::kernels::WithExtraDot<Codes>>,
                                                    t::BF16Dot, t::F32Fma, t::Read};
  return kKernels;
}

}  // namespace hob

#if HWY_ONCE
namespace hob::measure {
namespace {

uint32_t ScalarRead(const uint8_t* data, size_t bytes, const ReadPattern&) {
  const auto* x = reinterpret_cast<const uint32_t*>(data);
  return std::accumulate(x, x + bytes / sizeof *x, uint32_t{0});
}

const PeakKernels& Peaks(Target target) {
  static constexpr PeakKernels kScalarKernels = {nullptr, nullptr, nullptr, nullptr, ScalarRead};
  return FindKernels<PeakKernels, HWY_TARGETS>(target, kScalarKernels);
}

// What a team needs for run(thread) on each of its threads.
template <class F>
double Seconds(Team& team, F run) {
  const double start = team.Now();
  team.Run(run);
  return team.Now() - start;
}

// The least time of so many runs: a ceiling is what is reached at best.
template <class F>
double LeastSeconds(Team& team, int runs, F run) {
  double least = Seconds(team, run);
  for (int i = 1; i < runs; ++i) least = std::min(least, Seconds(team, run));
  return least;
}

// Runs are of 10 ms or more, and so many that one of them finds the processor at its best.
constexpr double kRunSeconds = 0.01;
constexpr int kRuns = 30;

double OpsPerSecond(double (*loop)(size_t turns), Team& team, double run_seconds, int runs) {
  if (loop == nullptr) return 0;
  static std::map<std::tuple<double (*)(size_t), size_t, double>, size_t> known;
  const auto [found, is_new] = known.try_emplace({loop, team.threads(), run_seconds}, size_t{1000});
  size_t& turns = found->second;
  double ops = 0;
  const auto run = [&](size_t thread) {
    const double done = loop(turns);
    if (thread == 0) ops = done;
  };
  // The least of a few: one that was interrupted would end this too early, and for good.
  while (is_new && LeastSeconds(team, 3, run) < run_seconds) turns *= 2;
  const double seconds = LeastSeconds(team, runs, run);  // which sets ops
  return ops * static_cast<double>(team.threads()) / seconds;
}

// The loop that computes what `kind` is of, on a target.
double (*LoopOf(Target target, double Arithmetic::*kind))(size_t turns) {
  const PeakKernels& peaks = Peaks(target);
  if (kind == &Arithmetic::bf16_dot) return peaks.bf16_dot;
  if (kind == &Arithmetic::f32_fma) return peaks.f32_fma;
  return (target & kWithDot) != 0 ? peaks.int8_extra_dot : peaks.int8_dot;
}

// How a team reads fastest from one level: each thread `bytes` of its own, again and again.
class Reader {
 public:
  Reader(size_t bytes, Team& team) : team_(team), data_(team.threads()) {
    // By the thread that will read it, for the sake of machines where memory is near to some CPUs.
    team_.Run([&](size_t thread) {
      data_[thread] = std::make_unique<LargePages>(bytes);
      std::fill_n(data_[thread]->get(), bytes, uint8_t{1});
    });
    // A short look at each way; a longer one at the best when somebody asks for that.
    for (size_t streams : kStreams) {
      for (size_t ahead : {0, 512, 2048, 8192}) {
        const size_t step = streams * kReadStep;
        Way way = {{streams, ahead}, bytes / step * step, 1};
        while (Run(way) < kRunSeconds && Run(way) < kRunSeconds) way.turns *= 2;
        const double rate = Rate(way, 2);
        if (rate > best_rate_) best_rate_ = rate, best_ = way;
      }
    }
  }

  double BestRate() {
    if (!std::exchange(looked_long_, true)) best_rate_ = std::max(best_rate_, Rate(best_, kRuns));
    return best_rate_;
  }
  double RateNow() { return Rate(best_, 1); }

 private:
  struct Way {
    ReadPattern pattern;
    size_t bytes;  // of each thread's, what this number of streams divides
    size_t turns;
  };

  double Run(const Way& way) {
    return Seconds(team_, [&](size_t thread) {
      for (size_t i = 0; i < way.turns; ++i) {
        const uint8_t* from = data_[thread]->get();
        KeepValue(from);
        KeepValue(read_(from, way.bytes, way.pattern));
      }
    });
  }

  double Rate(const Way& way, int runs) {
    double least = Run(way);
    for (int i = 1; i < runs; ++i) least = std::min(least, Run(way));
    return static_cast<double>(way.bytes * way.turns * team_.threads()) / least;
  }

  Team& team_;
  std::vector<std::unique_ptr<LargePages>> data_;
  uint32_t (*read_)(const uint8_t*, size_t,
                    const ReadPattern&) = Peaks(SupportedTargets().front()).read;
  Way best_ = {};
  double best_rate_ = 0;
  bool looked_long_ = false;
};

}  // namespace

const Arithmetic& ArithmeticOn(Target target, size_t threads) {
  static std::map<std::pair<Target, size_t>, Arithmetic> measured;
  const auto [found, is_new] = measured.try_emplace({target, threads});
  if (is_new) {
    const auto best = [&](double Arithmetic::*kind) {
      return OpsPerSecond(LoopOf(target, kind), Team::Of(threads), kRunSeconds, kRuns);
    };
    found->second = {best(&Arithmetic::int8_dot), best(&Arithmetic::bf16_dot),
                     best(&Arithmetic::f32_fma)};
  }
  return found->second;
}

double ArithmeticNow(Target target, double Arithmetic::*kind, size_t threads) {
  constexpr double kShortRun = 0.002;
  return OpsPerSecond(LoopOf(target, kind), Team::Of(threads), kShortRun, 1);
}

size_t L1Bytes() { return CacheBytes(1) != 0 ? CacheBytes(1) : 32 << 10; }
size_t L2Bytes() { return CacheBytes(2) != 0 ? CacheBytes(2) : 512 << 10; }

size_t BeyondCaches() {
  constexpr size_t kLeast = size_t{256} << 20, kMost = size_t{1} << 30;
  return std::clamp(2 * CacheBytes(3), kLeast, kMost);
}

const char* LevelName(size_t index) {
  static constexpr const char* kNames[kLevels] = {"l1", "l2", "l3", "memory"};
  return kNames[index];
}

// Up to how much data of `threads` threads together counts as being in a level. L1 and L2 are each
// core's own, the rest is for all.
size_t LevelBytes(size_t index, size_t threads) {
  // Of an L3 cache others use a part; a core alone never sees more than a share of a large one.
  const size_t l2 = threads * L2Bytes();
  const size_t l3 = std::clamp(CacheBytes(3), 2 * l2, std::max(2 * l2, size_t{32} << 20));
  const std::array<size_t, kLevels> bytes = {threads * L1Bytes(), l2, l3, SIZE_MAX};
  return bytes[index];
}

Reader& ReaderOf(size_t index, size_t threads) {
  static std::map<std::pair<size_t, size_t>, std::unique_ptr<Reader>> readers;
  std::unique_ptr<Reader>& reader = readers[{index, threads}];
  if (reader == nullptr) {
    // Each with a working set that surely is there and not in the level before.
    const size_t l1 = L1Bytes(), l2 = L2Bytes(), l3 = LevelBytes(2, threads);
    const std::array<size_t, kLevels> per_thread = {l1 / 2, std::max(l2 / 2, 2 * l1),
                                                    std::max(l3 / 2 / threads, 2 * l2),
                                                    std::max(BeyondCaches() / threads, 4 * l2)};
    reader = std::make_unique<Reader>(per_thread[index], Team::Of(threads));
  }
  return *reader;
}

double ReadRateOf(size_t index, size_t threads) { return ReaderOf(index, threads).BestRate(); }
double ReadRateNow(size_t index, size_t threads) { return ReaderOf(index, threads).RateNow(); }

size_t LevelOf(size_t bytes, size_t threads) {
  size_t index = 0;
  while (bytes > LevelBytes(index, threads)) ++index;
  return index;
}

double FloorSeconds(double ops, double ops_per_second, double bytes, double read_rate) {
  const double compute = ops_per_second > 0 ? ops / ops_per_second : 0;
  return std::max(compute, bytes / read_rate);
}

}  // namespace hob::measure
#endif  // HWY_ONCE
