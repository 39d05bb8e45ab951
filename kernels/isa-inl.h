// What depends on the instruction set, and the only file that names one: the vector types (16
// outputs are one AVX-512 register, two of AVX2, four of NEON, as many as SVE has), the int8 dot
// and the bf16 step. Everything above is written once in terms of these.
//
// An instruction set is added here: its dot, its bf16 step, and its row in targets.cc.

#include <cstddef>
#include <cstdint>

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
using VF32 = hn::Vec<DF32>;
using VI32 = hn::Vec<DI32>;
using VU32 = hn::Vec<DU32>;
using VI8 = hn::Vec<DI8>;
using VU8 = hn::Vec<DU8>;

// Outputs in one vector: 4, 8 or 16.
HWY_INLINE size_t OutputsPerVector() { return hn::Lanes(DF32()); }

// ---------------------------------------------------------------- int8 dot
//
// Dot4: acc[lane] += sum of 4 products of codes and activations, exact. x86 multiplies unsigned by
// signed bytes, so codes stay as they are packed, 0 to 255. Arm (SDOT, svdot) multiplies signed
// bytes, so codes above 127 are moved down by 128; the caller's zero point moves with them.
// No step saturates: Highway widens to 16 bits before it multiplies where there is no dot.

#if HWY_ARCH_X86
using VCode = VU8;

template <class F>
inline constexpr int kZeroPoint = F::kZero;

template <class F>
HWY_INLINE VCode ToCodes(VU8 packed) {
  return packed;
}
#else
using VCode = VI8;

template <class F>
inline constexpr int kZeroPoint = F::kMaxCode > 127 ? F::kZero - 128 : F::kZero;

template <class F>
HWY_INLINE VCode ToCodes(VU8 packed) {
  if constexpr (F::kMaxCode > 127) packed = hn::Xor(packed, hn::Set(DU8(), uint8_t{128}));
  return hn::BitCast(DI8(), packed);
}
#endif

HWY_INLINE VI32 Dot4(VI32 acc, VCode codes, VI8 acts) {
  return hn::SumOfMulQuadAccumulate(DI32(), codes, acts, acc);
}

// ---------------------------------------------------------------- bf16 step
//
// BF16Dot: acc = fma(w.hi, x.hi, acc), then acc = fma(w.lo, x.lo, acc), for a pair of bf16 in each
// 32-bit lane, high half first; inputs subnormal = zero, results that are tiny after rounding
// flushed to zero, signs kept. This is what x86's vdpbf16ps does, measured: the product of the odd
// (high) elements is added first, each step is one fused multiply-add.
// BF16Scope must be alive around it, and only it: other code must not run in flush mode.

#if HWY_ARCH_X86 && HWY_TARGET <= HWY_AVX3_ZEN4
struct BF16Scope {
  // The instruction ignores the floating-point mode: it always flushes.
  HWY_INLINE BF16Scope() {}
};

HWY_INLINE VF32 BF16Dot(VF32 acc, VU32 w, VU32 x) {
  const hn::Repartition<hwy::bfloat16_t, DF32> dbf16;
  VF32 unused = hn::Zero(DF32());
  return hn::ReorderWidenMulAccumulate(DF32(), hn::BitCast(dbf16, w), hn::BitCast(dbf16, x), acc,
                                       unused);
}

HWY_INLINE VF32 BF16Start(VF32 acc) { return acc; }
#else

HWY_INLINE VF32 HighHalf(VU32 pair) {
  return hn::BitCast(DF32(), hn::And(pair, hn::Set(DU32(), 0xFFFF0000u)));
}
HWY_INLINE VF32 LowHalf(VU32 pair) { return hn::BitCast(DF32(), hn::ShiftLeft<16>(pair)); }

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
