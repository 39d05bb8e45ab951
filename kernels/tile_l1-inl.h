// The tile of block formats for targets without an int8 dot (isa-inl.h says how they multiply), or
// with few registers: what TileStep in tile-inl.h does, with the levels in L1 instead of registers,
// of which AVX2 has only 16, and two rows at a time, so that each load of levels serves twice.

#include <cstddef>
#include <cstdint>

#if defined(HOB_KERNELS_TILE_L1_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef HOB_KERNELS_TILE_L1_INL_H_
#undef HOB_KERNELS_TILE_L1_INL_H_
#else
#define HOB_KERNELS_TILE_L1_INL_H_
#endif

#include "kernels/tile-inl.h"

HWY_BEFORE_NAMESPACE();
namespace hob {
namespace HWY_NAMESPACE {

// Levels above 127 do not fit the product of bytes and are kept as 16 bits.
template <class F>
inline constexpr bool kWide = !kDots<F> && kQuadsIn16Bits<F> == 0;

// One step of two slices, unpacked: for each quad its two slices, as bytes or as even and odd
// words; then scale and min of each sub-block and slice.
struct UnpackedStep {
  alignas(64) uint8_t levels[8 * 2 * 2 * 64];
  alignas(64) float scale[2][2][kPanel];
  alignas(64) float min[2][2][kPanel];
};

template <class F, size_t kQuad>
HWY_INLINE void UnpackQuads(const TwoSlices& w, UnpackedStep* u) {
  if constexpr (kQuad < 8) {
    const size_t bytes = hn::Lanes(DU8());
    const auto level0 = LevelQuad<F, kQuad>(w.block0, w.step, w.lane0);
    const auto level1 = LevelQuad<F, kQuad>(w.block1, w.step, w.lane1);
    if constexpr (kWide<F>) {
      auto* out = reinterpret_cast<int16_t*>(u->levels + kQuad * 4 * bytes);
      const size_t words = bytes / 2;
      hn::Store(EvenLevels(level0), DI16(), out);
      hn::Store(EvenLevels(level1), DI16(), out + words);
      hn::Store(OddLevels(level0), DI16(), out + 2 * words);
      hn::Store(OddLevels(level1), DI16(), out + 3 * words);
    } else {
      hn::Store(level0, DU8(), u->levels + kQuad * 2 * bytes);
      hn::Store(level1, DU8(), u->levels + (kQuad * 2 + 1) * bytes);
    }
    UnpackQuads<F, kQuad + 1>(w, u);
  }
}

template <class F>
HWY_INLINE void Unpack(const TwoSlices& w, UnpackedStep* u) {
  const DF32 df;
  UnpackQuads<F, 0>(w, u);
  for (size_t s = 0; s < kSubsPerStep<F>; ++s) {
    const size_t sub = w.step * kSubsPerStep<F> + s;
    hn::Store(F::Scale(w.block0, sub, w.lane0), df, u->scale[s][0]);
    hn::Store(F::Scale(w.block1, sub, w.lane1), df, u->scale[s][1]);
    if constexpr (F::kHasMin) {
      hn::Store(F::Min(w.block0, sub, w.lane0), df, u->min[s][0]);
      hn::Store(F::Min(w.block1, sub, w.lane1), df, u->min[s][1]);
    }
  }
}

// The same 2 words of activations in every lane.
HWY_INLINE VI16 SpreadWords(const int16_t* x) {
  int32_t pair;
  hwy::CopyBytes<4>(x, &pair);
  return hn::BitCast(DI16(), hn::Set(DI32(), pair));
}

// Adds the products of quads [kQuad, kEnd), bytes, of two slices and two rows in 16 bits.
template <size_t kQuad, size_t kEnd>
HWY_INLINE void AddBytes(const UnpackedStep& u, const int8_t* q0, const int8_t* q1, VI16& s00,
                         VI16& s01, VI16& s10, VI16& s11) {
  if constexpr (kQuad < kEnd) {
    const size_t bytes = hn::Lanes(DU8());
    VU8 w0 = hn::Load(DU8(), u.levels + kQuad * 2 * bytes);
    VU8 w1 = hn::Load(DU8(), u.levels + (kQuad * 2 + 1) * bytes);
    Pin(w0, w1);
    const VI8 x0 = SpreadQuad(q0 + 4 * kQuad), x1 = SpreadQuad(q1 + 4 * kQuad);
    s00 = hn::Add(s00, Products(w0, x0)), s01 = hn::Add(s01, Products(w1, x0));
    s10 = hn::Add(s10, Products(w0, x1)), s11 = hn::Add(s11, Products(w1, x1));
    Pin(s00, s01, s10, s11);
    AddBytes<kQuad + 1, kEnd>(u, q0, q1, s00, s01, s10, s11);
  }
}

// The same with a dot.
template <class F, size_t kQuad, size_t kEnd>
HWY_INLINE void AddDots(const UnpackedStep& u, const int8_t* q0, const int8_t* q1, VI32& i00,
                        VI32& i01, VI32& i10, VI32& i11) {
  if constexpr (kQuad < kEnd) {
    const size_t bytes = hn::Lanes(DU8());
    VU8 w0 = hn::Load(DU8(), u.levels + kQuad * 2 * bytes);
    VU8 w1 = hn::Load(DU8(), u.levels + (kQuad * 2 + 1) * bytes);
    Pin(w0, w1);
    const VI8 x0 = SpreadQuad(q0 + 4 * kQuad), x1 = SpreadQuad(q1 + 4 * kQuad);
    i00 = Dot4<F>(i00, w0, x0), i01 = Dot4<F>(i01, w1, x0);
    i10 = Dot4<F>(i10, w0, x1), i11 = Dot4<F>(i11, w1, x1);
    AddDots<F, kQuad + 1, kEnd>(u, q0, q1, i00, i01, i10, i11);
  }
}

// The same without, for all of a sub-block, carried to 32 bits as often as it must be.
template <class F, size_t kQuad, size_t kEnd>
HWY_INLINE void AddByteQuads(const UnpackedStep& u, const int8_t* q0, const int8_t* q1, VI32& i00,
                             VI32& i01, VI32& i10, VI32& i11) {
  if constexpr (kDots<F>) {
    AddDots<F, kQuad, kEnd>(u, q0, q1, i00, i01, i10, i11);
  } else if constexpr (kQuad < kEnd) {
    constexpr size_t kNext = kQuad + kQuadsIn16Bits<F> < kEnd ? kQuad + kQuadsIn16Bits<F> : kEnd;
    VI16 s00 = hn::Zero(DI16()), s01 = s00, s10 = s00, s11 = s00;
    AddBytes<kQuad, kNext>(u, q0, q1, s00, s01, s10, s11);
    i00 = AddPairs(i00, s00), i01 = AddPairs(i01, s01);
    i10 = AddPairs(i10, s10), i11 = AddPairs(i11, s11);
    Pin(i00, i01, i10, i11);
    AddByteQuads<F, kNext, kEnd>(u, q0, q1, i00, i01, i10, i11);
  }
}

// And with words: x0 and x1 have the even codes of all quads, then the odd ones.
template <size_t kQuad, size_t kEnd>
HWY_INLINE void AddWordQuads(const UnpackedStep& u, const int16_t* x0, const int16_t* x1, VI32& i00,
                             VI32& i01, VI32& i10, VI32& i11) {
  if constexpr (kQuad < kEnd) {
    const size_t words = hn::Lanes(DI16());
    const auto* w = reinterpret_cast<const int16_t*>(u.levels) + kQuad * 4 * words;
    for (size_t odd = 0; odd < 2; ++odd, w += 2 * words, x0 += 16, x1 += 16) {
      VI16 w0 = hn::Load(DI16(), w), w1 = hn::Load(DI16(), w + words);
      Pin(w0, w1);
      const VI16 s0 = SpreadWords(x0 + 2 * kQuad), s1 = SpreadWords(x1 + 2 * kQuad);
      i00 = AddProducts(i00, w0, s0), i01 = AddProducts(i01, w1, s0);
      i10 = AddProducts(i10, w0, s1), i11 = AddProducts(i11, w1, s1);
      Pin(i00, i01, i10, i11);
    }
    AddWordQuads<kQuad + 1, kEnd>(u, x0 - 32, x1 - 32, i00, i01, i10, i11);
  }
}

// c[r][2 slices] += one step, for all rows; as TileStep.
template <class F>
HWY_NOINLINE void TileStepL1(TwoSlices w, StepActs x, size_t rows, float* HWY_RESTRICT c,
                             size_t c_stride, size_t c_gap) {
  const DF32 df;
  constexpr size_t kQuads = F::kSub / 4;
  UnpackedStep u;
  Unpack<F>(w, &u);
  for (size_t r = 0; r < rows; r += 2, c += 2 * c_stride) {
    // An odd last row is its own partner: both compute and store the same.
    const size_t r1 = r + 1 < rows ? r + 1 : r;
    float* c1 = c + (r1 - r) * c_stride;
    VF32 a00 = hn::Zero(df), a01 = a00, a10 = a00, a11 = a00;
    KeepInMemory(u);
    HWY_UNROLL(2)
    for (size_t s = 0; s < kSubsPerStep<F>; ++s) {
      VI32 i00 = StartOf<F>(x, s, r), i01 = i00, i10 = StartOf<F>(x, s, r1), i11 = i10;
      if constexpr (kWide<F>) {
        const int16_t *x0 = x.words + r * kBlock, *x1 = x.words + r1 * kBlock;
        if (s == 0) {
          AddWordQuads<0, kQuads>(u, x0, x1, i00, i01, i10, i11);
        } else {
          AddWordQuads<8 - kQuads, 8>(u, x0, x1, i00, i01, i10, i11);
        }
      } else {
        const int8_t *q0 = x.q + r * kBlock, *q1 = x.q + r1 * kBlock;
        if (s == 0) {
          AddByteQuads<F, 0, kQuads>(u, q0, q1, i00, i01, i10, i11);
        } else {
          AddByteQuads<F, 8 - kQuads, 8>(u, q0, q1, i00, i01, i10, i11);
        }
      }
      if (s == 0) {
        a00 = hn::LoadU(df, c), a01 = hn::LoadU(df, c + c_gap);
        a10 = hn::LoadU(df, c1), a11 = hn::LoadU(df, c1 + c_gap);
      }
      const VF32 scale0 = hn::Load(df, u.scale[s][0]), scale1 = hn::Load(df, u.scale[s][1]);
      VF32 min0 = scale0, min1 = scale1;
      if constexpr (F::kHasMin) min0 = hn::Load(df, u.min[s][0]), min1 = hn::Load(df, u.min[s][1]);
      a00 = Link<F>(a00, i00, scale0, min0, x, s, r),
      a01 = Link<F>(a01, i01, scale1, min1, x, s, r);
      a10 = Link<F>(a10, i10, scale0, min0, x, s, r1);
      a11 = Link<F>(a11, i11, scale1, min1, x, s, r1);
    }
    hn::StoreU(a00, df, c), hn::StoreU(a01, df, c + c_gap);
    hn::StoreU(a10, df, c1), hn::StoreU(a11, df, c1 + c_gap);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace hob
HWY_AFTER_NAMESPACE();

#endif  // HOB_KERNELS_TILE_L1_INL_H_
