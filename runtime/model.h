// A loaded model: dimensions, packed weights and tokenizer. Immutable, so that sessions on any
// threads share it. Start with Model::Load.
#ifndef HOB_RUNTIME_MODEL_H_
#define HOB_RUNTIME_MODEL_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "hob/model.h"
#include "runtime/aligned_buffer.h"
#include "runtime/checksum.h"
#include "runtime/decoder.h"
#include "runtime/gguf.h"
#include "runtime/tokenizer.h"

namespace hob {

class Model {
 public:
  // Reads, checks and packs everything; the file is not needed afterwards. Throws Error.
  static std::unique_ptr<Model> Load(const Gguf& file, const hob_model_options& options);

  Model(const Model&) = delete;
  Model& operator=(const Model&) = delete;

  const Tokenizer& tokenizer() const { return *tokenizer_; }
  // Whether there is more than the tokenizer; what follows is empty otherwise.
  bool has_weights() const { return !weights_.layers.empty(); }
  const DecoderConfig& config() const { return config_; }
  const DecoderWeights& weights() const { return weights_; }

  // Tells models apart: of the architecture's metadata and of all tensors, with their values. Not
  // 0. The first call reads all weights.
  uint64_t Fingerprint() const;

  // As hob_model_describe gives it; its strings live as long as the model.
  hob_model_info Describe() const;

 private:
  Model() = default;
  void LoadWeights(const Gguf& file, const hob_model_options& options);
  void Pack(const Gguf& file, const hob_model_options& options);

  std::string name_, architecture_, prompt_template_;
  bool has_prompt_template_ = false;
  std::unique_ptr<Tokenizer> tokenizer_;
  DecoderConfig config_;
  DecoderWeights weights_;
  AlignedBuffer packed_;  // all matrices, each 64-byte aligned
  size_t parameters_ = 0;
  Checksum description_;                          // of everything but the matrices' values
  mutable std::atomic<uint64_t> fingerprint_{0};  // 0 = not computed yet
};

}  // namespace hob

#endif  // HOB_RUNTIME_MODEL_H_
