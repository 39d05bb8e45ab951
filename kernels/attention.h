// Causal attention with grouped query heads over a cache of keys and values, both kept so that a
// SIMD lane is an output (docs/numerics.md has the exact definition, reference.cc the scalar code):
//   keys    [kv head][page of 16 tokens][padded head_dim / p][16 tokens][p]
//   values  [kv head][token / p][padded head_dim][p]
// with p = 1 element of f32, or a pair of bf16 with the first of the pair in the high half.
// head_dim is padded to a multiple of 16, the capacity to one of 64 tokens (a tile). Whatever the
// type, the first tokens of a KV head are the first bytes of its keys and of its values, in whole
// pages of 16 (CachePrefixBytes), and do not depend on the capacity or the instruction set: saved
// sessions rely on it.
//
// q . K is the float matmul's tile with tokens as outputs; p . V the same with the elements of the
// head as outputs. Work splits by KV head and by blocks of rows, which callers spread over threads.
#ifndef HOB_KERNELS_ATTENTION_H_
#define HOB_KERNELS_ATTENTION_H_

#include <cstddef>
#include <cstdint>

#include "hob/hob.h"
#include "kernels/targets.h"

namespace hob {

// Keys whose scores are computed together; part of the numerical contract.
inline constexpr size_t kKeyTile = 64;
// Keys that are reduced from scratch, then merged in order; part of the contract too.
inline constexpr size_t kKeyChunk = 256;
// Rows (query tokens x heads of one group) in one unit of work. Bits do not depend on it.
inline constexpr size_t kRowBlock = 32;

// One layer's cache; the shape as in hob_cache.
struct CacheView {
  hob_cache_type type;
  size_t n_kv_heads, head_dim, capacity;
  void* keys;
  void* values;
};

// Bytes of `keys` and of `values` each.
size_t CacheBytes(hob_cache_type type, size_t n_kv_heads, size_t head_dim, size_t capacity);

// Tokens of a page, and the bytes that hold the first `tokens` tokens of one KV head's keys, or
// values, in whole pages.
inline constexpr size_t kCachePage = 16;
inline size_t CachePrefixBytes(hob_cache_type type, size_t head_dim, size_t tokens) {
  const size_t page_bytes = CacheBytes(type, 1, head_dim, kKeyTile) / (kKeyTile / kCachePage);
  return (tokens + kCachePage - 1) / kCachePage * page_bytes;
}

struct AttentionTask {
  CacheView cache;
  size_t m, n_heads;  // rows of q; heads, a multiple of n_kv_heads
  size_t pos;         // position of row 0
  float scale;        // of q . k
  const float* q;     // (m, n_heads, head_dim)
  float* out;         // (m, n_heads, head_dim)
};

// One element of the cache, as f32. For the scalar target and for tests.
float CachedKey(const CacheView& cache, size_t kv_head, size_t token, size_t d);
float CachedValue(const CacheView& cache, size_t kv_head, size_t token, size_t d);

struct AttentionKernels {
  // Stores tokens [pos, pos + m) of all KV heads; k, v: (m, n_kv_heads, head_dim), rows `stride`
  // floats apart.
  void (*append)(const CacheView& cache, size_t pos, size_t m, const float* k, const float* v,
                 size_t stride);
  // Rows [row_begin, row_end) of KV head `kv_head`, row r = query token r / group, head
  // kv_head * group + r % group. `workspace`: AttentionWorkspace bytes, 64-byte aligned.
  void (*attend)(const AttentionTask& task, size_t kv_head, size_t row_begin, size_t row_end,
                 void* workspace);
};

// Bytes that one running `attend` needs.
size_t AttentionWorkspace(size_t head_dim);

// Units of work of a task: unit u is KV head u % n_kv_heads, row block u / n_kv_heads.
size_t AttentionUnits(const AttentionTask& task);
void AttentionUnit(const AttentionTask& task, size_t unit, void* workspace);

const AttentionKernels& Attention();
const AttentionKernels& AttentionFor(Target target);

}  // namespace hob

#endif  // HOB_KERNELS_ATTENTION_H_
