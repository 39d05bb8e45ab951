// How codes lie in a block of the file, and what they stand for, where several formats do it alike.
// Codes are cut out and put together eight bytes at a time; no bit leaves its byte.
#ifndef HOB_KERNELS_FORMATS_CODES_H_
#define HOB_KERNELS_FORMATS_CODES_H_

#include <cstddef>
#include <cstdint>

#include "kernels/half.h"

namespace hob {

inline constexpr uint64_t kEveryByte = 0x0101010101010101;

// Codes that are kApart from each other share a byte: byte i of kApart has codes i, i + kApart,
// i + 2 kApart .., kBits of each, the first lowest. So CodesApart<4, 16> are 16 bytes with code i
// in the low and code i + 16 in the high half. More bytes have the codes that follow. Where the
// others of a code's bits lie elsewhere, these are its bits from kLow on.
template <int kBits, size_t kApart, int kLow = 0>
struct CodesApart {
  static_assert(kApart % 8 == 0 && 8 % kBits == 0);
  static constexpr uint64_t kMask = kEveryByte * ((1 << kBits) - 1);

  // Sets `count` codes, or adds to their bits below kLow, which must have been set.
  static void Get(const uint8_t* bytes, size_t count, uint8_t* code) {
    for (size_t i = 0; i < count * kBits / 8; i += 8) {
      const auto eight = LoadAs<uint64_t>(bytes + i);
      for (int up = 0; up < 8; up += kBits) {
        uint8_t* to = code + CodeAt(i, up);
        const uint64_t bits = (eight >> up & kMask) << kLow;
        StoreAs(kLow == 0 ? bits : LoadAs<uint64_t>(to) | bits, to);
      }
    }
  }

  // The inverse, for encoders.
  static void Put(const uint8_t* code, size_t count, uint8_t* bytes) {
    for (size_t i = 0; i < count * kBits / 8; i += 8) {
      uint64_t eight = 0;
      for (int up = 0; up < 8; up += kBits) {
        eight |= (LoadAs<uint64_t>(code + CodeAt(i, up)) >> kLow & kMask) << up;
      }
      StoreAs(eight, bytes + i);
    }
  }

 private:
  // The code of which byte i has bits, `up` bits up.
  static constexpr size_t CodeAt(size_t i, int up) {
    return (i / kApart * (8 / kBits) + static_cast<size_t>(up / kBits)) * kApart + i % kApart;
  }
};

// Codes of which one bit, number kLow, lies here, each in a bit of its own: that of code i in bit
// i % 8 of byte i / 8.
template <int kLow = 0>
struct BitString {
  // As in CodesApart.
  static void Get(const uint8_t* bytes, size_t count, uint8_t* code) {
    for (size_t i = 0; i < count / 8; ++i) {
      uint8_t* to = code + 8 * i;
      const uint64_t bits = Spread(bytes[i]) << kLow;
      StoreAs(kLow == 0 ? bits : LoadAs<uint64_t>(to) | bits, to);
    }
  }

  static void Put(const uint8_t* code, size_t count, uint8_t* bytes) {
    for (size_t i = 0; i < count; ++i) {
      if (i % 8 == 0) bytes[i / 8] = 0;
      bytes[i / 8] |= static_cast<uint8_t>((code[i] >> kLow & 1) << i % 8);
    }
  }

 private:
  // Byte i becomes bit i: each byte is given all of them, keeps its own, and has its top bit set by
  // an addition if that is one.
  static constexpr uint64_t Spread(uint8_t bits) {
    const uint64_t own = bits * kEveryByte & 0x8040201008040201;
    return (own + 0x7F * kEveryByte) >> 7 & kEveryByte;
  }
};

// iq4_nl, iq4_xs: 16 unevenly spaced levels, -127 -104 -83 -65 -49 -35 -22 -10 1 13 25 38 53 69 89
// 113, for codes of 4 bits.
struct UnevenLevels {
  static constexpr int kZero = 128, kMaxLevel = 241;
  alignas(16) static constexpr uint8_t kLevels[16] = {1,   24,  45,  63,  79,  93,  106, 118,
                                                      129, 141, 153, 166, 181, 197, 217, 241};
};

}  // namespace hob

#endif  // HOB_KERNELS_FORMATS_CODES_H_
