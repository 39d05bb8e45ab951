// hob info: what is in a GGUF file, for people or as JSON.
#include <cstdio>
#include <cstring>
#include <map>
#include <nlohmann/json.hpp>
#include <string>

#include "runtime/cli/common.h"
#include "runtime/decoder.h"
#include "runtime/default_model/default_model.h"
#include "runtime/gguf.h"

namespace hob::cli {
namespace {

using Json = nlohmann::ordered_json;

struct InfoOptions {
  std::string model;
  bool json = false, tensors = false;
};

Gguf OpenGguf(const std::string& path) {
  if (!path.empty()) return Gguf::Open(path);
  if (DefaultModelBytes().empty()) {
    throw std::runtime_error("this build has no built-in model; name a GGUF file");
  }
  return Gguf::FromMemory(DefaultModelBytes(), "the built-in model");
}

struct Totals {
  uint64_t parameters = 0, bytes = 0;
  std::map<std::string, size_t> tensors;  // by format
};

Totals Sum(const Gguf& file) {
  Totals totals;
  for (const GgufTensor& tensor : file.tensors()) {
    totals.parameters += tensor.elements;
    totals.bytes += tensor.bytes.value_or(0);
    ++totals.tensors[TensorTypeName(tensor.type)];
  }
  return totals;
}

template <typename T>
T Scalar(const GgufValue& value) {
  T scalar;
  std::memcpy(&scalar, value.raw.data(), sizeof(scalar));
  return scalar;
}

// Arrays, which may have a hundred thousand elements, by their length only.
Json ToJson(const Gguf& file, const GgufValue& value) {
  switch (value.type) {
    case GgufType::kUint8:
      return Scalar<uint8_t>(value);
    case GgufType::kInt8:
      return Scalar<int8_t>(value);
    case GgufType::kUint16:
      return Scalar<uint16_t>(value);
    case GgufType::kInt16:
      return Scalar<int16_t>(value);
    case GgufType::kUint32:
      return Scalar<uint32_t>(value);
    case GgufType::kInt32:
      return Scalar<int32_t>(value);
    case GgufType::kUint64:
      return Scalar<uint64_t>(value);
    case GgufType::kInt64:
      return Scalar<int64_t>(value);
    case GgufType::kFloat32:
      return Scalar<float>(value);
    case GgufType::kFloat64:
      return Scalar<double>(value);
    case GgufType::kBool:
      return Scalar<uint8_t>(value) != 0;
    case GgufType::kString:
      return file.GetString(value.key);
    case GgufType::kArray:
      return {{"array", GgufTypeName(value.element)}, {"count", value.count}};
  }
  return nullptr;
}

std::string JsonText(const Gguf& file, bool with_tensors) {
  const Totals totals = Sum(file);
  Json root = {{"file", file.source()},           {"gguf_version", file.version()},
               {"parameters", totals.parameters}, {"tensor_bytes", totals.bytes},
               {"formats", totals.tensors},       {"metadata", Json::object()}};
  for (const GgufValue& value : file.values()) {
    root["metadata"][std::string(value.key)] = ToJson(file, value);
  }
  if (with_tensors) {
    root["tensors"] = Json::array();
    for (const GgufTensor& tensor : file.tensors()) {
      const auto dims = std::span(tensor.dims).first(tensor.n_dims);
      root["tensors"].push_back({{"name", tensor.name},
                                 {"format", TensorTypeName(tensor.type)},
                                 {"dims", std::vector<uint64_t>(dims.begin(), dims.end())}});
    }
  }
  // Text that is not UTF-8 must not end the program.
  return root.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

// The architecture, and whether hob has it; with a file of any other it can still do much.
std::string ArchitectureText(const Gguf& file) {
  const std::string_view name = file.GetString("general.architecture", "");
  std::string text(name);
  if (FindArchitecture(name) == nullptr) {
    text += " (hob runs " + ArchitectureNames() + ")";
  }
  return text;
}

std::string PlainText(const Gguf& file, bool with_tensors) {
  const Totals totals = Sum(file);
  std::string out = "file            " + file.source() + "\n";
  out += "architecture    " + ArchitectureText(file) + "\n";
  out += "name            " + std::string(file.GetString("general.name", "")) + "\n";
  out += "parameters      " + std::to_string(totals.parameters) + "\n";
  out += "tensor bytes    " + std::to_string(totals.bytes) + "\n";
  out += "tensors        ";
  for (const auto& [format, count] : totals.tensors) {
    out += " " + std::to_string(count) + " " + format;
  }
  out += "\n\nmetadata\n";
  for (const GgufValue& value : file.values()) {
    out += "  " + std::string(value.key) + " = " + Gguf::ValueText(value) + "\n";
  }
  if (!with_tensors) return out;
  out += "\ntensors\n";
  for (const GgufTensor& tensor : file.tensors()) {
    out += "  " + std::string(tensor.name) + "  " + TensorTypeName(tensor.type) + "  ";
    for (size_t i = 0; i < tensor.n_dims; ++i) {
      out += (i == 0 ? "" : " x ") + std::to_string(tensor.dims[i]);
    }
    out += "\n";
  }
  return out;
}

void Info(const InfoOptions& options) {
  const Gguf file = OpenGguf(options.model);
  Print(options.json ? JsonText(file, options.tensors) : PlainText(file, options.tensors));
}

}  // namespace

void AddInfo(CLI::App& app, Action& action) {
  CLI::App* command = app.add_subcommand("info", "Show what is in a model file");
  auto options = std::make_shared<InfoOptions>();
  command->add_option("model", options->model, "GGUF file (default: the built-in model)")
      ->type_name("FILE");
  command->add_flag("--json", options->json, "As JSON");
  command->add_flag("--tensors", options->tensors, "List the tensors, too");
  command->footer(
      "Works for models of any architecture.\n"
      "\n"
      "Examples:\n"
      "  hob info model.gguf\n"
      "  hob info --json model.gguf | jq '.metadata[\"general.architecture\"]'");
  command->callback([options, &action] { action = [options] { Info(*options); }; });
}

}  // namespace hob::cli
