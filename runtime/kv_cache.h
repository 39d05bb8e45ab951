// The keys and values of one sequence, for every layer; layout in kernels/attention.h. It knows no
// position: tokens behind the session's position are simply written over.
#ifndef HOB_RUNTIME_KV_CACHE_H_
#define HOB_RUNTIME_KV_CACHE_H_

#include <cstddef>

#include "kernels/attention.h"
#include "runtime/aligned_buffer.h"

namespace hob {

class KvCache {
 public:
  KvCache(hob_cache_type type, size_t layers, size_t n_kv_heads, size_t head_dim, size_t capacity);

  CacheView Layer(size_t layer) const;
  size_t bytes() const { return buffer_.size(); }

 private:
  CacheView shape_;       // without memory
  size_t half_bytes_;     // of one layer's keys, or values
  AlignedBuffer buffer_;  // (layers, keys then values, half_bytes)
};

}  // namespace hob

#endif  // HOB_RUNTIME_KV_CACHE_H_
