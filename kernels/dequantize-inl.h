// Pieces from which formats build their loads and their row decoders: nibbles, f16 scales, bytes to
// scaled floats. Here lanes run along k: decoding has no sums, so nothing depends on the order.

#include <cstddef>
#include <cstdint>

#if defined(HOB_KERNELS_DEQUANTIZE_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef HOB_KERNELS_DEQUANTIZE_INL_H_
#undef HOB_KERNELS_DEQUANTIZE_INL_H_
#else
#define HOB_KERNELS_DEQUANTIZE_INL_H_
#endif

#include "kernels/isa-inl.h"

HWY_BEFORE_NAMESPACE();
namespace hob {
namespace HWY_NAMESPACE {

HWY_INLINE VU8 LowNibbles(VU8 v) { return hn::And(v, hn::Set(DU8(), uint8_t{15})); }
HWY_INLINE VU8 HighNibbles(VU8 v) { return hn::ShiftRight<4>(v); }

// One slice of f16 as f32, exact.
HWY_INLINE VF32 LoadF16(const uint8_t* p) {
  const hn::Rebind<hwy::float16_t, DF32> df16;
  return hn::PromoteTo(DF32(), hn::LoadU(df16, reinterpret_cast<const hwy::float16_t*>(p)));
}

// out[i] = scale * codes[i]; n a multiple of 16.
HWY_INLINE void ScaleBytes(const int8_t* codes, size_t n, float scale, float* out) {
  const DF32 df;
  const DI32 di;
  const hn::Rebind<int8_t, DI32> di8;
  const VF32 factor = hn::Set(df, scale);
  for (size_t i = 0; i < n; i += hn::Lanes(df)) {
    const VF32 v = hn::ConvertTo(df, hn::PromoteTo(di, hn::LoadU(di8, codes + i)));
    hn::StoreU(hn::Mul(factor, v), df, out + i);
  }
}

// out = codes - zero, as signed bytes. The tag comes from the caller: a vector of SVE does not know
// that it was meant to be shorter than its register.
template <class D>
HWY_INLINE void StoreCentered(D d, hn::Vec<D> codes, int zero, int8_t* out) {
  const hn::RebindToSigned<D> di8;
  const auto centered = hn::Sub(codes, hn::Set(d, static_cast<uint8_t>(zero)));
  hn::StoreU(hn::BitCast(di8, centered), di8, out);
}

}  // namespace HWY_NAMESPACE
}  // namespace hob
HWY_AFTER_NAMESPACE();

#endif  // HOB_KERNELS_DEQUANTIZE_INL_H_
