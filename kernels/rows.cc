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

// out = A(gate) * up.
template <class A>
HWY_INLINE void ActivateMul(const float* gate, const float* up, size_t n, float* out) {
  const DF32 df;
  const size_t lanes = hn::Lanes(df);
  size_t j = 0;
  for (; j + 2 * lanes <= n; j += 2 * lanes) {
    VF32 v0 = hn::LoadU(df, gate + j), v1 = hn::LoadU(df, gate + j + lanes);
    A::Apply(v0, v1);
    v0 = hn::Mul(v0, hn::LoadU(df, up + j));
    v1 = hn::Mul(v1, hn::LoadU(df, up + j + lanes));
    hn::StoreU(v0, df, out + j);
    hn::StoreU(v1, df, out + j + lanes);
  }
  for (; j < n; j += lanes) {
    VF32 v = hn::LoadN(df, gate + j, n - j), unused = v;
    A::Apply(v, unused);
    hn::StoreN(hn::Mul(v, hn::LoadN(df, up + j, n - j)), df, out + j, n - j);
  }
}

struct SiluOf {
  static HWY_INLINE void Apply(VF32& x0, VF32& x1) { Silu(x0, x1); }
};

struct GeluOf {
  static HWY_INLINE void Apply(VF32& x0, VF32& x1) { Gelu(x0, x1); }
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
// Chunks of at most 32 blocks of a row: the largest magnitudes of all blocks, then their scales, as
// vectors, then the codes. A chunk's magnitudes come before the codes of the chunk in front of it,
// which may be of another row, and its scales after them, so that nothing waits for the memory
// between the steps or for the divisions.

constexpr size_t kChunk = 32;

struct Chunk {
  HWY_ALIGN uint32_t amax[kChunk] = {};  // bits
  HWY_ALIGN float scale[kChunk];
  HWY_ALIGN float inverse[kChunk];  // 127 / amax
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

HWY_INLINE void ChunkMaxima(const float* x, size_t blocks, Chunk* chunk) {
  const DU32 du;
  const hn::Repartition<uint64_t, DU32> du64;
  const hn::CappedTag<uint32_t, 4> d4;
  HWY_ALIGN uint32_t parts[kPanel];
  // Four at a time, the last block again where there are no more.
  for (size_t b = 0; b < blocks; b += 4) {
    const size_t last = blocks - 1 - b;
    const float* p = x + b * kBlock;
    const VU32 m0 = BlockMax(p), m1 = BlockMax(p + HWY_MIN(last, 1) * kBlock);
    const VU32 m2 = BlockMax(p + HWY_MIN(last, 2) * kBlock);
    const VU32 m3 = BlockMax(p + HWY_MIN(last, 3) * kBlock);
    // In each 128 bits: 0 1 0 1 and 2 3 2 3, then 0 1 2 3.
    const VU32 m01 = hn::Max(hn::InterleaveLower(du, m0, m1), hn::InterleaveUpper(du, m0, m1));
    const VU32 m23 = hn::Max(hn::InterleaveLower(du, m2, m3), hn::InterleaveUpper(du, m2, m3));
    const auto w01 = hn::BitCast(du64, m01), w23 = hn::BitCast(du64, m23);
    hn::Store(hn::Max(hn::BitCast(du, hn::InterleaveLower(du64, w01, w23)),
                      hn::BitCast(du, hn::InterleaveUpper(du64, w01, w23))),
              du, parts);
    // Shuffles are what there is most of already; loads cost nothing here.
    KeepInMemory(parts);
    auto max = hn::Load(d4, parts);
    for (size_t i = 4; i < hn::Lanes(du); i += 4) max = hn::Max(max, hn::Load(d4, parts + i));
    hn::Store(max, d4, chunk->amax + b);
  }
}

// The same as reference::Q8Scale.
HWY_INLINE void ChunkScales(size_t blocks, Chunk* chunk) {
  const DF32 df;
  const DI32 di;
  const DU32 du;
  auto broken = hn::MaskFalse(df);
  for (size_t b = 0; b < blocks; b += hn::Lanes(df)) {
    const VI32 bits = hn::BitCast(di, hn::Load(du, chunk->amax + b));
    const VF32 amax = hn::BitCast(df, bits);
    const auto no_number = hn::RebindMask(df, hn::Gt(bits, hn::Set(di, 0x7F7FFFFF)));
    const VF32 inverse = hn::Div(hn::Set(df, 127.0f), amax);
    const auto too_small = hn::Eq(inverse, hn::Set(df, HUGE_VALF));  // 0 too
    const VF32 scale = hn::IfThenZeroElse(too_small, hn::Div(amax, hn::Set(df, 127.0f)));
    const VF32 nan = hn::BitCast(df, hn::Set(du, 0x7FC00000u));
    hn::Store(hn::IfThenElse(no_number, nan, scale), df, chunk->scale + b);
    hn::Store(hn::IfThenZeroElse(hn::Or(no_number, too_small), inverse), df, chunk->inverse + b);
    broken = hn::Or(broken, no_number);
  }
  chunk->broken = !hn::AllFalse(df, broken);
}

// The codes of one vector, in the low byte of each lane: x * inverse is at most 127.00001 in
// magnitude, or else NaN, which makes any code.
HWY_INLINE VU32 Codes(const float* x, float inverse) {
  const DF32 df;
  const VF32 product = hn::Mul(hn::LoadU(df, x), hn::Set(df, inverse));
  return hn::BitCast(DU32(), hn::Add(product, hn::Set(df, kRound)));
}

// Sums of 8 codes of a chunk, each 128 too large, so that none is negative. What lies behind them
// is loaded, too, and not used.
struct Eights {
  HWY_ALIGN uint64_t sum[kChunk * kBlock / 8] = {};
};

// The codes and the sums of a chunk where quantize_q8 wants them.
HWY_INLINE void ChunkCodes(const float* x, size_t blocks, const Chunk& chunk, size_t code_stride,
                           int8_t* codes, size_t stride, float* scales, int32_t* sums,
                           Eights* eights) {
  const DF32 df;
  const DI32 di;
  const DI8 di8;
  const DU8 du8;
  const hn::Repartition<uint64_t, DU8> du64;
  const hn::Half<DI8> half;
  const size_t lanes = hn::Lanes(df);
  // Four vectors make one of bytes: half a block, one, or two, the last one again if it is alone.
  const size_t step = HWY_MAX(kBlock, 4 * lanes);
  for (size_t b = 0; b < blocks; b += step / kBlock) {
    const size_t next = HWY_MIN(b + 1, blocks - 1);
    for (size_t j = 0; j < step; j += 4 * lanes) {
      const auto codes_at = [&](size_t at) HWY_ATTR {
        const size_t block = at < kBlock ? b : next;
        return Codes(x + block * kBlock + at % kBlock, chunk.inverse[block]);
      };
      const hn::RebindToUnsigned<DI16> du16;
      const auto low = hn::OrderedTruncate2To(du16, codes_at(j), codes_at(j + lanes));
      const auto high =
          hn::OrderedTruncate2To(du16, codes_at(j + 2 * lanes), codes_at(j + 3 * lanes));
      const VI8 q = hn::BitCast(di8, hn::OrderedTruncate2To(du8, low, high));
      const VU8 above_zero = hn::Xor(hn::BitCast(du8, q), hn::Set(du8, uint8_t{128}));
      hn::Store(hn::SumsOf8(above_zero), du64, eights->sum + (b * kBlock + j) / 8);
      if (hn::Lanes(di8) <= kBlock) {
        hn::StoreU(q, di8, codes + b * code_stride + j);
      } else {
        hn::StoreU(hn::LowerHalf(half, q), half, codes + b * code_stride);
        hn::StoreU(hn::UpperHalf(half, q), half, codes + next * code_stride);
      }
    }
  }
  HWY_ALIGN int32_t sixteens[kChunk * 2];
  for (size_t i = 0; i < 2 * blocks; i += lanes) {
    const uint64_t* e = eights->sum + 2 * i;
    const auto e0 = hn::Load(du64, e), e1 = hn::Load(du64, e + lanes / 2);
    const auto e2 = hn::Load(du64, e + lanes), e3 = hn::Load(du64, e + lanes + lanes / 2);
    const auto low = hn::Add(hn::ConcatEven(du64, e1, e0), hn::ConcatOdd(du64, e1, e0));
    const auto high = hn::Add(hn::ConcatEven(du64, e3, e2), hn::ConcatOdd(du64, e3, e2));
    const VI32 both = hn::ConcatEven(di, hn::BitCast(di, high), hn::BitCast(di, low));
    hn::Store(hn::Sub(both, hn::Set(di, 16 * 128)), di, sixteens + i);
  }
  if (stride == 1) {
    for (size_t i = 0; i < blocks; i += lanes) {
      hn::StoreN(hn::Load(df, chunk.scale + i), df, scales + i, blocks - i);
    }
    for (size_t i = 0; i < 2 * blocks; i += lanes) {
      hn::StoreN(hn::Load(di, sixteens + i), di, sums + i, 2 * blocks - i);
    }
  } else {
    for (size_t b = 0; b < blocks; ++b) scales[b * stride] = chunk.scale[b];
    for (size_t i = 0; i < 2 * blocks; ++i) sums[i * stride] = sixteens[i];
  }
}

// Where there is a NaN or an infinity, all codes are 0.
HWY_NOINLINE void ZeroBroken(size_t blocks, const Chunk& chunk, size_t code_stride, int8_t* codes,
                             size_t stride, int32_t* sums) {
  for (size_t b = 0; b < blocks; ++b) {
    if (chunk.scale[b] == chunk.scale[b]) continue;
    std::memset(codes + b * code_stride, 0, kBlock);
    sums[2 * b * stride] = sums[(2 * b + 1) * stride] = 0;
  }
}

// Some blocks of a row, at most a chunk.
struct Piece {
  const float* x;
  size_t blocks;
  int8_t* codes;
  float* scales;
  int32_t* sums;
};

void QuantizeQ8Rows(const float* x, size_t x_stride, size_t rows, size_t blocks, size_t code_stride,
                    int8_t* codes, size_t stride, float* scales, int32_t* sums) {
  Chunk chunks[2];
  Eights eights;
  Chunk* chunk = &chunks[0];
  Chunk* ahead = &chunks[1];
  size_t row = 0, first = 0;
  const auto next_piece = [&]() -> Piece {
    if (row == rows || blocks == 0) return {};
    const Piece piece = {x + row * x_stride + first * kBlock, HWY_MIN(kChunk, blocks - first),
                         codes + row * kBlock + first * code_stride, scales + row + first * stride,
                         sums + row + 2 * first * stride};
    first += piece.blocks;
    if (first == blocks) first = 0, ++row;
    return piece;
  };
  Piece piece = next_piece();
  ChunkMaxima(piece.x, piece.blocks, chunk);
  ChunkScales(piece.blocks, chunk);
  while (piece.blocks > 0) {
    const Piece next = next_piece();
    ChunkMaxima(next.x, next.blocks, ahead);
    ChunkCodes(piece.x, piece.blocks, *chunk, code_stride, piece.codes, stride, piece.scales,
               piece.sums, &eights);
    ChunkScales(next.blocks, ahead);
    if (HWY_UNLIKELY(chunk->broken)) {
      ZeroBroken(piece.blocks, *chunk, code_stride, piece.codes, stride, piece.sums);
    }
    piece = next;
    std::swap(chunk, ahead);
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
