// tq2_0: 256 weights of -1, 0 and 1 times one f16 scale, in 2 bits each; weight = d * (code - 1).
//
// File block (66 bytes):    64 bytes, byte i of half h: codes i, i + 32, i + 64, i + 96 of it, from
//                           the low bits up | d f16
// Panel block (1056 bytes): d f16 x 16 outputs | planes of 2 bits

#include "kernels/formats/contract.h"
#include "kernels/formats/encode.h"

#ifndef HOB_FORMAT_TQ2_0_ONCE
#define HOB_FORMAT_TQ2_0_ONCE
namespace hob {

struct TQ2_0 : PlaneCodes<2> {
  static constexpr size_t kBytes = 66, kValues = 256;
  static constexpr size_t kSub = 32;  // the one scale again and again: sums of the chain end here
  static constexpr int kZero = 1, kMaxLevel = 3;
  static constexpr bool kHasMin = false;
  static constexpr size_t kHeaderBytes = 2 * kPanel;
  static constexpr size_t kScaleAt = 64;

  static size_t ByteOf(size_t i) { return i / 128 * 32 + i % 32; }
  static int ShiftOf(size_t i) { return static_cast<int>(i % 128 / 32 * 2); }

  static void Encode(const float* in, uint8_t* out) {
    const auto x = FiniteValues<kValues>(in);
    const float d = TernaryScale<kValues>(x);
    const float inverse = InverseOf(d);
    std::memset(out, 0, kScaleAt);
    for (size_t i = 0; i < kValues; ++i) {
      const int code = RoundToCode(x[i] * inverse, -1, 1) + kZero;
      out[ByteOf(i)] |= static_cast<uint8_t>(code << ShiftOf(i));
    }
    StoreAs(F32ToF16(d), out + kScaleAt);
  }

  static void Scales(const uint8_t* block, float* scale, float*) {
    std::fill_n(scale, kValues / kSub, F16ToF32(LoadAs<uint16_t>(block + kScaleAt)));
  }

  static void Codes(const uint8_t* block, uint8_t* code) {
    for (size_t i = 0; i < kValues; ++i) code[i] = block[ByteOf(i)] >> ShiftOf(i) & 3;
  }

  static void PackScales(const uint8_t* block, size_t lane, uint8_t* panel) {
    StoreAs(LoadAs<uint16_t>(block + kScaleAt), panel + 2 * lane);
  }

  static void UnpackScales(const uint8_t* panel, size_t lane, float* scale, float*) {
    std::fill_n(scale, kValues / kSub, F16ToF32(LoadAs<uint16_t>(panel + 2 * lane)));
  }
};

}  // namespace hob
#endif  // HOB_FORMAT_TQ2_0_ONCE

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/formats/tq2_0.cc"
#include <hwy/foreach_target.h>
// After foreach_target.h, which sets the target:
#include "kernels/matmul-inl.h"

HWY_BEFORE_NAMESPACE();
namespace hob {
namespace HWY_NAMESPACE {

struct TQ2_0Simd : TQ2_0 {
  static HWY_INLINE VF32 Scale(const uint8_t* panel, size_t, size_t lane) {
    return LoadF16(panel + 2 * lane);
  }

  static HWY_INLINE void Levels(const uint8_t* block, int8_t* out) {
    const DBytes d;
    const auto mask = hn::Set(d, uint8_t{3});
    for (size_t half = 0; half < 2; ++half) {
      for (size_t i = 0; i < 32; i += hn::Lanes(d)) {
        const auto codes = hn::LoadU(d, block + 32 * half + i);
        int8_t* to = out + 128 * half + i;
        StoreLevels(d, hn::And(codes, mask), kZero, to);
        StoreLevels(d, hn::And(hn::ShiftRight<2>(codes), mask), kZero, to + 32);
        StoreLevels(d, hn::And(hn::ShiftRight<4>(codes), mask), kZero, to + 64);
        StoreLevels(d, hn::ShiftRight<6>(codes), kZero, to + 96);
      }
    }
  }
};

}  // namespace HWY_NAMESPACE
}  // namespace hob
HWY_AFTER_NAMESPACE();

namespace hob {

template <>
const SimdKernels<TQ2_0>& KernelsOn<SimdKernels<TQ2_0>, HWY_TARGET>() {
  static constexpr auto kKernels = HWY_NAMESPACE::BlockKernels<TQ2_0, HWY_NAMESPACE::TQ2_0Simd>();
  return kKernels;
}

#if HWY_ONCE
template <>
const Format& FormatOf<HOB_FORMAT_TQ2_0>() {
  static constexpr Format kFormat =
      MakeFormat<HOB_FORMAT_TQ2_0, TQ2_0, BlockFormat<TQ2_0>, HWY_TARGETS>();
  return kFormat;
}
#endif

}  // namespace hob
