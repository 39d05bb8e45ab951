// The definition of every op, in scalar code that one can read beside docs/numerics.md. It is the
// oracle of the tests, the "scalar" target on machines without a SIMD target, and the place to
// start reading: the SIMD code does the same operations for 16 outputs at a time.
//
// All of it is IEEE-754 binary32, round to nearest even, std::fma only where the definition says
// fma (the build forbids the compiler to fuse on its own). Inputs are in plain row-major layout.
#ifndef HOB_KERNELS_REFERENCE_H_
#define HOB_KERNELS_REFERENCE_H_

#include <cstddef>
#include <cstdint>

#include "hob/hob.h"
#include "kernels/attention.h"
#include "kernels/formats.h"
#include "kernels/rows.h"

namespace hob::reference {

// e^x, within 1 ULP or so (docs/numerics.md has the measured worst); NaN for NaN.
float Exp(float x);

// 2^x for x <= 0 as attention uses it: exactly 0 from -63.5 on down (a weight beside the 1 of the
// largest score), NaN for NaN.
float Exp2NonPositive(float x);

// The same, but only as near as a result deserves that is rounded to bf16 next.
float Exp2ForBF16(float x);

// tanh x, as the soft cap of attention uses it; NaN for NaN.
float Tanh(float x);

// Rounds to bf16 (to nearest even); a subnormal becomes zero of the same sign; as f32.
float RoundToBF16(float x);

// One step of a bf16 chain: fma(w, x, acc) with subnormal acc taken as zero and a result that is
// tiny after rounding flushed to zero, signs kept; w, x from RoundToBF16.
float BF16Step(float w, float x, float acc);

// The sum of 16 partial results: +8, +4, +2, +1.
float SumOf16(const float* partial);

// The scale of a block of 32 activations whose largest magnitude has the bits `amax`, and
// *inverse = 127 / amax to multiply by. 0 and 0 if the block is zero or too small to invert;
// NaN and 0 if it holds a NaN or an infinity. With an inverse of 0 all codes are 0.
float Q8Scale(uint32_t amax_bits, float* inverse);

// Rotates pairs (a[i * stride], b[i * stride]) by cos = table[2 i], sin = table[2 i + 1].
void RotatePairs(const float* table, size_t pairs, size_t stride, float* a, float* b);

void RmsNorm(const float* x, const float* weight, float eps, size_t n, float* out);
void Rope(hob_rope_style style, const float* table, size_t n_heads, size_t head_dim, size_t n_rot,
          float* x);
void Softmax(const float* x, size_t n, float* out);
void SiluMul(const float* gate, const float* up, size_t n, float* out);
void GeluMul(const float* gate, const float* up, size_t n, float* out);
void Add(const float* a, const float* b, size_t n, float* out);
size_t Argmax(const float* x, size_t n);
void QuantizeQ8(const float* x, size_t blocks, size_t code_stride, int8_t* codes, size_t stride,
                float* scales, int32_t* sums);
void QuantizeQ8Rows(const float* x, size_t x_stride, size_t rows, size_t blocks, size_t code_stride,
                    int8_t* codes, size_t stride, float* scales, int32_t* sums);
void ToBF16Pairs(const float* x, size_t k, uint32_t* out);

// What attention sees of one head of a key or of a value, x[n], in a q8_0 cache; out may be x.
void ThroughQ8(const float* x, size_t n, float* out);

// out[m][n] = residual + silu(gate) * (chain over k + bias), from the file's blocks
// rows[n][row bytes]; bias, residual and gate may be nullptr and are then left out. residual and
// gate (m, n) have out's stride and may be out.
void Matmul(const Format& format, const uint8_t* rows, size_t n, size_t k, const float* act,
            size_t act_stride, size_t m, const float* bias, const float* residual, float* out,
            size_t out_stride, const float* gate = nullptr);

// Attention over plain keys and values, (pos + m, n_kv_heads, head_dim) each; q and out (m,
// n_heads, head_dim).
void Attention(hob_cache_type type, const float* q, const float* keys, const float* values,
               size_t m, size_t n_heads, size_t n_kv_heads, size_t head_dim, size_t pos,
               float scale, float* out, const AttentionOptions& options = {});

// The same over a cache, as in AttentionKernels: the scalar target.
void Attend(const AttentionTask& task, size_t kv_head, size_t row_begin, size_t row_end,
            void* workspace);
void AttendChunks(const AttentionTask& task, size_t kv_head, size_t chunk_begin, size_t chunk_end,
                  void* workspace, float* partials);
void MergeChunks(const AttentionTask& task, size_t kv_head, float* partials);

}  // namespace hob::reference

#endif  // HOB_KERNELS_REFERENCE_H_
