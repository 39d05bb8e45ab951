// q4_0: 32 weights as 4-bit codes with one f16 scale; value = d * (code - 8).
//
// File block (18 bytes):    d f16 | 16 bytes, byte i: code i in the low, code i + 16 in the high
// half Panel block (288 bytes):  d f16 x 16 outputs | 4 vectors of 64 bytes, vector q: byte
//                           4 * output + i = code of k = 4 q + i in the low half, of k + 16 in the
//                           high half: the same nibbles as in the file, only moved

#include "kernels/formats/contract.h"

#ifndef HOB_FORMAT_Q4_0_ONCE
#define HOB_FORMAT_Q4_0_ONCE
namespace hob {

struct Q4_0 {
  struct Block {
    uint16_t d;
    uint8_t code[kBlock / 2];
  };
  static constexpr size_t kBytes = sizeof(Block);
  static constexpr int kZero = 8, kMaxCode = 15;
  static constexpr size_t kPanelBlockBytes = kPanel * (2 + kBlock / 2);

  // The element of largest magnitude gets code 0, that is -8, so the scale has the opposite sign.
  static void Encode(const float* x, uint8_t* out) {
    Block block;
    float extreme = 0.0f;
    for (size_t i = 0; i < kBlock; ++i) {
      if (std::fabs(x[i]) > std::fabs(extreme)) extreme = x[i];
    }
    block.d = F32ToF16(extreme / -8.0f);
    const float d = F16ToF32(block.d);
    const float inverse = d != 0.0f ? 1.0f / d : 0.0f;
    for (size_t i = 0; i < kBlock / 2; ++i) {
      const int low = RoundToCode(x[i] * inverse, -8, 7) + 8;
      const int high = RoundToCode(x[i + kBlock / 2] * inverse, -8, 7) + 8;
      block.code[i] = static_cast<uint8_t>(low | high << 4);
    }
    StoreAs(block, out);
  }

  static void Decode(const uint8_t* in, Codes* codes) {
    const auto block = LoadAs<Block>(in);
    codes->scale = F16ToF32(block.d);
    for (size_t i = 0; i < kBlock / 2; ++i) {
      codes->code[i] = block.code[i] & 15;
      codes->code[i + kBlock / 2] = block.code[i] >> 4;
    }
  }

  static void Pack(const uint8_t* in, size_t lane, uint8_t* panel) {
    const auto block = LoadAs<Block>(in);
    StoreAs(block.d, panel + 2 * lane);
    for (size_t i = 0; i < kBlock / 2; ++i) *NibblesAt(panel, lane, i) = block.code[i];
  }

  static void Unpack(const uint8_t* panel, size_t lane, Codes* codes) {
    codes->scale = F16ToF32(LoadAs<uint16_t>(panel + 2 * lane));
    for (size_t i = 0; i < kBlock / 2; ++i) {
      codes->code[i] = *NibblesAt(panel, lane, i) & 15;
      codes->code[i + kBlock / 2] = *NibblesAt(panel, lane, i) >> 4;
    }
  }

  // Where the codes of k = i and i + 16 are.
  template <class Byte>
  static Byte* NibblesAt(Byte* panel, size_t lane, size_t i) {
    return panel + 2 * kPanel + i / 4 * 64 + 4 * lane + i % 4;
  }
};

}  // namespace hob
#endif  // HOB_FORMAT_Q4_0_ONCE

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/formats/q4_0.cc"
#include <hwy/foreach_target.h>
// After foreach_target.h, which sets the target:
#include "kernels/dequantize-inl.h"
#include "kernels/matmul-inl.h"

HWY_BEFORE_NAMESPACE();
namespace hob {
namespace HWY_NAMESPACE {

struct Q4_0Simd : Q4_0 {
  static HWY_INLINE VCode CodeQuad(const uint8_t* panel, size_t quad, size_t lane) {
    const VU8 nibbles = hn::LoadU(DU8(), panel + 2 * kPanel + 64 * (quad % 4) + 4 * lane);
    return ToCodes<Q4_0>(quad < 4 ? LowNibbles(nibbles) : HighNibbles(nibbles));
  }

  static HWY_INLINE VF32 Scale(const uint8_t* panel, size_t lane) {
    return LoadF16(panel + 2 * lane);
  }

  static void Dequantize(const uint8_t* in, size_t k, float* out) {
    const hn::CappedTag<uint8_t, kBlock / 2> du8;
    HWY_ALIGN int8_t codes[kBlock];
    for (size_t i = 0; i < k; i += kBlock, in += kBytes) {
      for (size_t j = 0; j < kBlock / 2; j += hn::Lanes(du8)) {
        const auto nibbles = hn::LoadU(du8, in + 2 + j);
        StoreCentered(du8, hn::And(nibbles, hn::Set(du8, uint8_t{15})), kZero, codes + j);
        StoreCentered(du8, hn::ShiftRight<4>(nibbles), kZero, codes + j + kBlock / 2);
      }
      ScaleBytes(codes, kBlock, F16ToF32(LoadAs<uint16_t>(in)), out + i);
    }
  }
};

}  // namespace HWY_NAMESPACE
}  // namespace hob
HWY_AFTER_NAMESPACE();

namespace hob {

template <>
const SimdKernels<Q4_0>& KernelsOn<SimdKernels<Q4_0>, HWY_TARGET>() {
  using Simd = HWY_NAMESPACE::Q4_0Simd;
  static constexpr SimdKernels<Q4_0> kKernels = {
      {HWY_NAMESPACE::BlockMatmul<Simd>, Simd::Dequantize}};
  return kKernels;
}

#if HWY_ONCE
template <>
const Format& FormatOf<HOB_FORMAT_Q4_0>() {
  static constexpr Format kFormat =
      MakeFormat<HOB_FORMAT_Q4_0, Q4_0, BlockFormat<Q4_0>, HWY_TARGETS>();
  return kFormat;
}
#endif

}  // namespace hob
