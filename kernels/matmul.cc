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

void PrepareActivations(ActKind kind, const float* x, size_t x_stride, size_t m, size_t k,
                        size_t row_begin, size_t row_end, void* buffer) {
  const RowKernels& kernels = Rows();
  if (kind == ActKind::kQ8) {
    const Q8Acts acts = Q8ActsIn(buffer, m, k);
    // A few blocks of all rows, then the next: neighbouring rows share cache lines, and the lines
    // of one row, 32 m bytes apart, may all fall into one set of the cache.
    const size_t at_once = m == 1 ? k / kBlock : 16;
    for (size_t b = 0; b < k / kBlock; b += at_once) {
      const size_t blocks = std::min(at_once, k / kBlock - b);
      for (size_t row = row_begin; row < row_end; ++row) {
        const size_t at = b * m + row;
        kernels.quantize_q8(x + row * x_stride + b * kBlock, blocks, m * kBlock,
                            acts.codes + at * kBlock, m, acts.scales + at,
                            acts.sums + 2 * b * m + row);
      }
    }
  } else if (kind == ActKind::kBF16) {
    for (size_t row = row_begin; row < row_end; ++row) {
      kernels.to_bf16_pairs(x + row * x_stride, k,
                            static_cast<uint32_t*>(buffer) + row * ((k + 1) / 2));
    }
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
