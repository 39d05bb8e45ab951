// The registers: the innermost loops of every matmul and of attention. One lane is one output, k
// runs upward, activations are broadcast, so there is no horizontal sum and no shuffle, and an
// output is the same chain of operations whatever the vector length.
//
// A "slice" is one vector of outputs: a panel of 16 outputs is 1 slice on AVX-512, 2 on AVX2, 4 on
// NEON. Tiles work on two slices at a time. Every vector is a named local: GCC keeps arrays of
// vectors in memory, and vectors of SVE cannot be in arrays at all.
//
// Called from matmul-inl.h (weights) and attention.cc (keys and values). docs/matmul.md has the
// picture.

#include <cstddef>
#include <cstdint>

#include "kernels/rows.h"  // kBlock

#if defined(HOB_KERNELS_TILE_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef HOB_KERNELS_TILE_INL_H_
#undef HOB_KERNELS_TILE_INL_H_
#else
#define HOB_KERNELS_TILE_INL_H_
#endif

#include "kernels/math-inl.h"

HWY_BEFORE_NAMESPACE();
namespace hob {
namespace HWY_NAMESPACE {

// ---------------------------------------------------------------- values: f32, f16, bf16
//
// An element says how a group of k is loaded and accumulated:
//   W  what a lane of weights holds for one group; X  the same of activations
//   Load(const W*) one slice of weights;  Spread(X) activations in every lane;  Step(acc, w, x)
//   Scope: alive around the loop;  Start(acc): what the first accumulator goes through

struct ElementF32 {
  using W = float;
  using X = float;
  struct Scope {
    HWY_INLINE Scope() {}
  };
  static HWY_INLINE VF32 Load(const W* w) { return hn::LoadU(DF32(), w); }
  static HWY_INLINE VF32 Spread(X x) { return hn::Set(DF32(), x); }
  static HWY_INLINE VF32 Start(VF32 acc) { return acc; }
  static HWY_INLINE VF32 Step(VF32 acc, VF32 w, VF32 x) { return hn::MulAdd(w, x, acc); }
};

struct ElementF16 : ElementF32 {
  using W = uint16_t;
  static HWY_INLINE VF32 Load(const W* w) {
    const hn::Rebind<hwy::float16_t, DF32> df16;
    return hn::PromoteTo(DF32(), hn::LoadU(df16, reinterpret_cast<const hwy::float16_t*>(w)));
  }
};

// Pairs along k, the first in the high half.
struct ElementBF16 {
  using W = uint32_t;
  using X = uint32_t;
  using Scope = BF16Scope;
  static HWY_INLINE VU32 Load(const W* w) { return hn::LoadU(DU32(), w); }
  static HWY_INLINE VU32 Spread(X x) { return hn::Set(DU32(), x); }
  static HWY_INLINE VF32 Start(VF32 acc) { return BF16Start(acc); }
  static HWY_INLINE VF32 Step(VF32 acc, VU32 w, VU32 x) { return BF16Dot(acc, w, x); }
};

// c[r][2 slices] += sum over g of w[g][2 slices] * x[r][g], for 4 rows r.
// w0, w1: the two slices at g = 0, w_stride lanes from one g to the next; x: rows x_stride apart;
// c0: the first slice of row 0, rows c_stride apart; the second slice is c_gap after the first.
// 8 accumulators = 2 FMA ports x 4 cycles of latency.
template <class E>
HWY_NOINLINE void Tile4(const typename E::W* HWY_RESTRICT w0, const typename E::W* HWY_RESTRICT w1,
                        size_t w_stride, const typename E::X* HWY_RESTRICT x, size_t x_stride,
                        size_t groups, float* HWY_RESTRICT c, size_t c_stride, size_t c_gap) {
  const DF32 df;
  [[maybe_unused]] const typename E::Scope scope;
  float* c1 = c + c_stride;
  float* c2 = c1 + c_stride;
  float* c3 = c2 + c_stride;
  VF32 a00 = E::Start(hn::LoadU(df, c)), a01 = E::Start(hn::LoadU(df, c + c_gap));
  VF32 a10 = E::Start(hn::LoadU(df, c1)), a11 = E::Start(hn::LoadU(df, c1 + c_gap));
  VF32 a20 = E::Start(hn::LoadU(df, c2)), a21 = E::Start(hn::LoadU(df, c2 + c_gap));
  VF32 a30 = E::Start(hn::LoadU(df, c3)), a31 = E::Start(hn::LoadU(df, c3 + c_gap));
  for (size_t g = 0; g < groups; ++g, w0 += w_stride, w1 += w_stride, ++x) {
    const auto v0 = E::Load(w0), v1 = E::Load(w1);
    const auto x0 = E::Spread(x[0]);
    a00 = E::Step(a00, v0, x0), a01 = E::Step(a01, v1, x0);
    const auto x1 = E::Spread(x[x_stride]);
    a10 = E::Step(a10, v0, x1), a11 = E::Step(a11, v1, x1);
    const auto x2 = E::Spread(x[2 * x_stride]);
    a20 = E::Step(a20, v0, x2), a21 = E::Step(a21, v1, x2);
    const auto x3 = E::Spread(x[3 * x_stride]);
    a30 = E::Step(a30, v0, x3), a31 = E::Step(a31, v1, x3);
  }
  hn::StoreU(a00, df, c), hn::StoreU(a01, df, c + c_gap);
  hn::StoreU(a10, df, c1), hn::StoreU(a11, df, c1 + c_gap);
  hn::StoreU(a20, df, c2), hn::StoreU(a21, df, c2 + c_gap);
  hn::StoreU(a30, df, c3), hn::StoreU(a31, df, c3 + c_gap);
}

// The same for one row.
template <class E>
HWY_NOINLINE void Tile1(const typename E::W* HWY_RESTRICT w0, const typename E::W* HWY_RESTRICT w1,
                        size_t w_stride, const typename E::X* HWY_RESTRICT x, size_t groups,
                        float* HWY_RESTRICT c, size_t c_gap) {
  const DF32 df;
  [[maybe_unused]] const typename E::Scope scope;
  VF32 a0 = E::Start(hn::LoadU(df, c)), a1 = E::Start(hn::LoadU(df, c + c_gap));
  for (size_t g = 0; g < groups; ++g, w0 += w_stride, w1 += w_stride) {
    const auto x0 = E::Spread(x[g]);
    a0 = E::Step(a0, E::Load(w0), x0);
    a1 = E::Step(a1, E::Load(w1), x0);
  }
  hn::StoreU(a0, df, c);
  hn::StoreU(a1, df, c + c_gap);
}

// `rows` rows, in fours and then one by one.
template <class E>
HWY_INLINE void TileRows(const typename E::W* w0, const typename E::W* w1, size_t w_stride,
                         const typename E::X* x, size_t x_stride, size_t groups, size_t rows,
                         float* c, size_t c_stride, size_t c_gap) {
  size_t r = 0;
  for (; r + 4 <= rows; r += 4) {
    Tile4<E>(w0, w1, w_stride, x + r * x_stride, x_stride, groups, c + r * c_stride, c_stride,
             c_gap);
  }
  for (; r < rows; ++r) {
    Tile1<E>(w0, w1, w_stride, x + r * x_stride, groups, c + r * c_stride, c_gap);
  }
}

// ---------------------------------------------------------------- blocks: 8-bit codes
//
// F::CodeQuad(panel_block, quad, lane): the codes of k = 4 quad .. 4 quad + 3, for the outputs from
// `lane` on, 4 bytes a lane.  F::Scale(panel_block, lane): their scales.

// The same 4 activations in every lane: one load, no shuffle.
HWY_INLINE VI8 SpreadQuad(const int8_t* q) {
  int32_t quad;
  hwy::CopyBytes<4>(q, &quad);
  return hn::BitCast(DI8(), hn::Set(DI32(), quad));
}

// c[r][2 slices] += block, for all rows: the codes of 32 k x 2 slices are unpacked once into 16
// registers, then the rows stream by. Per row: 8 broadcasts, 16 dots, 2 conversions, 2 products, 2
// fused multiply-adds. The zero point costs nothing: the integer sum starts at -zero * sum(q).
// q: codes [rows][32], scales and sums [rows]; c: rows c_stride apart, slices c_gap apart.
template <class F>
HWY_NOINLINE void TileBlock(const uint8_t* HWY_RESTRICT block0, size_t lane0,
                            const uint8_t* HWY_RESTRICT block1, size_t lane1,
                            const int8_t* HWY_RESTRICT q, const float* HWY_RESTRICT scales,
                            const int32_t* HWY_RESTRICT sums, size_t rows, float* HWY_RESTRICT c,
                            size_t c_stride, size_t c_gap) {
  const DF32 df;
  const DI32 di;
  const VCode w00 = F::CodeQuad(block0, 0, lane0), w10 = F::CodeQuad(block1, 0, lane1);
  const VCode w01 = F::CodeQuad(block0, 1, lane0), w11 = F::CodeQuad(block1, 1, lane1);
  const VCode w02 = F::CodeQuad(block0, 2, lane0), w12 = F::CodeQuad(block1, 2, lane1);
  const VCode w03 = F::CodeQuad(block0, 3, lane0), w13 = F::CodeQuad(block1, 3, lane1);
  const VCode w04 = F::CodeQuad(block0, 4, lane0), w14 = F::CodeQuad(block1, 4, lane1);
  const VCode w05 = F::CodeQuad(block0, 5, lane0), w15 = F::CodeQuad(block1, 5, lane1);
  const VCode w06 = F::CodeQuad(block0, 6, lane0), w16 = F::CodeQuad(block1, 6, lane1);
  const VCode w07 = F::CodeQuad(block0, 7, lane0), w17 = F::CodeQuad(block1, 7, lane1);
  const VF32 scale0 = F::Scale(block0, lane0), scale1 = F::Scale(block1, lane1);
  for (size_t r = 0; r < rows; ++r, q += kBlock, c += c_stride) {
    VI32 i0 = hn::Set(di, -kZeroPoint<F> * sums[r]), i1 = i0;
    VI8 x = SpreadQuad(q);
    i0 = Dot4(i0, w00, x), i1 = Dot4(i1, w10, x), x = SpreadQuad(q + 4);
    i0 = Dot4(i0, w01, x), i1 = Dot4(i1, w11, x), x = SpreadQuad(q + 8);
    i0 = Dot4(i0, w02, x), i1 = Dot4(i1, w12, x), x = SpreadQuad(q + 12);
    i0 = Dot4(i0, w03, x), i1 = Dot4(i1, w13, x), x = SpreadQuad(q + 16);
    i0 = Dot4(i0, w04, x), i1 = Dot4(i1, w14, x), x = SpreadQuad(q + 20);
    i0 = Dot4(i0, w05, x), i1 = Dot4(i1, w15, x), x = SpreadQuad(q + 24);
    i0 = Dot4(i0, w06, x), i1 = Dot4(i1, w16, x), x = SpreadQuad(q + 28);
    i0 = Dot4(i0, w07, x), i1 = Dot4(i1, w17, x);
    const VF32 scale = hn::Set(df, scales[r]);
    const VF32 a0 = hn::LoadU(df, c), a1 = hn::LoadU(df, c + c_gap);
    hn::StoreU(hn::MulAdd(hn::ConvertTo(df, i0), hn::Mul(scale0, scale), a0), df, c);
    hn::StoreU(hn::MulAdd(hn::ConvertTo(df, i1), hn::Mul(scale1, scale), a1), df, c + c_gap);
  }
}

// One row against all of k, streamed from the packed panels: the accumulators stay in registers.
// Two integer chains a slice, which is free because integers add exactly in any order.
template <class F>
HWY_NOINLINE void StreamRow(const uint8_t* HWY_RESTRICT panel0, size_t lane0,
                            const uint8_t* HWY_RESTRICT panel1, size_t lane1,
                            const int8_t* HWY_RESTRICT q, const float* HWY_RESTRICT scales,
                            const int32_t* HWY_RESTRICT sums, size_t blocks, float* HWY_RESTRICT c,
                            size_t c_gap) {
  const DF32 df;
  const DI32 di;
  VF32 a0 = hn::Zero(df), a1 = hn::Zero(df);
  for (size_t b = 0; b < blocks; ++b, q += kBlock) {
    VI32 i0 = hn::Set(di, -kZeroPoint<F> * sums[b]), i1 = i0;
    VI32 j0 = hn::Zero(di), j1 = hn::Zero(di);
    for (size_t quad = 0; quad < 4; ++quad) {
      const VI8 x = SpreadQuad(q + 4 * quad), y = SpreadQuad(q + 16 + 4 * quad);
      i0 = Dot4(i0, F::CodeQuad(panel0, quad, lane0), x);
      i1 = Dot4(i1, F::CodeQuad(panel1, quad, lane1), x);
      j0 = Dot4(j0, F::CodeQuad(panel0, quad + 4, lane0), y);
      j1 = Dot4(j1, F::CodeQuad(panel1, quad + 4, lane1), y);
    }
    const VF32 scale = hn::Set(df, scales[b]);
    const VF32 f0 = hn::ConvertTo(df, hn::Add(i0, j0)), f1 = hn::ConvertTo(df, hn::Add(i1, j1));
    a0 = hn::MulAdd(f0, hn::Mul(F::Scale(panel0, lane0), scale), a0);
    a1 = hn::MulAdd(f1, hn::Mul(F::Scale(panel1, lane1), scale), a1);
    panel0 += F::kPanelBlockBytes;
    panel1 += F::kPanelBlockBytes;
  }
  hn::StoreU(a0, df, c);
  hn::StoreU(a1, df, c + c_gap);
}

}  // namespace HWY_NAMESPACE
}  // namespace hob
HWY_AFTER_NAMESPACE();

#endif  // HOB_KERNELS_TILE_INL_H_
