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

// Clamps by comparisons, not Min and Max: those treat NaN differently from one instruction set to
// the next, and a NaN must come through.
HWY_INLINE VF32 ClampKeepNaN(VF32 x, float low, float high) {
  const DF32 df;
  const VF32 lo = hn::Set(df, low), hi = hn::Set(df, high);
  x = hn::IfThenElse(hn::Lt(x, lo), lo, x);
  return hn::IfThenElse(hn::Gt(x, hi), hi, x);
}

// 2^n for -126 <= n <= 127.
HWY_INLINE VF32 PowerOf2(VI32 n) {
  return hn::BitCast(DF32(), hn::ShiftLeft<23>(hn::Add(n, hn::Set(DI32(), 127))));
}

HWY_INLINE VF32 Exp(VF32 x) {
  const DF32 df;
  const DI32 di;
  x = ClampKeepNaN(x, kExpMin, kExpMax);
  const VF32 shifted = hn::Add(hn::Mul(x, hn::Set(df, kLog2E)), hn::Set(df, kRound));
  const VF32 n = hn::Sub(shifted, hn::Set(df, kRound));
  VF32 r = hn::NegMulAdd(n, hn::Set(df, kLn2Hi), x);
  r = hn::NegMulAdd(n, hn::Set(df, kLn2Lo), r);
  VF32 p = hn::Set(df, kExpC6);
  p = hn::MulAdd(p, r, hn::Set(df, kExpC5));
  p = hn::MulAdd(p, r, hn::Set(df, kExpC4));
  p = hn::MulAdd(p, r, hn::Set(df, kExpC3));
  p = hn::MulAdd(p, r, hn::Set(df, kExpC2));
  p = hn::MulAdd(p, r, hn::Set(df, 1.0f));
  p = hn::MulAdd(p, r, hn::Set(df, 1.0f));
  // 2^n in two factors: n reaches -150 and 128, beyond one normal power.
  const VI32 bits = hn::Sub(hn::BitCast(di, shifted), hn::Set(di, kRoundBits));
  const VI32 half = hn::ShiftRight<1>(bits);
  return hn::Mul(hn::Mul(p, PowerOf2(half)), PowerOf2(hn::Sub(bits, half)));
}

// 2^x for x <= 0; exactly 0 below -64.
HWY_INLINE VF32 Exp2NonPositive(VF32 x) {
  const DF32 df;
  const DI32 di;
  const auto zero = hn::Lt(x, hn::Set(df, kExp2Min));
  const VF32 clamped = hn::IfThenElse(zero, hn::Set(df, kExp2Min), x);
  const VF32 shifted = hn::Add(clamped, hn::Set(df, kRound));
  const VF32 f = hn::Sub(clamped, hn::Sub(shifted, hn::Set(df, kRound)));
  VF32 p = hn::Set(df, kExp2C5);
  p = hn::MulAdd(p, f, hn::Set(df, kExp2C4));
  p = hn::MulAdd(p, f, hn::Set(df, kExp2C3));
  p = hn::MulAdd(p, f, hn::Set(df, kExp2C2));
  p = hn::MulAdd(p, f, hn::Set(df, kExp2C1));
  p = hn::MulAdd(p, f, hn::Set(df, 1.0f));
  const VI32 n = hn::Sub(hn::BitCast(di, shifted), hn::Set(di, kRoundBits));
  return hn::IfThenElse(zero, hn::Zero(df), hn::Mul(p, PowerOf2(n)));
}

HWY_INLINE VF32 Silu(VF32 x) {
  const VF32 one = hn::Set(DF32(), 1.0f);
  return hn::Div(x, hn::Add(one, Exp(hn::Neg(x))));
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

}  // namespace HWY_NAMESPACE
}  // namespace hob
HWY_AFTER_NAMESPACE();

#endif  // HOB_KERNELS_MATH_INL_H_
