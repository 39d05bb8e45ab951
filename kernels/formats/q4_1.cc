// q4_1: 32 weights as 4-bit codes with an f16 scale and an f16 offset; weight = d * code + m.
//
// File block (20 bytes):    d, m f16 | 16 bytes, byte i: code i in the low, i + 16 in the high half
// Panel block (320 bytes):  d f16 x 16 outputs | m f16 x 16 | planes of 4 bits

#include "kernels/formats/contract.h"
#include "kernels/formats/encode.h"

#ifndef HOB_FORMAT_Q4_1_ONCE
#define HOB_FORMAT_Q4_1_ONCE
namespace hob {

struct Q4_1 : PlaneCodes<4> {
  struct Block {
    uint16_t d, m;
    uint8_t code[16];
  };
  static constexpr size_t kBytes = sizeof(Block), kValues = 32, kSub = 32;
  static constexpr int kZero = 0, kMaxLevel = 15;
  static constexpr bool kHasMin = true;
  static constexpr size_t kHeaderBytes = 4 * kPanel;

  static void Encode(const float* in, uint8_t* out) {
    const auto x = FiniteValues<kValues>(in);
    const auto [d, m] = SearchScaleAndOffset(x.data(), kValues, kMaxLevel, {0, 1, 2, 3}, 4);
    const float inverse = InverseOf(d);
    Block block = {F32ToF16(d), F32ToF16(m), {}};
    for (size_t i = 0; i < 16; ++i) {
      const int low = RoundToCode((x[i] - m) * inverse, 0, kMaxLevel);
      const int high = RoundToCode((x[i + 16] - m) * inverse, 0, kMaxLevel);
      block.code[i] = static_cast<uint8_t>(low | high << 4);
    }
    StoreAs(block, out);
  }

  static void Scales(const uint8_t* block, float* scale, float* min) {
    *scale = F16ToF32(LoadAs<uint16_t>(block));
    *min = -F16ToF32(LoadAs<uint16_t>(block + 2));
  }

  static void Codes(const uint8_t* in, uint8_t* code) {
    const auto block = LoadAs<Block>(in);
    for (size_t i = 0; i < 16; ++i) {
      code[i] = block.code[i] & 15;
      code[i + 16] = block.code[i] >> 4;
    }
  }

  static void PackScales(const uint8_t* block, size_t lane, uint8_t* panel) {
    StoreAs(LoadAs<uint16_t>(block), panel + 2 * lane);
    StoreAs(LoadAs<uint16_t>(block + 2), panel + 2 * (kPanel + lane));
  }

  static void UnpackScales(const uint8_t* panel, size_t lane, float* scale, float* min) {
    *scale = F16ToF32(LoadAs<uint16_t>(panel + 2 * lane));
    *min = -F16ToF32(LoadAs<uint16_t>(panel + 2 * (kPanel + lane)));
  }
};

}  // namespace hob
#endif  // HOB_FORMAT_Q4_1_ONCE

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/formats/q4_1.cc"
#include <hwy/foreach_target.h>
// After foreach_target.h, which sets the target:
#include "kernels/matmul-inl.h"

HWY_BEFORE_NAMESPACE();
namespace hob {
namespace HWY_NAMESPACE {

struct Q4_1Simd : Q4_1 {
  static HWY_INLINE VF32 Scale(const uint8_t* panel, size_t, size_t lane) {
    return LoadF16(panel + 2 * lane);
  }

  static HWY_INLINE VF32 Min(const uint8_t* panel, size_t, size_t lane) {
    return hn::Neg(LoadF16(panel + 2 * (kPanel + lane)));
  }

  static HWY_INLINE void Levels(const uint8_t* block, int8_t* out) {
    const DBytes d;
    for (size_t i = 0; i < 16; i += hn::Lanes(d)) {
      const auto pairs = hn::LoadU(d, block + 4 + i);
      StoreLevels(d, hn::And(pairs, hn::Set(d, uint8_t{15})), kZero, out + i);
      StoreLevels(d, hn::ShiftRight<4>(pairs), kZero, out + i + 16);
    }
  }
};

}  // namespace HWY_NAMESPACE
}  // namespace hob
HWY_AFTER_NAMESPACE();

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
