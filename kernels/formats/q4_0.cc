// q4_0: 32 weights as 4-bit codes with one f16 scale; weight = d * (code - 8).
//
// File block (18 bytes):    d f16 | 16 bytes, byte i: code i in the low, i + 16 in the high half
// Panel block (288 bytes):  d f16 x 16 outputs | planes of 4 bits

#include "kernels/formats/contract.h"
#include "kernels/formats/encode.h"

#ifndef HOB_FORMAT_Q4_0_ONCE
#define HOB_FORMAT_Q4_0_ONCE
namespace hob {

struct Q4_0 : PlaneCodes<4> {
  struct Block {
    uint16_t d;
    uint8_t code[16];
  };
  static constexpr size_t kBytes = sizeof(Block), kValues = 32, kSub = 32;
  static constexpr int kZero = 8, kMaxLevel = 15;
  static constexpr bool kHasMin = false;
  static constexpr size_t kHeaderBytes = 2 * kPanel;

  static void Encode(const float* in, uint8_t* out) {
    const auto x = FiniteValues<kValues>(in);
    const auto level = [](float v) { return RoundToLevel(v, -8, 7); };
    const float d = SearchScale(x.data(), kValues, {-8.5f, -8, -7.5f, -7, 7, 7.5f}, 1, level);
    const float inverse = InverseOf(d);
    Block block = {F32ToF16(d), {}};
    for (size_t i = 0; i < 16; ++i) {
      const int low = RoundToCode(x[i] * inverse, -8, 7) + kZero;
      const int high = RoundToCode(x[i + 16] * inverse, -8, 7) + kZero;
      block.code[i] = static_cast<uint8_t>(low | high << 4);
    }
    StoreAs(block, out);
  }

  static void Scales(const uint8_t* block, float* scale, float*) {
    *scale = F16ToF32(LoadAs<uint16_t>(block));
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
  }

  static void UnpackScales(const uint8_t* panel, size_t lane, float* scale, float*) {
    *scale = F16ToF32(LoadAs<uint16_t>(panel + 2 * lane));
  }
};

}  // namespace hob
#endif  // HOB_FORMAT_Q4_0_ONCE

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/formats/q4_0.cc"
#include <hwy/foreach_target.h>
// After foreach_target.h, which sets the target:
#include "kernels/matmul-inl.h"

HWY_BEFORE_NAMESPACE();
namespace hob {
namespace HWY_NAMESPACE {

struct Q4_0Simd : Q4_0 {
  static HWY_INLINE VF32 Scale(const uint8_t* panel, size_t, size_t lane) {
    return LoadF16(panel + 2 * lane);
  }

  static HWY_INLINE void Levels(const uint8_t* block, int8_t* out) {
    const DBytes d;
    for (size_t i = 0; i < 16; i += hn::Lanes(d)) {
      const auto pairs = hn::LoadU(d, block + 2 + i);
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
