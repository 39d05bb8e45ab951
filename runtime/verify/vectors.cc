#include "runtime/verify/vectors.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <utility>

#include "runtime/error.h"
#include "runtime/verify/sha256.h"

namespace hob::verify {
namespace {

using Json = nlohmann::ordered_json;
using Bytes = std::vector<uint8_t>;

constexpr const char* kIndex = "vectors.json";
constexpr const char* kFormat = "hob-vectors";
constexpr int kVersion = 1;

[[noreturn]] void Fail(const std::string& what) { throw Error(HOB_ERROR_FILE, what); }

std::string PathOf(const std::string& directory, const std::string& file) {
  return (std::filesystem::path(directory) / file).string();
}

void WriteFile(const std::string& path, const void* data, size_t bytes) {
  std::ofstream file(path, std::ios::binary | std::ios::trunc);
  file.write(static_cast<const char*>(data), static_cast<std::streamsize>(bytes));
  file.close();
  if (!file) Fail(path + ": cannot be written");
}

Bytes ReadFile(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) Fail(path + ": cannot be read");
  Bytes data((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  if (file.bad()) Fail(path + ": cannot be read");
  return data;
}

// ---------------------------------------------------------------- writing

// The arrays of one op, one after the other, each from a multiple of 8 bytes on.
class ArrayFile {
 public:
  explicit ArrayFile(std::string name) : name_(std::move(name)) {}

  Json Add(const Array& array) {
    data_.resize((data_.size() + 7) / 8 * 8);
    const size_t offset = data_.size();
    data_.insert(data_.end(), array.bytes.begin(), array.bytes.end());
    return {{"name", array.name},
            {"type", TypeName(array.type)},
            {"shape", array.shape},
            {"file", name_},
            {"offset", offset}};
  }

  Json Write(const std::string& directory) const {
    WriteFile(PathOf(directory, name_), data_.data(), data_.size());
    return {
        {"name", name_}, {"bytes", data_.size()}, {"sha256", Sha256Of(data_.data(), data_.size())}};
  }

 private:
  std::string name_;
  Bytes data_;
};

Json CaseJson(const Op& op, const Case& c, ArrayFile* file) {
  Json json = {{"op", c.op}, {"variant", c.variant}, {"name", c.name}, {"numbers", c.numbers}};
  json["inputs"] = Json::array();
  for (const Array& input : c.inputs) json["inputs"].push_back(file->Add(input));
  Outputs outputs = op.reference(c);
  const bool has_bounds =
      op.check != nullptr && outputs.size() == 1 && outputs[0].type == Type::kF32;
  std::vector<double> exact, bound;
  if (has_bounds) {
    for (const Checked& checked : op.check(c, outputs)) {
      exact.push_back(checked.want);
      bound.push_back(checked.bound);
    }
  }
  MakeNansEqual(&outputs);
  json["outputs"] = Json::array();
  for (const Array& output : outputs) json["outputs"].push_back(file->Add(output));
  if (std::any_of(bound.begin(), bound.end(), [](double b) { return b != 0; })) {
    json["exact"] = file->Add(MakeArray("exact", outputs[0].shape, exact));
    json["bound"] = file->Add(MakeArray("bound", outputs[0].shape, bound));
  }
  return json;
}

// ---------------------------------------------------------------- reading

// What is in the files, checked against their sums.
class VectorFiles {
 public:
  VectorFiles(const std::string& directory, const Json& list) {
    for (const Json& item : list) {
      const std::string name = item.at("name");
      if (name != std::filesystem::path(name).filename().string() || name == "..") {
        Fail("file \"" + name + "\" of " + kIndex + " is not in the directory");
      }
      const std::string path = PathOf(directory, name);
      Bytes data = ReadFile(path);
      if (Sha256Of(data.data(), data.size()) != item.at("sha256").get<std::string>()) {
        Fail(path + ": its SHA-256 is not the one in " + kIndex);
      }
      files_[name] = std::move(data);
    }
  }

  Array Get(const Json& item) const {
    Array array = {item.at("name"), TypeNamed(item.at("type")), item.at("shape"), {}};
    const auto file = files_.find(item.at("file"));
    if (file == files_.end()) Fail("array \"" + array.name + "\" is in a file that is not listed");
    const size_t size = file->second.size(), offset = item.at("offset").get<size_t>();
    size_t bytes = TypeBytes(array.type);
    for (const size_t extent : array.shape) {
      if (extent > size || bytes * extent > size) Fail(TooLong(array));
      bytes *= extent;
    }
    if (offset > size || bytes > size - offset) Fail(TooLong(array));
    const auto begin = file->second.begin() + static_cast<ptrdiff_t>(offset);
    array.bytes.assign(begin, begin + static_cast<ptrdiff_t>(bytes));
    return array;
  }

  std::vector<Array> GetAll(const Json& list) const {
    std::vector<Array> arrays;
    for (const Json& item : list) arrays.push_back(Get(item));
    return arrays;
  }

 private:
  static Type TypeNamed(const std::string& name) {
    for (const Type type : {Type::kF32, Type::kF64, Type::kI32, Type::kU32, Type::kI8, Type::kU8}) {
      if (name == TypeName(type)) return type;
    }
    Fail("there is no type \"" + name + "\" of arrays");
  }

  static std::string TooLong(const Array& array) {
    return "array \"" + array.name + "\" " + ShapeText(array.shape) + " reaches beyond its file";
  }

  std::map<std::string, Bytes> files_;
};

// The expected bits must have the shape of those that were computed.
void CheckShape(const Case& c, const Outputs& computed, const Outputs& expected) {
  bool same = computed.size() == expected.size();
  for (size_t i = 0; same && i < computed.size(); ++i) {
    same = computed[i].name == expected[i].name && computed[i].type == expected[i].type &&
           computed[i].shape == expected[i].shape;
  }
  if (!same) Refuse(c, "the outputs are not those of this op");
}

void AddTarget(const Case& c, Outputs got, const Outputs& want, size_t target, Line* line) {
  CheckShape(c, got, want);
  MakeNansEqual(&got);
  TargetResult& result = line->targets[target];
  Difference first = {result.target, c.name};
  const size_t different = CountDifferent(got, want, &first);
  if (different > 0 && result.different == 0) line->differences.push_back(first);
  result.different += different;
}

// The line of this op and variant, a new one if need be.
Line* LineOf(const Case& c, std::span<const Kernels> kernels, Report* report) {
  for (Line& line : report->lines) {
    if (line.op == c.op && line.variant == c.variant) return &line;
  }
  Line line = {c.op, c.variant};
  line.targets.push_back({"reference"});
  for (const Kernels& target : kernels) line.targets.push_back({target.name});
  report->lines.push_back(std::move(line));
  return &report->lines.back();
}

void CheckCase(const Json& json, const VectorFiles& files, std::span<const Kernels> kernels,
               Report* report, Sha256* digest) {
  Case c = {
      json.at("op"), json.at("variant"), json.at("name"), {}, files.GetAll(json.at("inputs"))};
  for (const auto& [name, value] : json.at("numbers").items()) c.numbers[name] = value;
  const Op* op = FindOp(c.op);
  if (op == nullptr) Refuse(c, "there is no such op");
  Outputs want = files.GetAll(json.at("outputs"));
  MakeNansEqual(&want);
  Line* line = LineOf(c, kernels, report);
  AddTarget(c, op->reference(c), want, 0, line);
  for (size_t i = 0; i < kernels.size(); ++i) {
    AddTarget(c, op->run(c, kernels[i]), want, i + 1, line);
  }
  ++line->cases;
  for (const Array& output : want) {
    line->outputs += CountOf(output.shape);
    digest->Add(output.bytes.data(), output.bytes.size());
  }
  if (!json.contains("exact")) return;
  const Array exact = files.Get(json.at("exact")), bound = files.Get(json.at("bound"));
  if (want.size() != 1 || want[0].type != Type::kF32 || exact.type != Type::kF64 ||
      bound.type != Type::kF64 || exact.shape != want[0].shape || bound.shape != want[0].shape) {
    Refuse(c, "exact and bound are not of the shape of the output");
  }
  std::vector<Checked> checked;
  for (size_t i = 0; i < CountOf(want[0].shape); ++i) {
    checked.push_back({static_cast<double>(want[0].as<float>()[i]), exact.as<double>()[i],
                       bound.as<double>()[i]});
  }
  AddChecked(checked, c.name, line);
}

}  // namespace

void ExportVectors(const std::string& directory) {
  std::error_code error;
  std::filesystem::create_directories(directory, error);
  if (error) Fail(directory + ": cannot be made: " + error.message());
  Json index = {{"format", kFormat},
                {"version", kVersion},
                {"hob", hob_version()},
                {"files", Json::array()},
                {"cases", Json::array()}};
  for (const Op& op : Ops()) {
    ArrayFile file(std::string(op.name) + ".bin");
    for (const std::string& variant : op.variants()) {
      for (const Case& c : op.make(variant, Extent::kFew)) {
        index["cases"].push_back(CaseJson(op, c, &file));
      }
    }
    index["files"].push_back(file.Write(directory));
  }
  // A line for each case, so that people and diff can read it.
  std::string text = "{\n";
  for (const auto& [key, value] : index.items()) {
    text += (text.size() > 2 ? ",\n " : " ") + Json(key).dump() + ": ";
    if (!value.is_array()) {
      text += value.dump();
      continue;
    }
    text += "[";
    for (size_t i = 0; i < value.size(); ++i) text += (i == 0 ? "\n  " : ",\n  ") + value[i].dump();
    text += "\n ]";
  }
  text += "\n}\n";
  WriteFile(PathOf(directory, kIndex), text.data(), text.size());
}

Report CheckVectors(const std::string& directory, std::span<const Kernels> kernels) {
  const std::string path = PathOf(directory, kIndex);
  const Bytes text = ReadFile(path);
  try {
    const Json index = Json::parse(text.begin(), text.end());
    if (index.at("format") != kFormat || index.at("version") != kVersion) {
      Fail(path + ": expected \"" + kFormat + "\", version " + std::to_string(kVersion));
    }
    const VectorFiles files(directory, index.at("files"));
    Report report;
    Sha256 digest;
    for (const Json& json : index.at("cases")) {
      CheckCase(json, files, kernels, &report, &digest);
    }
    if (report.lines.empty()) Fail(path + ": there are no cases in it");
    report.digest = digest.Finish();
    for (const Line& line : report.lines) {
      report.ok &= line.beyond == 0 && line.differences.empty();
    }
    return report;
  } catch (const nlohmann::json::exception& error) {
    Fail(path + ": " + error.what());
  }
}

}  // namespace hob::verify
