// GGUF files: metadata (typed keys and values) and tensors. Start with Gguf::Open, then the getters
// and Data; GgufWriter makes files. Format:
// https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
//
// The reader trusts no number in the file. Opening checks everything that hob ever relies on, in
// time linear in the file's metadata and with memory bounded by the limits in gguf.cc, and throws
// HOB_ERROR_FILE (damaged) or HOB_ERROR_UNSUPPORTED (version 1, big-endian) with a line that names
// the file, the thing, what was found and what was expected. Nothing is copied: keys, values and
// tensor data are views of the file's bytes.
#ifndef HOB_RUNTIME_GGUF_H_
#define HOB_RUNTIME_GGUF_H_

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "hob/hob.h"
#include "runtime/mapped_file.h"

namespace hob {

static_assert(std::endian::native == std::endian::little, "GGUF values are read in place");

// ---------------------------------------------------------------- parts of a file

// Types of metadata values; the numbers are the file's.
enum class GgufType : uint32_t {
  kUint8 = 0,
  kInt8 = 1,
  kUint16 = 2,
  kInt16 = 3,
  kUint32 = 4,
  kInt32 = 5,
  kFloat32 = 6,
  kBool = 7,
  kString = 8,
  kArray = 9,
  kUint64 = 10,
  kInt64 = 11,
  kFloat64 = 12
};

// "uint32", "string" and so on.
const char* GgufTypeName(GgufType type);

// The name of a tensor type id, in lower case: "q4_0", also for types that hob cannot compute with;
// "type 99" for an id that GGUF does not define.
std::string TensorTypeName(uint32_t type);

// Bytes of a tensor of `elements` values in rows of `row`; nothing if hob does not know the type,
// the rows do not fit its blocks, or the number does not fit 64 bits.
std::optional<uint64_t> TensorBytes(uint32_t type, uint64_t row, uint64_t elements);

// One key of the metadata.
struct GgufValue {
  std::string_view key;
  GgufType type;
  GgufType element;  // of an array's elements; otherwise the same as type
  uint64_t count;    // of an array's elements; otherwise 1
  // As in the file behind the type: a scalar's bytes; a string's length (8 bytes) and characters;
  // an array's element type (4 bytes), count (8 bytes) and elements. Not aligned.
  std::span<const uint8_t> raw;
};

// One tensor. dims[0] is the length of a row, the dimension that is contiguous; unused dims are 1.
struct GgufTensor {
  std::string_view name;
  uint32_t type;  // GGUF's id, whether hob knows it or not
  uint32_t n_dims;
  std::array<uint64_t, 4> dims;
  uint64_t elements;
  uint64_t begin;                 // of its data, from the beginning of the file
  std::optional<uint64_t> bytes;  // of its data; nothing if hob does not know the type
};

// ---------------------------------------------------------------- reading

class Gguf {
 public:
  // Maps the file, which stays mapped as long as this object lives.
  static Gguf Open(const std::string& path);
  // Reads memory that must outlive this object. `source` stands for the path in messages.
  static Gguf FromMemory(std::span<const uint8_t> data, const std::string& source = "memory");

  const std::string& source() const { return source_; }
  uint32_t version() const { return version_; }
  uint64_t alignment() const { return alignment_; }

  // Metadata in the order of the file.
  const std::vector<GgufValue>& values() const { return values_; }
  const GgufValue* Find(std::string_view key) const;  // nullptr if there is none

  // Values by key. The first form of each throws HOB_ERROR_FILE if the key is missing, the second
  // gives `fallback` then. Both throw if the type is wrong; every integer type will do for an
  // integer that is in range, and float64 for a float.
  uint32_t GetU32(std::string_view key) const;
  uint32_t GetU32(std::string_view key, uint32_t fallback) const;
  float GetF32(std::string_view key) const;
  float GetF32(std::string_view key, float fallback) const;
  bool GetBool(std::string_view key) const;
  bool GetBool(std::string_view key, bool fallback) const;
  std::string_view GetString(std::string_view key) const;
  std::string_view GetString(std::string_view key, std::string_view fallback) const;

  // Arrays by key; throw if the key is missing, the type is wrong (integers as above) or there are
  // more than `limit` elements. The strings are views of the file.
  static constexpr uint64_t kMaxArray = uint64_t{1} << 22;
  std::vector<int32_t> GetI32Array(std::string_view key, uint64_t limit = kMaxArray) const;
  std::vector<float> GetF32Array(std::string_view key, uint64_t limit = kMaxArray) const;
  std::vector<std::string_view> GetStringArray(std::string_view key,
                                               uint64_t limit = kMaxArray) const;

  // A value as one line of text for people, long strings and arrays shortened.
  static std::string ValueText(const GgufValue& value);

  // Tensors in the order of the file.
  const std::vector<GgufTensor>& tensors() const { return tensors_; }
  const GgufTensor* FindTensor(std::string_view name) const;  // nullptr if there is none
  const GgufTensor& GetTensor(std::string_view name) const;   // throws HOB_ERROR_FILE

  // A tensor's data; throws HOB_ERROR_UNSUPPORTED if hob does not know its type. Memory given to
  // FromMemory may be aligned to nothing, and so is the data then.
  std::span<const uint8_t> Data(const GgufTensor& tensor) const;
  // Gives the memory of bytes [begin, end) of a mapped tensor, all without them, back to the
  // system, for instance once they have been packed. Pages that are only partly in there stay.
  void DropPages(const GgufTensor& tensor, size_t begin = 0, size_t end = SIZE_MAX) const;

  // Throws Error(status, "SOURCE: message").
  [[noreturn]] void Fail(hob_status status, const std::string& message) const;

 private:
  class Parser;
  Gguf(std::string source, std::unique_ptr<MappedFile> file, std::span<const uint8_t> data);

  const GgufValue& Require(std::string_view key, const char* expected) const;
  const GgufValue& RequireArray(std::string_view key, const char* expected, uint64_t limit) const;
  [[noreturn]] void FailType(const GgufValue& value, const char* expected) const;

  std::string source_;
  std::unique_ptr<MappedFile> file_;  // nullptr for memory
  std::span<const uint8_t> data_;
  uint32_t version_ = 0;
  uint64_t alignment_ = 32;
  std::vector<GgufValue> values_;
  std::unordered_map<std::string_view, size_t> value_index_;
  std::vector<GgufTensor> tensors_;
  std::unordered_map<std::string_view, size_t> tensor_index_;
};

// ---------------------------------------------------------------- writing

// Collects metadata and tensors, then writes a GGUF version 3 file, aligned to 32 bytes.
class GgufWriter {
 public:
  // Takes the next bytes of the file.
  using Sink = std::function<void(std::span<const uint8_t>)>;
  // Hands a tensor's bytes to the sink, in one or many pieces.
  using Source = std::function<void(const Sink&)>;

  // Sets a key; a key that exists is replaced and keeps its place.
  void SetU8(std::string_view key, uint8_t value);
  void SetI8(std::string_view key, int8_t value);
  void SetU16(std::string_view key, uint16_t value);
  void SetI16(std::string_view key, int16_t value);
  void SetU32(std::string_view key, uint32_t value);
  void SetI32(std::string_view key, int32_t value);
  void SetU64(std::string_view key, uint64_t value);
  void SetI64(std::string_view key, int64_t value);
  void SetF32(std::string_view key, float value);
  void SetF64(std::string_view key, double value);
  void SetBool(std::string_view key, bool value);
  void SetString(std::string_view key, std::string_view value);
  void SetStringArray(std::string_view key, std::span<const std::string> values);
  void SetI32Array(std::string_view key, std::span<const int32_t> values);
  void SetF32Array(std::string_view key, std::span<const float> values);
  // An array of any fixed-size type; `elements` are its bytes.
  void SetArray(std::string_view key, GgufType element, std::span<const uint8_t> elements);
  // A value of a reader as it is.
  void Set(const GgufValue& value);
  // All metadata of a reader, except general.alignment: this writer always aligns to 32.
  void CopyMetadata(const Gguf& file);

  // Adds a tensor with dims[0] the length of a row. The data must live until the file is written; a
  // source is called then, in the order of the tensors, and must give TensorBytes bytes.
  // Throws HOB_ERROR_ARGUMENT on a name used before or too long and on dims outside 1 to 4 or zero,
  // HOB_ERROR_SHAPE on rows that do not fit the format or data of another size,
  // HOB_ERROR_UNSUPPORTED on a type that hob does not know.
  void AddTensor(std::string_view name, uint32_t type, std::span<const uint64_t> dims,
                 std::span<const uint8_t> data);
  void AddTensor(std::string_view name, uint32_t type, std::span<const uint64_t> dims,
                 Source source);

  // Writes a temporary file next to `path` and renames it, so that `path` is either the old file or
  // the complete new one. Throws HOB_ERROR_IO.
  void WriteFile(const std::string& path) const;
  std::vector<uint8_t> WriteBytes() const;

 private:
  struct Value {
    std::string key;
    GgufType type;
    std::vector<uint8_t> raw;  // as in GgufValue
  };
  struct Tensor {
    std::string name;
    uint32_t type;
    std::vector<uint64_t> dims;
    uint64_t bytes;
    Source source;
  };

  template <typename T>
  void SetScalar(std::string_view key, GgufType type, T value);
  void SetRaw(std::string_view key, GgufType type, std::vector<uint8_t> raw);
  void Write(const Sink& sink) const;

  std::vector<Value> values_;
  std::unordered_map<std::string, size_t> value_index_;
  std::vector<Tensor> tensors_;
  std::unordered_map<std::string, size_t> tensor_index_;
};

}  // namespace hob

#endif  // HOB_RUNTIME_GGUF_H_
