// exp and what is made of it, lane by lane the same operations as kernels/reference.cc.
// Tested by tests/math_test.cc and tests/rows_test.cc.

#include "kernels/exp_constants.h"

#if defined(HOB_KERNELS_MATH_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef HOB_KERNELS_MATH_INL_H_
#undef HOB_KERNELS_MATH_INL_H_
#else
#define HOB_KERNELS_MATH_INL_H_
#endif

#include "kernels/isa-inl.h"

HWY_BEFORE_NAMESPACE();
namespace hob {
namespace HWY_NAMESPACE {

// Each x = e^x, or e^-x, for |x| <= 104; NaN for NaN, and something for other x. Four at a time,
// step by step: each is a chain so long that CPUs do not look far enough past it to be busy. Where
// there are fewer, the same again: compilers see that it is, and compute it once.
template <bool kNegate>
HWY_INLINE void ExpInRange(VF32& x0, VF32& x1, VF32& x2, VF32& x3) {
  const DF32 df;
  const VF32 round = hn::Set(df, kExpRound);
  const VF32 log2e = hn::Set(df, kNegate ? -kLog2E : kLog2E);
  const VF32 shifted0 = hn::MulAdd(x0, log2e, round), shifted1 = hn::MulAdd(x1, log2e, round);
  const VF32 shifted2 = hn::MulAdd(x2, log2e, round), shifted3 = hn::MulAdd(x3, log2e, round);
  const VF32 n0 = hn::Sub(shifted0, round), n1 = hn::Sub(shifted1, round);
  const VF32 n2 = hn::Sub(shifted2, round), n3 = hn::Sub(shifted3, round);
  const auto reduce_by = [&](VF32 n, VF32 x) HWY_ATTR {
    const VF32 ln2_hi = hn::Set(df, kLn2Hi);
    return kNegate ? hn::NegMulSub(n, ln2_hi, x) : hn::NegMulAdd(n, ln2_hi, x);
  };
  VF32 r0 = reduce_by(n0, x0), r1 = reduce_by(n1, x1);
  VF32 r2 = reduce_by(n2, x2), r3 = reduce_by(n3, x3);
  const VF32 ln2_lo = hn::Set(df, kLn2Lo);
  r0 = hn::NegMulAdd(n0, ln2_lo, r0), r1 = hn::NegMulAdd(n1, ln2_lo, r1);
  r2 = hn::NegMulAdd(n2, ln2_lo, r2), r3 = hn::NegMulAdd(n3, ln2_lo, r3);
  VF32 p0 = hn::Set(df, kExpC6), p1 = p0, p2 = p0, p3 = p0;
  for (const float c : {kExpC5, kExpC4, kExpC3, kExpC2, 1.0f, 1.0f}) {
    const VF32 next = hn::Set(df, c);
    p0 = hn::MulAdd(p0, r0, next), p1 = hn::MulAdd(p1, r1, next);
    p2 = hn::MulAdd(p2, r2, next), p3 = hn::MulAdd(p3, r3, next);
  }
  x0 = TimesPow2(p0, n0, shifted0), x1 = TimesPow2(p1, n1, shifted1);
  x2 = TimesPow2(p2, n2, shifted2), x3 = TimesPow2(p3, n3, shifted3);
}

// Each x = e^x for x <= 0, NaN for NaN.
HWY_INLINE void ExpNonPositive(VF32& x0, VF32& x1, VF32& x2, VF32& x3) {
  // Here kExpMin is the one that may be a number too few: x may be NaN, and stays.
  const VF32 min = hn::Set(DF32(), kExpMin);
  x0 = LargerNumber(min, x0), x1 = LargerNumber(min, x1);
  x2 = LargerNumber(min, x2), x3 = LargerNumber(min, x3);
  ExpInRange<false>(x0, x1, x2, x3);
}

// Each x = n + f, n = round(max(x, kExp2Min)) and |f| <= 1/2, and power * kExp2Lift = 2^n, or 0 if
// n is kExp2Min. Of a NaN f is one.
HWY_INLINE void SplitExp2(VF32& x0, VF32& x1, VF32& x2, VF32& x3, VF32& power0, VF32& power1,
                          VF32& power2, VF32& power3) {
  const DF32 df;
  const DU32 du;
  // kExp2Min is the one that may be a number too few: x may be NaN, and stays.
  const VF32 min = hn::Set(df, kExp2Min);
  x0 = LargerNumber(min, x0), x1 = LargerNumber(min, x1);
  x2 = LargerNumber(min, x2), x3 = LargerNumber(min, x3);
  // The low bits of `shifted` are n + 64, the biased exponent of 2^(n - 63), where 0 is zero;
  // nothing of kRoundBits is left after the shift. 64 is even, so ties round as they do without it.
  const VF32 round = hn::Set(df, kRound - kExp2Min);
  const VF32 shifted0 = hn::Add(x0, round), shifted1 = hn::Add(x1, round);
  const VF32 shifted2 = hn::Add(x2, round), shifted3 = hn::Add(x3, round);
  const VF32 n0 = hn::Sub(shifted0, round), n1 = hn::Sub(shifted1, round);
  const VF32 n2 = hn::Sub(shifted2, round), n3 = hn::Sub(shifted3, round);
  x0 = hn::Sub(x0, n0), x1 = hn::Sub(x1, n1), x2 = hn::Sub(x2, n2), x3 = hn::Sub(x3, n3);
  power0 = hn::BitCast(df, hn::ShiftLeft<23>(hn::BitCast(du, shifted0)));
  power1 = hn::BitCast(df, hn::ShiftLeft<23>(hn::BitCast(du, shifted1)));
  power2 = hn::BitCast(df, hn::ShiftLeft<23>(hn::BitCast(du, shifted2)));
  power3 = hn::BitCast(df, hn::ShiftLeft<23>(hn::BitCast(du, shifted3)));
}

// Each x = 2^x for x <= 0; exactly 0 from -63.5 on down. kForBF16: as near as bf16 needs.
template <bool kForBF16>
HWY_INLINE void Exp2NonPositive(VF32& x0, VF32& x1, VF32& x2, VF32& x3) {
  const DF32 df;
  VF32 power0, power1, power2, power3;
  SplitExp2(x0, x1, x2, x3, power0, power1, power2, power3);
  // A power of two in all coefficients changes no rounding.
  VF32 p0 = hn::Set(df, kExp2Lift * (kForBF16 ? kExp2BF16C3 : kExp2C5)), p1 = p0, p2 = p0, p3 = p0;
  const auto step = [&](float c) HWY_ATTR {
    const VF32 next = hn::Set(df, kExp2Lift * c);
    p0 = hn::MulAdd(p0, x0, next), p1 = hn::MulAdd(p1, x1, next);
    p2 = hn::MulAdd(p2, x2, next), p3 = hn::MulAdd(p3, x3, next);
  };
  if constexpr (kForBF16) {
    step(kExp2BF16C2), step(kExp2BF16C1);
  } else {
    step(kExp2C4), step(kExp2C3), step(kExp2C2), step(kExp2C1);
  }
  step(1.0f);
  x0 = hn::Mul(p0, power0), x1 = hn::Mul(p1, power1);
  x2 = hn::Mul(p2, power2), x3 = hn::Mul(p3, power3);
}

// x0 = tanh x0. Likewise x1.
HWY_INLINE void Tanh(VF32& x0, VF32& x1) {
  const DF32 df;
  const VF32 one = hn::Set(df, 1.0f), two = hn::Set(df, 2.0f), max = hn::Set(df, kTanhMax);
  const VF32 a0 = hn::Abs(x0), a1 = hn::Abs(x1);
  // What becomes of a NaN here does not matter: it is not large.
  VF32 e0 = hn::Mul(two, hn::Min(a0, max)), e1 = hn::Mul(two, hn::Min(a1, max));
  VF32 same0 = e0, same1 = e1;
  ExpInRange<false>(e0, e1, same0, same1);
  const VF32 large0 = hn::Sub(one, hn::Div(two, hn::Add(one, e0)));
  const VF32 large1 = hn::Sub(one, hn::Div(two, hn::Add(one, e1)));
  const VF32 z0 = hn::Mul(x0, x0), z1 = hn::Mul(x1, x1);
  VF32 p0 = hn::Set(df, kTanhC4), p1 = p0;
  for (const float c : {kTanhC3, kTanhC2, kTanhC1, kTanhC0}) {
    p0 = hn::MulAdd(p0, z0, hn::Set(df, c));
    p1 = hn::MulAdd(p1, z1, hn::Set(df, c));
  }
  const VF32 small0 = hn::MulAdd(x0, hn::Mul(z0, p0), x0);
  const VF32 small1 = hn::MulAdd(x1, hn::Mul(z1, p1), x1);
  const VF32 border = hn::Set(df, kTanhSmall);
  x0 = hn::CopySign(hn::IfThenElse(hn::Ge(a0, border), large0, small0), x0);
  x1 = hn::CopySign(hn::IfThenElse(hn::Ge(a1, border), large1, small1), x1);
}

// Each x = x / (1 + e^z), or e^-z, z NaN only where x is: then the quotient is NaN, whatever the
// limits make of z.
template <bool kNegate>
HWY_INLINE void DivideBy1PlusExp(VF32 z0, VF32 z1, VF32 z2, VF32 z3, VF32& x0, VF32& x1, VF32& x2,
                                 VF32& x3) {
  const DF32 df;
  const VF32 low = hn::Set(df, kNegate ? -kExpMax : kExpMin);
  const VF32 high = hn::Set(df, kNegate ? -kExpMin : kExpMax);
  z0 = hn::Min(hn::Max(z0, low), high), z1 = hn::Min(hn::Max(z1, low), high);
  z2 = hn::Min(hn::Max(z2, low), high), z3 = hn::Min(hn::Max(z3, low), high);
  ExpInRange<kNegate>(z0, z1, z2, z3);
  const VF32 one = hn::Set(df, 1.0f);
  x0 = hn::Div(x0, hn::Add(one, z0)), x1 = hn::Div(x1, hn::Add(one, z1));
  x2 = hn::Div(x2, hn::Add(one, z2)), x3 = hn::Div(x3, hn::Add(one, z3));
}

// Each x = x / (1 + e^-x).
HWY_INLINE void Silu(VF32& x0, VF32& x1, VF32& x2, VF32& x3) {
  DivideBy1PlusExp<true>(x0, x1, x2, x3, x0, x1, x2, x3);
}

HWY_INLINE VF32 Silu(VF32 x) {
  VF32 same0 = x, same1 = x, same2 = x;
  Silu(x, same0, same1, same2);
  return x;
}

// Each x = x / (1 + e^(x (c1 + c3 x^2))).
HWY_INLINE void Gelu(VF32& x0, VF32& x1, VF32& x2, VF32& x3) {
  const DF32 df;
  const auto exponent = [&](VF32 x) HWY_ATTR {
    return hn::Mul(x, hn::MulAdd(hn::Set(df, kGeluC3), hn::Mul(x, x), hn::Set(df, kGeluC1)));
  };
  DivideBy1PlusExp<false>(exponent(x0), exponent(x1), exponent(x2), exponent(x3), x0, x1, x2, x3);
}

// Rounds to bf16, to nearest even, as f32; x is NaN, 0, or normal and below 2^111. The sum with
// 2^16 times x's power of two has no bits beyond those that bf16 keeps.
HWY_INLINE VF32 RoundWeightToBF16(VF32 x) {
  const DF32 df;
  const DU32 du;
  const VU32 exponent = hn::And(hn::BitCast(du, x), hn::Set(du, 0x7F800000u));
  const VF32 shift = hn::BitCast(df, hn::Add(exponent, hn::Set(du, 16u << 23)));
  return hn::Sub(hn::Add(x, shift), shift);
}

// Rounds to bf16 in the high half of each lane: to nearest even, a subnormal to zero of the same
// sign (as x86's conversion does), NaN to a quiet NaN.
HWY_INLINE VU32 RoundToBF16(VF32 x) {
  const DU32 du;
  const VU32 bits = hn::BitCast(du, x);
  const VU32 odd = hn::And(hn::ShiftRight<16>(bits), hn::Set(du, 1u));
  VU32 rounded = hn::Add(bits, hn::Add(odd, hn::Set(du, 0x7FFFu)));
  rounded = hn::And(rounded, hn::Set(du, 0xFFFF0000u));
  const VU32 magnitude = hn::And(bits, hn::Set(du, 0x7FFFFFFFu));
  const VU32 sign = hn::And(bits, hn::Set(du, 0x80000000u));
  rounded = hn::IfThenElse(hn::Lt(magnitude, hn::Set(du, 0x00800000u)), sign, rounded);
  return hn::IfThenElse(hn::Gt(magnitude, hn::Set(du, 0x7F800000u)), hn::Set(du, 0x7FC00000u),
                        rounded);
}

// Where the CPU rounds to bf16, to nearest even, what is subnormal to zero: x0's 16 values, then
// x1's, each even one in the low half of a lane. A NaN keeps what it carries.
HWY_INLINE VU32 RoundToHalves(VF32 x0, VF32 x1) {
  const hn::Repartition<hwy::bfloat16_t, DF32> dbf16;
  return hn::BitCast(DU32(), hn::OrderedDemote2To(dbf16, x0, x1));
}

// Elements one behind the other, x0 and then x1, as RoundToBF16 rounds them, in pairs: each even
// one in the high half of a lane, the next in the low half.
HWY_INLINE VU32 BF16Pairs(VF32 x0, VF32 x1) {
  const DF32 df;
  if constexpr (kHasBF16Dot) {
    const VF32 nan = hn::BitCast(df, hn::Set(DU32(), 0x7FC00000u));
    x0 = hn::IfThenElse(hn::IsNaN(x0), nan, x0), x1 = hn::IfThenElse(hn::IsNaN(x1), nan, x1);
    return hn::RotateRight<16>(RoundToHalves(x0, x1));
  }
  const VU32 even = RoundToBF16(hn::ConcatEven(df, x1, x0));
  return hn::Or(even, hn::ShiftRight<16>(RoundToBF16(hn::ConcatOdd(df, x1, x0))));
}

}  // namespace HWY_NAMESPACE
}  // namespace hob
HWY_AFTER_NAMESPACE();

#endif  // HOB_KERNELS_MATH_INL_H_
