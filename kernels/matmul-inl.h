// The loops of the matmul: out[m][n] = sum over k of act[m][k] * weight[n][k] for a range of
// panels,
//
//   for each pair of panels (32 outputs)                        independent: split over threads
//     for each tile of rows                                     their 32 outputs stay in L1
//       for each block of k, upward                             the order is the contract
//         for each pair of slices (2 vectors of outputs)        tile-inl.h
//
// and the epilogue (bias, residual). Start here to read the SIMD side; before it come c_api.cc
// (validation) and matmul.cc (activations). Tested by tests/matmul_test.cc.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "kernels/formats/contract.h"
#include "kernels/matmul.h"

#if defined(HOB_KERNELS_MATMUL_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef HOB_KERNELS_MATMUL_INL_H_
#undef HOB_KERNELS_MATMUL_INL_H_
#else
#define HOB_KERNELS_MATMUL_INL_H_
#endif

#include "kernels/tile-inl.h"

HWY_BEFORE_NAMESPACE();
namespace hob {
namespace HWY_NAMESPACE {

// Outputs of two panels.
inline constexpr size_t kPair = 2 * kPanel;

// Rows whose 32 outputs are accumulated together: 16 KB of L1, and a block is unpacked once for 128
// rows.
inline constexpr size_t kRowTile = 128;

// Where two panels lie. The last panel of an odd count is its own partner; what the second then
// computes is not stored.
struct PanelPair {
  const uint8_t* first;
  const uint8_t* second;

  // The panel that output `i` (0 to 31) of the pair is in.
  const uint8_t* Of(size_t i) const { return i < kPanel ? first : second; }
};

inline PanelPair PairAt(const MatmulTask& task, size_t panel_bytes, size_t panel,
                        size_t panel_end) {
  const uint8_t* first = task.packed + panel * panel_bytes;
  return {first, panel + 1 < panel_end ? first + panel_bytes : first};
}

// Stores up to one vector of outputs: residual + (c + bias).
HWY_INLINE void StoreOutputs(const MatmulTask& task, size_t row, size_t n, VF32 c, size_t count) {
  const DF32 df;
  const size_t at = row * task.out_stride + n;
  if (count >= hn::Lanes(df)) {
    if (task.bias != nullptr) c = hn::Add(c, hn::LoadU(df, task.bias + n));
    if (task.residual != nullptr) c = hn::Add(hn::LoadU(df, task.residual + at), c);
    hn::StoreU(c, df, task.out + at);
  } else {
    if (task.bias != nullptr) c = hn::Add(c, hn::LoadN(df, task.bias + n, count));
    if (task.residual != nullptr) c = hn::Add(hn::LoadN(df, task.residual + at, count), c);
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

// c (rows, 32) = rows [row, row + rows) against a pair of panels.
template <class F>
HWY_INLINE void BlockTile(const MatmulTask& task, const Q8Acts& acts, const PanelPair& panels,
                          size_t row, size_t rows, float* c) {
  const size_t step = OutputsPerVector();
  std::memset(c, 0, rows * kPair * sizeof(float));
  for (size_t b = 0; b < task.k / kBlock; ++b) {
    const size_t offset = b * F::kPanelBlockBytes;
    const size_t at = b * task.m + row;
    for (size_t i = 0; i < kPair; i += 2 * step) {
      const size_t j = i + step;
      TileBlock<F>(panels.Of(i) + offset, i % kPanel, panels.Of(j) + offset, j % kPanel,
                   acts.codes + at * kBlock, acts.scales + at, acts.sums + at, rows, c + i, kPair,
                   step);
    }
  }
}

// c (32) = the only row against a pair of panels.
template <class F>
HWY_INLINE void BlockRow(const MatmulTask& task, const Q8Acts& acts, const PanelPair& panels,
                         float* c) {
  const size_t step = OutputsPerVector();
  for (size_t i = 0; i < kPair; i += 2 * step) {
    const size_t j = i + step;
    StreamRow<F>(panels.Of(i), i % kPanel, panels.Of(j), j % kPanel, acts.codes, acts.scales,
                 acts.sums, task.k / kBlock, c + i, step);
  }
}

template <class F>
void BlockMatmul(const MatmulTask& task, size_t panel_begin, size_t panel_end) {
  const Q8Acts acts = Q8ActsIn(const_cast<void*>(task.act), task.m, task.k);
  const size_t panel_bytes = BlockFormat<F>::PanelBytes(task.k);
  HWY_ALIGN float c[kRowTile * kPair];
  for (size_t panel = panel_begin; panel < panel_end; panel += 2) {
    const PanelPair panels = PairAt(task, panel_bytes, panel, panel_end);
    if (task.m == 1) {
      BlockRow<F>(task, acts, panels, c);
      StorePair(task, panel, panel_end, 0, 1, c);
      continue;
    }
    for (size_t row = 0; row < task.m; row += kRowTile) {
      const size_t rows = std::min(kRowTile, task.m - row);
      BlockTile<F>(task, acts, panels, row, rows, c);
      StorePair(task, panel, panel_end, row, rows, c);
    }
  }
}

// ---------------------------------------------------------------- values

// Rows per tile: the panels come again from L2 for every tile, the rows of activations stay in L1.
inline constexpr size_t kValueRowTile = 16;

template <class F, class E>
void ValueMatmul(const MatmulTask& task, size_t panel_begin, size_t panel_end) {
  using W = typename E::W;
  using X = typename E::X;
  static_assert(sizeof(W) == sizeof(typename F::Lane));
  const size_t groups = ValueFormat<F>::Groups(task.k);
  const size_t panel_bytes = ValueFormat<F>::PanelBytes(task.k);
  const size_t x_stride = F::kAct == ActKind::kF32 ? task.act_stride : groups;
  const size_t step = OutputsPerVector();
  HWY_ALIGN float c[kValueRowTile * kPair];
  for (size_t panel = panel_begin; panel < panel_end; panel += 2) {
    const PanelPair panels = PairAt(task, panel_bytes, panel, panel_end);
    for (size_t row = 0; row < task.m; row += kValueRowTile) {
      const size_t rows = std::min(kValueRowTile, task.m - row);
      const X* x = static_cast<const X*>(ActivationRow(F::kAct, task, row));
      std::memset(c, 0, rows * kPair * sizeof(float));
      for (size_t i = 0; i < kPair; i += 2 * step) {
        const size_t j = i + step;
        TileRows<E>(reinterpret_cast<const W*>(panels.Of(i)) + i % kPanel,
                    reinterpret_cast<const W*>(panels.Of(j)) + j % kPanel, kPanel, x, x_stride,
                    groups, rows, c + i, kPair, step);
      }
      StorePair(task, panel, panel_end, row, rows, c);
    }
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace hob
HWY_AFTER_NAMESPACE();

#endif  // HOB_KERNELS_MATMUL_INL_H_
