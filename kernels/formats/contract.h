// What a weight format supplies. A format is one file beside this one with two structs:
//
// 1. Its scalar definition, compiled once. For a format of blocks, which wants 8-bit activations:
//
//   struct Q8_0 {
//     static constexpr size_t kBytes;            // of a block in the file
//     static constexpr int kZero, kMaxCode;      // value = scale * (code - kZero), code <=
//     kMaxCode static constexpr size_t kPanelBlockBytes;  // 16 outputs x 32 of k, packed static
//     void Encode(const float* x, uint8_t* block);  // 32 values static void Decode(const uint8_t*
//     block, Codes* codes); static void Pack(const uint8_t* block, size_t lane, uint8_t*
//     panel_block); static void Unpack(const uint8_t* panel_block, size_t lane, Codes* codes);
//   };
//
//   For a format of single values (f32, f16, bf16), packed in groups of kGroup along k:
//
//   struct F16 {
//     static constexpr ActKind kAct;
//     static constexpr size_t kBytes, kGroup;
//     using Lane = ...;                            // what one output's group takes
//     static void Encode(float x, uint8_t* value);
//     static float Decode(const uint8_t* value);
//     static void Pack(const uint8_t* value, size_t i, Lane* lane);  // i: index in the group
//     static float Unpack(Lane lane, size_t i);
//     static float Step(Lane lane, const void* act, size_t group, float acc);
//   };
//
// 2. Its SIMD side, derived from the first and compiled once a target. Blocks:
// CodeQuad(panel_block,
//    quad, lane) and Scale(panel_block, lane). Values: the element for the tile in tile-inl.h.
//    Both: Dequantize(row, k, out).
//
// The file ends with its two table functions. Start reading with q8_0.cc. tests/formats_test.cc and
// tests/matmul_test.cc cover every row of formats.def without being told.
#ifndef HOB_KERNELS_FORMATS_CONTRACT_H_
#define HOB_KERNELS_FORMATS_CONTRACT_H_

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "kernels/exp_constants.h"  // kRound
#include "kernels/formats.h"
#include "kernels/half.h"
#include "kernels/matmul.h"
#include "kernels/reference.h"

namespace hob {

// 32 weights of one output: value[i] = scale * (code[i] - kZero).
struct Codes {
  float scale;
  uint8_t code[kBlock];
};

// Rounds to the nearest integer, ties to even, within [low, high]; NaN gives 0. For encoders.
inline int8_t RoundToCode(float x, int low, int high) {
  if (!(x == x)) return 0;
  const float clamped = std::min(std::max(x, static_cast<float>(low)), static_cast<float>(high));
  return static_cast<int8_t>(static_cast<int>((clamped + kRound) - kRound));
}

// Calls chain(row, n) for every output of panels [panel_begin, panel_end) and stores
// residual + (chain + bias).
template <class Chain>
void ForEachOutput(const MatmulTask& task, size_t panel_begin, size_t panel_end, Chain chain) {
  const size_t n_end = std::min(task.n, panel_end * kPanel);
  for (size_t row = 0; row < task.m; ++row) {
    for (size_t n = panel_begin * kPanel; n < n_end; ++n) {
      float value = chain(row, n);
      const size_t at = row * task.out_stride + n;
      if (task.bias != nullptr) value = value + task.bias[n];
      if (task.residual != nullptr) value = task.residual[at] + value;
      task.out[at] = value;
    }
  }
}

// ---------------------------------------------------------------- formats of blocks

// One step of the chain that defines a block format's matmul: the integer sum is exact (at most
// 32 * 255 * 127 < 2^21, so its conversion to float is too), then one rounding for the product of
// the scales and one for the fused multiply-add.
template <class F>
float BlockStep(const Codes& w, const int8_t* q, float q_scale, float acc) {
  int32_t sum = 0;
  for (size_t i = 0; i < kBlock; ++i) sum += (int32_t{w.code[i]} - F::kZero) * q[i];
  return std::fma(static_cast<float>(sum), w.scale * q_scale, acc);
}

// The Format functions of a format of blocks.
template <class F>
struct BlockFormat {
  static constexpr ActKind kAct = ActKind::kQ8;

  static size_t PanelBytes(size_t k) { return k / kBlock * F::kPanelBlockBytes; }

  static void EncodeRow(const float* x, size_t k, uint8_t* blocks) {
    for (size_t i = 0; i < k; i += kBlock, blocks += F::kBytes) F::Encode(x + i, blocks);
  }

  static void Values(const Codes& codes, float* out) {
    for (size_t i = 0; i < kBlock; ++i) {
      out[i] = codes.scale * static_cast<float>(int{codes.code[i]} - F::kZero);
    }
  }

  static void DecodeRow(const uint8_t* blocks, size_t k, float* out) {
    for (size_t i = 0; i < k; i += kBlock, blocks += F::kBytes) {
      Codes codes;
      F::Decode(blocks, &codes);
      Values(codes, out + i);
    }
  }

  static void PackPanel(const uint8_t* rows, size_t row_bytes, size_t lanes, size_t k,
                        uint8_t* panel) {
    std::memset(panel, 0, PanelBytes(k));
    for (size_t b = 0; b < k / kBlock; ++b) {
      for (size_t lane = 0; lane < lanes; ++lane) {
        F::Pack(rows + lane * row_bytes + b * F::kBytes, lane, panel + b * F::kPanelBlockBytes);
      }
    }
  }

  static void UnpackRow(const uint8_t* panel, size_t lane, size_t k, float* out) {
    for (size_t b = 0; b < k / kBlock; ++b) {
      Codes codes;
      F::Unpack(panel + b * F::kPanelBlockBytes, lane, &codes);
      Values(codes, out + b * kBlock);
    }
  }

  // The definition, from the file's blocks of one output; acts: one row, quantized.
  static float Chain(const uint8_t* blocks, size_t k, const void* acts) {
    const Q8Acts q = Q8ActsIn(const_cast<void*>(acts), 1, k);
    float acc = 0.0f;
    for (size_t b = 0; b < k / kBlock; ++b) {
      Codes codes;
      F::Decode(blocks + b * F::kBytes, &codes);
      acc = BlockStep<F>(codes, q.codes + b * kBlock, q.scales[b], acc);
    }
    return acc;
  }

  // The same from a panel, for the scalar target.
  static void MatmulPanels(const MatmulTask& task, size_t panel_begin, size_t panel_end) {
    const Q8Acts q = Q8ActsIn(const_cast<void*>(task.act), task.m, task.k);
    ForEachOutput(task, panel_begin, panel_end, [&](size_t row, size_t n) {
      const uint8_t* panel = task.packed + n / kPanel * PanelBytes(task.k);
      float acc = 0.0f;
      for (size_t b = 0; b < task.k / kBlock; ++b) {
        Codes codes;
        F::Unpack(panel + b * F::kPanelBlockBytes, n % kPanel, &codes);
        acc = BlockStep<F>(codes, q.codes + (b * task.m + row) * kBlock, q.scales[b * task.m + row],
                           acc);
      }
      return acc;
    });
  }
};

// ---------------------------------------------------------------- formats of single values

// The Format functions of a format of single values.
template <class F>
struct ValueFormat {
  static constexpr ActKind kAct = F::kAct;

  static size_t Groups(size_t k) { return (k + F::kGroup - 1) / F::kGroup; }
  static size_t PanelBytes(size_t k) { return Groups(k) * kPanel * sizeof(typename F::Lane); }

  static void EncodeRow(const float* x, size_t k, uint8_t* out) {
    for (size_t i = 0; i < k; ++i) F::Encode(x[i], out + i * F::kBytes);
  }

  static void DecodeRow(const uint8_t* row, size_t k, float* out) {
    for (size_t i = 0; i < k; ++i) out[i] = F::Decode(row + i * F::kBytes);
  }

  static void PackPanel(const uint8_t* rows, size_t row_bytes, size_t lanes, size_t k,
                        uint8_t* panel) {
    std::memset(panel, 0, PanelBytes(k));
    auto* out = reinterpret_cast<typename F::Lane*>(panel);
    for (size_t lane = 0; lane < lanes; ++lane) {
      const uint8_t* row = rows + lane * row_bytes;
      for (size_t i = 0; i < k; ++i) {
        F::Pack(row + i * F::kBytes, i % F::kGroup, out + i / F::kGroup * kPanel + lane);
      }
    }
  }

  static void UnpackRow(const uint8_t* panel, size_t lane, size_t k, float* out) {
    const auto* in = reinterpret_cast<const typename F::Lane*>(panel);
    for (size_t i = 0; i < k; ++i) {
      out[i] = F::Unpack(in[i / F::kGroup * kPanel + lane], i % F::kGroup);
    }
  }

  // The definition, from the file's values of one output.
  static float Chain(const uint8_t* row, size_t k, const void* act) {
    float acc = 0.0f;
    for (size_t g = 0; g < Groups(k); ++g) {
      typename F::Lane w = 0;
      for (size_t i = g * F::kGroup; i < k && i < (g + 1) * F::kGroup; ++i) {
        F::Pack(row + i * F::kBytes, i % F::kGroup, &w);
      }
      acc = F::Step(w, act, g, acc);
    }
    return acc;
  }

  static void MatmulPanels(const MatmulTask& task, size_t panel_begin, size_t panel_end) {
    ForEachOutput(task, panel_begin, panel_end, [&](size_t row, size_t n) {
      const uint8_t* panel = task.packed + n / kPanel * PanelBytes(task.k);
      const auto* w = reinterpret_cast<const typename F::Lane*>(panel) + n % kPanel;
      const void* act = ActivationRow(F::kAct, task, row);
      float acc = 0.0f;
      for (size_t g = 0; g < Groups(task.k); ++g) acc = F::Step(w[g * kPanel], act, g, acc);
      return acc;
    });
  }
};

// ---------------------------------------------------------------- the Format object

// The SIMD tables of one format; a type of its own, so that KernelsOn can tell formats apart.
template <class F>
struct SimdKernels : FormatKernels {};

// The Format of a row of formats.def; defined by that format's file.
template <hob_format kId>
const Format& FormatOf();

#define HOB_FORMAT(ENUM, name, id, values, bytes) \
  template <>                                     \
  const Format& FormatOf<HOB_FORMAT_##ENUM>();
#include "hob/formats.def"
#undef HOB_FORMAT

// Scalar is BlockFormat<F> or ValueFormat<F>; kTargets are the compiled targets, HWY_TARGETS.
template <class F, class Scalar, uint64_t kTargets>
const FormatKernels& FormatKernelsFor(Target target) {
  static constexpr SimdKernels<F> kScalarKernels = {{Scalar::MatmulPanels, Scalar::DecodeRow}};
  return FindKernels<SimdKernels<F>, kTargets>(target, kScalarKernels);
}

constexpr FormatRow RowOf(hob_format id) {
  for (const FormatRow& row : kFormatRows) {
    if (row.id == id) return row;
  }
  return {HOB_FORMAT_NONE, nullptr, 0, 0};
}

template <hob_format kId, class F, class Scalar, uint64_t kTargets>
constexpr Format MakeFormat() {
  static_assert(RowOf(kId).block_bytes == F::kBytes, "formats.def and the file disagree");
  Format format = {};
  static_cast<FormatRow&>(format) = RowOf(kId);
  format.act = Scalar::kAct;
  format.panel_bytes = Scalar::PanelBytes;
  format.encode = Scalar::EncodeRow;
  format.pack = Scalar::PackPanel;
  format.unpack = Scalar::UnpackRow;
  format.chain = Scalar::Chain;
  format.kernels = FormatKernelsFor<F, Scalar, kTargets>;
  return format;
}

}  // namespace hob

#endif  // HOB_KERNELS_FORMATS_CONTRACT_H_
