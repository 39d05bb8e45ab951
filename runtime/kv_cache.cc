// See kv_cache.h.
#include "runtime/kv_cache.h"

#include <algorithm>
#include <cstdint>
#include <new>
#include <vector>

#include "runtime/aligned_buffer.h"

namespace hob {
namespace {

// What attention of few rows goes through at a time, so that it reads a KV head's keys of a segment
// and then its values, which follow them, front to back.
constexpr size_t kSegmentTokens = 1024;
static_assert(kSegmentTokens % kKeyTile == 0);

// Moved to large pages at a time: it takes a few milliseconds.
constexpr size_t kGatheredBytes = size_t{8} << 20;

// The shape with the segments of all layers.
CacheView ShapeOf(hob_cache_type type, size_t layers, size_t n_kv_heads, size_t head_dim,
                  size_t capacity) {
  const size_t segment = std::min(kSegmentTokens, RoundUp(capacity, kKeyTile));
  const size_t half = CacheBytes(type, n_kv_heads, head_dim, segment);
  if (half > SIZE_MAX / 2 / layers) throw std::bad_alloc();
  return {.type = type,
          .n_kv_heads = n_kv_heads,
          .head_dim = head_dim,
          .capacity = capacity,
          .keys = nullptr,
          .values = nullptr,
          .segment = segment,
          .segment_bytes = 2 * layers * half,
          .head_bytes = 2 * CachePrefixBytes(type, head_dim, segment)};
}

size_t ReservedBytes(const CacheView& shape) {
  const size_t segments = RoundUp(shape.capacity, shape.segment) / shape.segment;
  if (shape.segment_bytes > SIZE_MAX / segments) throw std::bad_alloc();
  return segments * shape.segment_bytes;
}

}  // namespace

KvCache::KvCache(hob_cache_type type, size_t layers, size_t n_kv_heads, size_t head_dim,
                 size_t capacity)
    : layers_(layers),
      shape_(ShapeOf(type, layers, n_kv_heads, head_dim, capacity)),
      memory_(ReservedBytes(shape_)) {}

CacheView KvCache::Layer(size_t layer) const {
  CacheView view = shape_;
  uint8_t* keys = memory_.data() + layer * shape_.n_kv_heads * shape_.head_bytes;
  view.keys = keys;
  view.values = keys + shape_.head_bytes / 2;
  return view;
}

size_t KvCache::Segments(size_t tokens) const {
  return RoundUp(tokens, shape_.segment) / shape_.segment;
}

void KvCache::Extend(size_t tokens) {
  const size_t full = touched_ / shape_.segment * shape_.segment_bytes;
  if (gathered_ < full) {
    const size_t end = std::min(full, gathered_ + kGatheredBytes);
    memory_.UseLargePages(gathered_, end);
    gathered_ = end;
  }
  touched_ = std::max(touched_, tokens);
}

void KvCache::Shrink(size_t tokens) {
  const size_t first = Segments(tokens), end = Segments(touched_);
  if (first >= end) return;
  memory_.Discard(first * shape_.segment_bytes, end * shape_.segment_bytes);
  touched_ = std::min(touched_, first * shape_.segment);
  gathered_ = std::min(gathered_, first * shape_.segment_bytes);
}

void KvCache::ClearTileBehind(size_t tokens) const {
  const size_t count = RoundUp(tokens, kKeyTile) - tokens;
  if (count == 0) return;
  // Zeros as tokens: whatever the cache's type, they are stored as it stores zeros.
  const std::vector<float> zeros(shape_.n_kv_heads * shape_.head_dim);
  for (size_t layer = 0; layer < layers_; ++layer) {
    constexpr size_t kSameRow = 0;
    AttentionFor(kScalar).append(Layer(layer), tokens, count, zeros.data(), zeros.data(), kSameRow);
  }
}

}  // namespace hob
