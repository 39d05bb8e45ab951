// Reading: Gguf::Parser walks the file once, front to back, and checks it; the getters below it
// only look up. Writing: GgufWriter at the end. See gguf.h.
#include "runtime/gguf.h"

#include <algorithm>
#include <cstring>
#include <limits>
#include <type_traits>
#include <utility>

#include "runtime/error.h"
#include "runtime/temporary_file.h"
#include "runtime/unicode.h"

namespace hob {
namespace {

// More than any real file has, and few enough that their tables take well below 1 GiB.
constexpr uint64_t kMaxKeys = uint64_t{1} << 16;
constexpr uint64_t kMaxTensors = uint64_t{1} << 18;
// Limits of the format itself.
constexpr uint64_t kMaxKeyBytes = 65535;
constexpr uint64_t kMaxTensorNameBytes = 64;
constexpr uint32_t kMaxDims = 4;
constexpr uint64_t kDefaultAlignment = 32;
constexpr uint64_t kMaxAlignment = uint64_t{1} << 20;

constexpr std::string_view kMagic = "GGUF";
constexpr uint32_t kVersion = 3;
constexpr std::string_view kAlignmentKey = "general.alignment";

// Bytes that an encoded thing takes at least, to hold counts against what is left of the file.
constexpr uint64_t kMinKeyBytes = 8 + 1 + 4 + 1;             // name, type, value
constexpr uint64_t kMinTensorBytes = 8 + 1 + 4 + 8 + 4 + 8;  // name, dims, type, offset
constexpr uint64_t kMinStringBytes = 8;

struct TypeRow {
  const char* name;
  uint64_t bytes;  // 0 = varies
};
constexpr TypeRow kTypes[] = {{"uint8", 1},  {"int8", 1},  {"uint16", 2},  {"int16", 2},
                              {"uint32", 4}, {"int32", 4}, {"float32", 4}, {"bool", 1},
                              {"string", 0}, {"array", 0}, {"uint64", 8},  {"int64", 8},
                              {"float64", 8}};

uint64_t FixedBytes(GgufType type) { return kTypes[static_cast<uint32_t>(type)].bytes; }

// GGUF's tensor type ids, in order; nullptr = an id that was withdrawn.
constexpr const char* kTensorTypes[] = {
    "f32",     "f16",    "q4_0",    "q4_1",  nullptr,  nullptr, "q5_0",  "q5_1",
    "q8_0",    "q8_1",   "q2_k",    "q3_k",  "q4_k",   "q5_k",  "q6_k",  "q8_k",
    "iq2_xxs", "iq2_xs", "iq3_xxs", "iq1_s", "iq4_nl", "iq3_s", "iq2_s", "iq4_xs",
    "i8",      "i16",    "i32",     "i64",   "f64",    "iq1_m", "bf16",  nullptr,
    nullptr,   nullptr,  "tq1_0",   "tq2_0", nullptr,  nullptr, nullptr, "mxfp4"};

// The formats that hob computes with.
struct Format {
  uint32_t id;
  const char* name;
  uint64_t block_values;
  uint64_t block_bytes;
};
constexpr Format kFormats[] = {
#define HOB_FORMAT(ENUM, name, id, values, bytes) {id, #name, values, bytes},
#include "hob/formats.def"
#undef HOB_FORMAT
};

const Format* FindFormat(uint32_t type) {
  const auto* found =
      std::find_if(std::begin(kFormats), std::end(kFormats), [&](auto& f) { return f.id == type; });
  return found == std::end(kFormats) ? nullptr : found;
}

std::optional<uint64_t> Product(uint64_t a, uint64_t b) {
  if (a != 0 && b > std::numeric_limits<uint64_t>::max() / a) return std::nullopt;
  return a * b;
}

template <typename T>
T Load(const uint8_t* from) {
  T value;
  std::memcpy(&value, from, sizeof(T));
  return value;
}

std::string_view AsText(std::span<const uint8_t> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

// Calls visit(value) with a scalar in its own type.
template <typename Visitor>
auto VisitScalar(GgufType type, const uint8_t* from, Visitor visit) {
  switch (type) {
    case GgufType::kUint8:
      return visit(Load<uint8_t>(from));
    case GgufType::kInt8:
      return visit(Load<int8_t>(from));
    case GgufType::kUint16:
      return visit(Load<uint16_t>(from));
    case GgufType::kInt16:
      return visit(Load<int16_t>(from));
    case GgufType::kUint32:
      return visit(Load<uint32_t>(from));
    case GgufType::kInt32:
      return visit(Load<int32_t>(from));
    case GgufType::kUint64:
      return visit(Load<uint64_t>(from));
    case GgufType::kInt64:
      return visit(Load<int64_t>(from));
    case GgufType::kFloat32:
      return visit(Load<float>(from));
    case GgufType::kFloat64:
      return visit(Load<double>(from));
    default:
      return visit(*from != 0);  // kBool; strings and arrays never come here
  }
}

bool IsInteger(GgufType type) {
  return FixedBytes(type) != 0 && type != GgufType::kFloat32 && type != GgufType::kFloat64 &&
         type != GgufType::kBool;
}

bool IsFloat(GgufType type) { return type == GgufType::kFloat32 || type == GgufType::kFloat64; }

// An integer of any type as a T; nothing if it is out of T's range.
template <typename T>
std::optional<T> LoadInteger(GgufType type, const uint8_t* from) {
  return VisitScalar(type, from, [](auto value) -> std::optional<T> {
    if constexpr (std::is_integral_v<decltype(value)> && !std::is_same_v<decltype(value), bool>) {
      if (std::in_range<T>(value)) return static_cast<T>(value);
    }
    return std::nullopt;
  });
}

float LoadFloat(GgufType type, const uint8_t* from) {
  return VisitScalar(type, from, [](auto value) { return static_cast<float>(value); });
}

std::string ScalarText(GgufType type, const uint8_t* from) {
  return VisitScalar(type, from, [](auto value) -> std::string {
    if constexpr (std::is_same_v<decltype(value), bool>) {
      return value ? "true" : "false";
    } else if constexpr (std::is_floating_point_v<decltype(value)>) {
      char text[32];
      std::snprintf(text, sizeof(text), "%.9g", static_cast<double>(value));
      return text;
    } else {
      return std::to_string(value);
    }
  });
}

// Where the elements of an array begin in GgufValue::raw, behind their type and count.
constexpr size_t kArrayHeader = sizeof(uint32_t) + sizeof(uint64_t);

// Walks over strings that have been checked before.
std::string_view TakeString(std::span<const uint8_t>* from) {
  const auto bytes = static_cast<size_t>(Load<uint64_t>(from->data()));
  const std::string_view text = AsText(from->subspan(sizeof(uint64_t), bytes));
  *from = from->subspan(sizeof(uint64_t) + bytes);
  return text;
}

std::string TypeText(const GgufValue& value) {
  if (value.type != GgufType::kArray) return GgufTypeName(value.type);
  return std::string("array of ") + GgufTypeName(value.element);
}

}  // namespace

const char* GgufTypeName(GgufType type) { return kTypes[static_cast<uint32_t>(type)].name; }

std::string TensorTypeName(uint32_t type) {
  if (const Format* format = FindFormat(type)) return format->name;
  if (type < std::size(kTensorTypes) && kTensorTypes[type] != nullptr) return kTensorTypes[type];
  return "type " + std::to_string(type);
}

std::optional<uint64_t> TensorBytes(uint32_t type, uint64_t row, uint64_t elements) {
  const Format* format = FindFormat(type);
  if (format == nullptr || row % format->block_values != 0) return std::nullopt;
  return Product(elements / format->block_values, format->block_bytes);
}

// ---------------------------------------------------------------- parsing

class Gguf::Parser {
 public:
  explicit Parser(Gguf* file) : file_(*file), data_(file->data_) {}

  void Run() {
    ReadHeader();
    for (uint64_t i = 0; i < n_values_; ++i) ReadValue(i);
    ReadAlignment();
    for (uint64_t i = 0; i < n_tensors_; ++i) ReadTensor(i);
    PlaceTensors();
  }

 private:
  [[noreturn]] void Damaged(const std::string& message) const {
    file_.Fail(HOB_ERROR_FILE, message);
  }

  size_t Left() const { return data_.size() - at_; }

  std::span<const uint8_t> Take(uint64_t bytes, const std::string& what) {
    if (bytes > Left()) {
      Damaged(what + " needs " + std::to_string(bytes) + " bytes at offset " + std::to_string(at_) +
              ", but the file ends at " + std::to_string(data_.size()));
    }
    const auto taken = data_.subspan(at_, static_cast<size_t>(bytes));
    at_ += taken.size();
    return taken;
  }

  template <typename T>
  T Number(const std::string& what) {
    return Load<T>(Take(sizeof(T), what).data());
  }

  std::string_view Name(uint64_t limit, const std::string& what) {
    const auto bytes = Number<uint64_t>("the length of the name of " + what);
    if (bytes == 0 || bytes > limit) {
      Damaged("the name of " + what + " has " + std::to_string(bytes) + " bytes, expected 1 to " +
              std::to_string(limit));
    }
    return AsText(Take(bytes, "the name of " + what));
  }

  // Holds a count against a limit and against the bytes left, before anything is allocated for it.
  void CheckCount(uint64_t count, uint64_t limit, uint64_t least_bytes, const char* what) const {
    if (count > limit) {
      Damaged(std::to_string(count) + " " + what + ", expected at most " + std::to_string(limit));
    }
    if (count > Left() / least_bytes) {
      Damaged(std::to_string(count) + " " + what + " do not fit in the " + std::to_string(Left()) +
              " bytes that are left");
    }
  }

  void ReadHeader() {
    if (data_.size() < kMagic.size() || AsText(data_.first(kMagic.size())) != kMagic) {
      Damaged("not a GGUF file: it begins with " +
              Quoted(AsText(data_.first(std::min(data_.size(), kMagic.size())))) +
              ", expected 'GGUF'");
    }
    at_ = kMagic.size();
    file_.version_ = Number<uint32_t>("the version");
    if (file_.version_ == 1) {
      file_.Fail(HOB_ERROR_UNSUPPORTED, "GGUF version 1 is not supported, expected 2 or 3");
    }
    // A version in the upper bytes is a small version of the other byte order.
    if (file_.version_ != 0 && (file_.version_ & 0xFFFF) == 0) {
      file_.Fail(HOB_ERROR_UNSUPPORTED, "big-endian GGUF is not supported, expected little-endian");
    }
    if (file_.version_ != 2 && file_.version_ != kVersion) {
      file_.Fail(HOB_ERROR_UNSUPPORTED, "GGUF version " + std::to_string(file_.version_) +
                                            " is not supported, expected 2 or 3");
    }
    n_tensors_ = Number<uint64_t>("the number of tensors");
    n_values_ = Number<uint64_t>("the number of keys");
    CheckCount(n_values_, kMaxKeys, kMinKeyBytes, "metadata keys");
    CheckCount(n_tensors_, kMaxTensors, kMinTensorBytes, "tensors");
    file_.values_.reserve(static_cast<size_t>(n_values_));
    file_.tensors_.reserve(static_cast<size_t>(n_tensors_));
  }

  GgufType ReadType(const std::string& what) {
    const auto type = Number<uint32_t>("the type of " + what);
    if (type >= std::size(kTypes)) {
      Damaged(what + " has the unknown type " + std::to_string(type) + ", expected 0 to " +
              std::to_string(std::size(kTypes) - 1));
    }
    return static_cast<GgufType>(type);
  }

  void ReadValue(uint64_t index) {
    const auto key = Name(kMaxKeyBytes, "metadata key " + std::to_string(index));
    const std::string what = "key " + Quoted(key);
    GgufValue value{key, ReadType(what), {}, 1, {}};
    value.element = value.type;
    const size_t begin = at_;
    if (value.type == GgufType::kArray) {
      value.element = ReadType("the elements of " + what);
      value.count = Number<uint64_t>("the count of " + what);
      if (value.element == GgufType::kArray) Damaged(what + " is an array of arrays");
    }
    SkipElements(value, what);
    value.raw = data_.subspan(begin, at_ - begin);
    if (!file_.value_index_.emplace(key, file_.values_.size()).second) {
      Damaged(what + " occurs twice");
    }
    file_.values_.push_back(value);
  }

  void SkipElements(const GgufValue& value, const std::string& what) {
    if (value.element == GgufType::kString) {
      if (value.count > Left() / kMinStringBytes) {
        Damaged(what + " has " + std::to_string(value.count) +
                " strings, which do not fit in the " + std::to_string(Left()) +
                " bytes that are left");
      }
      for (uint64_t i = 0; i < value.count; ++i) Take(Number<uint64_t>(what), what);
      return;
    }
    const auto bytes = Product(value.count, FixedBytes(value.element));
    const auto elements = Take(bytes.value_or(std::numeric_limits<uint64_t>::max()), what);
    if (value.element != GgufType::kBool) return;
    for (const uint8_t byte : elements) {
      if (byte > 1) Damaged(what + " has a bool of " + std::to_string(byte) + ", expected 0 or 1");
    }
  }

  void ReadAlignment() {
    const uint64_t alignment =
        file_.GetU32(kAlignmentKey, static_cast<uint32_t>(kDefaultAlignment));
    if (alignment < 8 || alignment > kMaxAlignment || !std::has_single_bit(alignment)) {
      Damaged(std::string(kAlignmentKey) + " is " + std::to_string(alignment) +
              ", expected a power of two from 8 to " + std::to_string(kMaxAlignment));
    }
    file_.alignment_ = alignment;
  }

  // Reads one entry of the table; `begin` is relative to the data until PlaceTensors.
  void ReadTensor(uint64_t index) {
    GgufTensor tensor{};
    tensor.name = Name(kMaxTensorNameBytes, "tensor " + std::to_string(index));
    const std::string what = "tensor " + Quoted(tensor.name);
    tensor.n_dims = Number<uint32_t>(what);
    if (tensor.n_dims < 1 || tensor.n_dims > kMaxDims) {
      Damaged(what + " has " + std::to_string(tensor.n_dims) + " dimensions, expected 1 to " +
              std::to_string(kMaxDims));
    }
    tensor.elements = 1;
    tensor.dims.fill(1);
    for (uint32_t d = 0; d < tensor.n_dims; ++d) {
      tensor.dims[d] = Number<uint64_t>(what);
      const auto elements = Product(tensor.elements, tensor.dims[d]);
      if (tensor.dims[d] == 0 || !elements || *elements > uint64_t{1} << 62) {
        Damaged(what + " has a dimension of " + std::to_string(tensor.dims[d]) +
                ", expected 1 to what a tensor of 2^62 values can have");
      }
      tensor.elements = *elements;
    }
    tensor.type = Number<uint32_t>(what);
    tensor.begin = Number<uint64_t>(what);
    tensor.bytes = TensorBytes(tensor.type, tensor.dims[0], tensor.elements);
    const Format* format = FindFormat(tensor.type);
    if (format != nullptr && !tensor.bytes) {
      Damaged(what + " has rows of " + std::to_string(tensor.dims[0]) +
              " values, expected a multiple of " + std::to_string(format->block_values) + " for " +
              TensorTypeName(tensor.type) + " and a size that fits 64 bits");
    }
    if (!file_.tensor_index_.emplace(tensor.name, file_.tensors_.size()).second) {
      Damaged(what + " occurs twice");
    }
    file_.tensors_.push_back(tensor);
  }

  void PlaceTensors() {
    if (file_.tensors_.empty()) return;
    const uint64_t alignment = file_.alignment_;
    const uint64_t data_begin = (at_ + alignment - 1) / alignment * alignment;
    const uint64_t room = data_begin < data_.size() ? data_.size() - data_begin : 0;
    for (GgufTensor& tensor : file_.tensors_) {
      // A tensor of unknown size still has at least one byte.
      const uint64_t bytes = tensor.bytes.value_or(1);
      const std::string what = "tensor " + Quoted(tensor.name);
      if (tensor.begin % alignment != 0) {
        Damaged(what + " is at offset " + std::to_string(tensor.begin) +
                ", expected a multiple of " + std::to_string(alignment));
      }
      if (tensor.begin > room || bytes > room - tensor.begin) {
        Damaged(what + " has " + std::to_string(bytes) + " bytes of data at offset " +
                std::to_string(tensor.begin) + ", but the file has only " + std::to_string(room) +
                " bytes of data");
      }
      tensor.begin += data_begin;
    }
    CheckOverlaps();
  }

  void CheckOverlaps() const {
    std::vector<const GgufTensor*> order;
    for (const GgufTensor& tensor : file_.tensors_) order.push_back(&tensor);
    std::sort(order.begin(), order.end(), [](auto* a, auto* b) { return a->begin < b->begin; });
    for (size_t i = 1; i < order.size(); ++i) {
      const GgufTensor& before = *order[i - 1];
      if (before.begin + before.bytes.value_or(1) <= order[i]->begin) continue;
      Damaged("tensors " + Quoted(before.name) + " and " + Quoted(order[i]->name) +
              " overlap in the file");
    }
  }

  Gguf& file_;
  const std::span<const uint8_t> data_;
  size_t at_ = 0;
  uint64_t n_values_ = 0;
  uint64_t n_tensors_ = 0;
};

// ---------------------------------------------------------------- reading

Gguf::Gguf(std::string source, std::unique_ptr<MappedFile> file, std::span<const uint8_t> data)
    : source_(std::move(source)), file_(std::move(file)), data_(data) {
  Parser(this).Run();
}

Gguf Gguf::Open(const std::string& path) {
  auto file = std::make_unique<MappedFile>(path);
  const auto data = file->bytes();
  return Gguf(path, std::move(file), data);
}

Gguf Gguf::FromMemory(std::span<const uint8_t> data, const std::string& source) {
  return Gguf(source, nullptr, data);
}

void Gguf::Fail(hob_status status, const std::string& message) const {
  throw Error(status, source_ + ": " + message);
}

void Gguf::FailType(const GgufValue& value, const char* expected) const {
  const bool shown = value.type != GgufType::kArray && value.type != GgufType::kString;
  Fail(HOB_ERROR_FILE, "key " + Quoted(value.key) + " is " + TypeText(value) +
                           (shown ? " " + ValueText(value) : "") + ", expected " + expected);
}

const GgufValue* Gguf::Find(std::string_view key) const {
  const auto found = value_index_.find(key);
  return found == value_index_.end() ? nullptr : &values_[found->second];
}

const GgufValue& Gguf::Require(std::string_view key, const char* expected) const {
  const GgufValue* value = Find(key);
  if (value == nullptr) {
    Fail(HOB_ERROR_FILE, "key " + Quoted(key) + " is missing, expected " + expected);
  }
  return *value;
}

const GgufValue& Gguf::RequireArray(std::string_view key, const char* expected,
                                    uint64_t limit) const {
  const GgufValue& value = Require(key, expected);
  if (value.type != GgufType::kArray) FailType(value, expected);
  if (value.count > limit) {
    Fail(HOB_ERROR_FILE, "key " + Quoted(key) + " has " + std::to_string(value.count) +
                             " elements, expected at most " + std::to_string(limit));
  }
  return value;
}

uint32_t Gguf::GetU32(std::string_view key) const {
  const char* const expected = "an integer from 0 to 4294967295";
  const GgufValue& value = Require(key, expected);
  if (!IsInteger(value.type)) FailType(value, expected);
  const auto number = LoadInteger<uint32_t>(value.type, value.raw.data());
  if (!number) FailType(value, expected);
  return *number;
}

float Gguf::GetF32(std::string_view key) const {
  const GgufValue& value = Require(key, "float32");
  if (!IsFloat(value.type)) FailType(value, "float32");
  return LoadFloat(value.type, value.raw.data());
}

bool Gguf::GetBool(std::string_view key) const {
  const GgufValue& value = Require(key, "bool");
  if (value.type != GgufType::kBool) FailType(value, "bool");
  return value.raw[0] != 0;
}

std::string_view Gguf::GetString(std::string_view key) const {
  const GgufValue& value = Require(key, "string");
  if (value.type != GgufType::kString) FailType(value, "string");
  return AsText(value.raw.subspan(sizeof(uint64_t)));
}

uint32_t Gguf::GetU32(std::string_view key, uint32_t fallback) const {
  return Find(key) == nullptr ? fallback : GetU32(key);
}

float Gguf::GetF32(std::string_view key, float fallback) const {
  return Find(key) == nullptr ? fallback : GetF32(key);
}

bool Gguf::GetBool(std::string_view key, bool fallback) const {
  return Find(key) == nullptr ? fallback : GetBool(key);
}

std::string_view Gguf::GetString(std::string_view key, std::string_view fallback) const {
  return Find(key) == nullptr ? fallback : GetString(key);
}

std::vector<int32_t> Gguf::GetI32Array(std::string_view key, uint64_t limit) const {
  const char* const expected = "an array of integers that fit int32";
  const GgufValue& value = RequireArray(key, expected, limit);
  if (!IsInteger(value.element)) FailType(value, expected);
  std::vector<int32_t> numbers(static_cast<size_t>(value.count));
  const uint64_t stride = FixedBytes(value.element);
  for (size_t i = 0; i < numbers.size(); ++i) {
    const auto number =
        LoadInteger<int32_t>(value.element, value.raw.data() + kArrayHeader + i * stride);
    if (!number) FailType(value, expected);
    numbers[i] = *number;
  }
  return numbers;
}

std::vector<float> Gguf::GetF32Array(std::string_view key, uint64_t limit) const {
  const char* const expected = "an array of float32";
  const GgufValue& value = RequireArray(key, expected, limit);
  if (!IsFloat(value.element)) FailType(value, expected);
  std::vector<float> numbers(static_cast<size_t>(value.count));
  const uint64_t stride = FixedBytes(value.element);
  for (size_t i = 0; i < numbers.size(); ++i) {
    numbers[i] = LoadFloat(value.element, value.raw.data() + kArrayHeader + i * stride);
  }
  return numbers;
}

std::vector<std::string_view> Gguf::GetStringArray(std::string_view key, uint64_t limit) const {
  const char* const expected = "an array of strings";
  const GgufValue& value = RequireArray(key, expected, limit);
  if (value.element != GgufType::kString) FailType(value, expected);
  std::vector<std::string_view> strings(static_cast<size_t>(value.count));
  auto left = value.raw.subspan(kArrayHeader);
  for (std::string_view& string : strings) string = TakeString(&left);
  return strings;
}

std::string Gguf::ValueText(const GgufValue& value) {
  if (value.type == GgufType::kString) return Quoted(AsText(value.raw.subspan(sizeof(uint64_t))));
  if (value.type != GgufType::kArray) return ScalarText(value.type, value.raw.data());
  constexpr uint64_t kShown = 6;
  std::string text = "[";
  auto left = value.raw.subspan(kArrayHeader);
  for (uint64_t i = 0; i < std::min(value.count, kShown); ++i) {
    if (i > 0) text += ", ";
    if (value.element == GgufType::kString) {
      text += Quoted(TakeString(&left), 20);
    } else {
      text += ScalarText(value.element, left.data());
      left = left.subspan(static_cast<size_t>(FixedBytes(value.element)));
    }
  }
  return text + (value.count > kShown ? ", ...] (" + std::to_string(value.count) + ")" : "]");
}

const GgufTensor* Gguf::FindTensor(std::string_view name) const {
  const auto found = tensor_index_.find(name);
  return found == tensor_index_.end() ? nullptr : &tensors_[found->second];
}

const GgufTensor& Gguf::GetTensor(std::string_view name) const {
  const GgufTensor* tensor = FindTensor(name);
  if (tensor == nullptr) Fail(HOB_ERROR_FILE, "tensor " + Quoted(name) + " is missing");
  return *tensor;
}

std::span<const uint8_t> Gguf::Data(const GgufTensor& tensor) const {
  if (!tensor.bytes) {
    Fail(HOB_ERROR_UNSUPPORTED, "tensor " + Quoted(tensor.name) + " has the unsupported format " +
                                    TensorTypeName(tensor.type));
  }
  return data_.subspan(static_cast<size_t>(tensor.begin), static_cast<size_t>(*tensor.bytes));
}

void Gguf::DropPages(const GgufTensor& tensor, size_t begin, size_t end) const {
  if (file_ == nullptr || !tensor.bytes) return;
  end = std::min(end, static_cast<size_t>(*tensor.bytes));
  if (begin < end) file_->DropPages(static_cast<size_t>(tensor.begin) + begin, end - begin);
}

// ---------------------------------------------------------------- writing

namespace {

void Append(std::vector<uint8_t>* out, const void* data, size_t bytes) {
  const auto* from = static_cast<const uint8_t*>(data);
  out->insert(out->end(), from, from + bytes);
}

template <typename T>
void AppendNumber(std::vector<uint8_t>* out, T value) {
  Append(out, &value, sizeof(value));
}

void AppendString(std::vector<uint8_t>* out, std::string_view text) {
  AppendNumber<uint64_t>(out, text.size());
  Append(out, text.data(), text.size());
}

void AppendArrayHeader(std::vector<uint8_t>* out, GgufType element, uint64_t count) {
  AppendNumber(out, static_cast<uint32_t>(element));
  AppendNumber(out, count);
}

template <typename T>
std::span<const uint8_t> BytesOf(std::span<const T> values) {
  return {reinterpret_cast<const uint8_t*>(values.data()), values.size_bytes()};
}

uint64_t PaddingBehind(uint64_t bytes) {
  return (kDefaultAlignment - bytes % kDefaultAlignment) % kDefaultAlignment;
}

}  // namespace

void GgufWriter::SetRaw(std::string_view key, GgufType type, std::vector<uint8_t> raw) {
  if (key.empty() || key.size() > kMaxKeyBytes) {
    throw Error(HOB_ERROR_ARGUMENT, "key " + Quoted(key) + " has " + std::to_string(key.size()) +
                                        " bytes, expected 1 to " + std::to_string(kMaxKeyBytes));
  }
  const auto [place, added] = value_index_.emplace(key, values_.size());
  if (added) {
    values_.push_back({std::string(key), type, std::move(raw)});
  } else {
    values_[place->second].type = type;
    values_[place->second].raw = std::move(raw);
  }
}

template <typename T>
void GgufWriter::SetScalar(std::string_view key, GgufType type, T value) {
  std::vector<uint8_t> raw;
  AppendNumber(&raw, value);
  SetRaw(key, type, std::move(raw));
}

void GgufWriter::SetU8(std::string_view key, uint8_t value) {
  SetScalar(key, GgufType::kUint8, value);
}
void GgufWriter::SetI8(std::string_view key, int8_t value) {
  SetScalar(key, GgufType::kInt8, value);
}
void GgufWriter::SetU16(std::string_view key, uint16_t value) {
  SetScalar(key, GgufType::kUint16, value);
}
void GgufWriter::SetI16(std::string_view key, int16_t value) {
  SetScalar(key, GgufType::kInt16, value);
}
void GgufWriter::SetU32(std::string_view key, uint32_t value) {
  SetScalar(key, GgufType::kUint32, value);
}
void GgufWriter::SetI32(std::string_view key, int32_t value) {
  SetScalar(key, GgufType::kInt32, value);
}
void GgufWriter::SetU64(std::string_view key, uint64_t value) {
  SetScalar(key, GgufType::kUint64, value);
}
void GgufWriter::SetI64(std::string_view key, int64_t value) {
  SetScalar(key, GgufType::kInt64, value);
}
void GgufWriter::SetF32(std::string_view key, float value) {
  SetScalar(key, GgufType::kFloat32, value);
}
void GgufWriter::SetF64(std::string_view key, double value) {
  SetScalar(key, GgufType::kFloat64, value);
}
void GgufWriter::SetBool(std::string_view key, bool value) {
  SetScalar(key, GgufType::kBool, static_cast<uint8_t>(value));
}

void GgufWriter::SetString(std::string_view key, std::string_view value) {
  std::vector<uint8_t> raw;
  AppendString(&raw, value);
  SetRaw(key, GgufType::kString, std::move(raw));
}

void GgufWriter::SetStringArray(std::string_view key, std::span<const std::string> values) {
  std::vector<uint8_t> raw;
  AppendArrayHeader(&raw, GgufType::kString, values.size());
  for (const std::string& value : values) AppendString(&raw, value);
  SetRaw(key, GgufType::kArray, std::move(raw));
}

void GgufWriter::SetI32Array(std::string_view key, std::span<const int32_t> values) {
  SetArray(key, GgufType::kInt32, BytesOf(values));
}

void GgufWriter::SetF32Array(std::string_view key, std::span<const float> values) {
  SetArray(key, GgufType::kFloat32, BytesOf(values));
}

void GgufWriter::SetArray(std::string_view key, GgufType element,
                          std::span<const uint8_t> elements) {
  const uint64_t size = FixedBytes(element);
  if (size == 0 || elements.size() % size != 0) {
    throw Error(HOB_ERROR_ARGUMENT, "key " + Quoted(key) + ": " + std::to_string(elements.size()) +
                                        " bytes are no array of " + GgufTypeName(element));
  }
  std::vector<uint8_t> raw;
  AppendArrayHeader(&raw, element, elements.size() / size);
  Append(&raw, elements.data(), elements.size());
  SetRaw(key, GgufType::kArray, std::move(raw));
}

void GgufWriter::Set(const GgufValue& value) {
  SetRaw(value.key, value.type, {value.raw.begin(), value.raw.end()});
}

void GgufWriter::CopyMetadata(const Gguf& file) {
  for (const GgufValue& value : file.values()) {
    if (value.key != kAlignmentKey) Set(value);
  }
}

void GgufWriter::AddTensor(std::string_view name, uint32_t type, std::span<const uint64_t> dims,
                           std::span<const uint8_t> data) {
  AddTensor(name, type, dims, [data](const Sink& sink) { sink(data); });
  if (tensors_.back().bytes == data.size()) return;
  const uint64_t expected = tensors_.back().bytes;
  tensor_index_.erase(tensors_.back().name);
  tensors_.pop_back();
  throw Error(HOB_ERROR_SHAPE, "tensor " + Quoted(name) + " got " + std::to_string(data.size()) +
                                   " bytes, expected " + std::to_string(expected));
}

void GgufWriter::AddTensor(std::string_view name, uint32_t type, std::span<const uint64_t> dims,
                           Source source) {
  const std::string what = "tensor " + Quoted(name);
  if (name.empty() || name.size() > kMaxTensorNameBytes ||
      tensor_index_.contains(std::string(name))) {
    throw Error(HOB_ERROR_ARGUMENT, what + ": expected a new name of 1 to " +
                                        std::to_string(kMaxTensorNameBytes) + " bytes");
  }
  std::optional<uint64_t> elements = 1;
  for (const uint64_t dim : dims) elements = elements ? Product(*elements, dim) : elements;
  if (dims.empty() || dims.size() > kMaxDims || !elements || *elements == 0) {
    throw Error(HOB_ERROR_ARGUMENT, what + ": expected 1 to " + std::to_string(kMaxDims) +
                                        " dimensions that are not 0");
  }
  if (FindFormat(type) == nullptr) {
    throw Error(HOB_ERROR_UNSUPPORTED,
                what + " has the unsupported format " + TensorTypeName(type));
  }
  const auto bytes = TensorBytes(type, dims[0], *elements);
  if (!bytes) {
    throw Error(HOB_ERROR_SHAPE, what + ": rows of " + std::to_string(dims[0]) +
                                     " values do not fit the blocks of " + TensorTypeName(type));
  }
  tensor_index_.emplace(name, tensors_.size());
  tensors_.push_back(
      {std::string(name), type, {dims.begin(), dims.end()}, *bytes, std::move(source)});
}

void GgufWriter::Write(const Sink& sink) const {
  std::vector<uint8_t> head;
  Append(&head, kMagic.data(), kMagic.size());
  AppendNumber(&head, kVersion);
  AppendNumber<uint64_t>(&head, tensors_.size());
  AppendNumber<uint64_t>(&head, values_.size());
  for (const Value& value : values_) {
    AppendString(&head, value.key);
    AppendNumber(&head, static_cast<uint32_t>(value.type));
    Append(&head, value.raw.data(), value.raw.size());
  }
  uint64_t offset = 0;
  for (const Tensor& tensor : tensors_) {
    AppendString(&head, tensor.name);
    AppendNumber(&head, static_cast<uint32_t>(tensor.dims.size()));
    for (const uint64_t dim : tensor.dims) AppendNumber(&head, dim);
    AppendNumber(&head, tensor.type);
    AppendNumber(&head, offset);
    offset += tensor.bytes + PaddingBehind(tensor.bytes);
  }
  head.resize(head.size() + static_cast<size_t>(PaddingBehind(head.size())));
  sink(head);

  const std::array<uint8_t, kDefaultAlignment> zeros{};
  for (const Tensor& tensor : tensors_) {
    uint64_t written = 0;
    tensor.source([&](std::span<const uint8_t> bytes) {
      written += bytes.size();
      sink(bytes);
    });
    if (written != tensor.bytes) {
      throw Error(HOB_ERROR_SHAPE, "tensor " + Quoted(tensor.name) + " got " +
                                       std::to_string(written) + " bytes, expected " +
                                       std::to_string(tensor.bytes));
    }
    sink(std::span(zeros).first(static_cast<size_t>(PaddingBehind(tensor.bytes))));
  }
}

void GgufWriter::WriteFile(const std::string& path) const {
  TemporaryFile file(path);
  Write([&file](std::span<const uint8_t> bytes) { file.Write(bytes); });
  file.Commit();
}

std::vector<uint8_t> GgufWriter::WriteBytes() const {
  std::vector<uint8_t> out;
  Write([&out](std::span<const uint8_t> bytes) { Append(&out, bytes.data(), bytes.size()); });
  return out;
}

}  // namespace hob
