// See kl_base.h.
#include "runtime/cli/kl_base.h"

#include <algorithm>
#include <array>
#include <cstring>

namespace hob::cli {
namespace {

constexpr std::array<char, 8> kMagic = {'H', 'O', 'B', 'L', 'O', 'G', 'I', 'T'};
constexpr uint32_t kVersion = 1;
// Beyond any model; what keeps the arithmetic of sizes far from its limits.
constexpr uint32_t kMostContext = 1u << 24, kMostVocabulary = 1u << 24;

struct Header {
  std::array<char, 8> magic;
  uint32_t version, context, first, vocabulary;
  uint64_t chunks, checksum;
};
static_assert(sizeof(Header) == 40);

uint64_t Checksum(std::span<const int32_t> tokens) {
  uint64_t hash = 0xcbf29ce484222325;
  for (const int32_t token : tokens) {
    for (int shift = 0; shift < 32; shift += 8) {
      hash = (hash ^ (static_cast<uint32_t>(token) >> shift & 0xff)) * 0x100000001b3;
    }
  }
  return hash;
}

}  // namespace

KlBaseWriter::KlBaseWriter(const std::string& path, const Chunks& chunks) : file_(path) {
  const Header header = {kMagic,
                         kVersion,
                         static_cast<uint32_t>(chunks.context),
                         static_cast<uint32_t>(chunks.first()),
                         static_cast<uint32_t>(chunks.vocabulary),
                         chunks.count,
                         Checksum(chunks.tokens)};
  file_.Write(&header, sizeof(header));
  file_.Write(chunks.tokens.data(), chunks.tokens.size() * sizeof(int32_t));
}

KlBase::KlBase(const std::string& path) : file_(path) { ReadHeader(); }

void KlBase::ReadHeader() {
  Header header;
  if (file_.size() < sizeof(header)) file_.Fail("too short for a base file or logits");
  file_.Read(&header, sizeof(header));
  if (header.magic != kMagic) {  // raw logits, from the beginning
    file_.Rewind();
    return;
  }
  if (header.version != kVersion) {
    file_.Fail("a base file of version " + std::to_string(header.version) + ", expected " +
               std::to_string(kVersion));
  }
  if (header.context < 4 || header.context > kMostContext || header.first != header.context / 2 ||
      header.vocabulary < 1 || header.vocabulary > kMostVocabulary || header.chunks < 1) {
    file_.Fail("a damaged base file: its header makes no sense");
  }
  Chunks chunks{header.context, header.vocabulary, 0, {}};
  const uint64_t chunk_bytes =
      chunks.context * sizeof(int32_t) + chunks.scored() * chunks.vocabulary * sizeof(float);
  const uint64_t rest = file_.size() - sizeof(header);
  if (rest % chunk_bytes != 0 || rest / chunk_bytes != header.chunks) {
    file_.Fail(std::to_string(file_.size()) + " bytes, expected " + std::to_string(header.chunks) +
               " chunks of " + std::to_string(chunk_bytes) + " after the header of " +
               std::to_string(sizeof(header)));
  }
  chunks.count = header.chunks;
  chunks.tokens.resize(chunks.count * chunks.context);
  file_.Read(chunks.tokens.data(), chunks.tokens.size() * sizeof(int32_t));
  if (Checksum(chunks.tokens) != header.checksum) {
    file_.Fail("a damaged base file: the checksum of its tokens is wrong");
  }
  chunks_ = std::move(chunks);
}

void KlBase::Require(const Chunks& chunks) {
  if (has_chunks()) {
    if (chunks.vocabulary != chunks_.vocabulary) {
      file_.Fail("its rows have " + std::to_string(chunks_.vocabulary) +
                 " values, expected the model's " + std::to_string(chunks.vocabulary));
    }
    if (chunks.context != chunks_.context || chunks.tokens != chunks_.tokens) {
      file_.Fail(
          "it was made from other tokens than those of the text: " + std::to_string(chunks_.count) +
          " chunks of " + std::to_string(chunks_.context) + ", here " +
          std::to_string(chunks.count) + " of " + std::to_string(chunks.context));
    }
    return;
  }
  const uint64_t expected = sizeof(float) * chunks.tokens.size() * chunks.vocabulary;
  if (file_.size() != expected) {
    file_.Fail("no base file, and as raw logits it has " + std::to_string(file_.size()) +
               " bytes, expected " + std::to_string(expected) + " (" +
               std::to_string(chunks.tokens.size()) + " tokens x " +
               std::to_string(chunks.vocabulary) + " values)");
  }
  first_ = chunks.first();
}

void KlBase::ReadRow(size_t row, std::span<float> logits) {
  // A raw file also has the rows before the first scored one and, after the last one, one more:
  // both are passed over at the beginning of a chunk, the latter from the second one on.
  if (row == 0 && first_ != 0) {
    file_.Skip((first_ + (begun_ ? 1 : 0)) * logits.size_bytes());
    begun_ = true;
  }
  file_.Read(logits.data(), logits.size_bytes());
}

}  // namespace hob::cli
