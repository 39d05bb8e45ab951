// Ops that work on rows of floats, one row a call (the callers split rows over threads). The exact
// sequence of operations of each is in docs/numerics.md and, as code, in reference.cc; the SIMD
// versions are in rows.cc.
#ifndef HOB_KERNELS_ROWS_H_
#define HOB_KERNELS_ROWS_H_

#include <cstddef>
#include <cstdint>

#include "hob/hob.h"
#include "kernels/targets.h"

namespace hob {

// One block of 32 activations, quantized, is this many bytes of codes.
inline constexpr size_t kBlock = 32;

struct RowKernels {
  // out[n] = x[n] / sqrt(mean x^2 + eps) * weight[n]; out may be x.
  void (*rms_norm)(const float* x, const float* weight, float eps, size_t n, float* out);

  // Rotates pairs of the first n_rot elements of each head of x (n_heads, head_dim) in place by
  // table (n_rot): cos, sin, cos, sin, ...
  void (*rope)(hob_rope_style style, const float* table, size_t n_heads, size_t head_dim,
               size_t n_rot, float* x);

  // out[n] = exp(x - max) / sum; out may be x.
  void (*softmax)(const float* x, size_t n, float* out);

  // out[n] = gate / (1 + exp(-gate)) * up; out may be gate or up.
  void (*silu_mul)(const float* gate, const float* up, size_t n, float* out);

  // out[n] = gelu(gate) * up, the tanh form as in hob_gelu_mul; out may be gate or up.
  void (*gelu_mul)(const float* gate, const float* up, size_t n, float* out);

  // out[n] = a + b; out may be either.
  void (*add)(const float* a, const float* b, size_t n, float* out);

  // Smallest index of the largest element that is no NaN; n >= 1.
  size_t (*argmax)(const float* x, size_t n);

  // Quantizes x (k = 32 * blocks) to 8 bits: codes of block b go to codes + b * code_stride, its
  // scale to scales[b * stride], the sums of its first and second 16 codes to
  // sums[2 * b * stride] and sums[(2 * b + 1) * stride].
  void (*quantize_q8)(const float* x, size_t blocks, size_t code_stride, int8_t* codes,
                      size_t stride, float* scales, int32_t* sums);

  // The same of `rows` rows: row r is at x + r * x_stride, its codes at codes + r * kBlock, its
  // scales and sums at scales + r and sums + r.
  void (*quantize_q8_rows)(const float* x, size_t x_stride, size_t rows, size_t blocks,
                           size_t code_stride, int8_t* codes, size_t stride, float* scales,
                           int32_t* sums);

  // Rounds x (k) to bf16, subnormals to zero, in pairs with the first element in the high half:
  // out[i] = bf16(x[2 i]) << 16 | bf16(x[2 i + 1]); an odd last element is paired with +0.
  void (*to_bf16_pairs)(const float* x, size_t k, uint32_t* out);
};

// The active target's kernels.
const RowKernels& Rows();
const RowKernels& RowsFor(Target target);

// Fills table (count, n_rot) as hob_rope_table says. Plain double-precision code, on any target.
void RopeTable(size_t first, size_t count, size_t n_rot, double base, double freq_scale,
               const float* factors, float* table);

}  // namespace hob

#endif  // HOB_KERNELS_ROWS_H_
