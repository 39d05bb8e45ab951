// Attention in SIMD. For one KV head and a block of query rows:
//
//   for each chunk of 256 keys                                  from scratch, merged in order
//     scores   s = K . q                attention_tile-inl.h, lanes are tokens
//     weights  p = 2^(s - max)          16 virtual lanes, no horizontal sum
//     values   out = p . V              attention_tile-inl.h, lanes are elements of the head
//
// Keys and values come by tiles of 64. Where rows are few, all scores of up to four chunks come
// first, then all weights: whoever reads memory front to back for long is given it faster.
// All rows of the block stream over one load of the tile; where bf16 has no dot, the tile's halves
// are expanded once, into L1. Tiles that no row sees are never touched. Where a row's view begins
// or ends within a tile its chain does, too, so that what lies beyond (another token, or what a
// rewind left there) cannot reach the result. A q8_0 cache is decoded, a tile at a time, to what a
// bf16 cache would hold. Compare reference.cc. Tested by tests/attention_test.cc.

#include "kernels/attention.h"

#include <algorithm>
#include <bit>
#include <cfloat>
#include <cmath>
#include <cstring>
#include <type_traits>
#include <utility>

#include "kernels/exp_constants.h"
#include "kernels/formats.h"
#include "kernels/reference.h"
#include "kernels/rows.h"

#ifndef HOB_ATTENTION_ONCE
#define HOB_ATTENTION_ONCE
namespace hob {
namespace {

size_t Padded(size_t n) { return (n + kPanel - 1) / kPanel * kPanel; }
size_t Q8Blocks(size_t head_dim) { return (head_dim + kBlock - 1) / kBlock; }

// Where a KV head's keys, and its values, lie in a cache, in 32-bit lanes: an f32, a pair of bf16,
// or whatever q8_0 has there.
struct Layout {
  size_t group;       // elements in a lane that attention reads: 1 or 2
  size_t padded_dim;  // head_dim, padded to 16
  size_t page;        // lanes of kKeyPage tokens
  size_t segment;     // tokens of a segment
  size_t next;        // lanes from one segment to the next
  size_t head;        // lanes from one KV head to the next

  size_t TileLanes() const { return kKeyTile / kKeyPage * page; }

  // The tile and the page of token t.
  size_t Tile(size_t t) const { return t / segment * next + t % segment / kKeyTile * TileLanes(); }
  size_t Page(size_t t) const { return Tile(t) + t % kKeyTile / kKeyPage * page; }

  // Key element d, and value element d, of token t.
  size_t Key(size_t t, size_t d) const { return Page(t) + d / group * kKeyPage + t % kKeyPage; }
  size_t Value(size_t t, size_t d) const { return Tile(t) + ValueInTile(t, d); }
  size_t ValueInTile(size_t t, size_t d) const {
    const size_t part = d / kValuePart * kValuePart, row = t % kKeyTile / group;
    return ValuePart(part) + row * ValueStride(part) + d % kValuePart;
  }
  // From a tile's values to those of the part that begins with element d, and from one group of
  // tokens to the next in it.
  size_t ValuePart(size_t d) const { return d * (kKeyTile / group); }
  size_t ValueStride(size_t d) const { return std::min(kValuePart, padded_dim - d); }
};

// Heads with all tokens, a multiple of a tile's, one after the other.
Layout LayoutOf(hob_cache_type type, size_t head_dim, size_t tokens) {
  const size_t group = type == HOB_CACHE_F32 ? 1 : 2, padded = Padded(head_dim);
  const size_t token = type == HOB_CACHE_Q8_0 ? padded / 4 + Q8Blocks(head_dim) : padded / group;
  return {group, padded, token * kKeyPage, tokens, 0, token * tokens};
}

size_t WholeTiles(size_t tokens) { return (tokens + kKeyTile - 1) / kKeyTile * kKeyTile; }

Layout LayoutOf(const CacheView& cache) {
  if (cache.segment == 0) return LayoutOf(cache.type, cache.head_dim, WholeTiles(cache.capacity));
  Layout layout = LayoutOf(cache.type, cache.head_dim, cache.segment);
  layout.next = cache.segment_bytes / sizeof(uint32_t);
  layout.head = cache.head_bytes / sizeof(uint32_t);
  return layout;
}

// Puts bf16 `bits` (in the high half) into the high or, i = 1, the low half of a lane. Writing the
// high half clears the low one, so the partner of a last even token is zero.
uint32_t WithHalf(uint32_t lane, size_t i, uint32_t bits) {
  return i == 0 ? bits : (lane & 0xFFFF0000) | bits >> 16;
}

float Half(uint32_t lane, size_t i) {
  return std::bit_cast<float>(i == 0 ? lane & 0xFFFF0000 : lane << 16);
}

// A page of a q8_0 cache.
struct Q8Page {
  int8_t* codes;  // keys: (padded_dim, kKeyPage); values: (kKeyPage, padded_dim)
  float* scales;  // keys: (blocks, kKeyPage); values: (kKeyPage, blocks)
};

// The page of token t; lanes: of one KV head.
Q8Page Q8PageAt(const Layout& layout, uint32_t* lanes, size_t t) {
  uint32_t* page = lanes + layout.Page(t);
  return {reinterpret_cast<int8_t*>(page),
          reinterpret_cast<float*>(page + layout.padded_dim * kKeyPage / sizeof(uint32_t))};
}

// Chunks that go through the steps together, at most: the weights of one tile are too few to hide
// that each is a long chain, and memory is read faster where it is read on and on.
constexpr size_t kSpanChunks = 4;
constexpr size_t kChunkTiles = kKeyChunk / kKeyTile, kSpanTiles = kSpanChunks * kChunkTiles;

// Rows for which memory may be what takes the time.
constexpr size_t kFewRows = 16;

// One number for each row of each chunk, where a chunk's rows are whole vectors.
constexpr size_t kSlots = kRowBlock + kSpanChunks * kPanel;

// The buffers of one unit of work, in 32-bit lanes, each on a cache line; rows as in AttentionTask,
// those of a span's tiles and chunks as Block says, of which there are kRowBlock for all chunks
// together.
struct Workspace {
  float* q;           // (kRowBlock, padded_dim) prepared: f32, or pairs
  float* scores;      // (kRowBlock * kChunkTiles, kKeyTile); then the weights, f32 or pairs
  float* chunk;       // (kRowBlock, padded_dim) values of the chunks
  float* all;         // (kRowBlock, padded_dim) values of the chunks before
  float* sums;        // (kRowBlock, 16) of the chunks
  float* all_sums;    // (kRowBlock, 16)
  float* max;         // (kSlots) of the chunks
  float* factor;      // (kSlots) what sums and chunk are multiplied with, to be merged
  float* all_factor;  // (kSlots) what all_sums and all are multiplied with before
  float* all_max;     // (kRowBlock)
  float* expanded;    // (kExpandSteps, kExpandWidth) a part of a tile, as f32
  uint32_t* tile;     // (kKeyTile / 2, padded_dim) decoded keys, then values, of a q8_0 cache
  float* edge;        // (kExpandWidth) a pair of tokens of which one does not count
  size_t* begin;      // (kRowBlock) first key that the row sees
  size_t* end;        // (kRowBlock) one beyond the last
  size_t bytes;       // in total
};

// Expanded at a time: 16 KB.
constexpr size_t kExpandSteps = 64, kExpandWidth = 4 * kPanel;

Workspace WorkspaceIn(void* buffer, size_t head_dim) {
  const size_t padded = Padded(head_dim);
  auto* const start = static_cast<uint8_t*>(buffer);
  size_t bytes = 0;
  const auto take = [&]<class T>(T** array, size_t count) {
    *array = start == nullptr ? nullptr : reinterpret_cast<T*>(start + bytes);
    bytes += (count * sizeof(T) + 63) / 64 * 64;
  };
  Workspace w;
  take(&w.q, kRowBlock * padded);
  take(&w.scores, kRowBlock * kChunkTiles * kKeyTile);
  take(&w.chunk, kRowBlock * padded);
  take(&w.all, kRowBlock * padded);
  take(&w.sums, kRowBlock * kPanel);
  take(&w.all_sums, kRowBlock * kPanel);
  for (float** array : {&w.max, &w.factor, &w.all_factor}) take(array, kSlots);
  take(&w.all_max, kRowBlock);
  take(&w.expanded, kExpandSteps * kExpandWidth);
  take(&w.tile, kKeyTile / 2 * padded);
  take(&w.edge, kExpandWidth);
  take(&w.begin, kRowBlock);
  take(&w.end, kRowBlock);
  w.bytes = bytes;
  return w;
}

// x into its lane: all of it or, of pairs, the half that index i (of the pair's dimension) says.
void StoreElement(bool pairs, float x, size_t i, uint32_t* lane) {
  *lane = pairs ? WithHalf(*lane, i % 2, std::bit_cast<uint32_t>(reference::RoundToBF16(x)))
                : std::bit_cast<uint32_t>(x);
}

using Quantize = decltype(RowKernels::quantize_q8);

// At most kMost elements of a head, quantized; what is beyond them in a block counts as zeros.
struct Q8Codes {
  static constexpr size_t kMost = 8 * kBlock;
  int8_t codes[kMost];
  float scales[kMost / kBlock];

  Q8Codes(Quantize quantize, const float* x, size_t n) {
    int32_t sums[2 * kMost / kBlock];
    const size_t whole = n / kBlock, rest = n % kBlock;
    quantize(x, whole, kBlock, codes, 1, scales, sums);
    if (rest == 0) return;
    float last[kBlock] = {};
    std::copy_n(x + whole * kBlock, rest, last);
    quantize(last, 1, kBlock, codes + whole * kBlock, 1, scales + whole, sums);
  }
};

void AppendQ8(Quantize quantize, const CacheView& cache, size_t pos, size_t m, const float* k,
              const float* v, size_t stride) {
  const Layout layout = LayoutOf(cache);
  const size_t dim = cache.head_dim, blocks = Q8Blocks(dim);
  for (size_t h = 0; h < cache.n_kv_heads; ++h) {
    for (size_t i = 0; i < m; ++i) {
      const size_t at = h * layout.head, t = (pos + i) % kKeyPage;
      const Q8Page keys = Q8PageAt(layout, static_cast<uint32_t*>(cache.keys) + at, pos + i);
      const Q8Page values = Q8PageAt(layout, static_cast<uint32_t*>(cache.values) + at, pos + i);
      for (size_t begin = 0; begin < dim; begin += Q8Codes::kMost) {
        const size_t n = std::min(dim - begin, Q8Codes::kMost), block = begin / kBlock;
        const Q8Codes key(quantize, k + i * stride + h * dim + begin, n);
        const Q8Codes value(quantize, v + i * stride + h * dim + begin, n);
        // What lies beside the head is zero.
        for (size_t d = 0; d < Padded(n); ++d) {
          keys.codes[(begin + d) * kKeyPage + t] = key.codes[d];
        }
        std::memcpy(values.codes + t * layout.padded_dim + begin, value.codes, Padded(n));
        for (size_t b = 0; b < Q8Blocks(n); ++b) {
          keys.scales[(block + b) * kKeyPage + t] = key.scales[b];
          values.scales[t * blocks + block + b] = value.scales[b];
        }
      }
    }
  }
}

void Append(const CacheView& cache, size_t pos, size_t m, const float* k, const float* v,
            size_t stride) {
  if (cache.type == HOB_CACHE_Q8_0) {
    return AppendQ8(reference::QuantizeQ8, cache, pos, m, k, v, stride);
  }
  const Layout layout = LayoutOf(cache);
  const bool pairs = cache.type == HOB_CACHE_BF16;
  for (size_t h = 0; h < cache.n_kv_heads; ++h) {
    uint32_t* keys = static_cast<uint32_t*>(cache.keys) + h * layout.head;
    uint32_t* values = static_cast<uint32_t*>(cache.values) + h * layout.head;
    for (size_t i = 0; i < m; ++i) {
      const float* key = k + i * stride + h * cache.head_dim;
      const float* value = v + i * stride + h * cache.head_dim;
      const size_t t = pos + i;
      for (size_t d = 0; d < cache.head_dim; ++d) {
        StoreElement(pairs, key[d], d, keys + layout.Key(t, d));
        StoreElement(pairs, value[d], t, values + layout.Value(t, d));
      }
    }
  }
}

}  // namespace
}  // namespace hob
#endif  // HOB_ATTENTION_ONCE

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/attention.cc"
#include <hwy/foreach_target.h>
// After foreach_target.h, which sets the target:
#include "kernels/attention_tile-inl.h"

HWY_BEFORE_NAMESPACE();
namespace hob {
namespace HWY_NAMESPACE {

// How a cache type's elements go through the tile (q8_0 as bf16, once decoded): Direct as they lie
// in the cache; kExpands: where many rows want them, they are first split into halves, in L1. X:
// what q and weights are.
struct CacheF32 {
  using Lane = float;
  using Direct = GridF32;
  using Scope = ElementF32::Scope;  // alive around grids
  using X = float;
  static constexpr bool kPairs = false, kExpands = false, kPairsX = false;
};

struct CacheBF16 {
  using Lane = uint32_t;
  using Direct = std::conditional_t<kHasBF16Dot, GridPairs, GridSplit>;
  using Scope = ElementBF16::Scope;
  using X = typename Direct::X;
  static constexpr bool kPairs = true, kExpands = !kHasBF16Dot, kPairsX = kHasBF16Dot;
};

// Rows from which on expanding a tile pays.
inline constexpr size_t kExpandRows = 13;

// ---------------------------------------------------------------- rows of floats

// x[n] = 0; n a multiple of 16.
HWY_INLINE void Clear(float* x, size_t n) {
  const DF32 df;
  for (size_t i = 0; i < n; i += hn::Lanes(df)) hn::StoreU(hn::Zero(df), df, x + i);
}

// x[n] *= factor; n a multiple of 16.
HWY_INLINE void Scale(float* x, size_t n, float factor) {
  const DF32 df;
  for (size_t i = 0; i < n; i += hn::Lanes(df)) {
    hn::StoreU(hn::Mul(hn::LoadU(df, x + i), hn::Set(df, factor)), df, x + i);
  }
}

// all[n] = chunk * chunk_factor + all * all_factor; n a multiple of 16.
HWY_INLINE void MergeRow(const float* chunk, float chunk_factor, float* all, float all_factor,
                         size_t n) {
  const DF32 df;
  for (size_t i = 0; i < n; i += hn::Lanes(df)) {
    const VF32 old = hn::Mul(hn::LoadU(df, all + i), hn::Set(df, all_factor));
    hn::StoreU(hn::MulAdd(hn::LoadU(df, chunk + i), hn::Set(df, chunk_factor), old), df, all + i);
  }
}

HWY_INLINE float Shift(float max) { return max == -HUGE_VALF ? 0.0f : max; }

HWY_INLINE VF32 Shift(VF32 max) {
  return hn::IfThenZeroElse(hn::Eq(max, hn::Set(DF32(), -HUGE_VALF)), max);
}

// Of 32 halves the first 16 to the high, the others to the low half of lanes.
HWY_INLINE VU32 SplitHalves(VU32 halves) {
  const DU32 du;
  const hn::Repartition<uint16_t, DU32> du16;
  const VU32 from = hn::Or(hn::ShiftLeft<16>(hn::Iota(du, 0)), hn::Iota(du, kPanel));
  return hn::BitCast(du, hn::TableLookupLanes(hn::BitCast(du16, halves),
                                              hn::IndicesFromVec(du16, hn::BitCast(du16, from))));
}

// ---------------------------------------------------------------- appending
//
// What Append does, many elements at a time.

// One head of a token's keys; lanes: of its first element.
template <bool kPairs>
HWY_INLINE void AppendKey(const float* key, size_t dim, uint32_t* lanes) {
  size_t d = 0;
  if constexpr (kPairs) {
    const DF32 df;
    const DU32 du;
    HWY_ALIGN uint32_t pairs[kPanel];
    for (; d + 2 * hn::Lanes(df) <= dim; d += 2 * hn::Lanes(df)) {
      const VF32 x0 = hn::LoadU(df, key + d), x1 = hn::LoadU(df, key + d + hn::Lanes(df));
      hn::Store(BF16Pairs(x0, x1), du, pairs);
      for (size_t i = 0; i < hn::Lanes(du); ++i) lanes[(d / 2 + i) * kKeyPage] = pairs[i];
    }
  }
  for (; d < dim; ++d) StoreElement(kPairs, key[d], d, lanes + d / (kPairs ? 2 : 1) * kKeyPage);
}

// One head of token t's values; head: the KV head's.
template <bool kPairs>
HWY_INLINE void AppendValue(const float* value, size_t dim, size_t t, const Layout& layout,
                            uint32_t* head) {
  const DF32 df;
  const DU32 du;
  size_t d = 0;
  for (; d + hn::Lanes(df) <= dim; d += hn::Lanes(df)) {
    uint32_t* lanes = head + layout.Value(t, d);
    const VF32 x = hn::LoadU(df, value + d);
    VU32 bits = hn::BitCast(du, x);
    if constexpr (kPairs) {
      bits = RoundToBF16(x);
      if (t % 2 == 1) {
        const VU32 first = hn::And(hn::LoadU(du, lanes), hn::Set(du, 0xFFFF0000u));
        bits = hn::Or(first, hn::ShiftRight<16>(bits));
      }
    }
    hn::StoreU(bits, du, lanes);
  }
  for (; d < dim; ++d) StoreElement(kPairs, value[d], t, head + layout.Value(t, d));
}

template <bool kPairs>
void AppendTokens(const CacheView& cache, size_t pos, size_t m, const float* k, const float* v,
                  size_t stride) {
  const Layout layout = LayoutOf(cache);
  const size_t dim = cache.head_dim;
  for (size_t h = 0; h < cache.n_kv_heads; ++h) {
    uint32_t* keys = static_cast<uint32_t*>(cache.keys) + h * layout.head;
    uint32_t* values = static_cast<uint32_t*>(cache.values) + h * layout.head;
    for (size_t i = 0; i < m; ++i) {
      const size_t at = i * stride + h * dim, t = pos + i;
      AppendKey<kPairs>(k + at, dim, keys + layout.Key(t, 0));
      AppendValue<kPairs>(v + at, dim, t, layout, values);
    }
  }
}

void AppendSimd(const CacheView& cache, size_t pos, size_t m, const float* k, const float* v,
                size_t stride) {
  if (cache.type == HOB_CACHE_Q8_0) {
    return AppendQ8(KernelsOn<RowKernels, HWY_TARGET>().quantize_q8, cache, pos, m, k, v, stride);
  }
  const bool pairs = cache.type == HOB_CACHE_BF16;
  (pairs ? AppendTokens<true> : AppendTokens<false>)(cache, pos, m, k, v, stride);
}

// ---------------------------------------------------------------- a block

// Rows [first, last) of a block.
struct RowRange {
  size_t first, last;
};

// The keys [t, t + 64), `lanes` from where the cache begins, number `index` of the span, in its
// chunk `chunk`, and the rows that see any of them; whole: all rows of the block see all of them.
struct KeyTile {
  size_t t, lanes, index, chunk;
  RowRange rows;
  bool whole;
};

// Chunks that go through the steps together, and those of their tiles that some row sees.
struct Span {
  KeyTile tiles[kSpanTiles];
  size_t tiles_end[kSpanChunks];  // one beyond each chunk's last
  RowRange seen_by[kSpanChunks];  // the rows that see any of a chunk
  size_t chunks;

  const KeyTile* Begin(size_t chunk) const { return chunk == 0 ? tiles : End(chunk - 1); }
  const KeyTile* End(size_t chunk) const { return tiles + tiles_end[chunk]; }
  const KeyTile* End() const { return End(chunks - 1); }
};

// The unit of work: one KV head, rows [row_begin, row_begin + rows). Row r of the block sees keys
// [begin[r], end[r]), neither of which falls with r.
template <class C>
struct Block {
  using Lane = typename C::Lane;
  using X = typename C::X;
  const AttentionTask& task;
  Layout layout;
  Workspace w;
  size_t kv_head, row_begin, rows;
  const Lane* keys;  // of this KV head
  const Lane* values;
  size_t ahead;  // lanes to what is read after a tile of them; 0: it is not there yet

  // Offset of block row r in q and out.
  size_t RowAt(size_t r) const {
    const size_t row = row_begin + r, group = task.group();
    return (row / group * task.n_heads + kv_head * group + row % group) * task.cache.head_dim;
  }

  const X* Queries(size_t r) const {
    return reinterpret_cast<const X*>(w.q) + r * layout.padded_dim;
  }

  const Lane* Keys(const KeyTile& at) const { return keys + at.lanes; }
  const Lane* Values(const KeyTile& at) const { return values + at.lanes; }

  // Those that see any of keys [t, keys_end).
  RowRange RowsThatSee(size_t t, size_t keys_end) const {
    size_t first = 0, last = rows;
    while (first < last && w.end[first] <= t) ++first;
    while (first < last && w.begin[last - 1] >= keys_end) --last;
    return {first, last};
  }
  // Whether rows [first, last) see all of keys [t, keys_end).
  bool AllSee(size_t first, size_t last, size_t t, size_t keys_end) const {
    return w.end[first] >= keys_end && w.begin[last - 1] <= t;
  }

  // Whether row r sees all of the tile at t.
  bool SeesTile(size_t r, size_t t) const { return AllSee(r, r + 1, t, t + kKeyTile); }

  // Scores, then weights, of one row of a tile: (kKeyTile).
  float* ScoresOf(const KeyTile& at, size_t r) const {
    return w.scores + (at.index * rows + r) * kKeyTile;
  }
  // Its sums (16) and values (padded_dim) of a chunk.
  float* SumsOf(size_t chunk, size_t r) const { return w.sums + (chunk * rows + r) * kPanel; }
  float* ValuesOf(size_t chunk, size_t r) const {
    return w.chunk + (chunk * rows + r) * layout.padded_dim;
  }
  // Where its maximum and factors are.
  size_t Slot(size_t chunk, size_t r) const { return chunk * Padded(rows) + r; }

  bool Few() const { return rows <= kFewRows; }
  size_t SpanKeys() const { return std::min(kSpanChunks, kRowBlock / rows) * kKeyChunk; }

  // The part of the tile at t that row r sees, relative to t; empty if nothing.
  KeyRange Seen(size_t r, size_t t) const {
    const size_t begin = std::clamp(w.begin[r], t, t + kKeyTile);
    return {begin - t, std::clamp(w.end[r], begin, t + kKeyTile) - t};
  }
};

// Elements [d, d + Lanes) of a row of q, scaled; behind the end come zeros.
HWY_INLINE VF32 ScaledQuery(const float* q, float scale, size_t d, size_t head_dim) {
  const DF32 df;
  const VF32 factor = hn::Set(df, scale);
  if (d + hn::Lanes(df) <= head_dim) return hn::Mul(hn::LoadU(df, q + d), factor);
  if (d >= head_dim) return hn::Zero(df);
  const VF32 x = hn::Mul(hn::LoadN(df, q + d, head_dim - d), factor);
  return hn::IfThenElseZero(hn::FirstN(df, head_dim - d), x);  // whatever the factor is
}

// One row of q, scaled; bf16 cache: rounded, and in pairs where the dot wants them.
template <class C>
HWY_INLINE void PrepareQuery(const float* q, float scale, size_t head_dim, size_t padded_dim,
                             float* out) {
  const DF32 df;
  const size_t step = hn::Lanes(df);
  if constexpr (C::kPairsX) {
    for (size_t d = 0; d < padded_dim; d += 2 * step) {
      const VF32 x0 = ScaledQuery(q, scale, d, head_dim);
      const VF32 x1 = ScaledQuery(q, scale, d + step, head_dim);
      hn::StoreU(hn::BitCast(df, BF16Pairs(x0, x1)), df, out + d / 2);
    }
  } else {
    for (size_t d = 0; d < padded_dim; d += step) {
      VF32 x = ScaledQuery(q, scale, d, head_dim);
      if constexpr (C::kPairs) x = hn::BitCast(df, RoundToBF16(x));
      hn::StoreU(x, df, out + d);
    }
  }
}

HWY_INLINE void PrefetchRow(const float* x, size_t n) {
  for (size_t i = 0; i < n; i += kPanel) hwy::Prefetch(x + i);
}

template <class C>
HWY_INLINE void Prepare(const Block<C>& b) {
  constexpr size_t kAhead = 8;
  const AttentionTask& task = b.task;
  const float softcap = task.options.softcap;
  const float scale = softcap == 0.0f ? task.scale * kLog2E : task.scale / softcap;
  const size_t dim = task.cache.head_dim, padded = b.layout.padded_dim, group = task.group();
  std::fill_n(b.w.all_max, kRowBlock, -HUGE_VALF);
  std::memset(b.w.all, 0, b.rows * padded * sizeof(float));
  std::memset(b.w.all_sums, 0, b.rows * kPanel * sizeof(float));
  for (size_t r = 0; r < b.rows; ++r) {
    const KeyRange keys = VisibleKeys(task.options, task.pos, task.m, (b.row_begin + r) / group);
    b.w.begin[r] = keys.begin;
    b.w.end[r] = keys.end;
    // A row of q and of out is far from the next one's, which no prefetcher foresees.
    if (r + kAhead < b.rows) PrefetchRow(task.q + b.RowAt(r + kAhead), dim);
    PrefetchRow(task.out + b.RowAt(r), dim);
    PrepareQuery<C>(task.q + b.RowAt(r), scale, dim, padded, b.w.q + r * padded);
  }
}

// ---------------------------------------------------------------- decoding a q8_0 cache
//
// A tile at a time becomes the tile of a bf16 cache, as far as its rows see it, by pages. Not under
// BF16Scope, which would flush scales.

// Whether all scales are zero or normal; n a multiple of 16. Then so are all products with codes,
// or infinite, and rounding them takes no care.
HWY_INLINE bool AllNormal(const float* scales, size_t n) {
  const DF32 df;
  auto others = hn::MaskFalse(df);
  for (size_t i = 0; i < n; i += hn::Lanes(df)) {
    const VF32 s = hn::LoadU(df, scales + i);
    const auto normal = hn::And(hn::Ge(s, hn::Set(df, FLT_MIN)), hn::Le(s, hn::Set(df, FLT_MAX)));
    others = hn::Or(others, hn::AndNot(normal, hn::Ne(s, hn::Zero(df))));
  }
  return hn::AllFalse(df, others);
}

// A vector of codes times their scales.
HWY_INLINE VF32 Decode(const int8_t* codes, VF32 scale) {
  const hn::Rebind<int8_t, DI32> di8;
  return hn::Mul(hn::ConvertTo(DF32(), hn::PromoteTo(DI32(), hn::LoadU(di8, codes))), scale);
}

// x rounded to bf16 in the high halves, with rests below them; normal, zero or infinite.
HWY_INLINE VU32 RoundNormal(VF32 x) {
  const DU32 du;
  const VU32 bits = hn::BitCast(du, x);
  const VU32 odd = hn::And(hn::ShiftRight<16>(bits), hn::Set(du, 1u));
  return hn::Add(bits, hn::Add(odd, hn::Set(du, 0x7FFFu)));
}

// Both rounded to bf16, first in the high halves, second in the low ones; kNormal: as above.
template <bool kNormal>
HWY_INLINE VU32 JoinRounded(VF32 first, VF32 second) {
  if constexpr (kHasBF16Dot) return SplitHalves(RoundToHalves(first, second));
  const VU32 high = kNormal ? RoundNormal(first) : RoundToBF16(first);
  const VU32 low = kNormal ? RoundNormal(second) : RoundToBF16(second);
  return hn::OrAnd(hn::ShiftRight<16>(low), high, hn::Set(DU32(), 0xFFFF0000u));
}

// One page of keys: lanes are tokens.
template <bool kNormal>
HWY_NOINLINE void DecodeKeys(const Q8Page& page, size_t head_dim, uint32_t* lanes) {
  for (size_t i = 0; i < kKeyPage; i += OutputsPerVector()) {
    for (size_t d = 0; d < head_dim; d += kBlock) {
      const VF32 scale = hn::LoadU(DF32(), page.scales + d / kBlock * kKeyPage + i);
      const size_t end = std::min(head_dim, d + kBlock);
      const int8_t* codes = page.codes + d * kKeyPage + i;
      uint32_t* to = lanes + d / 2 * kKeyPage + i;
      for (size_t at = d; at < end; at += 2, codes += 2 * kKeyPage, to += kKeyPage) {
        const VF32 first = Decode(codes, scale), second = Decode(codes + kKeyPage, scale);
        hn::StoreU(JoinRounded<kNormal>(first, second), DU32(), to);
      }
    }
  }
}

// One page of values, whose first token is token t of `tile`: lanes are elements of the head.
template <bool kNormal>
HWY_NOINLINE void DecodeValues(const Q8Page& page, size_t head_dim, const Layout& layout, size_t t,
                               uint32_t* tile) {
  const size_t dim = layout.padded_dim, blocks = Q8Blocks(head_dim);
  for (size_t d = 0; d < dim; d += kBlock) {
    const size_t width = std::min(dim - d, kBlock), stride = layout.ValueStride(d - d % kValuePart);
    const int8_t* codes = page.codes + d;
    const float* scales = page.scales + d / kBlock;
    uint32_t* to = tile + layout.ValueInTile(t, d);
    for (size_t pair = 0; pair < kKeyPage / 2; ++pair, codes += 2 * dim, scales += 2 * blocks) {
      const VF32 first_scale = hn::Set(DF32(), scales[0]);
      const VF32 second_scale = hn::Set(DF32(), scales[blocks]);
      for (size_t i = 0; i < width; i += OutputsPerVector()) {
        const VF32 first = Decode(codes + i, first_scale);
        const VF32 second = Decode(codes + dim + i, second_scale);
        hn::StoreU(JoinRounded<kNormal>(first, second), DU32(), to + pair * stride + i);
      }
    }
  }
}
static_assert(kValuePart % kBlock == 0);

// What rows see of the tile, of keys or of values, into the block's own.
template <bool kKeys>
HWY_INLINE void DecodeTile(const Block<CacheBF16>& b, const KeyTile& tile) {
  const CacheView& cache = b.task.cache;
  const Layout layout = LayoutOf(cache);
  auto* const head =
      static_cast<uint32_t*>(kKeys ? cache.keys : cache.values) + b.kv_head * layout.head;
  const size_t t = tile.t, begin = std::max(b.w.begin[tile.rows.first], t) / kKeyPage * kKeyPage;
  const size_t end = std::min(b.w.end[tile.rows.last - 1], t + kKeyTile);
  for (size_t at = begin; at < end; at += kKeyPage) {
    const Q8Page page = Q8PageAt(layout, head, at);
    const bool normal = kHasBF16Dot || AllNormal(page.scales, Q8Blocks(cache.head_dim) * kKeyPage);
    if constexpr (kKeys) {
      uint32_t* lanes = b.w.tile + (at - t) / kKeyPage * b.layout.page;
      (normal ? DecodeKeys<true> : DecodeKeys<false>)(page, cache.head_dim, lanes);
    } else {
      (normal ? DecodeValues<true> : DecodeValues<false>)(page, cache.head_dim, b.layout, at - t,
                                                          b.w.tile);
    }
  }
}

// ---------------------------------------------------------------- scores and values

// Splits `groups` pairs of `slices` slices: group g becomes rows 2 g and 2 g + 1 of out. What is
// `ahead` lanes further will be wanted next.
template <class Lane>
HWY_INLINE void Expand(const Lane* const* w, size_t w_stride, size_t groups, size_t slices,
                       size_t ahead, size_t width, float* out) {
  const DF32 df;
  for (size_t i = 0; i < slices; ++i) {
    const auto* pair = reinterpret_cast<const uint32_t*>(w[i]);
    float* to = out + i * hn::Lanes(df);
    for (size_t g = 0; g < groups; ++g, pair += w_stride, to += 2 * width) {
      hwy::Prefetch(pair + ahead);
      const VU32 v = hn::LoadU(DU32(), pair);
      hn::StoreU(HighHalf(v), df, to);
      hn::StoreU(LowHalf(v), df, to + width);
    }
  }
}

// The rows' grids with w expanded: the other members stay.
HWY_INLINE Grid<GridHalves> Expanded(const Grid<GridSplit>& grid, const float* w, size_t width) {
  const size_t step = OutputsPerVector();
  return {{w, w + step, w + 2 * step, w + 3 * step},
          width,
          grid.x,
          grid.x_stride,
          2 * grid.groups,
          grid.from,
          grid.from_stride,
          grid.c,
          grid.c_stride,
          0};
}

// Scores of rows [first, last) against 4 slices of keys that begin at t, as far as they are seen.
template <class C, class G>
HWY_INLINE void ScoreSlices(const Block<C>& b, size_t t, size_t first, size_t last, size_t slices,
                            const G& rows_of) {
  const size_t step = OutputsPerVector();
  for (size_t r = first, n; r < last; r += n) {
    size_t needed = slices;
    n = last - r;
    if (!b.AllSee(r, last, t, t + slices * step)) {
      // On the diagonal a few rows at a time, each few as far as its last sees.
      n = std::min<size_t>(n, C::Direct::kMostRows);
      needed = std::min(slices, (b.w.end[r + n - 1] - t + step - 1) / step);
    }
    rows_of(r, n, needed);
  }
}

// scores of the tile's rows against its keys.
template <class C>
HWY_NOINLINE void Scores(const Block<C>& b, const KeyTile& at) {
  using Direct = typename C::Direct;
  [[maybe_unused]] const typename C::Scope scope;
  const size_t step = OutputsPerVector(), dim = b.layout.padded_dim;
  const size_t groups = (b.task.cache.head_dim + b.layout.group - 1) / b.layout.group;
  const size_t t = at.t;
  const auto* tile = b.Keys(at);
  // A page at a time where memory may be what takes the time: it is read front to back.
  const size_t most = b.Few() ? std::min<size_t>(4, kKeyPage / step) : 4;
  for (size_t i = 0; i < kKeyTile; i += most * step) {
    const size_t slices = std::min(most, (kKeyTile - i) / step), width = slices * step;
    size_t row = at.rows.first, row_end = at.rows.last;
    while (row < row_end && b.w.end[row] <= t + i) ++row;
    while (row < row_end && b.w.begin[row_end - 1] >= t + i + width) --row_end;
    if (row == row_end) continue;
    const auto slice = [&](size_t s) {
      const size_t key = i + std::min(s, slices - 1) * step;
      return tile + key / kKeyPage * b.layout.page + key % kKeyPage;
    };
    const auto grid_at = [&](size_t r) HWY_ATTR -> Grid<Direct> {
      return {{slice(0), slice(1), slice(2), slice(3)},
              kKeyPage,
              b.Queries(r),
              dim,
              groups,
              nullptr,
              0,
              b.ScoresOf(at, r) + i,
              kKeyTile,
              i % kKeyPage == 0 ? kKeyPage : 0};
    };
    if constexpr (C::kExpands) {
      if (row_end - row >= kExpandRows) {
        constexpr size_t kGroups = kExpandSteps / 2;
        for (size_t g = 0; g < groups; g += kGroups) {
          const size_t count = std::min(kGroups, groups - g);
          const typename C::Lane* w[4];
          for (size_t s = 0; s < 4; ++s) w[s] = slice(s) + g * kKeyPage;
          Expand(w, kKeyPage, count, slices, b.ahead, width, b.w.expanded);
          ScoreSlices(b, t + i, row, row_end, slices,
                      [&](size_t r, size_t n, size_t needed) HWY_ATTR {
                        Grid<Direct> part = grid_at(r);
                        part.groups = count;
                        part.x += 2 * g;
                        if (g > 0) part.from = part.c, part.from_stride = kKeyTile;
                        GridSlices(Expanded(part, b.w.expanded, width), n, needed);
                      });
        }
        continue;
      }
    }
    ScoreSlices(b, t + i, row, row_end, slices, [&](size_t r, size_t n, size_t needed) HWY_ATTR {
      GridSlices(grid_at(r), n, needed);
    });
  }
}

// Values of some slices of the head, from a tile of keys.
template <class C>
struct ValueSlices {
  using Direct = typename C::Direct;
  const Block<C>& b;
  const KeyTile& tile;
  size_t d, slices;
  const typename C::Lane* v;  // of the tile's first token
  size_t stride;              // lanes from one group of tokens to the next
  const float* expanded;      // nullptr: not
  size_t width;               // of expanded

  // Rows [r, r + n), tokens [begin, end) of the tile, both multiples of the group, w instead of v.
  HWY_INLINE Grid<Direct> GridFor(size_t r, const typename C::Lane* w, size_t begin,
                                  size_t groups) const {
    const size_t dim = b.layout.padded_dim, step = OutputsPerVector();
    float* c = b.ValuesOf(tile.chunk, r) + d;
    const size_t last = slices - 1;
    const size_t x = C::kPairsX ? begin / 2 : begin;
    return {{w, w + std::min<size_t>(1, last) * step, w + std::min<size_t>(2, last) * step,
             w + last * step},
            stride,
            reinterpret_cast<const typename C::X*>(b.ScoresOf(tile, r)) + x,
            kKeyTile,
            groups,
            c,
            dim,
            c,
            dim,
            d % kValuePart == 0 ? stride : 0};
  }

  // What all of the rows see, from and to whole groups.
  HWY_INLINE void AddWhole(size_t r, size_t n, size_t begin, size_t end) const {
    const size_t group = b.layout.group, first = begin / group;
    Grid<Direct> grid = GridFor(r, v + first * stride, begin, (end - begin) / group);
    if constexpr (C::kExpands) {
      if (expanded != nullptr) {
        return GridSlices(Expanded(grid, expanded + begin * width, width), n, slices);
      }
    }
    GridSlices(std::move(grid), n, slices);
  }

  // One token of a pair, whose partner does not count, whatever it is.
  HWY_INLINE void AddEdge(size_t r, size_t n, size_t token) const {
    auto* edge = reinterpret_cast<uint32_t*>(b.w.edge);
    const auto* pairs = reinterpret_cast<const uint32_t*>(v + token / 2 * stride);
    const VU32 keep = hn::Set(DU32(), token % 2 == 0 ? 0xFFFF0000u : 0x0000FFFFu);
    const size_t step = OutputsPerVector();
    for (size_t i = 0; i < slices; ++i) {
      hn::StoreU(hn::And(hn::LoadU(DU32(), pairs + i * step), keep), DU32(), edge + i * step);
    }
    GridSlices(GridFor(r, reinterpret_cast<const typename C::Lane*>(edge), token / 2 * 2, 1), n,
               slices);
  }

  // Any tokens [begin, end), straight from the cache.
  HWY_INLINE void AddAny(size_t r, size_t n, size_t begin, size_t end) const {
    if constexpr (C::kPairs) {
      if (begin % 2 != 0 && begin < end) AddEdge(r, n, begin++);
      const size_t even = end / 2 * 2;
      if (begin < even)
        GridSlices(GridFor(r, v + begin / 2 * stride, begin, (even - begin) / 2), n, slices);
      if (even < end && begin <= even) AddEdge(r, n, even);
    } else if (begin < end) {
      GridSlices(GridFor(r, v + begin * stride, begin, end - begin), n, slices);
    }
  }

  // Parts of rows [r, r + n) that begin and end where each row's view does: before `middle_begin`
  // (kBefore) or from `middle_end` on.
  template <bool kBefore>
  HWY_INLINE void AddEnds(size_t r, size_t n, size_t middle) const {
    for (const size_t end = r + n; r < end; r += n) {
      const KeyRange seen = b.Seen(r, tile.t);
      // Heads of one token see the same.
      for (n = 1;
           r + n < end && b.w.begin[r + n] == b.w.begin[r] && b.w.end[r + n] == b.w.end[r];) {
        ++n;
      }
      if (kBefore) {
        AddAny(r, n, seen.begin, middle);
      } else {
        AddAny(r, n, std::max(seen.begin, middle), seen.end);
      }
    }
  }

  // A few rows whose views begin or end within the tile: what all see, together; the rest apart.
  HWY_INLINE void AddPartly(size_t r, size_t n) const {
    const size_t group = b.layout.group;
    const size_t begin = (b.Seen(r + n - 1, tile.t).begin + group - 1) / group * group;
    const size_t end = b.Seen(r, tile.t).end / group * group;
    if (begin < end) {
      AddEnds<true>(r, n, begin);
      AddWhole(r, n, begin, end);
      AddEnds<false>(r, n, end);
    } else {
      AddEnds<false>(r, n, 0);
    }
  }

  // Rows that see all of the tile are added together.
  HWY_INLINE void AddRows() const {
    const size_t t = tile.t, end = t + kKeyTile, last = tile.rows.last;
    for (size_t r = tile.rows.first, n; r < last; r += n) {
      if (b.SeesTile(r, t)) {
        n = last - r;
        if (!b.AllSee(r, last, t, end)) {
          for (n = 1; b.AllSee(r, r + n + 1, t, end);) ++n;
        }
        AddWhole(r, n, 0, kKeyTile);
      } else {
        // Whole tokens, whose heads see the same, so that fewer ends are left over.
        const size_t group = b.task.group(), fit = Direct::kMostRows / group * group;
        const size_t most = std::min<size_t>(last - r, fit > 0 ? fit : Direct::kMostRows);
        for (n = 1; n < most && !b.SeesTile(r + n, t);) ++n;
        AddPartly(r, n);
      }
    }
  }
};

// chunk += weights . V of the tile's keys and rows, as far as each row sees.
template <class C>
HWY_NOINLINE void AddValues(const Block<C>& b, const KeyTile& tile) {
  [[maybe_unused]] const typename C::Scope scope;
  const size_t step = OutputsPerVector(), dim = b.layout.padded_dim;
  for (size_t d = 0; d < dim; d += 4 * step) {
    const size_t slices = std::min<size_t>(4, (dim - d) / step), width = slices * step;
    const size_t in_part = d % kValuePart, part = d - in_part, stride = b.layout.ValueStride(part);
    const auto* v = b.Values(tile) + b.layout.ValuePart(part) + in_part;
    const bool expand = C::kExpands && tile.rows.last - tile.rows.first >= kExpandRows;
    if constexpr (C::kExpands) {
      const typename C::Lane* w[] = {v, v + step, v + 2 * step, v + 3 * step};
      if (expand) Expand(w, stride, kKeyTile / 2, slices, b.ahead, width, b.w.expanded);
    }
    const ValueSlices<C> values = {
        b, tile, d, slices, v, stride, expand ? b.w.expanded : nullptr, width};
    values.AddRows();
  }
}

// ---------------------------------------------------------------- whole tiles, few rows
//
// The usual tiles of generation, all of which all rows see: with one grid for all of them, since
// what has to be done between two tiles is a tenth of what few rows take for one.

// How many tiles, from the first on, are whole: of few rows, and neither decoded nor expanded.
template <class C>
HWY_INLINE size_t CountWhole(const Block<C>& b, const KeyTile* tiles, const KeyTile* end) {
  const bool decodes = b.task.cache.type == HOB_CACHE_Q8_0;
  if (!b.Few() || decodes || (C::kExpands && b.rows >= kExpandRows)) return 0;
  size_t n = 0;
  while (tiles + n < end && tiles[n].whole) ++n;
  return n;
}

// And how many of `whole` such tiles of a chunk give their values together: those that lie one
// behind the other, if a row of them is read at once.
template <class C>
HWY_INLINE size_t CountTogether(const Block<C>& b, const KeyTile* tiles, size_t whole) {
  if (b.layout.padded_dim > 4 * OutputsPerVector()) return HWY_MIN(whole, 1);
  size_t n = 0;
  while (n < whole && tiles[n].lanes == tiles[0].lanes + n * b.layout.TileLanes()) ++n;
  return n;
}

// Scores() of whole tiles.
template <class C>
HWY_NOINLINE void WholeScores(const Block<C>& b, const KeyTile* tiles, size_t count) {
  using Direct = typename C::Direct;
  [[maybe_unused]] const typename C::Scope scope;
  const size_t step = OutputsPerVector(), group = b.layout.group;
  const size_t slices = std::min<size_t>(4, kKeyPage / step);
  Grid<Direct> grid = {{},
                       kKeyPage,
                       nullptr,
                       b.layout.padded_dim,
                       (b.task.cache.head_dim + group - 1) / group,
                       nullptr,
                       0,
                       nullptr,
                       kKeyTile,
                       0};
  for (const KeyTile* tile = tiles; tile < tiles + count; ++tile) {
    for (size_t i = 0; i < kKeyTile; i += slices * step) {
      const auto* keys = b.Keys(*tile) + i / kKeyPage * b.layout.page + i % kKeyPage;
      for (size_t s = 0; s < 4; ++s) grid.w[s] = keys + std::min(s, slices - 1) * step;
      grid.x = b.Queries(0);
      grid.c = b.ScoresOf(*tile, 0) + i;
      grid.row = i % kKeyPage == 0 ? kKeyPage : 0;
      GridSlices(std::move(grid), b.rows, slices);
    }
  }
}

// AddValues() of whole tiles that give their values together. opens: they are a chunk's first.
template <class C>
HWY_NOINLINE void AddWholeValues(const Block<C>& b, const KeyTile* tiles, size_t count,
                                 bool opens) {
  using Direct = typename C::Direct;
  [[maybe_unused]] const typename C::Scope scope;
  const size_t step = OutputsPerVector(), dim = b.layout.padded_dim;
  for (size_t d = 0; d < dim; d += 4 * step) {
    const size_t in_part = d % kValuePart, part = d - in_part, stride = b.layout.ValueStride(part);
    const ValueSlices<C> values = {
        b, tiles[0], d, std::min<size_t>(4, (dim - d) / step), nullptr, stride, nullptr, 0};
    const size_t groups = kKeyTile / b.layout.group;
    const auto* v = b.Values(tiles[0]) + b.layout.ValuePart(part) + in_part;
    Grid<Direct> grid = values.GridFor(0, v, 0, groups);
    if (opens) grid.from = nullptr;
    grid.times = count;
    grid.x_gap = b.rows * kKeyTile - groups * Direct::kSteps;
    GridSlices(std::move(grid), b.rows, values.slices);
  }
}

// ---------------------------------------------------------------- weights

// scores = softcap * tanh(scores), in powers of two.
HWY_INLINE void CapScores(float* scores, float softcap) {
  const DF32 df;
  const VF32 cap = hn::Set(df, softcap * kLog2E);
  for (size_t i = 0; i < kKeyTile; i += 2 * hn::Lanes(df)) {
    VF32 x0 = hn::LoadU(df, scores + i), x1 = hn::LoadU(df, scores + i + hn::Lanes(df));
    Tanh(x0, x1);
    hn::StoreU(hn::Mul(x0, cap), df, scores + i);
    hn::StoreU(hn::Mul(x1, cap), df, scores + i + hn::Lanes(df));
  }
}

// What a row does not see of a tile gets a score of -inf, so a weight of exactly 0; the others are
// capped.
template <class C>
HWY_INLINE void HideUnseen(const Block<C>& b, const KeyTile& tile) {
  const float softcap = b.task.options.softcap;
  if (tile.whole && softcap == 0.0f) return;
  for (size_t r = 0; r < b.rows; ++r) {
    float* scores = b.ScoresOf(tile, r);
    const KeyRange seen = b.Seen(r, tile.t);
    if (softcap != 0.0f && seen.begin < seen.end) CapScores(scores, softcap);
    std::fill(scores, scores + seen.begin, -HUGE_VALF);
    std::fill(scores + seen.end, scores + kKeyTile, -HUGE_VALF);
  }
}

// The largest score of row r of a chunk in each lane that is no NaN, or -inf.
template <class C>
HWY_INLINE VF32 LaneMaxima(const Block<C>& b, const Span& span, size_t chunk, size_t r) {
  const DF32 df;
  VF32 max = hn::Set(df, -HUGE_VALF);
  for (const KeyTile* tile = span.Begin(chunk); tile < span.End(chunk); ++tile) {
    const float* scores = b.ScoresOf(*tile, r);
    for (size_t i = 0; i < kKeyTile; i += hn::Lanes(df)) {
      max = LargerNumber(hn::LoadU(df, scores + i), max);
    }
  }
  return max;
}

// The rows' largest scores in a chunk.
template <class C>
HWY_NOINLINE void FindMaxima(const Block<C>& b, const Span& span, size_t chunk) {
  const DF32 df;
  const hn::CappedTag<float, 4> df4;
  for (size_t r = 0; r < b.rows; r += 4) {
    // Of rows that there are not, the first one's.
    const VF32 m0 = LaneMaxima(b, span, chunk, r);
    VF32 m1 = m0, m2 = m0, m3 = m0;
    if (r + 1 < b.rows) m1 = LaneMaxima(b, span, chunk, r + 1);
    if (r + 2 < b.rows) m2 = LaneMaxima(b, span, chunk, r + 2);
    if (r + 3 < b.rows) m3 = LaneMaxima(b, span, chunk, r + 3);
    VF32 max = MaximaOf4(df, m0, m1, m2, m3);
    if (hn::Lanes(df) > 4) max = hn::Max(max, hn::ReverseBlocks(df, max));
    if (hn::Lanes(df) > 8) max = hn::Max(max, hn::SwapAdjacentBlocks(max));
    hn::StoreU(hn::ResizeBitCast(df4, max), df4, b.w.max + b.Slot(chunk, r));
  }
}

// A tile's keys of a row whose number is `i` and on, modulo 16, as weights, not yet rounded.
template <bool kForBF16>
HWY_INLINE void WeightsOf(const float* scores, size_t i, VF32 shift, VF32& p0, VF32& p1, VF32& p2,
                          VF32& p3) {
  const DF32 df;
  p0 = hn::Sub(hn::LoadU(df, scores + i), shift);
  p1 = hn::Sub(hn::LoadU(df, scores + kPanel + i), shift);
  p2 = hn::Sub(hn::LoadU(df, scores + 2 * kPanel + i), shift);
  p3 = hn::Sub(hn::LoadU(df, scores + 3 * kPanel + i), shift);
  Exp2NonPositive<kForBF16>(p0, p1, p2, p3);
}
static_assert(kKeyTile == 4 * kPanel);

// The scores of a row become weights. Returns sum, one for each key modulo 16 (those from i on),
// with these added. A key that is not seen weighs 0, which changes no sum.
template <class C>
HWY_INLINE VF32 WeighKeys(float* scores, size_t i, VF32 shift, VF32 sum) {
  const DF32 df;
  VF32 p0, p1, p2, p3;
  WeightsOf<C::kPairs>(scores, i, shift, p0, p1, p2, p3);
  if constexpr (C::kPairs) {
    p0 = RoundWeightToBF16(p0), p1 = RoundWeightToBF16(p1);
    p2 = RoundWeightToBF16(p2), p3 = RoundWeightToBF16(p3);
  }
  hn::StoreU(p0, df, scores + i);
  hn::StoreU(p1, df, scores + kPanel + i);
  hn::StoreU(p2, df, scores + 2 * kPanel + i);
  hn::StoreU(p3, df, scores + 3 * kPanel + i);
  return hn::Add(hn::Add(hn::Add(hn::Add(sum, p0), p1), p2), p3);
}

// The same where weights are wanted in pairs, which is where a vector has 16 lanes and the CPU
// rounds to bf16: it never makes a normal weight subnormal, and there are no others. Its dot with
// ones adds as WeighKeys does, but for sums that are subnormal, which it takes for zero. They are
// too small to matter: some weight of the row was 1, so that sum16 is 1 or more, and what is
// added to its terms, or merged with them, rounds as if it were zero.
HWY_INLINE VF32 WeighPairs(float* scores, VF32 shift, VF32 sum) {
  const DF32 df;
  const DU32 du;
  VF32 p0, p1, p2, p3;
  WeightsOf<true>(scores, 0, shift, p0, p1, p2, p3);
  const VU32 first = RoundToHalves(p0, p1), second = RoundToHalves(p2, p3);
  hn::StoreU(hn::BitCast(df, hn::RotateRight<16>(first)), df, scores);
  hn::StoreU(hn::BitCast(df, hn::RotateRight<16>(second)), df, scores + kPanel);
  const VU32 ones = hn::Set(du, 0x3F803F80u);
  return BF16Dot(BF16Dot(sum, SplitHalves(first), ones), SplitHalves(second), ones);
}

// The rows' scores in a chunk become weights and sums. A function of its own, in which there are
// registers for all constants.
template <class C>
HWY_NOINLINE void Weigh(const Block<C>& b, const Span& span, size_t chunk) {
  const DF32 df;
  for (size_t r = 0; r < b.rows; ++r) {
    const VF32 shift = Shift(hn::Set(df, b.w.max[b.Slot(chunk, r)]));
    for (size_t i = 0; i < kPanel; i += hn::Lanes(df)) {
      VF32 sum = hn::Zero(df);
      for (const KeyTile* tile = span.Begin(chunk); tile < span.End(chunk); ++tile) {
        float* scores = b.ScoresOf(*tile, r);
        if constexpr (C::kPairsX) {
          sum = WeighPairs(scores, shift, sum);
        } else {
          sum = WeighKeys<C>(scores, i, shift, sum);
        }
      }
      hn::StoreU(sum, df, b.SumsOf(chunk, r) + i);
    }
  }
}

// ---------------------------------------------------------------- chunks

// scores of a span.
template <class C>
HWY_INLINE void SpanScores(const Block<C>& b, const Span& span) {
  for (const KeyTile* tile = span.tiles; tile < span.End();) {
    if (const size_t whole = CountWhole(b, tile, span.End())) {
      WholeScores(b, tile, whole);
      tile += whole;
      continue;
    }
    if constexpr (C::kPairs) {
      if (b.task.cache.type == HOB_CACHE_Q8_0) DecodeTile<true>(b, *tile);
    }
    Scores(b, *tile++);
  }
}

// A chunk's weights . V.
template <class C>
HWY_INLINE void ChunkValues(const Block<C>& b, const Span& span, size_t chunk) {
  const KeyTile *const begin = span.Begin(chunk), *const end = span.End(chunk);
  for (const KeyTile* tile = begin; tile < end;) {
    const size_t whole = CountWhole(b, tile, end);
    if (const size_t together = CountTogether(b, tile, whole)) {
      AddWholeValues(b, tile, together, tile == begin);
      tile += together;
      continue;
    }
    if (tile == begin) Clear(b.ValuesOf(chunk, 0), b.rows * b.layout.padded_dim);
    if constexpr (C::kPairs) {
      if (b.task.cache.type == HOB_CACHE_Q8_0) DecodeTile<false>(b, *tile);
    }
    AddValues(b, *tile++);
  }
}

// The chunks of keys [begin, end), at most SpanKeys, for the rows that see any of them.
template <class C>
HWY_INLINE Span SpanOf(const Block<C>& b, size_t begin, size_t end) {
  Span span;
  size_t chunks = 0, count = 0;
  for (size_t t = begin; t < end; ++chunks) {
    const size_t chunk_end = std::min(end, t + kKeyChunk);
    span.seen_by[chunks] = b.RowsThatSee(t, chunk_end);
    for (; t < chunk_end; t += kKeyTile) {
      const RowRange rows = b.RowsThatSee(t, t + kKeyTile);
      if (rows.first == rows.last) continue;
      const bool whole = b.AllSee(0, b.rows, t, t + kKeyTile);
      span.tiles[count] = {t, b.layout.Tile(t), count, chunks, rows, whole};
      ++count;
    }
    span.tiles_end[chunks] = count;
  }
  span.chunks = chunks;
  return span;
}

// What each chunk of a span gives from scratch: max, sums and chunk.
template <class C>
HWY_INLINE void AttendSpan(const Block<C>& b, const Span& span) {
  SpanScores(b, span);
  for (const KeyTile* tile = span.tiles; tile < span.End(); ++tile) HideUnseen(b, *tile);
  for (size_t chunk = 0; chunk < span.chunks; ++chunk) FindMaxima(b, span, chunk);
  for (size_t chunk = 0; chunk < span.chunks; ++chunk) Weigh(b, span, chunk);
  for (size_t chunk = 0; chunk < span.chunks; ++chunk) ChunkValues(b, span, chunk);
}

// The chunks of a span are merged into all, one after the other: first the factors of each, which
// wait for each other's maximum only, then rows and values.
template <class C>
HWY_NOINLINE void MergeSpan(const Block<C>& b, const Span& span) {
  const DF32 df;
  const Workspace& w = b.w;
  const size_t dim = b.layout.padded_dim;
  for (size_t chunk = 0; chunk < span.chunks; ++chunk) {
    for (size_t r = 0; r < b.rows; r += hn::Lanes(df)) {
      const size_t at = b.Slot(chunk, r);
      // Of rows that see nothing of the chunk -infinity.
      const VF32 found = hn::LoadU(df, w.max + at), all = hn::LoadU(df, w.all_max + r);
      const VF32 max = LargerNumber(found, all), shift = Shift(max);
      VF32 all_factor = hn::Sub(all, shift), factor = hn::Sub(found, shift);
      VF32 same0 = all_factor, same1 = factor;
      Exp2NonPositive<false>(all_factor, factor, same0, same1);
      hn::StoreU(all_factor, df, w.all_factor + at);
      hn::StoreU(factor, df, w.factor + at);
      hn::StoreU(max, df, w.all_max + r);
    }
  }
  for (size_t chunk = 0; chunk < span.chunks; ++chunk) {
    for (size_t r = span.seen_by[chunk].first; r < span.seen_by[chunk].last; ++r) {
      const float factor = w.factor[b.Slot(chunk, r)];
      const float all_factor = w.all_factor[b.Slot(chunk, r)];
      MergeRow(b.SumsOf(chunk, r), factor, w.all_sums + r * kPanel, all_factor, kPanel);
      MergeRow(b.ValuesOf(chunk, r), factor, w.all + r * dim, all_factor, dim);
    }
  }
}

// out = all / sum of sums.
HWY_INLINE void FinishRow(const float* sums, size_t padded_dim, size_t head_dim, float* all,
                          float* out) {
  const float sum = reference::SumOf16(sums);
  Scale(all, padded_dim, sum == 0.0f ? 0.0f : 1.0f / sum);
  std::memcpy(out, all, head_dim * sizeof(float));
}

template <class C>
Block<C> BlockOf(const AttentionTask& task, size_t kv_head, size_t row_begin, size_t row_end,
                 void* workspace) {
  const CacheView& cache = task.cache;
  const bool decodes = cache.type == HOB_CACHE_Q8_0;
  const Layout layout =
      decodes ? LayoutOf(HOB_CACHE_BF16, cache.head_dim, kKeyTile) : LayoutOf(cache);
  const size_t offset = kv_head * layout.head;
  const Workspace w = WorkspaceIn(workspace, cache.head_dim);
  using Lane = typename C::Lane;
  const auto lanes = [&](const void* cached) {
    return decodes ? reinterpret_cast<const Lane*>(w.tile)
                   : static_cast<const Lane*>(cached) + offset;
  };
  return {task,
          layout,
          w,
          kv_head,
          row_begin,
          row_end - row_begin,
          lanes(cache.keys),
          lanes(cache.values),
          decodes ? 0 : layout.TileLanes()};
}

template <class C>
void AttendAs(const AttentionTask& task, size_t kv_head, size_t row_begin, size_t row_end,
              void* workspace) {
  const Block<C> b = BlockOf<C>(task, kv_head, row_begin, row_end, workspace);
  const size_t dim = b.layout.padded_dim;
  Prepare(b);
  const size_t begin = b.w.begin[0] / kKeyChunk * kKeyChunk, end = b.w.end[b.rows - 1];
  for (size_t t = begin; t < end; t += b.SpanKeys()) {
    const Span span = SpanOf(b, t, std::min(end, t + b.SpanKeys()));
    AttendSpan(b, span);
    MergeSpan(b, span);
  }
  for (size_t r = 0; r < b.rows; ++r) {
    FinishRow(b.w.all_sums + r * kPanel, dim, task.cache.head_dim, b.w.all + r * dim,
              task.out + b.RowAt(r));
  }
}

void Attend(const AttentionTask& task, size_t kv_head, size_t row_begin, size_t row_end,
            void* workspace) {
  if (task.cache.type == HOB_CACHE_F32) {
    AttendAs<CacheF32>(task, kv_head, row_begin, row_end, workspace);
  } else {
    AttendAs<CacheBF16>(task, kv_head, row_begin, row_end, workspace);
  }
}

template <class C>
void AttendChunksAs(const AttentionTask& task, size_t kv_head, size_t chunk_begin, size_t chunk_end,
                    void* workspace, float* partials) {
  const Block<C> b = BlockOf<C>(task, kv_head, 0, task.m * task.group(), workspace);
  const size_t dim = b.layout.padded_dim, end = chunk_end * kKeyChunk;
  const PartialLayout layout(task);
  Prepare(b);
  for (size_t t = chunk_begin * kKeyChunk; t < end; t += b.SpanKeys()) {
    const Span span = SpanOf(b, t, std::min(end, t + b.SpanKeys()));
    AttendSpan(b, span);
    for (size_t chunk = 0; chunk < span.chunks; ++chunk) {
      for (size_t r = span.seen_by[chunk].first; r < span.seen_by[chunk].last; ++r) {
        float* record = partials + layout.At(kv_head, r, t / kKeyChunk + chunk);
        record[0] = b.w.max[b.Slot(chunk, r)];
        std::memcpy(record + kPanel, b.SumsOf(chunk, r), kPanel * sizeof(float));
        std::memcpy(record + 2 * kPanel, b.ValuesOf(chunk, r), dim * sizeof(float));
      }
    }
  }
}

void AttendChunks(const AttentionTask& task, size_t kv_head, size_t chunk_begin, size_t chunk_end,
                  void* workspace, float* partials) {
  if (task.cache.type == HOB_CACHE_F32) {
    AttendChunksAs<CacheF32>(task, kv_head, chunk_begin, chunk_end, workspace, partials);
  } else {
    AttendChunksAs<CacheBF16>(task, kv_head, chunk_begin, chunk_end, workspace, partials);
  }
}

// The record behind a row's last one holds what is merged so far.
void MergeChunks(const AttentionTask& task, size_t kv_head, float* partials) {
  const PartialLayout layout(task);
  const size_t group = task.group(), dim = task.cache.head_dim, padded = Padded(dim);
  for (size_t row = 0; row < layout.rows; ++row) {
    float* all = partials + layout.At(kv_head, row, layout.chunks);
    std::memset(all, 0, layout.record * sizeof(float));
    float all_max = -HUGE_VALF;
    const KeyRange keys = VisibleKeys(task.options, task.pos, task.m, row / group);
    for (size_t c = keys.begin / kKeyChunk; c * kKeyChunk < keys.end; ++c) {
      const float* chunk = partials + layout.At(kv_head, row, c);
      const float max = chunk[0] > all_max ? chunk[0] : all_max;
      const float all_factor = reference::Exp2NonPositive(all_max - Shift(max));
      const float chunk_factor = reference::Exp2NonPositive(chunk[0] - Shift(max));
      MergeRow(chunk + kPanel, chunk_factor, all + kPanel, all_factor, kPanel + padded);
      all_max = max;
    }
    FinishRow(all + kPanel, padded, dim, all + 2 * kPanel,
              task.out + (row / group * task.n_heads + kv_head * group + row % group) * dim);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace hob
HWY_AFTER_NAMESPACE();

namespace hob {

template <>
const AttentionKernels& KernelsOn<AttentionKernels, HWY_TARGET>() {
  static constexpr AttentionKernels kKernels = {HWY_NAMESPACE::AppendSimd, HWY_NAMESPACE::Attend,
                                                HWY_NAMESPACE::AttendChunks,
                                                HWY_NAMESPACE::MergeChunks};
  return kKernels;
}

#if HWY_ONCE
const AttentionKernels& AttentionFor(Target target) {
  static constexpr AttentionKernels kScalarKernels = {
      Append, reference::Attend, reference::AttendChunks, reference::MergeChunks};
  return FindKernels<AttentionKernels, HWY_TARGETS>(target, kScalarKernels);
}

const AttentionKernels& Attention() { return AttentionFor(ActiveTarget()); }

size_t CacheBytes(hob_cache_type type, size_t n_kv_heads, size_t head_dim, size_t capacity) {
  const Layout layout = LayoutOf(type, head_dim, WholeTiles(capacity));
  return n_kv_heads * layout.head * sizeof(uint32_t);
}

namespace {

// What attention sees of an element of a q8_0 cache.
float Decoded(int8_t code, float scale) {
  return reference::RoundToBF16(scale * static_cast<float>(code));
}

}  // namespace

float CachedKey(const CacheView& cache, size_t kv_head, size_t token, size_t d) {
  const Layout layout = LayoutOf(cache);
  if (cache.type == HOB_CACHE_Q8_0) {
    const size_t t = token % kKeyPage;
    const Q8Page page =
        Q8PageAt(layout, static_cast<uint32_t*>(cache.keys) + kv_head * layout.head, token);
    return Decoded(page.codes[d * kKeyPage + t], page.scales[d / kBlock * kKeyPage + t]);
  }
  const size_t lane = kv_head * layout.head + layout.Key(token, d);
  if (cache.type == HOB_CACHE_F32) return static_cast<const float*>(cache.keys)[lane];
  return Half(static_cast<const uint32_t*>(cache.keys)[lane], d % 2);
}

float CachedValue(const CacheView& cache, size_t kv_head, size_t token, size_t d) {
  const Layout layout = LayoutOf(cache);
  if (cache.type == HOB_CACHE_Q8_0) {
    const size_t t = token % kKeyPage;
    const Q8Page page =
        Q8PageAt(layout, static_cast<uint32_t*>(cache.values) + kv_head * layout.head, token);
    return Decoded(page.codes[t * layout.padded_dim + d],
                   page.scales[t * Q8Blocks(cache.head_dim) + d / kBlock]);
  }
  const size_t lane = kv_head * layout.head + layout.Value(token, d);
  if (cache.type == HOB_CACHE_F32) return static_cast<const float*>(cache.values)[lane];
  return Half(static_cast<const uint32_t*>(cache.values)[lane], token % 2);
}

CacheView HeadsOf(const CacheView& cache, size_t begin, size_t count) {
  CacheView heads = cache;
  heads.n_kv_heads = count;
  const size_t lane = begin * LayoutOf(cache).head;
  heads.keys = static_cast<uint32_t*>(cache.keys) + lane;
  heads.values = static_cast<uint32_t*>(cache.values) + lane;
  return heads;
}

void PrefetchTile(const CacheView& cache, size_t kv_head, size_t token) {
  const Layout layout = LayoutOf(cache);
  const size_t tile = kv_head * layout.head + layout.Tile(token);
  for (const void* half : {cache.keys, cache.values}) {
    const auto* lanes = static_cast<const uint32_t*>(half) + tile;
    for (size_t i = 0; i < layout.TileLanes(); i += kPanel) hwy::Prefetch(lanes + i);
  }
}

size_t AttentionWorkspace(size_t head_dim) { return WorkspaceIn(nullptr, head_dim).bytes; }

PartialLayout::PartialLayout(const AttentionTask& task)
    : rows(task.m * task.group()),
      chunks((task.tokens() + kKeyChunk - 1) / kKeyChunk),
      record(2 * kPanel + Padded(task.cache.head_dim)) {}

size_t AttentionPartialBytes(const CacheView& cache, size_t rows, size_t tokens) {
  const size_t records = cache.n_kv_heads * rows * ((tokens + kKeyChunk - 1) / kKeyChunk + 1);
  return records * (2 * kPanel + Padded(cache.head_dim)) * sizeof(float);
}

namespace {

size_t CeilDiv(size_t a, size_t b) { return (a + b - 1) / b; }

// Chunks [begin, end) that some row of the task sees.
KeyRange ChunksOf(const AttentionTask& task) {
  const size_t first = VisibleKeys(task.options, task.pos, task.m, 0).begin;
  const size_t end = VisibleKeys(task.options, task.pos, task.m, task.m - 1).end;
  return {first / kKeyChunk, CeilDiv(end, kKeyChunk)};
}

}  // namespace

AttentionDivision DivideAttention(const AttentionTask& task, size_t participants) {
  // Units for each participant, so that a slow one does not hold up the others; no fewer rows in a
  // unit than two tiles of registers, if there are.
  constexpr size_t kUnitsEach = 4, kLeastRows = 12;
  const size_t kv_heads = task.cache.n_kv_heads, rows = task.m * task.group();
  const size_t wanted = participants > 1 ? CeilDiv(kUnitsEach * participants, kv_heads) : 1;
  const KeyRange chunks = ChunksOf(task);
  if (wanted > 1 && rows <= kSplitRows && chunks.end - chunks.begin > 1) {
    const size_t parts = std::min(wanted, chunks.end - chunks.begin);
    return {rows, 1, parts, parts * kv_heads};
  }
  const size_t block = CeilDiv(CeilDiv(rows, wanted), kLeastRows) * kLeastRows;
  const size_t row_block = std::min(block, kRowBlock);
  const size_t row_blocks = CeilDiv(rows, row_block);
  return {row_block, row_blocks, 1, row_blocks * kv_heads};
}

UnitShare ShareOf(const AttentionTask& task, const AttentionDivision& division, size_t unit) {
  const size_t rows = task.m * task.group(), units = division.row_blocks * division.parts;
  const size_t head = unit / units, part = unit % units;
  const KeyRange chunks = ChunksOf(task);
  if (division.parts == 1) {
    const size_t begin = part * division.row_block;
    return {head, begin, std::min(rows, begin + division.row_block), chunks};
  }
  const size_t count = chunks.end - chunks.begin;
  return {head,
          0,
          rows,
          {chunks.begin + count * part / division.parts,
           chunks.begin + count * (part + 1) / division.parts}};
}

void AttentionUnit(const AttentionTask& task, const AttentionDivision& division, size_t unit,
                   void* workspace, float* partials) {
  const UnitShare share = ShareOf(task, division, unit);
  if (division.parts == 1) {
    Attention().attend(task, share.kv_head, share.row_begin, share.row_end, workspace);
  } else {
    Attention().attend_chunks(task, share.kv_head, share.chunks.begin, share.chunks.end, workspace,
                              partials);
  }
}

void AttentionMerge(const AttentionTask& task, size_t kv_head, float* partials) {
  Attention().merge_chunks(task, kv_head, partials);
}
#endif  // HWY_ONCE

}  // namespace hob
