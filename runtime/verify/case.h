// What `hob verify` and `hob vectors` compute on: a Case is one call of one op with all its inputs,
// as named arrays and numbers, so that it can be made from a seed or read from files. Start with
// ops.h, which says what is done with one.
#ifndef HOB_RUNTIME_VERIFY_CASE_H_
#define HOB_RUNTIME_VERIFY_CASE_H_

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace hob::verify {

static_assert(std::endian::native == std::endian::little, "arrays are little-endian in files");

// ---------------------------------------------------------------- arrays

enum class Type { kF32, kF64, kI32, kU32, kI8, kU8 };

const char* TypeName(Type type);  // "f32", ...
size_t TypeBytes(Type type);

template <class T>
constexpr Type TypeOf() {
  if constexpr (std::is_same_v<T, float>) return Type::kF32;
  if constexpr (std::is_same_v<T, double>) return Type::kF64;
  if constexpr (std::is_same_v<T, int32_t>) return Type::kI32;
  if constexpr (std::is_same_v<T, uint32_t>) return Type::kU32;
  if constexpr (std::is_same_v<T, int8_t>) return Type::kI8;
  if constexpr (std::is_same_v<T, uint8_t>) return Type::kU8;
}

using Shape = std::vector<size_t>;
size_t CountOf(const Shape& shape);
std::string ShapeText(const Shape& shape);  // "[2, 256]"

struct Array {
  std::string name;
  Type type;
  Shape shape;  // row-major
  std::vector<uint8_t> bytes;

  // The elements; T must be the type.
  template <class T>
  std::span<const T> as() const {
    return {reinterpret_cast<const T*>(bytes.data()), bytes.size() / sizeof(T)};
  }
};

template <class T>
Array MakeArray(std::string name, Shape shape, const std::vector<T>& values) {
  Array array = {std::move(name), TypeOf<T>(), std::move(shape), {}};
  array.bytes.resize(values.size() * sizeof(T));
  if (!values.empty()) std::memcpy(array.bytes.data(), values.data(), array.bytes.size());
  return array;
}

using Outputs = std::vector<Array>;

// Makes every NaN the same one, since which NaN an operation gives is not in the contract.
void MakeNansEqual(Outputs* outputs);

// ---------------------------------------------------------------- cases

struct Case {
  std::string op, variant;  // "matmul", "q4_0"
  std::string name;         // tells the cases of one op and variant apart
  std::map<std::string, double> numbers;
  std::vector<Array> inputs;
};

// Looking into a case, which may come from a file: what is missing, has another type or shape or is
// out of range throws Error (HOB_ERROR_FILE), naming the case and what was expected.
size_t Size(const Case& c, const char* name, size_t least, size_t most);
float Number(const Case& c, const char* name);
bool Has(const Case& c, const char* name);
const Array& Input(const Case& c, const char* name, Type type, const Shape& shape);
[[noreturn]] void Refuse(const Case& c, const std::string& why);

template <class T>
std::span<const T> Values(const Case& c, const char* name, const Shape& shape) {
  return Input(c, name, TypeOf<T>(), shape).template as<T>();
}

// The same for an input that may be left out: nullptr then.
inline const float* Optional(const Case& c, const char* name, const Shape& shape) {
  return Has(c, name) ? Values<float>(c, name, shape).data() : nullptr;
}

// ---------------------------------------------------------------- generated inputs

// SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014), from
// a text. Integer operations and exact ones on floats only: the same values on every machine.
class Random {
 public:
  explicit Random(std::string_view seed);
  uint64_t Next();
  size_t Below(size_t n) { return static_cast<size_t>(Next() % n); }
  bool OneIn(size_t n) { return Below(n) == 0; }
  // Uniform in [-1, 1).
  float Uniform() {
    return static_cast<float>(static_cast<int32_t>(Next() >> 40) - (1 << 23)) * 0x1p-23f;
  }
  // Bell-shaped with variance 1: the sum of three uniforms.
  float Normal() { return Uniform() + Uniform() + Uniform(); }

 private:
  uint64_t state_;
};

// Kinds of floats.
enum class Fill {
  kNormal,
  kSpecials,     // one in 24 is a NaN, an infinity, a zero of either sign, the largest, least, ...
  kOneNan,       // a NaN in one place
  kOneInfinity,  // an infinity in one place
  kNearUnderflow,  // products of two lie where binary32 turns subnormal
  kSubnormal,
  kHuge,  // up to the largest float
  kEqual,
  kZeros,    // of both signs
  kHalfMax,  // 65504 and -65504
};
const char* FillName(Fill fill);
std::vector<float> Filled(Fill fill, Random& random, size_t n);

}  // namespace hob::verify

#endif  // HOB_RUNTIME_VERIFY_CASE_H_
