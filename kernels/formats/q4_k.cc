// q4_k: 256 weights in sub-blocks of 32, as 4-bit codes with 6-bit scales and minima;
//   weight = d * sub_scale * code - dmin * sub_min
//
// File block (144 bytes):    d f16 | dmin f16 | scales and minima 12 bytes (k_scales.h) | 4 times
//                            32 bytes, byte i: code i of 64 in the low, code i + 32 in the high
//                            half
// Panel block (2368 bytes):  d f16 x 16 outputs | dmin f16 x 16 | scale [8][16] bytes |
//                            minimum [8][16] bytes | planes of 4 bits

#include "kernels/formats/contract.h"
#include "kernels/formats/encode_k.h"
#include "kernels/formats/k_scales.h"

#ifndef HOB_FORMAT_Q4_K_ONCE
#define HOB_FORMAT_Q4_K_ONCE
namespace hob {

struct Q4_K : PlaneCodes<4>, SixBitScales {
  struct Block {
    Header header;
    uint8_t code[128];
  };
  static constexpr size_t kBytes = sizeof(Block), kValues = 256, kSub = 32;
  static constexpr int kZero = 0, kMaxLevel = 15;
  static constexpr bool kHasMin = true;
  static constexpr size_t kHeaderBytes = (2 + 2 + 8 + 8) * kPanel;

  static void Encode(const float* x, uint8_t* out) {
    const auto found = SuperBlockEncoder<Q4_K, 0, 63>::Encode(x);
    Block block = {{found.d, found.dmin, {}}, {}};
    Pack(found.sub_scale, found.sub_min, block.header.packed);
    for (size_t i = 0; i < kValues; ++i) {
      block.code[i / 64 * 32 + i % 32] |= static_cast<uint8_t>(found.code[i] << i / 32 % 2 * 4);
    }
    StoreAs(block, out);
  }

  static void Codes(const uint8_t* in, uint8_t* code) {
    const auto block = LoadAs<Block>(in);
    for (size_t i = 0; i < kValues; ++i) {
      code[i] = block.code[i / 64 * 32 + i % 32] >> i / 32 % 2 * 4 & 15;
    }
  }
};

}  // namespace hob
#endif  // HOB_FORMAT_Q4_K_ONCE

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/formats/q4_k.cc"
#include <hwy/foreach_target.h>
// After foreach_target.h, which sets the target:
#include "kernels/matmul-inl.h"

HWY_BEFORE_NAMESPACE();
namespace hob {
namespace HWY_NAMESPACE {

struct Q4_KSimd : Q4_K {
  static HWY_INLINE VF32 Scale(const uint8_t* panel, size_t sub, size_t lane) {
    return hn::Mul(LoadF16(panel + 2 * lane), LoadBytes<uint8_t>(SubScale(panel, sub, lane)));
  }
  static HWY_INLINE VF32 Min(const uint8_t* panel, size_t sub, size_t lane) {
    return hn::Mul(LoadF16(panel + 2 * (kPanel + lane)),
                   LoadBytes<uint8_t>(SubMin(panel, sub, lane)));
  }

  static HWY_INLINE void Levels(const uint8_t* block, int8_t* out) {
    const DBytes d;
    const uint8_t* code = block + offsetof(Block, code);
    for (size_t j = 0; j < kValues; j += 64, code += 32) {
      for (size_t i = 0; i < 32; i += hn::Lanes(d)) {
        const auto pairs = hn::LoadU(d, code + i);
        StoreLevels(d, hn::And(pairs, hn::Set(d, uint8_t{15})), kZero, out + j + i);
        StoreLevels(d, hn::ShiftRight<4>(pairs), kZero, out + j + i + 32);
      }
    }
  }
};

}  // namespace HWY_NAMESPACE
}  // namespace hob
HWY_AFTER_NAMESPACE();

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
