// iq4_xs: 256 weights in sub-blocks of 32, as 4-bit codes of 16 unevenly spaced levels with 6-bit
// scales; weight = d * (sub_scale - 32) * level[code]
//
// File block (136 bytes):    d f16 | high 2 bits of the scales, uint16: those of scale i 2 i bits
//                            up | low 4 bits, 4 bytes, byte i: scales 2 i and 2 i + 1 |
//                            8 times 16 bytes, byte i: code i of 32 in the low, code i + 16 in the
//                            high half
// Panel block (2208 bytes):  d f16 x 16 outputs | scale - 32 int8 [8][16] | codes of 4 bits

#include "kernels/formats/codes.h"
#include "kernels/formats/contract.h"
#include "kernels/formats/encode_k.h"
#include "kernels/formats/scales.h"

#ifndef HOB_FORMAT_IQ4_XS_ONCE
#define HOB_FORMAT_IQ4_XS_ONCE
namespace hob {

struct IQ4_XS : PanelCodes<4>, SignedScales<IQ4_XS>, UnevenLevels {
  struct Block {
    uint16_t d, high;
    uint8_t low[4];
    uint8_t code[128];
  };
  static constexpr size_t kBytes = sizeof(Block), kValues = 256, kSub = 32;
  static constexpr size_t kDAt = offsetof(Block, d);

  static void Encode(const float* x, uint8_t* out) {
    const auto found = SuperBlockEncoder<IQ4_XS, -32, 31>::Encode(x);
    Block block = {};
    block.d = found.d;
    for (size_t i = 0; i < 8; ++i) {
      const int scale = found.sub_scale[i] + 32;
      block.high |= static_cast<uint16_t>(scale >> 4 << 2 * i);
      block.low[i / 2] |= static_cast<uint8_t>((scale & 15) << i % 2 * 4);
    }
    CodesApart<4, 16>::Put(found.code, kValues, block.code);
    StoreAs(block, out);
  }

  static void SubScales(const uint8_t* block, int8_t* sub_scale) {
    const auto high = LoadAs<uint16_t>(block + offsetof(Block, high));
    const auto low = LoadAs<uint32_t>(block + offsetof(Block, low));
    for (size_t i = 0; i < 8; ++i) {
      sub_scale[i] = static_cast<int8_t>((low >> 4 * i & 15) + (high >> 2 * i & 3) * 16 - 32);
    }
  }

  static void Codes(const uint8_t* block, uint8_t* code) {
    CodesApart<4, 16>::Get(block + offsetof(Block, code), kValues, code);
  }
};

}  // namespace hob
#endif  // HOB_FORMAT_IQ4_XS_ONCE

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/formats/iq4_xs.cc"
#include <hwy/foreach_target.h>
// After foreach_target.h, which sets the target:
#include "kernels/matmul-inl.h"

namespace hob {
namespace HWY_NAMESPACE {

struct IQ4_XSSimd : WithSignedScales<IQ4_XS>,
                    NibblesApart<IQ4_XS, offsetof(IQ4_XS::Block, code), 16> {};

}  // namespace HWY_NAMESPACE
}  // namespace hob

namespace hob {

template <>
const SimdKernels<IQ4_XS>& KernelsOn<SimdKernels<IQ4_XS>, HWY_TARGET>() {
  static constexpr auto kKernels = HWY_NAMESPACE::BlockKernels<IQ4_XS, HWY_NAMESPACE::IQ4_XSSimd>();
  return kKernels;
}

#if HWY_ONCE
template <>
const Format& FormatOf<HOB_FORMAT_IQ4_XS>() {
  static constexpr Format kFormat =
      MakeFormat<HOB_FORMAT_IQ4_XS, IQ4_XS, BlockFormat<IQ4_XS>, HWY_TARGETS>();
  return kFormat;
}
#endif

}  // namespace hob
