// Start at QuantizeFile, at the end: it copies the metadata and gives the writer one source for
// each tensor. While the file is written, a source decodes and encodes its tensor slice by slice.
// Which format a tensor gets is decided in quantize_mix.cc.
#include "runtime/quantize_file.h"

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "kernels/formats.h"
#include "runtime/encode.h"
#include "runtime/error.h"
#include "runtime/gguf.h"
#include "runtime/quantize_mix.h"

namespace hob {
namespace {

// What happens to one tensor.
struct Plan {
  const GgufTensor& tensor;
  const Format* to;  // nullptr: copied as it is
  std::string from_name, to_name, note;
};

std::vector<Plan> MakePlans(const Gguf& file, const QuantizeGoal& goal) {
  const std::vector<MixTensor> tensors = ReadMixTensors(file);
  // A plain format asks nothing of the metadata, so files of any kind will do.
  const MixModel model = goal.mix == nullptr ? MixModel{} : ReadMixModel(file);
  const std::vector<TensorChoice> choices = ChooseFormats(goal, model, tensors);

  std::vector<Plan> plans;
  for (size_t i = 0; i < tensors.size(); ++i) {
    const GgufTensor& tensor = file.tensors()[i];
    const std::string from = TensorTypeName(tensor.type);
    const Format* to = nullptr;
    if (!choices[i].format.empty()) to = &RequireFormat(goal, tensors[i], choices[i].format);
    const std::string to_name = to == nullptr ? from : to->name;
    if (to != nullptr && tensor.type == static_cast<uint32_t>(to->id)) to = nullptr;
    plans.push_back({tensor, to, from, to_name, choices[i].note});
  }
  return plans;
}

// The options' callbacks, and how far the whole is.
class Reporter {
 public:
  Reporter(const hob_quantize_options& options, const Gguf& file)
      : options_(options), source_(file.source()) {
    for (const GgufTensor& tensor : file.tensors()) total_ += tensor.elements;
  }

  bool Measures() const { return options_.measured != nullptr; }

  void Tensor(const Plan& plan) const {
    if (options_.tensor != nullptr) Call(options_.tensor, plan, nullptr);
  }
  void Measured(const Plan& plan, const EncodingError& error) const {
    if (options_.measured != nullptr) Call(options_.measured, plan, &error);
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
  template <typename Callback>
  void Call(Callback callback, const Plan& plan, const EncodingError* error) const {
    const std::string name(plan.tensor.name);
    hob_quantize_tensor tensor = {};
    tensor.struct_size = sizeof(tensor);
    tensor.name = name.c_str();
    tensor.from = plan.from_name.c_str();
    tensor.to = plan.to_name.c_str();
    tensor.note = plan.note.c_str();
    tensor.values = plan.tensor.elements;
    if (error != nullptr) {
      tensor.squared_source = error->squared_source();
      tensor.squared_error = error->squared_error();
      tensor.relative_rms = RelativeRms(error->squared_error(), error->squared_source());
      tensor.block_values = error->block_values();
      tensor.worst_block = error->worst_block();
      tensor.worst_relative_rms = error->worst();
    }
    callback(options_.tensor_context, &tensor);
  }

  const hob_quantize_options& options_;
  std::string source_;
  uint64_t total_ = 0, done_ = 0;
};

void Encode(const Gguf& file, const Plan& plan, const hob_threads* threads, Reporter* reporter,
            const GgufWriter::Sink& sink) {
  const GgufTensor& tensor = plan.tensor;
  const uint8_t* data = file.Data(tensor).data();  // refuses a type that hob does not know
  const Format& from = *FindFormat(static_cast<hob_format>(tensor.type));
  const size_t k = tensor.dims[0];
  const size_t row_bytes = from.row_bytes(k);
  const auto decode = from.kernels(RequireTarget()).dequantize;
  EncodingError error(*plan.to);
  EncodeRows(
      {.to = *plan.to,
       .k = k,
       .rows = tensor.elements / k,
       .source = [=](size_t row, float* values) { decode(data + row * row_bytes, k, values); },
       .threads = threads,
       .error = reporter->Measures() ? &error : nullptr},
      sink, [&](uint64_t values) { reporter->Advance(values); });
  reporter->Measured(plan, error);
}

}  // namespace

void QuantizeFile(const char* in_path, const char* out_path, const char* format,
                  const hob_quantize_options& options) {
  const QuantizeGoal goal = ParseGoal(format);
  RequireTarget();
  const Gguf file = Gguf::Open(in_path);
  GgufWriter writer;
  writer.CopyMetadata(file);
  writer.SetU32("general.file_type", goal.file_type);
  writer.SetU32("general.quantization_version", kQuantizationVersion);

  Reporter reporter(options, file);
  const std::vector<Plan> plans = MakePlans(file, goal);
  for (const Plan& plan : plans) {
    const GgufTensor& tensor = plan.tensor;
    const uint32_t type = plan.to == nullptr ? tensor.type : static_cast<uint32_t>(plan.to->id);
    writer.AddTensor(tensor.name, type, std::span(tensor.dims).first(tensor.n_dims),
                     [&](const GgufWriter::Sink& sink) {
                       reporter.Tensor(plan);
                       if (plan.to != nullptr) {
                         Encode(file, plan, options.threads, &reporter, sink);
                       } else {
                         sink(file.Data(tensor));
                         reporter.Advance(tensor.elements);
                       }
                       file.DropPages(tensor);
                     });
  }
  writer.WriteFile(out_path);
}

}  // namespace hob
