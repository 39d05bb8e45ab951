// The loops of the matmul: out[m][n] = sum over k of act[m][k] * weight[n][k] for a range of
// panels,
//
//   for each pair of panels (32 outputs)                        independent: split over threads
//     for each tile of rows                                     their 32 outputs stay in L1
//       for each step of 32 k, upward                           the order is the contract
//         for each pair of slices (2 vectors of outputs)        tile-inl.h
//
// and the epilogue (bias, gate, residual). Start here to read the SIMD side; before it come
// c_api.cc (validation) and matmul.cc (activations). Tested by tests/matmul_test.cc.

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include "kernels/formats/contract.h"
#include "kernels/matmul.h"
#include "kernels/targets.h"

#if defined(HOB_KERNELS_MATMUL_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef HOB_KERNELS_MATMUL_INL_H_
#undef HOB_KERNELS_MATMUL_INL_H_
#else
#define HOB_KERNELS_MATMUL_INL_H_
#endif

#include <hwy/cache_control.h>

#include "kernels/tile-inl.h"
#include "kernels/tile_l1-inl.h"

HWY_BEFORE_NAMESPACE();
namespace hob {
namespace HWY_NAMESPACE {

// Outputs of two panels.
inline constexpr size_t kPair = 2 * kPanel;

// Rows whose 32 outputs are accumulated together: 16 KB of L1, and a block is unpacked once for 128
// rows.
inline constexpr size_t kRowTile = 128;

inline PanelPair PairAt(const MatmulTask& task, size_t panel_bytes, size_t panel,
                        size_t panel_end) {
  const uint8_t* first = task.packed + panel * panel_bytes;
  return {first, panel + 1 < panel_end ? first + panel_bytes : first};
}

// Stores up to one vector of outputs: residual + silu(gate) * (c + bias).
HWY_INLINE void StoreOutputs(const MatmulTask& task, size_t row, size_t n, VF32 c, size_t count) {
  const DF32 df;
  const size_t at = row * task.out_stride + n;
  const bool whole = count >= hn::Lanes(df);
  const auto load = [&](const float* p)
                        HWY_ATTR { return whole ? hn::LoadU(df, p) : hn::LoadN(df, p, count); };
  if (task.bias != nullptr) c = hn::Add(c, load(task.bias + n));
  if (task.gate != nullptr) {
    c = hn::Mul(Silu(load(task.gate + at)), c);
  }
  if (task.residual != nullptr) c = hn::Add(load(task.residual + at), c);
  if (whole) {
    hn::StoreU(c, df, task.out + at);
  } else {
    hn::StoreN(c, df, task.out + at, count);
  }
}

// c (rows, 32): the outputs of the pair of panels that begins at `panel`, for rows from `row` on.
HWY_INLINE void StorePair(const MatmulTask& task, size_t panel, size_t panel_end, size_t row,
                          size_t rows, const float* c) {
  const size_t n = panel * kPanel;
  const size_t count = std::min({kPair, task.n - n, (panel_end - panel) * kPanel});
  for (size_t r = 0; r < rows; ++r, c += kPair) {
    for (size_t i = 0; i < count; i += OutputsPerVector()) {
      StoreOutputs(task, row + r, n + i, hn::LoadU(DF32(), c + i), count - i);
    }
  }
}

// ---------------------------------------------------------------- blocks

// What the rows of a tile bring to one step of 32 k besides their codes.
struct RowTerms {
  alignas(64) int32_t start[2][kRowTile];
  alignas(64) float min[2][kRowTile];
  alignas(64) int16_t words[kRowTile * kBlock];
};

// The even codes of a row's 32, then the odd ones, as 16 bits. At most 32 bytes at a time: beside
// them lies the next row, and behind the last one nothing.
HWY_INLINE void WidenCodes(const int8_t* q, int16_t* words) {
  const hn::CappedTag<int8_t, kBlock> d8;
  const hn::Repartition<int16_t, decltype(d8)> d16;
  for (size_t i = 0; i < kBlock; i += hn::Lanes(d8)) {
    const auto pairs = hn::BitCast(d16, hn::LoadU(d8, q + i));
    hn::StoreU(hn::ShiftRight<8>(hn::ShiftLeft<8>(pairs)), d16, words + i / 2);
    hn::StoreU(hn::ShiftRight<8>(pairs), d16, words + kBlock / 2 + i / 2);
  }
}

// Where integer sums start whose activations have these sums, and what minimums are multiplied
// with.
template <class F>
HWY_INLINE VI32 StartTerms(VI32 sum) {
  return hn::Mul(sum, hn::Set(DI32(), -kZeroPoint<F>));
}
HWY_INLINE VF32 MinTerms(VF32 scale, VI32 sum) {
  return hn::Mul(scale, hn::ConvertTo(DF32(), sum));
}

// The activations of step `step` (k / 32) for rows [row, row + rows).
template <class F>
HWY_INLINE StepActs ActsOf(const Q8Acts& acts, size_t m, size_t step, size_t row, size_t rows,
                           RowTerms* terms) {
  const DF32 df;
  const DI32 di;
  const size_t at = step * m + row;
  // Vectors may run past the rows, within the tile's arrays; what is there is not used.
  const auto load = [&](const int32_t* sums, size_t r) HWY_ATTR {
    return r + hn::Lanes(di) <= rows ? hn::LoadU(di, sums + r) : hn::LoadN(di, sums + r, rows - r);
  };
  const auto store_terms = [&](VI32 sum, size_t sub, size_t r) HWY_ATTR {
    if constexpr (kZeroPoint<F> != 0) {
      hn::Store(StartTerms<F>(sum), di, terms->start[sub] + r);
    }
    if constexpr (F::kHasMin) {
      const float* scale = acts.scales + at + r;
      const VF32 x =
          rows - r < hn::Lanes(df) ? hn::LoadN(df, scale, rows - r) : hn::LoadU(df, scale);
      hn::Store(MinTerms(x, sum), df, terms->min[sub] + r);
    }
  };
  const int32_t* sums = acts.sums + 2 * step * m + row;
  for (size_t r = 0; (kZeroPoint<F> != 0 || F::kHasMin) && r < rows; r += hn::Lanes(di)) {
    const VI32 first = load(sums, r), second = load(sums + m, r);
    if constexpr (kSubsPerStep<F> == 1) {
      store_terms(hn::Add(first, second), 0, r);
    } else {
      store_terms(first, 0, r);
      store_terms(second, 1, r);
    }
  }
  const int8_t* q = acts.codes + at * kBlock;
  if constexpr (kWide<F>) {
    for (size_t r = 0; r < rows; ++r) WidenCodes(q + r * kBlock, terms->words + r * kBlock);
  }
  return {q, acts.scales + at, terms->start[0], terms->min[0], kRowTile, terms->words};
}

// Asks for the cache lines of the outputs that a tile will store at its end: a line of each row on
// a page of its own, which no prefetcher foresees. Part `part` of `parts`.
HWY_INLINE void PrefetchOutputs(const MatmulTask& task, size_t n, size_t row, size_t rows,
                                size_t part, size_t parts) {
  for (size_t r = rows * part / parts; r < rows * (part + 1) / parts; ++r) {
    const float* out = task.out + (row + r) * task.out_stride + n;
    hwy::Prefetch(out);
    hwy::Prefetch(out + kPanel);
  }
}

// Asks for the weights that the first tile of rows will want kStreamAhead later; the tiles after it
// find them in a cache. A panel's end is followed by the other of the pair, and then by the next.
template <class F>
HWY_INLINE void PrefetchStep(const PanelPair& panels, size_t panel_bytes, size_t step) {
  size_t begin = step * kStepBytes<F> + kStreamAhead;
  if (begin >= panel_bytes && panels.first != panels.second) begin += panel_bytes;
  for (size_t at = begin; at < begin + kStepBytes<F>; at += 64) {
    hwy::Prefetch(panels.first + at);
    hwy::Prefetch(panels.second + at);
  }
}

// Whether the levels of a step are in registers while rows stream by (tile-inl.h), or in L1
// (tile_l1-inl.h).
template <class F>
inline constexpr bool kInRegisters = (kDots<F> && kManyRegisters);

// Whether a tile's last step can store its outputs where they belong: the task wants all of them,
// and nothing is to be done that takes registers.
HWY_INLINE bool AllWanted(const MatmulTask& task, size_t n, const PanelPair& panels) {
  return task.gate == nullptr && n + kPair <= task.n && panels.first != panels.second;
}

// Whether it does: no residual, which may lie in the same place, must be overwritten between two
// sub-blocks.
template <class F>
HWY_INLINE bool StoresDirectly(const MatmulTask& task, size_t n, size_t rows,
                               const PanelPair& panels) {
  return AllWanted(task, n, panels) && (kSubsPerStep<F> == 1 || task.residual == nullptr) &&
         (kInRegisters<F> || rows % kPairRows == 0);
}

// The outputs of a pair of panels, from n on, in one of a tile's steps: the first one starts from
// zeros, and one that is `direct`, the last, stores where the task wants them. Else they are in c
// (rows, 32).
HWY_INLINE StepOutputs OutputsOfStep(const MatmulTask& task, size_t n, size_t row, float* c,
                                     bool first, bool direct) {
  HWY_ALIGN static constexpr float kZeros[kPair] = {};
  StepOutputs out = {c, kPair, c, kPair, nullptr, nullptr};
  if (first) out.from = kZeros, out.from_stride = 0;
  if (direct) {
    const size_t at = row * task.out_stride + n;
    out.to = task.out + at, out.to_stride = task.out_stride;
    out.bias = task.bias == nullptr ? nullptr : task.bias + n;
    out.residual = task.residual == nullptr ? nullptr : task.residual + at;
  }
  return out;
}

// One step of some rows against both panels.
template <class F, bool kLast>
HWY_INLINE void PairStepRows(const PairStep& w, const StepActs& x, size_t rows,
                             const StepOutputs& c) {
  const size_t slice = OutputsPerVector();
  if constexpr (kInRegisters<F>) {
    for (size_t i = 0; i < kPair; i += 2 * slice) {
      const size_t j = i + slice;
      const TwoSlices slices = {w.blocks.Of(i), i % kPanel, w.blocks.Of(j), j % kPanel, w.step};
      TileStep<F, kLast>(slices, x, rows, c.Output(i), slice);
    }
  } else {
    TileStepL1<F, kLast>(w, x, rows, c);
  }
}

// A pair of panels and what is known of it in a tile of rows.
struct TilePair {
  PanelPair panels;
  size_t n;     // its first output
  bool direct;  // the last step stores where the task wants the outputs
  float* c;     // (kRowTile, 32): where they are until then
};

// Pairs that share what is made of the activations for a step, of which there is more where levels
// are in L1. Their outputs are then more than L1 holds, but a tile goes through them in order.
template <class F>
inline constexpr size_t kTilePairs = kInRegisters<F> ? 2 : 4;

// Step `step` of a pair.
template <class F>
HWY_INLINE void BlockTileStep(const MatmulTask& task, const TilePair& pair, const StepActs& x,
                              size_t row, size_t rows, size_t step) {
  const size_t steps = task.k / kBlock;
  PrefetchOutputs(task, pair.n, row, rows, step, steps);
  if (row == 0) PrefetchStep<F>(pair.panels, BlockFormat<F>::PanelBytes(task.k), step);
  const size_t block = step * kBlock / F::kValues * kPanelBlockBytes<F>;
  const PairStep w = {{pair.panels.first + block, pair.panels.second + block},
                      step % (F::kValues / kBlock)};
  const bool direct = pair.direct && step + 1 == steps;
  const StepOutputs out = OutputsOfStep(task, pair.n, row, pair.c, step == 0, direct);
  if (direct) {
    PairStepRows<F, true>(w, x, rows, out);
  } else {
    PairStepRows<F, false>(w, x, rows, out);
  }
}

// Rows [row, row + rows) against some pairs, to their c, or if `direct` to where the task wants
// them: stores that miss the caches are then spread over a step, and nothing waits for them.
template <class F>
HWY_INLINE void BlockTile(const MatmulTask& task, const Q8Acts& acts, const TilePair* pairs,
                          size_t count, size_t row, size_t rows) {
  RowTerms terms;
  for (size_t step = 0; step < task.k / kBlock; ++step) {
    const StepActs x = ActsOf<F>(acts, task.m, step, row, rows, &terms);
    for (size_t i = 0; i < count; ++i) BlockTileStep<F>(task, pairs[i], x, row, rows, step);
  }
}

// Up to this many rows, one or 8 + 4 + 2 + 1 of them at a time, the accumulators stay in registers
// over all of k. Without a dot or with few registers this is for one row alone.
template <class F>
inline constexpr size_t kFewRows = (kManyRegisters && kDots<F> && kHasDotLane<F>) ? 15 : 1;

// What rows bring to some steps besides their codes; enough for 256 steps of 8 rows.
inline constexpr size_t kStreamTerms = 2048;

struct StreamTerms {
  float scale[kStreamTerms];
  int32_t start[2 * kStreamTerms];
  float min[2 * kStreamTerms];
};

// The activations of rows [row, row + rows) of m from step `first` on, `steps` of them. The terms,
// [step][sub-block][rows], go to *terms from `at` on.
template <class F>
HWY_INLINE StepActs StreamActs(const Q8Acts& acts, size_t m, size_t row, size_t rows, size_t first,
                               size_t steps, size_t at, StreamTerms* terms) {
  constexpr size_t kSubs = kSubsPerStep<F>;
  float* scales = terms->scale + at;
  int32_t* start = terms->start + kSubs * at;
  float* min = terms->min + kSubs * at;
  for (size_t i = 0; i < steps; ++i) {
    for (size_t r = 0; r < rows; ++r) {
      const float scale = acts.scales[(first + i) * m + row + r];
      const int32_t* halves = acts.sums + 2 * (first + i) * m + row + r;
      scales[i * rows + r] = scale;
      for (size_t s = 0; s < kSubs; ++s) {
        const int32_t sum = kSubs == 1 ? halves[0] + halves[m] : halves[s * m];
        start[(i * kSubs + s) * rows + r] = -kZeroPoint<F> * sum;
        if constexpr (F::kHasMin) min[(i * kSubs + s) * rows + r] = scale * static_cast<float>(sum);
      }
    }
  }
  return {acts.codes + (first * m + row) * kBlock, scales, start, min, rows, nullptr};
}

// The same of the only row there is, for all of k: as many steps at a time as a vector has lanes,
// of which it has at least one full. The last may take some steps once more.
template <class F>
HWY_INLINE StepActs OnlyRowActs(const Q8Acts& acts, size_t steps, StreamTerms* terms) {
  const DF32 df;
  const DI32 di;
  constexpr bool kTwoSubs = kSubsPerStep<F> == 2;
  const size_t lanes = hn::Lanes(di);
  for (size_t next = 0; (kZeroPoint<F> != 0 || F::kHasMin) && next < steps; next += lanes) {
    const size_t i = std::min(next, steps - lanes);
    const VF32 scale = hn::LoadU(df, acts.scales + i);
    VI32 first, second;
    hn::LoadInterleaved2(di, acts.sums + 2 * i, first, second);
    if constexpr (kTwoSubs) {
      hn::StoreInterleaved2(StartTerms<F>(first), StartTerms<F>(second), di, terms->start + 2 * i);
      if constexpr (F::kHasMin) {
        hn::StoreInterleaved2(MinTerms(scale, first), MinTerms(scale, second), df,
                              terms->min + 2 * i);
      }
    } else {
      const VI32 sum = hn::Add(first, second);
      hn::StoreU(StartTerms<F>(sum), di, terms->start + i);
      if constexpr (F::kHasMin) hn::StoreU(MinTerms(scale, sum), df, terms->min + i);
    }
  }
  return {acts.codes, acts.scales, terms->start, terms->min, 1, nullptr};
}

// `rows` (1, 2, 4 or 8) of m rows against a part of a panel; c (rows, 32).
template <class F>
HWY_INLINE void StreamPanel(const uint8_t* block, const StepActs& x, size_t rows, size_t m,
                            size_t blocks, float* c) {
  const size_t slice = OutputsPerVector();
  if constexpr (kFewRows<F> != 1) {
    for (size_t i = 0; i < kPanel && rows > 1; i += slice) {
      if (rows == 8) StreamRows<F, 8>(block, i, x, m * kBlock, blocks, c + i, kPair);
      if (rows == 4) StreamRows<F, 4>(block, i, x, m * kBlock, blocks, c + i, kPair);
      if (rows == 2) StreamRows<F, 2>(block, i, x, m * kBlock, blocks, c + i, kPair);
    }
    if (rows > 1) return;
  }
  if (HWY_MAX_LANES_D(DF32) == kPanel && slice == kPanel) {
    StreamRow<F, 1>(block, 0, 0, x, m * kBlock, blocks, c);
  } else if constexpr (HWY_MAX_LANES_D(DF32) < kPanel || HWY_HAVE_SCALABLE) {
    for (size_t i = 0; i < kPanel; i += 2 * slice) {
      StreamRow<F, 2>(block, i, 0, x, m * kBlock, blocks, c + i);
    }
  }
}

// Whether one row reads two streams side by side where a vector is all of a panel: they share the
// row's loads, but each must be left for the other before long, or memory falls behind.
template <class F>
inline constexpr bool kTwoStreams = (kStepBytes<F> <= 7 * 64);

// One row against panels [panel, panel_end), cut into runs that are read side by side, two slices
// or, asked for ahead, four at a time. Returns where it ends: what does not divide is left.
template <class F, bool kAhead>
HWY_INLINE size_t RowRuns(const MatmulTask& task, const StepActs& x, size_t panel,
                          size_t panel_end) {
  constexpr size_t kSlices = kAhead ? 4 : 2;
  const size_t runs = kSlices * OutputsPerVector() / kPanel, run = (panel_end - panel) / runs;
  const size_t panel_bytes = BlockFormat<F>::PanelBytes(task.k), blocks = task.k / F::kValues;
  for (const size_t end = panel + run; panel < end; ++panel) {
    HWY_ALIGN float c[kSlices * HWY_MAX_LANES_D(DF32)] = {};
    const uint8_t* block = task.packed + panel * panel_bytes;
    if constexpr (kAhead) {
      StreamRowAhead<F>(block, run * panel_bytes, x, kBlock, blocks, c);
    } else {
      StreamRow<F, 2>(block, 0, run * panel_bytes, x, kBlock, blocks, c);
    }
    for (size_t i = 0; i < runs; ++i) {
      StorePair(task, panel + i * run, panel + i * run + 1, 0, 1, c + i * kPanel);
    }
  }
  return panel + (runs - 1) * run;
}

// One row. Panels are read front to back, or several runs of them side by side: the processor runs
// ahead of a stream for as long as it does not jump, or it is asked to (OnIntel). Whatever there
// is to do between two panels keeps it from doing so, which is why that is little and apart from
// BlockRows (docs/design.md).
template <class F>
HWY_INLINE void BlockRow(const MatmulTask& task, const Q8Acts& acts, size_t panel_begin,
                         size_t panel_end) {
  const size_t panel_bytes = BlockFormat<F>::PanelBytes(task.k), blocks = task.k / F::kValues;
  StreamTerms terms;
  const size_t steps = task.k / kBlock;
  const StepActs x = steps < OutputsPerVector() ? StreamActs<F>(acts, 1, 0, 1, 0, steps, 0, &terms)
                                                : OnlyRowActs<F>(acts, steps, &terms);
  size_t panel = panel_begin;
  if constexpr (kMayAskAhead) {
    if (OnIntel()) panel = RowRuns<F, true>(task, x, panel, panel_end);
  }
  // What is left; where nothing is asked for ahead, all of them.
  if constexpr (kTwoStreams<F> && HWY_MAX_LANES_D(DF32) >= kPanel) {
    if (OutputsPerVector() == kPanel) panel = RowRuns<F, false>(task, x, panel, panel_end);
  }
  for (; panel < panel_end; ++panel) {
    HWY_ALIGN float c[kPanel] = {};
    StreamPanel<F>(task.packed + panel * panel_bytes, x, 1, 1, blocks, c);
    StorePair(task, panel, panel + 1, 0, 1, c);
  }
}

// Few rows against all panels, which are read one behind the other, as memory likes it best.
template <class F>
HWY_INLINE void BlockRows(const MatmulTask& task, const Q8Acts& acts, size_t panel_begin,
                          size_t panel_end) {
  struct Group {
    size_t row, rows;
    StepActs x;
  };
  const size_t panel_bytes = BlockFormat<F>::PanelBytes(task.k);
  const size_t m = task.m, steps = task.k / kBlock;
  constexpr size_t kBlockSteps = F::kValues / kBlock;
  const size_t most = kStreamTerms / m / kBlockSteps * kBlockSteps;
  Group groups[4];
  size_t n_groups = 0;
  for (size_t row = 0, rows = 8; row < m; rows /= 2) {
    if (m - row >= rows) groups[n_groups++] = {row, rows, {}}, row += rows;
  }
  StreamTerms terms;
  HWY_ALIGN float c[kFewRows<F> * kPair];
  for (size_t panel = panel_begin; panel < panel_end; ++panel) {
    const uint8_t* block = task.packed + panel * panel_bytes;
    std::memset(c, 0, m * kPair * sizeof(*c));
    for (size_t step = 0; step < steps; step += most) {
      const size_t count = std::min(most, steps - step);
      for (size_t g = 0; g < n_groups; ++g) {
        auto& [row, rows, x] = groups[g];
        // What the rows bring is the same for every panel, and made once if it fits.
        if (panel == panel_begin || steps > most) {
          x = StreamActs<F>(acts, m, row, rows, step, count, row * count, &terms);
        }
        StreamPanel<F>(block, x, rows, m, count / kBlockSteps, c + row * kPair);
      }
      block += count / kBlockSteps * kPanelBlockBytes<F>;
    }
    StorePair(task, panel, panel + 1, 0, m, c);
  }
}

// More rows than fit the registers: all panels for 128 of them at a time.
template <class F>
HWY_INLINE void BlockTiles(const MatmulTask& task, const Q8Acts& acts, size_t panel_begin,
                           size_t panel_end) {
  const size_t panel_bytes = BlockFormat<F>::PanelBytes(task.k);
  HWY_ALIGN float c[kTilePairs<F> * kRowTile * kPair];
  for (size_t panel = panel_begin; panel < panel_end; panel += 2 * kTilePairs<F>) {
    const size_t count = std::min(kTilePairs<F>, (panel_end - panel + 1) / 2);
    for (size_t row = 0; row < task.m; row += kRowTile) {
      const size_t rows = std::min(kRowTile, task.m - row);
      TilePair pairs[kTilePairs<F>];
      for (size_t i = 0; i < count; ++i) {
        const size_t n = (panel + 2 * i) * kPanel;
        const PanelPair panels = PairAt(task, panel_bytes, panel + 2 * i, panel_end);
        pairs[i] = {panels, n, StoresDirectly<F>(task, n, rows, panels), c + i * kRowTile * kPair};
      }
      BlockTile<F>(task, acts, pairs, count, row, rows);
      for (size_t i = 0; i < count; ++i) {
        if (!pairs[i].direct) StorePair(task, panel + 2 * i, panel_end, row, rows, pairs[i].c);
      }
    }
  }
}

// Two rows or more, or one that is longer than BlockRow takes.
template <class F>
HWY_NOINLINE void BlockManyRows(const MatmulTask& task, const Q8Acts& acts, size_t panel_begin,
                                size_t panel_end) {
  if (task.m <= kFewRows<F>) return BlockRows<F>(task, acts, panel_begin, panel_end);
  BlockTiles<F>(task, acts, panel_begin, panel_end);
}

template <class F>
void BlockMatmul(const MatmulTask& task, size_t panel_begin, size_t panel_end) {
  const Q8Acts acts = Q8ActsIn(const_cast<void*>(task.act), task.m, task.k);
  if (task.m == 1 && task.k / kBlock <= kStreamTerms) {
    return BlockRow<F>(task, acts, panel_begin, panel_end);
  }
  if constexpr (kHasLoadingDot) {
    if (OnIntel()) {
      return BlockManyRows<WithLoadingDot<F>>(task, acts, panel_begin, panel_end);
    }
  }
  BlockManyRows<F>(task, acts, panel_begin, panel_end);
}

// The table of a format of blocks: F its scalar struct, Simd the one derived from it.
template <class F, class Simd>
constexpr SimdKernels<F> BlockKernels() {
  using Dots = std::conditional_t<kHasExtraDot, WithExtraDot<Simd>, Simd>;
  return {{BlockMatmul<Simd>, DequantizeBlocks<Simd>}, {BlockMatmul<Dots>, DequantizeBlocks<Simd>}};
}

// ---------------------------------------------------------------- values
//
// How a format of values goes into the tile: E is the element of its panels, Row the one for a
// single row, and Tile the element of the tile. Where they differ (kExpands), a group of k is
// kSteps steps of the tile, and weights are expanded to f32 in L1 once for all rows of a tile, but
// not for kFewRows or less: then E does it in registers, as it does where there is nothing to
// expand.

struct ValuesF32 {
  using E = ElementF32;
  using Row = ElementF32;
  using Tile = ElementF32;
  static constexpr size_t kSteps = 1, kFewRows = 0;
  static constexpr bool kExpands = false;
};

struct ValuesF16 {
  using E = ElementF16;
  using Row = std::conditional_t<kF16InTile, ElementF16Row, ElementF16>;
  using Tile = std::conditional_t<kF16InTile, ElementF16, ElementF32>;
  static constexpr size_t kSteps = 1, kFewRows = kMostRows;
  static constexpr bool kExpands = !kF16InTile;

  // One slice of a group to kSteps slices, a pair of panels apart.
  static HWY_INLINE void Expand(const E::W* w, float* out) { hn::StoreU(E::Load(w), DF32(), out); }
};

struct ValuesBF16 {
  using E = ElementBF16;
  using Row = ElementBF16;
  using Tile = std::conditional_t<kHasBF16Dot, ElementBF16, ElementBF16Half>;
  static constexpr size_t kSteps = kHasBF16Dot ? 1 : 2, kFewRows = 0;
  static constexpr bool kExpands = !kHasBF16Dot;

  static HWY_INLINE void Expand(const E::W* w, float* out) {
    const VU32 pair = E::Load(w);
    hn::StoreU(HighHalf(pair), DF32(), out);
    hn::StoreU(LowHalf(pair), DF32(), out + kPair);
  }
};

// What a tile takes at once: steps of k, rows, and pairs of panels that take turns at the same rows
// and steps. With one pair every activation would be loaded for 32 outputs at a time: 4 bytes a
// cycle, which is as much as a core gets from L3, where the activations of 512 long rows are.
struct ValueTiling {
  size_t steps, rows, pairs;
};

// Weights as they lie in the panel: where L2 and L3 are fast, as many steps as rows in L1 allow,
// since the outputs are loaded and stored once for all of them; else the pair's weights, too, stay
// in L1, for four times as many rows. Weights that are expanded first: enough rows to pay for that.
inline constexpr ValueTiling kDirectTiling = kMostRows < 8      ? ValueTiling{256, 2 * kMostRows, 8}
                                             : kFastOuterCaches ? ValueTiling{512, 8, 8}
                                                                : ValueTiling{128, 32, 8};
inline constexpr ValueTiling kExpandedTiling = {128, 64, 8};

struct ValueBuffers {
  alignas(64) float c[kExpandedTiling.pairs * kExpandedTiling.rows * kPair];
  alignas(64) float weights[kExpandedTiling.steps * kPair];
  alignas(64) float acts[kExpandedTiling.rows * kExpandedTiling.steps];

  // (rows, 32) of a pair.
  float* Outputs(size_t pair, const ValueTiling& tiling) { return c + pair * tiling.rows * kPair; }
};
static_assert(kDirectTiling.rows * kDirectTiling.pairs <=
              kExpandedTiling.rows * kExpandedTiling.pairs);
static_assert(kDirectTiling.rows * kDirectTiling.steps <=
              kExpandedTiling.rows * kExpandedTiling.steps);

// What a tile takes of the activations: `groups` groups of k of some rows, `stride` apart.
template <class X>
struct ActsBlock {
  const X* x;
  size_t stride, rows, groups;
};

// acts (rows, acts_stride): the rows one behind the other, so that rows far apart do not fall into
// one set of the cache. Where the tile takes halves of pairs, the high half comes first.
template <class V>
HWY_INLINE void CollectActs(const ActsBlock<typename V::E::X>& from, float* acts,
                            size_t acts_stride) {
  using X = typename V::E::X;
  const X* x = from.x;
  for (size_t r = 0; r < from.rows; ++r, x += from.stride, acts += acts_stride) {
    if constexpr (V::kSteps == 1) {
      const hn::ScalableTag<X> dx;
      X* to = reinterpret_cast<X*>(acts);
      size_t g = 0;
      for (; g + hn::Lanes(dx) <= from.groups; g += hn::Lanes(dx)) {
        hn::StoreU(hn::LoadU(dx, x + g), dx, to + g);
      }
      const size_t rest = from.groups - g;
      if (rest > 0) hn::StoreN(hn::LoadN(dx, x + g, rest), dx, to + g, rest);
    } else {
      for (size_t g = 0; g < from.groups; ++g) {
        acts[2 * g] = std::bit_cast<float>(x[g] & 0xFFFF0000u);
        acts[2 * g + 1] = std::bit_cast<float>(x[g] << 16);
      }
    }
  }
}

// Asks for part `part` of `parts` of what will be collected next: short pieces of rows far apart,
// which no prefetcher foresees and which, where rows are long, come from L3 or memory.
template <class X>
HWY_INLINE void PrefetchActs(const ActsBlock<X>& next, size_t part, size_t parts) {
  for (size_t r = next.rows * part / parts; r < next.rows * (part + 1) / parts; ++r) {
    const X* x = next.x + r * next.stride;
    for (size_t g = 0; g < next.groups; g += 64 / sizeof(X)) hwy::Prefetch(x + g);
  }
}

// Groups [first, first + groups) of k of a pair of panels.
struct ValuePair {
  PanelPair panels;
  size_t first, groups;
};

// out (rows, 32) += b.acts (rows, acts_stride) against the groups of a pair of panels.
template <class V>
HWY_INLINE void ValueTile(const ValuePair& p, bool expand, size_t rows, size_t acts_stride,
                          ValueBuffers& b, const StepOutputs& out) {
  using T = typename V::Tile;
  using W = typename V::E::W;
  const size_t slice = OutputsPerVector();
  const auto at = [&](size_t i) {
    return reinterpret_cast<const W*>(p.panels.Of(i)) + p.first * kPanel + i % kPanel;
  };
  if constexpr (V::kExpands) {
    if (expand) {
      for (size_t i = 0; i < kPair; i += slice) {
        const W* w = at(i);
        for (size_t g = 0; g < p.groups; ++g) {
          V::Expand(w + g * kPanel, b.weights + g * V::kSteps * kPair + i);
        }
      }
      for (size_t i = 0; i < kPair; i += 2 * slice) {
        TileRows<T>(b.weights + i, b.weights + i + slice, kPair, b.acts, acts_stride,
                    p.groups * V::kSteps, rows, out.Output(i), slice);
      }
      return;
    }
  }
  if constexpr (!V::kExpands || V::kFewRows > 0) {
    const auto* acts = reinterpret_cast<const typename V::E::X*>(b.acts);
    for (size_t i = 0; i < kPair; i += 2 * slice) {
      TileRows<typename V::E>(at(i), at(i + slice), kPanel, acts, acts_stride, p.groups, rows,
                              out.Output(i), slice);
    }
  }
}

// One row. Its panels are cut into runs that are read side by side, so that several chains are
// under way at a time: neighbours side by side, each of them soon at its end, would come from
// memory more slowly (docs/design.md).
template <class F, class E, size_t kSlices, bool kAhead>
HWY_INLINE void ValueRuns(const MatmulTask& task, size_t panel_begin, size_t panel_end) {
  using W = typename E::W;
  const size_t slice = hn::Lanes(typename E::D()), panel_bytes = ValueFormat<F>::PanelBytes(task.k);
  const auto* x = static_cast<const typename E::X*>(ActivationRow(F::kAct, task, 0));
  const size_t runs = kSlices * slice / kPanel;
  const size_t run = (panel_end - panel_begin + runs - 1) / runs;
  HWY_ALIGN float c[kSlices * kPanel];
  for (size_t begin = panel_begin; begin < panel_begin + run; ++begin) {
    const W* w[kSlices];
    for (size_t i = 0; i < kSlices; ++i) {
      // Beyond the end the last panel comes again, for nothing.
      const size_t panel = std::min(begin + i * slice / kPanel * run, panel_end - 1);
      w[i] = reinterpret_cast<const W*>(task.packed + panel * panel_bytes) + i * slice % kPanel;
    }
    StreamValues<E, kSlices, kAhead>(w, x, ValueFormat<F>::Groups(task.k), c);
    for (size_t i = 0; i < runs; ++i) {
      const size_t panel = begin + i * run;
      if (panel < panel_end) StorePair(task, panel, panel + 1, 0, 1, c + i * kPanel);
    }
  }
}

// f32, of which a group is a whole line, is read as fast as can be without being asked for.
template <class F, class E>
HWY_INLINE void ValueRow(const MatmulTask& task, size_t panel_begin, size_t panel_end) {
  if constexpr (kMayAskAhead && !std::is_same_v<typename E::W, float>) {
    if (OnIntel()) return ValueRuns<F, E, 8, true>(task, panel_begin, panel_end);
  }
  if (hn::Lanes(typename E::D()) < kPanel) {
    return ValueRuns<F, E, 8, false>(task, panel_begin, panel_end);
  }
  return ValueRuns<F, E, 4, false>(task, panel_begin, panel_end);
}

template <class F, class V>
void ValueMatmul(const MatmulTask& task, size_t panel_begin, size_t panel_end) {
  using X = typename V::E::X;
  using W = typename V::E::W;
  static_assert(sizeof(W) == sizeof(typename F::Lane));
  if (task.m == 1) {
    return ValueRow<F, typename V::Row>(task, panel_begin, panel_end);
  }
  const size_t groups = ValueFormat<F>::Groups(task.k);
  const size_t panel_bytes = ValueFormat<F>::PanelBytes(task.k);
  const bool expand = V::kExpands && task.m > V::kFewRows;
  const ValueTiling tiling = expand ? kExpandedTiling : kDirectTiling;
  const size_t at_once = tiling.steps / V::kSteps;
  const auto acts_at = [&](size_t row, size_t g) -> ActsBlock<X> {
    return {static_cast<const X*>(ActivationRow(F::kAct, task, row)) + g,
            F::kAct == ActKind::kF32 ? task.act_stride : groups,
            std::min(tiling.rows, task.m - row), std::min(at_once, groups - g)};
  };
  ValueBuffers b;
  for (size_t panel = panel_begin; panel < panel_end; panel += 2 * tiling.pairs) {
    const size_t pairs = std::min(tiling.pairs, (panel_end - panel + 1) / 2);
    for (size_t row = 0; row < task.m; row += tiling.rows) {
      for (size_t g = 0; g < groups; g += at_once) {
        const bool last = g + at_once >= groups;
        const size_t next_row = row + tiling.rows < task.m ? row + tiling.rows : 0;
        const ActsBlock<X> acts = acts_at(row, g);
        const ActsBlock<X> next = last ? acts_at(next_row, 0) : acts_at(row, g + at_once);
        CollectActs<V>(acts, b.acts, tiling.steps);
        for (size_t i = 0; i < pairs; ++i) {
          const size_t first = panel + 2 * i;
          const ValuePair p = {PairAt(task, panel_bytes, first, panel_end), g, acts.groups};
          PrefetchActs(next, i, pairs);
          if (last) PrefetchOutputs(task, first * kPanel, row, acts.rows, 0, 1);
          float* const c = b.Outputs(i, tiling);
          const bool direct = last && AllWanted(task, first * kPanel, p.panels);
          const StepOutputs out = OutputsOfStep(task, first * kPanel, row, c, g == 0, direct);
          ValueTile<V>(p, expand, acts.rows, tiling.steps, b, out);
          if (last && !direct) StorePair(task, first, panel_end, row, acts.rows, c);
        }
      }
    }
  }
}

// The table of a format of values.
template <class F, class V>
constexpr SimdKernels<F> ValueKernels(void (*dequantize)(const uint8_t* row, size_t k,
                                                         float* out)) {
  const FormatKernels kernels = {ValueMatmul<F, V>, dequantize};
  return {kernels, kernels};
}

}  // namespace HWY_NAMESPACE
}  // namespace hob
HWY_AFTER_NAMESPACE();

#endif  // HOB_KERNELS_MATMUL_INL_H_
