// The scales that several formats share: in a file block and in a panel block. A format has one of
// these structs as a base; the SIMD side of each, With.., is in kernels/dequantize-inl.h.
#ifndef HOB_KERNELS_FORMATS_SCALES_H_
#define HOB_KERNELS_FORMATS_SCALES_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "kernels/formats/contract.h"

namespace hob {

// q4_0, q5_0, q8_0, iq4_nl, q1_0, tq1_0, tq2_0: one f16 scale d for the block. The format has kDAt,
// where d stands in its block.
//
// Panel block: d f16 x 16 outputs
template <class F>
struct OneScale {
  static constexpr bool kHasMin = false;
  static constexpr size_t kHeaderBytes = 2 * kPanel;

  static void Scales(const uint8_t* block, float* scale, float*) {
    std::fill_n(scale, F::kValues / F::kSub, F16ToF32(LoadAs<uint16_t>(block + F::kDAt)));
  }

  static void PackScales(const uint8_t* block, size_t lane, uint8_t* panel) {
    StoreAs(LoadAs<uint16_t>(block + F::kDAt), panel + 2 * lane);
  }

  static void UnpackScales(const uint8_t* panel, size_t lane, float* scale, float*) {
    std::fill_n(scale, F::kValues / F::kSub, F16ToF32(LoadAs<uint16_t>(panel + 2 * lane)));
  }
};

// q4_1, q5_1: the block begins with an f16 scale d and an f16 offset m; weight = d * code + m.
//
// Panel block: d f16 x 16 outputs | m f16 x 16
struct OneScaleAndOffset {
  static constexpr bool kHasMin = true;
  static constexpr size_t kHeaderBytes = (2 + 2) * kPanel;

  static void Scales(const uint8_t* block, float* scale, float* min) {
    *scale = F16ToF32(LoadAs<uint16_t>(block));
    *min = -F16ToF32(LoadAs<uint16_t>(block + 2));
  }

  static void PackScales(const uint8_t* block, size_t lane, uint8_t* panel) {
    StoreAs(LoadAs<uint16_t>(block), panel + 2 * lane);
    StoreAs(LoadAs<uint16_t>(block + 2), panel + 2 * (kPanel + lane));
  }

  static void UnpackScales(const uint8_t* panel, size_t lane, float* scale, float* min) {
    *scale = F16ToF32(LoadAs<uint16_t>(panel + 2 * lane));
    *min = -F16ToF32(LoadAs<uint16_t>(panel + 2 * (kPanel + lane)));
  }
};

// q6_k, iq4_xs (and q3_k in the file): scale = d * sub_scale, which is signed. The format has kDAt,
// where d stands in its block, and SubScales(block, sub_scale), which unpacks the others.
//
// Panel block: d f16 x 16 outputs | sub_scale int8 [kValues / kSub][16 outputs]
template <class F>
struct SignedScales {
  static constexpr bool kHasMin = false;
  static constexpr size_t kHeaderBytes = (2 + F::kValues / F::kSub) * kPanel;

  static void Scales(const uint8_t* block, float* scale, float*) {
    constexpr size_t kSubs = F::kValues / F::kSub;
    int8_t sub_scale[kSubs];
    F::SubScales(block, sub_scale);
    const float d = F16ToF32(LoadAs<uint16_t>(block + F::kDAt));
    for (size_t i = 0; i < kSubs; ++i) scale[i] = d * static_cast<float>(sub_scale[i]);
  }

  static void PackScales(const uint8_t* block, size_t lane, uint8_t* panel) {
    constexpr size_t kSubs = F::kValues / F::kSub;
    int8_t sub_scale[kSubs];
    F::SubScales(block, sub_scale);
    StoreAs(LoadAs<uint16_t>(block + F::kDAt), panel + 2 * lane);
    for (size_t i = 0; i < kSubs; ++i) StoreAs(sub_scale[i], SubScale(panel, i, lane));
  }

  static void UnpackScales(const uint8_t* panel, size_t lane, float* scale, float*) {
    const float d = F16ToF32(LoadAs<uint16_t>(panel + 2 * lane));
    for (size_t i = 0; i < F::kValues / F::kSub; ++i) {
      scale[i] = d * static_cast<float>(LoadAs<int8_t>(SubScale(panel, i, lane)));
    }
  }

  template <class Byte>
  static Byte* SubScale(Byte* panel, size_t sub, size_t lane) {
    return panel + (2 + sub) * kPanel + lane;
  }
};

// q4_k, q5_k: 8 scales and 8 minima of 6 bits in 12 bytes, which follow d and dmin. Byte i < 4 has
// scale i, byte 4 + i minimum i, and byte 8 + i the low halves of scale and minimum 4 + i, whose
// two high bits are in those of bytes i and 4 + i.
//
// Panel block: d f16 x 16 outputs | dmin f16 x 16 | scale [8][16] bytes | minimum [8][16] bytes
struct SixBitScales {
  static constexpr size_t kCount = 8;
  static constexpr bool kHasMin = true;
  static constexpr size_t kHeaderBytes = (2 + 2 + kCount + kCount) * kPanel;

  struct Header {
    uint16_t d, dmin;
    uint8_t packed[12];
  };

  struct Unpacked {
    uint8_t scale[kCount], min[kCount];
  };

  // Four bytes at a time, in the order in which they lie: no bit leaves its byte.
  static Unpacked Unpack(const uint8_t* packed) {
    const auto a = LoadAs<uint32_t>(packed), b = LoadAs<uint32_t>(packed + 4);
    const auto c = LoadAs<uint32_t>(packed + 8);
    constexpr uint32_t kLow = 0x0F0F0F0F, kAll = 0x3F3F3F3F, kHigh = 0x30303030;
    Unpacked out;
    StoreAs(a & kAll, out.scale);
    StoreAs((c & kLow) | (a >> 2 & kHigh), out.scale + 4);
    StoreAs(b & kAll, out.min);
    StoreAs((c >> 4 & kLow) | (b >> 2 & kHigh), out.min + 4);
    return out;
  }

  static void Pack(const int* scale, const int* min, uint8_t* packed) {
    for (size_t i = 0; i < 4; ++i) {
      packed[i] = static_cast<uint8_t>(scale[i] | scale[4 + i] >> 4 << 6);
      packed[4 + i] = static_cast<uint8_t>(min[i] | min[4 + i] >> 4 << 6);
      packed[8 + i] = static_cast<uint8_t>((scale[4 + i] & 15) | (min[4 + i] & 15) << 4);
    }
  }

  static void Scales(const uint8_t* block, float* scale, float* min) {
    const auto header = LoadAs<Header>(block);
    const Unpacked sub = Unpack(header.packed);
    const float d = F16ToF32(header.d), dmin = F16ToF32(header.dmin);
    for (size_t i = 0; i < kCount; ++i) scale[i] = d * static_cast<float>(sub.scale[i]);
    for (size_t i = 0; i < kCount; ++i) min[i] = dmin * static_cast<float>(sub.min[i]);
  }

  static void PackScales(const uint8_t* block, size_t lane, uint8_t* panel) {
    const auto header = LoadAs<Header>(block);
    const Unpacked sub = Unpack(header.packed);
    StoreAs(header.d, panel + 2 * lane);
    StoreAs(header.dmin, panel + 2 * (kPanel + lane));
    for (size_t i = 0; i < kCount; ++i) {
      *SubScale(panel, i, lane) = sub.scale[i];
      *SubMin(panel, i, lane) = sub.min[i];
    }
  }

  static void UnpackScales(const uint8_t* panel, size_t lane, float* scale, float* min) {
    const float d = F16ToF32(LoadAs<uint16_t>(panel + 2 * lane));
    const float dmin = F16ToF32(LoadAs<uint16_t>(panel + 2 * (kPanel + lane)));
    for (size_t i = 0; i < kCount; ++i) {
      scale[i] = d * static_cast<float>(*SubScale(panel, i, lane));
      min[i] = dmin * static_cast<float>(*SubMin(panel, i, lane));
    }
  }

  template <class Byte>
  static Byte* SubScale(Byte* panel, size_t sub, size_t lane) {
    return panel + (4 + sub) * kPanel + lane;
  }
  template <class Byte>
  static Byte* SubMin(Byte* panel, size_t sub, size_t lane) {
    return panel + (4 + kCount + sub) * kPanel + lane;
  }
};

}  // namespace hob

#endif  // HOB_KERNELS_FORMATS_SCALES_H_
