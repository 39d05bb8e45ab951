#include "runtime/verify/case.h"

#include <algorithm>
#include <cfloat>
#include <cmath>
#include <iterator>
#include <limits>

#include "runtime/error.h"

namespace hob::verify {
namespace {

struct TypeRow {
  const char* name;
  size_t bytes;
};
constexpr TypeRow kTypes[] = {{"f32", 4}, {"f64", 8}, {"i32", 4}, {"u32", 4}, {"i8", 1}, {"u8", 1}};

constexpr const char* kFillNames[] = {"normal",    "specials",  "one NaN", "one infinity",
                                      "underflow", "subnormal", "huge",    "equal",
                                      "zeros",     "65504"};

constexpr float kNan = std::numeric_limits<float>::quiet_NaN(), kInfinity = HUGE_VALF;

constexpr float kSpecials[] = {
    kNan,     kInfinity,        -kInfinity, 0.0f,     -0.0f,    0x1p-149f, -0x1p-149f, FLT_MIN,
    -FLT_MIN, 0x1.fffffcp-127f, FLT_MAX,    -FLT_MAX, 65504.0f, -65504.0f, 1.0f,       -1.0f};

// Up to 2^-63 or so, and down to where the product of two is nothing.
float NearUnderflow(Random& random) {
  const int exponent =
      127 - 63 - static_cast<int>(random.OneIn(2) ? random.Below(3) : random.Below(28));
  const auto bits = static_cast<uint32_t>(exponent) << 23 | static_cast<uint32_t>(random.Below(8))
                                                                << 20;
  return std::bit_cast<float>(random.OneIn(2) ? bits : bits | 0x80000000);
}

float One(Fill fill, Random& random, float equal) {
  switch (fill) {
    case Fill::kNormal:
    case Fill::kOneNan:
    case Fill::kOneInfinity:
      return random.Normal();
    case Fill::kSpecials:
      return random.OneIn(24) ? kSpecials[random.Below(std::size(kSpecials))] : random.Normal();
    case Fill::kNearUnderflow:
      return NearUnderflow(random);
    case Fill::kSubnormal:
      return std::bit_cast<float>(static_cast<uint32_t>(random.Next()) & 0x807FFFFF);
    case Fill::kHuge:
      return random.Uniform() * FLT_MAX;
    case Fill::kEqual:
      return equal;
    case Fill::kZeros:
      return random.OneIn(2) ? 0.0f : -0.0f;
    case Fill::kHalfMax:
      return random.OneIn(2) ? 65504.0f : -65504.0f;
  }
  return 0;
}

}  // namespace

const char* TypeName(Type type) { return kTypes[static_cast<size_t>(type)].name; }
size_t TypeBytes(Type type) { return kTypes[static_cast<size_t>(type)].bytes; }

size_t CountOf(const Shape& shape) {
  size_t count = 1;
  for (const size_t extent : shape) count *= extent;
  return count;
}

std::string ShapeText(const Shape& shape) {
  std::string text = "[";
  for (size_t i = 0; i < shape.size(); ++i) text += (i == 0 ? "" : ", ") + std::to_string(shape[i]);
  return text + "]";
}

void MakeNansEqual(Outputs* outputs) {
  for (Array& array : *outputs) {
    if (array.type != Type::kF32) continue;
    for (size_t i = 0; i < array.bytes.size(); i += 4) {
      uint32_t bits;
      std::memcpy(&bits, array.bytes.data() + i, 4);
      if ((bits & 0x7FFFFFFF) > 0x7F800000) bits = 0x7FC00000;
      std::memcpy(array.bytes.data() + i, &bits, 4);
    }
  }
}

// ---------------------------------------------------------------- looking into a case

void Refuse(const Case& c, const std::string& why) {
  throw Error(HOB_ERROR_FILE, c.op + " " + c.variant + ", case \"" + c.name + "\": " + why);
}

size_t Size(const Case& c, const char* name, size_t least, size_t most) {
  const auto found = c.numbers.find(name);
  if (found == c.numbers.end()) Refuse(c, std::string("there is no number \"") + name + "\"");
  const double value = found->second;
  if (!(value >= static_cast<double>(least) && value <= static_cast<double>(most)) ||
      value != std::floor(value)) {
    Refuse(c, std::string(name) + " is " + std::to_string(value) + ", expected an integer from " +
                  std::to_string(least) + " to " + std::to_string(most));
  }
  return static_cast<size_t>(value);
}

float Number(const Case& c, const char* name) {
  const auto found = c.numbers.find(name);
  if (found == c.numbers.end()) Refuse(c, std::string("there is no number \"") + name + "\"");
  return static_cast<float>(found->second);
}

bool Has(const Case& c, const char* name) {
  return std::any_of(c.inputs.begin(), c.inputs.end(),
                     [&](const Array& array) { return array.name == name; });
}

const Array& Input(const Case& c, const char* name, Type type, const Shape& shape) {
  for (const Array& array : c.inputs) {
    if (array.name != name) continue;
    if (array.type != type || array.shape != shape) {
      Refuse(c, std::string("input \"") + name + "\" is " + TypeName(array.type) + " " +
                    ShapeText(array.shape) + ", expected " + TypeName(type) + " " +
                    ShapeText(shape));
    }
    return array;
  }
  Refuse(c, std::string("there is no input \"") + name + "\"");
}

// ---------------------------------------------------------------- generated inputs

// FNV-1a (Fowler, Noll, Vo) makes the state from the text.
Random::Random(std::string_view seed) : state_(0xcbf29ce484222325) {
  for (const char c : seed) state_ = (state_ ^ static_cast<uint8_t>(c)) * 0x100000001b3;
}

uint64_t Random::Next() {
  uint64_t z = state_ += 0x9e3779b97f4a7c15;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
  z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
  return z ^ (z >> 31);
}

const char* FillName(Fill fill) { return kFillNames[static_cast<size_t>(fill)]; }

std::vector<float> Filled(Fill fill, Random& random, size_t n) {
  std::vector<float> values(n);
  const float equal = random.Normal();
  for (float& value : values) value = One(fill, random, equal);
  if (n > 0 && fill == Fill::kOneNan) values[random.Below(n)] = kNan;
  if (n > 0 && fill == Fill::kOneInfinity) values[random.Below(n)] = kInfinity;
  return values;
}

}  // namespace hob::verify
