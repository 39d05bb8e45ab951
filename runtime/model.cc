// See model.h.
#include "runtime/model.h"

#include <algorithm>
#include <span>
#include <string_view>
#include <vector>

#include "kernels/matmul.h"
#include "runtime/error.h"
#include "runtime/mapped_file.h"
#include "runtime/region.h"

namespace hob {
namespace {

// File bytes packed in one chunk: enough to be worth handing out, few enough to balance.
constexpr size_t kPackBytes = size_t{1} << 18;

// Packs the matrices one after the other, each by all threads. What of the file has been packed is
// given back to the system at once, so that the weights are never in memory twice.
class PackWork final : public RegionWork {
 public:
  PackWork(const Gguf& file, const std::vector<WeightMatrix*>& matrices, AlignedBuffer& packed,
           const hob_model_options& options)
      : file_(file), options_(options) {
    size_t offset = 0;
    for (WeightMatrix* matrix : matrices) {
      const GgufTensor& tensor = file.GetTensor(matrix->name);
      const size_t panel_file_bytes = kPanel * matrix->format->row_bytes(matrix->k);
      const size_t rows = std::max<size_t>(kPackBytes / panel_file_bytes, 1) * kPanel;
      items_.push_back({*matrix, tensor, file.Data(tensor).data(), packed.data() + offset, rows});
      matrix->packed = packed.data() + offset;
      offset += RoundUp(matrix->format->packed_bytes(matrix->n, matrix->k), kAlignment);
      total_bytes_ += *tensor.bytes;
    }
  }

  // False if the progress callback asked to stop.
  bool Run() {
    Region region(options_.threads);
    return region.Run(*this) && !Cancelled(items_.size());
  }

 private:
  struct Item {
    const WeightMatrix& matrix;
    const GgufTensor& tensor;
    const uint8_t* rows;  // (n, row bytes)
    uint8_t* packed;
    size_t rows_in_chunk;  // a multiple of 16
  };

  size_t phase_count() const override { return items_.size(); }
  size_t chunk_count(size_t phase) const override {
    const Item& item = items_[phase];
    return (item.matrix.n + item.rows_in_chunk - 1) / item.rows_in_chunk;
  }

  void RunChunk(size_t phase, size_t chunk, size_t) override {
    const Item& item = items_[phase];
    const WeightMatrix& matrix = item.matrix;
    const size_t begin = chunk * item.rows_in_chunk;
    const size_t end = std::min(begin + item.rows_in_chunk, matrix.n);
    PackRows(*matrix.format, item.rows, matrix.n, matrix.k, begin, end, item.packed);
    const size_t row_bytes = matrix.format->row_bytes(matrix.k);
    file_.DropPages(item.tensor, begin * row_bytes, end * row_bytes);
  }

  // Called once before each matrix, and once at the end: the one before is done.
  bool Cancelled(size_t matrix) override {
    if (matrix > 0) {
      const GgufTensor& tensor = items_[matrix - 1].tensor;
      file_.DropPages(tensor);  // also the pages that two chunks share
      done_bytes_ += *tensor.bytes;
    }
    if (options_.progress == nullptr) return false;
    const double done = static_cast<double>(done_bytes_) / static_cast<double>(total_bytes_);
    return options_.progress(options_.progress_context, static_cast<float>(done)) != 0;
  }

  const Gguf& file_;
  const hob_model_options& options_;
  std::vector<Item> items_;
  uint64_t total_bytes_ = 0, done_bytes_ = 0;
};

// What a file says about a model, without the values of its matrices: those are in memory packed.
// Names, counts and values have their lengths in front, so that no two models look the same.
Checksum DescriptionOf(const Gguf& file) {
  const auto add = [](Checksum& sum, std::string_view text) { sum.Add(text.size()).Add(text); };
  const std::string_view architecture = file.GetString("general.architecture");
  Checksum sum;
  add(sum, architecture);
  add(sum, hob_packed_layout());
  for (const GgufValue& value : file.values()) {
    const std::string_view key = value.key;
    if (!key.starts_with(architecture) || !key.substr(architecture.size()).starts_with('.')) {
      continue;
    }
    add(sum, key);
    sum.Add(static_cast<uint64_t>(value.type)).Add(value.raw.size()).Add(value.raw);
  }
  for (const GgufTensor& tensor : file.tensors()) {
    add(sum, tensor.name);
    sum.Add(uint64_t{tensor.type});
    for (const uint64_t dim : tensor.dims) sum.Add(dim);
    if (tensor.dims[1] == 1) sum.Add(file.Data(tensor));
  }
  return sum;
}

}  // namespace

std::unique_ptr<Model> Model::Load(const Gguf& file, const hob_model_options& options) {
  std::unique_ptr<Model> model(new Model);
  model->architecture_ = file.GetString("general.architecture", "");
  model->name_ = file.GetString("general.name", "");
  constexpr std::string_view kTemplate = "hob.prompt_template";
  model->has_prompt_template_ = file.Find(kTemplate) != nullptr;
  if (model->has_prompt_template_) model->prompt_template_ = file.GetString(kTemplate);
  // The dimensions first: an architecture that we do not know may have any tokenizer.
  if (options.vocabulary_only == 0) model->config_ = ReadDecoderConfig(file);
  model->tokenizer_ = Tokenizer::Create(file);
  if (options.vocabulary_only == 0) model->LoadWeights(file, options);
  return model;
}

void Model::LoadWeights(const Gguf& file, const hob_model_options& options) {
  const size_t tokens = static_cast<size_t>(tokenizer_->size());
  if (tokens > config_.vocabulary) {
    file.Fail(HOB_ERROR_SHAPE, "the tokenizer has " + std::to_string(tokens) +
                                   " tokens, but token_embd.weight only " +
                                   std::to_string(config_.vocabulary) + " rows");
  }
  weights_ = ReadDecoderWeights(file, config_);
  for (const GgufTensor& tensor : file.tensors()) parameters_ += tensor.elements;
  description_ = DescriptionOf(file);
  Pack(file, options);
}

void Model::Pack(const Gguf& file, const hob_model_options& options) {
  const std::vector<WeightMatrix*> matrices = DecoderMatrices(weights_);
  size_t bytes = 0;
  for (const WeightMatrix* matrix : matrices) {
    bytes += RoundUp(matrix->format->packed_bytes(matrix->n, matrix->k), kAlignment);
  }
  packed_ = AlignedBuffer(bytes);
  PreferLargePages(packed_.data(), packed_.size());
  if (!PackWork(file, matrices, packed_, options).Run()) {
    file.Fail(HOB_ERROR_CANCELLED, "loading was stopped by the progress callback");
  }
}

// Computed at the first call, since most sessions are never saved. Threads that meet here compute
// the same.
uint64_t Model::Fingerprint() const {
  uint64_t fingerprint = fingerprint_.load(std::memory_order_relaxed);
  if (fingerprint != 0) return fingerprint;
  Checksum sum = description_;
  fingerprint = sum.Add(std::span<const uint8_t>(packed_.data(), packed_.size())).value();
  if (fingerprint == 0) fingerprint = 1;
  fingerprint_.store(fingerprint, std::memory_order_relaxed);
  return fingerprint;
}

hob_model_info Model::Describe() const {
  hob_model_info info{};
  info.struct_size = sizeof(info);
  info.name = name_.c_str();
  info.architecture = architecture_.c_str();
  info.vocabulary = has_weights() ? config_.vocabulary : static_cast<size_t>(tokenizer_->size());
  info.context = config_.context;
  info.layers = config_.layers;
  info.width = config_.width;
  info.heads = config_.heads;
  info.kv_heads = config_.kv_heads;
  info.head_dim = config_.head_dim;
  info.feed_forward = config_.feed_forward;
  info.parameters = parameters_;
  info.weight_bytes = packed_.size();
  info.bos = tokenizer_->bos();
  info.eos = tokenizer_->eos();
  info.prompt_template = has_prompt_template_ ? prompt_template_.c_str() : nullptr;
  return info;
}

}  // namespace hob
