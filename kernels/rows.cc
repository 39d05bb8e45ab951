// The row ops in SIMD. Reductions use 16 virtual lanes (element j goes to partial j mod 16) and a
// fixed tree, so that every vector length adds in the same order. Compare reference.cc, which does
// the same one element at a time. Tested by tests/rows_test.cc.

#include "kernels/rows.h"

#include <cmath>

#include "kernels/reference.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/rows.cc"
#include <hwy/foreach_target.h>
// After foreach_target.h, which sets the target:
#include "kernels/math-inl.h"

HWY_BEFORE_NAMESPACE();
namespace hob {
namespace HWY_NAMESPACE {

// The next at most one vector of x: n elements are left, missing ones read as zero.
HWY_INLINE VF32 LoadUpTo(const float* x, size_t n) {
  const DF32 df;
  return n >= hn::Lanes(df) ? hn::LoadU(df, x) : hn::LoadN(df, x, n);
}

HWY_INLINE void StoreUpTo(VF32 v, float* out, size_t n) {
  const DF32 df;
  if (n >= hn::Lanes(df)) {
    hn::StoreU(v, df, out);
  } else {
    hn::StoreN(v, df, out, n);
  }
}

// partial[i] = sum over j of x[i + 16 j]^2. A missing element adds fma(0, 0, sum) = sum.
HWY_INLINE float SumOfSquares(const float* x, size_t n) {
  const DF32 df;
  HWY_ALIGN float partial[kPanel];
  for (size_t i = 0; i < kPanel; i += hn::Lanes(df)) {
    VF32 sum = hn::Zero(df);
    for (size_t j = i; j < n; j += kPanel) {
      const VF32 v = LoadUpTo(x + j, n - j);
      sum = hn::MulAdd(v, v, sum);
    }
    hn::StoreU(sum, df, partial + i);
  }
  return reference::SumOf16(partial);
}

void RmsNorm(const float* x, const float* weight, float eps, size_t n, float* out) {
  const DF32 df;
  const float mean = SumOfSquares(x, n) / static_cast<float>(n);
  const VF32 inverse =
      hn::Div(hn::Set(df, 1.0f), hn::Sqrt(hn::Add(hn::Set(df, mean), hn::Set(df, eps))));
  for (size_t j = 0; j < n; j += hn::Lanes(df)) {
    const VF32 scaled = hn::Mul(LoadUpTo(x + j, n - j), inverse);
    StoreUpTo(hn::Mul(scaled, LoadUpTo(weight + j, n - j)), out + j, n - j);
  }
}

// Rotates `pairs` pairs (a[i], b[i]) by (cos[i], sin[i]) = table[2 i], table[2 i + 1].
HWY_INLINE void RotateHalves(const float* table, size_t pairs, float* a, float* b) {
  const DF32 df;
  size_t i = 0;
  for (; i + hn::Lanes(df) <= pairs; i += hn::Lanes(df)) {
    VF32 c, s;
    hn::LoadInterleaved2(df, table + 2 * i, c, s);
    const VF32 x = hn::LoadU(df, a + i), y = hn::LoadU(df, b + i);
    hn::StoreU(hn::MulSub(x, c, hn::Mul(y, s)), df, a + i);
    hn::StoreU(hn::MulAdd(y, c, hn::Mul(x, s)), df, b + i);
  }
  reference::RotatePairs(table + 2 * i, pairs - i, 1, a + i, b + i);
}

HWY_INLINE void RotateInterleaved(const float* table, size_t pairs, float* x) {
  const DF32 df;
  size_t i = 0;
  for (; i + hn::Lanes(df) <= pairs; i += hn::Lanes(df)) {
    VF32 c, s, a, b;
    hn::LoadInterleaved2(df, table + 2 * i, c, s);
    hn::LoadInterleaved2(df, x + 2 * i, a, b);
    hn::StoreInterleaved2(hn::MulSub(a, c, hn::Mul(b, s)), hn::MulAdd(b, c, hn::Mul(a, s)), df,
                          x + 2 * i);
  }
  reference::RotatePairs(table + 2 * i, pairs - i, 2, x + 2 * i, x + 2 * i + 1);
}

void Rope(hob_rope_style style, const float* table, size_t n_heads, size_t head_dim, size_t n_rot,
          float* x) {
  for (size_t h = 0; h < n_heads; ++h, x += head_dim) {
    if (style == HOB_ROPE_HALVES) {
      RotateHalves(table, n_rot / 2, x, x + n_rot / 2);
    } else {
      RotateInterleaved(table, n_rot / 2, x);
    }
  }
}

// The largest element that is no NaN, or -inf.
HWY_INLINE float MaxOf(const float* x, size_t n) {
  const DF32 df;
  const VF32 least = hn::Set(df, -HUGE_VALF);
  VF32 max = least;
  for (size_t j = 0; j < n; j += hn::Lanes(df)) {
    const VF32 v =
        n - j >= hn::Lanes(df) ? hn::LoadU(df, x + j) : hn::LoadNOr(least, df, x + j, n - j);
    max = hn::IfThenElse(hn::Gt(v, max), v, max);
  }
  return hn::ReduceMax(df, max);
}

void Softmax(const float* x, size_t n, float* out) {
  const DF32 df;
  const float max = MaxOf(x, n);
  const VF32 shift = hn::Set(df, max == -HUGE_VALF ? 0.0f : max);
  HWY_ALIGN float partial[kPanel];
  for (size_t i = 0; i < kPanel; i += hn::Lanes(df)) {
    VF32 sum = hn::Zero(df);
    for (size_t j = i; j < n; j += kPanel) {
      const VF32 e = Exp(hn::Sub(LoadUpTo(x + j, n - j), shift));
      StoreUpTo(e, out + j, n - j);
      // The lanes after the end must add nothing: read back what was stored, zeros behind it.
      sum = hn::Add(sum, n - j >= hn::Lanes(df) ? e : hn::LoadN(df, out + j, n - j));
    }
    hn::StoreU(sum, df, partial + i);
  }
  const float sum = reference::SumOf16(partial);
  const VF32 inverse = hn::Set(df, sum == 0.0f ? 0.0f : 1.0f / sum);
  for (size_t j = 0; j < n; j += hn::Lanes(df)) {
    StoreUpTo(hn::Mul(LoadUpTo(out + j, n - j), inverse), out + j, n - j);
  }
}

void SiluMul(const float* gate, const float* up, size_t n, float* out) {
  for (size_t j = 0; j < n; j += OutputsPerVector()) {
    const VF32 activated = Silu(LoadUpTo(gate + j, n - j));
    StoreUpTo(hn::Mul(activated, LoadUpTo(up + j, n - j)), out + j, n - j);
  }
}

void Add(const float* a, const float* b, size_t n, float* out) {
  for (size_t j = 0; j < n; j += OutputsPerVector()) {
    StoreUpTo(hn::Add(LoadUpTo(a + j, n - j), LoadUpTo(b + j, n - j)), out + j, n - j);
  }
}

size_t Argmax(const float* x, size_t n) {
  const DF32 df;
  const VF32 max = hn::Set(df, MaxOf(x, n));
  size_t j = 0;
  for (; j + hn::Lanes(df) <= n; j += hn::Lanes(df)) {
    const intptr_t lane = hn::FindFirstTrue(df, hn::Eq(hn::LoadU(df, x + j), max));
    if (lane >= 0) return j + static_cast<size_t>(lane);
  }
  for (; j < n; ++j) {
    if (x[j] == hn::GetLane(max)) return j;
  }
  return 0;  // nothing but NaN
}

// One block of 32: the scale, and 127 / amax in *inverse; 0 and 0 where no code can be had.
HWY_INLINE float BlockScale(const float* x, float* inverse) {
  const DF32 df;
  const DU32 du;
  // As integers, magnitudes order like floats, infinity and NaN above all.
  VU32 max = hn::Zero(du);
  for (size_t j = 0; j < kBlock; j += hn::Lanes(df)) {
    max = hn::Max(max, hn::And(hn::BitCast(du, hn::LoadU(df, x + j)), hn::Set(du, 0x7FFFFFFFu)));
  }
  return reference::Q8Scale(hn::ReduceMax(du, max), inverse);
}

void QuantizeQ8(const float* x, size_t blocks, size_t code_stride, int8_t* codes, size_t stride,
                float* scales, int32_t* sums) {
  const DF32 df;
  const DI32 di;
  const hn::Rebind<int8_t, DI32> di8;
  for (size_t b = 0; b < blocks; ++b, x += kBlock, codes += code_stride) {
    float inverse;
    scales[b * stride] = BlockScale(x, &inverse);
    for (size_t half = 0; half < 2; ++half) {
      VI32 sum = hn::Zero(di);
      for (size_t j = half * 16; j < half * 16 + 16; j += hn::Lanes(df)) {
        // A block without a scale has no codes: 0, whatever x is (infinity times 0 would be NaN).
        const VI32 q = inverse == 0.0f
                           ? hn::Zero(di)
                           : hn::NearestInt(hn::Mul(hn::LoadU(df, x + j), hn::Set(df, inverse)));
        sum = hn::Add(sum, q);
        hn::StoreU(hn::DemoteTo(di8, q), di8, codes + j);
      }
      sums[(2 * b + half) * stride] = hn::ReduceSum(di, sum);
    }
  }
}

void ToBF16Pairs(const float* x, size_t k, uint32_t* out) {
  const DF32 df;
  const DU32 du;
  size_t i = 0;
  for (; i + 2 * hn::Lanes(df) <= k; i += 2 * hn::Lanes(df)) {
    VF32 even, odd;
    hn::LoadInterleaved2(df, x + i, even, odd);
    hn::StoreU(hn::Or(RoundToBF16(even), hn::ShiftRight<16>(RoundToBF16(odd))), du, out + i / 2);
  }
  reference::ToBF16Pairs(x + i, k - i, out + i / 2);
}

}  // namespace HWY_NAMESPACE
}  // namespace hob
HWY_AFTER_NAMESPACE();

namespace hob {

template <>
const RowKernels& KernelsOn<RowKernels, HWY_TARGET>() {
  namespace t = HWY_NAMESPACE;
  static constexpr RowKernels kKernels = {t::RmsNorm, t::Rope,   t::Softmax,    t::SiluMul,
                                          t::Add,     t::Argmax, t::QuantizeQ8, t::ToBF16Pairs};
  return kKernels;
}

}  // namespace hob

#if HWY_ONCE
namespace hob {

const RowKernels& RowsFor(Target target) {
  namespace r = reference;
  static constexpr RowKernels kScalarKernels = {r::RmsNorm,    r::Rope,       r::Softmax,
                                                r::SiluMul,    r::Add,        r::Argmax,
                                                r::QuantizeQ8, r::ToBF16Pairs};
  return FindKernels<RowKernels, HWY_TARGETS>(target, kScalarKernels);
}

const RowKernels& Rows() { return RowsFor(ActiveTarget()); }

}  // namespace hob
#endif  // HWY_ONCE
