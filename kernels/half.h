// 16-bit floats in scalar code: IEEE binary16 (f16) and bfloat16 (bf16), to and from f32. Exact in
// the direction of f32, rounded to nearest even in the other; the SIMD code uses the CPU's own
// conversions, which round the same way.
#ifndef HOB_KERNELS_HALF_H_
#define HOB_KERNELS_HALF_H_

#include <bit>
#include <cstdint>
#include <cstring>

namespace hob {

template <class T>
T LoadAs(const uint8_t* p) {
  T value;
  std::memcpy(&value, p, sizeof(T));
  return value;
}

template <class T>
void StoreAs(T value, uint8_t* p) {
  std::memcpy(p, &value, sizeof(T));
}

inline float F16ToF32(uint16_t h) {
  const uint32_t sign = static_cast<uint32_t>(h & 0x8000) << 16;
  const uint32_t magnitude = h & 0x7FFF;
  if (magnitude - 0x0400 < 0x7C00 - 0x0400) {  // normal, as nearly all are: one branch
    return std::bit_cast<float>(sign | ((magnitude << 13) + ((127 - 15) << 23)));
  }
  if (magnitude >= 0x7C00) {  // infinity, NaN
    return std::bit_cast<float>(sign | 0x7F800000 | (magnitude & 0x3FF) << 13);
  }
  // Subnormal: an integer multiple of 2^-24.
  const float value = static_cast<float>(magnitude) * 0x1p-24f;
  return std::bit_cast<float>(sign | std::bit_cast<uint32_t>(value));
}

inline uint16_t F32ToF16(float x) {
  const uint32_t bits = std::bit_cast<uint32_t>(x);
  const uint16_t sign = static_cast<uint16_t>(bits >> 16 & 0x8000);
  const uint32_t magnitude = bits & 0x7FFFFFFF;
  if (magnitude > 0x7F800000) return sign | 0x7E00;   // NaN
  if (magnitude >= 0x477FF000) return sign | 0x7C00;  // rounds to 65536 or more: infinity
  if (magnitude < 0x38800000) {                       // below 2^-14: subnormal or zero
    // Adding 0.5 makes the sum's last bit worth 2^-24, so the addition rounds as f16 does.
    const float sum = std::bit_cast<float>(magnitude) + 0.5f;
    return sign | static_cast<uint16_t>(std::bit_cast<uint32_t>(sum) - 0x3F000000);
  }
  const uint32_t rounded = magnitude + 0xFFF + (magnitude >> 13 & 1);
  return sign | static_cast<uint16_t>((rounded - ((127 - 15) << 23)) >> 13);
}

inline float BF16ToF32(uint16_t h) { return std::bit_cast<float>(static_cast<uint32_t>(h) << 16); }

// Keeps subnormals: this is the storage format, not the matmul's operand (RoundToBF16).
inline uint16_t F32ToBF16(float x) {
  const uint32_t bits = std::bit_cast<uint32_t>(x);
  if ((bits & 0x7FFFFFFF) > 0x7F800000) return static_cast<uint16_t>(bits >> 16 | 0x40);  // NaN
  return static_cast<uint16_t>((bits + 0x7FFF + (bits >> 16 & 1)) >> 16);
}

}  // namespace hob

#endif  // HOB_KERNELS_HALF_H_
