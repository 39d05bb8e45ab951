// Start at QuantizeFile, at the end: it copies the metadata and gives the writer one source for
// each tensor. While the file is written, a source decodes and encodes its tensor slice by slice,
// so memory stays small however large the model is.
#include "runtime/quantize_file.h"

#include <algorithm>
#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "kernels/formats.h"
#include "kernels/targets.h"
#include "runtime/error.h"
#include "runtime/gguf.h"

namespace hob {
namespace {

constexpr size_t kSliceValues = size_t{1} << 22;
constexpr uint32_t kQuantizationVersion = 2;  // of GGUF's block layouts

// GGUF's general.file_type (the mix of formats in a file) for a tensor type that most of it has.
uint32_t FileType(hob_format format) {
  constexpr std::pair<uint32_t, uint32_t> kFileTypes[] = {
      // tensor type, file type
      {0, 0},    // f32
      {1, 1},    // f16
      {2, 2},    // q4_0
      {3, 3},    // q4_1
      {6, 8},    // q5_0
      {7, 9},    // q5_1
      {8, 7},    // q8_0
      {10, 10},  // q2_k
      {11, 12},  // q3_k
      {12, 15},  // q4_k
      {13, 17},  // q5_k
      {14, 18},  // q6_k
      {20, 25},  // iq4_nl
      {23, 30},  // iq4_xs
      {30, 32},  // bf16
      {34, 36},  // tq1_0
      {35, 37},  // tq2_0
      {39, 38},  // mxfp4
  };
  constexpr uint32_t kGuess = 1024;  // readers then judge by the tensors
  for (const auto& [tensor_type, file_type] : kFileTypes) {
    if (tensor_type == static_cast<uint32_t>(format)) return file_type;
  }
  return kGuess;
}

const Format& RequireFormat(hob_format id) {
  const Format* format = FindFormat(id);
  if (format == nullptr) {
    throw Error(HOB_ERROR_FORMAT,
                "format is " + std::to_string(id) + "; expected one that hob_formats lists");
  }
  return *format;
}

Target RequireTarget() {
  const Target target = ActiveTarget();
  if (target < 0) {
    throw Error(HOB_ERROR_TARGET,
                std::string("HOB_TARGET names no target; expected one of ") + KnownTargetNames());
  }
  return target;
}

// Decodes rows of k values in one format and encodes them in another.
class Transcoder {
 public:
  Transcoder(const Format& from, const Format& to, size_t k, const hob_threads* threads)
      : from_(from), to_(to), decode_(from.kernels(RequireTarget()).dequantize), k_(k) {
    if (threads != nullptr && threads->count > 1) threads_ = *threads;
  }

  // The result lives until the next call.
  std::span<const uint8_t> Run(const uint8_t* rows, size_t count) {
    rows_ = rows;
    count_ = count;
    out_.resize(count * to_.row_bytes(k_));
    // A few pieces for each thread, so that a slow one does not keep the others waiting.
    pieces_ = threads_.parallel_for == nullptr ? 1 : std::min(count, 4 * threads_.count);
    scratch_.resize(pieces_ * k_);
    if (pieces_ == 1) {
      RunPiece(0);
    } else {
      threads_.parallel_for(
          threads_.context, pieces_,
          [](void* self, size_t piece) { static_cast<Transcoder*>(self)->RunPiece(piece); }, this);
    }
    return out_;
  }

 private:
  void RunPiece(size_t piece) {
    float* values = scratch_.data() + piece * k_;
    for (size_t row = piece * count_ / pieces_; row < (piece + 1) * count_ / pieces_; ++row) {
      decode_(rows_ + row * from_.row_bytes(k_), k_, values);
      to_.encode(values, k_, out_.data() + row * to_.row_bytes(k_));
    }
  }

  const Format& from_;
  const Format& to_;
  void (*decode_)(const uint8_t* blocks, size_t k, float* out);
  size_t k_;
  hob_threads threads_ = {};
  const uint8_t* rows_ = nullptr;
  size_t count_ = 0, pieces_ = 0;
  std::vector<float> scratch_;  // one row for each piece
  std::vector<uint8_t> out_;
};

// The options' callbacks, and how far the whole is.
class Reporter {
 public:
  Reporter(const hob_quantize_options& options, const Gguf& file)
      : options_(options), source_(file.source()) {
    for (const GgufTensor& tensor : file.tensors()) total_ += tensor.elements;
  }

  void Tensor(const GgufTensor& tensor, const std::string& to) const {
    if (options_.tensor == nullptr) return;
    const std::string name(tensor.name);
    options_.tensor(options_.tensor_context, name.c_str(), TensorTypeName(tensor.type).c_str(),
                    to.c_str());
  }

  void Advance(uint64_t values) {
    done_ += values;
    if (options_.progress == nullptr) return;
    const auto share = static_cast<float>(static_cast<double>(done_) / static_cast<double>(total_));
    if (options_.progress(options_.progress_context, share) != 0) {
      throw Error(HOB_ERROR_CANCELLED, source_ + ": quantizing was cancelled");
    }
  }

 private:
  const hob_quantize_options& options_;
  std::string source_;
  uint64_t total_ = 0, done_ = 0;
};

// Vectors are small and sensitive, so they stay. So does what does not fit the format's blocks, and
// what has the format already.
bool IsEncoded(const GgufTensor& tensor, const Format& to) {
  return tensor.n_dims >= 2 && tensor.dims[0] % to.block_values == 0 &&
         tensor.type != static_cast<uint32_t>(to.id);
}

void Encode(const Gguf& file, const GgufTensor& tensor, const Format& to,
            const hob_threads* threads, Reporter* reporter, const GgufWriter::Sink& sink) {
  const uint8_t* data = file.Data(tensor).data();  // refuses a type that hob does not know
  const Format& from = RequireFormat(static_cast<hob_format>(tensor.type));
  const size_t k = tensor.dims[0];
  const size_t rows = tensor.elements / k;
  const size_t slice = std::max<size_t>(1, kSliceValues / k);
  Transcoder transcoder(from, to, k, threads);
  for (size_t row = 0; row < rows; row += slice) {
    const size_t count = std::min(slice, rows - row);
    sink(transcoder.Run(data + row * from.row_bytes(k), count));
    reporter->Advance(count * k);
  }
}

}  // namespace

void QuantizeFile(const char* in_path, const char* out_path, hob_format format,
                  const hob_quantize_options& options) {
  const Format& to = RequireFormat(format);
  RequireTarget();
  const Gguf file = Gguf::Open(in_path);
  GgufWriter writer;
  writer.CopyMetadata(file);
  writer.SetU32("general.file_type", FileType(format));
  writer.SetU32("general.quantization_version", kQuantizationVersion);

  Reporter reporter(options, file);
  for (const GgufTensor& tensor : file.tensors()) {
    const auto dims = std::span(tensor.dims).first(tensor.n_dims);
    if (IsEncoded(tensor, to)) {
      writer.AddTensor(tensor.name, to.id, dims, [&](const GgufWriter::Sink& sink) {
        reporter.Tensor(tensor, to.name);
        Encode(file, tensor, to, options.threads, &reporter, sink);
        file.DropPages(tensor);
      });
    } else {
      writer.AddTensor(tensor.name, tensor.type, dims, [&](const GgufWriter::Sink& sink) {
        reporter.Tensor(tensor, TensorTypeName(tensor.type));
        sink(file.Data(tensor));
        reporter.Advance(tensor.elements);
      });
    }
  }
  writer.WriteFile(out_path);
}

}  // namespace hob
