// q6_k: 256 weights in sub-blocks of 16, as 6-bit codes with 8-bit scales;
//   weight = d * sub_scale * (code - 32)
//
// File block (210 bytes):    twice 64 bytes with the low 4 bits, byte i: code i of 128 in the low,
//                            code i + 64 in the high half | twice 32 bytes with the high 2 bits,
//                            byte i: codes i, i + 32, i + 64, i + 96 | scale int8 [16] | d f16
// Panel block (3360 bytes):  d f16 x 16 outputs | scale int8 [16][16] | codes of 6 bits

#include "kernels/formats/codes.h"
#include "kernels/formats/contract.h"
#include "kernels/formats/encode_k.h"
#include "kernels/formats/scales.h"

#ifndef HOB_FORMAT_Q6_K_ONCE
#define HOB_FORMAT_Q6_K_ONCE
namespace hob {

struct Q6_K : PanelCodes<6>, SignedScales<Q6_K> {
  struct Block {
    uint8_t low[128];
    uint8_t high[64];
    int8_t sub_scale[16];
    uint16_t d;
  };
  static constexpr size_t kBytes = sizeof(Block), kValues = 256, kSub = 16;
  static constexpr int kZero = 32, kMaxLevel = 63;
  static constexpr size_t kDAt = offsetof(Block, d);

  static void Encode(const float* x, uint8_t* out) {
    const auto found = SuperBlockEncoder<Q6_K, -128, 127>::Encode(x);
    Block block = {};
    block.d = found.d;
    for (size_t i = 0; i < 16; ++i) block.sub_scale[i] = static_cast<int8_t>(found.sub_scale[i]);
    CodesApart<4, 64>::Put(found.code, kValues, block.low);
    CodesApart<2, 32, 4>::Put(found.code, kValues, block.high);
    StoreAs(block, out);
  }

  static void SubScales(const uint8_t* block, int8_t* sub_scale) {
    std::memcpy(sub_scale, block + offsetof(Block, sub_scale), 16);
  }

  static void Codes(const uint8_t* block, uint8_t* code) {
    CodesApart<4, 64>::Get(block + offsetof(Block, low), kValues, code);
    CodesApart<2, 32, 4>::Get(block + offsetof(Block, high), kValues, code);
  }
};

}  // namespace hob
#endif  // HOB_FORMAT_Q6_K_ONCE

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/formats/q6_k.cc"
#include <hwy/foreach_target.h>
// After foreach_target.h, which sets the target:
#include "kernels/matmul-inl.h"

HWY_BEFORE_NAMESPACE();
namespace hob {
namespace HWY_NAMESPACE {

struct Q6_KSimd : WithSignedScales<Q6_K> {
  static HWY_INLINE void Levels(const uint8_t* block, int8_t* out) {
    const DBytesUpTo<32> d;
    const auto fifteen = hn::Set(d, uint8_t{15}), top = hn::Set(d, uint8_t{0x30});
    const uint8_t* low = block;
    const uint8_t* high = block + offsetof(Block, high);
    for (size_t j = 0; j < kValues; j += 128, low += 64, high += 32, out += 128) {
      for (size_t i = 0; i < 32; i += hn::Lanes(d)) {
        const auto a = hn::LoadU(d, low + i), b = hn::LoadU(d, low + i + 32);
        const auto h = hn::LoadU(d, high + i);
        const auto h0 = hn::And(hn::ShiftLeft<4>(h), top), h1 = hn::And(hn::ShiftLeft<2>(h), top);
        const auto h2 = hn::And(h, top), h3 = hn::And(hn::ShiftRight<2>(h), top);
        StoreLevels(d, hn::OrAnd(h0, a, fifteen), kZero, out + i);
        StoreLevels(d, hn::OrAnd(h1, b, fifteen), kZero, out + i + 32);
        StoreLevels(d, hn::Or(h2, hn::ShiftRight<4>(a)), kZero, out + i + 64);
        StoreLevels(d, hn::Or(h3, hn::ShiftRight<4>(b)), kZero, out + i + 96);
      }
    }
  }
};

}  // namespace HWY_NAMESPACE
}  // namespace hob
HWY_AFTER_NAMESPACE();

namespace hob {

template <>
const SimdKernels<Q6_K>& KernelsOn<SimdKernels<Q6_K>, HWY_TARGET>() {
  static constexpr auto kKernels = HWY_NAMESPACE::BlockKernels<Q6_K, HWY_NAMESPACE::Q6_KSimd>();
  return kKernels;
}

#if HWY_ONCE
template <>
const Format& FormatOf<HOB_FORMAT_Q6_K>() {
  static constexpr Format kFormat =
      MakeFormat<HOB_FORMAT_Q6_K, Q6_K, BlockFormat<Q6_K>, HWY_TARGETS>();
  return kFormat;
}
#endif

}  // namespace hob
