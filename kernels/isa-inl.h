// What depends on the instruction set, and the only file that names one: the vector types (16
// outputs are one AVX-512 register, two of AVX2, four of NEON, as many as SVE has), the int8 dot
// and the bf16 step. Everything above is written once in terms of these.
//
// An instruction set is added here: its dot, its bf16 step, and its row in targets.cc.

#include <cstddef>
#include <cstdint>

#include "kernels/exp_constants.h"
#include "kernels/formats.h"  // kPanel

#if defined(HOB_KERNELS_ISA_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef HOB_KERNELS_ISA_INL_H_
#undef HOB_KERNELS_ISA_INL_H_
#else
#define HOB_KERNELS_ISA_INL_H_
#endif

#include <hwy/highway.h>

#if HWY_ARCH_X86
#include <xmmintrin.h>
#endif

HWY_BEFORE_NAMESPACE();
namespace hob {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// At most 16 lanes, so that a vector never spans more than a panel.
using DF32 = hn::CappedTag<float, kPanel>;
using DI32 = hn::RebindToSigned<DF32>;
using DU32 = hn::RebindToUnsigned<DF32>;
using DI8 = hn::Repartition<int8_t, DI32>;
using DU8 = hn::Repartition<uint8_t, DI32>;
using DI16 = hn::Repartition<int16_t, DI32>;
using VF32 = hn::Vec<DF32>;
using VI16 = hn::Vec<DI16>;
using VI32 = hn::Vec<DI32>;
using VU32 = hn::Vec<DU32>;
using VI8 = hn::Vec<DI8>;
using VU8 = hn::Vec<DU8>;

// Outputs in one vector: 4, 8 or 16.
HWY_INLINE size_t OutputsPerVector() { return hn::Lanes(DF32()); }

// x > max ? x : max, so that a NaN x is never taken; max is none.
#if HWY_ARCH_X86
// Exactly what x86's maximum does.
HWY_INLINE VF32 LargerNumber(VF32 x, VF32 max) { return hn::Max(x, max); }
#else
HWY_INLINE VF32 LargerNumber(VF32 x, VF32 max) { return hn::IfThenElse(hn::Gt(x, max), x, max); }
#endif

// In each 128 bits the largest element of m0's, of m1's, of m2's and of m3's; none is a NaN. d: of
// 32-bit lanes.
template <class D, class V>
HWY_INLINE V MaximaOf4(D d, V m0, V m1, V m2, V m3) {
  const hn::Repartition<uint64_t, D> du64;
  // 0 1 0 1 and 2 3 2 3, then 0 1 2 3.
  const V m01 = hn::Max(hn::InterleaveLower(d, m0, m1), hn::InterleaveUpper(d, m0, m1));
  const V m23 = hn::Max(hn::InterleaveLower(d, m2, m3), hn::InterleaveUpper(d, m2, m3));
  const auto w01 = hn::BitCast(du64, m01), w23 = hn::BitCast(du64, m23);
  return hn::Max(hn::BitCast(d, hn::InterleaveLower(du64, w01, w23)),
                 hn::BitCast(d, hn::InterleaveUpper(du64, w01, w23)));
}

// Of vectors of 512 bits: part i, of 128 bits, has the largest of m<i>'s four parts, lane by lane.
template <class D, class V>
HWY_INLINE V MaximaOfParts(D d, V m0, V m1, V m2, V m3) {
  // 0 0 2 2 and 1 1 3 3, then 0 1 2 3.
  const V even = hn::Max(hn::ConcatLowerLower(d, m2, m0), hn::ConcatUpperUpper(d, m2, m0));
  const V odd = hn::Max(hn::ConcatLowerLower(d, m3, m1), hn::ConcatUpperUpper(d, m3, m1));
  return hn::Max(hn::OddEvenBlocks(odd, even),
                 hn::SwapAdjacentBlocks(hn::OddEvenBlocks(even, odd)));
}

// p * 2^n for whole n in -150 .. 150, rounded once. `shifted` is n + kExpRound.
#if HWY_ARCH_X86 && HWY_TARGET <= HWY_AVX3
inline constexpr float kExpRound = kRound;
// Masked, since GCC 12 warns of the plain intrinsic's undefined source.
HWY_INLINE VF32 TimesPow2(VF32 p, VF32 n, VF32) {
  return VF32{_mm512_maskz_scalef_ps(__mmask16{0xFFFF}, p.raw, n.raw)};
}
#else
// n is beyond one normal power, so 2^n is two factors: half of n, rounded down, and the rest. Their
// biased exponents sum to n + 254, which the low bits of `shifted` are; 254 is even, so ties round
// as they do without it.
inline constexpr float kExpRound = kRound + 254.0f;
HWY_INLINE VF32 TimesPow2(VF32 p, VF32, VF32 shifted) {
  const DF32 df;
  const DU32 du;
  // Nothing of kRoundBits is left after these shifts.
  const VU32 bits = hn::BitCast(du, shifted);
  const VU32 half = hn::And(hn::ShiftLeft<22>(bits), hn::Set(du, 0x7F800000u));
  const VU32 rest = hn::Sub(hn::ShiftLeft<23>(bits), half);
  return hn::Mul(hn::Mul(p, hn::BitCast(df, half)), hn::BitCast(df, rest));
}
#endif

// ---------------------------------------------------------------- int8 dot
//
// Dot4: acc[lane] += sum of 4 products of levels (0 .. kMaxLevel) and activations (-127 .. 127),
// exact. x86 multiplies unsigned by signed bytes, so levels stay as they are. Arm (SDOT, svdot)
// multiplies signed bytes, so levels above 127 are moved down by 128; the zero point moves along.

#if HWY_ARCH_X86
using VCode = VU8;
inline constexpr bool kUnsignedDot = true;

template <class F>
inline constexpr int kZeroPoint = F::kZero;

template <class F>
HWY_INLINE VCode ToCodes(VU8 levels) {
  return levels;
}
#else
using VCode = VI8;
inline constexpr bool kUnsignedDot = false;

template <class F>
inline constexpr int kZeroPoint = F::kMaxLevel > 127 ? F::kZero - 128 : F::kZero;

template <class F>
HWY_INLINE VCode ToCodes(VU8 levels) {
  if constexpr (F::kMaxLevel > 127) levels = hn::Xor(levels, hn::Set(DU8(), uint8_t{128}));
  return hn::BitCast(DI8(), levels);
}
#endif

// AVX2, and AVX-512 without VNNI, have no such instruction but two halves of one. Products of bytes
// are added in pairs to 16 bits, saturating (vpmaddubsw); pairs of 16 bits are multiplied and added
// to 32 (vpmaddwd). The second costs as much as the first, so as many 16-bit sums as surely fit are
// added up before it. A sum of one quad is at most 2 * kMaxLevel * 127 in magnitude, so
//   kMaxLevel  15: 8 * 3810 = 30480    31: 4 * 7874 = 31496    63: 2 * 16002 = 32004
//             127: 1 * 32258
// are all below 32767, and no step saturates. Larger levels are widened to 16 bits first.
#if HWY_ARCH_X86 && HWY_TARGET > HWY_AVX3_DL
inline constexpr bool kHasDot = false;
#else
inline constexpr bool kHasDot = true;
#endif

// Whether levels of 32 k and two slices, 16 vectors, fit the registers besides what uses them.
inline constexpr bool kManyRegisters = HWY_TARGET != HWY_AVX2;

// Whether a tile converts f16 as it goes: two conversions beside 16 multiplications take 1 cycle of
// 17 there, elsewhere they share the units of multiplications.
inline constexpr bool kF16InTile = HWY_TARGET == HWY_AVX3_ZEN4;

// Whether Intel's CPUs run this target, which want to be asked for what is read soon (OnIntel in
// targets.h).
inline constexpr bool kMayAskAhead = HWY_ARCH_X86 && HWY_TARGET != HWY_AVX3_ZEN4;

// Whether weights for a tile of 8 rows may come from L2, and from L3 where k is long: 512 rows of
// f32 against 8192 x 2048 are as fast there as any others, where on an Intel Xeon (Sapphire Rapids,
// 28 GB/s from L3) they take 1.2 times as long (docs/design.md).
inline constexpr bool kFastOuterCaches = HWY_TARGET == HWY_AVX3_ZEN4;

// Some CPUs of a target have a dot that the target does not speak of: AVX-VNNI without AVX-512
// (Intel Alder Lake and later), SDOT without bf16 (Arm Cortex-A76, Apple M1). Formats are compiled
// for them a second time, as WithExtraDot<F>; targets.cc asks the CPU. The instruction is written
// as assembly since the compiler's intrinsics would want all of the code around it compiled for
// such a CPU.
#if HWY_TARGET == HWY_AVX2 && defined(__GNUC__)
inline constexpr bool kHasExtraDot = true;

HWY_INLINE VI32 ExtraDot(VI32 acc, VCode levels, VI8 acts) {
  __asm__("%{vex%} vpdpbusd %2, %1, %0" : "+x"(acc.raw) : "x"(levels.raw), "x"(acts.raw));
  return acc;
}
#elif HWY_TARGET == HWY_NEON_WITHOUT_AES && defined(__GNUC__)
inline constexpr bool kHasExtraDot = true;

HWY_INLINE VI32 ExtraDot(VI32 acc, VCode levels, VI8 acts) {
  __asm__(".arch armv8.2-a+dotprod\n\tsdot %0.4s, %1.16b, %2.16b"
          : "+w"(acc.raw)
          : "w"(levels.raw), "w"(acts.raw));
  return acc;
}
#else
inline constexpr bool kHasExtraDot = false;

HWY_INLINE VI32 ExtraDot(VI32 acc, VCode, VI8) { return acc; }  // never called
#endif

template <class F>
struct WithExtraDot : F {
  static constexpr bool kExtraDot = true;
};

template <class F>
inline constexpr bool kUsesExtraDot = requires {
  F::kExtraDot;
};

// The other way to take activations: a dot that reads them from memory itself, where else dots of
// two slices share a broadcast. A row of a tile is then 29 instructions instead of 37, and needs
// fewer registers. Intel's cores issue six a cycle, and a row's arithmetic takes them 11 cycles,
// which leaves enough on paper only: 1.02 to 1.1 times as fast (docs/design.md). It is 21 loads
// instead of 13, two a cycle, which is more than Zen 5's 10 cycles of arithmetic have room for.
// Formats are compiled for both, BlockMatmul chooses (OnIntel).
#if HWY_TARGET == HWY_AVX3_DL && defined(__GNUC__)
inline constexpr bool kHasLoadingDot = true;

HWY_INLINE VI32 LoadingDot(VI32 acc, VCode levels, const int8_t* q) {
  const auto* quad = reinterpret_cast<const int8_t(*)[4]>(q);
  __asm__("vpdpbusd %2%{1to16%}, %1, %0" : "+v"(acc.raw) : "v"(levels.raw), "m"(*quad));
  return acc;
}
#else
inline constexpr bool kHasLoadingDot = false;

HWY_INLINE VI32 LoadingDot(VI32 acc, VCode, const int8_t*) { return acc; }  // never called
#endif

template <class F>
struct WithLoadingDot : F {
  static constexpr bool kLoadingDot = true;
};

template <class F>
inline constexpr bool kDotLoads = requires {
  F::kLoadingDot;
};

template <class F>
inline constexpr bool kDots = kHasDot || kUsesExtraDot<F>;

// Without a dot: how many quads may be added in 16 bits. 0: none, the levels must be widened.
template <class F>
inline constexpr size_t kQuadsIn16Bits = F::kMaxLevel <= 15    ? 8
                                         : F::kMaxLevel <= 31  ? 4
                                         : F::kMaxLevel <= 63  ? 2
                                         : F::kMaxLevel <= 127 ? 1
                                                               : 0;

// Sums of the two products in each half of a quad, in 16 bits.
HWY_INLINE VI16 Products(VU8 levels, VI8 acts) {
  return hn::SatWidenMulPairwiseAdd(DI16(), levels, acts);
}

// acc + the sum of each pair of 16 bits.
HWY_INLINE VI32 AddPairs(VI32 acc, VI16 sums) {
  return hn::Add(acc, hn::WidenMulPairwiseAdd(DI32(), sums, hn::Set(DI16(), int16_t{1})));
}

// acc + the products of pairs of 16 bits.
HWY_INLINE VI32 AddProducts(VI32 acc, VI16 levels, VI16 acts) {
  return hn::Add(acc, hn::WidenMulPairwiseAdd(DI32(), levels, acts));
}

// A quad widened: k = 0 and 2 of each, then k = 1 and 3.
HWY_INLINE VI16 EvenLevels(VU8 v) {
  return hn::And(hn::BitCast(DI16(), v), hn::Set(DI16(), int16_t{255}));
}
HWY_INLINE VI16 OddLevels(VU8 v) {
  const hn::RebindToUnsigned<DI16> du16;
  return hn::BitCast(DI16(), hn::ShiftRight<8>(hn::BitCast(du16, v)));
}
HWY_INLINE VI16 EvenActs(VI8 v) {
  return hn::ShiftRight<8>(hn::ShiftLeft<8>(hn::BitCast(DI16(), v)));
}
HWY_INLINE VI16 OddActs(VI8 v) { return hn::ShiftRight<8>(hn::BitCast(DI16(), v)); }

// Emits nothing, but the vectors are in registers here: with 16 of them GCC would otherwise compute
// all products first, and spill them (1.5 to 1.9 times slower), or load levels for every use.
template <class... V>
HWY_INLINE void Pin([[maybe_unused]] V&... v) {
#if HWY_ARCH_X86 && defined(__GNUC__)
  (..., [](V& one) HWY_ATTR { __asm__("" : "+v"(one.raw)); }(v));
#endif
}

// Emits nothing, but what is in `t` must be loaded again: GCC would otherwise load it before the
// loop, into registers that it has not got.
template <class T>
HWY_INLINE void KeepInMemory(T& t) {
#if defined(__GNUC__)
  __asm__("" : "+m"(t));
#endif
}

// The same number in every lane. As bits: Zen 4 has a load that spreads an integer over 512 bits,
// where that of a float takes a shuffle's place as well.
HWY_INLINE VF32 SpreadFloat(float x) {
  return hn::BitCast(DF32(), hn::Set(DU32(), hwy::BitCastScalar<uint32_t>(x)));
}

// The same 4 activations in every lane: one load, no shuffle.
HWY_INLINE VI8 SpreadQuad(const int8_t* q) {
  int32_t quad;
  hwy::CopyBytes<4>(q, &quad);
  return hn::BitCast(DI8(), hn::Set(DI32(), quad));
}

#if HWY_TARGET == HWY_NEON_WITHOUT_AES
// Products in 16 bits, which then are added in pairs to 32: fewer steps than Highway's.
HWY_INLINE VI32 PlainDot(VI32 acc, VI8 levels, VI8 acts) {
  const int16x8_t low = vmull_s8(vget_low_s8(levels.raw), vget_low_s8(acts.raw));
  const int16x8_t high = vmull_high_s8(levels.raw, acts.raw);
  return VI32(vaddq_s32(acc.raw, vpaddq_s32(vpaddlq_s16(low), vpaddlq_s16(high))));
}
#else
HWY_INLINE VI32 PlainDot(VI32 acc, VCode levels, VI8 acts) {
  return hn::SumOfMulQuadAccumulate(DI32(), levels, acts, acc);
}
#endif

template <class F>
HWY_INLINE VI32 Dot4(VI32 acc, VCode levels, VI8 acts) {
  if constexpr (kUsesExtraDot<F>) {
    return ExtraDot(acc, levels, acts);
  } else if constexpr (kHasDot) {
    return PlainDot(acc, levels, acts);
  } else {
    const VU8 bytes = hn::BitCast(DU8(), levels);
    acc = AddProducts(acc, EvenLevels(bytes), EvenActs(acts));
    return AddProducts(acc, OddLevels(bytes), OddActs(acts));
  }
}

// DotLane: acc + the products of quad kQuad of four; q: their 16 activations.
#if HWY_TARGET == HWY_NEON_WITHOUT_AES || HWY_TARGET == HWY_NEON_BF16
// NEON's dot takes one quad of a register for all lanes: one load of 16 activations serves four.
template <class F, int kQuad>
HWY_INLINE VI32 DotLane(VI32 acc, VI8 levels, const int8_t* q) {
#if HWY_TARGET == HWY_NEON_BF16
  return VI32(vdotq_laneq_s32(acc.raw, levels.raw, vld1q_s8(q), kQuad));
#else
  __asm__(".arch armv8.2-a+dotprod\n\tsdot %0.4s, %1.16b, %2.4b[%3]"
          : "+w"(acc.raw)
          : "w"(levels.raw), "w"(vld1q_s8(q)), "i"(kQuad));
  return acc;
#endif
}

// Without a dot, products are added in 16 bits as long as they surely fit, at most
// kMaxLevel * 127 each: 4 of up to 63 * 127 = 8001, or 2 of up to 128 * 127 = 16256.
template <class F>
HWY_INLINE VI32 MulFour(VI32 acc, VI8 w0, VI8 w1, VI8 w2, VI8 w3, const int8_t* q) {
  const VI8 x0 = SpreadQuad(q), x1 = SpreadQuad(q + 4), x2 = SpreadQuad(q + 8);
  const VI8 x3 = SpreadQuad(q + 12);
  const auto first = [](VI8 w, VI8 x)
                         HWY_ATTR { return vmull_s8(vget_low_s8(w.raw), vget_low_s8(x.raw)); };
  const auto low = [](int16x8_t sum, VI8 w, VI8 x)
                       HWY_ATTR { return vmlal_s8(sum, vget_low_s8(w.raw), vget_low_s8(x.raw)); };
  const auto add = [](int32x4_t sum, int16x8_t l, int16x8_t h) HWY_ATTR {
    return vaddq_s32(sum, vpaddq_s32(vpaddlq_s16(l), vpaddlq_s16(h)));
  };
  int16x8_t l = low(first(w0, x0), w1, x1);
  int16x8_t h = vmlal_high_s8(vmull_high_s8(w0.raw, x0.raw), w1.raw, x1.raw);
  if constexpr (F::kMaxLevel <= 63) {
    l = low(low(l, w2, x2), w3, x3);
    h = vmlal_high_s8(vmlal_high_s8(h, w2.raw, x2.raw), w3.raw, x3.raw);
    return VI32(add(acc.raw, l, h));
  } else {
    const int32x4_t sum = add(acc.raw, l, h);
    l = low(first(w2, x2), w3, x3);
    h = vmlal_high_s8(vmull_high_s8(w2.raw, x2.raw), w3.raw, x3.raw);
    return VI32(add(sum, l, h));
  }
}

template <class F>
inline constexpr bool kHasDotLane = HWY_TARGET == HWY_NEON_BF16 || kUsesExtraDot<F>;
#else
template <class F, int kQuad>
HWY_INLINE VI32 DotLane(VI32 acc, VCode levels, const int8_t* q) {
  if constexpr (kDotLoads<F>) return LoadingDot(acc, levels, q + 4 * kQuad);
  return Dot4<F>(acc, levels, SpreadQuad(q + 4 * kQuad));
}

template <class F>
HWY_INLINE VI32 MulFour(VI32 acc, VCode, VCode, VCode, VCode, const int8_t*) {
  return acc;  // never called
}

template <class F>
inline constexpr bool kHasDotLane = true;
#endif

// acc + the products of four quads, half of a step.
template <class F>
HWY_INLINE VI32 DotHalf(VI32 acc, VCode w0, VCode w1, VCode w2, VCode w3, const int8_t* q) {
  if constexpr (kHasDotLane<F>) {
    acc = DotLane<F, 1>(DotLane<F, 0>(acc, w0, q), w1, q);
    return DotLane<F, 3>(DotLane<F, 2>(acc, w2, q), w3, q);
  } else {
    return MulFour<F>(acc, w0, w1, w2, w3, q);
  }
}

// ---------------------------------------------------------------- bf16 step
//
// BF16Dot: acc = fma(w.hi, x.hi, acc), then acc = fma(w.lo, x.lo, acc), for a pair of bf16 in each
// 32-bit lane, high half first; inputs subnormal = zero, results that are tiny after rounding
// flushed to zero, signs kept. This is what x86's vdpbf16ps does, measured: the product of the odd
// (high) elements is added first, each step is one fused multiply-add.
// BF16Scope must be alive around it, and only it: other code must not run in flush mode.

// BF16Step: one of the two, for a value in the high half of each lane whose low half is zero.

// The halves of a pair, as f32.
HWY_INLINE VF32 HighHalf(VU32 pair) {
  return hn::BitCast(DF32(), hn::And(pair, hn::Set(DU32(), 0xFFFF0000u)));
}
HWY_INLINE VF32 LowHalf(VU32 pair) { return hn::BitCast(DF32(), hn::ShiftLeft<16>(pair)); }

#if HWY_ARCH_X86 && HWY_TARGET <= HWY_AVX3_ZEN4
inline constexpr bool kHasBF16Dot = true;

struct BF16Scope {
  // The instruction ignores the floating-point mode: it always flushes.
  HWY_INLINE BF16Scope() {}
};

HWY_INLINE VF32 BF16Start(VF32 acc) { return acc; }

HWY_INLINE VF32 BF16Dot(VF32 acc, VU32 w, VU32 x) {
  const hn::Repartition<hwy::bfloat16_t, DF32> dbf16;
  VF32 unused = hn::Zero(DF32());
  return hn::ReorderWidenMulAccumulate(DF32(), hn::BitCast(dbf16, w), hn::BitCast(dbf16, x), acc,
                                       unused);
}

// The other half adds -0 * +0 = -0, which changes nothing, not even a zero.
HWY_INLINE VF32 BF16Step(VF32 acc, VF32 w, VF32 x) {
  const DU32 du;
  return BF16Dot(acc, hn::Or(hn::BitCast(du, w), hn::Set(du, 0x8000u)), hn::BitCast(du, x));
}
#else
inline constexpr bool kHasBF16Dot = false;

#if HWY_ARCH_X86
// The flush-to-zero and denormals-are-zero bits of MXCSR make a plain FMA do exactly that, at no
// cost: SSE detects tiny results after rounding.
class BF16Scope {
 public:
  HWY_INLINE BF16Scope() : saved_(_mm_getcsr()) { _mm_setcsr(saved_ | 0x8040); }
  HWY_INLINE ~BF16Scope() { _mm_setcsr(saved_); }
  BF16Scope(const BF16Scope&) = delete;
  BF16Scope& operator=(const BF16Scope&) = delete;

 private:
  unsigned saved_;
};

HWY_INLINE VF32 BF16Step(VF32 acc, VF32 w, VF32 x) { return hn::MulAdd(w, x, acc); }
HWY_INLINE VF32 BF16Start(VF32 acc) { return acc; }
#else
// Arm detects tiny results before rounding, which flushes some that x86 does not. So: compute the
// same sum times 2^32, where nothing is subnormal that matters, and see whether it is tiny. An
// overflow of the scaled terms is no harm: then the true sum is far from tiny, or exactly zero.
struct BF16Scope {
  HWY_INLINE BF16Scope() {}
};

HWY_INLINE VF32 BF16Step(VF32 acc, VF32 w, VF32 x) {
  const DF32 df;
  const VF32 up = hn::Set(df, 0x1p32f);
  const VF32 scaled = hn::MulAdd(hn::Mul(w, up), x, hn::Mul(acc, up));
  const auto tiny = hn::Lt(hn::Abs(scaled), hn::Set(df, 0x1p-94f));
  return hn::IfThenElse(tiny, hn::CopySign(hn::Zero(df), scaled), hn::MulAdd(w, x, acc));
}

// A chain that starts from a subnormal starts from zero.
HWY_INLINE VF32 BF16Start(VF32 acc) {
  const DF32 df;
  return hn::IfThenElse(hn::Lt(hn::Abs(acc), hn::Set(df, 0x1p-126f)),
                        hn::CopySign(hn::Zero(df), acc), acc);
}
#endif

HWY_INLINE VF32 BF16Dot(VF32 acc, VU32 w, VU32 x) {
  return BF16Step(BF16Step(acc, HighHalf(w), HighHalf(x)), LowHalf(w), LowHalf(x));
}
#endif

}  // namespace HWY_NAMESPACE
}  // namespace hob
HWY_AFTER_NAMESPACE();

#endif  // HOB_KERNELS_ISA_INL_H_
