// q1_0: 128 weights of one bit with one f16 scale; weight = d or -d.
//
// File block (18 bytes):    d f16 | 16 bytes, bit i: 1 if weight i is d, 0 if it is -d
// Panel block (288 bytes):  d f16 x 16 outputs | codes of 1 bit

#include "kernels/formats/codes.h"
#include "kernels/formats/contract.h"
#include "kernels/formats/encode.h"
#include "kernels/formats/scales.h"

#ifndef HOB_FORMAT_Q1_0_ONCE
#define HOB_FORMAT_Q1_0_ONCE
namespace hob {

struct Q1_0 : PanelCodes<1>, OneScale<Q1_0> {
  struct Block {
    uint16_t d;
    uint8_t code[16];
  };
  static constexpr size_t kBytes = sizeof(Block), kValues = 128;
  static constexpr size_t kSub = 32;  // the one scale again and again: sums of the chain end here
  static constexpr size_t kDAt = offsetof(Block, d);
  static constexpr int kZero = 1, kMaxLevel = 2;
  alignas(16) static constexpr uint8_t kLevels[16] = {0, 2};  // -1 and 1

  // The sign, and the mean magnitude, which has the least squared error.
  static void Encode(const float* in, uint8_t* out) {
    const auto x = FiniteValues<kValues>(in);
    double sum = 0;
    for (float v : x) sum += static_cast<double>(std::fabs(v));
    uint8_t code[kValues];
    for (size_t i = 0; i < kValues; ++i) code[i] = x[i] >= 0;
    Block block = {F32ToF16(RoundScale(ToFiniteFloat(sum / kValues))), {}};
    BitString<>::Put(code, kValues, block.code);
    StoreAs(block, out);
  }

  static void Codes(const uint8_t* block, uint8_t* code) {
    BitString<>::Get(block + offsetof(Block, code), kValues, code);
  }
};

}  // namespace hob
#endif  // HOB_FORMAT_Q1_0_ONCE

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/formats/q1_0.cc"
#include <hwy/foreach_target.h>
// After foreach_target.h, which sets the target:
#include "kernels/matmul-inl.h"

HWY_BEFORE_NAMESPACE();
namespace hob {
namespace HWY_NAMESPACE {

struct Q1_0Simd : WithOneScale<Q1_0> {
  // Bits of eight levels become bytes of ones and zeros: each byte holds them all and keeps its
  // own.
  static HWY_INLINE void Levels(const uint8_t* block, int8_t* out) {
    const DBytes d;
    alignas(16) static constexpr uint8_t kBit[16] = {1, 2, 4, 8, 16, 32, 64, 128,
                                                     1, 2, 4, 8, 16, 32, 64, 128};
    for (size_t i = 0; i < kValues; i += hn::Lanes(d)) {
      HWY_ALIGN uint8_t bytes[16];
      for (size_t j = 0; j < 16; ++j) bytes[j] = block[offsetof(Block, code) + (i + j) / 8];
      const auto bit = hn::LoadU(d, kBit);
      const auto is_set = hn::Eq(hn::And(hn::Load(d, bytes), bit), bit);
      StoreLevels(d, hn::IfThenElseZero(is_set, hn::Set(d, uint8_t{2})), kZero, out + i);
    }
  }
};

}  // namespace HWY_NAMESPACE
}  // namespace hob
HWY_AFTER_NAMESPACE();

namespace hob {

template <>
const SimdKernels<Q1_0>& KernelsOn<SimdKernels<Q1_0>, HWY_TARGET>() {
  static constexpr auto kKernels = HWY_NAMESPACE::BlockKernels<Q1_0, HWY_NAMESPACE::Q1_0Simd>();
  return kKernels;
}

#if HWY_ONCE
template <>
const Format& FormatOf<HOB_FORMAT_Q1_0>() {
  static constexpr Format kFormat =
      MakeFormat<HOB_FORMAT_Q1_0, Q1_0, BlockFormat<Q1_0>, HWY_TARGETS>();
  return kFormat;
}
#endif

}  // namespace hob
