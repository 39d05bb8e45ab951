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

// Element `at` of x and those behind it, at most one vector; from n on zeros are read.
HWY_INLINE VF32 LoadRest(const float* x, size_t n, size_t at) {
  const DF32 df;
  return at < n ? hn::LoadN(df, x + at, n - at) : hn::Zero(df);
}

// s[i] = s[i] + s[i + 8], then the same with 4, 2 and 1.
HWY_INLINE float SumOf16(const float* s) {
  const hn::CappedTag<float, 4> d;
  const auto low = hn::Add(hn::LoadU(d, s), hn::LoadU(d, s + 8));
  const auto high = hn::Add(hn::LoadU(d, s + 4), hn::LoadU(d, s + 12));
  auto sum = hn::Add(low, high);
  sum = hn::Add(sum, hn::Shuffle1032(sum));
  return hn::GetLane(hn::Add(sum, hn::Shuffle2301(sum)));
}

// The 16 partial sums take one vector, two or four. They run side by side: each is a chain.
HWY_INLINE float SumOf16(VF32 s0, VF32 s1, VF32 s2, VF32 s3) {
  const DF32 df;
  const size_t lanes = hn::Lanes(df);
  HWY_ALIGN float partial[kPanel];
  hn::Store(s0, df, partial);
  if (lanes <= kPanel / 2) hn::Store(s1, df, partial + lanes);
  if (lanes <= kPanel / 4) {
    hn::Store(s2, df, partial + 2 * lanes);
    hn::Store(s3, df, partial + 3 * lanes);
  }
  return SumOf16(partial);
}

// partial[i] = sum over j of x[i + 16 j]^2. A missing element adds fma(0, 0, sum) = sum.
HWY_INLINE float SumOfSquares(const float* x, size_t n) {
  const DF32 df;
  const size_t lanes = hn::Lanes(df);
  VF32 s0 = hn::Zero(df), s1 = s0, s2 = s0, s3 = s0;
  const auto add = [](VF32 v, VF32& sum) HWY_ATTR { sum = hn::MulAdd(v, v, sum); };
  size_t j = 0;
  for (; j + kPanel <= n; j += kPanel) {
    add(hn::LoadU(df, x + j), s0);
    if (lanes <= kPanel / 2) add(hn::LoadU(df, x + j + lanes), s1);
    if (lanes <= kPanel / 4) {
      add(hn::LoadU(df, x + j + 2 * lanes), s2);
      add(hn::LoadU(df, x + j + 3 * lanes), s3);
    }
  }
  if (j < n) {
    add(LoadRest(x, n, j), s0);
    if (lanes <= kPanel / 2) add(LoadRest(x, n, j + lanes), s1);
    if (lanes <= kPanel / 4) {
      add(LoadRest(x, n, j + 2 * lanes), s2);
      add(LoadRest(x, n, j + 3 * lanes), s3);
    }
  }
  return SumOf16(s0, s1, s2, s3);
}

void RmsNorm(const float* x, const float* weight, float eps, size_t n, float* out) {
  const DF32 df;
  const float mean = SumOfSquares(x, n) / static_cast<float>(n);
  const VF32 inverse =
      hn::Div(hn::Set(df, 1.0f), hn::Sqrt(hn::Add(hn::Set(df, mean), hn::Set(df, eps))));
  size_t j = 0;
  for (; j + hn::Lanes(df) <= n; j += hn::Lanes(df)) {
    const VF32 scaled = hn::Mul(hn::LoadU(df, x + j), inverse);
    hn::StoreU(hn::Mul(scaled, hn::LoadU(df, weight + j)), df, out + j);
  }
  if (j < n) {
    const VF32 scaled = hn::Mul(LoadRest(x, n, j), inverse);
    hn::StoreN(hn::Mul(scaled, LoadRest(weight, n, j)), df, out + j, n - j);
  }
}

// Both styles take one vector of the table after the other and, with it in registers, all heads.

// A pair is (a[i], b[i]), its turn table[2 i], table[2 i + 1]; row: a of the first head.
HWY_INLINE void RopeHalves(const float* table, size_t n_heads, size_t head_dim, size_t pairs,
                           float* row) {
  const DF32 df;
  const size_t lanes = hn::Lanes(df);
  size_t i = 0;
  for (; i + lanes <= pairs; i += lanes) {
    VF32 c, s;
    hn::LoadInterleaved2(df, table + 2 * i, c, s);
    float* a = row + i;
    for (size_t h = 0; h < n_heads; ++h, a += head_dim) {
      float* b = a + pairs;
      const VF32 x = hn::LoadU(df, a), y = hn::LoadU(df, b);
      hn::StoreU(hn::MulSub(x, c, hn::Mul(y, s)), df, a);
      hn::StoreU(hn::MulAdd(y, c, hn::Mul(x, s)), df, b);
    }
  }
  if (i == pairs) return;
  for (size_t h = 0; h < n_heads; ++h) {
    float* a = row + h * head_dim + i;
    reference::RotatePairs(table + 2 * i, pairs - i, 1, a, a + pairs);
  }
}

// A pair is (x[2 i], x[2 i + 1]) and stays interleaved. With t the cosines, each twice, and u the
// sines, each twice, the first negated: a' = fma(a, t, b * u), b' = fma(b, t, a * u).
HWY_INLINE void RopeInterleaved(const float* table, size_t n_heads, size_t head_dim, size_t n_rot,
                                float* row) {
  const DF32 df;
  const size_t lanes = hn::Lanes(df);
  for (size_t i = 0; i < n_rot; i += lanes) {
    const size_t count = HWY_MIN(lanes, n_rot - i);
    const VF32 turn = hn::LoadN(df, table + i, count);
    const VF32 t = hn::DupEven(turn), sines = hn::DupOdd(turn);
    const VF32 u = hn::OddEven(sines, hn::Neg(sines));
    float* x = row + i;
    if (count == lanes) {
      for (size_t h = 0; h < n_heads; ++h, x += head_dim) {
        const VF32 v = hn::LoadU(df, x);
        hn::StoreU(hn::MulAdd(v, t, hn::Mul(hn::Shuffle2301(v), u)), df, x);
      }
    } else {
      for (size_t h = 0; h < n_heads; ++h, x += head_dim) {
        const VF32 v = hn::LoadN(df, x, count);
        hn::StoreN(hn::MulAdd(v, t, hn::Mul(hn::Shuffle2301(v), u)), df, x, count);
      }
    }
  }
}

void Rope(hob_rope_style style, const float* table, size_t n_heads, size_t head_dim, size_t n_rot,
          float* x) {
  if (style == HOB_ROPE_HALVES) {
    RopeHalves(table, n_heads, head_dim, n_rot / 2, x);
  } else {
    RopeInterleaved(table, n_heads, head_dim, n_rot, x);
  }
}

// v if it is larger, and no NaN.
HWY_INLINE VF32 Larger(VF32 v, VF32 most) { return hn::IfThenElse(hn::Gt(v, most), v, most); }

// The largest element that is no NaN, or -inf. Of zeros, whichever.
HWY_INLINE float MaxOf(const float* x, size_t n) {
  const DF32 df;
  const size_t lanes = hn::Lanes(df);
  const VF32 least = hn::Set(df, -HUGE_VALF);
  VF32 m0 = least, m1 = least, m2 = least, m3 = least;
  size_t j = 0;
  for (; j + 4 * lanes <= n; j += 4 * lanes) {
    m0 = Larger(hn::LoadU(df, x + j), m0);
    m1 = Larger(hn::LoadU(df, x + j + lanes), m1);
    m2 = Larger(hn::LoadU(df, x + j + 2 * lanes), m2);
    m3 = Larger(hn::LoadU(df, x + j + 3 * lanes), m3);
  }
  for (; j + lanes <= n; j += lanes) m0 = Larger(hn::LoadU(df, x + j), m0);
  if (j < n) m1 = Larger(hn::LoadNOr(least, df, x + j, n - j), m1);
  return hn::ReduceMax(df, Larger(Larger(m0, m1), Larger(m2, m3)));
}

void Softmax(const float* x, size_t n, float* out) {
  const DF32 df;
  const size_t lanes = hn::Lanes(df);
  const float max = MaxOf(x, n);
  const VF32 shift = hn::Set(df, max == -HUGE_VALF ? 0.0f : max);
  VF32 s0 = hn::Zero(df), s1 = s0, s2 = s0, s3 = s0;
  const auto add = [&](size_t at0, size_t at1, VF32& sum0, VF32& sum1) HWY_ATTR {
    VF32 e0 = hn::Sub(hn::LoadU(df, x + at0), shift), e1 = hn::Sub(hn::LoadU(df, x + at1), shift);
    ExpNonPositive(e0, e1);
    hn::StoreU(e0, df, out + at0);
    hn::StoreU(e1, df, out + at1);
    sum0 = hn::Add(sum0, e0);
    sum1 = hn::Add(sum1, e1);
  };
  // The lanes after the end must add nothing.
  const auto add_rest = [&](size_t at, VF32& sum) HWY_ATTR {
    if (at >= n) return;
    VF32 e = hn::Sub(hn::LoadN(df, x + at, n - at), shift), unused = e;
    ExpNonPositive(e, unused);
    hn::StoreN(e, df, out + at, n - at);
    sum = hn::Add(sum, hn::IfThenElseZero(hn::FirstN(df, n - at), e));
  };
  const size_t step = HWY_MAX(kPanel, 2 * lanes);
  size_t j = 0;
  for (; j + step <= n; j += step) {
    if (lanes == kPanel) {
      add(j, j + lanes, s0, s0);
    } else {
      add(j, j + lanes, s0, s1);
      if (lanes <= kPanel / 4) add(j + 2 * lanes, j + 3 * lanes, s2, s3);
    }
  }
  for (; j < n; j += kPanel) {
    add_rest(j, s0);
    if (lanes <= kPanel / 2) add_rest(j + lanes, s1);
    if (lanes <= kPanel / 4) {
      add_rest(j + 2 * lanes, s2);
      add_rest(j + 3 * lanes, s3);
    }
  }
  const float sum = SumOf16(s0, s1, s2, s3);
  const VF32 inverse = hn::Set(df, sum == 0.0f ? 0.0f : 1.0f / sum);
  for (j = 0; j + lanes <= n; j += lanes) {
    hn::StoreU(hn::Mul(hn::LoadU(df, out + j), inverse), df, out + j);
  }
  if (j < n) hn::StoreN(hn::Mul(LoadRest(out, n, j), inverse), df, out + j, n - j);
}

void SiluMul(const float* gate, const float* up, size_t n, float* out) {
  const DF32 df;
  const size_t lanes = hn::Lanes(df);
  size_t j = 0;
  for (; j + 2 * lanes <= n; j += 2 * lanes) {
    VF32 v0 = hn::LoadU(df, gate + j), v1 = hn::LoadU(df, gate + j + lanes);
    Silu(v0, v1);
    v0 = hn::Mul(v0, hn::LoadU(df, up + j));
    v1 = hn::Mul(v1, hn::LoadU(df, up + j + lanes));
    hn::StoreU(v0, df, out + j);
    hn::StoreU(v1, df, out + j + lanes);
  }
  for (; j < n; j += lanes) {
    VF32 v = hn::LoadN(df, gate + j, n - j), unused = v;
    Silu(v, unused);
    hn::StoreN(hn::Mul(v, hn::LoadN(df, up + j, n - j)), df, out + j, n - j);
  }
}

void Add(const float* a, const float* b, size_t n, float* out) {
  const DF32 df;
  size_t j = 0;
  for (; j + hn::Lanes(df) <= n; j += hn::Lanes(df)) {
    hn::StoreU(hn::Add(hn::LoadU(df, a + j), hn::LoadU(df, b + j)), df, out + j);
  }
  if (j < n) hn::StoreN(hn::Add(LoadRest(a, n, j), LoadRest(b, n, j)), df, out + j, n - j);
}

size_t Argmax(const float* x, size_t n) {
  // A row may be larger than the caches: it is read once, in pieces, and only the first piece that
  // has the largest element a second time.
  constexpr size_t kPiece = 2048;
  const DF32 df;
  float max = -HUGE_VALF;
  size_t j = 0;
  for (size_t at = 0; at < n; at += kPiece) {
    const float most = MaxOf(x + at, HWY_MIN(kPiece, n - at));
    if (most > max) {
      max = most;
      j = at;
    }
  }
  const VF32 wanted = hn::Set(df, max);
  for (; j + hn::Lanes(df) <= n; j += hn::Lanes(df)) {
    const intptr_t lane = hn::FindFirstTrue(df, hn::Eq(hn::LoadU(df, x + j), wanted));
    if (lane >= 0) return j + static_cast<size_t>(lane);
  }
  for (; j < n; ++j) {
    if (x[j] == max) return j;
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
