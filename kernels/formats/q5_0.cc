// q5_0: 32 weights as 5-bit codes with one f16 scale; weight = d * (code - 16).
//
// File block (22 bytes):    d f16 | 4 bytes, bit i: bit 4 of code i | 16 bytes, byte i: low bits of
//                           code i in the low, of code i + 16 in the high half
// Panel block (352 bytes):  d f16 x 16 outputs | planes of 5 bits

#include "kernels/formats/contract.h"
#include "kernels/formats/encode.h"

#ifndef HOB_FORMAT_Q5_0_ONCE
#define HOB_FORMAT_Q5_0_ONCE
namespace hob {

struct Q5_0 : PlaneCodes<5> {
  struct Block {
    uint16_t d;
    uint8_t high[4], low[16];
  };
  static constexpr size_t kBytes = sizeof(Block), kValues = 32, kSub = 32;
  static constexpr int kZero = 16, kMaxLevel = 31;
  static constexpr bool kHasMin = false;
  static constexpr size_t kHeaderBytes = 2 * kPanel;

  static void Encode(const float* in, uint8_t* out) {
    const auto x = FiniteValues<kValues>(in);
    const auto level = [](float v) { return RoundToLevel(v, -16, 15); };
    const float d = SearchScale(x.data(), kValues, {-16.5f, -16, -15.5f, -15, 15, 15.5f}, 1, level);
    const float inverse = InverseOf(d);
    Block block = {F32ToF16(d), {}, {}};
    uint32_t bits = 0;
    for (size_t i = 0; i < kValues; ++i) {
      const auto code = static_cast<uint32_t>(RoundToCode(x[i] * inverse, -16, 15) + kZero);
      block.low[i % 16] |= static_cast<uint8_t>((code & 15) << (i < 16 ? 0 : 4));
      bits |= code >> 4 << i;
    }
    StoreAs(bits, block.high);
    StoreAs(block, out);
  }

  static void Scales(const uint8_t* block, float* scale, float*) {
    *scale = F16ToF32(LoadAs<uint16_t>(block));
  }

  static void Codes(const uint8_t* in, uint8_t* code) {
    const auto block = LoadAs<Block>(in);
    const auto bits = LoadAs<uint32_t>(block.high);
    for (size_t i = 0; i < 16; ++i) {
      code[i] = static_cast<uint8_t>((block.low[i] & 15) | (bits >> i & 1) << 4);
      code[i + 16] = static_cast<uint8_t>(block.low[i] >> 4 | (bits >> (i + 16) & 1) << 4);
    }
  }

  static void PackScales(const uint8_t* block, size_t lane, uint8_t* panel) {
    StoreAs(LoadAs<uint16_t>(block), panel + 2 * lane);
  }

  static void UnpackScales(const uint8_t* panel, size_t lane, float* scale, float*) {
    *scale = F16ToF32(LoadAs<uint16_t>(panel + 2 * lane));
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

struct Q5_0Simd : Q5_0 {
  static HWY_INLINE VF32 Scale(const uint8_t* panel, size_t, size_t lane) {
    return LoadF16(panel + 2 * lane);
  }

  // Loading mask bits may read 8 bytes: the block has them.
  static HWY_INLINE void Levels(const uint8_t* block, int8_t* out) {
    const DBytes d;
    const auto bit_4 = hn::Set(d, uint8_t{16});
    for (size_t i = 0; i < 16; i += hn::Lanes(d)) {
      const auto pairs = hn::LoadU(d, block + 6 + i);
      const auto low_bit = hn::IfThenElseZero(hn::LoadMaskBits(d, block + 2 + i / 8), bit_4);
      const auto high_bit = hn::IfThenElseZero(hn::LoadMaskBits(d, block + 4 + i / 8), bit_4);
      const auto low = hn::OrAnd(low_bit, pairs, hn::Set(d, uint8_t{15}));
      StoreLevels(d, low, kZero, out + i);
      StoreLevels(d, hn::Or(high_bit, hn::ShiftRight<4>(pairs)), kZero, out + i + 16);
    }
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
