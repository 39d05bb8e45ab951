// The keys and values of one sequence, for every layer; layout in kernels/attention.h. It knows no
// position: tokens behind the session's position are simply written over.
//
// There is address space for the whole capacity, but memory is taken as tokens are written, page by
// page. The tokens come in segments: what all layers keep of a segment's tokens lies together, so
// that a segment that is full is memory without holes, which the system can map by large pages:
// generating reads the whole cache for every token, and large pages are read faster
// (docs/design.md).
#ifndef HOB_RUNTIME_KV_CACHE_H_
#define HOB_RUNTIME_KV_CACHE_H_

#include <algorithm>
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
  // What `tokens` tokens fill, in whole tiles of 64.
  size_t UsedBytes(size_t tokens) const {
    return 2 * layers_ * CacheBytes(shape_.type, shape_.n_kv_heads, shape_.head_dim, tokens);
  }

  // Says that tokens up to `tokens` are about to be written.
  void Extend(size_t tokens);
  // Gives the memory of segments back to the system that hold none of the first `tokens` tokens.
  void Shrink(size_t tokens);

  // Hands on the spans that hold the first `tokens` tokens, in whole tiles, in a fixed order: by
  // layer, keys before values, by KV head, by token. How long the pieces are does not matter: they
  // follow each other as if there were no segments.
  template <class Use>
  void ForEachPiece(size_t tokens, const Use& use) const;

  // Zeroes what is behind the first `tokens` tokens in their last tile, so that the pieces depend
  // on these tokens alone.
  void ClearTileBehind(size_t tokens) const;

 private:
  // Of one KV head's keys, or values, in one layer.
  size_t StripeBytes(size_t tokens) const {
    return CachePrefixBytes(shape_.type, shape_.head_dim, tokens);
  }
  size_t Segments(size_t tokens) const;

  size_t layers_;
  CacheView shape_;        // without memory
  size_t touched_ = 0;     // tokens that memory has been taken for
  size_t gathered_ = 0;    // bytes that large pages have been asked for
  ReservedMemory memory_;  // (segments, layers, kv_heads, keys then values, stripe of a segment)
};

template <class Use>
void KvCache::ForEachPiece(size_t tokens, const Use& use) const {
  for (size_t layer = 0; layer < layers_; ++layer) {
    const CacheView view = Layer(layer);
    for (void* const half : {view.keys, view.values}) {
      for (size_t head = 0; head < shape_.n_kv_heads; ++head) {
        auto* stripe = static_cast<uint8_t*>(half) + head * shape_.head_bytes;
        for (size_t begin = 0; begin < tokens; begin += shape_.segment) {
          const size_t here = std::min(tokens - begin, shape_.segment);
          use(std::span<uint8_t>(stripe, StripeBytes(here)));
          stripe += shape_.segment_bytes;
        }
      }
    }
  }
}

}  // namespace hob

#endif  // HOB_RUNTIME_KV_CACHE_H_
