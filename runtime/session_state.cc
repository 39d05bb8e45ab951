// See session_state.h. First writing, then reading: StateReader's constructor has the checks in
// order.
#include "runtime/session_state.h"

#include <algorithm>
#include <cstring>

#include "runtime/checksum.h"
#include "runtime/error.h"

namespace hob {
namespace {

// Bytes that are looked at before their memory may go.
constexpr size_t kSlice = size_t{1} << 20;

template <typename T>
std::span<const uint8_t> BytesOf(std::span<const T> values) {
  return {reinterpret_cast<const uint8_t*>(values.data()), values.size_bytes()};
}

const char* CacheTypeName(uint32_t type) {
  switch (type) {
    case HOB_CACHE_F32:
      return "f32";
    case HOB_CACHE_BF16:
      return "bf16";
    case HOB_CACHE_Q8_0:
      return "q8_0";
    default:
      return "unknown";
  }
}

std::string CacheTypeText(uint32_t type) {
  return std::to_string(type) + " (" + CacheTypeName(type) + ")";
}

std::string Hex(uint64_t value) {
  std::string text(16, '0');
  for (size_t i = text.size(); i-- != 0; value >>= 4) text[i] = "0123456789abcdef"[value & 15];
  return text;
}

StateHeader MakeHeader(const StateShape& shape, const KvCache& cache, size_t tokens,
                       size_t logits) {
  const CacheView& view = cache.shape();
  StateHeader header{};
  std::memcpy(header.magic, kStateMagic, sizeof(kStateMagic));
  header.byte_order = kStateByteOrder;
  header.version = kStateVersion;
  header.model = shape.model;
  header.cache_type = static_cast<uint32_t>(view.type);
  header.layout = kStateLayout;
  header.layers = static_cast<uint32_t>(shape.layers);
  header.kv_heads = static_cast<uint32_t>(view.n_kv_heads);
  header.head_dim = static_cast<uint32_t>(view.head_dim);
  header.vocabulary = static_cast<uint32_t>(shape.vocabulary);
  header.tokens = tokens;
  header.logits = logits;
  header.bytes = StateBytes(cache, tokens, logits);
  return header;
}

// The part of the header that its checksum counts.
std::span<const uint8_t> Checked(const StateHeader& header) {
  return {reinterpret_cast<const uint8_t*>(&header), offsetof(StateHeader, checksum)};
}

}  // namespace

// ---------------------------------------------------------------- writing

size_t StateBytes(const KvCache& cache, size_t tokens, size_t logits) {
  return sizeof(StateHeader) + tokens * sizeof(int32_t) + logits * sizeof(float) +
         cache.UsedBytes(tokens);
}

void WriteState(const StateShape& shape, const KvCache& cache, std::span<const int32_t> tokens,
                std::span<const float> logits,
                const std::function<void(std::span<const uint8_t>)>& sink) {
  cache.ClearTileBehind(tokens.size());
  const auto each_piece = [&](const auto& use) {
    use(BytesOf(tokens));
    use(BytesOf(logits));
    cache.ForEachPiece(tokens.size(), use);
  };
  StateHeader header = MakeHeader(shape, cache, tokens.size(), logits.size());
  Checksum checksum;
  checksum.Add(Checked(header));
  each_piece([&](std::span<const uint8_t> piece) { checksum.Add(piece); });
  header.checksum = checksum.value();
  sink({reinterpret_cast<const uint8_t*>(&header), sizeof(header)});
  each_piece(sink);
}

// ---------------------------------------------------------------- reading

uint64_t StateChecksum(std::span<const uint8_t> bytes,
                       const std::function<void(size_t begin, size_t size)>& done) {
  Checksum checksum;
  checksum.Add(bytes.first(offsetof(StateHeader, checksum)));
  for (size_t begin = sizeof(StateHeader); begin < bytes.size(); begin += kSlice) {
    const size_t size = std::min(kSlice, bytes.size() - begin);
    checksum.Add(bytes.subspan(begin, size));
    if (done) done(begin, size);
  }
  return checksum.value();
}

StateReader::StateReader(std::span<const uint8_t> bytes, std::string source,
                         const StateShape& shape, const KvCache& cache,
                         std::function<void(size_t begin, size_t size)> done)
    : bytes_(bytes), source_(std::move(source)), done_(std::move(done)) {
  CheckWhole();
  CheckModel(shape, cache);
  CheckSizes(shape, cache);
  ReadTokens(shape);
}

void StateReader::Fail(hob_status status, const std::string& message) const {
  throw Error(status, source_ + ": " + message);
}

// That this is a state, of a kind that we can read, as it was written.
void StateReader::CheckWhole() {
  const size_t visible = std::min(bytes_.size(), sizeof(kStateMagic));
  if (visible == 0 || std::memcmp(bytes_.data(), kStateMagic, visible) != 0) {
    Fail(HOB_ERROR_FILE, "this is no saved session, which begins with \"hobcache\"");
  }
  if (bytes_.size() < sizeof(StateHeader)) {
    Fail(HOB_ERROR_FILE, "the saved session is cut off: " + std::to_string(bytes_.size()) +
                             " bytes, expected at least " + std::to_string(sizeof(StateHeader)));
  }
  std::memcpy(&header_, bytes_.data(), sizeof(header_));
  if (header_.byte_order == 0x04030201) {
    Fail(HOB_ERROR_UNSUPPORTED, "the session was saved on a machine of the other byte order");
  }
  if (header_.byte_order != kStateByteOrder) {
    Fail(HOB_ERROR_FILE, "the saved session is damaged: its byte order is " +
                             Hex(header_.byte_order) + ", expected " + Hex(kStateByteOrder));
  }
  if (header_.version != kStateVersion) {
    Fail(HOB_ERROR_UNSUPPORTED, "the saved session has version " + std::to_string(header_.version) +
                                    ", expected " + std::to_string(kStateVersion));
  }
  if (header_.bytes != bytes_.size()) {
    Fail(HOB_ERROR_FILE, "the saved session has " + std::to_string(bytes_.size()) +
                             " bytes, expected " + std::to_string(header_.bytes) +
                             ", which its header says");
  }
  const uint64_t checksum = StateChecksum(bytes_, done_);
  if (header_.checksum != checksum) {
    Fail(HOB_ERROR_FILE, "the saved session is damaged: its checksum is " + Hex(checksum) +
                             ", expected " + Hex(header_.checksum) + ", which its header says");
  }
}

// That it belongs to this model and this kind of cache.
void StateReader::CheckModel(const StateShape& shape, const KvCache& cache) const {
  if (header_.model != shape.model) {
    Fail(HOB_ERROR_ARGUMENT, "the session was saved with another model: its fingerprint is " +
                                 Hex(header_.model) + ", expected " + Hex(shape.model));
  }
  const auto cache_type = static_cast<uint32_t>(cache.shape().type);
  if (header_.cache_type != cache_type) {
    Fail(HOB_ERROR_ARGUMENT, "the saved session's cache has the type " +
                                 CacheTypeText(header_.cache_type) + ", expected " +
                                 CacheTypeText(cache_type) + ", which this session has");
  }
  if (header_.layout != kStateLayout) {
    Fail(HOB_ERROR_UNSUPPORTED, "the saved session's cache has layout " +
                                    std::to_string(header_.layout) + ", expected " +
                                    std::to_string(kStateLayout));
  }
  const auto check = [&](const char* name, uint32_t value, size_t expected) {
    if (value == expected) return;
    Fail(HOB_ERROR_FILE, "the saved session says " + std::to_string(value) + " " + name +
                             ", but its model has " + std::to_string(expected));
  };
  check("layers", header_.layers, shape.layers);
  check("KV heads", header_.kv_heads, cache.shape().n_kv_heads);
  check("elements of a head", header_.head_dim, cache.shape().head_dim);
  check("tokens in the vocabulary", header_.vocabulary, shape.vocabulary);
}

// That it fits, and that its parts are as long as it is. In this order nothing can overflow.
void StateReader::CheckSizes(const StateShape& shape, const KvCache& cache) const {
  if (header_.tokens > shape.context) {
    Fail(HOB_ERROR_SHAPE, "the saved session has " + std::to_string(header_.tokens) +
                              " tokens, which do not fit the session's context of " +
                              std::to_string(shape.context));
  }
  const size_t most_logits = header_.tokens == 0 ? 0 : shape.vocabulary;
  if (header_.logits != 0 && header_.logits != most_logits) {
    Fail(HOB_ERROR_FILE, "the saved session says " + std::to_string(header_.logits) +
                             " logits, expected 0 or " + std::to_string(most_logits));
  }
  const size_t bytes =
      StateBytes(cache, static_cast<size_t>(header_.tokens), static_cast<size_t>(header_.logits));
  if (header_.bytes != bytes) {
    Fail(HOB_ERROR_FILE, "the saved session has " + std::to_string(header_.bytes) +
                             " bytes, expected " + std::to_string(bytes) + " for its " +
                             std::to_string(header_.tokens) + " tokens");
  }
}

void StateReader::ReadTokens(const StateShape& shape) {
  tokens_.resize(static_cast<size_t>(header_.tokens));
  if (tokens_.empty()) return;
  std::memcpy(tokens_.data(), bytes_.data() + sizeof(StateHeader),
              tokens_.size() * sizeof(int32_t));
  for (size_t i = 0; i < tokens_.size(); ++i) {
    if (tokens_[i] >= 0 && static_cast<size_t>(tokens_[i]) < shape.vocabulary) continue;
    Fail(HOB_ERROR_FILE, "token " + std::to_string(i) + " of the saved session is " +
                             std::to_string(tokens_[i]) + ", expected 0 to " +
                             std::to_string(shape.vocabulary - 1));
  }
}

bool StateReader::CopyTo(KvCache& cache, std::vector<int32_t>& tokens,
                         std::span<float> logits) const {
  size_t at = sizeof(StateHeader) + tokens_.size() * sizeof(int32_t);
  tokens = tokens_;
  if (header_.logits != 0) std::memcpy(logits.data(), bytes_.data() + at, logits.size_bytes());
  at += static_cast<size_t>(header_.logits) * sizeof(float);

  cache.Shrink(tokens_.size());
  cache.Extend(tokens_.size());
  cache.ForEachPiece(tokens_.size(), [&](std::span<uint8_t> piece) {
    for (size_t begin = 0; begin < piece.size(); begin += kSlice) {
      const size_t size = std::min(kSlice, piece.size() - begin);
      std::memcpy(piece.data() + begin, bytes_.data() + at + begin, size);
      if (done_) done_(at + begin, size);
    }
    at += piece.size();
  });
  return header_.logits != 0;
}

}  // namespace hob
