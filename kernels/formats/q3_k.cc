// q3_k: 256 weights in sub-blocks of 16, as 3-bit codes with 6-bit scales;
//   weight = d * (sub_scale - 32) * (code - 4)
//
// File block (110 bytes):    32 bytes with the high bits: bit b of byte i that of code 32 b + i |
//                            twice 32 bytes with the low 2 bits, byte i: codes i, i + 32, i + 64,
//                            i + 96 of 128 | scales 12 bytes: byte i < 8 has the low 4 bits of
//                            scales i and i + 8, byte 8 + i the high 2 of scales i, i + 4, i + 8,
//                            i + 12 | d f16
// Panel block (1760 bytes):  d f16 x 16 outputs | the 12 bytes of scales, [12][16 outputs] | codes
//                            of 3 bits

#include "kernels/formats/codes.h"
#include "kernels/formats/contract.h"
#include "kernels/formats/encode_k.h"
#include "kernels/formats/scales.h"

#ifndef HOB_FORMAT_Q3_K_ONCE
#define HOB_FORMAT_Q3_K_ONCE
namespace hob {

struct Q3_K : PanelCodes<3>, SignedScales<Q3_K> {
  struct Block {
    uint8_t high[32];
    uint8_t low[64];
    uint8_t sub_scale[12];
    uint16_t d;
  };
  static constexpr size_t kBytes = sizeof(Block), kValues = 256, kSub = 16;
  static constexpr int kZero = 4, kMaxLevel = 7;
  static constexpr size_t kScaleBytes = 12;
  static constexpr size_t kHeaderBytes = (2 + kScaleBytes) * kPanel;
  static constexpr size_t kDAt = offsetof(Block, d);

  static void Encode(const float* x, uint8_t* out) {
    const auto found = SuperBlockEncoder<Q3_K, -32, 31>::Encode(x);
    Block block = {};
    block.d = found.d;
    for (size_t i = 0; i < 16; ++i) {
      const int scale = found.sub_scale[i] + 32;
      block.sub_scale[i % 8] |= static_cast<uint8_t>((scale & 15) << i / 8 * 4);
      block.sub_scale[8 + i % 4] |= static_cast<uint8_t>(scale >> 4 << i / 4 * 2);
    }
    CodesApart<2, 32>::Put(found.code, kValues, block.low);
    CodesApart<1, 32, 2>::Put(found.code, kValues, block.high);
    StoreAs(block, out);
  }

  // A panel keeps the scales as they lie in the file: 8 bits each would cost 4 % more memory.
  static void PackScales(const uint8_t* block, size_t lane, uint8_t* panel) {
    StoreAs(LoadAs<uint16_t>(block + kDAt), panel + 2 * lane);
    for (size_t i = 0; i < kScaleBytes; ++i) {
      panel[(2 + i) * kPanel + lane] = block[offsetof(Block, sub_scale) + i];
    }
  }

  static void UnpackScales(const uint8_t* panel, size_t lane, float* scale, float*) {
    uint8_t block[kBytes];
    StoreAs(LoadAs<uint16_t>(panel + 2 * lane), block + kDAt);
    for (size_t i = 0; i < kScaleBytes; ++i) {
      block[offsetof(Block, sub_scale) + i] = panel[(2 + i) * kPanel + lane];
    }
    Scales(block, scale, nullptr);
  }

  // Four bytes at a time, in the order in which they lie: no bit leaves its byte. 32 is subtracted
  // with the top bit set, which nothing can then be borrowed from, and flipped.
  static void SubScales(const uint8_t* block, int8_t* sub_scale) {
    const uint8_t* packed = block + offsetof(Block, sub_scale);
    const auto a = LoadAs<uint32_t>(packed), b = LoadAs<uint32_t>(packed + 4);
    const auto c = LoadAs<uint32_t>(packed + 8);
    constexpr uint32_t kLow = 0x0F0F0F0F, kHigh = 0x30303030;
    const uint32_t scale[4] = {(a & kLow) | (c << 4 & kHigh), (b & kLow) | (c << 2 & kHigh),
                               (a >> 4 & kLow) | (c & kHigh), (b >> 4 & kLow) | (c >> 2 & kHigh)};
    for (size_t i = 0; i < 4; ++i) {
      StoreAs(((scale[i] | 0x80808080) - 0x20202020) ^ 0x80808080,
              reinterpret_cast<uint8_t*>(sub_scale + 4 * i));
    }
  }

  static void Codes(const uint8_t* block, uint8_t* code) {
    CodesApart<2, 32>::Get(block + offsetof(Block, low), kValues, code);
    CodesApart<1, 32, 2>::Get(block + offsetof(Block, high), kValues, code);
  }
};

}  // namespace hob
#endif  // HOB_FORMAT_Q3_K_ONCE

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/formats/q3_k.cc"
#include <hwy/foreach_target.h>
// After foreach_target.h, which sets the target:
#include "kernels/matmul-inl.h"

HWY_BEFORE_NAMESPACE();
namespace hob {
namespace HWY_NAMESPACE {

struct Q3_KSimd : Q3_K {
  static HWY_INLINE VF32 Scale(const uint8_t* panel, size_t sub, size_t lane) {
    const DI32 di;
    const auto bits = [&](size_t byte, size_t down) HWY_ATTR {
      const hn::Rebind<uint8_t, DI32> du8;
      const uint8_t* p = panel + (2 + byte) * kPanel + lane;
      return hn::ShiftRightSame(hn::PromoteTo(di, hn::LoadU(du8, p)), static_cast<int>(down));
    };
    const VI32 low = hn::And(bits(sub % 8, sub / 8 * 4), hn::Set(di, 15));
    const VI32 high = hn::And(bits(8 + sub % 4, sub / 4 * 2), hn::Set(di, 3));
    const VI32 scale = hn::Sub(hn::Or(low, hn::ShiftLeft<4>(high)), hn::Set(di, 32));
    return hn::Mul(LoadF16(panel + 2 * lane), hn::ConvertTo(DF32(), scale));
  }

  static HWY_INLINE void Levels(const uint8_t* block, int8_t* out) {
    const DBytesUpTo<32> d;
    const auto three = hn::Set(d, uint8_t{3}), four = hn::Set(d, uint8_t{4});
    for (size_t i = 0; i < 32; i += hn::Lanes(d)) {
      const auto high = hn::LoadU(d, block + i);
      const auto low0 = hn::LoadU(d, block + offsetof(Block, low) + i);
      const auto low1 = hn::LoadU(d, block + offsetof(Block, low) + i + 32);
      const auto store = [&](size_t j, auto high_bit, auto low_bits) HWY_ATTR {
        const auto code = hn::OrAnd(hn::And(high_bit, four), low_bits, three);
        StoreLevels(d, code, kZero, out + 32 * j + i);
      };
      store(0, hn::ShiftLeft<2>(high), low0);
      store(1, hn::ShiftLeft<1>(high), hn::ShiftRight<2>(low0));
      store(2, high, hn::ShiftRight<4>(low0));
      store(3, hn::ShiftRight<1>(high), hn::ShiftRight<6>(low0));
      store(4, hn::ShiftRight<2>(high), low1);
      store(5, hn::ShiftRight<3>(high), hn::ShiftRight<2>(low1));
      store(6, hn::ShiftRight<4>(high), hn::ShiftRight<4>(low1));
      store(7, hn::ShiftRight<5>(high), hn::ShiftRight<6>(low1));
    }
  }
};

}  // namespace HWY_NAMESPACE
}  // namespace hob
HWY_AFTER_NAMESPACE();

namespace hob {

template <>
const SimdKernels<Q3_K>& KernelsOn<SimdKernels<Q3_K>, HWY_TARGET>() {
  static constexpr auto kKernels = HWY_NAMESPACE::BlockKernels<Q3_K, HWY_NAMESPACE::Q3_KSimd>();
  return kKernels;
}

#if HWY_ONCE
template <>
const Format& FormatOf<HOB_FORMAT_Q3_K>() {
  static constexpr Format kFormat =
      MakeFormat<HOB_FORMAT_Q3_K, Q3_K, BlockFormat<Q3_K>, HWY_TARGETS>();
  return kFormat;
}
#endif

}  // namespace hob
