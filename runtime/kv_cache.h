// The keys and values of one sequence, for every layer; layout in kernels/attention.h. It knows no
// position: tokens behind the session's position are simply written over.
//
// Each KV head of each layer has a stripe for its keys and one for its values, long enough for the
// whole capacity, but only in address space: memory is taken as tokens are written, page by page.
#ifndef HOB_RUNTIME_KV_CACHE_H_
#define HOB_RUNTIME_KV_CACHE_H_

#include <cstddef>
#include <cstdint>
#include <span>

#include "kernels/attention.h"
#include "runtime/reserved_memory.h"

namespace hob {

class KvCache {
 public:
  KvCache(hob_cache_type type, size_t layers, size_t n_kv_heads, size_t head_dim, size_t capacity);

  const CacheView& shape() const { return shape_; }  // without memory
  CacheView Layer(size_t layer) const;

  size_t reserved_bytes() const { return memory_.size(); }
  // What `tokens` tokens fill, in whole pages of 16.
  size_t UsedBytes(size_t tokens) const { return stripes_ * PrefixBytes(tokens); }

  // Says that tokens up to `tokens` are about to be written.
  void Extend(size_t tokens);
  // Gives memory back to the system if the tokens from `tokens` on, which are no longer needed,
  // hold much of it.
  void Shrink(size_t tokens);

  // The stripes in a fixed order: by layer, keys before values, by KV head.
  size_t stripes() const { return stripes_; }
  // Where a stripe holds the first `tokens` tokens, in whole pages of 16.
  std::span<uint8_t> Prefix(size_t stripe, size_t tokens) const;
  // Zeroes what is behind the first `tokens` tokens in their last page of 16, so that prefixes
  // depend on these tokens alone.
  void ClearPageBehind(size_t tokens) const;

 private:
  size_t PrefixBytes(size_t tokens) const {
    return CachePrefixBytes(shape_.type, shape_.head_dim, tokens);
  }

  CacheView shape_;      // without memory
  size_t half_bytes_;    // of one layer's keys, or values
  size_t stripe_bytes_;  // of one KV head's
  size_t layers_, stripes_;
  size_t touched_ = 0;     // tokens that memory has been taken for
  ReservedMemory memory_;  // (layers, keys then values, half_bytes)
};

}  // namespace hob

#endif  // HOB_RUNTIME_KV_CACHE_H_
