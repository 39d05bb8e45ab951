// Pieces from which formats build their SIMD side: codes out of a panel, scales, and
// the decoding of a file row.

#include <cstddef>
#include <cstdint>

#include "kernels/formats/contract.h"

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

// ---------------------------------------------------------------- panels

// Bytes shifted up (kBy > 0) or down, with what comes over from the neighbouring byte: cheaper than
// a shift of bytes, which masks, when a mask follows anyway.
template <int kBy>
HWY_INLINE VU8 ShiftLoose(VU8 v) {
  const hn::Repartition<uint16_t, DU8> du16;
  if constexpr (kBy > 0) {
    return hn::BitCast(DU8(), hn::ShiftLeft<kBy>(hn::BitCast(du16, v)));
  } else if constexpr (kBy < 0) {
    return hn::BitCast(DU8(), hn::ShiftRight<-kBy>(hn::BitCast(du16, v)));
  } else {
    return v;
  }
}

// sum | the pieces of a quad from bit kBit of Codes' other quads on.
template <class Codes, size_t kBit, size_t kQuad>
HWY_INLINE VU8 AddPieces(const uint8_t* codes, VU8 sum) {
  constexpr auto kPiece = Codes::PieceAt(kBit);
  if constexpr (kPiece.quad != kQuad) {
    return sum;
  } else {
    const VU8 v = hn::LoadU(DU8(), codes + kPiece.vector * Codes::kVector);
    if constexpr (kPiece.to == 0 && kPiece.from + kPiece.bits == 8) {
      sum = hn::ShiftRight<kPiece.from>(v);  // see CodeQuad
    } else {
      const VU8 mask = hn::Set(DU8(), static_cast<uint8_t>(kPiece.Mask() << kPiece.to));
      const VU8 bits = ShiftLoose<int{kPiece.to} - int{kPiece.from}>(v);
      sum = kPiece.to == 0 ? hn::And(bits, mask) : hn::OrAnd(sum, bits, mask);
    }
    return AddPieces<Codes, kBit + kPiece.bits, kQuad>(codes, sum);
  }
}

// The codes of k = 4 kQuad .. 4 kQuad + 3 of a group of PanelCodes, for one slice of outputs, whose
// first bytes `codes` points to.
template <class Codes, size_t kQuad>
HWY_INLINE VU8 CodeQuad(const uint8_t* codes) {
  if constexpr (kQuad >= Codes::kWholeQuads) {
    constexpr size_t kBit = (kQuad - Codes::kWholeQuads) * Codes::kWidth;
    return AddPieces<Codes, kBit, kQuad>(codes, hn::Zero(DU8()));
  } else {
    constexpr int kUp = kQuad / Codes::kVectors * Codes::kWidth;
    const VU8 v = hn::LoadU(DU8(), codes + kQuad % Codes::kVectors * Codes::kVector);
    // The top bits need no mask, and some processors shift bytes by one operation.
    if constexpr (kUp + Codes::kWidth == 8) return hn::ShiftRight<kUp>(v);
    return hn::And(ShiftLoose<-kUp>(v), hn::Set(DU8(), uint8_t{(1u << Codes::kWidth) - 1}));
  }
}

// The levels of a quad, as the dot wants them.
template <class F, size_t kQuad>
HWY_INLINE VCode LevelQuad(const uint8_t* panel_block, size_t step, size_t lane) {
  VU8 code;
  if constexpr (requires { F::template Quad<kQuad>(panel_block, step, lane); }) {
    code = F::template Quad<kQuad>(panel_block, step, lane);
  } else {
    const size_t at = F::CodeBytes(step * kBlock) + kQuad / F::kQuads * F::kVectors * F::kVector;
    code = CodeQuad<F, kQuad % F::kQuads>(panel_block + F::kHeaderBytes + at + 4 * lane);
  }
  if constexpr (requires { F::kLevels; }) {
    code = hn::TableLookupBytes(hn::LoadDup128(DU8(), F::kLevels), code);
  }
  return ToCodes<F>(code);
}

// A vector of 16-bit values. Loaded as bytes: rows of a file lie at any address, and a pointer to
// such values must not be odd (Highway looks into a float16_t through it).
template <class D16>
HWY_INLINE hn::Vec<D16> Load16(D16 d16, const uint8_t* p) {
  const hn::Repartition<uint8_t, D16> d8;
  return hn::BitCast(d16, hn::LoadU(d8, p));
}

// A vector of f16 as f32, exact.
template <class D>
HWY_INLINE hn::Vec<D> LoadF16(D df, const uint8_t* p) {
  const hn::Rebind<hwy::float16_t, D> df16;
  return hn::PromoteTo(df, Load16(df16, p));
}

// One slice.
HWY_INLINE VF32 LoadF16(const uint8_t* p) { return LoadF16(DF32(), p); }

// One slice of unsigned or signed bytes as f32.
template <typename T>
HWY_INLINE VF32 LoadBytes(const uint8_t* p) {
  const hn::Rebind<T, DI32> d8;
  return hn::ConvertTo(DF32(), hn::PromoteTo(DI32(), hn::LoadU(d8, reinterpret_cast<const T*>(p))));
}

// out[i] = factor * bytes[i]: what the scales of sub-blocks are in a file block.
template <size_t kCount, typename T>
HWY_INLINE void ScaleBytes(const T* bytes, float factor, float* out) {
  const hn::CappedTag<float, kCount> df;
  const hn::RebindToSigned<decltype(df)> di;
  const hn::Rebind<T, decltype(df)> d8;
  for (size_t i = 0; i < kCount; i += hn::Lanes(df)) {
    const auto value = hn::ConvertTo(df, hn::PromoteTo(di, hn::LoadU(d8, bytes + i)));
    hn::StoreU(hn::Mul(hn::Set(df, factor), value), df, out + i);
  }
}

// Scale and Min of the formats whose scales are those of formats/scales.h, and Scales where there
// are many.

template <class F>
struct WithOneScale : F {
  static HWY_INLINE VF32 Scale(const uint8_t* panel, size_t, size_t lane) {
    return LoadF16(panel + 2 * lane);
  }
};

template <class F>
struct WithOneScaleAndOffset : WithOneScale<F> {
  static HWY_INLINE VF32 Min(const uint8_t* panel, size_t, size_t lane) {
    return hn::Neg(LoadF16(panel + 2 * (kPanel + lane)));
  }
};

template <class F>
struct WithSignedScales : F {
  static HWY_INLINE VF32 Scale(const uint8_t* panel, size_t sub, size_t lane) {
    return hn::Mul(LoadF16(panel + 2 * lane), LoadBytes<int8_t>(F::SubScale(panel, sub, lane)));
  }
  static HWY_INLINE void Scales(const uint8_t* block, float* scale, float*) {
    int8_t sub_scale[F::kValues / F::kSub];
    F::SubScales(block, sub_scale);
    const float d = F16ToF32(LoadAs<uint16_t>(block + F::kDAt));
    ScaleBytes<F::kValues / F::kSub>(sub_scale, d, scale);
  }
};

template <class F>
struct WithSixBitScales : F {
  static HWY_INLINE VF32 Scale(const uint8_t* panel, size_t sub, size_t lane) {
    return hn::Mul(LoadF16(panel + 2 * lane), LoadBytes<uint8_t>(F::SubScale(panel, sub, lane)));
  }
  static HWY_INLINE VF32 Min(const uint8_t* panel, size_t sub, size_t lane) {
    return hn::Mul(LoadF16(panel + 2 * (kPanel + lane)),
                   LoadBytes<uint8_t>(F::SubMin(panel, sub, lane)));
  }
  static HWY_INLINE void Scales(const uint8_t* block, float* scale, float* min) {
    const auto header = LoadAs<typename F::Header>(block);
    const auto sub = F::Unpack(header.packed);
    ScaleBytes<F::kCount>(sub.scale, F16ToF32(header.d), scale);
    ScaleBytes<F::kCount>(sub.min, F16ToF32(header.dmin), min);
  }
};

// ---------------------------------------------------------------- file rows
//
// Here lanes run along k: decoding has no sums, so nothing depends on the order.

// At most so many bytes, which some member of a block has at least: blocks begin at odd places, and
// no load may pass the end of a row.
template <size_t kBytes>
using DBytesUpTo = hn::CappedTag<uint8_t, kBytes>;
using DBytes = DBytesUpTo<16>;

// out = v - zero, as signed bytes. Tag first: a vector of SVE does not know that it was meant to be
// shorter than its register.
template <class D>
HWY_INLINE void StoreLevels(D d, hn::Vec<D> v, int zero, int8_t* out) {
  const hn::RebindToSigned<D> di8;
  const auto levels = hn::Sub(v, hn::Set(d, static_cast<uint8_t>(zero)));
  hn::StoreU(hn::BitCast(di8, levels), di8, out);
}

// The same of codes.
template <class F, class D>
HWY_INLINE void StoreLevelsOf(D d, hn::Vec<D> code, int8_t* out) {
  if constexpr (requires { F::kLevels; }) {
    code = hn::TableLookupBytes(hn::LoadDup128(d, F::kLevels), code);
  }
  StoreLevels(d, code, F::kZero, out);
}

// The levels of kCount codes that share bytes as CodesApart in formats/codes.h says.
template <class F, int kBits, size_t kApart, size_t kCount = kApart * 8 / kBits>
HWY_INLINE void LevelsApart(const uint8_t* bytes, int8_t* out) {
  const DBytesUpTo<kApart> d;
  const auto mask = hn::Set(d, static_cast<uint8_t>((1 << kBits) - 1));
  for (size_t j = 0; j < kCount; j += kApart * 8 / kBits, bytes += kApart) {
    for (size_t i = 0; i < kApart; i += hn::Lanes(d)) {
      const auto v = hn::LoadU(d, bytes + i);
      int8_t* to = out + j + i;
      StoreLevelsOf<F>(d, hn::And(v, mask), to);
      if constexpr (kBits == 4) {
        StoreLevelsOf<F>(d, hn::ShiftRight<4>(v), to + kApart);
      } else {
        static_assert(kBits == 2);
        StoreLevelsOf<F>(d, hn::And(hn::ShiftRight<2>(v), mask), to + kApart);
        StoreLevelsOf<F>(d, hn::And(hn::ShiftRight<4>(v), mask), to + 2 * kApart);
        StoreLevelsOf<F>(d, hn::ShiftRight<6>(v), to + 3 * kApart);
      }
    }
  }
}

// A base for formats whose 4-bit codes lie from byte kAt of a block on, halves kApart apart.
template <class F, size_t kAt, size_t kApart>
struct NibblesApart {
  static constexpr size_t kNibblesAt = kAt, kNibblesApart = kApart;
  static HWY_INLINE void Levels(const uint8_t* block, int8_t* out) {
    LevelsApart<F, 4, kApart, F::kValues>(block + kAt, out);
  }
};

// The levels of 32 codes of five bits: 16 bytes `low`, with codes i and i + 16 in byte i, and 4
// bytes `high`, a BitString. Loading mask bits may read 8 bytes: the block goes on behind `high`.
template <class F>
HWY_INLINE void FiveBitLevels(const uint8_t* low, const uint8_t* high, int8_t* out) {
  const DBytes d;
  const auto fifteen = hn::Set(d, uint8_t{15}), sixteen = hn::Set(d, uint8_t{16});
  for (size_t i = 0; i < 16; i += hn::Lanes(d)) {
    const auto pairs = hn::LoadU(d, low + i);
    const auto first = hn::IfThenElseZero(hn::LoadMaskBits(d, high + i / 8), sixteen);
    const auto second = hn::IfThenElseZero(hn::LoadMaskBits(d, high + 2 + i / 8), sixteen);
    StoreLevelsOf<F>(d, hn::OrAnd(first, pairs, fifteen), out + i);
    StoreLevelsOf<F>(d, hn::Or(second, hn::ShiftRight<4>(pairs)), out + i + 16);
  }
}

// out[i] = scale * levels[i] [- min]; n a multiple of 16.
template <bool kHasMin>
HWY_INLINE void ScaleLevels(const int8_t* levels, size_t n, float scale, float min, float* out) {
  const DF32 df;
  const DI32 di;
  const hn::Rebind<int8_t, DI32> di8;
  const VF32 factor = hn::Set(df, scale);
  for (size_t i = 0; i < n; i += hn::Lanes(df)) {
    VF32 v = hn::ConvertTo(df, hn::PromoteTo(di, hn::LoadU(di8, levels + i)));
    v = hn::Mul(factor, v);
    if constexpr (kHasMin) v = hn::Sub(v, hn::Set(df, min));
    hn::StoreU(v, df, out + i);
  }
}

// Where a vector holds what all 16 codes of four bits stand for, decoding is a lookup.
template <class F>
constexpr bool LooksUp() {
  return !HWY_HAVE_SCALABLE && HWY_MAX_LANES_D(DF32) == 16 && requires { F::kNibblesApart; };
}

// out (kValues) of one block; scale, min of its sub-blocks.
template <class F>
HWY_INLINE void LookUpBlock(const uint8_t* block, const float* scale, const float* min,
                            float* out) {
  const DF32 df;
  const DI32 di;
  const hn::Rebind<uint8_t, DI32> d8;
  constexpr size_t kApart = F::kNibblesApart;
  VI32 levels = hn::Iota(di, 0);
  if constexpr (requires { F::kLevels; }) levels = hn::PromoteTo(di, hn::LoadU(d8, F::kLevels));
  const VF32 level = hn::ConvertTo(df, hn::Sub(levels, hn::Set(di, F::kZero)));
  const auto values = [&](size_t i) HWY_ATTR {
    const VF32 scaled = hn::Mul(hn::Set(df, scale[i / F::kSub]), level);
    return F::kHasMin ? hn::Sub(scaled, hn::Set(df, min[i / F::kSub])) : scaled;
  };
  const uint8_t* codes = block + F::kNibblesAt;
  for (size_t j = 0; j < F::kValues; j += 2 * kApart, codes += kApart, out += 2 * kApart) {
    const VF32 low = values(j), high = kApart < F::kSub ? low : values(j + kApart);
    for (size_t i = 0; i < kApart; i += hn::Lanes(df)) {
      const VI32 pairs = hn::PromoteTo(di, hn::LoadU(d8, codes + i));
      const auto first = hn::IndicesFromVec(df, hn::And(pairs, hn::Set(di, 15)));
      const auto second = hn::IndicesFromVec(df, hn::ShiftRight<4>(pairs));
      hn::StoreU(hn::TableLookupLanes(low, first), df, out + i);
      hn::StoreU(hn::TableLookupLanes(high, second), df, out + i + kApart);
    }
  }
}

// Decodes one row of k values from the file's blocks. Where a block has many scales, those of some
// blocks come first, into memory: nothing waits for them then, and a broadcast from memory costs no
// arithmetic port.
template <class F>
void DequantizeBlocks(const uint8_t* blocks, size_t k, float* out) {
  constexpr size_t kSubs = F::kValues / F::kSub, kBatch = kSubs > 1 ? 8 : 1;
  float scale[kBatch][kSubs], min[kBatch][kSubs];
  for (size_t left = k / F::kValues; left > 0;) {
    const size_t count = HWY_MIN(left, kBatch);
    for (size_t b = 0; b < count; ++b) F::Scales(blocks + b * F::kBytes, scale[b], min[b]);
    for (size_t b = 0; b < count; ++b, blocks += F::kBytes, out += F::kValues) {
      if constexpr (LooksUp<F>()) {
        LookUpBlock<F>(blocks, scale[b], min[b], out);
      } else {
        HWY_ALIGN int8_t levels[F::kValues];
        F::Levels(blocks, levels);
        for (size_t sub = 0; sub < kSubs; ++sub) {
          ScaleLevels<F::kHasMin>(levels + sub * F::kSub, F::kSub, scale[b][sub],
                                  F::kHasMin ? min[b][sub] : 0, out + sub * F::kSub);
        }
      }
    }
    left -= count;
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace hob
HWY_AFTER_NAMESPACE();

#endif  // HOB_KERNELS_DEQUANTIZE_INL_H_
