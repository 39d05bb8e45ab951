// q5_k: 256 weights in sub-blocks of 32, as 5-bit codes with 6-bit scales and minima;
//   weight = d * sub_scale * code - dmin * sub_min
//
// File block (176 bytes):    d f16 | dmin f16 | scales and minima 12 bytes (scales.h) | 32 bytes
//                            with the high bits: bit b of byte i that of code 32 b + i | 4 times 32
//                            bytes, byte i: code i of 64 in the low, code i + 32 in the high half
// Panel block (2880 bytes):  d f16 x 16 outputs | dmin f16 x 16 | scale [8][16] bytes |
//                            minimum [8][16] bytes | codes of 5 bits

#include "kernels/formats/codes.h"
#include "kernels/formats/contract.h"
#include "kernels/formats/encode_k.h"
#include "kernels/formats/scales.h"

#ifndef HOB_FORMAT_Q5_K_ONCE
#define HOB_FORMAT_Q5_K_ONCE
namespace hob {

struct Q5_K : PanelCodes<5>, SixBitScales {
  struct Block {
    Header header;
    uint8_t high[32];
    uint8_t low[128];
  };
  static constexpr size_t kBytes = sizeof(Block), kValues = 256, kSub = 32;
  static constexpr int kZero = 0, kMaxLevel = 31;

  static void Encode(const float* x, uint8_t* out) {
    const auto found = SuperBlockEncoder<Q5_K, 0, 63>::Encode(x);
    Block block = {{found.d, found.dmin, {}}, {}, {}};
    Pack(found.sub_scale, found.sub_min, block.header.packed);
    CodesApart<4, 32>::Put(found.code, kValues, block.low);
    CodesApart<1, 32, 4>::Put(found.code, kValues, block.high);
    StoreAs(block, out);
  }

  static void Codes(const uint8_t* block, uint8_t* code) {
    CodesApart<4, 32>::Get(block + offsetof(Block, low), kValues, code);
    CodesApart<1, 32, 4>::Get(block + offsetof(Block, high), kValues, code);
  }
};

}  // namespace hob
#endif  // HOB_FORMAT_Q5_K_ONCE

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/formats/q5_k.cc"
#include <hwy/foreach_target.h>
// After foreach_target.h, which sets the target:
#include "kernels/matmul-inl.h"

HWY_BEFORE_NAMESPACE();
namespace hob {
namespace HWY_NAMESPACE {

struct Q5_KSimd : WithSixBitScales<Q5_K> {
  static HWY_INLINE void Levels(const uint8_t* block, int8_t* out) {
    const DBytesUpTo<32> d;
    const auto fifteen = hn::Set(d, uint8_t{15}), sixteen = hn::Set(d, uint8_t{16});
    for (size_t i = 0; i < 32; i += hn::Lanes(d)) {
      auto high = hn::LoadU(d, block + offsetof(Block, high) + i);
      const uint8_t* low = block + offsetof(Block, low) + i;
      for (size_t j = 0; j < kValues; j += 64, low += 32) {
        const auto pairs = hn::LoadU(d, low);
        const auto even = hn::And(hn::ShiftLeft<4>(high), sixteen);
        const auto odd = hn::And(hn::ShiftLeft<3>(high), sixteen);
        StoreLevels(d, hn::OrAnd(even, pairs, fifteen), kZero, out + j + i);
        StoreLevels(d, hn::Or(odd, hn::ShiftRight<4>(pairs)), kZero, out + j + i + 32);
        high = hn::ShiftRight<2>(high);
      }
    }
  }
};

}  // namespace HWY_NAMESPACE
}  // namespace hob
HWY_AFTER_NAMESPACE();

namespace hob {

template <>
const SimdKernels<Q5_K>& KernelsOn<SimdKernels<Q5_K>, HWY_TARGET>() {
  static constexpr auto kKernels = HWY_NAMESPACE::BlockKernels<Q5_K, HWY_NAMESPACE::Q5_KSimd>();
  return kKernels;
}

#if HWY_ONCE
template <>
const Format& FormatOf<HOB_FORMAT_Q5_K>() {
  static constexpr Format kFormat =
      MakeFormat<HOB_FORMAT_Q5_K, Q5_K, BlockFormat<Q5_K>, HWY_TARGETS>();
  return kFormat;
}
#endif

}  // namespace hob
