// Attention with grouped query heads over a cache of keys and values, both kept so that a SIMD lane
// is an output (docs/numerics.md has the exact definition, reference.cc the scalar code), and so
// that who goes through the tokens reads memory from front to back. Of each KV head, tile by tile
// of 64 tokens:
//   keys    [page of 32 tokens][padded head_dim / p][32 tokens][p]
//   values  [part of 64 elements][64 tokens / p][64 elements][p]
// with p = 1 element of f32, or a pair of bf16 with the first of the pair in the high half; the
// last part may have fewer elements. q8_0 has, in each page of 32 tokens, int8 codes, then f32
// scales, one for each block of 32 elements of a head:
//   keys    {codes [padded head_dim][32 tokens], scales [block][32 tokens]}
//   values  {codes [32 tokens][padded head_dim], scales [32 tokens][block]}
// head_dim is padded to a multiple of 16, the capacity to one of 64 tokens (a tile). Whatever the
// type, the first tokens of a KV head are the first bytes of its keys and of its values, in whole
// tiles (CachePrefixBytes), and do not depend on the capacity or the instruction set: saved
// sessions rely on it. The heads follow each other, each with all tokens. Or the tokens are divided
// into segments, and what the heads keep of one lies where CacheView says.
//
// q . K is the float matmul's tile with tokens as outputs; p . V the same with the elements of the
// head as outputs. Work is divided (DivideAttention) by KV head and by blocks of rows or, where
// rows are few, by ranges of keys; callers spread the units over threads.
#ifndef HOB_KERNELS_ATTENTION_H_
#define HOB_KERNELS_ATTENTION_H_

#include <cstddef>
#include <cstdint>

#include "hob/hob.h"
#include "kernels/targets.h"

namespace hob {

// Keys whose scores are computed together.
inline constexpr size_t kKeyTile = 64;
// Keys that are reduced from scratch, then merged in order; part of the numerical contract.
inline constexpr size_t kKeyChunk = 256;
// Most rows (query tokens x heads of one group) in one unit of work. Bits do not depend on it.
inline constexpr size_t kRowBlock = 96;
// Up to so many rows of a KV head their keys may be divided. Bits do not depend on it.
inline constexpr size_t kSplitRows = 16;

// One layer's cache; the shape as in hob_cache.
struct CacheView {
  hob_cache_type type;
  size_t n_kv_heads, head_dim, capacity;
  void* keys;
  void* values;
  // Tokens of a segment, a multiple of kKeyTile; bytes from one to the next, and from one KV head
  // to the next in it, of keys and of values. 0: there are none.
  size_t segment = 0, segment_bytes = 0, head_bytes = 0;
};

// KV heads [begin, begin + count) of a cache.
CacheView HeadsOf(const CacheView& cache, size_t begin, size_t count);

// Bytes of `keys` and of `values` each.
size_t CacheBytes(hob_cache_type type, size_t n_kv_heads, size_t head_dim, size_t capacity);

// Tokens whose keys are side by side, and elements of a head whose values are.
inline constexpr size_t kKeyPage = 32, kValuePart = 64;

// Bytes that hold the first `tokens` tokens of one KV head's keys, or values, in whole tiles.
inline size_t CachePrefixBytes(hob_cache_type type, size_t head_dim, size_t tokens) {
  return CacheBytes(type, 1, head_dim, tokens);
}

// Asks for the cache lines of the tile of one KV head that `token` is in.
void PrefetchTile(const CacheView& cache, size_t kv_head, size_t token);

// As in hob_attention_args.
struct AttentionOptions {
  size_t window = 0;           // a token sees itself and the window - 1 tokens before it; 0 = all
  float softcap = 0.0f;        // scores become softcap * tanh(scores / softcap); 0 = they do not
  bool bidirectional = false;  // every row sees the tokens behind it, too
};

struct AttentionTask {
  CacheView cache;
  size_t m, n_heads;  // rows of q; heads, a multiple of n_kv_heads
  size_t pos;         // position of row 0
  float scale;        // of q . k
  const float* q;     // (m, n_heads, head_dim)
  float* out;         // (m, n_heads, head_dim)
  AttentionOptions options = {};

  size_t group() const { return n_heads / cache.n_kv_heads; }
  size_t tokens() const { return pos + m; }
};

struct KeyRange {
  size_t begin, end;
};

// The keys that query token i of m, which begin at position `pos`, sees. Neither end falls with i.
inline KeyRange VisibleKeys(const AttentionOptions& options, size_t pos, size_t m, size_t i) {
  const size_t end = options.bidirectional ? pos + m : pos + i + 1;
  const bool cut = options.window != 0 && options.window < end;
  return {cut ? end - options.window : 0, end};
}

// One element of the cache, as f32: what attention sees. For the scalar target and for tests.
float CachedKey(const CacheView& cache, size_t kv_head, size_t token, size_t d);
float CachedValue(const CacheView& cache, size_t kv_head, size_t token, size_t d);

struct AttentionKernels {
  // Stores tokens [pos, pos + m) of all KV heads; k, v: (m, n_kv_heads, head_dim), rows `stride`
  // floats apart.
  void (*append)(const CacheView& cache, size_t pos, size_t m, const float* k, const float* v,
                 size_t stride);
  // Rows [row_begin, row_end) of KV head `kv_head`, at most kRowBlock of them; row r = query token
  // r / group, head kv_head * group + r % group. `workspace`: AttentionWorkspace bytes, 64-byte
  // aligned.
  void (*attend)(const AttentionTask& task, size_t kv_head, size_t row_begin, size_t row_end,
                 void* workspace);
  // All rows of a KV head, at most kSplitRows, against chunks [chunk_begin, chunk_end) of the keys:
  // what each chunk gives goes to `partials` (AttentionPartialBytes, 64-byte aligned).
  void (*attend_chunks)(const AttentionTask& task, size_t kv_head, size_t chunk_begin,
                        size_t chunk_end, void* workspace, float* partials);
  // Once all chunks are there: merges them in order into the KV head's rows of out.
  void (*merge_chunks)(const AttentionTask& task, size_t kv_head, float* partials);
};

// Bytes that one running unit needs.
size_t AttentionWorkspace(size_t head_dim);

// How a task becomes units of work. Bits do not depend on it.
struct AttentionDivision {
  size_t row_block;   // rows in a unit
  size_t row_blocks;  // of each KV head
  size_t parts;       // of the keys of each KV head; if there are several, row_blocks is 1
  size_t units;       // in all
};
AttentionDivision DivideAttention(const AttentionTask& task, size_t participants);

// Bytes of partial results that all units share where parts > 1, for at most so many rows of each
// KV head (query tokens x group) and tokens in the cache.
size_t AttentionPartialBytes(const CacheView& cache, size_t rows, size_t tokens);

// What a unit computes: rows of a KV head against chunks of kKeyChunk keys.
struct UnitShare {
  size_t kv_head, row_begin, row_end;  // as for AttentionKernels::attend
  KeyRange chunks;                     // all that some row sees if parts == 1
};
UnitShare ShareOf(const AttentionTask& task, const AttentionDivision& division, size_t unit);

// Computes unit `unit`. If parts == 1 its rows of out are then done, and `partials` is not used.
// Otherwise, when all parts of its KV head have been computed, AttentionMerge finishes that. The
// units of a KV head come one after the other: its keys and values stay in the core's cache.
void AttentionUnit(const AttentionTask& task, const AttentionDivision& division, size_t unit,
                   void* workspace, float* partials);
void AttentionMerge(const AttentionTask& task, size_t kv_head, float* partials);

// Where the partial result of one row and chunk lies in `partials`, in floats: its maximum (and 15
// that are not used), 16 sums, then the padded head_dim values. Behind a row's last chunk comes one
// more such record, to merge in.
struct PartialLayout {
  size_t rows, chunks, record;  // of a KV head; of a row; floats of a chunk

  explicit PartialLayout(const AttentionTask& task);
  size_t At(size_t kv_head, size_t row, size_t chunk) const {
    return ((kv_head * rows + row) * (chunks + 1) + chunk) * record;
  }
};

const AttentionKernels& Attention();
const AttentionKernels& AttentionFor(Target target);

}  // namespace hob

#endif  // HOB_KERNELS_ATTENTION_H_
