// A session's state as bytes, in a file or in memory: the tokens, the logits after them, and the
// part of the key/value cache that they fill. Start with the header below.
//
// The bytes are those of the machine that wrote them, which the header says: only machines of the
// same byte order can read them. They depend on model, tokens, cache type and whether there are
// logits; not on the instruction set, the threads, the batch or the context of the session.
#ifndef HOB_RUNTIME_SESSION_STATE_H_
#define HOB_RUNTIME_SESSION_STATE_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "runtime/kv_cache.h"

namespace hob {

// Followed by the tokens (int32), the logits (f32) and the pieces of the cache in the order of
// KvCache, in whole tiles of tokens.
struct StateHeader {
  char magic[8];        // kStateMagic
  uint32_t byte_order;  // kStateByteOrder as the writer's machine stores it
  // kStateVersion. It changes with this struct and with the bits of what a cache holds
  // (docs/numerics.md), since a session shall go on as if it had never stopped.
  uint32_t version;
  uint64_t model;       // Model::Fingerprint
  uint32_t cache_type;  // hob_cache_type
  uint32_t layout;      // kStateLayout: of the cache, kernels/attention.h
  uint32_t layers, kv_heads, head_dim, vocabulary;
  uint64_t tokens;    // how many
  uint64_t logits;    // how many: the vocabulary, or 0
  uint64_t bytes;     // of all, this header included
  uint64_t checksum;  // Checksum of all bytes but these 8
};
static_assert(sizeof(StateHeader) == 80);

inline constexpr char kStateMagic[8] = {'h', 'o', 'b', 'c', 'a', 'c', 'h', 'e'};
inline constexpr uint32_t kStateByteOrder = 0x01020304;
inline constexpr uint32_t kStateVersion = 1;
inline constexpr uint32_t kStateLayout = 2;

// What the states of a session have in common.
struct StateShape {
  uint64_t model;  // Model::Fingerprint
  size_t layers, vocabulary, context;
};

size_t StateBytes(const KvCache& cache, size_t tokens, size_t logits);

// Hands the bytes to the sink, piece by piece. `logits` may be empty.
void WriteState(const StateShape& shape, const KvCache& cache, std::span<const int32_t> tokens,
                std::span<const float> logits,
                const std::function<void(std::span<const uint8_t>)>& sink);

// The checksum that a state should have: of all its bytes but those of the checksum itself. `bytes`
// begins with a header. `done` as in StateReader.
uint64_t StateChecksum(std::span<const uint8_t> bytes,
                       const std::function<void(size_t begin, size_t size)>& done = {});

// Checks a state, then copies it. Nothing in it is trusted.
class StateReader {
 public:
  // Throws Error, "SOURCE: ...", unless all of `bytes` is a state for a session of this shape and a
  // cache like this one. `bytes` must outlive this object. `done`, which may be empty, is called
  // with ranges of `bytes` that are not needed at the moment.
  StateReader(std::span<const uint8_t> bytes, std::string source, const StateShape& shape,
              const KvCache& cache, std::function<void(size_t begin, size_t size)> done);

  size_t tokens() const { return tokens_.size(); }
  // Copies all into a session's parts: tokens is resized (reserve first, so that it cannot fail),
  // logits: (vocabulary). Returns whether there are logits.
  bool CopyTo(KvCache& cache, std::vector<int32_t>& tokens, std::span<float> logits) const;

 private:
  [[noreturn]] void Fail(hob_status status, const std::string& message) const;
  void CheckWhole();
  void CheckModel(const StateShape& shape, const KvCache& cache) const;
  void CheckSizes(const StateShape& shape, const KvCache& cache) const;
  void ReadTokens(const StateShape& shape);

  std::span<const uint8_t> bytes_;
  std::string source_;
  std::function<void(size_t begin, size_t size)> done_;
  StateHeader header_{};
  std::vector<int32_t> tokens_;  // copied, then checked: the bytes may change under us
};

}  // namespace hob

#endif  // HOB_RUNTIME_SESSION_STATE_H_
