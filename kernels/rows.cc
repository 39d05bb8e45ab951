// The row ops in SIMD. Reductions use 16 virtual lanes (element j goes to partial j mod 16) and a
// fixed tree, so that every vector length adds in the same order. Compare reference.cc, which does
// the same one element at a time. Tested by tests/rows_test.cc.

#include "kernels/rows.h"

#include <cmath>
#include <cstring>
#include <utility>

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

// The largest element that is no NaN, or -inf. Of zeros, whichever.
HWY_INLINE float MaxOf(const float* x, size_t n) {
  const DF32 df;
  const size_t lanes = hn::Lanes(df);
  const VF32 least = hn::Set(df, -HUGE_VALF);
  VF32 m0 = least, m1 = least, m2 = least, m3 = least;
  size_t j = 0;
  for (; j + 4 * lanes <= n; j += 4 * lanes) {
    m0 = LargerNumber(hn::LoadU(df, x + j), m0);
    m1 = LargerNumber(hn::LoadU(df, x + j + lanes), m1);
    m2 = LargerNumber(hn::LoadU(df, x + j + 2 * lanes), m2);
    m3 = LargerNumber(hn::LoadU(df, x + j + 3 * lanes), m3);
  }
  for (; j + lanes <= n; j += lanes) m0 = LargerNumber(hn::LoadU(df, x + j), m0);
  if (j < n) m1 = LargerNumber(hn::LoadNOr(least, df, x + j, n - j), m1);
  return hn::ReduceMax(df, LargerNumber(LargerNumber(m0, m1), LargerNumber(m2, m3)));
}

void Softmax(const float* x, size_t n, float* out) {
  const DF32 df;
  const size_t lanes = hn::Lanes(df);
  const float max = MaxOf(x, n);
  const VF32 shift = hn::Set(df, max == -HUGE_VALF ? 0.0f : max);
  const auto shifted = [&](size_t at) HWY_ATTR { return hn::Sub(hn::LoadU(df, x + at), shift); };
  // Four vectors, and each one's 16 virtual lanes.
  const auto add4 = [&](size_t at, VF32& sum0, VF32& sum1, VF32& sum2, VF32& sum3) HWY_ATTR {
    VF32 e0 = shifted(at), e1 = shifted(at + lanes);
    VF32 e2 = shifted(at + 2 * lanes), e3 = shifted(at + 3 * lanes);
    ExpNonPositive(e0, e1, e2, e3);
    hn::StoreU(e0, df, out + at), sum0 = hn::Add(sum0, e0);
    hn::StoreU(e1, df, out + at + lanes), sum1 = hn::Add(sum1, e1);
    hn::StoreU(e2, df, out + at + 2 * lanes), sum2 = hn::Add(sum2, e2);
    hn::StoreU(e3, df, out + at + 3 * lanes), sum3 = hn::Add(sum3, e3);
  };
  // The lanes after the end must add nothing.
  const auto add_rest = [&](size_t at, VF32& sum) HWY_ATTR {
    if (at >= n) return;
    VF32 e = hn::Sub(hn::LoadN(df, x + at, n - at), shift), same0 = e, same1 = e, same2 = e;
    ExpNonPositive(e, same0, same1, same2);
    hn::StoreN(e, df, out + at, n - at);
    sum = hn::Add(sum, hn::IfThenElseZero(hn::FirstN(df, n - at), e));
  };
  VF32 s0 = hn::Zero(df), s1 = s0, s2 = s0, s3 = s0;
  size_t j = 0;
  for (; j + 4 * lanes <= n; j += 4 * lanes) {
    if (lanes == kPanel) {
      add4(j, s0, s0, s0, s0);
    } else if (lanes == kPanel / 2) {
      add4(j, s0, s1, s0, s1);
    } else {
      add4(j, s0, s1, s2, s3);
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

// out = A(gate) * up.
template <class A>
HWY_INLINE void ActivateMul(const float* gate, const float* up, size_t n, float* out) {
  const DF32 df;
  const size_t lanes = hn::Lanes(df);
  size_t j = 0;
  for (; j + 4 * lanes <= n; j += 4 * lanes) {
    const float *g0 = gate + j, *g1 = g0 + lanes, *g2 = g1 + lanes, *g3 = g2 + lanes;
    const float *u0 = up + j, *u1 = u0 + lanes, *u2 = u1 + lanes, *u3 = u2 + lanes;
    float *out0 = out + j, *out1 = out0 + lanes, *out2 = out1 + lanes, *out3 = out2 + lanes;
    VF32 v0 = hn::LoadU(df, g0), v1 = hn::LoadU(df, g1);
    VF32 v2 = hn::LoadU(df, g2), v3 = hn::LoadU(df, g3);
    A::Apply(v0, v1, v2, v3);
    hn::StoreU(hn::Mul(v0, hn::LoadU(df, u0)), df, out0);
    hn::StoreU(hn::Mul(v1, hn::LoadU(df, u1)), df, out1);
    hn::StoreU(hn::Mul(v2, hn::LoadU(df, u2)), df, out2);
    hn::StoreU(hn::Mul(v3, hn::LoadU(df, u3)), df, out3);
  }
  for (; j < n; j += lanes) {
    VF32 v = hn::LoadN(df, gate + j, n - j), same0 = v, same1 = v, same2 = v;
    A::Apply(v, same0, same1, same2);
    hn::StoreN(hn::Mul(v, hn::LoadN(df, up + j, n - j)), df, out + j, n - j);
  }
}

struct SiluOf {
  static HWY_INLINE void Apply(VF32& x0, VF32& x1, VF32& x2, VF32& x3) { Silu(x0, x1, x2, x3); }
};

struct GeluOf {
  static HWY_INLINE void Apply(VF32& x0, VF32& x1, VF32& x2, VF32& x3) { Gelu(x0, x1, x2, x3); }
};

void SiluMul(const float* gate, const float* up, size_t n, float* out) {
  ActivateMul<SiluOf>(gate, up, n, out);
}

void GeluMul(const float* gate, const float* up, size_t n, float* out) {
  ActivateMul<GeluOf>(gate, up, n, out);
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

// ---------------------------------------------------------------- quantization
//
// As many blocks at a time as a vector has lanes: their largest magnitudes, from those their
// scales, then the codes. The magnitudes of the next blocks come before the codes of those in front
// of them, and their scales after, so that nothing waits for the divisions; scales and sums are
// moved to their places one turn later, so that their loads find the stores done.
//
// Blocks are one behind the other in a row, or the same of one row after the other, and come in
// fours: four such, or the same block of four rows, whose scales and sums lie side by side.
struct Layout {
  size_t blocks;                                   // in the order of blocks, of a four: 1 or 4
  size_t x_step, code_step, scale_step, sum_step;  // from one of the four to the next
  size_t x_next, code_next, scale_next, sum_next;  // from a block to the next
  size_t sum_half;                                 // from a block's first sum to its second
};

// Some fours, at most a vector's lanes of blocks, from where the pointers are.
struct Piece {
  const float* x;
  int8_t* codes;
  float* scales;
  int32_t* sums;
  size_t fours;

  // Which block a four starts with; the last one's where there is none.
  HWY_INLINE size_t Block(const Layout& layout, size_t four) const {
    return HWY_MIN(four, fours - 1) * layout.blocks;
  }
};

// What comes out of a piece, besides codes.
struct Terms {
  HWY_ALIGN int32_t sums[2 * kPanel];  // [block][2]
  HWY_ALIGN float scale[kPanel];
  HWY_ALIGN float inverse[kPanel];  // 127 / the largest magnitude
  bool broken;                      // there is a NaN or an infinity
};

// The largest magnitudes of a block, each of some elements. As integers, magnitudes order like
// floats, infinity and NaN above all.
HWY_INLINE VU32 BlockMax(const float* x) {
  const DF32 df;
  const DU32 du;
  const VU32 mask = hn::Set(du, 0x7FFFFFFFu);
  VU32 max = hn::And(hn::BitCast(du, hn::LoadU(df, x)), mask);
  for (size_t j = hn::Lanes(df); j < kBlock; j += hn::Lanes(df)) {
    max = hn::Max(max, hn::And(hn::BitCast(du, hn::LoadU(df, x + j)), mask));
  }
  return max;
}

// Of four blocks: in each 128 bits, the largest magnitudes of each, of some elements.
HWY_INLINE VU32 MaximaOf4(const float* x, size_t step) {
  const VU32 m0 = BlockMax(x), m1 = BlockMax(x + step);
  const VU32 m2 = BlockMax(x + 2 * step), m3 = BlockMax(x + 3 * step);
  return MaximaOf4(DU32(), m0, m1, m2, m3);
}

// The same of four `i` of a piece; `before` where there is none.
HWY_INLINE VU32 MaximaAt(const Layout& layout, const Piece& piece, size_t i, VU32 before) {
  if (i >= piece.fours) return before;
  return MaximaOf4(piece.x + i * layout.blocks * layout.x_next, layout.x_step);
}

// The largest magnitudes of all blocks; the last four's again where there are fewer than lanes.
HWY_INLINE VU32 Maxima(const Layout& layout, const Piece& piece) {
  const DU32 du;
  const VU32 m0 = MaximaOf4(piece.x, layout.x_step);
  if (hn::Lanes(du) == 4) return m0;
  const VU32 m1 = MaximaAt(layout, piece, 1, m0);
  if (hn::Lanes(du) == 8) {
    return hn::Max(hn::ConcatLowerLower(du, m1, m0), hn::ConcatUpperUpper(du, m1, m0));
  }
  const VU32 m2 = MaximaAt(layout, piece, 2, m1), m3 = MaximaAt(layout, piece, 3, m2);
  return MaximaOfParts(du, m0, m1, m2, m3);
}

// The same as reference::Q8Scale.
HWY_INLINE void ScalesOf(VU32 maxima, Terms* terms) {
  const DF32 df;
  const DI32 di;
  const DU32 du;
  const VF32 amax = hn::BitCast(df, maxima);
  const auto no_number =
      hn::RebindMask(df, hn::Gt(hn::BitCast(di, maxima), hn::Set(di, 0x7F7FFFFF)));
  const VF32 inverse = hn::Div(hn::Set(df, 127.0f), amax);
  const auto too_small = hn::Eq(inverse, hn::Set(df, HUGE_VALF));  // 0 too
  const VF32 scale = hn::IfThenZeroElse(too_small, hn::Div(amax, hn::Set(df, 127.0f)));
  const VF32 nan = hn::BitCast(df, hn::Set(du, 0x7FC00000u));
  const VF32 usable = hn::IfThenZeroElse(hn::Or(no_number, too_small), inverse);
  hn::Store(hn::IfThenElse(no_number, nan, scale), df, terms->scale);
  hn::Store(usable, df, terms->inverse);
  terms->broken = !hn::AllFalse(df, no_number);
}

// The codes of one vector, in the low byte of each lane: x * inverse is at most 127.00001 in
// magnitude, or else NaN, which makes any code.
HWY_INLINE VU32 Codes(const float* x, float inverse) {
  const DF32 df;
  const VF32 product = hn::Mul(hn::LoadU(df, x), SpreadFloat(inverse));
  return hn::BitCast(DU32(), hn::Add(product, hn::Set(df, kRound)));
}

// Those of four vectors, one after the other, in one.
HWY_INLINE VI8 CodeBytes(VU32 c0, VU32 c1, VU32 c2, VU32 c3) {
  const hn::Repartition<uint16_t, DU32> du16;
  const auto low = hn::OrderedTruncate2To(du16, c0, c1),
             high = hn::OrderedTruncate2To(du16, c2, c3);
  return hn::BitCast(DI8(), hn::OrderedTruncate2To(DU8(), low, high));
}

// Sums of 8 codes, each 128 too large, so that none is negative; in the low half of 64 bits.
HWY_INLINE VI32 CodeSums8(VI8 codes) {
  const VU8 above_zero = hn::Xor(hn::BitCast(DU8(), codes), hn::Set(DU8(), uint8_t{128}));
  return hn::BitCast(DI32(), hn::SumsOf8(above_zero));
}

// Of four vectors of such sums, those of 16, one vector's after the other's.
HWY_INLINE VI32 CodeSums16(VI32 s0, VI32 s1, VI32 s2, VI32 s3) {
  const DI32 di;
  const hn::Repartition<uint64_t, DI32> du64;
  // In each 128 bits a sum of each vector: 0 1 0 1 and 2 3 2 3, then 0 1 2 3.
  const auto s01 = hn::BitCast(du64, hn::InterleaveEven(di, s0, s1));
  const auto s23 = hn::BitCast(du64, hn::InterleaveEven(di, s2, s3));
  const VI32 sums = hn::Add(hn::BitCast(di, hn::InterleaveLower(du64, s01, s23)),
                            hn::BitCast(di, hn::InterleaveUpper(du64, s01, s23)));
  const size_t parts = hn::Lanes(di) / 4;
  const VI32 lane = hn::Iota(di, 0);
  const VI32 part = hn::And(lane, hn::Set(di, static_cast<int32_t>(parts - 1)));
  const VI32 vector = hn::ShiftRightSame(lane, parts == 4 ? 2 : parts == 2 ? 1 : 0);
  const auto order = hn::IndicesFromVec(di, hn::Add(hn::ShiftLeft<2>(part), vector));
  return hn::TableLookupLanes(hn::Sub(sums, hn::Set(di, 16 * 128)), order);
}

// The codes of a piece where quantize_q8 wants them, and their sums.
HWY_INLINE void CodesOf(const Layout& layout, const Piece& piece, Terms* terms) {
  const DI8 di8;
  const hn::Half<DI8> half;
  const size_t lanes = hn::Lanes(DF32());
  const size_t x_step = layout.x_step, code_step = layout.code_step;
  const bool side_by_side = code_step == kBlock;
  for (size_t block = 0; block < 4 * piece.fours; block += lanes / 2) {
    // Four vectors of bytes: with 4 lanes half a four, with 16 two.
    const size_t b0 = piece.Block(layout, block / 4), b1 = piece.Block(layout, block / 4 + 1);
    const float* x[2] = {piece.x + b0 * layout.x_next + block % 4 * x_step,
                         piece.x + b1 * layout.x_next};
    int8_t* codes[2] = {piece.codes + b0 * layout.code_next + block % 4 * code_step,
                        piece.codes + b1 * layout.code_next};
    const auto codes_at = [&](size_t i) HWY_ATTR {
      const size_t b = i / kBlock;
      return Codes(x[b / 4] + b % 4 * x_step + i % kBlock, terms->inverse[block + b]);
    };
    const auto sums_of = [&](size_t i) HWY_ATTR {
      const VI8 bytes = CodeBytes(codes_at(i), codes_at(i + lanes), codes_at(i + 2 * lanes),
                                  codes_at(i + 3 * lanes));
      const size_t b = i / kBlock;
      int8_t* out = codes[b / 4] + b % 4 * code_step;
      if (hn::Lanes(di8) <= kBlock || side_by_side) {
        hn::StoreU(bytes, di8, out + i % kBlock);
      } else {
        hn::StoreU(hn::LowerHalf(half, bytes), half, out);
        hn::StoreU(hn::UpperHalf(half, bytes), half, out + code_step);
      }
      return CodeSums8(bytes);
    };
    const VI32 s0 = sums_of(0), s1 = sums_of(4 * lanes);
    const VI32 s2 = sums_of(8 * lanes), s3 = sums_of(12 * lanes);
    hn::Store(CodeSums16(s0, s1, s2, s3), DI32(), terms->sums + 2 * block);
  }
}

// Where there is a NaN or an infinity, all codes are 0.
HWY_NOINLINE void ZeroBroken(const Layout& layout, const Piece& piece, Terms* terms) {
  for (size_t i = 0; i < 4 * piece.fours; ++i) {
    if (terms->scale[i] == terms->scale[i]) continue;
    std::memset(
        piece.codes + piece.Block(layout, i / 4) * layout.code_next + i % 4 * layout.code_step, 0,
        kBlock);
    terms->sums[2 * i] = terms->sums[2 * i + 1] = 0;
  }
}

// The scales and the sums of a piece where quantize_q8 wants them.
HWY_INLINE void Place(const Layout& layout, const Piece& piece, const Terms& terms) {
  const hn::CappedTag<float, 4> df;
  const hn::CappedTag<int32_t, 4> di;
  float* scales = piece.scales;
  int32_t* sums = piece.sums;
  for (size_t i = 0; i < 4 * piece.fours; i += 4) {
    const float* scale = terms.scale + i;
    const int32_t* sum = terms.sums + 2 * i;
    if (layout.sum_step == 1) {  // of four rows
      hn::Vec<decltype(di)> first, second;
      hn::LoadInterleaved2(di, sum, first, second);
      hn::StoreU(hn::Load(df, scale), df, scales);
      hn::StoreU(first, di, sums);
      hn::StoreU(second, di, sums + layout.sum_half);
    } else if (layout.scale_step == 1) {  // one row, and no other beside it
      hn::StoreU(hn::Load(df, scale), df, scales);
      hn::StoreU(hn::Load(di, sum), di, sums);
      hn::StoreU(hn::Load(di, sum + 4), di, sums + 4);
    } else {
      for (size_t j = 0; j < 4; ++j) {
        scales[j * layout.scale_step] = scale[j];
        sums[j * layout.sum_step] = sum[2 * j];
        sums[j * layout.sum_step + layout.sum_half] = sum[2 * j + 1];
      }
    }
    scales += layout.blocks * layout.scale_next;
    sums += layout.blocks * layout.sum_next;
  }
}

// `blocks` blocks, layout.blocks or more, of each of `rows` rows, four rows at a time if a four is
// of rows: piece by piece. A struct, since GCC leaves a lambda that is used several times a call.
struct Pieces {
  const Layout& layout;
  const float* x;
  size_t x_stride, rows, blocks;
  int8_t* codes;
  float* scales;
  int32_t* sums;
  size_t row = 0, block = 0;  // where the next one starts

  HWY_INLINE bool Done() const { return row >= rows; }

  HWY_INLINE Piece Next() {
    const size_t most = hn::Lanes(DF32()) / 4;
    const Piece piece = {
        x + row * x_stride + block * layout.x_next, codes + row * kBlock + block * layout.code_next,
        scales + row + block * layout.scale_next, sums + row + block * layout.sum_next,
        HWY_MIN(most, (blocks - block) / layout.blocks)};
    block += piece.fours * layout.blocks;
    if (block == blocks) {
      block = 0, row += 4;
    } else if (blocks - block < layout.blocks) {
      block = blocks - layout.blocks;  // some once more
    }
    return piece;
  }
};

HWY_INLINE void QuantizeFours(Pieces pieces) {
  const Layout& layout = pieces.layout;
  Terms terms[2];
  Piece before = {}, piece = pieces.Next();
  ScalesOf(Maxima(layout, piece), &terms[0]);
  for (size_t turn = 0;; turn ^= 1) {
    const bool last = pieces.Done();
    const Piece next = last ? piece : pieces.Next();
    const VU32 maxima = last ? hn::Zero(DU32()) : Maxima(layout, next);
    Place(layout, before, terms[turn ^ 1]);
    CodesOf(layout, piece, &terms[turn]);
    if (HWY_UNLIKELY(terms[turn].broken)) ZeroBroken(layout, piece, &terms[turn]);
    if (last) return Place(layout, piece, terms[turn]);
    ScalesOf(maxima, &terms[turn ^ 1]);
    before = piece;
    piece = next;
  }
}

// The three layouts, each compiled by itself with what is constant in it.

// Rows by fours, a block of each beside those of the others.
HWY_NOINLINE void QuantizeBeside(const float* x, size_t x_stride, size_t rows, size_t blocks,
                                 size_t code_stride, int8_t* codes, size_t stride, float* scales,
                                 int32_t* sums) {
  const Layout beside = {1,      x_stride,    kBlock, 1,          1,
                         kBlock, code_stride, stride, 2 * stride, stride};
  QuantizeFours({beside, x, x_stride, rows, blocks, codes, scales, sums});
}

// One block of all rows, then the next.
HWY_NOINLINE void QuantizeDown(const float* x, size_t x_stride, size_t rows, size_t blocks,
                               size_t code_stride, int8_t* codes, size_t stride, float* scales,
                               int32_t* sums) {
  const Layout down = {4, x_stride, kBlock, 1, 1, x_stride, kBlock, 1, 1, stride};
  for (size_t b = 0; b < blocks; ++b) {
    QuantizeFours({down, x + b * kBlock, 0, 1, rows, codes + b * code_stride, scales + b * stride,
                   sums + 2 * b * stride});
  }
}

// One row.
HWY_NOINLINE void QuantizeAlong(const float* x, size_t blocks, size_t code_stride, int8_t* codes,
                                size_t stride, float* scales, int32_t* sums) {
  const Layout along = {4,      kBlock,      code_stride, stride,     2 * stride,
                        kBlock, code_stride, stride,      2 * stride, stride};
  QuantizeFours({along, x, 0, 1, blocks, codes, scales, sums});
}

// One to three blocks of a row: as four of its own, the others zeros.
HWY_NOINLINE void QuantizeFew(const float* x, size_t blocks, size_t code_stride, int8_t* codes,
                              size_t stride, float* scales, int32_t* sums) {
  float four[4 * kBlock] = {};
  int8_t four_codes[4 * kBlock];
  float four_scales[4];
  int32_t four_sums[8];
  std::memcpy(four, x, blocks * kBlock * sizeof(float));
  QuantizeAlong(four, 4, kBlock, four_codes, 1, four_scales, four_sums);
  for (size_t b = 0; b < blocks; ++b) {
    std::memcpy(codes + b * code_stride, four_codes + b * kBlock, kBlock);
    scales[b * stride] = four_scales[b];
    sums[2 * b * stride] = four_sums[2 * b];
    sums[(2 * b + 1) * stride] = four_sums[2 * b + 1];
  }
}

void QuantizeQ8Rows(const float* x, size_t x_stride, size_t rows, size_t blocks, size_t code_stride,
                    int8_t* codes, size_t stride, float* scales, int32_t* sums) {
  // Fewer blocks than make a vector of four rows.
  if (rows >= 4 && blocks < hn::Lanes(DF32()) / 4) {
    return QuantizeDown(x, x_stride, rows, blocks, code_stride, codes, stride, scales, sums);
  }
  const size_t in_fours = rows / 4 * 4;
  if (in_fours > 0 && blocks > 0) {
    QuantizeBeside(x, x_stride, in_fours, blocks, code_stride, codes, stride, scales, sums);
  }
  for (size_t row = in_fours; row < rows; ++row) {
    const float* row_x = x + row * x_stride;
    int8_t* row_codes = codes + row * kBlock;
    if (blocks < 4) {
      QuantizeFew(row_x, blocks, code_stride, row_codes, stride, scales + row, sums + row);
    } else {
      QuantizeAlong(row_x, blocks, code_stride, row_codes, stride, scales + row, sums + row);
    }
  }
}

void QuantizeQ8(const float* x, size_t blocks, size_t code_stride, int8_t* codes, size_t stride,
                float* scales, int32_t* sums) {
  QuantizeQ8Rows(x, 0, 1, blocks, code_stride, codes, stride, scales, sums);
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
  static constexpr RowKernels kKernels = {
      t::RmsNorm, t::Rope,   t::Softmax,    t::SiluMul,        t::GeluMul,
      t::Add,     t::Argmax, t::QuantizeQ8, t::QuantizeQ8Rows, t::ToBF16Pairs};
  return kKernels;
}

}  // namespace hob

#if HWY_ONCE
namespace hob {

const RowKernels& RowsFor(Target target) {
  namespace r = reference;
  static constexpr RowKernels kScalarKernels = {
      r::RmsNorm, r::Rope,   r::Softmax,    r::SiluMul,        r::GeluMul,
      r::Add,     r::Argmax, r::QuantizeQ8, r::QuantizeQ8Rows, r::ToBF16Pairs};
  return FindKernels<RowKernels, HWY_TARGETS>(target, kScalarKernels);
}

const RowKernels& Rows() { return RowsFor(ActiveTarget()); }

}  // namespace hob
#endif  // HWY_ONCE
