// iq4_nl: 32 weights as 4-bit codes of unevenly spaced levels, with one f16 scale;
// weight = d * level(code).
//
// File block (18 bytes):    d f16 | 16 bytes, byte i: code i in the low, i + 16 in the high half
// Panel block (288 bytes):  d f16 x 16 outputs | codes of 4 bits

#include "kernels/formats/codes.h"
#include "kernels/formats/contract.h"
#include "kernels/formats/encode.h"
#include "kernels/formats/scales.h"

#ifndef HOB_FORMAT_IQ4_NL_ONCE
#define HOB_FORMAT_IQ4_NL_ONCE
namespace hob {

struct IQ4_NL : PanelCodes<4>, OneScale<IQ4_NL>, UnevenLevels {
  struct Block {
    uint16_t d;
    uint8_t code[16];
  };
  static constexpr size_t kBytes = sizeof(Block), kValues = 32, kSub = 32;
  static constexpr size_t kDAt = offsetof(Block, d);

  // Level i + 1 is nearer than level i to what is above kMiddle[i].
  static constexpr float kMiddle[15] = {-115.5f, -93.5f, -74.0f, -57.0f, -42.0f,
                                        -28.5f,  -16.0f, -4.5f,  7.0f,   19.0f,
                                        31.5f,   45.5f,  61.0f,  79.0f,  101.0f};

  static uint8_t NearestCode(float v) {
    size_t code = 0;
    for (size_t step = 8; step > 0; step /= 2) code += step * (v > kMiddle[code + step - 1]);
    return static_cast<uint8_t>(code);
  }

  static void Encode(const float* in, uint8_t* out) {
    const auto x = FiniteValues<kValues>(in);
    const auto level = [](float v) { return static_cast<float>(kLevels[NearestCode(v)] - kZero); };
    const float d =
        SearchScale(x.data(), kValues, {-134, -127, -120, -113, 113, 120, 127}, 1, level);
    const float inverse = InverseOf(d);
    uint8_t code[kValues];
    for (size_t i = 0; i < kValues; ++i) code[i] = NearestCode(x[i] * inverse);
    Block block = {F32ToF16(d), {}};
    CodesApart<4, 16>::Put(code, kValues, block.code);
    StoreAs(block, out);
  }

  static void Codes(const uint8_t* block, uint8_t* code) {
    CodesApart<4, 16>::Get(block + offsetof(Block, code), kValues, code);
  }
};

}  // namespace hob
#endif  // HOB_FORMAT_IQ4_NL_ONCE

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/formats/iq4_nl.cc"
#include <hwy/foreach_target.h>
// After foreach_target.h, which sets the target:
#include "kernels/matmul-inl.h"

namespace hob {
namespace HWY_NAMESPACE {

struct IQ4_NLSimd : WithOneScale<IQ4_NL>,
                    NibblesApart<IQ4_NL, offsetof(IQ4_NL::Block, code), 16> {};

}  // namespace HWY_NAMESPACE
}  // namespace hob

namespace hob {

template <>
const SimdKernels<IQ4_NL>& KernelsOn<SimdKernels<IQ4_NL>, HWY_TARGET>() {
  static constexpr auto kKernels = HWY_NAMESPACE::BlockKernels<IQ4_NL, HWY_NAMESPACE::IQ4_NLSimd>();
  return kKernels;
}

#if HWY_ONCE
template <>
const Format& FormatOf<HOB_FORMAT_IQ4_NL>() {
  static constexpr Format kFormat =
      MakeFormat<HOB_FORMAT_IQ4_NL, IQ4_NL, BlockFormat<IQ4_NL>, HWY_TARGETS>();
  return kFormat;
}
#endif

}  // namespace hob
