// See kv_cache.h.
#include "runtime/kv_cache.h"

#include <cstdint>
#include <new>

namespace hob {
namespace {

size_t BufferBytes(size_t layers, size_t half_bytes) {
  if (half_bytes > SIZE_MAX / 2 / layers) throw std::bad_alloc();
  return 2 * layers * half_bytes;
}

}  // namespace

KvCache::KvCache(hob_cache_type type, size_t layers, size_t n_kv_heads, size_t head_dim,
                 size_t capacity)
    : shape_{type, n_kv_heads, head_dim, capacity, nullptr, nullptr},
      half_bytes_(RoundUp(CacheBytes(type, n_kv_heads, head_dim, capacity), kAlignment)),
      buffer_(BufferBytes(layers, half_bytes_)) {}

CacheView KvCache::Layer(size_t layer) const {
  CacheView view = shape_;
  view.keys = buffer_.data() + 2 * layer * half_bytes_;
  view.values = buffer_.data() + (2 * layer + 1) * half_bytes_;
  return view;
}

}  // namespace hob
