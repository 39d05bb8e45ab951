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
// A piece at a time, as many blocks as a vector has lanes: their largest magnitudes, from those
// their scales, then the codes. The magnitudes of the next piece come before the codes of the one
// in front of it, and its scales after, so that nothing waits for the divisions.
//
// Blocks come in fours: four one behind the other in a row, or the same block of four rows, whose
// scales and sums lie side by side.

// How far it is from one thing to the next, in each array.
struct Steps {
  size_t x, codes, scales, sums;
};

struct Layout {
  bool of_rows;       // whether a four is of rows
  size_t sum_half;    // from a block's first sum to its second
  Steps block, four;  // from one block of a four to the next, and from one four to the next

  // Pieces are `piece` units long and lie in lines of `count` units, piece or more; the last one of
  // a line takes some once more if they do not divide it.
  size_t lines, count, piece;
  Steps unit, line;
};

// Where a piece is.
struct Piece {
  const float* x;
  int8_t* codes;
  float* scales;
  int32_t* sums;

  HWY_INLINE Piece Plus(size_t n, const Steps& steps) const {
    return {x + n * steps.x, codes + n * steps.codes, scales + n * steps.scales,
            sums + n * steps.sums};
  }
};

// What comes out of a piece, besides codes.
struct Terms {
  HWY_ALIGN int32_t sums[2 * kPanel];  // [block][2], or [four][2][4] (SumsByFours)
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

// The largest magnitudes of all blocks of a piece.
HWY_INLINE VU32 Maxima(const Layout& layout, const float* x) {
  const DU32 du;
  const size_t lanes = hn::Lanes(du), step = layout.block.x, four = layout.four.x;
  const VU32 m0 = MaximaOf4(x, step);
  if (lanes == 4) return m0;
  const VU32 m1 = MaximaOf4(x + four, step);
  if (lanes == 8) {
    return hn::Max(hn::ConcatLowerLower(du, m1, m0), hn::ConcatUpperUpper(du, m1, m0));
  }
  return MaximaOfParts(du, m0, m1, MaximaOf4(x + 2 * four, step), MaximaOf4(x + 3 * four, step));
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
  return hn::BitCast(DU32(),
                     hn::MulAdd(hn::LoadU(df, x), SpreadFloat(inverse), hn::Set(df, kRound)));
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

// Whether the sums of a four of rows lie together as soon as they are made: all first ones, then
// all second ones. Not where a four's take two vectors.
HWY_INLINE bool SumsByFours(const Layout& layout) {
  return layout.of_rows && hn::Lanes(DI32()) > 4;
}

// Which block's sum belongs into each lane, counted [block][2].
HWY_INLINE VI32 SumOrder(bool by_fours) {
  const DI32 di;
  const VI32 lane = hn::Iota(di, 0);
  if (!by_fours) return lane;
  const VI32 row = hn::And(lane, hn::Set(di, 3)), second = hn::And(lane, hn::Set(di, 4));
  const VI32 in_four = hn::Add(hn::Add(row, row), hn::ShiftRight<2>(second));
  return hn::Or(hn::And(lane, hn::Set(di, ~7)), in_four);
}

// Of four vectors of such sums, those of 16: one vector's after the other's, or by fours.
HWY_INLINE VI32 CodeSums16(VI32 s0, VI32 s1, VI32 s2, VI32 s3, bool by_fours) {
  const DI32 di;
  const hn::Repartition<uint64_t, DI32> du64;
  // In each 128 bits a sum of each vector: 0 1 0 1 and 2 3 2 3, then 0 1 2 3.
  const auto s01 = hn::BitCast(du64, hn::InterleaveEven(di, s0, s1));
  const auto s23 = hn::BitCast(du64, hn::InterleaveEven(di, s2, s3));
  const VI32 sums = hn::Add(hn::BitCast(di, hn::InterleaveLower(du64, s01, s23)),
                            hn::BitCast(di, hn::InterleaveUpper(du64, s01, s23)));
  const size_t parts = hn::Lanes(di) / 4;
  const VI32 wanted = SumOrder(by_fours);
  const VI32 part = hn::And(wanted, hn::Set(di, static_cast<int32_t>(parts - 1)));
  const VI32 vector = hn::ShiftRightSame(wanted, parts == 4 ? 2 : parts == 2 ? 1 : 0);
  const auto order = hn::IndicesFromVec(di, hn::Add(hn::ShiftLeft<2>(part), vector));
  return hn::TableLookupLanes(hn::Sub(sums, hn::Set(di, 16 * 128)), order);
}

// The codes of a vector of elements, those from i of a piece. Functions, since GCC leaves a lambda
// that is used several times a call.
HWY_INLINE VU32 CodesAt(const Layout& layout, const Piece& piece, const float* inverse, size_t i) {
  const size_t b = i / kBlock;
  return Codes(piece.x + b / 4 * layout.four.x + b % 4 * layout.block.x + i % kBlock, inverse[b]);
}

// Those of the next four vectors where quantize_q8 wants them; the sums of each 8.
HWY_INLINE VI32 PlaceCodes(const Layout& layout, const Piece& piece, const float* inverse,
                           size_t i) {
  const DI8 di8;
  const hn::Half<DI8> half;
  const size_t lanes = hn::Lanes(DF32()), b = i / kBlock;
  const VI8 bytes =
      CodeBytes(CodesAt(layout, piece, inverse, i), CodesAt(layout, piece, inverse, i + lanes),
                CodesAt(layout, piece, inverse, i + 2 * lanes),
                CodesAt(layout, piece, inverse, i + 3 * lanes));
  int8_t* out = piece.codes + b / 4 * layout.four.codes + b % 4 * layout.block.codes;
  if (hn::Lanes(di8) <= kBlock || layout.block.codes == kBlock) {
    hn::StoreU(bytes, di8, out + i % kBlock);
  } else {
    hn::StoreU(hn::LowerHalf(half, bytes), half, out);
    hn::StoreU(hn::UpperHalf(half, bytes), half, out + layout.block.codes);
  }
  return CodeSums8(bytes);
}

// The codes of half a piece, from element i, and their sums.
HWY_INLINE void CodesOfHalf(const Layout& layout, const Piece& piece, size_t i, Terms* terms) {
  const size_t next = 4 * hn::Lanes(DF32());
  const VI32 s0 = PlaceCodes(layout, piece, terms->inverse, i);
  const VI32 s1 = PlaceCodes(layout, piece, terms->inverse, i + next);
  const VI32 s2 = PlaceCodes(layout, piece, terms->inverse, i + 2 * next);
  const VI32 s3 = PlaceCodes(layout, piece, terms->inverse, i + 3 * next);
  const VI32 sums = CodeSums16(s0, s1, s2, s3, SumsByFours(layout));
  hn::Store(sums, DI32(), terms->sums + 2 * i / kBlock);
}

// One half after the other. Not a loop, which GCC would not unroll: then no offset is a constant.
HWY_INLINE void CodesOf(const Layout& layout, const Piece& piece, Terms* terms) {
  CodesOfHalf(layout, piece, 0, terms);
  CodesOfHalf(layout, piece, hn::Lanes(DF32()) / 2 * kBlock, terms);
}

// Where there is a NaN or an infinity, all codes are 0. Steps are passed by value, so that nothing
// of the loop that calls it has to be in memory.
HWY_NOINLINE void ZeroBroken(size_t block_codes, size_t four_codes, bool sums_by_fours,
                             int8_t* codes, Terms* terms) {
  for (size_t b = 0; b < hn::Lanes(DF32()); ++b) {
    if (terms->scale[b] == terms->scale[b]) continue;
    std::memset(codes + b / 4 * four_codes + b % 4 * block_codes, 0, kBlock);
    int32_t* sums = terms->sums + (sums_by_fours ? b / 4 * 8 + b % 4 : 2 * b);
    sums[0] = sums[sums_by_fours ? 4 : 1] = 0;
  }
}

// The scales and the sums of a piece where quantize_q8 wants them.
HWY_INLINE void Place(const Layout& layout, const Piece& piece, const Terms& terms) {
  const DF32 df;
  const DI32 di;
  const size_t lanes = hn::Lanes(df);
  if (layout.of_rows) {
    const hn::CappedTag<float, 4> df4;
    const hn::CappedTag<int32_t, 4> di4;
    for (size_t i = 0; i < lanes / 4; ++i) {
      const Piece four = piece.Plus(i, layout.four);
      hn::Vec<decltype(di4)> first, second;
      if (SumsByFours(layout)) {
        first = hn::Load(di4, terms.sums + 8 * i);
        second = hn::Load(di4, terms.sums + 8 * i + 4);
      } else {
        hn::LoadInterleaved2(di4, terms.sums + 8 * i, first, second);
      }
      hn::StoreU(hn::Load(df4, terms.scale + 4 * i), df4, four.scales);
      hn::StoreU(first, di4, four.sums);
      hn::StoreU(second, di4, four.sums + layout.sum_half);
    }
  } else if (layout.block.scales == 1) {
    hn::StoreU(hn::Load(df, terms.scale), df, piece.scales);
    hn::StoreU(hn::Load(di, terms.sums), di, piece.sums);
    hn::StoreU(hn::Load(di, terms.sums + lanes), di, piece.sums + lanes);
  } else {
    for (size_t b = 0; b < lanes; ++b) {
      const Piece block = piece.Plus(b, layout.block);
      *block.scales = terms.scale[b];
      block.sums[0] = terms.sums[2 * b];
      block.sums[layout.sum_half] = terms.sums[2 * b + 1];
    }
  }
}

HWY_INLINE void QuantizePieces(const Layout& layout, const Piece& first) {
  Terms terms[2];
  Piece piece = first;
  ScalesOf(Maxima(layout, piece.x), &terms[0]);
  size_t line = 0, at = 0;
  for (size_t turn = 0;; turn ^= 1) {
    const size_t step = HWY_MIN(layout.piece, layout.count - layout.piece - at);
    at = step == 0 ? 0 : at + step;
    if (step == 0) ++line;
    const bool last = line == layout.lines;
    const Piece next = first.Plus(line, layout.line).Plus(at, layout.unit);
    const VU32 maxima = last ? hn::Zero(DU32()) : Maxima(layout, next.x);
    CodesOf(layout, piece, &terms[turn]);
    if (HWY_UNLIKELY(terms[turn].broken)) {
      ZeroBroken(layout.block.codes, layout.four.codes, SumsByFours(layout), piece.codes,
                 &terms[turn]);
    }
    Place(layout, piece, terms[turn]);
    if (last) return;
    ScalesOf(maxima, &terms[turn ^ 1]);
    piece = next;
  }
}

// Three layouts, each compiled by itself with what is constant in it.

// Rows by fours, a block of each beside those of the others: a unit is a four, a line four rows of
// at least lanes / 4 blocks. What is left of the rows is not done.
HWY_NOINLINE void QuantizeBeside(const float* x, size_t x_stride, size_t rows, size_t blocks,
                                 size_t code_stride, int8_t* codes, size_t stride, float* scales,
                                 int32_t* sums) {
  const Steps down = {x_stride, kBlock, 1, 1}, four_down = {4 * x_stride, 4 * kBlock, 4, 4};
  const Steps along = {kBlock, code_stride, stride, 2 * stride};
  QuantizePieces(
      {true, stride, down, along, rows / 4, blocks, hn::Lanes(DF32()) / 4, along, four_down},
      {x, codes, scales, sums});
}

// One block of all rows, then the next: a unit is a block, a line at least `lanes` rows.
HWY_NOINLINE void QuantizeDown(const float* x, size_t x_stride, size_t rows, size_t blocks,
                               size_t code_stride, int8_t* codes, size_t stride, float* scales,
                               int32_t* sums) {
  const Steps down = {x_stride, kBlock, 1, 1}, four_down = {4 * x_stride, 4 * kBlock, 4, 4};
  const Steps along = {kBlock, code_stride, stride, 2 * stride};
  QuantizePieces({true, stride, down, four_down, blocks, rows, hn::Lanes(DF32()), down, along},
                 {x, codes, scales, sums});
}

// One row: a unit is a block, and there are at least `lanes` of them.
HWY_INLINE void Along(const float* x, size_t blocks, size_t code_stride, int8_t* codes,
                      size_t stride, float* scales, int32_t* sums) {
  const Steps along = {kBlock, code_stride, stride, 2 * stride};
  const Steps four_along = {4 * kBlock, 4 * code_stride, 4 * stride, 8 * stride};
  QuantizePieces({false, stride, along, four_along, 1, blocks, hn::Lanes(DF32()), along, {}},
                 {x, codes, scales, sums});
}
HWY_NOINLINE void QuantizeRowOfSome(const float* x, size_t blocks, size_t code_stride,
                                    int8_t* codes, size_t stride, float* scales, int32_t* sums) {
  Along(x, blocks, code_stride, codes, stride, scales, sums);
}
HWY_NOINLINE void QuantizeOnlyRow(const float* x, size_t blocks, int8_t* codes, float* scales,
                                  int32_t* sums) {
  Along(x, blocks, kBlock, codes, 1, scales, sums);
}

// Fewer blocks of a row than a vector has lanes: with zeros behind them.
HWY_NOINLINE void QuantizeFew(const float* x, size_t blocks, size_t code_stride, int8_t* codes,
                              size_t stride, float* scales, int32_t* sums) {
  float all_x[kPanel * kBlock] = {};
  int8_t all_codes[kPanel * kBlock];
  float all_scales[kPanel];
  int32_t all_sums[2 * kPanel];
  std::memcpy(all_x, x, blocks * kBlock * sizeof(float));
  QuantizeOnlyRow(all_x, hn::Lanes(DF32()), all_codes, all_scales, all_sums);
  for (size_t b = 0; b < blocks; ++b) {
    std::memcpy(codes + b * code_stride, all_codes + b * kBlock, kBlock);
    scales[b * stride] = all_scales[b];
    sums[2 * b * stride] = all_sums[2 * b];
    sums[(2 * b + 1) * stride] = all_sums[2 * b + 1];
  }
}

void QuantizeQ8Rows(const float* x, size_t x_stride, size_t rows, size_t blocks, size_t code_stride,
                    int8_t* codes, size_t stride, float* scales, int32_t* sums) {
  const size_t lanes = hn::Lanes(DF32());
  if (blocks == 0) return;
  size_t row = 0;
  if (rows >= 4 && blocks >= lanes / 4) {
    QuantizeBeside(x, x_stride, rows, blocks, code_stride, codes, stride, scales, sums);
    row = rows / 4 * 4;
  } else if (rows >= lanes) {
    QuantizeDown(x, x_stride, rows, blocks, code_stride, codes, stride, scales, sums);
    row = rows;
  }
  for (; row < rows; ++row) {
    const float* row_x = x + row * x_stride;
    int8_t* row_codes = codes + row * kBlock;
    if (blocks < lanes) {
      QuantizeFew(row_x, blocks, code_stride, row_codes, stride, scales + row, sums + row);
    } else if (stride == 1 && code_stride == kBlock) {
      QuantizeOnlyRow(row_x, blocks, row_codes, scales + row, sums + row);
    } else {
      QuantizeRowOfSome(row_x, blocks, code_stride, row_codes, stride, scales + row, sums + row);
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
    const VF32 x0 = hn::LoadU(df, x + i), x1 = hn::LoadU(df, x + i + hn::Lanes(df));
    hn::StoreU(BF16Pairs(x0, x1), du, out + i / 2);
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
