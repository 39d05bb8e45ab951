// The smallest whole models, for corpora and for targets that need a model: one layer, width 32,
// few tokens.
#ifndef HOB_TESTS_FUZZ_MICRO_MODEL_H_
#define HOB_TESTS_FUZZ_MICRO_MODEL_H_

#include <cstdint>
#include <string>
#include <vector>

#include "kernels/formats.h"
#include "runtime/gguf.h"
#include "tests/fuzz/fuzz.h"

namespace hob::fuzz {

// SentencePiece without byte tokens: what is not in it becomes the unknown token.
inline void AddMicroVocabulary(GgufWriter* writer) {
  const std::vector<std::string> tokens = {"<unk>",
                                           "<s>",
                                           "</s>",
                                           "\xE2\x96\x81",
                                           "a",
                                           "b",
                                           "c",
                                           "ab",
                                           "bc",
                                           "abc",
                                           "\xE2\x96\x81"
                                           "a",
                                           "\n"};
  const std::vector<float> scores = {0, 0, 0, -9, -8, -8, -8, -3, -4, -2, -3, -7};
  const std::vector<int32_t> types = {2, 3, 3, 1, 1, 1, 1, 1, 1, 1, 1, 1};
  writer->SetString("tokenizer.ggml.model", "llama");
  writer->SetStringArray("tokenizer.ggml.tokens", tokens);
  writer->SetF32Array("tokenizer.ggml.scores", scores);
  writer->SetI32Array("tokenizer.ggml.token_type", types);
  writer->SetU32("tokenizer.ggml.bos_token_id", 1);
  writer->SetU32("tokenizer.ggml.eos_token_id", 2);
  writer->SetU32("tokenizer.ggml.unknown_token_id", 0);
}
inline constexpr uint64_t kMicroTokens = 12;

// Matrices in `format`, whose blocks must divide 32.
inline std::vector<uint8_t> MicroModel(hob_format format) {
  GgufWriter writer;
  writer.SetString("general.architecture", "llama");
  writer.SetU32("llama.block_count", 1);
  writer.SetU32("llama.context_length", 64);
  writer.SetU32("llama.embedding_length", 32);
  writer.SetU32("llama.feed_forward_length", 32);
  writer.SetU32("llama.attention.head_count", 4);
  writer.SetU32("llama.attention.head_count_kv", 2);
  writer.SetF32("llama.attention.layer_norm_rms_epsilon", 1e-5F);
  AddMicroVocabulary(&writer);
  Numbers numbers(1);
  const auto add = [&](const char* name, hob_format type, std::vector<uint64_t> dims) {
    const uint64_t rows = dims.size() > 1 ? dims[1] : 1;
    std::vector<float> values(dims[0] * rows);
    for (float& value : values) {
      value = static_cast<float>(static_cast<int32_t>(numbers.Next() >> 32)) * 0x1p-32F;
    }
    const Format& to = *FindFormat(type);
    std::vector<uint8_t> bytes(to.row_bytes(dims[0]) * rows);
    for (uint64_t row = 0; row < rows; ++row) {
      to.encode(values.data() + row * dims[0], dims[0], bytes.data() + row * to.row_bytes(dims[0]));
    }
    writer.AddTensor(name, type, dims, [bytes](const GgufWriter::Sink& sink) { sink(bytes); });
  };
  add("token_embd.weight", format, {32, kMicroTokens});
  add("blk.0.attn_norm.weight", HOB_FORMAT_F32, {32});
  add("blk.0.attn_q.weight", format, {32, 32});
  add("blk.0.attn_k.weight", format, {32, 16});
  add("blk.0.attn_v.weight", format, {32, 16});
  add("blk.0.attn_output.weight", format, {32, 32});
  add("blk.0.ffn_norm.weight", HOB_FORMAT_F32, {32});
  add("blk.0.ffn_gate.weight", format, {32, 32});
  add("blk.0.ffn_up.weight", format, {32, 32});
  add("blk.0.ffn_down.weight", format, {32, 32});
  add("output_norm.weight", HOB_FORMAT_F32, {32});
  return writer.WriteBytes();
}

}  // namespace hob::fuzz

#endif  // HOB_TESTS_FUZZ_MICRO_MODEL_H_
