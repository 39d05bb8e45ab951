// Attention in SIMD. For one KV head and a block of query rows:
//
//   for each chunk of 256 keys                                  from scratch, merged in order
//     for each tile of 64 keys that some row sees
//       scores   s = K . q              tile-inl.h, lanes are tokens
//       weights  p = 2^(s - max)        16 virtual lanes, no horizontal sum
//       values   out += p . V           tile-inl.h, lanes are elements of the head
//
// All rows of the block stream over one load of the tile. Tiles above the diagonal are never
// touched; on the diagonal a row's chain ends at its own token, so that what is behind it (another
// token, or what a rewind left there) cannot reach the result. Compare reference.cc. Tested by
// tests/attention_test.cc.

#include "kernels/attention.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>

#include "kernels/exp_constants.h"
#include "kernels/formats.h"
#include "kernels/reference.h"

#ifndef HOB_ATTENTION_ONCE
#define HOB_ATTENTION_ONCE
namespace hob {
namespace {

// Sizes of a cache, in 32-bit lanes: an f32, or a pair of bf16.
struct Layout {
  size_t group;       // elements in a lane: 1 or 2
  size_t padded_dim;  // head_dim, padded to 16
  size_t page;        // lanes of a page of 16 keys
  size_t head;        // lanes of one KV head, of keys and of values
};

Layout LayoutOf(hob_cache_type type, size_t head_dim, size_t capacity) {
  const size_t group = type == HOB_CACHE_BF16 ? 2 : 1;
  const size_t padded = (head_dim + kPanel - 1) / kPanel * kPanel;
  const size_t tokens = (capacity + kKeyTile - 1) / kKeyTile * kKeyTile;
  return {group, padded, padded / group * kPanel, tokens * padded / group};
}

Layout LayoutOf(const CacheView& cache) {
  return LayoutOf(cache.type, cache.head_dim, cache.capacity);
}

// Lane index of key element d of token t, and of value element d.
size_t KeyLane(const Layout& layout, size_t t, size_t d) {
  return t / kPanel * layout.page + d / layout.group * kPanel + t % kPanel;
}
size_t ValueLane(const Layout& layout, size_t t, size_t d) {
  return t / layout.group * layout.padded_dim + d;
}

// Puts bf16 `bits` (in the high half) into the high or, i = 1, the low half of a lane. Writing the
// high half clears the low one, so the partner of a last even token is zero.
uint32_t WithHalf(uint32_t lane, size_t i, uint32_t bits) {
  return i == 0 ? bits : (lane & 0xFFFF0000) | bits >> 16;
}

float Half(uint32_t lane, size_t i) {
  return std::bit_cast<float>(i == 0 ? lane & 0xFFFF0000 : lane << 16);
}

// The buffers of one unit of work, all in 32-bit lanes; rows as in AttentionTask.
struct Workspace {
  float* q;        // (kRowBlock, padded_dim) prepared: f32, or pairs
  float* scores;   // (kRowBlock, kKeyTile)
  float* weights;  // (kRowBlock, kKeyTile) f32, or pairs
  float* chunk;    // (kRowBlock, padded_dim) values of this chunk
  float* all;      // (kRowBlock, padded_dim) values of the chunks so far
  float* last;     // (padded_dim) a last token's values without its partner
  float* sums;     // (kRowBlock, 2, 16) of this chunk, of all
  float* maxima;   // (kRowBlock, 2)
  size_t lanes;    // in total
};

Workspace WorkspaceIn(void* buffer, size_t head_dim) {
  const size_t padded = (head_dim + kPanel - 1) / kPanel * kPanel;
  float* at = static_cast<float*>(buffer);
  size_t lanes = 0;
  const auto take = [&](size_t count) {
    lanes += count;
    return at == nullptr ? nullptr : at + lanes - count;
  };
  Workspace w;
  w.q = take(kRowBlock * padded);
  w.scores = take(kRowBlock * kKeyTile);
  w.weights = take(kRowBlock * kKeyTile);
  w.chunk = take(kRowBlock * padded);
  w.all = take(kRowBlock * padded);
  w.last = take(padded);
  w.sums = take(kRowBlock * 2 * kPanel);
  w.maxima = take(kRowBlock * 2);
  w.lanes = lanes;
  return w;
}

void Append(const CacheView& cache, size_t pos, size_t m, const float* k, const float* v,
            size_t stride) {
  const Layout layout = LayoutOf(cache);
  const bool pairs = cache.type == HOB_CACHE_BF16;
  const auto store = [&](uint32_t* lane, size_t half, float x) {
    if (pairs) x = reference::RoundToBF16(x);
    const uint32_t bits = std::bit_cast<uint32_t>(x);
    *lane = pairs ? WithHalf(*lane, half, bits) : bits;
  };
  for (size_t h = 0; h < cache.n_kv_heads; ++h) {
    uint32_t* keys = static_cast<uint32_t*>(cache.keys) + h * layout.head;
    uint32_t* values = static_cast<uint32_t*>(cache.values) + h * layout.head;
    for (size_t i = 0; i < m; ++i) {
      const float* key = k + i * stride + h * cache.head_dim;
      const float* value = v + i * stride + h * cache.head_dim;
      const size_t t = pos + i;
      for (size_t d = 0; d < cache.head_dim; ++d) {
        store(keys + KeyLane(layout, t, d), d % 2, key[d]);
        store(values + ValueLane(layout, t, d), t % 2, value[d]);
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
#include "kernels/tile-inl.h"

HWY_BEFORE_NAMESPACE();
namespace hob {
namespace HWY_NAMESPACE {

// How a cache type's elements go through the tile.
struct CacheF32 : ElementF32 {
  // One row of q, scaled.
  static HWY_INLINE void PrepareQuery(const float* q, float scale, size_t head_dim, float* out) {
    for (size_t d = 0; d < head_dim; ++d) out[d] = q[d] * scale;
  }
  // What the values are multiplied with.
  static HWY_INLINE VF32 Weight(VF32 p) { return p; }
  static HWY_INLINE void StoreWeights(const float* p, float* out) {
    std::memcpy(out, p, kKeyTile * sizeof(float));
  }
};

struct CacheBF16 : ElementBF16 {
  static HWY_INLINE void PrepareQuery(const float* q, float scale, size_t head_dim, float* out) {
    auto* pairs = reinterpret_cast<uint32_t*>(out);
    for (size_t d = 0; d < head_dim; d += 2) {
      const float scaled[2] = {q[d] * scale, d + 1 < head_dim ? q[d + 1] * scale : 0.0f};
      reference::ToBF16Pairs(scaled, 2, pairs + d / 2);
    }
  }
  static HWY_INLINE VF32 Weight(VF32 p) { return hn::BitCast(DF32(), RoundToBF16(p)); }
  // The weights are bf16 already: pairs are only put together.
  static HWY_INLINE void StoreWeights(const float* p, float* out) {
    const DU32 du;
    auto* pairs = reinterpret_cast<uint32_t*>(out);
    const auto* bits = reinterpret_cast<const uint32_t*>(p);
    for (size_t i = 0; i < kKeyTile / 2; i += hn::Lanes(du)) {
      VU32 even, odd;
      hn::LoadInterleaved2(du, bits + 2 * i, even, odd);
      hn::StoreU(hn::Or(even, hn::ShiftRight<16>(odd)), du, pairs + i);
    }
  }
};

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

// The largest of the first `count` scores that is no NaN, or -inf; the rest are set to -inf, which
// gives them a weight of exactly 0.
HWY_INLINE float TileMax(float* scores, size_t count) {
  const DF32 df;
  std::fill(scores + count, scores + kKeyTile, -HUGE_VALF);
  VF32 max = hn::Set(df, -HUGE_VALF);
  for (size_t i = 0; i < kKeyTile; i += hn::Lanes(df)) {
    const VF32 v = hn::LoadU(df, scores + i);
    max = hn::IfThenElse(hn::Gt(v, max), v, max);
  }
  return hn::ReduceMax(df, max);
}

HWY_INLINE float Shift(float max) { return max == -HUGE_VALF ? 0.0f : max; }

// One row's scores (64, the first `count` visible) become weights; its sums (16) and values are
// rescaled to the new maximum.
template <class C>
HWY_INLINE void Weigh(float* scores, size_t count, float* max, float* sums, float* values,
                      size_t padded_dim, float* weights) {
  const DF32 df;
  const float tile_max = TileMax(scores, count);
  const float new_max = tile_max > *max ? tile_max : *max;
  const float factor = reference::Exp2NonPositive(*max - Shift(new_max));
  const VF32 shift = hn::Set(df, Shift(new_max));
  *max = new_max;
  for (size_t i = 0; i < kPanel; i += hn::Lanes(df)) {
    VF32 sum = hn::Mul(hn::LoadU(df, sums + i), hn::Set(df, factor));
    for (size_t j = i; j < kKeyTile; j += kPanel) {
      const VF32 p = C::Weight(Exp2NonPositive(hn::Sub(hn::LoadU(df, scores + j), shift)));
      hn::StoreU(p, df, scores + j);
      sum = hn::Add(sum, p);
    }
    hn::StoreU(sum, df, sums + i);
  }
  Scale(values, padded_dim, factor);
  C::StoreWeights(scores, weights);
}

// The unit of work: one KV head, rows [row_begin, row_begin + rows). Row r of the block sees
// Visible(r) keys, which never falls with r.
template <class C>
struct Block {
  using Lane = typename C::W;
  const AttentionTask& task;
  Layout layout;
  Workspace w;
  size_t kv_head, row_begin, rows, heads_per_kv;
  const Lane* keys;  // of this KV head
  const Lane* values;

  size_t Visible(size_t r) const { return task.pos + (row_begin + r) / heads_per_kv + 1; }

  // Offset of block row r in q and out.
  size_t RowAt(size_t r) const {
    const size_t row = row_begin + r;
    const size_t head = kv_head * heads_per_kv + row % heads_per_kv;
    return (row / heads_per_kv * task.n_heads + head) * task.cache.head_dim;
  }

  // The first row that sees more than `t` keys.
  size_t FirstRowBeyond(size_t t) const {
    size_t r = 0;
    while (r < rows && Visible(r) <= t) ++r;
    return r;
  }

  size_t QueryStride() const { return layout.padded_dim / layout.group; }
};

template <class C>
HWY_INLINE void Prepare(const Block<C>& b) {
  const float scale = b.task.scale * kLog2E;
  const size_t dim = b.task.cache.head_dim;
  for (size_t r = 0; r < b.rows; ++r) {
    C::PrepareQuery(b.task.q + b.RowAt(r), scale, dim, b.w.q + r * b.QueryStride());
    b.w.maxima[2 * r + 1] = -HUGE_VALF;
  }
  std::memset(b.w.all, 0, b.rows * b.layout.padded_dim * sizeof(float));
  std::memset(b.w.sums, 0, b.rows * 2 * kPanel * sizeof(float));
}

// scores of rows [first, rows) against the 64 keys from t on.
template <class C>
HWY_INLINE void Scores(const Block<C>& b, size_t t, size_t first) {
  const size_t step = OutputsPerVector();
  const size_t groups = (b.task.cache.head_dim + b.layout.group - 1) / b.layout.group;
  const auto* tile = b.keys + t / kPanel * b.layout.page;
  const auto* q = reinterpret_cast<const typename C::X*>(b.w.q) + first * b.QueryStride();
  float* scores = b.w.scores + first * kKeyTile;
  std::memset(scores, 0, (b.rows - first) * kKeyTile * sizeof(float));
  for (size_t i = 0; i < kKeyTile; i += 2 * step) {
    const size_t j = i + step;
    TileRows<C>(tile + i / kPanel * b.layout.page + i % kPanel,
                tile + j / kPanel * b.layout.page + j % kPanel, kPanel, q, b.QueryStride(), groups,
                b.rows - first, scores + i, kKeyTile, step);
  }
}

// values[rows][padded_dim] += weights . V over `groups` groups of tokens.
template <class C>
HWY_INLINE void AddValues(const Block<C>& b, const typename C::W* v, size_t row, size_t rows,
                          size_t first_group, size_t groups) {
  const size_t step = OutputsPerVector(), dim = b.layout.padded_dim;
  const auto* p =
      reinterpret_cast<const typename C::X*>(b.w.weights) + row * kKeyTile + first_group;
  for (size_t d = 0; d < dim; d += 2 * step) {
    // An odd last slice is its own partner: both compute and store the same.
    const size_t gap = d + step < dim ? step : 0;
    TileRows<C>(v + d, v + d + gap, dim, p, kKeyTile, groups, rows, b.w.chunk + row * dim + d, dim,
                gap);
  }
}

// A row whose chain ends inside the tile, after `count` tokens.
template <class C>
HWY_INLINE void AddValuesUpTo(const Block<C>& b, const typename C::W* v, size_t row, size_t count) {
  const size_t whole = count / b.layout.group;
  AddValues(b, v, row, 1, 0, whole);
  if (count % b.layout.group == 0) return;
  // The last token's partner does not count, whatever it is.
  auto* last = reinterpret_cast<uint32_t*>(b.w.last);
  const auto* pairs = reinterpret_cast<const uint32_t*>(v + whole * b.layout.padded_dim);
  for (size_t d = 0; d < b.layout.padded_dim; ++d) last[d] = pairs[d] & 0xFFFF0000;
  AddValues(b, reinterpret_cast<const typename C::W*>(last), row, 1, whole, 1);
}

// One tile for the rows that see any of it.
template <class C>
HWY_INLINE void AddTile(const Block<C>& b, size_t t) {
  const size_t first = b.FirstRowBeyond(t), whole = b.FirstRowBeyond(t + kKeyTile - 1);
  const size_t dim = b.layout.padded_dim;
  Scores(b, t, first);
  for (size_t r = first; r < b.rows; ++r) {
    Weigh<C>(b.w.scores + r * kKeyTile, std::min(kKeyTile, b.Visible(r) - t), b.w.maxima + 2 * r,
             b.w.sums + 2 * r * kPanel, b.w.chunk + r * dim, dim, b.w.weights + r * kKeyTile);
  }
  const auto* v = b.values + t / b.layout.group * dim;
  for (size_t r = first; r < whole; ++r) AddValuesUpTo(b, v, r, b.Visible(r) - t);
  AddValues(b, v, whole, b.rows - whole, 0, kKeyTile / b.layout.group);
}

template <class C>
HWY_INLINE void MergeChunk(const Block<C>& b, size_t r) {
  float* maxima = b.w.maxima + 2 * r;
  float* sums = b.w.sums + 2 * r * kPanel;
  const size_t dim = b.layout.padded_dim;
  const float max = maxima[0] > maxima[1] ? maxima[0] : maxima[1];
  const float all_factor = reference::Exp2NonPositive(maxima[1] - Shift(max));
  const float chunk_factor = reference::Exp2NonPositive(maxima[0] - Shift(max));
  MergeRow(sums, chunk_factor, sums + kPanel, all_factor, kPanel);
  MergeRow(b.w.chunk + r * dim, chunk_factor, b.w.all + r * dim, all_factor, dim);
  maxima[1] = max;
}

template <class C>
void AttendBlock(const Block<C>& b) {
  const size_t dim = b.layout.padded_dim, visible = b.Visible(b.rows - 1);
  Prepare(b);
  for (size_t chunk = 0; chunk < visible; chunk += kKeyChunk) {
    const size_t first = b.FirstRowBeyond(chunk);
    for (size_t r = first; r < b.rows; ++r) {
      b.w.maxima[2 * r] = -HUGE_VALF;
      std::memset(b.w.sums + 2 * r * kPanel, 0, kPanel * sizeof(float));
      std::memset(b.w.chunk + r * dim, 0, dim * sizeof(float));
    }
    const size_t end = std::min(visible, chunk + kKeyChunk);
    for (size_t t = chunk; t < end; t += kKeyTile) AddTile(b, t);
    for (size_t r = first; r < b.rows; ++r) MergeChunk(b, r);
  }
  for (size_t r = 0; r < b.rows; ++r) {
    const float sum = reference::SumOf16(b.w.sums + (2 * r + 1) * kPanel);
    Scale(b.w.all + r * dim, dim, sum == 0.0f ? 0.0f : 1.0f / sum);
    std::memcpy(b.task.out + b.RowAt(r), b.w.all + r * dim, b.task.cache.head_dim * sizeof(float));
  }
}

template <class C>
void AttendAs(const AttentionTask& task, size_t kv_head, size_t row_begin, size_t row_end,
              void* workspace) {
  const CacheView& cache = task.cache;
  const Layout layout = LayoutOf(cache);
  const size_t offset = kv_head * layout.head;
  using Lane = typename C::W;
  AttendBlock<C>({task, layout, WorkspaceIn(workspace, cache.head_dim), kv_head, row_begin,
                  row_end - row_begin, task.n_heads / cache.n_kv_heads,
                  static_cast<const Lane*>(cache.keys) + offset,
                  static_cast<const Lane*>(cache.values) + offset});
}

void Attend(const AttentionTask& task, size_t kv_head, size_t row_begin, size_t row_end,
            void* workspace) {
  if (task.cache.type == HOB_CACHE_BF16) {
    AttendAs<CacheBF16>(task, kv_head, row_begin, row_end, workspace);
  } else {
    AttendAs<CacheF32>(task, kv_head, row_begin, row_end, workspace);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace hob
HWY_AFTER_NAMESPACE();

namespace hob {

template <>
const AttentionKernels& KernelsOn<AttentionKernels, HWY_TARGET>() {
  static constexpr AttentionKernels kKernels = {Append, HWY_NAMESPACE::Attend};
  return kKernels;
}

#if HWY_ONCE
const AttentionKernels& AttentionFor(Target target) {
  static constexpr AttentionKernels kScalarKernels = {Append, reference::Attend};
  return FindKernels<AttentionKernels, HWY_TARGETS>(target, kScalarKernels);
}

const AttentionKernels& Attention() { return AttentionFor(ActiveTarget()); }

size_t CacheBytes(hob_cache_type type, size_t n_kv_heads, size_t head_dim, size_t capacity) {
  return n_kv_heads * LayoutOf(type, head_dim, capacity).head * sizeof(uint32_t);
}

float CachedKey(const CacheView& cache, size_t kv_head, size_t token, size_t d) {
  const Layout layout = LayoutOf(cache);
  const size_t lane = kv_head * layout.head + KeyLane(layout, token, d);
  if (cache.type == HOB_CACHE_F32) return static_cast<const float*>(cache.keys)[lane];
  return Half(static_cast<const uint32_t*>(cache.keys)[lane], d % 2);
}

float CachedValue(const CacheView& cache, size_t kv_head, size_t token, size_t d) {
  const Layout layout = LayoutOf(cache);
  const size_t lane = kv_head * layout.head + ValueLane(layout, token, d);
  if (cache.type == HOB_CACHE_F32) return static_cast<const float*>(cache.values)[lane];
  return Half(static_cast<const uint32_t*>(cache.values)[lane], token % 2);
}

size_t AttentionWorkspace(size_t head_dim) {
  return (WorkspaceIn(nullptr, head_dim).lanes * sizeof(float) + 63) / 64 * 64;
}

size_t AttentionUnits(const AttentionTask& task) {
  const size_t rows = task.m * (task.n_heads / task.cache.n_kv_heads);
  return (rows + kRowBlock - 1) / kRowBlock * task.cache.n_kv_heads;
}

void AttentionUnit(const AttentionTask& task, size_t unit, void* workspace) {
  const size_t rows = task.m * (task.n_heads / task.cache.n_kv_heads);
  const size_t begin = unit / task.cache.n_kv_heads * kRowBlock;
  Attention().attend(task, unit % task.cache.n_kv_heads, begin, std::min(rows, begin + kRowBlock),
                     workspace);
}
#endif  // HWY_ONCE

}  // namespace hob
