#include "kernels/matmul.h"

#include <algorithm>

#include "kernels/rows.h"

namespace hob {

Q8Acts Q8ActsIn(void* buffer, size_t m, size_t k) {
  auto* codes = static_cast<int8_t*>(buffer);
  // m * k is a multiple of 32, so the floats behind the codes are aligned.
  auto* scales = reinterpret_cast<float*>(codes + m * k);
  auto* sums = reinterpret_cast<int32_t*>(scales + m * (k / kBlock));
  return {codes, scales, sums};
}

size_t ActivationBytes(ActKind kind, size_t m, size_t k) {
  switch (kind) {
    case ActKind::kF32:
      return 0;
    case ActKind::kBF16:
      return m * ((k + 1) / 2) * sizeof(uint32_t);
    case ActKind::kQ8:
      return m * k + m * (k / kBlock) * (sizeof(float) + 2 * sizeof(int32_t));
  }
  return 0;
}

const void* ActivationRow(ActKind kind, const MatmulTask& task, size_t row) {
  if (kind == ActKind::kBF16) {
    return static_cast<const uint32_t*>(task.act) + row * ((task.k + 1) / 2);
  }
  return static_cast<const float*>(task.act) + row * task.act_stride;
}

namespace {

// Blocks [first, first + blocks) of rows [row_begin, row_end).
void QuantizeBlocks(const float* x, size_t x_stride, size_t m, const Q8Acts& acts, size_t first,
                    size_t blocks, size_t row_begin, size_t row_end) {
  const size_t at = first * m + row_begin;
  Rows().quantize_q8_rows(x + row_begin * x_stride + first * kBlock, x_stride, row_end - row_begin,
                          blocks, m * kBlock, acts.codes + at * kBlock, m, acts.scales + at,
                          acts.sums + 2 * first * m + row_begin);
}

// Columns [k_begin, k_end) of rows [row_begin, row_end).
void PairColumns(const float* x, size_t x_stride, size_t k, size_t k_begin, size_t k_end,
                 size_t row_begin, size_t row_end, uint32_t* pairs) {
  const RowKernels& kernels = Rows();
  for (size_t row = row_begin; row < row_end; ++row) {
    kernels.to_bf16_pairs(x + row * x_stride + k_begin, k_end - k_begin,
                          pairs + row * ((k + 1) / 2) + k_begin / 2);
  }
}

}  // namespace

void PrepareActivations(ActKind kind, const float* x, size_t x_stride, size_t m, size_t k,
                        size_t row_begin, size_t row_end, void* buffer) {
  if (kind == ActKind::kQ8) {
    QuantizeBlocks(x, x_stride, m, Q8ActsIn(buffer, m, k), 0, k / kBlock, row_begin, row_end);
  } else if (kind == ActKind::kBF16) {
    PairColumns(x, x_stride, k, 0, k, row_begin, row_end, static_cast<uint32_t*>(buffer));
  }
}

void PrepareColumns(ActKind kind, const float* x, size_t x_stride, size_t m, size_t k,
                    size_t k_begin, size_t k_end, void* buffer) {
  if (kind == ActKind::kQ8) {
    QuantizeBlocks(x, x_stride, m, Q8ActsIn(buffer, m, k), k_begin / kBlock,
                   (k_end - k_begin) / kBlock, 0, m);
  } else if (kind == ActKind::kBF16) {
    PairColumns(x, x_stride, k, k_begin, k_end, 0, m, static_cast<uint32_t*>(buffer));
  }
}

void MatmulPanels(const Format& format, const MatmulTask& task, size_t panel_begin,
                  size_t panel_end) {
  format.kernels(ActiveTarget()).matmul(task, panel_begin, panel_end);
}

void PackRows(const Format& format, const uint8_t* rows, size_t n, size_t k, size_t n_begin,
              size_t n_end, uint8_t* packed) {
  const size_t row_bytes = format.row_bytes(k), panel_bytes = format.panel_bytes(k);
  for (size_t i = n_begin; i < std::min(n, n_end); i += kPanel) {
    format.pack(rows + i * row_bytes, row_bytes, std::min(kPanel, n - i), k,
                packed + i / kPanel * panel_bytes);
  }
}

}  // namespace hob
