// f16: IEEE binary16. Every value is exact in f32, and activations are used as they are.
//
// Panel: [k][16 outputs] f16

#include "kernels/formats/contract.h"

#ifndef HOB_FORMAT_F16_ONCE
#define HOB_FORMAT_F16_ONCE
namespace hob {

struct F16 {
  static constexpr ActKind kAct = ActKind::kF32;
  static constexpr size_t kBytes = 2, kGroup = 1;
  using Lane = uint16_t;

  static void Encode(float x, uint8_t* value) { StoreAs(F32ToF16(x), value); }
  static float Decode(const uint8_t* value) { return F16ToF32(LoadAs<uint16_t>(value)); }
  static void Pack(const uint8_t* value, size_t, Lane* lane) { *lane = LoadAs<uint16_t>(value); }
  static float Unpack(Lane lane, size_t) { return F16ToF32(lane); }

  static float Step(Lane w, const void* act, size_t k, float acc) {
    return std::fma(F16ToF32(w), static_cast<const float*>(act)[k], acc);
  }
};

}  // namespace hob
#endif  // HOB_FORMAT_F16_ONCE

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/formats/f16.cc"
#include <hwy/foreach_target.h>
// After foreach_target.h, which sets the target:
#include "kernels/matmul-inl.h"

HWY_BEFORE_NAMESPACE();
namespace hob {
namespace HWY_NAMESPACE {

void DequantizeF16(const uint8_t* in, size_t k, float* out) {
  const DF32 df;
  size_t i = 0;
  for (; i + hn::Lanes(df) <= k; i += hn::Lanes(df)) hn::StoreU(LoadF16(in + 2 * i), df, out + i);
  for (; i < k; ++i) out[i] = F16::Decode(in + 2 * i);
}

}  // namespace HWY_NAMESPACE
}  // namespace hob
HWY_AFTER_NAMESPACE();

namespace hob {

template <>
const SimdKernels<F16>& KernelsOn<SimdKernels<F16>, HWY_TARGET>() {
  static constexpr auto kKernels =
      HWY_NAMESPACE::ValueKernels<F16, HWY_NAMESPACE::ValuesF16>(HWY_NAMESPACE::DequantizeF16);
  return kKernels;
}

#if HWY_ONCE
template <>
const Format& FormatOf<HOB_FORMAT_F16>() {
  static constexpr Format kFormat =
      MakeFormat<HOB_FORMAT_F16, F16, ValueFormat<F16>, HWY_TARGETS>();
  return kFormat;
}
#endif

}  // namespace hob
