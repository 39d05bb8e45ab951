// f32: the values themselves. Activations are used as they are.
//
// Panel: [k][16 outputs] f32

#include "kernels/formats/contract.h"

#ifndef HOB_FORMAT_F32_ONCE
#define HOB_FORMAT_F32_ONCE
namespace hob {

struct F32 {
  static constexpr ActKind kAct = ActKind::kF32;
  static constexpr size_t kBytes = 4, kGroup = 1;
  using Lane = float;

  static void Encode(float x, uint8_t* value) { StoreAs(x, value); }
  static float Decode(const uint8_t* value) { return LoadAs<float>(value); }
  static void Pack(const uint8_t* value, size_t, Lane* lane) { *lane = Decode(value); }
  static float Unpack(Lane lane, size_t) { return lane; }

  static float Step(Lane w, const void* act, size_t k, float acc) {
    return std::fma(w, static_cast<const float*>(act)[k], acc);
  }
};

}  // namespace hob
#endif  // HOB_FORMAT_F32_ONCE

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/formats/f32.cc"
#include <hwy/foreach_target.h>
// After foreach_target.h, which sets the target:
#include "kernels/matmul-inl.h"

HWY_BEFORE_NAMESPACE();
namespace hob {
namespace HWY_NAMESPACE {

void DequantizeF32(const uint8_t* in, size_t k, float* out) {
  std::memcpy(out, in, k * sizeof(float));
}

}  // namespace HWY_NAMESPACE
}  // namespace hob
HWY_AFTER_NAMESPACE();

namespace hob {

template <>
const SimdKernels<F32>& KernelsOn<SimdKernels<F32>, HWY_TARGET>() {
  static constexpr auto kKernels =
      HWY_NAMESPACE::ValueKernels<F32, HWY_NAMESPACE::ValuesF32>(HWY_NAMESPACE::DequantizeF32);
  return kKernels;
}

#if HWY_ONCE
template <>
const Format& FormatOf<HOB_FORMAT_F32>() {
  static constexpr Format kFormat =
      MakeFormat<HOB_FORMAT_F32, F32, ValueFormat<F32>, HWY_TARGETS>();
  return kFormat;
}
#endif

}  // namespace hob
