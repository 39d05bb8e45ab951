// Files for tests: a directory that cleans up after itself, the directory with third-party
// reference data, and tiny models made on the spot with GgufWriter.
#ifndef HOB_TESTS_TEST_FILES_H_
#define HOB_TESTS_TEST_FILES_H_

#include <array>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <optional>
#include <random>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/gguf.h"
#include "runtime/unicode.h"

namespace hob::test {

// ---------------------------------------------------------------- places

// A new directory, removed with everything in it at the end.
class TempDir {
 public:
  TempDir()
      : path_(std::filesystem::temp_directory_path() /
              ("hob-test-" + std::to_string(std::random_device()()))) {
    std::filesystem::create_directories(path_);
  }
  ~TempDir() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  TempDir(const TempDir&) = delete;
  TempDir& operator=(const TempDir&) = delete;

  std::string File(const std::string& name) const { return (path_ / name).string(); }

 private:
  std::filesystem::path path_;
};

// The path of reference data, such as "models/stories260K.gguf", below the directory that the
// environment variable HOB_TEST_DATA names or else beside the source tree. Nothing if it is not
// there; then GTEST_SKIP() << MissingData(...).
inline std::optional<std::string> FindData(const std::string& name) {
  const char* directory = std::getenv("HOB_TEST_DATA");
  const std::filesystem::path root =
      directory != nullptr ? directory : std::filesystem::path(HOB_SOURCE_DIR) / ".." / "shared";
  const auto path = root / name;
  if (!std::filesystem::exists(path)) return std::nullopt;
  return path.string();
}

inline std::string MissingData(const std::string& name) {
  return "skipped, because " + name +
         " is not there: set HOB_TEST_DATA to the directory with the reference data";
}

inline std::vector<uint8_t> ReadBytes(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

inline void WriteBytes(const std::string& path, std::span<const uint8_t> bytes) {
  std::ofstream file(path, std::ios::binary);
  file.write(reinterpret_cast<const char*>(bytes.data()),
             static_cast<std::streamsize>(bytes.size()));
}

// ---------------------------------------------------------------- tiny vocabularies

// SentencePiece: <unk> 0, <s> 1, </s> 2, the bytes 3 to 258, then pieces, of which the longer have
// the better scores, a control token <|end|> and a user-defined token <tool>.
inline constexpr std::array kSpmPieces = {"\xE2\x96\x81",
                                          "a",
                                          "b",
                                          "c",
                                          "d",
                                          "e",
                                          "h",
                                          "l",
                                          "o",
                                          "r",
                                          "w",
                                          "ab",
                                          "he",
                                          "ll",
                                          "lo",
                                          "hell",
                                          "hello",
                                          "\xE2\x96\x81hello",
                                          "\xE2\x96\x81w",
                                          "or",
                                          "ld",
                                          "\xE2\x96\x81world",
                                          "orld",
                                          "\xE2\x96\x81wor",
                                          "\xC3\xA4"};

inline void AddSpmVocabulary(GgufWriter* writer) {
  std::vector<std::string> tokens = {"<unk>", "<s>", "</s>"};
  std::vector<float> scores = {0, 0, 0};
  std::vector<int32_t> types = {2, 3, 3};
  for (int byte = 0; byte < 256; ++byte) {
    static constexpr char kHex[] = "0123456789ABCDEF";
    tokens.push_back(std::string("<0x") + kHex[byte / 16] + kHex[byte % 16] + ">");
    scores.push_back(0);
    types.push_back(6);
  }
  for (const std::string piece : kSpmPieces) {
    tokens.push_back(piece);
    scores.push_back(static_cast<float>(piece.size()) - 20);
    types.push_back(1);
  }
  tokens.insert(tokens.end(), {"<|end|>", "<tool>"});
  scores.insert(scores.end(), {0, 0});
  types.insert(types.end(), {3, 4});
  writer->SetString("tokenizer.ggml.model", "llama");
  writer->SetStringArray("tokenizer.ggml.tokens", tokens);
  writer->SetF32Array("tokenizer.ggml.scores", scores);
  writer->SetI32Array("tokenizer.ggml.token_type", types);
  writer->SetU32("tokenizer.ggml.bos_token_id", 1);
  writer->SetU32("tokenizer.ggml.eos_token_id", 2);
  writer->SetU32("tokenizer.ggml.unknown_token_id", 0);
}

// Byte-level BPE: the spellings of the bytes 0x00 to 0xFF are the ids 0 to 255, then the results of
// kBpeMerges in order, the control token <|endoftext|> and the user-defined token <tool>.
inline constexpr std::array kBpeMerges = {
    "h e",          "l l", "he ll",          "hell o", "\xC4\xA0 w", "o r",
    "\xC4\xA0w or", "l d", "\xC4\xA0wor ld", "a a",    "aa aa"};

inline void AddBpeVocabulary(GgufWriter* writer, std::string_view pre) {
  std::vector<std::string> tokens;
  char32_t next = 0x100;
  for (char32_t byte = 0; byte < 256; ++byte) {
    const bool printable = (byte > 0x20 && byte < 0x7F) || (byte > 0xA0 && byte != 0xAD);
    tokens.emplace_back();
    AppendUtf8(printable ? byte : next++, &tokens.back());
  }
  for (const std::string merge : kBpeMerges) {
    const size_t space = merge.find(' ');
    tokens.push_back(merge.substr(0, space) + merge.substr(space + 1));
  }
  std::vector<int32_t> types(tokens.size(), 1);
  tokens.insert(tokens.end(), {"<|endoftext|>", "<tool>"});
  types.insert(types.end(), {3, 4});
  const auto end = static_cast<uint32_t>(tokens.size() - 2);
  writer->SetString("tokenizer.ggml.model", "gpt2");
  writer->SetString("tokenizer.ggml.pre", pre);
  writer->SetStringArray("tokenizer.ggml.tokens", tokens);
  writer->SetI32Array("tokenizer.ggml.token_type", types);
  writer->SetStringArray("tokenizer.ggml.merges",
                         std::vector<std::string>(kBpeMerges.begin(), kBpeMerges.end()));
  writer->SetU32("tokenizer.ggml.bos_token_id", end);
  writer->SetU32("tokenizer.ggml.eos_token_id", end);
}

// ---------------------------------------------------------------- tiny models

// Adds an f32 tensor of small random values.
inline void AddRandomTensor(GgufWriter* writer, const std::string& name,
                            const std::vector<uint64_t>& dims, std::mt19937* random) {
  uint64_t count = 1;
  for (const uint64_t dim : dims) count *= dim;
  std::vector<float> values(count);
  // Not a distribution of the standard library, which differs between implementations.
  for (float& value : values) {
    value = (static_cast<float>((*random)() >> 8) / 16777216.0F - 0.5F) * 0.2F;
  }
  writer->AddTensor(name, HOB_FORMAT_F32, dims, [values](const GgufWriter::Sink& sink) {
    sink({reinterpret_cast<const uint8_t*>(values.data()), values.size() * sizeof(float)});
  });
}

// A whole model of the llama architecture with random f32 weights and AddSpmVocabulary's tokens:
// 2 layers, width 32, 4 heads of 8, 2 KV heads, feed-forward 64, context 64.
inline GgufWriter TinyLlama(uint32_t seed = 1) {
  GgufWriter writer;
  writer.SetString("general.architecture", "llama");
  writer.SetString("general.name", "tiny");
  writer.SetU32("llama.block_count", 2);
  writer.SetU32("llama.context_length", 64);
  writer.SetU32("llama.embedding_length", 32);
  writer.SetU32("llama.feed_forward_length", 64);
  writer.SetU32("llama.attention.head_count", 4);
  writer.SetU32("llama.attention.head_count_kv", 2);
  writer.SetU32("llama.rope.dimension_count", 8);
  writer.SetF32("llama.attention.layer_norm_rms_epsilon", 1e-5F);
  AddSpmVocabulary(&writer);
  constexpr uint64_t kVocabulary = 3 + 256 + kSpmPieces.size() + 2;
  std::mt19937 random(seed);
  AddRandomTensor(&writer, "token_embd.weight", {32, kVocabulary}, &random);
  for (int layer = 0; layer < 2; ++layer) {
    const std::string prefix = "blk." + std::to_string(layer) + ".";
    AddRandomTensor(&writer, prefix + "attn_norm.weight", {32}, &random);
    AddRandomTensor(&writer, prefix + "attn_q.weight", {32, 32}, &random);
    AddRandomTensor(&writer, prefix + "attn_k.weight", {32, 16}, &random);
    AddRandomTensor(&writer, prefix + "attn_v.weight", {32, 16}, &random);
    AddRandomTensor(&writer, prefix + "attn_output.weight", {32, 32}, &random);
    AddRandomTensor(&writer, prefix + "ffn_norm.weight", {32}, &random);
    AddRandomTensor(&writer, prefix + "ffn_gate.weight", {32, 64}, &random);
    AddRandomTensor(&writer, prefix + "ffn_up.weight", {32, 64}, &random);
    AddRandomTensor(&writer, prefix + "ffn_down.weight", {64, 32}, &random);
  }
  AddRandomTensor(&writer, "output_norm.weight", {32}, &random);
  AddRandomTensor(&writer, "output.weight", {32, kVocabulary}, &random);
  return writer;
}

}  // namespace hob::test

#endif  // HOB_TESTS_TEST_FILES_H_
