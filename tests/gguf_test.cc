// GGUF files: what the writer writes the reader reads, every kind of damage gives a clear error,
// and thousands of mutated files do no harm.
#include "runtime/gguf.h"

#include <gtest/gtest.h>

#include <bit>
#include <cstring>
#include <filesystem>
#include <functional>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "runtime/error.h"
#include "runtime/mapped_file.h"
#include "runtime/tokenizer.h"
#include "tests/test_files.h"

namespace hob {
namespace {

using Bytes = std::vector<uint8_t>;

std::string ErrorOf(const std::function<void()>& action) {
  try {
    action();
  } catch (const Error& error) {
    EXPECT_EQ(std::string(error.what()).find('\n'), std::string::npos) << error.what();
    return std::to_string(error.status()) + " " + error.what();
  }
  return "no error";
}

std::string OpenError(const Bytes& bytes) {
  return ErrorOf([&] { Gguf::FromMemory(bytes, "test"); });
}

// Files by hand, to make what the writer refuses to make.
class RawFile {
 public:
  RawFile(uint64_t n_tensors, uint64_t n_values, uint32_t version = 3) {
    Text("GGUF");
    U32(version);
    U64(n_tensors);
    U64(n_values);
  }
  RawFile& Text(std::string_view text) {
    bytes_.insert(bytes_.end(), text.begin(), text.end());
    return *this;
  }
  RawFile& U32(uint32_t value) { return Number(value); }
  RawFile& U64(uint64_t value) { return Number(value); }
  RawFile& Name(std::string_view text) { return U64(text.size()).Text(text); }
  RawFile& Key(std::string_view key, GgufType type) {
    return Name(key).U32(static_cast<uint32_t>(type));
  }
  RawFile& Tensor(std::string_view name, std::vector<uint64_t> dims, uint32_t type,
                  uint64_t offset) {
    Name(name).U32(static_cast<uint32_t>(dims.size()));
    for (const uint64_t dim : dims) U64(dim);
    return U32(type).U64(offset);
  }
  RawFile& Data(size_t bytes, size_t alignment = 32) {
    bytes_.resize((bytes_.size() + alignment - 1) / alignment * alignment + bytes);
    return *this;
  }
  std::string Error() const { return OpenError(bytes_); }
  const Bytes& bytes() const { return bytes_; }

 private:
  template <typename T>
  RawFile& Number(T value) {
    const auto raw = std::bit_cast<std::array<uint8_t, sizeof(T)>>(value);
    bytes_.insert(bytes_.end(), raw.begin(), raw.end());
    return *this;
  }

  Bytes bytes_;
};

template <typename T>
std::span<const uint8_t> AsBytes(const std::vector<T>& values) {
  return {reinterpret_cast<const uint8_t*>(values.data()), values.size() * sizeof(T)};
}

GgufWriter EveryType() {
  GgufWriter writer;
  writer.SetU8("u8", 200);
  writer.SetI8("i8", -100);
  writer.SetU16("u16", 60000);
  writer.SetI16("i16", -30000);
  writer.SetU32("u32", 4000000000U);
  writer.SetI32("i32", -2000000000);
  writer.SetU64("u64", uint64_t{1} << 63);
  writer.SetI64("i64", 77);
  writer.SetF32("f32", 0.1F);
  writer.SetF64("f64", 0.25);
  writer.SetBool("yes", true);
  writer.SetBool("no", false);
  writer.SetString("string", "h\xC3\xA4");
  writer.SetString("empty", "");
  writer.SetStringArray("strings", std::vector<std::string>{"a", "", "bc"});
  writer.SetI32Array("i32s", std::vector<int32_t>{1, -2, 3, 4, 5, 6, 7});
  writer.SetF32Array("f32s", std::vector<float>{0.5F, -1});
  writer.SetArray("u16s", GgufType::kUint16, AsBytes(std::vector<uint16_t>{1, 65535}));
  writer.SetArray("u64s", GgufType::kUint64, AsBytes(std::vector<uint64_t>{uint64_t{1} << 40}));
  return writer;
}

// ---------------------------------------------------------------- round trips

TEST(Gguf, MetadataRoundTrip) {
  const Bytes bytes = EveryType().WriteBytes();
  const Gguf file = Gguf::FromMemory(bytes);
  EXPECT_EQ(file.version(), 3U);
  EXPECT_EQ(file.alignment(), 32U);
  EXPECT_EQ(file.values().size(), 19U);
  EXPECT_EQ(file.values()[0].key, "u8");
  // Any integer type will do.
  EXPECT_EQ(file.GetU32("u8"), 200U);
  EXPECT_EQ(file.GetU32("u16"), 60000U);
  EXPECT_EQ(file.GetU32("u32"), 4000000000U);
  EXPECT_EQ(file.GetU32("i64"), 77U);
  EXPECT_EQ(file.GetF32("f32"), 0.1F);
  EXPECT_EQ(file.GetF32("f64"), 0.25F);
  EXPECT_TRUE(file.GetBool("yes"));
  EXPECT_FALSE(file.GetBool("no"));
  EXPECT_EQ(file.GetString("string"), "h\xC3\xA4");
  EXPECT_EQ(file.GetString("empty"), "");
  EXPECT_EQ(file.GetStringArray("strings"), (std::vector<std::string_view>{"a", "", "bc"}));
  EXPECT_EQ(file.GetI32Array("i32s"), (std::vector<int32_t>{1, -2, 3, 4, 5, 6, 7}));
  EXPECT_EQ(file.GetI32Array("u16s"), (std::vector<int32_t>{1, 65535}));
  EXPECT_EQ(file.GetF32Array("f32s"), (std::vector<float>{0.5F, -1}));
  // Missing keys.
  EXPECT_EQ(file.GetU32("none", 5), 5U);
  EXPECT_EQ(file.GetF32("none", 5), 5.0F);
  EXPECT_TRUE(file.GetBool("none", true));
  EXPECT_EQ(file.GetString("none", "x"), "x");
  EXPECT_EQ(file.Find("none"), nullptr);
}

TEST(Gguf, ValuesAsText) {
  const Bytes bytes = EveryType().WriteBytes();
  const Gguf file = Gguf::FromMemory(bytes);
  const auto text = [&](std::string_view key) { return Gguf::ValueText(*file.Find(key)); };
  EXPECT_EQ(text("i8"), "-100");
  EXPECT_EQ(text("u64"), "9223372036854775808");
  EXPECT_EQ(text("f32"), "0.100000001");
  EXPECT_EQ(text("yes"), "true");
  EXPECT_EQ(text("strings"), "['a', '', 'bc']");
  EXPECT_EQ(text("i32s"), "[1, -2, 3, 4, 5, 6, ...] (7)");
  EXPECT_EQ(TensorTypeName(2), "q4_0");
  EXPECT_EQ(TensorTypeName(12), "q4_k");
  EXPECT_EQ(TensorTypeName(39), "mxfp4");
  EXPECT_EQ(TensorTypeName(4), "type 4");
  EXPECT_EQ(TensorTypeName(4000000000U), "type 4000000000");
}

TEST(Gguf, GettersNameKeyAndTypes) {
  const Bytes bytes = EveryType().WriteBytes();
  const Gguf file = Gguf::FromMemory(bytes, "test");
  const auto error = [&](auto action) { return ErrorOf([&] { action(file); }); };
  EXPECT_EQ(error([](auto& f) { f.GetU32("none"); }),
            "7 test: key 'none' is missing, expected an integer from 0 to 4294967295");
  EXPECT_EQ(error([](auto& f) { f.GetU32("i8"); }),
            "7 test: key 'i8' is int8 -100, expected an integer from 0 to 4294967295");
  EXPECT_EQ(error([](auto& f) { f.GetU32("u64", 3); }),
            "7 test: key 'u64' is uint64 9223372036854775808, expected an integer from 0 to "
            "4294967295");
  EXPECT_EQ(error([](auto& f) { f.GetU32("yes"); }),
            "7 test: key 'yes' is bool true, expected an integer from 0 to 4294967295");
  EXPECT_EQ(error([](auto& f) { f.GetU32("string"); }),
            "7 test: key 'string' is string, expected an integer from 0 to 4294967295");
  EXPECT_EQ(error([](auto& f) { f.GetF32("u8"); }),
            "7 test: key 'u8' is uint8 200, expected float32");
  EXPECT_EQ(error([](auto& f) { f.GetBool("u8"); }),
            "7 test: key 'u8' is uint8 200, expected bool");
  EXPECT_EQ(error([](auto& f) { f.GetString("strings"); }),
            "7 test: key 'strings' is array of string, expected string");
  EXPECT_EQ(error([](auto& f) { f.GetStringArray("i32s"); }),
            "7 test: key 'i32s' is array of int32, expected an array of strings");
  EXPECT_EQ(error([](auto& f) { f.GetI32Array("u64s"); }),
            "7 test: key 'u64s' is array of uint64, expected an array of integers that fit int32");
  EXPECT_EQ(error([](auto& f) { f.GetI32Array("i32s", 6); }),
            "7 test: key 'i32s' has 7 elements, expected at most 6");
  EXPECT_EQ(error([](auto& f) { f.GetF32Array("i32s"); }),
            "7 test: key 'i32s' is array of int32, expected an array of float32");
  EXPECT_EQ(error([](auto& f) { f.GetTensor("w"); }), "7 test: tensor 'w' is missing");
}

TEST(Gguf, TensorRoundTripThroughAFile) {
  GgufWriter writer;
  writer.SetString("general.name", "t");
  const std::vector<float> values = {1, 2, 3, 4, 5, 6};
  const Bytes blocks(36, 7);
  writer.AddTensor("a", HOB_FORMAT_F32, std::vector<uint64_t>{3, 2}, AsBytes(values));
  writer.AddTensor("b", HOB_FORMAT_Q4_0, std::vector<uint64_t>{32, 1, 2},
                   [&](const GgufWriter::Sink& sink) {
                     sink(std::span(blocks).first(10));
                     sink(std::span(blocks).subspan(10));
                   });
  const test::TempDir dir;
  const std::string path = dir.File("t.gguf");
  test::WriteBytes(path, Bytes{1, 2, 3});  // to be replaced
  writer.WriteFile(path);
  EXPECT_EQ(test::ReadBytes(path), writer.WriteBytes());
  const Gguf file = Gguf::Open(path);
  ASSERT_EQ(file.tensors().size(), 2U);
  const GgufTensor& a = file.GetTensor("a");
  EXPECT_EQ(a.n_dims, 2U);
  EXPECT_EQ(a.dims, (std::array<uint64_t, 4>{3, 2, 1, 1}));
  EXPECT_EQ(a.elements, 6U);
  EXPECT_EQ(a.begin % 32, 0U);
  ASSERT_EQ(file.Data(a).size(), 24U);
  EXPECT_EQ(std::memcmp(file.Data(a).data(), values.data(), 24), 0);
  const auto data = file.Data(file.GetTensor("b"));
  EXPECT_EQ(Bytes(data.begin(), data.end()), blocks);
  EXPECT_EQ(file.FindTensor("c"), nullptr);
  // Pages that were given back are read again.
  file.DropPages(a);
  file.DropPages(a, 5, 20);
  file.DropPages(a, 20, 5000);  // ends where the tensor does
  EXPECT_EQ(std::memcmp(file.Data(a).data(), values.data(), 24), 0);
}

TEST(Gguf, CopiesMetadata) {
  const Bytes bytes = EveryType().WriteBytes();
  GgufWriter writer;
  writer.CopyMetadata(Gguf::FromMemory(bytes));
  EXPECT_EQ(writer.WriteBytes(), bytes);
  writer.SetU32("u8", 1);  // replaced in its place
  const Bytes changed = writer.WriteBytes();
  const Gguf file = Gguf::FromMemory(changed);
  EXPECT_EQ(file.values()[0].key, "u8");
  EXPECT_EQ(file.GetU32("u8"), 1U);
  EXPECT_EQ(file.values().size(), 19U);
}

TEST(Gguf, AcceptsVersion2AndOtherAlignments) {
  RawFile file(1, 1, 2);
  file.Key("general.alignment", GgufType::kUint32).U32(64);
  file.Tensor("w", {4}, HOB_FORMAT_F32, 64).Data(64 + 16, 64);
  const Gguf gguf = Gguf::FromMemory(file.bytes());
  EXPECT_EQ(gguf.alignment(), 64U);
  EXPECT_EQ(gguf.GetTensor("w").begin % 64, 0U);
  EXPECT_EQ(gguf.Data(gguf.GetTensor("w")).size(), 16U);
}

TEST(Gguf, KeepsTensorsOfUnknownTypes) {
  RawFile file(2, 0);
  file.Tensor("w", {5}, 99, 0).Tensor("v", {5}, 16, 32).Data(64);
  const Gguf gguf = Gguf::FromMemory(file.bytes(), "test");
  EXPECT_FALSE(gguf.GetTensor("w").bytes.has_value());
  EXPECT_EQ(ErrorOf([&] { gguf.Data(gguf.GetTensor("w")); }),
            "8 test: tensor 'w' has the unsupported format type 99");
  EXPECT_EQ(ErrorOf([&] { gguf.Data(gguf.GetTensor("v")); }),
            "8 test: tensor 'v' has the unsupported format iq2_xxs");
}

// ---------------------------------------------------------------- damage

TEST(GgufDamage, Header) {
  EXPECT_EQ(OpenError({}), "7 test: not a GGUF file: it begins with '', expected 'GGUF'");
  EXPECT_EQ(OpenError({'P', 'K', 3, 4, 5}),
            "7 test: not a GGUF file: it begins with 'PK\\x03\\x04', expected 'GGUF'");
  EXPECT_EQ(OpenError({'G', 'G', 'U', 'F', 3}),
            "7 test: the version needs 4 bytes at offset 4, but the file ends at 5");
  EXPECT_EQ(RawFile(0, 0, 1).Error(), "8 test: GGUF version 1 is not supported, expected 2 or 3");
  EXPECT_EQ(RawFile(0, 0, 9).Error(), "8 test: GGUF version 9 is not supported, expected 2 or 3");
  EXPECT_EQ(RawFile(0, 0, 0x03000000).Error(),
            "8 test: big-endian GGUF is not supported, expected little-endian");
  EXPECT_EQ(RawFile(0, 0).Error(), "no error");
}

TEST(GgufDamage, Counts) {
  EXPECT_EQ(RawFile(0, 1).Error(),
            "7 test: 1 metadata keys do not fit in the 0 bytes that are left");
  EXPECT_EQ(RawFile(1, 0).Error(), "7 test: 1 tensors do not fit in the 0 bytes that are left");
  EXPECT_EQ(RawFile(0, ~uint64_t{0}).Error(),
            "7 test: 18446744073709551615 metadata keys, expected at most 65536");
  EXPECT_EQ(RawFile(~uint64_t{0}, 0).Error(),
            "7 test: 18446744073709551615 tensors, expected at most 262144");
}

TEST(GgufDamage, Metadata) {
  const auto file = [] { return RawFile(0, 1); };
  const std::string padding(16, 'p');
  EXPECT_EQ(file().U64(0).Text(padding).Error(),
            "7 test: the name of metadata key 0 has 0 bytes, expected 1 to 65535");
  EXPECT_EQ(file().U64(~uint64_t{0}).Text(padding).Error(),
            "7 test: the name of metadata key 0 has 18446744073709551615 bytes, expected 1 to "
            "65535");
  EXPECT_EQ(
      file().U64(60000).Text(padding).Error(),
      "7 test: the name of metadata key 0 needs 60000 bytes at offset 32, but the file ends at "
      "48");
  EXPECT_EQ(file().Name("k").U32(13).Text(padding).Error(),
            "7 test: key 'k' has the unknown type 13, expected 0 to 12");
  EXPECT_EQ(file().Name("k\n").U32(99).Text(padding).Error(),
            "7 test: key 'k\\x0a' has the unknown type 99, expected 0 to 12");
  EXPECT_EQ(file().Key("k", GgufType::kBool).Text("\x02").Error(),
            "7 test: key 'k' has a bool of 2, expected 0 or 1");
  EXPECT_EQ(file().Key("k", GgufType::kUint64).Text("\x02").Error(),
            "7 test: key 'k' needs 8 bytes at offset 37, but the file ends at 38");
  EXPECT_EQ(
      file().Key("k", GgufType::kString).U64(~uint64_t{0}).Error(),
      "7 test: key 'k' needs 18446744073709551615 bytes at offset 45, but the file ends at 45");
  EXPECT_EQ(file().Key("k", GgufType::kArray).U32(9).U64(0).Error(),
            "7 test: key 'k' is an array of arrays");
  EXPECT_EQ(file().Key("k", GgufType::kArray).U32(77).U64(0).Error(),
            "7 test: the elements of key 'k' has the unknown type 77, expected 0 to 12");
  // A count whose bytes overflow 64 bits, and one that is just too large.
  EXPECT_EQ(
      file().Key("k", GgufType::kArray).U32(4).U64(uint64_t{1} << 62).Error(),
      "7 test: key 'k' needs 18446744073709551615 bytes at offset 49, but the file ends at 49");
  EXPECT_EQ(file().Key("k", GgufType::kArray).U32(4).U64(2).U32(1).Error(),
            "7 test: key 'k' needs 8 bytes at offset 49, but the file ends at 53");
  EXPECT_EQ(file().Key("k", GgufType::kArray).U32(8).U64(uint64_t{1} << 60).Error(),
            "7 test: key 'k' has 1152921504606846976 strings, which do not fit in the 0 bytes that "
            "are left");
  EXPECT_EQ(
      RawFile(0, 2).Key("k", GgufType::kString).U64(0).Key("k", GgufType::kString).U64(0).Error(),
      "7 test: key 'k' occurs twice");
}

TEST(GgufDamage, Alignment) {
  const auto error = [](uint32_t alignment) {
    return RawFile(0, 1).Key("general.alignment", GgufType::kUint32).U32(alignment).Error();
  };
  for (const uint32_t bad : {0U, 4U, 24U, 2097152U, 0x80000000U}) {
    EXPECT_EQ(error(bad), "7 test: general.alignment is " + std::to_string(bad) +
                              ", expected a power of two from 8 to 1048576");
  }
  EXPECT_EQ(error(8), "no error");
}

TEST(GgufDamage, Tensors) {
  const auto error = [](std::vector<uint64_t> dims, uint32_t type, uint64_t offset) {
    return RawFile(1, 0).Tensor("w", dims, type, offset).Data(64).Error();
  };
  EXPECT_EQ(error({16}, 0, 0), "no error");
  EXPECT_EQ(
      error({17}, 0, 0),
      "7 test: tensor 'w' has 68 bytes of data at offset 0, but the file has only 64 bytes of "
      "data");
  EXPECT_EQ(
      error({8}, 0, 64),
      "7 test: tensor 'w' has 32 bytes of data at offset 64, but the file has only 64 bytes of "
      "data");
  EXPECT_EQ(error({8}, 0, 33), "7 test: tensor 'w' is at offset 33, expected a multiple of 32");
  EXPECT_EQ(error({8}, 0, ~uint64_t{31}),
            "7 test: tensor 'w' has 32 bytes of data at offset 18446744073709551584, but the file "
            "has only 64 bytes of data");
  EXPECT_EQ(error({1, 1, 1, 1, 1}, 0, 0), "7 test: tensor 'w' has 5 dimensions, expected 1 to 4");
  EXPECT_EQ(error({}, 0, 0), "7 test: tensor 'w' has 0 dimensions, expected 1 to 4");
  for (const uint64_t bad : {uint64_t{0}, ~uint64_t{0}}) {
    EXPECT_EQ(error({2, bad}, 0, 0), "7 test: tensor 'w' has a dimension of " +
                                         std::to_string(bad) +
                                         ", expected 1 to what a tensor of 2^62 values can have");
  }
  EXPECT_EQ(
      error({uint64_t{1} << 62}, 0, 0),
      "7 test: tensor 'w' has rows of 4611686018427387904 values, expected a multiple of 1 for "
      "f32 and a size that fits 64 bits");
  EXPECT_EQ(
      error({31}, HOB_FORMAT_Q4_0, 0),
      "7 test: tensor 'w' has rows of 31 values, expected a multiple of 32 for q4_0 and a size "
      "that fits 64 bits");
  EXPECT_EQ(RawFile(1, 0).U64(65).Text(std::string(65, 'n')).Error(),
            "7 test: the name of tensor 0 has 65 bytes, expected 1 to 64");
  EXPECT_EQ(RawFile(2, 0).Tensor("w", {8}, 0, 0).Tensor("w", {8}, 0, 32).Data(64).Error(),
            "7 test: tensor 'w' occurs twice");
  EXPECT_EQ(RawFile(2, 0).Tensor("w", {9}, 0, 0).Tensor("v", {8}, 0, 32).Data(64).Error(),
            "7 test: tensors 'w' and 'v' overlap in the file");
  EXPECT_EQ(RawFile(2, 0).Tensor("w", {8}, 0, 32).Tensor("v", {8}, 0, 0).Data(64).Error(),
            "no error");
}

TEST(GgufDamage, FilesThatCannotBeRead) {
  const test::TempDir dir;
  EXPECT_EQ(ErrorOf([&] { Gguf::Open(dir.File("none")); }),
            "6 cannot open '" + dir.File("none") + "': No such file or directory");
  EXPECT_EQ(ErrorOf([&] { Gguf::Open(dir.File("")); }),
            "6 cannot read '" + dir.File("") + "': not a regular file");
  test::WriteBytes(dir.File("empty"), {});
  EXPECT_EQ(ErrorOf([&] { Gguf::Open(dir.File("empty")); }),
            "7 " + dir.File("empty") + ": not a GGUF file: it begins with '', expected 'GGUF'");
}

// ---------------------------------------------------------------- writer

TEST(GgufWriter, RefusesWhatNoReaderTakes) {
  GgufWriter writer;
  const Bytes data(32);
  const auto add = [&](std::string_view name, uint32_t type, std::vector<uint64_t> dims) {
    return ErrorOf([&] { writer.AddTensor(name, type, dims, data); });
  };
  EXPECT_EQ(add("w", 0, {8}), "no error");
  EXPECT_EQ(add("w", 0, {8}), "1 tensor 'w': expected a new name of 1 to 64 bytes");
  EXPECT_EQ(add("v", 0, {9}), "2 tensor 'v' got 32 bytes, expected 36");
  EXPECT_EQ(add("v", 0, {}), "1 tensor 'v': expected 1 to 4 dimensions that are not 0");
  EXPECT_EQ(add("v", 99, {8}), "8 tensor 'v' has the unsupported format type 99");
  EXPECT_EQ(add("v", HOB_FORMAT_Q4_0, {33}),
            "2 tensor 'v': rows of 33 values do not fit the blocks of q4_0");
  EXPECT_EQ(ErrorOf([&] { writer.SetU8("", 1); }), "1 key '' has 0 bytes, expected 1 to 65535");
  const Bytes bytes = writer.WriteBytes();
  EXPECT_EQ(Gguf::FromMemory(bytes).tensors().size(), 1U);
}

TEST(GgufWriter, LeavesNothingBehindWhenItFails) {
  const test::TempDir dir;
  GgufWriter writer;
  writer.AddTensor("w", 0, std::vector<uint64_t>{8}, [](const GgufWriter::Sink& sink) {
    sink(Bytes(3));  // too few
  });
  EXPECT_EQ(ErrorOf([&] { writer.WriteFile(dir.File("w.gguf")); }),
            "2 tensor 'w' got 3 bytes, expected 32");
  EXPECT_TRUE(std::filesystem::is_empty(dir.File("")));
  EXPECT_EQ(ErrorOf([&] { writer.WriteFile(dir.File("")); }),
            "6 cannot write '" + dir.File("") + "': not a regular file");
  EXPECT_NE(ErrorOf([&] { writer.WriteFile(dir.File("no/w.gguf")); }).find("6 cannot create"),
            std::string::npos);
}

// ---------------------------------------------------------------- mutations

// Everything that is done with a file before computing with it. Works or throws Error.
void Use(const Bytes& bytes) {
  const Gguf file = Gguf::FromMemory(bytes, "mutated");
  uint64_t sum = 0;
  for (const GgufValue& value : file.values()) sum += Gguf::ValueText(value).size();
  for (const GgufTensor& tensor : file.tensors()) {
    for (const uint8_t byte : file.Data(tensor)) sum += byte;
  }
  const auto tokenizer = Tokenizer::Create(file);
  const std::vector<int32_t> ids = tokenizer->Encode("hello <|end|> w\xC3\xA4orld \xFF 123");
  StreamDecoder decoder(*tokenizer, true, true);
  std::string text;
  for (const int32_t id : ids) text += decoder.Push(id);
  text += decoder.Flush();
  EXPECT_EQ(ValidUtf8Prefix(text), text.size());
  EXPECT_GE(sum + text.size(), 1U);
}

// One random piece of damage, most of it in the first `head` bytes, where the structure is.
void Damage(Bytes* bytes, size_t head, std::mt19937* random) {
  const auto below = [&](size_t n) { return static_cast<size_t>((*random)()) % n; };
  const size_t where = below(4) == 0 ? below(bytes->size()) : below(std::min(head, bytes->size()));
  const auto overwrite = [&](uint64_t value, size_t size) {
    size = std::min(size, bytes->size() - where);
    std::memcpy(bytes->data() + where, &value, size);
  };
  static constexpr uint64_t kHostile[] = {0,
                                          1,
                                          2,
                                          7,
                                          9,
                                          31,
                                          32,
                                          33,
                                          255,
                                          65535,
                                          65536,
                                          0x7FFFFFFF,
                                          0x80000000,
                                          0xFFFFFFFF,
                                          uint64_t{1} << 32,
                                          uint64_t{1} << 40,
                                          uint64_t{1} << 61,
                                          uint64_t{1} << 62,
                                          (uint64_t{1} << 63) - 1,
                                          uint64_t{1} << 63,
                                          ~uint64_t{0} - 31,
                                          ~uint64_t{0}};
  switch (below(6)) {
    case 0:
    case 1:
      (*bytes)[where] ^= static_cast<uint8_t>(1U << below(8));
      break;
    case 2:
      bytes->resize(where);
      break;
    case 3:
      overwrite(kHostile[below(std::size(kHostile))], 8);
      break;
    case 4:
      overwrite(kHostile[below(std::size(kHostile))], 4);
      break;
    default:
      bytes->insert(bytes->begin() + static_cast<std::ptrdiff_t>(where), below(64),
                    static_cast<uint8_t>(below(256)));
  }
  if (bytes->empty()) bytes->push_back(0);
}

void ExpectHarmless(const GgufWriter& writer, uint32_t seed) {
  const Bytes valid = writer.WriteBytes();
  const Gguf file = Gguf::FromMemory(valid);
  const size_t head =
      file.tensors().empty() ? valid.size() : static_cast<size_t>(file.tensors()[0].begin);
  Use(valid);
  std::mt19937 random(seed);
  int refused = 0;
  constexpr int kVariants = 3000;
  for (int i = 0; i < kVariants; ++i) {
    Bytes damaged = valid;
    for (uint32_t n = 1 + random() % 3; n > 0; --n) Damage(&damaged, head, &random);
    try {
      Use(damaged);
    } catch (const Error& error) {
      const std::string message = error.what();
      EXPECT_FALSE(message.empty());
      EXPECT_EQ(message.find('\n'), std::string::npos) << message;
      ++refused;
    }
  }
  // Structure is hit most of the time, and what hits it is noticed.
  EXPECT_GT(refused, kVariants / 3);
  EXPECT_LT(refused, kVariants);
}

TEST(GgufMutations, LlamaModel) { ExpectHarmless(test::TinyLlama(), 1); }

TEST(GgufMutations, BpeVocabulary) {
  GgufWriter writer;
  test::AddBpeVocabulary(&writer, "qwen2");
  writer.SetU32("general.alignment", 32);
  const std::vector<float> values(64);
  writer.AddTensor("w", HOB_FORMAT_F32, std::vector<uint64_t>{32, 2}, AsBytes(values));
  writer.AddTensor("v", HOB_FORMAT_F16, std::vector<uint64_t>{32, 2}, AsBytes(values).first(128));
  ExpectHarmless(writer, 2);
}

// ---------------------------------------------------------------- a real file

TEST(GgufReal, Stories) {
  const std::string name = "models/stories260K.gguf";
  const auto path = test::FindData(name);
  if (!path) GTEST_SKIP() << test::MissingData(name);
  const Gguf file = Gguf::Open(*path);
  EXPECT_EQ(file.tensors().size(), 48U);
  EXPECT_EQ(file.GetU32("llama.embedding_length"), 64U);
  for (const GgufTensor& tensor : file.tensors())
    EXPECT_EQ(file.Data(tensor).size(), *tensor.bytes);
  const auto tokenizer = Tokenizer::Create(file);
  EXPECT_EQ(tokenizer->size(), 512);
  EXPECT_EQ(tokenizer->Encode("").size(), 1U);
}

}  // namespace
}  // namespace hob
