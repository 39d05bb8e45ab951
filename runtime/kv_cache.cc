// See kv_cache.h.
#include "runtime/kv_cache.h"

#include <algorithm>
#include <cstdint>
#include <new>
#include <vector>

#include "runtime/aligned_buffer.h"

namespace hob {
namespace {

// Less than this in a stripe is not worth a call of the system: it is soon written again.
constexpr size_t kWorthGivingBack = size_t{1} << 16;

size_t ReservedBytes(size_t layers, size_t half_bytes) {
  if (half_bytes > SIZE_MAX / 2 / layers) throw std::bad_alloc();
  return 2 * layers * half_bytes;
}

}  // namespace

KvCache::KvCache(hob_cache_type type, size_t layers, size_t n_kv_heads, size_t head_dim,
                 size_t capacity)
    : shape_{type, n_kv_heads, head_dim, capacity, nullptr, nullptr},
      half_bytes_(RoundUp(CacheBytes(type, n_kv_heads, head_dim, capacity), kAlignment)),
      stripe_bytes_(CacheBytes(type, 1, head_dim, capacity)),
      layers_(layers),
      stripes_(2 * layers * n_kv_heads),
      memory_(ReservedBytes(layers, half_bytes_)) {}

CacheView KvCache::Layer(size_t layer) const {
  CacheView view = shape_;
  view.keys = memory_.data() + 2 * layer * half_bytes_;
  view.values = memory_.data() + (2 * layer + 1) * half_bytes_;
  return view;
}

std::span<uint8_t> KvCache::Prefix(size_t stripe, size_t tokens) const {
  const size_t half = stripe / shape_.n_kv_heads, head = stripe % shape_.n_kv_heads;
  return {memory_.data() + half * half_bytes_ + head * stripe_bytes_, PrefixBytes(tokens)};
}

void KvCache::Extend(size_t tokens) { touched_ = std::max(touched_, tokens); }

void KvCache::Shrink(size_t tokens) {
  const size_t begin = PrefixBytes(tokens), end = PrefixBytes(touched_);
  if (end < begin + kWorthGivingBack) return;
  for (size_t stripe = 0; stripe < stripes_; ++stripe) {
    const auto offset = static_cast<size_t>(Prefix(stripe, 0).data() - memory_.data());
    memory_.Discard(offset + begin, offset + end);
  }
  touched_ = tokens;
}

void KvCache::ClearPageBehind(size_t tokens) const {
  const size_t count = RoundUp(tokens, kCachePage) - tokens;
  if (count == 0) return;
  // Zeros as tokens: whatever the cache's type, they are stored as it stores zeros.
  const std::vector<float> zeros(shape_.n_kv_heads * shape_.head_dim);
  for (size_t layer = 0; layer < layers_; ++layer) {
    constexpr size_t kSameRow = 0;
    AttentionFor(kScalar).append(Layer(layer), tokens, count, zeros.data(), zeros.data(), kSameRow);
  }
}

}  // namespace hob
