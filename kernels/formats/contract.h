// What a weight format supplies. A format is one file beside this one with two structs.
//
// 1. Its scalar definition, compiled once. A format of blocks, which wants 8-bit activations, is
//      weight[i] = scale[i / kSub] * (Level(code[i]) - kZero) - min[i / kSub]
//    for i in [0, kValues) of a block:
//
//   struct Q4_K : PlaneCodes<4>, SixBitScales {    // how panels hold codes, and where scales are
//     static constexpr size_t kBytes, kValues;     // of a block in the file
//     static constexpr int kZero, kMaxLevel;       // levels are 0 .. kMaxLevel
//     static constexpr size_t kSub;                // 32 or 16: values that share a scale
//     static constexpr uint8_t kLevels[16];        // only where Level(code) is not the code itself
//     static void Encode(const float* x, uint8_t* block);      // kValues floats
//     static void Codes(const uint8_t* block, uint8_t* code);  // kValues
//   };
//
// The first base is PlaneCodes below, or what stands in for it (tq1_0.cc); the second is one of
// scales.h, or the format itself has
//
//     static constexpr bool kHasMin;         // false: min is not there, and never written
//     static constexpr size_t kHeaderBytes;  // of a panel block, before the codes
//     static void Scales(const uint8_t* block, float* scale, float* min);  // kValues / kSub
//     static void PackScales(const uint8_t* block, size_t lane, uint8_t* panel_block);
//     static void UnpackScales(const uint8_t* panel_block, size_t lane, float* scale, float* min);
//
//   A format of single values (f32, f16, bf16), packed in groups of kGroup along k:
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
// 2. Its SIMD side, derived from the first and compiled once a target. Blocks: Scale(panel_block,
//    sub, lane) and Min(...), one slice of outputs from `lane` on; Quad<q>(panel_block, step, lane)
//    if PanelCodes does not do; Levels(block, out), the signed levels of a file block in the order
//    of k. Values: the element for the tile in tile-inl.h, and Dequantize(row, k, out).
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

// Rounds to the nearest integer, ties to even, within [low, high]; NaN gives 0. For encoders.
inline int RoundToCode(float x, int low, int high) {
  if (!(x == x)) return 0;
  const float clamped = std::min(std::max(x, static_cast<float>(low)), static_cast<float>(high));
  return static_cast<int>((clamped + kRound) - kRound);
}

// Calls chain(row, n) for every output of panels [panel_begin, panel_end) and stores
// residual + silu(gate) * (chain + bias).
template <class Chain>
void ForEachOutput(const MatmulTask& task, size_t panel_begin, size_t panel_end, Chain chain) {
  const size_t n_end = std::min(task.n, panel_end * kPanel);
  for (size_t row = 0; row < task.m; ++row) {
    for (size_t n = panel_begin * kPanel; n < n_end; ++n) {
      float value = chain(row, n);
      const size_t at = row * task.out_stride + n;
      if (task.bias != nullptr) value = value + task.bias[n];
      if (task.gate != nullptr) reference::SiluMul(task.gate + at, &value, 1, &value);
      if (task.residual != nullptr) value = task.residual[at] + value;
      task.out[at] = value;
    }
  }
}

// ---------------------------------------------------------------- formats of blocks

// Codes of kBits bits in a panel: per 32 of k and 16 outputs, 64 * kBits bytes, in groups that lie
// and are read one behind the other. A group is 8 quads of k (4 of 6-bit codes, whose sub-blocks
// are then by themselves) in as many vectors of 64 bytes as their bits fill. Byte 4 * output + i of
// a vector has bits of k = 4 * quad + i:
//
//   - Quads that fit whole, one above the other: quad q is in vector q % kVectors, q / kVectors
//     codes up. So 4-bit codes have quads 0 to 3 in the low and 4 to 7 in the high halves.
//   - What is left at the top of the bytes, kTop bits of each vector, in order, holds the other
//     quads, bit by bit from the lowest: of 6-bit codes quad 3 is above quads 0, 1 and 2.
//
// A quad of one output is a word here, in which every byte is shifted and masked at once.
template <int kBits>
struct PanelCodes {
  static constexpr size_t kWidth = kBits;
  static constexpr size_t kVector = 4 * kPanel;
  static constexpr size_t kQuads = kBits == 6 ? 4 : 8;
  static constexpr size_t kVectors = kQuads * kWidth / 8;
  static constexpr size_t kWholeQuads = 8 / kWidth * kVectors;
  static constexpr size_t kTop = 8 % kWidth;
  static constexpr size_t CodeBytes(size_t values) { return values / kBlock * kVector * kWidth; }

  // Bits of one of the other quads that lie in one vector.
  struct Piece {
    size_t quad, to;      // where in the code: its bit `to` and those above
    size_t vector, from;  // and in the vector's bytes
    size_t bits;
    constexpr uint32_t Mask() const { return 0x01010101u * ((1u << bits) - 1); }
  };

  // The piece that begins with bit `bit` of the other quads.
  static constexpr Piece PieceAt(size_t bit) {
    const size_t to = bit % kWidth, above = bit % kTop;
    return {kWholeQuads + bit / kWidth, to, bit / kTop, 8 - kTop + above,
            std::min(kWidth - to, kTop - above)};
  }

  // Stores all codes of one output. codes: of a panel block; code: (values), below 2^kBits.
  static void SetCodes(const uint8_t* code, size_t values, size_t lane, uint8_t* codes) {
    codes += 4 * lane;
    for (size_t i = 0; i < values; i += 4 * kQuads, codes += kVectors * kVector) {
      uint32_t word[kVectors];
      for (size_t v = 0; v < kVectors; ++v) {
        word[v] = LoadAs<uint32_t>(code + i + 4 * v);
        for (size_t q = v + kVectors; q < kWholeQuads; q += kVectors) {
          word[v] |= LoadAs<uint32_t>(code + i + 4 * q) << q / kVectors * kWidth;
        }
      }
      SetPieces<0>(code + i, word);
      for (size_t v = 0; v < kVectors; ++v) StoreAs(word[v], codes + v * kVector);
    }
  }

  static void GetCodes(const uint8_t* codes, size_t lane, size_t values, uint8_t* code) {
    constexpr uint32_t kMask = 0x01010101u * ((1u << kWidth) - 1);
    codes += 4 * lane;
    for (size_t i = 0; i < values; i += 4 * kQuads, codes += kVectors * kVector) {
      uint32_t word[kVectors], quad[kQuads] = {};
      for (size_t v = 0; v < kVectors; ++v) word[v] = LoadAs<uint32_t>(codes + v * kVector);
      for (size_t q = 0; q < kWholeQuads; ++q) {
        quad[q] = word[q % kVectors] >> q / kVectors * kWidth & kMask;
      }
      GetPieces<0>(word, quad);
      for (size_t q = 0; q < kQuads; ++q) StoreAs(quad[q], code + i + 4 * q);
    }
  }

 private:
  template <size_t kBit>
  static void SetPieces(const uint8_t* code, uint32_t* word) {
    if constexpr (kBit < kTop * kVectors) {
      constexpr Piece piece = PieceAt(kBit);
      const auto quad = LoadAs<uint32_t>(code + 4 * piece.quad);
      word[piece.vector] |= (quad >> piece.to & piece.Mask()) << piece.from;
      SetPieces<kBit + piece.bits>(code, word);
    }
  }

  template <size_t kBit>
  static void GetPieces(const uint32_t* word, uint32_t* quad) {
    if constexpr (kBit < kTop * kVectors) {
      constexpr Piece piece = PieceAt(kBit);
      quad[piece.quad] |= (word[piece.vector] >> piece.from & piece.Mask()) << piece.to;
      GetPieces<kBit + piece.bits>(word, quad);
    }
  }
};

// The level of a code.
template <class F>
constexpr int LevelOf(uint8_t code) {
  if constexpr (requires { F::kLevels; }) {
    return F::kLevels[code];
  } else {
    return code;
  }
}

template <class F>
inline constexpr size_t kPanelBlockBytes = F::kHeaderBytes + F::CodeBytes(F::kValues);

// One block of one output.
template <class F>
struct Weights {
  static constexpr size_t kSubs = F::kValues / F::kSub;
  float scale[kSubs];
  float min[kSubs];  // only where F has one
  uint8_t code[F::kValues];

  int Level(size_t i) const { return LevelOf<F>(code[i]) - F::kZero; }

  // The values, rounded once, or twice where there is a minimum. out: (kValues)
  void Decode(float* out) const {
    for (size_t i = 0; i < F::kValues; ++i) {
      const float scaled = scale[i / F::kSub] * static_cast<float>(Level(i));
      out[i] = F::kHasMin ? scaled - min[i / F::kSub] : scaled;
    }
  }
};

// The chain that defines a block format's matmul, over the sub-blocks of one block. The integer sum
// is exact (at most 32 * 255 * 127 < 2^21, so its conversion to float is too), then one rounding
// for the product of the scales and one for the fused multiply-add; the same for the minimum. q,
// q_scale: the block's activations; scales are q_stride apart.
template <class F>
float BlockStep(const Weights<F>& w, const int8_t* q, size_t q_step, const float* q_scale,
                size_t scale_step, float acc) {
  for (size_t sub = 0; sub < Weights<F>::kSubs; ++sub) {
    const size_t first = sub * F::kSub, step = first / kBlock;
    int32_t sum = 0, q_sum = 0;
    for (size_t i = 0; i < F::kSub; ++i) {
      const int32_t x = q[step * q_step + first % kBlock + i];
      sum += w.Level(first + i) * x;
      q_sum += x;
    }
    const float scale = q_scale[step * scale_step];
    acc = std::fma(static_cast<float>(sum), w.scale[sub] * scale, acc);
    if (F::kHasMin) acc = std::fma(-w.min[sub], scale * static_cast<float>(q_sum), acc);
  }
  return acc;
}

// The Format functions of a format of blocks.
template <class F>
struct BlockFormat {
  static constexpr ActKind kAct = ActKind::kQ8;

  static size_t PanelBytes(size_t k) { return k / F::kValues * kPanelBlockBytes<F>; }

  static void FromFile(const uint8_t* block, Weights<F>* w) {
    F::Scales(block, w->scale, w->min);
    F::Codes(block, w->code);
  }

  static void FromPanel(const uint8_t* panel_block, size_t lane, Weights<F>* w) {
    F::UnpackScales(panel_block, lane, w->scale, w->min);
    F::GetCodes(panel_block + F::kHeaderBytes, lane, F::kValues, w->code);
  }

  static void EncodeRow(const float* x, size_t k, uint8_t* blocks) {
    for (size_t i = 0; i < k; i += F::kValues, blocks += F::kBytes) F::Encode(x + i, blocks);
  }

  static void DecodeRow(const uint8_t* blocks, size_t k, float* out) {
    for (size_t i = 0; i < k; i += F::kValues, blocks += F::kBytes) {
      Weights<F> w;
      FromFile(blocks, &w);
      w.Decode(out + i);
    }
  }

  static void PackPanel(const uint8_t* rows, size_t row_bytes, size_t lanes, size_t k,
                        uint8_t* panel) {
    if (lanes < kPanel) std::memset(panel, 0, PanelBytes(k));
    for (size_t b = 0; b < k / F::kValues; ++b, panel += kPanelBlockBytes<F>) {
      for (size_t lane = 0; lane < lanes; ++lane) {
        const uint8_t* block = rows + lane * row_bytes + b * F::kBytes;
        uint8_t code[F::kValues];
        F::PackScales(block, lane, panel);
        F::Codes(block, code);
        F::SetCodes(code, F::kValues, lane, panel + F::kHeaderBytes);
      }
    }
  }

  static void UnpackRow(const uint8_t* panel, size_t lane, size_t k, float* out) {
    for (size_t i = 0; i < k; i += F::kValues, panel += kPanelBlockBytes<F>) {
      Weights<F> w;
      FromPanel(panel, lane, &w);
      w.Decode(out + i);
    }
  }

  // The definition, from the file's blocks of one output; acts: one row, quantized.
  static float Chain(const uint8_t* blocks, size_t k, const void* acts) {
    const Q8Acts q = Q8ActsIn(const_cast<void*>(acts), 1, k);
    float acc = 0.0f;
    for (size_t i = 0; i < k; i += F::kValues, blocks += F::kBytes) {
      Weights<F> w;
      FromFile(blocks, &w);
      acc = BlockStep<F>(w, q.codes + i, kBlock, q.scales + i / kBlock, 1, acc);
    }
    return acc;
  }

  // The same from a panel, for the scalar target.
  static void MatmulPanels(const MatmulTask& task, size_t panel_begin, size_t panel_end) {
    const Q8Acts q = Q8ActsIn(const_cast<void*>(task.act), task.m, task.k);
    ForEachOutput(task, panel_begin, panel_end, [&](size_t row, size_t n) {
      const uint8_t* panel = task.packed + n / kPanel * PanelBytes(task.k);
      float acc = 0.0f;
      for (size_t i = 0; i < task.k; i += F::kValues, panel += kPanelBlockBytes<F>) {
        Weights<F> w;
        FromPanel(panel, n % kPanel, &w);
        const size_t at = i / kBlock * task.m + row;
        acc = BlockStep<F>(w, q.codes + at * kBlock, task.m * kBlock, q.scales + at, task.m, acc);
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
    if (lanes < kPanel) std::memset(panel, 0, PanelBytes(k));
    auto* out = reinterpret_cast<typename F::Lane*>(panel);
    // 256 bytes of each row at once: what they fill of the panel stays in L1.
    constexpr size_t kGroupBytes = F::kGroup * F::kBytes, kAtOnce = 256 / kGroupBytes;
    const size_t whole = k / F::kGroup;
    for (size_t begin = 0; begin < whole; begin += kAtOnce) {
      const size_t end = std::min(begin + kAtOnce, whole);
      for (size_t lane = 0; lane < lanes; ++lane) {
        const uint8_t* row = rows + lane * row_bytes;
        for (size_t g = begin; g < end; ++g) {
          out[g * kPanel + lane] = PackGroup(row + g * kGroupBytes, F::kGroup);
        }
      }
    }
    if (whole == Groups(k)) return;
    for (size_t lane = 0; lane < lanes; ++lane) {
      out[whole * kPanel + lane] =
          PackGroup(rows + lane * row_bytes + whole * kGroupBytes, k % F::kGroup);
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
    for (size_t g = 0; g < Groups(k); ++g, row += F::kGroup * F::kBytes) {
      acc = F::Step(PackGroup(row, std::min(F::kGroup, k - g * F::kGroup)), act, g, acc);
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

 private:
  // A group of which there are `count` values; the others are zero.
  static typename F::Lane PackGroup(const uint8_t* values, size_t count) {
    typename F::Lane lane = 0;
    for (size_t i = 0; i < count; ++i) F::Pack(values + i * F::kBytes, i, &lane);
    return lane;
  }
};

// ---------------------------------------------------------------- the Format object

// The SIMD tables of one format; a type of its own, so that KernelsOn can tell formats apart.
template <class F>
struct SimdKernels : FormatKernels {
  FormatKernels with_dot;  // on CPUs with the target's extra dot (targets.h), the same without one
};

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
  static constexpr FormatKernels kReference = {Scalar::MatmulPanels, Scalar::DecodeRow};
  static constexpr SimdKernels<F> kScalarKernels = {kReference, kReference};
  const auto& kernels = FindKernels<SimdKernels<F>, kTargets>(target, kScalarKernels);
  return (target & kWithDot) != 0 ? kernels.with_dot : kernels;
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
  if constexpr (requires { F::kValues; }) {
    static_assert(RowOf(kId).block_values == F::kValues, "formats.def and the file disagree");
  }
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
