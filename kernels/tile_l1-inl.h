// The tile of block formats for targets without an int8 dot (isa-inl.h says how they multiply), or
// with few registers: what TileStep in tile-inl.h does, with the levels in L1 instead of registers,
// of which AVX2 has only 16. It takes all 32 outputs of a pair of panels at once, for two rows (or
// four, where a panel is one vector): eight sums, for which a load of levels serves every row, and
// a load of activations every slice.

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

// The slices of two panels, 4 of AVX2 or 2 of AVX-512, and the rows that make eight sums of them.
inline constexpr size_t kPairSlices = 2 * kPanel / HWY_MAX_LANES_D(DF32);
inline constexpr size_t kPairRows = 8 / kPairSlices;

// A step unpacked. levels: vectors [quad][slice], or of 16 bits [quad][even, odd][slice].
struct UnpackedStep {
  alignas(64) uint8_t levels[8 * 2 * 2 * 64];
  alignas(64) float scale[2][2 * kPanel];  // of each sub-block
  alignas(64) float min[2][2 * kPanel];

  static HWY_INLINE size_t At(size_t vector, size_t slice) {
    return (vector * kPairSlices + slice) * hn::Lanes(DU8());
  }
  HWY_INLINE void Store(VU8 level, size_t vector, size_t slice) {
    hn::Store(level, DU8(), levels + At(vector, slice));
  }
  HWY_INLINE VU8 Load(size_t vector, size_t slice) const {
    VU8 level = hn::Load(DU8(), levels + At(vector, slice));
    Pin(level);  // or GCC loads it for every use
    return level;
  }
};

template <class F, size_t kQuad>
HWY_INLINE void UnpackQuads(const StepSlice& w, size_t slice, UnpackedStep* u) {
  if constexpr (kQuad < 8) {
    const VU8 level = LevelQuad<F, kQuad>(w);
    if constexpr (kWide<F>) {
      u->Store(hn::BitCast(DU8(), EvenLevels(level)), 2 * kQuad, slice);
      u->Store(hn::BitCast(DU8(), OddLevels(level)), 2 * kQuad + 1, slice);
    } else {
      u->Store(level, kQuad, slice);
    }
    UnpackQuads<F, kQuad + 1>(w, slice, u);
  }
}

template <class F>
HWY_INLINE void Unpack(const PairStep& pair, UnpackedStep* u) {
  const DF32 df;
  for (size_t i = 0; i < kPairSlices; ++i) {
    const size_t at = i * hn::Lanes(df);
    const StepSlice w = {pair.blocks.Of(at), pair.step, at % kPanel, nullptr};
    UnpackQuads<F, 0>(w, i, u);
    for (size_t s = 0; s < kSubsPerStep<F>; ++s) {
      const size_t sub = w.step * kSubsPerStep<F> + s;
      hn::Store(F::Scale(w.block, sub, w.lane), df, u->scale[s] + at);
      if constexpr (F::kHasMin) hn::Store(F::Min(w.block, sub, w.lane), df, u->min[s] + at);
    }
  }
}

// Eight sums: of slice 0 for every row, then of slice 1 ... V is a parameter of all that uses them,
// since vectors of SVE, which has no use for this, cannot be in a struct.
template <class V>
struct Sums {
  V s0, s1, s2, s3, s4, s5, s6, s7;
};

template <class V>
HWY_INLINE Sums<V> MakeSums(const auto& f) {
  return {f(0), f(1), f(2), f(3), f(4), f(5), f(6), f(7)};
}

HWY_INLINE constexpr size_t SliceOf(size_t sum) { return sum / kPairRows; }
HWY_INLINE constexpr size_t RowOf(size_t sum) { return sum % kPairRows; }

// Where the activations of a tile's rows are, counted from the first. Rows that there are not are
// the first again, and what becomes of them is not used.
struct RowPlaces {
  size_t r1, r2, r3;

  HWY_INLINE size_t operator[](size_t row) const {
    return row == 0 ? 0 : row == 1 ? r1 : row == 2 ? r2 : r3;
  }
};

// The activations `rows` rows further.
HWY_INLINE StepActs RowsAfter(StepActs x, size_t rows) {
  x.q += rows * kBlock, x.words += rows * kBlock;
  x.scale += rows, x.start += rows, x.min += rows;
  return x;
}

// The same 2 words of activations in every lane.
HWY_INLINE VI16 SpreadWords(const int16_t* x) {
  int32_t pair;
  hwy::CopyBytes<4>(x, &pair);
  return hn::BitCast(DI16(), hn::Set(DI32(), pair));
}

// f(sum, w, index) for each sum, with what `level` gives for its slice. Pinned, or GCC would make
// all products first, and spill them.
template <class V>
HWY_INLINE void ForEachSum(Sums<V>& sums, const auto& level, const auto& f) {
  auto w = level(0);
  const auto one = [&](V& sum, size_t i) HWY_ATTR {
    if (i > 0 && RowOf(i) == 0) w = level(SliceOf(i));
    f(sum, w, i);
    Pin(sum);
  };
  one(sums.s0, 0), one(sums.s1, 1), one(sums.s2, 2), one(sums.s3, 3);
  one(sums.s4, 4), one(sums.s5, 5), one(sums.s6, 6), one(sums.s7, 7);
}

// Adds the products of quads [kQuad, kEnd) in 16 bits.
template <size_t kQuad, size_t kEnd, class V>
HWY_INLINE void AddBytes(const UnpackedStep& u, const int8_t* q, const RowPlaces& at,
                         Sums<V>& sums) {
  if constexpr (kQuad < kEnd) {
    const auto level = [&](size_t slice) HWY_ATTR { return u.Load(kQuad, slice); };
    ForEachSum(sums, level, [&](V& sum, VU8 w, size_t i) HWY_ATTR {
      sum = hn::Add(sum, Products(w, SpreadQuad(q + at[RowOf(i)] * kBlock + 4 * kQuad)));
    });
    AddBytes<kQuad + 1, kEnd>(u, q, at, sums);
  }
}

// Adds the products of quads [kQuad, kEnd), with a dot, or carried to 32 bits as often as they must
// be.
template <class F, size_t kQuad, size_t kEnd, class V>
HWY_INLINE void AddQuads(const UnpackedStep& u, const int8_t* q, const RowPlaces& at,
                         Sums<V>& sums) {
  if constexpr (kQuad == kEnd) {
    return;
  } else if constexpr (kDots<F>) {
    const auto level = [&](size_t slice) HWY_ATTR { return u.Load(kQuad, slice); };
    ForEachSum(sums, level, [&](V& sum, VU8 w, size_t i) HWY_ATTR {
      sum = Dot4<F>(sum, w, SpreadQuad(q + at[RowOf(i)] * kBlock + 4 * kQuad));
    });
    AddQuads<F, kQuad + 1, kEnd>(u, q, at, sums);
  } else if constexpr (kQuadsIn16Bits<F> == 2) {
    // There are no registers for sums of 16 bits beside those of 32 but for one at a time.
    const auto level = [&](size_t slice) HWY_ATTR {
      return hn::Create2(DU8(), u.Load(kQuad, slice), u.Load(kQuad + 1, slice));
    };
    ForEachSum(sums, level, [&](V& sum, const auto& w, size_t i) HWY_ATTR {
      const int8_t* x = q + at[RowOf(i)] * kBlock + 4 * kQuad;
      const VI16 first = Products(hn::Get2<0>(w), SpreadQuad(x));
      sum = AddPairs(sum, hn::Add(first, Products(hn::Get2<1>(w), SpreadQuad(x + 4))));
    });
    AddQuads<F, kQuad + 2, kEnd>(u, q, at, sums);
  } else {
    constexpr size_t kNext = kQuad + kQuadsIn16Bits<F> < kEnd ? kQuad + kQuadsIn16Bits<F> : kEnd;
    auto more = MakeSums<VI16>([](size_t) HWY_ATTR { return hn::Zero(DI16()); });
    AddBytes<kQuad, kNext>(u, q, at, more);
    sums.s0 = AddPairs(sums.s0, more.s0), sums.s1 = AddPairs(sums.s1, more.s1);
    sums.s2 = AddPairs(sums.s2, more.s2), sums.s3 = AddPairs(sums.s3, more.s3);
    sums.s4 = AddPairs(sums.s4, more.s4), sums.s5 = AddPairs(sums.s5, more.s5);
    sums.s6 = AddPairs(sums.s6, more.s6), sums.s7 = AddPairs(sums.s7, more.s7);
    AddQuads<F, kNext, kEnd>(u, q, at, sums);
  }
}

// Adds the products of vectors [kVector, kEnd) of words; of x there are the even codes of all
// quads, then the odd ones.
template <size_t kVector, size_t kEnd, class V>
HWY_INLINE void AddWords(const UnpackedStep& u, const int16_t* x, const RowPlaces& at,
                         Sums<V>& sums) {
  if constexpr (kVector < kEnd) {
    constexpr size_t kPlace = kVector % 2 * (kBlock / 2) + kVector / 2 * 2;
    const auto level = [&](size_t slice)
                           HWY_ATTR { return hn::BitCast(DI16(), u.Load(kVector, slice)); };
    ForEachSum(sums, level, [&](V& sum, VI16 w, size_t i) HWY_ATTR {
      sum = AddProducts(sum, w, SpreadWords(x + at[RowOf(i)] * kBlock + kPlace));
    });
    AddWords<kVector + 1, kEnd>(u, x, at, sums);
  }
}

// kPairRows rows of all outputs take the links of sub-block kSub of a step.
template <class F, bool kLast, size_t kSub>
HWY_INLINE void TileSubL1(const UnpackedStep& u, const StepActs& x, const RowPlaces& at,
                          const StepOutputs& c) {
  const DF32 df;
  constexpr size_t kQuads = F::kSub / 4, kFirst = kSub * kQuads, kEnd = kFirst + kQuads;
  auto sums = MakeSums<VI32>([&](size_t i) HWY_ATTR { return StartOf<F>(x, kSub, at[RowOf(i)]); });
  if constexpr (kWide<F>) {
    AddWords<2 * kFirst, 2 * kEnd>(u, x.words, at, sums);
  } else {
    AddQuads<F, kFirst, kEnd>(u, x.q, at, sums);
  }
  // What rows bring is loaded before anything is stored, which might change it for all that the
  // compiler knows.
  const auto scale_of = [&](size_t row) HWY_ATTR { return hn::Set(df, x.scale[at[row]]); };
  const auto min_of = [&](size_t row) HWY_ATTR {
    return F::kHasMin ? hn::Set(df, x.min[kSub * x.gap + at[row]]) : hn::Zero(df);
  };
  const VF32 scale0 = scale_of(0), scale1 = scale_of(1), scale2 = scale_of(2), scale3 = scale_of(3);
  const VF32 min0 = min_of(0), min1 = min_of(1), min2 = min_of(2), min3 = min_of(3);
  const auto terms = [&](size_t slice) HWY_ATTR {
    const float* scale = u.scale[kSub] + slice * hn::Lanes(df);
    const float* min = F::kHasMin ? u.min[kSub] + slice * hn::Lanes(df) : scale;
    return hn::Create2(df, hn::Load(df, scale), hn::Load(df, min));
  };
  ForEachSum(sums, terms, [&](VI32 sum, const auto& w, size_t i) HWY_ATTR {
    const size_t row = RowOf(i);
    const size_t lane = SliceOf(i) * hn::Lanes(df);
    const VF32 scale = row == 0 ? scale0 : row == 1 ? scale1 : row == 2 ? scale2 : scale3;
    const VF32 min = row == 0 ? min0 : row == 1 ? min1 : row == 2 ? min2 : min3;
    const StepOutputs to = c.Row(row);
    VF32 acc = hn::LoadU(df, (kSub == 0 ? to.from : to.to) + lane);
    acc = LinkTerms<F>(acc, sum, hn::Get2<0>(w), hn::Get2<1>(w), scale, min);
    if constexpr (kLast && kSub + 1 == kSubsPerStep<F>) {
      StoreRow(acc, to, lane);
    } else {
      hn::StoreU(acc, df, to.to + lane);
    }
  });
}

// One step for all outputs and rows; as TileStep. The outputs have room for a whole number of
// kPairRows.
template <class F, bool kLast>
HWY_NOINLINE void TileStepL1(const PairStep& w, const StepActs& acts, size_t rows,
                             const StepOutputs& outputs) {
  StepActs x = acts;
  StepOutputs c = outputs;
  UnpackedStep u;
  Unpack<F>(w, &u);
  for (size_t r = 0; r < rows; r += kPairRows, c = c.Row(kPairRows)) {
    const auto place = [&](size_t i) { return r + i < rows ? i : 0; };
    const RowPlaces at = {place(1), place(2), place(3)};
    KeepInMemory(u);
    TileSubL1<F, kLast, 0>(u, x, at, c);
    if constexpr (kSubsPerStep<F> == 2) TileSubL1<F, kLast, 1>(u, x, at, c);
    x = RowsAfter(x, kPairRows);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace hob
HWY_AFTER_NAMESPACE();

#endif  // HOB_KERNELS_TILE_L1_INL_H_
