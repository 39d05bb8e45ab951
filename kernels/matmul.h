// out[m][n] = sum over k of act[m][k] * weight[n][k], in two steps that callers spread over threads
// as they like: prepare the activations once (rows are independent), then compute panels of 16
// outputs (panels are independent). From here the path goes to matmul-inl.h (loops) and tile-inl.h
// (registers). docs/matmul.md has the picture.
#ifndef HOB_KERNELS_MATMUL_H_
#define HOB_KERNELS_MATMUL_H_

#include <cstddef>
#include <cstdint>

#include "kernels/formats.h"

namespace hob {

// Prepared activations of m rows, in one 64-byte aligned buffer:
//   kQ8    codes [k / 32][m][32] int8, then scales [k / 32][m] f32, then the sums of the first and
//          of the second 16 codes, [k / 32][2][m] i32
//   kBF16  pairs [m][ceil(k / 2)] u32, the even element in the high half
//   kF32   nothing: the matmul reads the caller's rows
struct Q8Acts {
  int8_t* codes;
  float* scales;
  int32_t* sums;
};
Q8Acts Q8ActsIn(void* buffer, size_t m, size_t k);

// Bytes of that buffer; 0 for kF32.
size_t ActivationBytes(ActKind kind, size_t m, size_t k);

// Row `row` of prepared kF32 or kBF16 activations.
const void* ActivationRow(ActKind kind, const MatmulTask& task, size_t row);

// Prepares rows [row_begin, row_end) of x (m, k). Nothing to do for kF32.
void PrepareActivations(ActKind kind, const float* x, size_t x_stride, size_t m, size_t k,
                        size_t row_begin, size_t row_end, void* buffer);

// Prepares columns [k_begin, k_end) of all rows; k_begin a multiple of 32, k_end one or k.
void PrepareColumns(ActKind kind, const float* x, size_t x_stride, size_t m, size_t k,
                    size_t k_begin, size_t k_end, void* buffer);

// Panels [panel_begin, panel_end) on the active target. `task.act` is the prepared buffer, or the
// rows themselves for kF32.
void MatmulPanels(const Format& format, const MatmulTask& task, size_t panel_begin,
                  size_t panel_end);

// Packs rows [n_begin, n_end) of weight[n][k] (GGUF blocks of all rows) into `packed`; n_begin a
// multiple of 16, n_end one or n.
void PackRows(const Format& format, const uint8_t* rows, size_t n, size_t k, size_t n_begin,
              size_t n_end, uint8_t* packed);

}  // namespace hob

#endif  // HOB_KERNELS_MATMUL_H_
