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
#include <type_traits>

#include "kernels/rows.h"  // kBlock

#if defined(HOB_KERNELS_TILE_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef HOB_KERNELS_TILE_INL_H_
#undef HOB_KERNELS_TILE_INL_H_
#else
#define HOB_KERNELS_TILE_INL_H_
#endif

#include <hwy/cache_control.h>

#include "kernels/dequantize-inl.h"
#include "kernels/math-inl.h"

HWY_BEFORE_NAMESPACE();
namespace hob {
namespace HWY_NAMESPACE {

// ---------------------------------------------------------------- values: f32, f16, bf16
//
// An element says how a group of k is loaded and accumulated:
//   D  the vectors of a slice
//   W  what a lane of weights holds for one group; X  the same of activations
//   Load(const W*) one slice of weights;  Spread(X) activations in every lane;  Step(acc, w, x)
//   Scope: alive around the loop;  Start(acc): what the first accumulator goes through

struct ElementF32 {
  using D = DF32;
  using W = float;
  using X = float;
  struct Scope {
    HWY_INLINE Scope() {}
  };
  static HWY_INLINE VF32 Load(const W* w) { return hn::LoadU(DF32(), w); }
  static HWY_INLINE VF32 Spread(X x) { return SpreadFloat(x); }
  static HWY_INLINE VF32 Start(VF32 acc) { return acc; }
  static HWY_INLINE VF32 Step(VF32 acc, VF32 w, VF32 x) { return hn::MulAdd(w, x, acc); }
};

struct ElementF16 : ElementF32 {
  using W = uint16_t;
  static HWY_INLINE VF32 Load(const W* w) { return LoadF16(reinterpret_cast<const uint8_t*>(w)); }
};

// The same for one row on Zen 4, where every step converts: to at most 256 bits, since two such
// conversions and their FMAs take 1.0 cycles, and one to 512 with its FMA 1.5 to 1.9
// (docs/design.md).
struct ElementF16Row {
  using D = hn::CappedTag<float, kPanel / 2>;
  using V = hn::Vec<D>;
  using W = uint16_t;
  using X = float;
  using Scope = ElementF32::Scope;
  static HWY_INLINE V Load(const W* w) { return LoadF16(D(), reinterpret_cast<const uint8_t*>(w)); }
  static HWY_INLINE V Spread(X x) { return hn::Set(D(), x); }
  static HWY_INLINE V Step(V acc, V w, V x) { return hn::MulAdd(w, x, acc); }
};

// Pairs along k, the first in the high half.
struct ElementBF16 {
  using D = DF32;
  using W = uint32_t;
  using X = uint32_t;
  using Scope = BF16Scope;
  static HWY_INLINE VU32 Load(const W* w) { return hn::LoadU(DU32(), w); }
  static HWY_INLINE VU32 Spread(X x) { return hn::Set(DU32(), x); }
  static HWY_INLINE VF32 Start(VF32 acc) { return BF16Start(acc); }
  static HWY_INLINE VF32 Step(VF32 acc, VU32 w, VU32 x) { return BF16Dot(acc, w, x); }
};

// The halves of such pairs, one after the other as f32, for targets without a bf16 dot.
struct ElementBF16Half : ElementF32 {
  using Scope = BF16Scope;
  static HWY_INLINE VF32 Start(VF32 acc) { return BF16Start(acc); }
  static HWY_INLINE VF32 Step(VF32 acc, VF32 w, VF32 x) { return BF16Step(acc, w, x); }
};

// The outputs of a tile's rows before and after a step, which may lie in the same place. A last
// step adds what is to be added to them.
struct StepOutputs {
  const float* from;
  size_t from_stride;  // 0: all rows start from the same
  float* to;
  size_t to_stride;
  const float* bias;      // or none: the same for all rows
  const float* residual;  // or none: rows to_stride apart

  HWY_INLINE StepOutputs Row(size_t row) const {
    return {from + row * from_stride,
            from_stride,
            to + row * to_stride,
            to_stride,
            bias,
            residual == nullptr ? nullptr : residual + row * to_stride};
  }

  // Those that begin at output i.
  HWY_INLINE StepOutputs Output(size_t i) const {
    return {from + i,
            from_stride,
            to + i,
            to_stride,
            bias == nullptr ? nullptr : bias + i,
            residual == nullptr ? nullptr : residual + i};
  }
};

// Stores a slice of a row, `at` after the first of c, that has had its last link.
HWY_INLINE void StoreRow(VF32 acc, const StepOutputs& c, size_t at) {
  const DF32 df;
  if (c.bias != nullptr) acc = hn::Add(acc, hn::LoadU(df, c.bias + at));
  if (c.residual != nullptr) acc = hn::Add(hn::LoadU(df, c.residual + at), acc);
  hn::StoreU(acc, df, c.to + at);
}

// The most rows of a tile. With 16 registers 6: 12 accumulators, 2 weights and 1 activation, which
// cover 2 FMA ports x 4 cycles of latency and load 8 vectors for 12 steps; with 32 registers 8.
inline constexpr size_t kMostRows = kManyRegisters ? 8 : 6;

// c[r][2 slices] += sum over g of w[g][2 slices] * x[r][g], for kRows rows r (1, 2, 4, 6 or 8).
// w0, w1: the two slices at g = 0, w_stride lanes from one g to the next; x: rows x_stride apart;
// c: of row 0 and its first slice; the second slice is `gap` after the first.
template <class E, size_t kRows>
HWY_NOINLINE void Tile(const typename E::W* HWY_RESTRICT w0, const typename E::W* HWY_RESTRICT w1,
                       size_t w_stride, const typename E::X* HWY_RESTRICT x, size_t x_stride,
                       size_t groups, const StepOutputs& c, size_t gap) {
  // Rows beyond kRows start from the first, and are never used.
  const auto at = [&](size_t row, size_t i) HWY_ATTR {
    return E::Start(hn::LoadU(DF32(), c.from + (row < kRows ? row * c.from_stride : 0) + i));
  };
  VF32 a00, a01, a10, a11, a20, a21, a30, a31, a40, a41, a50, a51, a60, a61, a70, a71;
  {  // what is added to the outputs has its subnormals
    [[maybe_unused]] const typename E::Scope scope;
    a00 = at(0, 0), a01 = at(0, gap), a10 = at(1, 0), a11 = at(1, gap);
    a20 = at(2, 0), a21 = at(2, gap), a30 = at(3, 0), a31 = at(3, gap);
    a40 = at(4, 0), a41 = at(4, gap), a50 = at(5, 0), a51 = at(5, gap);
    a60 = at(6, 0), a61 = at(6, gap), a70 = at(7, 0), a71 = at(7, gap);
    for (size_t g = 0; g < groups; ++g, w0 += w_stride, w1 += w_stride, ++x) {
      const auto v0 = E::Load(w0), v1 = E::Load(w1);
      const auto x0 = E::Spread(x[0]);
      a00 = E::Step(a00, v0, x0), a01 = E::Step(a01, v1, x0);
      if constexpr (kRows > 1) {
        const auto x1 = E::Spread(x[x_stride]);
        a10 = E::Step(a10, v0, x1), a11 = E::Step(a11, v1, x1);
      }
      if constexpr (kRows > 2) {
        const auto x2 = E::Spread(x[2 * x_stride]);
        a20 = E::Step(a20, v0, x2), a21 = E::Step(a21, v1, x2);
        const auto x3 = E::Spread(x[3 * x_stride]);
        a30 = E::Step(a30, v0, x3), a31 = E::Step(a31, v1, x3);
      }
      if constexpr (kRows > 4) {
        const auto x4 = E::Spread(x[4 * x_stride]);
        a40 = E::Step(a40, v0, x4), a41 = E::Step(a41, v1, x4);
        const auto x5 = E::Spread(x[5 * x_stride]);
        a50 = E::Step(a50, v0, x5), a51 = E::Step(a51, v1, x5);
      }
      if constexpr (kRows > 6) {
        const auto x6 = E::Spread(x[6 * x_stride]);
        a60 = E::Step(a60, v0, x6), a61 = E::Step(a61, v1, x6);
        const auto x7 = E::Spread(x[7 * x_stride]);
        a70 = E::Step(a70, v0, x7), a71 = E::Step(a71, v1, x7);
      }
    }
  }
  const auto store = [&](size_t row, VF32 v0, VF32 v1) HWY_ATTR {
    StoreRow(v0, c.Row(row), 0);
    StoreRow(v1, c.Row(row), gap);
  };
  store(0, a00, a01);
  if constexpr (kRows > 1) store(1, a10, a11);
  if constexpr (kRows > 2) store(2, a20, a21), store(3, a30, a31);
  if constexpr (kRows > 4) store(4, a40, a41), store(5, a50, a51);
  if constexpr (kRows > 6) store(6, a60, a61), store(7, a70, a71);
}

// `rows` rows, as many at a time as there can be; what is left in fours, twos and one (with sixes,
// 8 are 4 + 4).
template <class E>
HWY_INLINE void TileRows(const typename E::W* w0, const typename E::W* w1, size_t w_stride,
                         const typename E::X* x, size_t x_stride, size_t groups, size_t rows,
                         StepOutputs c, size_t gap) {
  size_t step = 0;
  for (; rows > 0; rows -= step, x += step * x_stride, c = c.Row(step)) {
    if (rows >= kMostRows && (kMostRows == 8 || rows != 8)) {
      step = kMostRows;
      Tile<E, kMostRows>(w0, w1, w_stride, x, x_stride, groups, c, gap);
    } else if (rows >= 4) {
      step = 4;
      Tile<E, 4>(w0, w1, w_stride, x, x_stride, groups, c, gap);
    } else if (rows >= 2) {
      step = 2;
      Tile<E, 2>(w0, w1, w_stride, x, x_stride, groups, c, gap);
    } else {
      step = 1;
      Tile<E, 1>(w0, w1, w_stride, x, x_stride, groups, c, gap);
    }
  }
}

// How far ahead of a stream its lines are asked for where there is more to do with each than the
// processor's own looking ahead makes up for, and where it has none to speak of and streams are
// read side by side (OnIntel() in targets.h).
inline constexpr size_t kStreamAhead = 4096, kStreamsAhead = 2048;

// One row against 4 or 8 slices, whose chains cover the latency of the step. w: where each slice
// begins; c: slices one behind the other.
template <class E, size_t kSlices, bool kAhead>
HWY_NOINLINE void StreamValues(const typename E::W* const* w, const typename E::X* HWY_RESTRICT x,
                               size_t groups, float* HWY_RESTRICT c) {
  const typename E::D df;
  [[maybe_unused]] const typename E::Scope scope;
  constexpr bool kEight = kSlices == 8;
  const size_t step = hn::Lanes(df);
  const auto *w0 = w[0], *w1 = w[1], *w2 = w[2], *w3 = w[3];
  const auto *w4 = w[kEight ? 4 : 0], *w5 = w[kEight ? 5 : 0], *w6 = w[kEight ? 6 : 0];
  const auto* w7 = w[kEight ? 7 : 0];
  hn::Vec<typename E::D> a0 = hn::Zero(df), a1 = a0, a2 = a0, a3 = a0, a4 = a0, a5 = a0, a6 = a0,
                         a7 = a0;
  for (size_t g = 0; g < groups; ++g) {
    const size_t at = g * kPanel;
    const auto s = E::Spread(x[g]);
    const auto take = [&](hn::Vec<typename E::D>& a, const typename E::W* w_i) HWY_ATTR {
      if constexpr (kAhead) hwy::Prefetch(w_i + at + kStreamsAhead / sizeof(*w_i));
      a = E::Step(a, E::Load(w_i + at), s);
    };
    take(a0, w0), take(a1, w1), take(a2, w2), take(a3, w3);
    if constexpr (kEight) take(a4, w4), take(a5, w5), take(a6, w6), take(a7, w7);
  }
  hn::StoreU(a0, df, c), hn::StoreU(a1, df, c + step);
  hn::StoreU(a2, df, c + 2 * step), hn::StoreU(a3, df, c + 3 * step);
  if constexpr (kEight) {
    hn::StoreU(a4, df, c + 4 * step), hn::StoreU(a5, df, c + 5 * step);
    hn::StoreU(a6, df, c + 6 * step), hn::StoreU(a7, df, c + 7 * step);
  }
}

// ---------------------------------------------------------------- blocks: 8-bit codes
//
// A step is 32 of k. F::Scale and F::Min(panel_block, sub, lane) give a slice of them, LevelQuad
// (dequantize-inl.h) the levels of 4 k.

template <class F>
inline constexpr size_t kSubsPerStep = kBlock / F::kSub;

// What a step has of a panel block's bytes, its share of the header included.
template <class F>
inline constexpr size_t kStepBytes = kPanelBlockBytes<F> / (F::kValues / kBlock);

// Some rows of activations in one step.
struct StepActs {
  const int8_t* q;       // codes [rows][32]
  const float* scale;    // [rows]
  const int32_t* start;  // [rows] for each sub-block: where the integer sum starts, -zero * sum(q);
                         // so a zero point costs nothing
  const float* min;      // [rows] for each sub-block: scale * sum(q)
  size_t gap;            // from one sub-block's start and min to the next's
  const int16_t* words;  // [rows][2][16]: the even codes, then the odd; only where levels are wide
};

// Two slices of one panel block, or of two.
struct TwoSlices {
  const uint8_t* block0;
  size_t lane0;
  const uint8_t* block1;
  size_t lane1;
  size_t step;  // of 32, in the block
};

// Where two panels lie, or a block of each. The last panel of an odd count is its own partner; what
// the second then computes is not stored.
struct PanelPair {
  const uint8_t* first;
  const uint8_t* second;

  // The panel that output `i` (0 to 31) of the pair is in.
  HWY_INLINE const uint8_t* Of(size_t i) const { return i < kPanel ? first : second; }
};

// A step of 32 in a block of each of two panels.
struct PairStep {
  PanelPair blocks;
  size_t step;
};

template <class F>
HWY_INLINE VI32 StartOf(const StepActs& x, size_t sub, size_t row) {
  if constexpr (kZeroPoint<F> == 0) return hn::Zero(DI32());
  return hn::Set(DI32(), x.start[sub * x.gap + row]);
}

// One link of the chain: acc + sum * (w_scale * x_scale) - w_min * x_min, where x_min is the row's
// scale * sum(q).
template <class F>
HWY_INLINE VF32 LinkTerms(VF32 acc, VI32 sum, VF32 w_scale, VF32 w_min, VF32 x_scale, VF32 x_min) {
  const DF32 df;
  const VF32 scale = hn::Mul(w_scale, x_scale);
  acc = hn::MulAdd(hn::ConvertTo(df, sum), scale, acc);
  if constexpr (F::kHasMin) acc = hn::NegMulAdd(w_min, x_min, acc);
  return acc;
}

template <class F>
HWY_INLINE VF32 Link(VF32 acc, VI32 sum, VF32 w_scale, VF32 w_min, const StepActs& x, size_t sub,
                     size_t row) {
  const DF32 df;
  VF32 x_min = hn::Zero(df);
  if constexpr (F::kHasMin) x_min = SpreadFloat(x.min[sub * x.gap + row]);
  return LinkTerms<F>(acc, sum, w_scale, w_min, SpreadFloat(x.scale[row]), x_min);
}

template <class F>
HWY_INLINE VF32 MinOf(const uint8_t* block, size_t sub, size_t lane) {
  if constexpr (F::kHasMin) {
    return F::Min(block, sub, lane);
  } else {
    return hn::Zero(DF32());
  }
}

// ---------------------------------------------------------------- one row
//
// Where the weights are read once, from memory or a cache, and the accumulators stay in registers.

// One step of one slice, with the codes of its only row, or of the first of several.
struct StepSlice {
  const uint8_t* block;
  size_t step, lane;
  const int8_t* q;  // its 32 codes
};

template <class F, size_t kQuad>
HWY_INLINE VCode LevelQuad(const StepSlice& w) {
  return LevelQuad<F, kQuad>(w.block, w.step, w.lane);
}

// sums + the products of quads [kQuad, kEnd) in 16 bits, for targets without a dot.
template <class F, size_t kQuad, size_t kEnd>
HWY_INLINE VI16 SumQuads(VI16 sums, const StepSlice& w) {
  if constexpr (kQuad == kEnd) {
    return sums;
  } else {
    const VI16 more = Products(LevelQuad<F, kQuad>(w), SpreadQuad(w.q + 4 * kQuad));
    return SumQuads<F, kQuad + 1, kEnd>(hn::Add(sums, more), w);
  }
}

// acc + the products of quads [kQuad, kEnd), likewise.
template <class F, size_t kQuad, size_t kEnd>
HWY_INLINE VI32 DotQuadsWithoutDot(VI32 acc, const StepSlice& w) {
  if constexpr (kQuad == kEnd) {
    return acc;
  } else if constexpr (kQuadsIn16Bits<F> > 0) {
    constexpr size_t kNext = kQuad + kQuadsIn16Bits<F> < kEnd ? kQuad + kQuadsIn16Bits<F> : kEnd;
    const VI16 first = Products(LevelQuad<F, kQuad>(w), SpreadQuad(w.q + 4 * kQuad));
    acc = AddPairs(acc, SumQuads<F, kQuad + 1, kNext>(first, w));
    return DotQuadsWithoutDot<F, kNext, kEnd>(acc, w);
  } else {
    acc = Dot4<F>(acc, LevelQuad<F, kQuad>(w), SpreadQuad(w.q + 4 * kQuad));
    return DotQuadsWithoutDot<F, kQuad + 1, kEnd>(acc, w);
  }
}

// i0 + i1 take the products of quads [kQuad, kEnd), in turns: one sum alone is a chain, and a core
// looks only so far past it. Levels come by fours, so that the dots find them ready.
template <class F, size_t kQuad, size_t kEnd>
HWY_INLINE void DotQuads(const StepSlice& w, VI32& i0, VI32& i1) {
  if constexpr (kQuad < kEnd) {
    VCode l0 = LevelQuad<F, kQuad>(w), l1 = LevelQuad<F, kQuad + 1>(w);
    VCode l2 = LevelQuad<F, kQuad + 2>(w), l3 = LevelQuad<F, kQuad + 3>(w);
    Pin(l0, l1, l2, l3);
    const int8_t* q = w.q + 4 * kQuad;
    i0 = Dot4<F>(i0, l0, SpreadQuad(q)), i1 = Dot4<F>(i1, l1, SpreadQuad(q + 4));
    i0 = Dot4<F>(i0, l2, SpreadQuad(q + 8)), i1 = Dot4<F>(i1, l3, SpreadQuad(q + 12));
    DotQuads<F, kQuad + 4, kEnd>(w, i0, i1);
  }
}

// Where levels are plain 4-bit codes and the dot takes them unsigned, the upper half of a byte need
// not be shifted down: its products are 16 times too large, which one shift of their sum mends, at
// most 16 * 16 * 15 * 127 < 2^19.
template <class F>
constexpr bool HasNibbleDot() {
  return kUnsignedDot && kDots<F> && std::is_base_of_v<PanelCodes<4>, F> && F::kMaxLevel == 15 &&
         F::kSub == kBlock;
}

template <class F>
HWY_INLINE VI32 NibbleDot(VI32 acc, const StepSlice& w) {
  const VU8 low = hn::Set(DU8(), uint8_t{0x0F}), high = hn::Set(DU8(), uint8_t{0xF0});
  const uint8_t* codes = w.block + F::kHeaderBytes + w.step * 4 * 64 + 4 * w.lane;
  VI32 high_sum = hn::Zero(DI32());
  const auto add = [&](size_t quad) HWY_ATTR {
    VU8 bytes = hn::LoadU(DU8(), codes + 64 * quad);
    Pin(bytes);  // or GCC loads them twice
    const int8_t* q = w.q + 4 * quad;
    acc = Dot4<F>(acc, ToCodes<F>(hn::And(bytes, low)), SpreadQuad(q));
    high_sum = Dot4<F>(high_sum, ToCodes<F>(hn::And(bytes, high)), SpreadQuad(q + 16));
  };
  add(0), add(1), add(2), add(3);
  return hn::Add(acc, hn::ShiftRight<4>(high_sum));
}

// acc + the products of sub-block kSub.
template <class F, size_t kSub>
HWY_INLINE VI32 DotSub(VI32 acc, const StepSlice& w) {
  constexpr size_t kQuads = F::kSub / 4, kFirst = kSub * kQuads;
  if constexpr (!kDots<F>) {
    return DotQuadsWithoutDot<F, kFirst, kFirst + kQuads>(acc, w);
  } else if constexpr (HasNibbleDot<F>()) {
    return NibbleDot<F>(acc, w);
  } else {
    VI32 more = hn::Zero(DI32());
    DotQuads<F, kFirst, kFirst + kQuads>(w, acc, more);
    return hn::Add(acc, more);
  }
}

// The activations of the step after x's, where a row's terms lie [step][sub-block][rows].
template <class F>
HWY_INLINE StepActs NextStep(StepActs x, size_t q_step) {
  x.q += q_step;
  x.scale += x.gap;
  x.start += kSubsPerStep<F> * x.gap;
  x.min += kSubsPerStep<F> * x.gap;
  return x;
}

// acc takes the link of sub-block kSub of a step, whose products are `sum`.
template <class F, size_t kSub>
HWY_INLINE VF32 StreamLink(VF32 acc, VI32 sum, const StepSlice& w, const StepActs& x) {
  const size_t sub = w.step * kSubsPerStep<F> + kSub;
  const VF32 scale = F::Scale(w.block, sub, w.lane), min = MinOf<F>(w.block, sub, w.lane);
  return Link<F>(acc, sum, scale, min, x, kSub, 0);
}

// The accumulators of one slice or two take the links of sub-block kSub of a step. Both sums come
// first, so that the links of one, which wait for its sum, do not keep the other from the units.
template <class F, size_t kSub, size_t kSlices>
HWY_INLINE void StreamSub(const StepSlice& v, const StepSlice& w, const StepActs& x, VF32& a0,
                          VF32& a1) {
  const VI32 start = StartOf<F>(x, kSub, 0);
  VI32 i0 = DotSub<F, kSub>(start, v), i1 = start;
  if constexpr (kSlices > 1) {
    i1 = DotSub<F, kSub>(start, w);
    Pin(i0, i1);
  }
  a0 = StreamLink<F, kSub>(a0, i0, v, x);
  if constexpr (kSlices > 1) a1 = StreamLink<F, kSub>(a1, i1, w, x);
}

// Asks for the lines that streams, now at step `step` of these blocks, will want `ahead` later.
template <class F, class... Blocks>
HWY_INLINE void AskAhead(size_t step, size_t ahead, Blocks... blocks) {
  for (size_t i = step * kStepBytes<F>; i < (step + 1) * kStepBytes<F>; i += 64) {
    (..., hwy::Prefetch(blocks + ahead + i));
  }
}

// One row against `blocks` blocks of a slice, or of two that share the loads of the row: the one at
// `lane`, and the next in the same panel or, if a vector is all of a panel, the one of the panel
// `apart` bytes further. q_step: bytes from the row's codes of one step to those of the next.
template <class F, size_t kSlices>
HWY_NOINLINE void StreamRow(const uint8_t* HWY_RESTRICT block, size_t lane, size_t apart,
                            StepActs x, size_t q_step, size_t blocks, float* HWY_RESTRICT c) {
  const DF32 df;
  const size_t slice = hn::Lanes(df), second = (lane + slice) % kPanel;
  constexpr bool kTwoSubs = kSubsPerStep<F> == 2;
  VF32 a0 = hn::LoadU(df, c), a1 = kSlices > 1 ? hn::LoadU(df, c + slice) : a0;
  for (size_t b = 0; b < blocks; ++b, block += kPanelBlockBytes<F>) {
    for (size_t step = 0; step < F::kValues / kBlock; ++step, x = NextStep<F>(x, q_step)) {
      const StepSlice v = {block, step, lane, x.q}, w = {block + apart, step, second, x.q};
      StreamSub<F, 0, kSlices>(v, w, x, a0, a1);
      if constexpr (kTwoSubs) StreamSub<F, 1, kSlices>(v, w, x, a0, a1);
    }
  }
  hn::StoreU(a0, df, c);
  if constexpr (kSlices > 1) hn::StoreU(a1, df, c + slice);
}

// The same of four slices, the panels they fill being `apart` bytes apart and asked for ahead: four
// streams where a vector is all of a panel, two where it is half of one, as it is on all targets
// that may ask (kMayAskAhead).
template <class F>
HWY_NOINLINE void StreamRowAhead(const uint8_t* HWY_RESTRICT block, size_t apart, StepActs x,
                                 size_t q_step, size_t blocks, float* HWY_RESTRICT c) {
  const DF32 df;
  constexpr bool kTwoSubs = kSubsPerStep<F> == 2;
  const size_t slice = hn::Lanes(df);
  // The panels of slices 1, 2 and 3; the second of two in one panel begins at lane `second`.
  const uint8_t* HWY_RESTRICT block1 = block + 1 * slice / kPanel * apart;
  const uint8_t* HWY_RESTRICT block2 = block + 2 * slice / kPanel * apart;
  const uint8_t* HWY_RESTRICT block3 = block + 3 * slice / kPanel * apart;
  const size_t second = slice % kPanel;
  VF32 a0 = hn::LoadU(df, c), a1 = hn::LoadU(df, c + slice);
  VF32 a2 = hn::LoadU(df, c + 2 * slice), a3 = hn::LoadU(df, c + 3 * slice);
  for (size_t b = 0; b < blocks; ++b) {
    for (size_t step = 0; step < F::kValues / kBlock; ++step, x = NextStep<F>(x, q_step)) {
      const StepSlice w0 = {block, step, 0, x.q}, w1 = {block1, step, second, x.q};
      const StepSlice w2 = {block2, step, 0, x.q}, w3 = {block3, step, second, x.q};
      if (second == 0) {
        AskAhead<F>(step, kStreamsAhead, block, block1, block2, block3);
      } else {
        AskAhead<F>(step, kStreamsAhead, block, block2);
      }
      StreamSub<F, 0, 2>(w0, w1, x, a0, a1);
      StreamSub<F, 0, 2>(w2, w3, x, a2, a3);
      if constexpr (kTwoSubs) {
        StreamSub<F, 1, 2>(w0, w1, x, a0, a1);
        StreamSub<F, 1, 2>(w2, w3, x, a2, a3);
      }
    }
    block += kPanelBlockBytes<F>, block1 += kPanelBlockBytes<F>;
    block2 += kPanelBlockBytes<F>, block3 += kPanelBlockBytes<F>;
  }
  hn::StoreU(a0, df, c), hn::StoreU(a1, df, c + slice);
  hn::StoreU(a2, df, c + 2 * slice), hn::StoreU(a3, df, c + 3 * slice);
}

// ---------------------------------------------------------------- few rows

// i0 .. + the products of quads [kQuad, kEnd) of a slice and kRows rows; w: with the first row's
// codes, the others' follow.
template <class F, size_t kRows, size_t kQuad, size_t kEnd>
HWY_INLINE void DotFewRows(const StepSlice& w, VI32& i0, VI32& i1, VI32& i2, VI32& i3, VI32& i4,
                           VI32& i5, VI32& i6, VI32& i7) {
  if constexpr (kQuad < kEnd) {
    const VCode level = LevelQuad<F, kQuad>(w);
    const auto dot = [&](VI32& i, size_t r) HWY_ATTR {
      i = DotLane<F, kQuad % 4>(i, level, w.q + r * kBlock + kQuad / 4 * 16);
    };
    dot(i0, 0), dot(i1, 1);
    if constexpr (kRows > 2) dot(i2, 2), dot(i3, 3);
    if constexpr (kRows > 4) dot(i4, 4), dot(i5, 5), dot(i6, 6), dot(i7, 7);
    DotFewRows<F, kRows, kQuad + 1, kEnd>(w, i0, i1, i2, i3, i4, i5, i6, i7);
  }
}

// The accumulators take the links of sub-block kSub of a step.
template <class F, size_t kRows, size_t kSub>
HWY_INLINE void StreamSubRows(const StepSlice& w, const StepActs& x, VF32& a0, VF32& a1, VF32& a2,
                              VF32& a3, VF32& a4, VF32& a5, VF32& a6, VF32& a7) {
  constexpr size_t kQuads = F::kSub / 4;
  // Rows that there are not share the first one's start, for nothing.
  VI32 i0 = StartOf<F>(x, kSub, 0), i1 = StartOf<F>(x, kSub, 1);
  VI32 i2 = StartOf<F>(x, kSub, kRows > 2 ? 2 : 0), i3 = StartOf<F>(x, kSub, kRows > 2 ? 3 : 0);
  VI32 i4 = StartOf<F>(x, kSub, kRows > 4 ? 4 : 0), i5 = StartOf<F>(x, kSub, kRows > 4 ? 5 : 0);
  VI32 i6 = StartOf<F>(x, kSub, kRows > 4 ? 6 : 0), i7 = StartOf<F>(x, kSub, kRows > 4 ? 7 : 0);
  DotFewRows<F, kRows, kSub * kQuads, (kSub + 1) * kQuads>(w, i0, i1, i2, i3, i4, i5, i6, i7);
  const size_t sub = w.step * kSubsPerStep<F> + kSub;
  const VF32 scale = F::Scale(w.block, sub, w.lane), min = MinOf<F>(w.block, sub, w.lane);
  a0 = Link<F>(a0, i0, scale, min, x, kSub, 0), a1 = Link<F>(a1, i1, scale, min, x, kSub, 1);
  if constexpr (kRows > 2) {
    a2 = Link<F>(a2, i2, scale, min, x, kSub, 2), a3 = Link<F>(a3, i3, scale, min, x, kSub, 3);
  }
  if constexpr (kRows > 4) {
    a4 = Link<F>(a4, i4, scale, min, x, kSub, 4), a5 = Link<F>(a5, i5, scale, min, x, kSub, 5);
    a6 = Link<F>(a6, i6, scale, min, x, kSub, 6), a7 = Link<F>(a7, i7, scale, min, x, kSub, 7);
  }
}

// kRows (2, 4 or 8) rows against `blocks` blocks of a panel's slice at `lane`: the levels of a quad
// are unpacked once for all rows, and the accumulators stay in registers over all of k. q_step:
// bytes from the rows' codes of one step to those of the next. c: rows c_stride apart.
template <class F, size_t kRows>
HWY_NOINLINE void StreamRows(const uint8_t* HWY_RESTRICT block, size_t lane, StepActs x,
                             size_t q_step, size_t blocks, float* HWY_RESTRICT c, size_t c_stride) {
  const DF32 df;
  constexpr size_t kSteps = F::kValues / kBlock;
  float *c2 = c + (kRows > 2 ? 2 * c_stride : 0), *c4 = c + (kRows > 4 ? 4 * c_stride : 0);
  VF32 a0 = hn::LoadU(df, c), a1 = hn::LoadU(df, c + c_stride);
  VF32 a2 = hn::LoadU(df, c2), a3 = hn::LoadU(df, c2 + c_stride);
  VF32 a4 = hn::LoadU(df, c4), a5 = hn::LoadU(df, c4 + c_stride);
  float* c6 = c4 + (kRows > 4 ? 2 * c_stride : 0);
  VF32 a6 = hn::LoadU(df, c6), a7 = hn::LoadU(df, c6 + c_stride);
  for (size_t b = 0; b < blocks; ++b, block += kPanelBlockBytes<F>) {
    for (size_t step = 0; step < kSteps; ++step, x = NextStep<F>(x, q_step)) {
      const StepSlice w = {block, step, lane, x.q};
      AskAhead<F>(step, kStreamAhead, block);
      StreamSubRows<F, kRows, 0>(w, x, a0, a1, a2, a3, a4, a5, a6, a7);
      if constexpr (kSubsPerStep<F> == 2) {
        StreamSubRows<F, kRows, 1>(w, x, a0, a1, a2, a3, a4, a5, a6, a7);
      }
    }
  }
  hn::StoreU(a0, df, c), hn::StoreU(a1, df, c + c_stride);
  if constexpr (kRows > 2) hn::StoreU(a2, df, c2), hn::StoreU(a3, df, c2 + c_stride);
  if constexpr (kRows > 4) {
    hn::StoreU(a4, df, c4), hn::StoreU(a5, df, c4 + c_stride);
    hn::StoreU(a6, df, c6), hn::StoreU(a7, df, c6 + c_stride);
  }
}

// ---------------------------------------------------------------- many rows

// Rows whose chains are under way together: with two slices, eight or twelve. Twelve cover a dot's
// latency of 6 cycles by themselves; eight need the core to look past a group's end. For twelve to
// have registers, dots must load activations themselves; where a step has scales for each half
// they are no faster (q6_k 0.97).
template <class F>
inline constexpr size_t kGroupRows = (kDotLoads<F> && kSubsPerStep<F> == 1) ? 6 : 4;

// The two slices of one row take one link each, that of sub-block `sub`.
template <class F, bool kLast>
HWY_INLINE void LinkRow(VI32 i0, VI32 i1, VF32 scale0, VF32 scale1, VF32 min0, VF32 min1,
                        const StepActs& x, size_t sub, size_t row, const StepOutputs& c,
                        size_t gap) {
  const DF32 df;
  const float* from = sub == 0 ? c.from : c.to;
  const VF32 c0 = hn::LoadU(df, from), c1 = hn::LoadU(df, from + gap);
  // Both before a store, after which the compiler would load again what they share.
  const VF32 l0 = Link<F>(c0, i0, scale0, min0, x, sub, row);
  const VF32 l1 = Link<F>(c1, i1, scale1, min1, x, sub, row);
  if (kLast && sub + 1 == kSubsPerStep<F>) {
    StoreRow(l0, c, 0);
    StoreRow(l1, c, gap);
  } else {
    hn::StoreU(l0, df, c.to);
    hn::StoreU(l1, df, c.to + gap);
  }
}

// One step of two slices, whose outputs are `gap` apart, for all rows: the levels of 32 k x 2
// slices are unpacked once into 16 registers, then the rows stream by, kGroupRows at a time. Per
// row: 8 broadcasts, unless dots load by themselves, 16 dots, and for each sub-block and slice a
// conversion, a product, and one or two fused multiply-adds.
template <class F, bool kLast>
HWY_NOINLINE void TileStep(const TwoSlices& slices, const StepActs& acts, size_t rows,
                           const StepOutputs& outputs, size_t gap) {
  // Copies that are in registers: by value they would go over the stack, and wait for it.
  const TwoSlices w = slices;
  const StepActs x = acts;
  StepOutputs c = outputs;
  const auto level0 = [&]<size_t kQuad>()
                          HWY_ATTR { return LevelQuad<F, kQuad>(w.block0, w.step, w.lane0); };
  const auto level1 = [&]<size_t kQuad>()
                          HWY_ATTR { return LevelQuad<F, kQuad>(w.block1, w.step, w.lane1); };
  const VCode w00 = level0.template operator()<0>(), w10 = level1.template operator()<0>();
  const VCode w01 = level0.template operator()<1>(), w11 = level1.template operator()<1>();
  const VCode w02 = level0.template operator()<2>(), w12 = level1.template operator()<2>();
  const VCode w03 = level0.template operator()<3>(), w13 = level1.template operator()<3>();
  const VCode w04 = level0.template operator()<4>(), w14 = level1.template operator()<4>();
  const VCode w05 = level0.template operator()<5>(), w15 = level1.template operator()<5>();
  const VCode w06 = level0.template operator()<6>(), w16 = level1.template operator()<6>();
  const VCode w07 = level0.template operator()<7>(), w17 = level1.template operator()<7>();
  constexpr size_t kSubs = kSubsPerStep<F>;
  const size_t sub = w.step * kSubs, last = kSubs - 1;
  const VF32 scale00 = F::Scale(w.block0, sub, w.lane0), min00 = MinOf<F>(w.block0, sub, w.lane0);
  const VF32 scale10 = F::Scale(w.block1, sub, w.lane1), min10 = MinOf<F>(w.block1, sub, w.lane1);
  const VF32 scale01 = F::Scale(w.block0, sub + last, w.lane0);
  const VF32 scale11 = F::Scale(w.block1, sub + last, w.lane1);
  const VF32 min01 = MinOf<F>(w.block0, sub + last, w.lane0);
  const VF32 min11 = MinOf<F>(w.block1, sub + last, w.lane1);
  const int8_t* q = x.q;
  size_t r = 0;
  // A group of kRows (4 or 6) rows. Inlined by order: else GCC makes it a function, and the levels
  // come from the stack.
  const auto take = [&]<size_t kRows>() HWY_ATTR __attribute__((always_inline)) {
    VI32 i00, i01, i10, i11, i20, i21, i30, i31, i40, i41, i50, i51;
    const auto start = [&](size_t s) HWY_ATTR __attribute__((always_inline)) {
      i00 = i01 = StartOf<F>(x, s, r), i10 = i11 = StartOf<F>(x, s, r + 1);
      i20 = i21 = StartOf<F>(x, s, r + 2), i30 = i31 = StartOf<F>(x, s, r + 3);
      if constexpr (kRows > 4) {
        i40 = i41 = StartOf<F>(x, s, r + 4), i50 = i51 = StartOf<F>(x, s, r + 5);
      }
    };
    // Quad kQuad of a half, of which a row has its codes at `half`.
    const auto dot = [&]<int kQuad>(VCode w0, VCode w1, const int8_t* half) HWY_ATTR
        __attribute__((always_inline)) {
      const auto row = [&](size_t n, VI32 & i0, VI32 & i1) HWY_ATTR __attribute__((always_inline)) {
        i0 = DotLane<F, kQuad>(i0, w0, half + n * kBlock);
        i1 = DotLane<F, kQuad>(i1, w1, half + n * kBlock);
      };
      row(0, i00, i01), row(1, i10, i11), row(2, i20, i21), row(3, i30, i31);
      if constexpr (kRows > 4) row(4, i40, i41), row(5, i50, i51);
    };
    const auto link = [&](size_t s, VF32 scale0, VF32 scale1, VF32 min0, VF32 min1) HWY_ATTR
        __attribute__((always_inline)) {
      const auto row = [&](size_t n, VI32 i0, VI32 i1) HWY_ATTR __attribute__((always_inline)) {
        LinkRow<F, kLast>(i0, i1, scale0, scale1, min0, min1, x, s, r + n, c.Row(n), gap);
      };
      row(0, i00, i01), row(1, i10, i11), row(2, i20, i21), row(3, i30, i31);
      if constexpr (kRows > 4) row(4, i40, i41), row(5, i50, i51);
    };
    start(0);
    dot.template operator()<0>(w00, w10, q), dot.template operator()<1>(w01, w11, q);
    dot.template operator()<2>(w02, w12, q), dot.template operator()<3>(w03, w13, q);
    if constexpr (kSubs > 1) link(0, scale00, scale10, min00, min10), start(1);
    dot.template operator()<0>(w04, w14, q + 16), dot.template operator()<1>(w05, w15, q + 16);
    dot.template operator()<2>(w06, w16, q + 16), dot.template operator()<3>(w07, w17, q + 16);
    link(last, scale01, scale11, min01, min11);
    r += kRows, q += kRows * kBlock, c = c.Row(kRows);
  };
  if constexpr (kHasDotLane<F>) {
    if constexpr (kGroupRows<F> == 6) {
      // Two or three that are left take six with them, as 4 + 4 (+ 1): alone they would wait for
      // one chain after the other.
      const size_t left = rows % 6;
      const size_t end = rows - left - (rows > 6 && (left == 2 || left == 3) ? 6 : 0);
      while (r < end) take.template operator()<6>();
    }
    while (rows - r >= 4) take.template operator()<4>();
  }
  for (; r < rows; ++r, q += kBlock, c = c.Row(1)) {
    VI32 i0 = StartOf<F>(x, 0, r), i1 = i0;
    i0 = DotHalf<F>(i0, w00, w01, w02, w03, q);
    i1 = DotHalf<F>(i1, w10, w11, w12, w13, q);
    if constexpr (kSubs > 1) {
      LinkRow<F, kLast>(i0, i1, scale00, scale10, min00, min10, x, 0, r, c, gap);
      i0 = StartOf<F>(x, 1, r), i1 = i0;
    }
    i0 = DotHalf<F>(i0, w04, w05, w06, w07, q + 16);
    i1 = DotHalf<F>(i1, w14, w15, w16, w17, q + 16);
    LinkRow<F, kLast>(i0, i1, scale01, scale11, min01, min11, x, last, r, c, gap);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace hob
HWY_AFTER_NAMESPACE();

#endif  // HOB_KERNELS_TILE_INL_H_
