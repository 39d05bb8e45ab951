// The weight formats as the rest of hob sees them: one Format object each, made by
// kernels/formats/<name>.cc from its row in include/hob/formats.def. There is no switch over
// formats anywhere; whoever has a hob_format asks FindFormat and follows its pointers.
#ifndef HOB_KERNELS_FORMATS_H_
#define HOB_KERNELS_FORMATS_H_

#include <cstddef>
#include <cstdint>
#include <span>

#include "hob/hob.h"
#include "kernels/targets.h"

namespace hob {

// Outputs in a panel: the lanes of one 512-bit register of f32.
inline constexpr size_t kPanel = 16;

// What a format's matmul wants its activations to be (ActivationBytes in matmul.h has the layouts).
enum class ActKind {
  kF32,   // as they are
  kBF16,  // rounded to bf16, in pairs
  kQ8     // 8-bit codes with a scale and a code sum for each block of 32
};

// One matmul, validated and with its activations prepared:
// out = residual + silu(gate) * (act * weight^T + bias), where what is nullptr is left out.
struct MatmulTask {
  size_t m, n, k;
  const uint8_t* packed;  // panels: (ceil(n / 16), panel bytes)
  const void* act;        // by ActKind; see matmul.h
  size_t act_stride;      // elements between rows, kF32 only
  const float* bias;      // (n) or nullptr
  const float* residual;  // (m, n) with out_stride, or nullptr; may be out
  float* out;             // (m, n)
  size_t out_stride;
  const float* gate = nullptr;  // (m, n) with out_stride, or nullptr; may be out
};

// A format's SIMD code for one target.
struct FormatKernels {
  // Computes the outputs of panels [panel_begin, panel_end) for all m rows.
  void (*matmul)(const MatmulTask& task, size_t panel_begin, size_t panel_end);
  // Decodes one row of k values from the file's blocks.
  void (*dequantize)(const uint8_t* blocks, size_t k, float* out);
};

// A row of formats.def.
struct FormatRow {
  hob_format id;
  const char* name;
  size_t block_values, block_bytes;  // in the file
};

inline constexpr FormatRow kFormatRows[] = {
#define HOB_FORMAT(ENUM, name, id, values, bytes) {HOB_FORMAT_##ENUM, #name, values, bytes},
#include "hob/formats.def"
#undef HOB_FORMAT
};

struct Format : FormatRow {
  ActKind act;
  // Bytes of one packed panel: 16 outputs x k.
  size_t (*panel_bytes)(size_t k);
  // Encodes one row of k values into the file's blocks.
  void (*encode)(const float* x, size_t k, uint8_t* blocks);
  // Packs `lanes` (1 to 16) rows of k values, row_bytes apart, into one panel; the missing lanes
  // become zero weights.
  void (*pack)(const uint8_t* rows, size_t row_bytes, size_t lanes, size_t k, uint8_t* panel);
  // Decodes one output (lane) of a panel: out (k). The same values as decoding the file's row,
  // except that a subnormal bf16 is zero once packed.
  void (*unpack)(const uint8_t* panel, size_t lane, size_t k, float* out);
  // The definition of the matmul: sum over k of act[k] * weight[k] for one output, from its file
  // blocks and one prepared row of activations (matmul.h, m = 1).
  float (*chain)(const uint8_t* blocks, size_t k, const void* act);
  // The SIMD code for a target, or the scalar one.
  const FormatKernels& (*kernels)(Target target);

  size_t row_bytes(size_t k) const { return k / block_values * block_bytes; }
  size_t packed_bytes(size_t n, size_t k) const {
    return (n + kPanel - 1) / kPanel * panel_bytes(k);
  }
};

// All of them, in the order of formats.def.
std::span<const Format* const> Formats();

// nullptr if `id` is none of them.
const Format* FindFormat(hob_format id);

}  // namespace hob

#endif  // HOB_KERNELS_FORMATS_H_
