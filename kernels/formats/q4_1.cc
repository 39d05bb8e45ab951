// q4_1: 32 weights as 4-bit codes with an f16 scale and an f16 offset; weight = d * code + m.
//
// File block (20 bytes):    d, m f16 | 16 bytes, byte i: code i in the low, i + 16 in the high half
// Panel block (320 bytes):  d f16 x 16 outputs | m f16 x 16 | codes of 4 bits

#include "kernels/formats/codes.h"
#include "kernels/formats/contract.h"
#include "kernels/formats/encode.h"
#include "kernels/formats/scales.h"

#ifndef HOB_FORMAT_Q4_1_ONCE
#define HOB_FORMAT_Q4_1_ONCE
namespace hob {

struct Q4_1 : PanelCodes<4>, OneScaleAndOffset {
  struct Block {
    uint16_t d, m;
    uint8_t code[16];
  };
  static constexpr size_t kBytes = sizeof(Block), kValues = 32, kSub = 32;
  static constexpr int kZero = 0, kMaxLevel = 15;

  static void Encode(const float* in, uint8_t* out) {
    const auto x = FiniteValues<kValues>(in);
    const auto [d, m] = SearchScaleAndOffset(x.data(), kValues, kMaxLevel, {0, 1, 2, 3}, 4);
    const float inverse = InverseOf(d);
    uint8_t code[kValues];
    for (size_t i = 0; i < kValues; ++i) {
      code[i] = static_cast<uint8_t>(RoundToCode((x[i] - m) * inverse, 0, kMaxLevel));
    }
    Block block = {F32ToF16(d), F32ToF16(m), {}};
    CodesApart<4, 16>::Put(code, kValues, block.code);
    StoreAs(block, out);
  }

  static void Codes(const uint8_t* block, uint8_t* code) {
    CodesApart<4, 16>::Get(block + offsetof(Block, code), kValues, code);
  }
};

}  // namespace hob
#endif  // HOB_FORMAT_Q4_1_ONCE

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/formats/q4_1.cc"
#include <hwy/foreach_target.h>
// After foreach_target.h, which sets the target:
#include "kernels/matmul-inl.h"

namespace hob {
namespace HWY_NAMESPACE {

struct Q4_1Simd : WithOneScaleAndOffset<Q4_1>,
                  NibblesApart<Q4_1, offsetof(Q4_1::Block, code), 16> {};

}  // namespace HWY_NAMESPACE
}  // namespace hob

namespace hob {

template <>
const SimdKernels<Q4_1>& KernelsOn<SimdKernels<Q4_1>, HWY_TARGET>() {
  static constexpr auto kKernels = HWY_NAMESPACE::BlockKernels<Q4_1, HWY_NAMESPACE::Q4_1Simd>();
  return kKernels;
}

#if HWY_ONCE
template <>
const Format& FormatOf<HOB_FORMAT_Q4_1>() {
  static constexpr Format kFormat =
      MakeFormat<HOB_FORMAT_Q4_1, Q4_1, BlockFormat<Q4_1>, HWY_TARGETS>();
  return kFormat;
}
#endif

}  // namespace hob
