// The registers of attention: c[r][slices] = from[r][slices] + sum over g of w[g][slices] * x[r][g]
// for a few rows and up to four slices (vectors of outputs), each a stream of its own. Keys and
// values are read once for all rows of a tile, rows once for four slices. It is the matmul's
// Tile (tile-inl.h) with other proportions: here the rows may be as few as one, and four slices
// then still are enough chains to hide the latency of a step.

#include <cstddef>
#include <cstdint>

#include "kernels/targets.h"

#if defined(HOB_KERNELS_ATTENTION_TILE_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef HOB_KERNELS_ATTENTION_TILE_INL_H_
#undef HOB_KERNELS_ATTENTION_TILE_INL_H_
#else
#define HOB_KERNELS_ATTENTION_TILE_INL_H_
#endif

#include "kernels/tile-inl.h"

HWY_BEFORE_NAMESPACE();
namespace hob {
namespace HWY_NAMESPACE {

// How the cache's lanes go into the tile. A lane w of the cache is kSteps steps: First(w) times the
// first x, Second(w) times the next. kStreams: w may come from memory. BF16Scope must be alive
// around tiles of bf16.

struct GridF32 : ElementF32 {
  static constexpr size_t kSteps = 1, kMostRows = 6;
  static constexpr bool kStreams = true;
  static HWY_INLINE VF32 First(VF32 w) { return w; }
  static HWY_INLINE VF32 Second(VF32 w) { return w; }  // never called
};

// Pairs of bf16 where there is a dot of them; x: pairs, too.
struct GridPairs : ElementBF16 {
  static constexpr size_t kSteps = 1, kMostRows = 6;
  static constexpr bool kStreams = true;
  static HWY_INLINE VU32 First(VU32 w) { return w; }
  static HWY_INLINE VU32 Second(VU32 w) { return w; }  // never called
};

// The bf16 step is one instruction on x86. Elsewhere it needs registers.
inline constexpr size_t kBF16Rows = HWY_ARCH_X86 ? 6 : 3;

// Pairs of bf16 where there is none, split as they come; x: f32.
struct GridSplit {
  using W = uint32_t;
  using X = float;
  static constexpr size_t kSteps = 2, kMostRows = kBF16Rows;
  static constexpr bool kStreams = true;
  static HWY_INLINE VU32 Load(const W* w) { return hn::LoadU(DU32(), w); }
  static HWY_INLINE VF32 First(VU32 w) { return HighHalf(w); }
  static HWY_INLINE VF32 Second(VU32 w) { return LowHalf(w); }
  static HWY_INLINE VF32 Spread(X x) { return SpreadFloat(x); }
  static HWY_INLINE VF32 Start(VF32 acc) { return BF16Start(acc); }
  static HWY_INLINE VF32 Step(VF32 acc, VF32 w, VF32 x) { return BF16Step(acc, w, x); }
};

// The same, split before.
struct GridHalves : GridF32 {
  static constexpr size_t kMostRows = kBF16Rows;
  static constexpr bool kStreams = false;
  static HWY_INLINE VF32 Start(VF32 acc) { return BF16Start(acc); }
  static HWY_INLINE VF32 Step(VF32 acc, VF32 w, VF32 x) { return BF16Step(acc, w, x); }
};

// What a tile works on; row r of x, from and c is so many strides further. It is handed on by
// reference and moved along: a copy would read, in whole vectors, what was only just written word
// by word, and wait for it.
template <class E>
struct Grid {
  const typename E::W* w[4];  // where each slice begins, w_stride lanes from one g to the next
  size_t w_stride;
  const typename E::X* x;
  size_t x_stride;
  size_t groups;
  const float* from;  // slices side by side, as in c; nullptr: zeros
  size_t from_stride;
  float* c;
  size_t c_stride;
  // Lanes of a row of w of which those that are in no slice are wanted soon, too; 0: they are not,
  // or they have been asked for. Whoever reads only a part of each row is not foreseen.
  size_t row;
  // So many times `groups` follow; how far it is in x from the end of one to the next.
  size_t times = 1, x_gap = 0;

  void SkipRows(size_t rows) {
    row = 0;
    x += rows * x_stride;
    if (from != nullptr) from += rows * from_stride;
    c += rows * c_stride;
  }
  void SkipSlices(size_t slices) {
    row = 0;
    for (size_t i = 0; i + slices < 4; ++i) w[i] = w[i + slices];
    if (from != nullptr) from += slices * OutputsPerVector();
    c += slices * OutputsPerVector();
  }
};

// One row's step.
template <class E, size_t kSlices, class P>
HWY_INLINE void StepRow(P w0, P w1, P w2, P w3, typename E::X x, VF32& a0, VF32& a1, VF32& a2,
                        VF32& a3) {
  const auto s = E::Spread(x);
  a0 = E::Step(a0, w0, s);
  if constexpr (kSlices > 1) a1 = E::Step(a1, w1, s);
  if constexpr (kSlices > 2) a2 = E::Step(a2, w2, s), a3 = E::Step(a3, w3, s);
}

template <class E, size_t kSlices>
HWY_INLINE void LoadRow(const float* from, VF32& a0, VF32& a1, VF32& a2, VF32& a3) {
  const DF32 df;
  const size_t step = hn::Lanes(df);
  a0 = E::Start(hn::LoadU(df, from));
  if constexpr (kSlices > 1) a1 = E::Start(hn::LoadU(df, from + step));
  if constexpr (kSlices > 2) {
    a2 = E::Start(hn::LoadU(df, from + 2 * step)), a3 = E::Start(hn::LoadU(df, from + 3 * step));
  }
}

// kRows rows (1 to 4, or 6) of kSlices slices (1, 2 or 4). What is beyond them is never used and
// costs nothing.
template <class E, size_t kRows, size_t kSlices>
HWY_NOINLINE void GridTile(const Grid<E>& grid) {
  const DF32 df;
  const size_t step = hn::Lanes(df), stride = grid.w_stride, xs = grid.x_stride;
  [[maybe_unused]] const size_t row = grid.row;
  const auto *w0 = grid.w[0], *w1 = grid.w[kSlices > 1 ? 1 : 0];
  const auto *w2 = grid.w[kSlices > 2 ? 2 : 0], *w3 = grid.w[kSlices > 2 ? 3 : 0];
  // Of prompts, whose tiles stay in a cache for all of their rows, nothing is asked for. (Here,
  // since a call leaves no vector in its register.)
  constexpr bool kMayAsk = kMayAskAhead && E::kStreams && kRows <= 4;
  const size_t ahead = kMayAsk && OnIntel() ? kStreamAhead / sizeof(*w0) : 0;
  VF32 a00 = hn::Zero(df), a01 = a00, a02 = a00, a03 = a00;
  VF32 a10 = a00, a11 = a00, a12 = a00, a13 = a00;
  VF32 a20 = a00, a21 = a00, a22 = a00, a23 = a00;
  VF32 a30 = a00, a31 = a00, a32 = a00, a33 = a00;
  VF32 a40 = a00, a41 = a00, a42 = a00, a43 = a00;
  VF32 a50 = a00, a51 = a00, a52 = a00, a53 = a00;
  if (grid.from != nullptr) {
    const float* from = grid.from;
    const size_t fs = grid.from_stride;
    LoadRow<E, kSlices>(from, a00, a01, a02, a03);
    if constexpr (kRows > 1) LoadRow<E, kSlices>(from + fs, a10, a11, a12, a13);
    if constexpr (kRows > 2) LoadRow<E, kSlices>(from + 2 * fs, a20, a21, a22, a23);
    if constexpr (kRows > 3) LoadRow<E, kSlices>(from + 3 * fs, a30, a31, a32, a33);
    if constexpr (kRows > 4) LoadRow<E, kSlices>(from + 4 * fs, a40, a41, a42, a43);
    if constexpr (kRows > 4) LoadRow<E, kSlices>(from + 5 * fs, a50, a51, a52, a53);
  }
  const auto* x = grid.x;
  const auto* x3 = x + (kRows > 3 ? 3 * xs : 0);
  // Of six rows once: those of prompts, whose loop is a percent faster without another around it.
  for (size_t times = kRows > 4 ? 1 : grid.times; times > 0; --times) {
    const auto* const end = x + grid.groups * E::kSteps;
    // Unrolled, so that so few turns are left that the CPU foresees the last.
    HWY_UNROLL(4)
    for (; x != end; x += E::kSteps, x3 += E::kSteps) {
      // Four whole panels have all of the row. (A loop of a fixed length does not keep the one
      // around it from being unrolled.)
      if constexpr (E::kStreams && kRows <= 4 &&
                    (HWY_HAVE_SCALABLE || HWY_MAX_LANES_D(DF32) < kPanel)) {
        HWY_UNROLL(3)
        for (size_t i = kPanel; i < 4 * kPanel; i += kPanel) {
          if (i >= kSlices * step && i < row) hwy::Prefetch(w0 + i);
        }
      }
      if (kMayAsk && ahead != 0) {
        hwy::Prefetch(w0 + ahead);
        if (kSlices > 1 && step == kPanel) hwy::Prefetch(w1 + ahead);
        if (kSlices > 2) hwy::Prefetch(w2 + ahead);
        if (kSlices > 2 && step == kPanel) hwy::Prefetch(w3 + ahead);
      }
      const auto v0 = E::Load(w0), v1 = E::Load(w1), v2 = E::Load(w2), v3 = E::Load(w3);
      w0 += stride, w1 += stride, w2 += stride, w3 += stride;
      {
        const auto p0 = E::First(v0), p1 = E::First(v1), p2 = E::First(v2), p3 = E::First(v3);
        StepRow<E, kSlices>(p0, p1, p2, p3, x[0], a00, a01, a02, a03);
        if constexpr (kRows > 1) StepRow<E, kSlices>(p0, p1, p2, p3, x[xs], a10, a11, a12, a13);
        if constexpr (kRows > 2) StepRow<E, kSlices>(p0, p1, p2, p3, x[2 * xs], a20, a21, a22, a23);
        if constexpr (kRows > 3) StepRow<E, kSlices>(p0, p1, p2, p3, x3[0], a30, a31, a32, a33);
        if constexpr (kRows > 4) StepRow<E, kSlices>(p0, p1, p2, p3, x3[xs], a40, a41, a42, a43);
        if constexpr (kRows > 4)
          StepRow<E, kSlices>(p0, p1, p2, p3, x3[2 * xs], a50, a51, a52, a53);
      }
      if constexpr (E::kSteps == 2) {
        const auto p0 = E::Second(v0), p1 = E::Second(v1), p2 = E::Second(v2), p3 = E::Second(v3);
        StepRow<E, kSlices>(p0, p1, p2, p3, x[1], a00, a01, a02, a03);
        if constexpr (kRows > 1) StepRow<E, kSlices>(p0, p1, p2, p3, x[xs + 1], a10, a11, a12, a13);
        if constexpr (kRows > 2) {
          StepRow<E, kSlices>(p0, p1, p2, p3, x[2 * xs + 1], a20, a21, a22, a23);
        }
        if constexpr (kRows > 3) StepRow<E, kSlices>(p0, p1, p2, p3, x3[1], a30, a31, a32, a33);
        if constexpr (kRows > 4) {
          StepRow<E, kSlices>(p0, p1, p2, p3, x3[xs + 1], a40, a41, a42, a43);
          StepRow<E, kSlices>(p0, p1, p2, p3, x3[2 * xs + 1], a50, a51, a52, a53);
        }
      }
    }
    x += grid.x_gap, x3 += grid.x_gap;
  }
  const auto store = [&](size_t r, VF32 s0, VF32 s1, VF32 s2, VF32 s3) HWY_ATTR {
    if (r >= kRows) return;
    float* c = grid.c + r * grid.c_stride;
    hn::StoreU(s0, df, c);
    if (kSlices > 1) hn::StoreU(s1, df, c + step);
    if (kSlices > 2) hn::StoreU(s2, df, c + 2 * step), hn::StoreU(s3, df, c + 3 * step);
  };
  store(0, a00, a01, a02, a03), store(1, a10, a11, a12, a13), store(2, a20, a21, a22, a23);
  store(3, a30, a31, a32, a33), store(4, a40, a41, a42, a43), store(5, a50, a51, a52, a53);
}

// The same on targets where three rows and more of four slices do not fit the registers.
template <class E, size_t kRows, size_t kSlices>
HWY_INLINE void GridTiles(const Grid<E>& grid) {
  if constexpr (kManyRegisters || kRows <= 2 || kSlices <= 2) {
    GridTile<E, kRows, kSlices>(grid);
  } else {
    GridTile<E, kRows, 2>(grid);
    Grid<E> rest = grid;
    rest.SkipSlices(2);
    GridTile<E, kRows, 2>(rest);
  }
}

// Any number of rows; the grid is left behind them.
template <class E, size_t kSlices>
HWY_INLINE void GridRows(Grid<E>& grid, size_t rows) {
  size_t step = 0;
  for (; rows > 0; rows -= step, grid.SkipRows(step)) {
    if (E::kMostRows >= 6 && rows >= 6 && rows != 7 && rows != 8 && grid.times == 1) {
      step = 6;
      GridTiles<E, 6, kSlices>(grid);
    } else if (E::kMostRows >= 6 && rows >= 4 && rows != 5) {
      step = 4;
      GridTiles<E, 4, kSlices>(grid);
    } else if (rows >= 3) {
      step = 3;
      GridTiles<E, 3, kSlices>(grid);
    } else if (rows == 2) {
      step = 2;
      GridTiles<E, 2, kSlices>(grid);
    } else {
      step = 1;
      GridTiles<E, 1, kSlices>(grid);
    }
  }
}

// And 1 to 4 slices; the grid is used up.
template <class E>
HWY_NOINLINE void GridSlices(Grid<E>&& grid, size_t rows, size_t slices) {
  if (slices == 4) return GridRows<E, 4>(grid, rows);
  if (slices == 3) {
    Grid<E> last = grid;
    last.SkipSlices(2);
    GridRows<E, 1>(last, rows);
  }
  return slices >= 2 ? GridRows<E, 2>(grid, rows) : GridRows<E, 1>(grid, rows);
}

}  // namespace HWY_NAMESPACE
}  // namespace hob
HWY_AFTER_NAMESPACE();

#endif  // HOB_KERNELS_ATTENTION_TILE_INL_H_
