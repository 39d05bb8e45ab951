// q5_0: 32 weights as 5-bit codes with one f16 scale; weight = d * (code - 16).
//
// File block (22 bytes):    d f16 | 4 bytes, bit i: bit 4 of code i | 16 bytes, byte i: low bits of
//                           code i in the low, of code i + 16 in the high half
// Panel block (352 bytes):  d f16 x 16 outputs | codes of 5 bits

#include "kernels/formats/codes.h"
#include "kernels/formats/contract.h"
#include "kernels/formats/encode.h"
#include "kernels/formats/scales.h"

#ifndef HOB_FORMAT_Q5_0_ONCE
#define HOB_FORMAT_Q5_0_ONCE
namespace hob {

struct Q5_0 : PanelCodes<5>, OneScale<Q5_0> {
  struct Block {
    uint16_t d;
    uint8_t high[4], low[16];
  };
  static constexpr size_t kBytes = sizeof(Block), kValues = 32, kSub = 32;
  static constexpr size_t kDAt = offsetof(Block, d);
  static constexpr int kZero = 16, kMaxLevel = 31;

  static void Encode(const float* in, uint8_t* out) {
    const auto x = FiniteValues<kValues>(in);
    const auto level = [](float v) { return RoundToLevel(v, -16, 15); };
    const float d = SearchScale(x.data(), kValues, {-16.5f, -16, -15.5f, -15, 15, 15.5f}, 1, level);
    const float inverse = InverseOf(d);
    uint8_t code[kValues];
    for (size_t i = 0; i < kValues; ++i) {
      code[i] = static_cast<uint8_t>(RoundToCode(x[i] * inverse, -16, 15) + kZero);
    }
    Block block = {F32ToF16(d), {}, {}};
    CodesApart<4, 16>::Put(code, kValues, block.low);
    BitString<4>::Put(code, kValues, block.high);
    StoreAs(block, out);
  }

  static void Codes(const uint8_t* block, uint8_t* code) {
    CodesApart<4, 16>::Get(block + offsetof(Block, low), kValues, code);
    BitString<4>::Get(block + offsetof(Block, high), kValues, code);
  }
};

}  // namespace hob
#endif  // HOB_FORMAT_Q5_0_ONCE

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/formats/q5_0.cc"
#include <hwy/foreach_target.h>
// After foreach_target.h, which sets the target:
#include "kernels/matmul-inl.h"

HWY_BEFORE_NAMESPACE();
namespace hob {
namespace HWY_NAMESPACE {

struct Q5_0Simd : WithOneScale<Q5_0> {
  static HWY_INLINE void Levels(const uint8_t* block, int8_t* out) {
    FiveBitLevels<Q5_0>(block + offsetof(Block, low), block + offsetof(Block, high), out);
  }
};

}  // namespace HWY_NAMESPACE
}  // namespace hob
HWY_AFTER_NAMESPACE();

namespace hob {

template <>
const SimdKernels<Q5_0>& KernelsOn<SimdKernels<Q5_0>, HWY_TARGET>() {
  static constexpr auto kKernels = HWY_NAMESPACE::BlockKernels<Q5_0, HWY_NAMESPACE::Q5_0Simd>();
  return kKernels;
}

#if HWY_ONCE
template <>
const Format& FormatOf<HOB_FORMAT_Q5_0>() {
  static constexpr Format kFormat =
      MakeFormat<HOB_FORMAT_Q5_0, Q5_0, BlockFormat<Q5_0>, HWY_TARGETS>();
  return kFormat;
}
#endif

}  // namespace hob
