// q8_0: 32 weights as signed bytes with one f16 scale; value = d * code.
//
// File block (34 bytes):    d f16 | code[32] int8
// Panel block (544 bytes):  d f16 x 16 outputs | 8 vectors of 64 bytes, vector q: byte
//                           4 * output + i = code of k = 4 q + i, plus 128 (unsigned)

#include "kernels/formats/contract.h"

#ifndef HOB_FORMAT_Q8_0_ONCE
#define HOB_FORMAT_Q8_0_ONCE
namespace hob {

struct Q8_0 {
  struct Block {
    uint16_t d;
    int8_t code[kBlock];
  };
  static constexpr size_t kBytes = sizeof(Block);
  static constexpr int kZero = 128, kMaxCode = 255;
  static constexpr size_t kPanelBlockBytes = kPanel * (2 + kBlock);

  // The scale is rounded to f16 first and the codes are chosen for the rounded one.
  static void Encode(const float* x, uint8_t* out) {
    Block block;
    float amax = 0.0f;
    for (size_t i = 0; i < kBlock; ++i) amax = std::max(amax, std::fabs(x[i]));
    block.d = F32ToF16(amax / 127.0f);
    const float d = F16ToF32(block.d);
    const float inverse = d > 0.0f ? 1.0f / d : 0.0f;
    for (size_t i = 0; i < kBlock; ++i) block.code[i] = RoundToCode(x[i] * inverse, -127, 127);
    StoreAs(block, out);
  }

  static void Decode(const uint8_t* in, Codes* codes) {
    const auto block = LoadAs<Block>(in);
    codes->scale = F16ToF32(block.d);
    for (size_t i = 0; i < kBlock; ++i) codes->code[i] = static_cast<uint8_t>(block.code[i] + 128);
  }

  static void Pack(const uint8_t* in, size_t lane, uint8_t* panel) {
    const auto block = LoadAs<Block>(in);
    StoreAs(block.d, panel + 2 * lane);
    for (size_t i = 0; i < kBlock; ++i) {
      *CodeAt(panel, lane, i) = static_cast<uint8_t>(block.code[i] + 128);
    }
  }

  static void Unpack(const uint8_t* panel, size_t lane, Codes* codes) {
    codes->scale = F16ToF32(LoadAs<uint16_t>(panel + 2 * lane));
    for (size_t i = 0; i < kBlock; ++i) codes->code[i] = *CodeAt(panel, lane, i);
  }

  // Where the code of k = i is.
  template <class Byte>
  static Byte* CodeAt(Byte* panel, size_t lane, size_t i) {
    return panel + 2 * kPanel + i / 4 * 64 + 4 * lane + i % 4;
  }
};

}  // namespace hob
#endif  // HOB_FORMAT_Q8_0_ONCE

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/formats/q8_0.cc"
#include <hwy/foreach_target.h>
// After foreach_target.h, which sets the target:
#include "kernels/dequantize-inl.h"
#include "kernels/matmul-inl.h"

HWY_BEFORE_NAMESPACE();
namespace hob {
namespace HWY_NAMESPACE {

struct Q8_0Simd : Q8_0 {
  static HWY_INLINE VCode CodeQuad(const uint8_t* panel, size_t quad, size_t lane) {
    return ToCodes<Q8_0>(hn::LoadU(DU8(), panel + 2 * kPanel + 64 * quad + 4 * lane));
  }

  static HWY_INLINE VF32 Scale(const uint8_t* panel, size_t lane) {
    return LoadF16(panel + 2 * lane);
  }

  static void Dequantize(const uint8_t* in, size_t k, float* out) {
    for (size_t i = 0; i < k; i += kBlock, in += kBytes) {
      const float d = F16ToF32(LoadAs<uint16_t>(in));
      ScaleBytes(reinterpret_cast<const int8_t*>(in + 2), kBlock, d, out + i);
    }
  }
};

}  // namespace HWY_NAMESPACE
}  // namespace hob
HWY_AFTER_NAMESPACE();

namespace hob {

template <>
const SimdKernels<Q8_0>& KernelsOn<SimdKernels<Q8_0>, HWY_TARGET>() {
  using Simd = HWY_NAMESPACE::Q8_0Simd;
  static constexpr SimdKernels<Q8_0> kKernels = {
      {HWY_NAMESPACE::BlockMatmul<Simd>, Simd::Dequantize}};
  return kKernels;
}

#if HWY_ONCE
template <>
const Format& FormatOf<HOB_FORMAT_Q8_0>() {
  static constexpr Format kFormat =
      MakeFormat<HOB_FORMAT_Q8_0, Q8_0, BlockFormat<Q8_0>, HWY_TARGETS>();
  return kFormat;
}
#endif

}  // namespace hob
