// Base files: the logits of one model for the tokens of a text, to compare other models with.
// Start with KlBaseWriter, then KlBase.
//
// The file, little-endian, nothing between the parts:
//   char magic[8] = "HOBLOGIT"
//   u32  version = 1
//   u32  context      tokens of a chunk
//   u32  first        the first row of each chunk that is scored: context / 2
//   u32  vocabulary   values of a row
//   u64  chunks
//   u64  checksum of the tokens: FNV-1a, 64 bits, over their bytes
//   i32  tokens[chunks][context]
//   f32  logits[chunks][context - 1 - first][vocabulary]: row r of a chunk is what the model says
//        after token first + r of it
// A file of another size is refused, and so are tokens that the checksum does not fit.
//
// Raw logits of another program are a base, too: f32[chunks][context][vocabulary], a row for every
// token, and no tokens; the text must be given then.
#ifndef HOB_RUNTIME_CLI_KL_BASE_H_
#define HOB_RUNTIME_CLI_KL_BASE_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "runtime/cli/common.h"
#include "runtime/cli/input_file.h"

namespace hob::cli {

// How a text is cut: chunks of `context` tokens, of which the rows [first, context - 1) are scored,
// each by the token that follows it.
struct Chunks {
  size_t context = 0, vocabulary = 0, count = 0;
  std::vector<int32_t> tokens;  // (count, context)

  size_t first() const { return context / 2; }
  size_t scored() const { return context - 1 - first(); }  // rows of a chunk
  std::span<const int32_t> chunk(size_t i) const {
    return std::span(tokens).subspan(i * context, context);
  }
};

class KlBaseWriter {
 public:
  KlBaseWriter(const std::string& path, const Chunks& chunks);
  // The scored rows in order.
  void Write(std::span<const float> logits) { file_.Write(logits.data(), logits.size_bytes()); }
  void Close() { file_.Close(); }

 private:
  OutputFile file_;
};

// Reads what KlBaseWriter wrote, or raw logits. Throws std::runtime_error, naming the file.
class KlBase {
 public:
  // Reads the header and the tokens, if the file has them.
  explicit KlBase(const std::string& path);

  // Nothing in a file of raw logits.
  bool has_chunks() const { return chunks_.count != 0; }
  const Chunks& chunks() const { return chunks_; }

  // What the file must fit, once before reading: raw logits by their size; a base file has exactly
  // these chunks.
  void Require(const Chunks& chunks);

  // The next scored row of the chunks, (vocabulary). `row` counts from 0 in each chunk.
  void ReadRow(size_t row, std::span<float> logits);

 private:
  void ReadHeader();

  InputFile file_;
  Chunks chunks_;
  size_t first_ = 0;    // in a raw file: rows of a chunk before the scored ones
  bool begun_ = false;  // in a raw file: whether a row was read
};

}  // namespace hob::cli

#endif  // HOB_RUNTIME_CLI_KL_BASE_H_
