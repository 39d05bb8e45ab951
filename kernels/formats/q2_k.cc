// q2_k: 256 weights in sub-blocks of 16, as 2-bit codes with 4-bit scales and minima;
//   weight = d * sub_scale * code - dmin * sub_min
//
// File block (84 bytes):     16 bytes, each a scale in the low and a minimum in the high half |
//                            twice 32 bytes, byte i: codes i, i + 32, i + 64, i + 96 of 128 |
//                            d f16 | dmin f16
// Panel block (1344 bytes):  d f16 x 16 outputs | dmin f16 x 16 | scale and minimum [16][16] bytes
//                            | codes of 2 bits

#include "kernels/formats/codes.h"
#include "kernels/formats/contract.h"
#include "kernels/formats/encode_k.h"

#ifndef HOB_FORMAT_Q2_K_ONCE
#define HOB_FORMAT_Q2_K_ONCE
namespace hob {

struct Q2_K : PanelCodes<2> {
  struct Block {
    uint8_t sub[16];
    uint8_t code[64];
    uint16_t d, dmin;
  };
  static constexpr size_t kBytes = sizeof(Block), kValues = 256, kSub = 16;
  static constexpr int kZero = 0, kMaxLevel = 3;
  static constexpr bool kHasMin = true;
  static constexpr size_t kHeaderBytes = (2 + 2 + 16) * kPanel;

  static void Encode(const float* x, uint8_t* out) {
    const auto found = SuperBlockEncoder<Q2_K, 0, 15>::Encode(x);
    Block block = {};
    block.d = found.d;
    block.dmin = found.dmin;
    for (size_t i = 0; i < 16; ++i) {
      block.sub[i] = static_cast<uint8_t>(found.sub_scale[i] | found.sub_min[i] << 4);
    }
    CodesApart<2, 32>::Put(found.code, kValues, block.code);
    StoreAs(block, out);
  }

  static void Scales(const uint8_t* in, float* scale, float* min) {
    const auto block = LoadAs<Block>(in);
    const float d = F16ToF32(block.d), dmin = F16ToF32(block.dmin);
    for (size_t i = 0; i < 16; ++i) scale[i] = d * static_cast<float>(block.sub[i] & 15);
    for (size_t i = 0; i < 16; ++i) min[i] = dmin * static_cast<float>(block.sub[i] >> 4);
  }

  static void Codes(const uint8_t* block, uint8_t* code) {
    CodesApart<2, 32>::Get(block + offsetof(Block, code), kValues, code);
  }

  static void PackScales(const uint8_t* in, size_t lane, uint8_t* panel) {
    const auto block = LoadAs<Block>(in);
    StoreAs(block.d, panel + 2 * lane);
    StoreAs(block.dmin, panel + 2 * (kPanel + lane));
    for (size_t i = 0; i < 16; ++i) *Sub(panel, i, lane) = block.sub[i];
  }

  static void UnpackScales(const uint8_t* panel, size_t lane, float* scale, float* min) {
    const float d = F16ToF32(LoadAs<uint16_t>(panel + 2 * lane));
    const float dmin = F16ToF32(LoadAs<uint16_t>(panel + 2 * (kPanel + lane)));
    for (size_t i = 0; i < 16; ++i) {
      scale[i] = d * static_cast<float>(*Sub(panel, i, lane) & 15);
      min[i] = dmin * static_cast<float>(*Sub(panel, i, lane) >> 4);
    }
  }

  template <class Byte>
  static Byte* Sub(Byte* panel, size_t sub, size_t lane) {
    return panel + (4 + sub) * kPanel + lane;
  }
};

}  // namespace hob
#endif  // HOB_FORMAT_Q2_K_ONCE

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/formats/q2_k.cc"
#include <hwy/foreach_target.h>
// After foreach_target.h, which sets the target:
#include "kernels/matmul-inl.h"

HWY_BEFORE_NAMESPACE();
namespace hob {
namespace HWY_NAMESPACE {

struct Q2_KSimd : Q2_K {
  static HWY_INLINE VI32 Both(const uint8_t* panel, size_t sub, size_t lane) {
    const hn::Rebind<uint8_t, DI32> du8;
    return hn::PromoteTo(DI32(), hn::LoadU(du8, Sub(panel, sub, lane)));
  }
  static HWY_INLINE VF32 Scale(const uint8_t* panel, size_t sub, size_t lane) {
    const VI32 scale = hn::And(Both(panel, sub, lane), hn::Set(DI32(), 15));
    return hn::Mul(LoadF16(panel + 2 * lane), hn::ConvertTo(DF32(), scale));
  }
  static HWY_INLINE VF32 Min(const uint8_t* panel, size_t sub, size_t lane) {
    const VI32 min = hn::ShiftRight<4>(Both(panel, sub, lane));
    return hn::Mul(LoadF16(panel + 2 * (kPanel + lane)), hn::ConvertTo(DF32(), min));
  }

  static HWY_INLINE void Levels(const uint8_t* block, int8_t* out) {
    LevelsApart<Q2_K, 2, 32, kValues>(block + offsetof(Block, code), out);
  }
};

}  // namespace HWY_NAMESPACE
}  // namespace hob
HWY_AFTER_NAMESPACE();

namespace hob {

template <>
const SimdKernels<Q2_K>& KernelsOn<SimdKernels<Q2_K>, HWY_TARGET>() {
  static constexpr auto kKernels = HWY_NAMESPACE::BlockKernels<Q2_K, HWY_NAMESPACE::Q2_KSimd>();
  return kKernels;
}

#if HWY_ONCE
template <>
const Format& FormatOf<HOB_FORMAT_Q2_K>() {
  static constexpr Format kFormat =
      MakeFormat<HOB_FORMAT_Q2_K, Q2_K, BlockFormat<Q2_K>, HWY_TARGETS>();
  return kFormat;
}
#endif

}  // namespace hob
