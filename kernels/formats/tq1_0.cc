// tq1_0: 256 weights of -1, 0 and 1 times one f16 scale, five to a byte; weight = d * (code - 1).
//
// A byte is a fraction: byte / 256, times 3, has the first digit as its integer part, what is left,
// times 3, the second, and so on. Five digits with the value v (0 to 242, the first counts 81) are
// the byte v * 256 / 243, rounded up.
//
// File block (54 bytes):    32 bytes, byte i: codes i, i + 32, .. i + 128 | 16 bytes, byte i: codes
//                           160 + i, i + 16, .. i + 64 | 4 bytes, byte i: codes 240 + i, i + 4,
//                           i + 8, i + 12 | d f16
// Panel block (864 bytes):  d f16 x 16 outputs | 13 vectors of 64 bytes, byte 4 * output + i of
//                           which has codes k = 4 * quad + i of five quads. Vector s, of 8, has the
//                           first five of step s (32 of k), so that their digits are known at
//                           compile time; the other three of all steps, in order, are in 8 to 12.

#include "kernels/formats/contract.h"
#include "kernels/formats/encode.h"
#include "kernels/formats/scales.h"

#ifndef HOB_FORMAT_TQ1_0_ONCE
#define HOB_FORMAT_TQ1_0_ONCE
namespace hob {

struct TQ1_0 : OneScale<TQ1_0> {
  static constexpr size_t kBytes = 54, kValues = 256;
  static constexpr size_t kSub = 32;  // the one scale again and again: sums of the chain end here
  static constexpr int kZero = 1, kMaxLevel = 2;
  static constexpr size_t kDAt = 52;
  static constexpr uint8_t kPower[5] = {1, 3, 9, 27, 81};

  struct Place {
    size_t byte, digit;
  };

  static constexpr uint8_t DigitOf(uint8_t byte, size_t digit) {
    return static_cast<uint8_t>(static_cast<uint8_t>(byte * kPower[digit]) * 3 >> 8);
  }

  // The byte of five digits.
  static constexpr uint8_t ByteOf(uint32_t value) {
    return static_cast<uint8_t>((value * 256 + 242) / 243);
  }

  static constexpr Place InFile(size_t i) {
    if (i < 160) return {i % 32, i / 32};
    if (i < 240) return {32 + i % 16, (i - 160) / 16};
    return {48 + i % 4, (i - 240) / 4};
  }

  // From bytes of which digit j is the code j * bytes further on.
  static void ReadDigits(const uint8_t* in, size_t bytes, size_t digits, uint8_t* code) {
    for (size_t digit = 0; digit < digits; ++digit, code += bytes) {
      for (size_t i = 0; i < bytes; ++i) code[i] = DigitOf(in[i], digit);
    }
  }

  // .byte: the vector
  static constexpr Place InPanel(size_t step, size_t quad) {
    if (quad < 5) return {step, quad};
    const size_t rest = 3 * step + quad - 5;
    return {8 + rest / 5, rest % 5};
  }

  static constexpr size_t kVectors = 13;
  static constexpr size_t CodeBytes(size_t values) {
    return values / kValues * kVectors * 4 * kPanel;
  }

  // Four codes of k are a word, of which each byte becomes the value of its own five digits: at
  // most 242, so nothing is carried from one to the next.
  static void SetCodes(const uint8_t* code, size_t values, size_t lane, uint8_t* codes) {
    uint32_t value[kVectors] = {};
    for (size_t i = 0; i < values; i += 4) {
      const Place place = InPanel(i / 32, i % 32 / 4);
      value[place.byte] += LoadAs<uint32_t>(code + i) * kPower[4 - place.digit];
    }
    for (size_t v = 0; v < kVectors; ++v) {
      uint8_t bytes[4];
      StoreAs(value[v], bytes);
      for (uint8_t& byte : bytes) byte = ByteOf(byte);
      std::memcpy(codes + (v * kPanel + lane) * 4, bytes, 4);
    }
  }

  static void GetCodes(const uint8_t* codes, size_t lane, size_t values, uint8_t* code) {
    for (size_t i = 0; i < values; ++i) {
      const Place place = InPanel(i / 32, i % 32 / 4);
      code[i] = DigitOf(codes[(place.byte * kPanel + lane) * 4 + i % 4], place.digit);
    }
  }

  static void Encode(const float* in, uint8_t* out) {
    const auto x = FiniteValues<kValues>(in);
    const float d = TernaryScale<kValues>(x);
    const float inverse = InverseOf(d);
    uint32_t value[kDAt] = {};
    for (size_t i = 0; i < kValues; ++i) {
      const Place place = InFile(i);
      const int code = RoundToCode(x[i] * inverse, -1, 1) + kZero;
      value[place.byte] += static_cast<uint32_t>(code) * kPower[4 - place.digit];
    }
    for (size_t i = 0; i < kDAt; ++i) out[i] = ByteOf(value[i]);
    StoreAs(F32ToF16(d), out + kDAt);
  }

  static void Codes(const uint8_t* block, uint8_t* code) {
    ReadDigits(block, 32, 5, code);
    ReadDigits(block + 32, 16, 5, code + 160);
    ReadDigits(block + 48, 4, 4, code + 240);
  }
};

}  // namespace hob
#endif  // HOB_FORMAT_TQ1_0_ONCE

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/formats/tq1_0.cc"
#include <hwy/foreach_target.h>
// After foreach_target.h, which sets the target:
#include "kernels/matmul-inl.h"

HWY_BEFORE_NAMESPACE();
namespace hob {
namespace HWY_NAMESPACE {

struct TQ1_0Simd : WithOneScale<TQ1_0> {
  // floor(v * 3 / 256).
  template <class D>
  static HWY_INLINE hn::Vec<D> FirstDigit(D d, hn::Vec<D> v) {
    const auto one = hn::Set(d, uint8_t{1});
    const auto above_0 = hn::Min(hn::SaturatedSub(v, hn::Set(d, uint8_t{85})), one);
    const auto above_1 = hn::Min(hn::SaturatedSub(v, hn::Set(d, uint8_t{170})), one);
    return hn::Add(above_0, above_1);
  }

  // v times 3^kDigit modulo 256.
  template <size_t kDigit, class D>
  static HWY_INLINE hn::Vec<D> Tripled(D d, hn::Vec<D> v) {
    if constexpr (kDigit == 0) {
      return v;
    } else {
      v = Tripled<kDigit - 1>(d, v);
      return hn::Add(hn::Add(v, v), v);
    }
  }

  // v times `factor` modulo 256: even and odd bytes on their own.
  static HWY_INLINE VU8 Times(VU8 v, uint16_t factor) {
    const hn::Repartition<uint16_t, DU8> du16;
    const auto pairs = hn::BitCast(du16, v), by = hn::Set(du16, factor);
    const auto low = hn::Set(du16, uint16_t{0xFF});
    const auto even = hn::Mul(pairs, by), odd = hn::Mul(hn::AndNot(low, pairs), by);
    return hn::BitCast(DU8(), hn::OrAnd(odd, even, low));
  }

  template <size_t kQuad>
  static HWY_INLINE VU8 Quad(const uint8_t* panel_block, size_t step, size_t lane) {
    const Place place = InPanel(step, kQuad);
    const VU8 v = hn::LoadU(DU8(), panel_block + kHeaderBytes + (place.byte * kPanel + lane) * 4);
    if constexpr (kQuad < 5) return FirstDigit(DU8(), Tripled<kQuad>(DU8(), v));
    return FirstDigit(DU8(), Times(v, kPower[place.digit]));
  }

  template <size_t kDigit, class D>
  static HWY_INLINE void StoreDigit(D d, hn::Vec<D> v, int8_t* out) {
    StoreLevels(d, FirstDigit(d, Tripled<kDigit>(d, v)), kZero, out);
  }

  static HWY_INLINE void Levels(const uint8_t* block, int8_t* out) {
    const DBytes d;
    for (size_t i = 0; i < 48; i += hn::Lanes(d)) {
      const auto v = hn::LoadU(d, block + i);
      const size_t apart = i < 32 ? 32 : 16;
      int8_t* to = i < 32 ? out + i : out + 160 + i - 32;
      StoreDigit<0>(d, v, to);
      StoreDigit<1>(d, v, to + apart);
      StoreDigit<2>(d, v, to + 2 * apart);
      StoreDigit<3>(d, v, to + 3 * apart);
      StoreDigit<4>(d, v, to + 4 * apart);
    }
    for (size_t i = 240; i < kValues; ++i) {
      const Place place = InFile(i);
      out[i] = static_cast<int8_t>(DigitOf(block[place.byte], place.digit) - kZero);
    }
  }
};

}  // namespace HWY_NAMESPACE
}  // namespace hob
HWY_AFTER_NAMESPACE();

namespace hob {

template <>
const SimdKernels<TQ1_0>& KernelsOn<SimdKernels<TQ1_0>, HWY_TARGET>() {
  static constexpr auto kKernels = HWY_NAMESPACE::BlockKernels<TQ1_0, HWY_NAMESPACE::TQ1_0Simd>();
  return kKernels;
}

#if HWY_ONCE
template <>
const Format& FormatOf<HOB_FORMAT_TQ1_0>() {
  static constexpr Format kFormat =
      MakeFormat<HOB_FORMAT_TQ1_0, TQ1_0, BlockFormat<TQ1_0>, HWY_TARGETS>();
  return kFormat;
}
#endif

}  // namespace hob
