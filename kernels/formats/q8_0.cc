// q8_0: 32 weights as signed bytes with one f16 scale; weight = d * code.
//
// File block (34 bytes):    d f16 | code[32] int8
// Panel block (544 bytes):  d f16 x 16 outputs | codes of 8 bits, code + 128 (unsigned)

#include "kernels/formats/contract.h"
#include "kernels/formats/encode.h"
#include "kernels/formats/scales.h"

#ifndef HOB_FORMAT_Q8_0_ONCE
#define HOB_FORMAT_Q8_0_ONCE
namespace hob {

struct Q8_0 : PanelCodes<8>, OneScale<Q8_0> {
  struct Block {
    uint16_t d;
    int8_t code[32];
  };
  static constexpr size_t kBytes = sizeof(Block), kValues = 32, kSub = 32;
  static constexpr size_t kDAt = offsetof(Block, d);
  static constexpr int kZero = 128, kMaxLevel = 255;

  // The scale is rounded to f16 first and the codes are chosen for the rounded one.
  static void Encode(const float* x, uint8_t* out) {
    Block block;
    float amax = 0.0f;
    for (size_t i = 0; i < kValues; ++i) amax = std::max(amax, std::fabs(x[i]));
    block.d = ToFiniteF16(amax / 127.0f);
    const float d = F16ToF32(block.d);
    const float inverse = d > 0.0f ? 1.0f / d : 0.0f;
    for (size_t i = 0; i < kValues; ++i) {
      block.code[i] = static_cast<int8_t>(RoundToCode(x[i] * inverse, -127, 127));
    }
    StoreAs(block, out);
  }

  static void Codes(const uint8_t* block, uint8_t* code) {
    for (size_t i = 0; i < kValues; ++i) code[i] = block[offsetof(Block, code) + i] ^ 128;
  }
};

}  // namespace hob
#endif  // HOB_FORMAT_Q8_0_ONCE

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/formats/q8_0.cc"
#include <hwy/foreach_target.h>
// After foreach_target.h, which sets the target:
#include "kernels/matmul-inl.h"

HWY_BEFORE_NAMESPACE();
namespace hob {
namespace HWY_NAMESPACE {

struct Q8_0Simd : WithOneScale<Q8_0> {
  static HWY_INLINE void Levels(const uint8_t* block, int8_t* out) {
    hwy::CopyBytes<kValues>(block + offsetof(Block, code), out);
  }
};

}  // namespace HWY_NAMESPACE
}  // namespace hob
HWY_AFTER_NAMESPACE();

namespace hob {

template <>
const SimdKernels<Q8_0>& KernelsOn<SimdKernels<Q8_0>, HWY_TARGET>() {
  static constexpr auto kKernels = HWY_NAMESPACE::BlockKernels<Q8_0, HWY_NAMESPACE::Q8_0Simd>();
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
