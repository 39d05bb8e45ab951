// q4_k: 256 weights in sub-blocks of 32, as 4-bit codes with 6-bit scales and minima;
//   weight = d * sub_scale * code - dmin * sub_min
//
// File block (144 bytes):    d f16 | dmin f16 | scales and minima 12 bytes (scales.h) | 4 times
//                            32 bytes, byte i: code i of 64 in the low, code i + 32 in the high
//                            half
// Panel block (2368 bytes):  d f16 x 16 outputs | dmin f16 x 16 | scale [8][16] bytes |
//                            minimum [8][16] bytes | codes of 4 bits

#include "kernels/formats/codes.h"
#include "kernels/formats/contract.h"
#include "kernels/formats/encode_k.h"
#include "kernels/formats/scales.h"

#ifndef HOB_FORMAT_Q4_K_ONCE
#define HOB_FORMAT_Q4_K_ONCE
namespace hob {

struct Q4_K : PanelCodes<4>, SixBitScales {
  struct Block {
    Header header;
    uint8_t code[128];
  };
  static constexpr size_t kBytes = sizeof(Block), kValues = 256, kSub = 32;
  static constexpr int kZero = 0, kMaxLevel = 15;

  static void Encode(const float* x, uint8_t* out) {
    const auto found = SuperBlockEncoder<Q4_K, 0, 63>::Encode(x);
    Block block = {{found.d, found.dmin, {}}, {}};
    Pack(found.sub_scale, found.sub_min, block.header.packed);
    CodesApart<4, 32>::Put(found.code, kValues, block.code);
    StoreAs(block, out);
  }

  static void Codes(const uint8_t* block, uint8_t* code) {
    CodesApart<4, 32>::Get(block + offsetof(Block, code), kValues, code);
  }
};

}  // namespace hob
#endif  // HOB_FORMAT_Q4_K_ONCE

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/formats/q4_k.cc"
#include <hwy/foreach_target.h>
// After foreach_target.h, which sets the target:
#include "kernels/matmul-inl.h"

namespace hob {
namespace HWY_NAMESPACE {

struct Q4_KSimd : WithSixBitScales<Q4_K>, NibblesApart<Q4_K, offsetof(Q4_K::Block, code), 32> {};

}  // namespace HWY_NAMESPACE
}  // namespace hob

namespace hob {

template <>
const SimdKernels<Q4_K>& KernelsOn<SimdKernels<Q4_K>, HWY_TARGET>() {
  static constexpr auto kKernels = HWY_NAMESPACE::BlockKernels<Q4_K, HWY_NAMESPACE::Q4_KSimd>();
  return kKernels;
}

#if HWY_ONCE
template <>
const Format& FormatOf<HOB_FORMAT_Q4_K>() {
  static constexpr Format kFormat =
      MakeFormat<HOB_FORMAT_Q4_K, Q4_K, BlockFormat<Q4_K>, HWY_TARGETS>();
  return kFormat;
}
#endif

}  // namespace hob
