// bf16: the upper half of an f32. Activations are rounded to bf16 too, and the matmul is a chain of
// fused multiply-adds that flushes subnormals (docs/numerics.md), which is what x86's bf16 dot
// instruction computes for two k at a time.
//
// Panel: [k / 2][16 outputs] pairs, the value of the even k in the high half; an odd last k is
// paired with +0. Subnormal weights are packed as zeros of the same sign.

#include "kernels/formats/contract.h"

#ifndef HOB_FORMAT_BF16_ONCE
#define HOB_FORMAT_BF16_ONCE
namespace hob {

struct BF16 {
  static constexpr ActKind kAct = ActKind::kBF16;
  static constexpr size_t kBytes = 2, kGroup = 2;
  using Lane = uint32_t;

  static void Encode(float x, uint8_t* value) { StoreAs(F32ToBF16(x), value); }
  static float Decode(const uint8_t* value) { return BF16ToF32(LoadAs<uint16_t>(value)); }

  static void Pack(const uint8_t* value, size_t i, Lane* lane) {
    uint32_t bits = LoadAs<uint16_t>(value);
    if ((bits & 0x7F80) == 0) bits &= 0x8000;
    *lane |= i == 0 ? bits << 16 : bits;
  }

  static float Unpack(Lane lane, size_t i) {
    return BF16ToF32(static_cast<uint16_t>(i == 0 ? lane >> 16 : lane));
  }

  static float Step(Lane w, const void* act, size_t pair, float acc) {
    const uint32_t x = static_cast<const uint32_t*>(act)[pair];
    acc = reference::BF16Step(Unpack(w, 0), Unpack(x, 0), acc);
    return reference::BF16Step(Unpack(w, 1), Unpack(x, 1), acc);
  }
};

}  // namespace hob
#endif  // HOB_FORMAT_BF16_ONCE

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/formats/bf16.cc"
#include <hwy/foreach_target.h>
// After foreach_target.h, which sets the target:
#include "kernels/matmul-inl.h"

HWY_BEFORE_NAMESPACE();
namespace hob {
namespace HWY_NAMESPACE {

void DequantizeBF16(const uint8_t* in, size_t k, float* out) {
  const DF32 df;
  const DU32 du;
  const hn::Rebind<uint16_t, DU32> du16;
  size_t i = 0;
  for (; i + hn::Lanes(df) <= k; i += hn::Lanes(df)) {
    const VU32 bits = hn::ShiftLeft<16>(hn::PromoteTo(du, Load16(du16, in + 2 * i)));
    hn::StoreU(hn::BitCast(df, bits), df, out + i);
  }
  for (; i < k; ++i) out[i] = BF16::Decode(in + 2 * i);
}

}  // namespace HWY_NAMESPACE
}  // namespace hob
HWY_AFTER_NAMESPACE();

namespace hob {

template <>
const SimdKernels<BF16>& KernelsOn<SimdKernels<BF16>, HWY_TARGET>() {
  static constexpr auto kKernels =
      HWY_NAMESPACE::ValueKernels<BF16, HWY_NAMESPACE::ValuesBF16>(HWY_NAMESPACE::DequantizeBF16);
  return kKernels;
}

#if HWY_ONCE
template <>
const Format& FormatOf<HOB_FORMAT_BF16>() {
  static constexpr Format kFormat =
      MakeFormat<HOB_FORMAT_BF16, BF16, ValueFormat<BF16>, HWY_TARGETS>();
  return kFormat;
}
#endif

}  // namespace hob
