// See kv_cache.h.
#include "runtime/kv_cache.h"

#include <algorithm>
#include <cstdint>
#include <new>
#include <vector>

#include "runtime/aligned_buffer.h"

namespace hob {
namespace {

// A few large pages of even a small model: smollm2-135m's 512 tokens are 11.8 MB.
constexpr size_t kSegmentTokens = 512;
static_assert(kSegmentTokens % kKeyTile == 0);

// The shape with the segments of all layers.
CacheView ShapeOf(hob_cache_type type, size_t layers, size_t n_kv_heads, size_t head_dim,
                  size_t capacity) {
  const size_t segment = std::min(kSegmentTokens, RoundUp(capacity, kKeyTile));
  const size_t half = CacheBytes(type, n_kv_heads, head_dim, segment);
  if (half > SIZE_MAX / 2 / layers) throw std::bad_alloc();
  return {type, n_kv_heads, head_dim, capacity, nullptr, nullptr, segment, 2 * layers * half};
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
  const size_t half = shape_.segment_bytes / (2 * layers_);
  CacheView view = shape_;
  view.keys = memory_.data() + 2 * layer * half;
  view.values = memory_.data() + (2 * layer + 1) * half;
  return view;
}

size_t KvCache::Segments(size_t tokens) const {
  return RoundUp(tokens, shape_.segment) / shape_.segment;
}

void KvCache::Extend(size_t tokens) {
  // One at a time: copying a segment to large pages takes some milliseconds.
  if (gathered_ < touched_ / shape_.segment) {
    memory_.UseLargePages(gathered_ * shape_.segment_bytes, (gathered_ + 1) * shape_.segment_bytes);
    ++gathered_;
  }
  touched_ = std::max(touched_, tokens);
}

void KvCache::Shrink(size_t tokens) {
  const size_t first = Segments(tokens), end = Segments(touched_);
  if (first >= end) return;
  memory_.Discard(first * shape_.segment_bytes, end * shape_.segment_bytes);
  touched_ = std::min(touched_, first * shape_.segment);
  gathered_ = std::min(gathered_, first);
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
