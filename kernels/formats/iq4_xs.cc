// iq4_xs: 256 weights in sub-blocks of 32, as 4-bit codes of 16 unevenly spaced levels with 6-bit
// scales; weight = d * (sub_scale - 32) * level[code]
//
// File block (136 bytes):    d f16 | high 2 bits of the scales, uint16: those of scale i 2 i bits
//                            up | low 4 bits, 4 bytes, byte i: scales 2 i and 2 i + 1 |
//                            8 times 16 bytes, byte i: code i of 32 in the low, code i + 16 in the
//                            high half
// Panel block (2208 bytes):  d f16 x 16 outputs | scale - 32 int8 [8][16] | planes of 4 bits

#include "kernels/formats/contract.h"
#include "kernels/formats/encode_k.h"
#include "kernels/formats/k_scales.h"

#ifndef HOB_FORMAT_IQ4_XS_ONCE
#define HOB_FORMAT_IQ4_XS_ONCE
namespace hob {

struct IQ4_XS : PlaneCodes<4>, SignedScales<IQ4_XS> {
  struct Block {
    uint16_t d, high;
    uint8_t low[4];
    uint8_t code[128];
  };
  static constexpr size_t kBytes = sizeof(Block), kValues = 256, kSub = 32;
  static constexpr int kZero = 128, kMaxLevel = 241;
  static constexpr bool kHasMin = false;
  static constexpr size_t kHeaderBytes = (2 + 8) * kPanel;
  static constexpr size_t kDAt = offsetof(Block, d);
  // -127 -104 -83 -65 -49 -35 -22 -10 1 13 25 38 53 69 89 113
  alignas(16) static constexpr uint8_t kLevels[16] = {1,   24,  45,  63,  79,  93,  106, 118,
                                                      129, 141, 153, 166, 181, 197, 217, 241};

  static void Encode(const float* x, uint8_t* out) {
    const auto found = SuperBlockEncoder<IQ4_XS, -32, 31>::Encode(x);
    Block block = {};
    block.d = found.d;
    for (size_t i = 0; i < 8; ++i) {
      const int scale = found.sub_scale[i] + 32;
      block.high |= static_cast<uint16_t>(scale >> 4 << 2 * i);
      block.low[i / 2] |= static_cast<uint8_t>((scale & 15) << i % 2 * 4);
    }
    for (size_t i = 0; i < kValues; ++i) {
      block.code[i / 32 * 16 + i % 16] |= static_cast<uint8_t>(found.code[i] << i / 16 % 2 * 4);
    }
    StoreAs(block, out);
  }

  static void SubScales(const uint8_t* block, int8_t* sub_scale) {
    const auto high = LoadAs<uint16_t>(block + offsetof(Block, high));
    const auto low = LoadAs<uint32_t>(block + offsetof(Block, low));
    for (size_t i = 0; i < 8; ++i) {
      sub_scale[i] = static_cast<int8_t>((low >> 4 * i & 15) + (high >> 2 * i & 3) * 16 - 32);
    }
  }

  static void Codes(const uint8_t* in, uint8_t* code) {
    const auto block = LoadAs<Block>(in);
    for (size_t i = 0; i < kValues; ++i) {
      code[i] = block.code[i / 32 * 16 + i % 16] >> i / 16 % 2 * 4 & 15;
    }
  }
};

}  // namespace hob
#endif  // HOB_FORMAT_IQ4_XS_ONCE

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/formats/iq4_xs.cc"
#include <hwy/foreach_target.h>
// After foreach_target.h, which sets the target:
#include "kernels/matmul-inl.h"

HWY_BEFORE_NAMESPACE();
namespace hob {
namespace HWY_NAMESPACE {

struct IQ4_XSSimd : IQ4_XS {
  static HWY_INLINE VF32 Scale(const uint8_t* panel, size_t sub, size_t lane) {
    return hn::Mul(LoadF16(panel + 2 * lane), LoadBytes<int8_t>(SubScale(panel, sub, lane)));
  }

  static HWY_INLINE void Levels(const uint8_t* block, int8_t* out) {
    const DBytes d;
    const auto levels = hn::LoadDup128(d, kLevels);
    const uint8_t* code = block + offsetof(Block, code);
    for (size_t j = 0; j < kValues; j += 32, code += 16) {
      for (size_t i = 0; i < 16; i += hn::Lanes(d)) {
        const auto pairs = hn::LoadU(d, code + i);
        const auto low = hn::And(pairs, hn::Set(d, uint8_t{15}));
        const auto high = hn::ShiftRight<4>(pairs);
        StoreLevels(d, hn::TableLookupBytes(levels, low), kZero, out + j + i);
        StoreLevels(d, hn::TableLookupBytes(levels, high), kZero, out + j + i + 16);
      }
    }
  }
};

}  // namespace HWY_NAMESPACE
}  // namespace hob
HWY_AFTER_NAMESPACE();

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
