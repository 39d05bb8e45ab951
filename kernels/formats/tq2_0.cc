// tq2_0: 256 weights of -1, 0 and 1 times one f16 scale, in 2 bits each; weight = d * (code - 1).
//
// File block (66 bytes):    64 bytes, byte i of half h: codes i, i + 32, i + 64, i + 96 of it, from
//                           the low bits up | d f16
// Panel block (1056 bytes): d f16 x 16 outputs | codes of 2 bits

#include "kernels/formats/codes.h"
#include "kernels/formats/contract.h"
#include "kernels/formats/encode.h"
#include "kernels/formats/scales.h"

#ifndef HOB_FORMAT_TQ2_0_ONCE
#define HOB_FORMAT_TQ2_0_ONCE
namespace hob {

struct TQ2_0 : PanelCodes<2>, OneScale<TQ2_0> {
  struct Block {
    uint8_t code[64];
    uint16_t d;
  };
  static constexpr size_t kBytes = sizeof(Block), kValues = 256;
  static constexpr size_t kSub = 32;  // the one scale again and again: sums of the chain end here
  static constexpr int kZero = 1, kMaxLevel = 3;
  static constexpr size_t kDAt = offsetof(Block, d);

  static void Encode(const float* in, uint8_t* out) {
    const auto x = FiniteValues<kValues>(in);
    const float d = TernaryScale<kValues>(x);
    const float inverse = InverseOf(d);
    uint8_t code[kValues];
    for (size_t i = 0; i < kValues; ++i) {
      code[i] = static_cast<uint8_t>(RoundToCode(x[i] * inverse, -1, 1) + kZero);
    }
    Block block = {{}, F32ToF16(d)};
    CodesApart<2, 32>::Put(code, kValues, block.code);
    StoreAs(block, out);
  }

  static void Codes(const uint8_t* block, uint8_t* code) {
    CodesApart<2, 32>::Get(block + offsetof(Block, code), kValues, code);
  }
};

}  // namespace hob
#endif  // HOB_FORMAT_TQ2_0_ONCE

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/formats/tq2_0.cc"
#include <hwy/foreach_target.h>
// After foreach_target.h, which sets the target:
#include "kernels/matmul-inl.h"

HWY_BEFORE_NAMESPACE();
namespace hob {
namespace HWY_NAMESPACE {

struct TQ2_0Simd : WithOneScale<TQ2_0> {
  static HWY_INLINE void Levels(const uint8_t* block, int8_t* out) {
    LevelsApart<TQ2_0, 2, 32, kValues>(block + offsetof(Block, code), out);
  }
};

}  // namespace HWY_NAMESPACE
}  // namespace hob
HWY_AFTER_NAMESPACE();

namespace hob {

template <>
const SimdKernels<TQ2_0>& KernelsOn<SimdKernels<TQ2_0>, HWY_TARGET>() {
  static constexpr auto kKernels = HWY_NAMESPACE::BlockKernels<TQ2_0, HWY_NAMESPACE::TQ2_0Simd>();
  return kKernels;
}

#if HWY_ONCE
template <>
const Format& FormatOf<HOB_FORMAT_TQ2_0>() {
  static constexpr Format kFormat =
      MakeFormat<HOB_FORMAT_TQ2_0, TQ2_0, BlockFormat<TQ2_0>, HWY_TARGETS>();
  return kFormat;
}
#endif

}  // namespace hob
