// mxfp4: 32 weights as 4-bit floats (a sign, 2 bits of exponent, 1 of mantissa) with one exponent;
// weight = 2^(e - 127) * value. Levels are the values doubled, so the scale is half of that.
//
// File block (17 bytes):    e u8 | 16 bytes, byte i: code i in the low, i + 16 in the high half
// Panel block (272 bytes):  e x 16 outputs | codes of 4 bits

#include "kernels/formats/codes.h"
#include "kernels/formats/contract.h"
#include "kernels/formats/encode.h"

#ifndef HOB_FORMAT_MXFP4_ONCE
#define HOB_FORMAT_MXFP4_ONCE
namespace hob {

struct MXFP4 : PanelCodes<4> {
  struct Block {
    uint8_t e;
    uint8_t code[16];
  };
  static constexpr size_t kBytes = sizeof(Block), kValues = 32, kSub = 32;
  static constexpr int kZero = 12, kMaxLevel = 24;
  static constexpr bool kHasMin = false;
  static constexpr size_t kHeaderBytes = kPanel;
  alignas(16) static constexpr uint8_t kLevels[16] = {12, 13, 14, 15, 16, 18, 20, 24,
                                                      12, 11, 10, 9,  8,  6,  4,  0};

  // 2^(e - 128), also for 255, which other users of such exponents take for NaN. Below 2 it is
  // subnormal.
  static float ScaleOf(uint8_t e) {
    return std::bit_cast<float>(e < 2 ? uint32_t{0x200000} << e : (uint32_t{e} - 1) << 23);
  }

  static uint8_t NearestCode(double v) {
    uint8_t code = 0;
    for (int i = 0; i < 7; ++i) {
      const double middle = 0.5 * (kLevels[i] + kLevels[i + 1] - 2 * kZero);
      code = static_cast<uint8_t>(code + (std::fabs(v) > middle));
    }
    return v < 0 && code != 0 ? code | 8 : code;
  }

  // The exponent of the largest value, or one next to it; 252 is the last whose values are finite.
  static void Encode(const float* in, uint8_t* out) {
    const auto x = FiniteValues<kValues>(in);
    const uint32_t bits = std::bit_cast<uint32_t>(std::fabs(Extreme(x.data(), kValues)));
    const int first = std::max(static_cast<int>(bits >> 23) - 3, 0);
    Block best = {};
    double least = std::numeric_limits<double>::infinity();
    for (int e = first; e <= std::min(first + 2, 252); ++e) {
      const double d = ScaleOf(static_cast<uint8_t>(e)), inverse = 1.0 / d;
      double error = 0;
      uint8_t code[kValues];
      for (size_t i = 0; i < kValues; ++i) {
        code[i] = NearestCode(x[i] * inverse);
        const double off = x[i] - d * (kLevels[code[i]] - kZero);
        error += off * off;
      }
      if (error < least) {
        least = error;
        best.e = static_cast<uint8_t>(e);
        CodesApart<4, 16>::Put(code, kValues, best.code);
      }
    }
    StoreAs(best, out);
  }

  static void Scales(const uint8_t* block, float* scale, float*) { *scale = ScaleOf(*block); }

  static void Codes(const uint8_t* block, uint8_t* code) {
    CodesApart<4, 16>::Get(block + offsetof(Block, code), kValues, code);
  }

  static void PackScales(const uint8_t* block, size_t lane, uint8_t* panel) {
    panel[lane] = *block;
  }

  static void UnpackScales(const uint8_t* panel, size_t lane, float* scale, float*) {
    *scale = ScaleOf(panel[lane]);
  }
};

}  // namespace hob
#endif  // HOB_FORMAT_MXFP4_ONCE

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/formats/mxfp4.cc"
#include <hwy/foreach_target.h>
// After foreach_target.h, which sets the target:
#include "kernels/matmul-inl.h"

HWY_BEFORE_NAMESPACE();
namespace hob {
namespace HWY_NAMESPACE {

struct MXFP4Simd : MXFP4, NibblesApart<MXFP4, offsetof(MXFP4::Block, code), 16> {
  static HWY_INLINE VF32 Scale(const uint8_t* panel, size_t, size_t lane) {
    const hn::Rebind<uint8_t, DU32> du8;
    const DU32 du;
    const VU32 e = hn::PromoteTo(du, hn::LoadU(du8, panel + lane));
    const VU32 normal = hn::ShiftLeft<23>(hn::Sub(e, hn::Set(du, 1)));
    const VU32 tiny = hn::Add(hn::ShiftLeft<21>(e), hn::Set(du, 0x200000));  // for 0 and 1
    return hn::BitCast(DF32(), hn::IfThenElse(hn::Lt(e, hn::Set(du, 2)), tiny, normal));
  }
};

}  // namespace HWY_NAMESPACE
}  // namespace hob
HWY_AFTER_NAMESPACE();

namespace hob {

template <>
const SimdKernels<MXFP4>& KernelsOn<SimdKernels<MXFP4>, HWY_TARGET>() {
  static constexpr auto kKernels = HWY_NAMESPACE::BlockKernels<MXFP4, HWY_NAMESPACE::MXFP4Simd>();
  return kKernels;
}

#if HWY_ONCE
template <>
const Format& FormatOf<HOB_FORMAT_MXFP4>() {
  static constexpr Format kFormat =
      MakeFormat<HOB_FORMAT_MXFP4, MXFP4, BlockFormat<MXFP4>, HWY_TARGETS>();
  return kFormat;
}
#endif

}  // namespace hob
