// q4_0: 32 weights as 4-bit codes with one f16 scale; weight = d * (code - 8).
//
// File block (18 bytes):    d f16 | 16 bytes, byte i: code i in the low, i + 16 in the high half
// Panel block (288 bytes):  d f16 x 16 outputs | codes of 4 bits

#include "kernels/formats/codes.h"
#include "kernels/formats/contract.h"
#include "kernels/formats/encode.h"
#include "kernels/formats/scales.h"

#ifndef HOB_FORMAT_Q4_0_ONCE
#define HOB_FORMAT_Q4_0_ONCE
namespace hob {

struct Q4_0 : PanelCodes<4>, OneScale<Q4_0> {
  struct Block {
    uint16_t d;
    uint8_t code[16];
  };
  static constexpr size_t kBytes = sizeof(Block), kValues = 32, kSub = 32;
  static constexpr size_t kDAt = offsetof(Block, d);
  static constexpr int kZero = 8, kMaxLevel = 15;

  static void Encode(const float* in, uint8_t* out) {
    const auto x = FiniteValues<kValues>(in);
    const auto level = [](float v) { return RoundToLevel(v, -8, 7); };
    const float d = SearchScale(x.data(), kValues, {-8.5f, -8, -7.5f, -7, 7, 7.5f}, 1, level);
    const float inverse = InverseOf(d);
    uint8_t code[kValues];
    for (size_t i = 0; i < kValues; ++i) {
      code[i] = static_cast<uint8_t>(RoundToCode(x[i] * inverse, -8, 7) + kZero);
    }
    Block block = {F32ToF16(d), {}};
    CodesApart<4, 16>::Put(code, kValues, block.code);
    StoreAs(block, out);
  }

  static void Codes(const uint8_t* block, uint8_t* code) {
    CodesApart<4, 16>::Get(block + offsetof(Block, code), kValues, code);
  }
};

}  // namespace hob
#endif  // HOB_FORMAT_Q4_0_ONCE

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/formats/q4_0.cc"
#include <hwy/foreach_target.h>
// After foreach_target.h, which sets the target:
#include "kernels/matmul-inl.h"

namespace hob {
namespace HWY_NAMESPACE {

struct Q4_0Simd : WithOneScale<Q4_0>, NibblesApart<Q4_0, offsetof(Q4_0::Block, code), 16> {};

}  // namespace HWY_NAMESPACE
}  // namespace hob

namespace hob {

template <>
const SimdKernels<Q4_0>& KernelsOn<SimdKernels<Q4_0>, HWY_TARGET>() {
  static constexpr auto kKernels = HWY_NAMESPACE::BlockKernels<Q4_0, HWY_NAMESPACE::Q4_0Simd>();
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
