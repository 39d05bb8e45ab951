// The weight formats: decoding bit for bit (golden blocks, reference files, every target), encoding
// within bounds, and the packed layout giving the same values back. Runs for every format of the
// list; what a test knows about one format by name is data, in the tables below.
#include "kernels/formats.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cctype>
#include <fstream>
#include <functional>
#include <iterator>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "kernels/formats/contract.h"
#include "kernels/matmul.h"
#include "kernels/reference.h"
#include "tests/kernel_test_util.h"

namespace hob {
namespace {

using test::Bits;
using test::Blocks;
using test::Data;
using test::Filled;
using test::kAllBlocks;
using test::Name;
using test::PageBuffer;
using test::Random;
using test::RunKernel;
using test::SameRow;
using test::WeightRows;

const Format* Find(const std::string& name) {
  for (const Format* format : Formats()) {
    if (name == format->name) return format;
  }
  return nullptr;
}

// A row decoded by the scalar target: the definition.
std::vector<float> Decoded(const Format& format, const uint8_t* blocks, size_t k) {
  std::vector<float> out(k);
  format.kernels(kScalar).dequantize(blocks, k, out.data());
  return out;
}

class FormatsTest : public test::FormatTest {
 protected:
  const Format& format() const { return *GetParam(); }
};
INSTANTIATE_TEST_SUITE_P(Formats, FormatsTest, test::EveryFormat(), test::FormatParamName);

// ---------------------------------------------------------------- the list

TEST(FormatListTest, IsFormatsDef) {
  struct Row {
    int id;
    const char* name;
    size_t values, bytes;
  };
  static constexpr Row kRows[] = {
#define HOB_FORMAT(ENUM, name, id, values, bytes) {id, #name, values, bytes},
#include "hob/formats.def"
#undef HOB_FORMAT
  };
  ASSERT_EQ(Formats().size(), std::size(kRows));
  for (size_t i = 0; i < std::size(kRows); ++i) {
    const Format& format = *Formats()[i];
    EXPECT_EQ(static_cast<int>(format.id), kRows[i].id);
    EXPECT_STREQ(format.name, kRows[i].name);
    EXPECT_EQ(format.block_values, kRows[i].values);
    EXPECT_EQ(format.block_bytes, kRows[i].bytes);
    EXPECT_EQ(FindFormat(format.id), &format);
  }
}

TEST(FormatListTest, UnknownIdsAreNone) {
  std::set<int> known;
  for (const Format* format : Formats()) known.insert(static_cast<int>(format->id));
  for (int id = -2; id < 300; ++id) {
    if (known.count(id) == 0) {
      EXPECT_EQ(FindFormat(static_cast<hob_format>(id)), nullptr) << id;
    }
  }
}

// ---------------------------------------------------------------- golden blocks

// One block worked out by hand from the format's definition.
struct Golden {
  const char* format;
  std::vector<uint8_t> block;
  std::vector<float> values;
};

std::vector<uint8_t> Bytes(std::initializer_list<int> head, size_t count, uint8_t fill) {
  std::vector<uint8_t> bytes(head.begin(), head.end());
  bytes.resize(count, fill);
  return bytes;
}

std::vector<float> Values(std::initializer_list<float> head, size_t count, float fill) {
  std::vector<float> values(head);
  values.resize(count, fill);
  return values;
}

// 4-bit codes: the low nibbles are values 0 to 15, the high ones 16 to 31.
std::vector<float> Halves(float first, float low, float second, float high) {
  std::vector<float> values(32, low);
  std::fill(values.begin() + 16, values.end(), high);
  values[0] = first;
  values[16] = second;
  return values;
}

std::vector<Golden> GoldenBlocks() {
  return {
      {"f32", {0x00, 0x00, 0x80, 0x3f}, {1.0f}},
      {"f32", {0x01, 0x00, 0x00, 0x80}, {-0x1p-149f}},
      {"f16", {0x00, 0x3c}, {1.0f}},
      {"f16", {0x01, 0x00}, {0x1p-24f}},
      {"f16", {0xff, 0x83}, {-0x1.ff8p-15f}},
      {"f16", {0xff, 0x7b}, {65504.0f}},
      {"f16", {0x00, 0x80}, {-0.0f}},
      {"f16", {0x00, 0xfc}, {-test::kInf}},
      {"f16", {0x01, 0x7c}, {test::kNan}},
      {"bf16", {0x80, 0x3f}, {1.0f}},
      {"bf16", {0x49, 0xc0}, {-3.140625f}},
      {"bf16", {0x01, 0x00}, {0x1p-133f}},
      {"bf16", {0x80, 0x7f}, {test::kInf}},
      // d = 0.5: codes minus 8. Byte 0 is 0xf0: value 0 is (0 - 8) / 2, value 16 (15 - 8) / 2.
      {"q4_0", Bytes({0x00, 0x38, 0xf0}, 18, 0x98), Halves(-4.0f, 0.0f, 3.5f, 0.5f)},
      // d = -2^-24, the smallest f16.
      {"q4_0", Bytes({0x01, 0x80, 0x08}, 18, 0x77), Halves(-0.0f, 0x1p-24f, 0x1p-21f, 0x1p-24f)},
      // d = 0.25, m = -1: codes from 0 up.
      {"q4_1", Bytes({0x00, 0x34, 0x00, 0xbc, 0xf0}, 20, 0x41), Halves(-1.0f, -0.75f, 2.75f, 0.0f)},
      // d = 1; the fifth bits of values 0 and 16 are set.
      {"q5_0", Bytes({0x00, 0x3c, 0x01, 0x00, 0x01, 0x00, 0xf0}, 22, 0x21),
       Halves(0.0f, -15.0f, 15.0f, -14.0f)},
      {"q5_1", Bytes({0x00, 0x3c, 0x00, 0x40, 0x01, 0x00, 0x01, 0x00, 0xf0}, 24, 0x21),
       Halves(18.0f, 3.0f, 33.0f, 4.0f)},
      {"q8_0", Bytes({0x00, 0x3c, 0x7f, 0x80, 0xff}, 34, 0x00),
       Values({127.0f, -128.0f, -1.0f}, 32, 0.0f)},
      {"q8_0", Bytes({0xff, 0x7b, 0x80}, 34, 0x02), Values({-8384512.0f}, 32, 131008.0f)},
      // The scale is 2^(0x7f - 127 - 1): the table holds doubled values. Codes 1 and 15 are 1 and
      // -12.
      {"mxfp4", Bytes({0x7f, 0xf1}, 17, 0x20), Halves(0.5f, 0.0f, -6.0f, 1.0f)},
      {"iq4_nl", Bytes({0x00, 0x3c, 0xf0}, 18, 0x87), Halves(-127.0f, -10.0f, 113.0f, 1.0f)},
  };
}

TEST(FormatGoldenTest, DecodesBlocksWorkedOutByHand) {
  for (const Golden& golden : GoldenBlocks()) {
    const Format* format = Find(golden.format);
    if (format == nullptr) continue;
    ASSERT_EQ(golden.block.size(), format->block_bytes) << golden.format;
    ASSERT_EQ(golden.values.size(), format->block_values) << golden.format;
    for (Target target : SupportedTargets()) {
      SCOPED_TRACE(std::string(golden.format) + " on " + TargetName(target));
      std::vector<float> got(format->block_values);
      RunKernel([&] {
        format->kernels(target).dequantize(golden.block.data(), format->block_values, got.data());
      });
      EXPECT_TRUE(SameRow(got.data(), golden.values.data(), got.size()));
    }
  }
}

TEST(FormatGoldenTest, EncodesKnownValues) {
  struct Case {
    const char* format;
    float x;
    std::vector<uint8_t> bytes;
  };
  const Case cases[] = {
      {"f16", 65519.0f, {0xff, 0x7b}},  // rounds down to the largest f16
      {"f16", 65520.0f, {0x00, 0x7c}},  // a tie, to infinity
      {"f16", 0x1p-25f, {0x00, 0x00}},  // a tie, to zero
      {"f16", 0x1.000002p-25f, {0x01, 0x00}}, {"f16", -0x1.002p0f, {0x00, 0xbc}},  // a tie, to even
      {"f16", 0x1.006p0f, {0x02, 0x3c}},                                           // a tie, to even
      {"f16", -0.0f, {0x00, 0x80}},           {"bf16", 0x1.01p0f, {0x80, 0x3f}},   // a tie, to even
      {"bf16", 0x1.03p0f, {0x82, 0x3f}},                                           // a tie, to even
      {"bf16", -0.0f, {0x00, 0x80}},          {"bf16", test::kInf, {0x80, 0x7f}},
      {"bf16", FLT_MAX, {0x80, 0x7f}},        {"f32", 0x1p-149f, {0x01, 0x00, 0x00, 0x00}},
  };
  for (const Case& c : cases) {
    const Format* format = Find(c.format);
    if (format == nullptr) continue;
    std::vector<uint8_t> got(format->block_bytes);
    format->encode(&c.x, 1, got.data());
    EXPECT_EQ(got, c.bytes) << c.format << ' ' << std::hexfloat << c.x;
  }
}

// ---------------------------------------------------------------- decoding on every target

TEST_P(FormatsTest, DequantizeIsTheSameOnEveryTarget) {
  Random random(201);
  for (size_t k : test::Depths(format())) {
    for (Blocks blocks : kAllBlocks) {
      const std::vector<uint8_t> row = WeightRows(format(), blocks, random, 1, k);
      const std::vector<float> want = Decoded(format(), row.data(), k);
      PageBuffer<uint8_t> in(row.size());
      std::copy(row.begin(), row.end(), in.data());
      // Rows of a file lie at any address, an odd one among them.
      std::vector<uint8_t> shifted(row.size() + 1);
      std::copy(row.begin(), row.end(), shifted.begin() + 1);
      for (Target target : SupportedTargets()) {
        SCOPED_TRACE(std::string(TargetName(target)) + ", " + Name(blocks) + ", k " +
                     std::to_string(k));
        for (const uint8_t* from : {in.data(), shifted.data() + 1}) {
          PageBuffer<float> out(k);
          RunKernel([&] { format().kernels(target).dequantize(from, k, out.data()); });
          EXPECT_TRUE(SameRow(out.data(), want.data(), k));
          EXPECT_TRUE(out.FrontIntact());
        }
      }
    }
  }
}

// ---------------------------------------------------------------- packing

// The definition of PanelCodes<bits>, bit by bit: code i of one output is put into a panel block's
// codes, which were zeroed.
void PutCode(size_t bits, size_t lane, size_t i, uint8_t code, uint8_t* codes) {
  constexpr size_t kVector = 64;
  const size_t quads = bits == 6 ? 4 : 8, vectors = quads * bits / 8;
  const size_t whole = 8 / bits * vectors, top = 8 % bits;  // quads, bits
  const size_t quad = i / 4 % quads;
  uint8_t* group = codes + i / (4 * quads) * vectors * kVector + 4 * lane + i % 4;
  for (size_t bit = 0; bit < bits; ++bit) {
    size_t vector = quad % vectors, up = quad / vectors * bits + bit;
    if (quad >= whole) {
      const size_t at = (quad - whole) * bits + bit;
      vector = at / top, up = 8 - top + at % top;
    }
    group[vector * kVector] |= static_cast<uint8_t>((code >> bit & 1) << up);
  }
}

template <int kBits>
void ExpectCodesAsDefined(Random& random) {
  SCOPED_TRACE(std::to_string(kBits) + " bits");
  constexpr size_t kValues = 96;
  using Codes = PanelCodes<kBits>;
  ASSERT_EQ(Codes::CodeBytes(kValues), kPanel * kValues * kBits / 8);
  std::vector<uint8_t> want(Codes::CodeBytes(kValues)), got(want.size(), 0xA5);
  uint8_t code[kPanel][kValues];
  for (size_t lane = 0; lane < kPanel; ++lane) {
    for (size_t i = 0; i < kValues; ++i) {
      code[lane][i] = static_cast<uint8_t>(random.Next() & ((1 << kBits) - 1));
      PutCode(kBits, lane, i, code[lane][i], want.data());
    }
    Codes::SetCodes(code[lane], kValues, lane, got.data());
  }
  EXPECT_EQ(got, want);
  for (size_t lane = 0; lane < kPanel; ++lane) {
    uint8_t back[kValues];
    Codes::GetCodes(got.data(), lane, kValues, back);
    EXPECT_EQ(std::memcmp(back, code[lane], kValues), 0) << "lane " << lane;
  }
}

TEST(FormatPanelTest, CodesAreWhatTheyAreBitByBit) {
  Random random(207);
  for (int repeat = 0; repeat < 8; ++repeat) {
    ExpectCodesAsDefined<1>(random);
    ExpectCodesAsDefined<2>(random);
    ExpectCodesAsDefined<3>(random);
    ExpectCodesAsDefined<4>(random);
    ExpectCodesAsDefined<5>(random);
    ExpectCodesAsDefined<6>(random);
    ExpectCodesAsDefined<7>(random);
    ExpectCodesAsDefined<8>(random);
  }
}

// What was in the memory before does not matter, not even for outputs that are missing.
TEST_P(FormatsTest, PackingWritesEveryByte) {
  Random random(208);
  for (size_t k : test::Depths(format())) {
    for (size_t lanes : {1, 15, 16}) {
      SCOPED_TRACE("k " + std::to_string(k) + ", lanes " + std::to_string(lanes));
      const std::vector<uint8_t> rows =
          WeightRows(format(), Blocks::kRandomBytes, random, lanes, k);
      std::vector<uint8_t> zeros(format().panel_bytes(k)), ones(zeros.size(), 0xff);
      for (std::vector<uint8_t>* panel : {&zeros, &ones}) {
        format().pack(rows.data(), format().row_bytes(k), lanes, k, panel->data());
      }
      EXPECT_EQ(zeros, ones);
    }
  }
}

TEST_P(FormatsTest, UnpackGivesTheDecodedRow) {
  Random random(202);
  for (size_t k : test::Depths(format())) {
    for (Blocks blocks : kAllBlocks) {
      for (size_t lanes : {1, 2, 7, 15, 16}) {
        SCOPED_TRACE(std::string(Name(blocks)) + ", k " + std::to_string(k) + ", lanes " +
                     std::to_string(lanes));
        const std::vector<uint8_t> rows = WeightRows(format(), blocks, random, lanes, k);
        const size_t row_bytes = format().row_bytes(k);
        PageBuffer<uint8_t> panel(format().panel_bytes(k), 64);
        format().pack(rows.data(), row_bytes, lanes, k, panel.data());
        EXPECT_TRUE(panel.FrontIntact());
        std::vector<float> got(k);
        for (size_t lane = 0; lane < lanes; ++lane) {
          format().unpack(panel.data(), lane, k, got.data());
          std::vector<float> want = Decoded(format(), rows.data() + lane * row_bytes, k);
          // Where the matmul flushes subnormals, so does the packed form.
          if (format().act == ActKind::kBF16) {
            for (float& value : want) value = reference::RoundToBF16(value);
          }
          EXPECT_TRUE(SameRow(got.data(), want.data(), k)) << "lane " << lane;
        }
        for (size_t lane = lanes; lane < kPanel; ++lane) {
          format().unpack(panel.data(), lane, k, got.data());
          EXPECT_TRUE(std::all_of(got.begin(), got.end(), [](float x) { return x == 0; }))
              << "missing lane " << lane << " is not zero";
        }
      }
    }
  }
}

TEST_P(FormatsTest, PackingInRangesIsPackingAtOnce) {
  Random random(203);
  const size_t n = 83, k = test::Depths(format()).back();
  const std::vector<uint8_t> rows = WeightRows(format(), Blocks::kEncoded, random, n, k);
  const size_t bytes = format().packed_bytes(n, k);
  EXPECT_EQ(bytes, 6 * format().panel_bytes(k));
  PageBuffer<uint8_t> once(bytes, 64), pieces(bytes, 64);
  PackRows(format(), rows.data(), n, k, 0, n, once.data());
  for (const auto& [begin, end] : {std::pair<size_t, size_t>{48, 83}, {0, 16}, {16, 48}}) {
    PackRows(format(), rows.data(), n, k, begin, end, pieces.data());
  }
  EXPECT_EQ(std::memcmp(once.data(), pieces.data(), bytes), 0);
}

TEST_P(FormatsTest, PackedSizeIsNearTheFileSize) {
  const size_t k = 4096;
  EXPECT_LE(static_cast<double>(format().panel_bytes(k)),
            1.03 * static_cast<double>(kPanel * format().row_bytes(k)));
}

// ---------------------------------------------------------------- encoding

double RelativeRms(const float* x, const float* y, size_t n) {
  double error = 0, sum = 0;
  for (size_t i = 0; i < n; ++i) {
    const double a = static_cast<double>(x[i]), b = static_cast<double>(y[i]);
    error += (a - b) * (a - b);
    sum += a * a;
  }
  return std::sqrt(error / sum);
}

// The relative error of encoding bell-shaped values that a good encoder does not exceed.
double ExpectedRms(const std::string& name) {
  static const std::map<std::string, double> kBounds = {
      {"f32", 0},      {"f16", 3e-4},   {"bf16", 2e-3},  {"q8_0", 6e-3},   {"q4_0", 0.095},
      {"q4_1", 0.09},  {"q5_0", 0.05},  {"q5_1", 0.045}, {"q2_k", 0.35},   {"q3_k", 0.18},
      {"q4_k", 0.085}, {"q5_k", 0.045}, {"q6_k", 0.022}, {"iq4_nl", 0.09}, {"iq4_xs", 0.09},
      {"mxfp4", 0.14}, {"tq1_0", 0.5},  {"tq2_0", 0.5}};
  const auto found = kBounds.find(name);
  return found == kBounds.end() ? 1.0 : found->second;
}

TEST_P(FormatsTest, EncodingKeepsTheValues) {
  Random random(204);
  const size_t k = 64 * 256;
  for (float scale : {1.0f, 1e-3f, 100.0f}) {
    std::vector<float> x = Filled(Data::kNormal, random, k);
    for (float& value : x) value *= scale;
    std::vector<uint8_t> blocks(format().row_bytes(k));
    format().encode(x.data(), k, blocks.data());
    const std::vector<float> y = Decoded(format(), blocks.data(), k);
    EXPECT_LE(RelativeRms(x.data(), y.data(), k), ExpectedRms(format().name)) << "scale " << scale;
    // Encoding what was decoded changes little more.
    std::vector<uint8_t> again(blocks.size());
    format().encode(y.data(), k, again.data());
    const std::vector<float> z = Decoded(format(), again.data(), k);
    EXPECT_LE(RelativeRms(y.data(), z.data(), k), ExpectedRms(format().name)) << "again";
  }
}

// The largest value leads the block or ends it, with either sign, and its sub-block needs by far
// the largest scale: the search must find it everywhere.
TEST_P(FormatsTest, EncodingFindsTheLargestValueAnywhere) {
  Random random(207);
  const size_t k = 256;
  for (int round = 0; round < 8; ++round) {
    std::vector<float> x = Filled(Data::kNormal, random, k);
    for (size_t i = 0; i < 16; ++i) x[i] *= 8;
    for (size_t i = 1; i < 16; ++i) x[0] = std::max(std::abs(x[0]), 1.25f * std::abs(x[i]));
    double error[4];
    for (size_t i = 0; i < 4; ++i) {  // as it is, mirrored; then both with the signs changed
      std::vector<uint8_t> blocks(format().row_bytes(k));
      format().encode(x.data(), k, blocks.data());
      error[i] = RelativeRms(x.data(), Decoded(format(), blocks.data(), k).data(), k);
      std::reverse(x.begin(), x.end());
      if (i == 1) std::transform(x.begin(), x.end(), x.begin(), std::negate<>());
    }
    EXPECT_LE(error[0], 1.05 * error[1]) << "round " << round;
    EXPECT_LE(error[1], 1.05 * error[0]) << "round " << round;
    EXPECT_LE(error[2], 1.05 * error[3]) << "round " << round << ", negated";
    EXPECT_LE(error[3], 1.05 * error[2]) << "round " << round << ", negated";
  }
}

TEST_P(FormatsTest, EncodingZerosGivesZeros) {
  const size_t k = 1024;
  const std::vector<float> x(k, 0.0f);
  std::vector<uint8_t> blocks(format().row_bytes(k), 0xff);
  format().encode(x.data(), k, blocks.data());
  for (float y : Decoded(format(), blocks.data(), k)) EXPECT_EQ(y, 0.0f);
}

// Errors of single values of a block whose largest magnitude is amax.
TEST(FormatEncodingTest, ErrorOfEachValue) {
  Random random(205);
  const size_t k = 64 * 32;
  const std::vector<float> x = Filled(Data::kNormal, random, k);
  const auto encoded = [&](const char* name) {
    std::vector<float> y;
    if (const Format* format = Find(name)) {
      std::vector<uint8_t> blocks(format->row_bytes(k));
      format->encode(x.data(), k, blocks.data());
      y = Decoded(*format, blocks.data(), k);
    }
    return y;
  };
  const std::vector<float> f32 = encoded("f32"), f16 = encoded("f16"), bf16 = encoded("bf16"),
                           q8_0 = encoded("q8_0"), q4_0 = encoded("q4_0");
  for (size_t i = 0; i < k; ++i) {
    const float magnitude = std::abs(x[i]);
    float amax = 0;
    for (size_t j = i / 32 * 32; j < i / 32 * 32 + 32; ++j) amax = std::max(amax, std::abs(x[j]));
    const auto error = [&](const std::vector<float>& y) { return std::abs(x[i] - y[i]); };
    EXPECT_EQ(error(f32), 0);
    EXPECT_LE(error(f16), magnitude * 0x1p-11f + 0x1p-25f);
    EXPECT_LE(error(bf16), magnitude * 0x1p-8f);
    // Half a step of amax / 127, and the rounding of the step to f16 times the code.
    EXPECT_LE(error(q8_0), amax * (0.5f / 127 + 0x1p-11f) * 1.001f);
    // Half a step, at most amax / 7; but the search may cut the extremes short by a whole one.
    EXPECT_LE(error(q4_0), amax * (1.0f / 7 + 0x1p-11f) * 1.001f);
  }
}

TEST_P(FormatsTest, EncodersSurviveAwkwardRows) {
  Random random(206);
  for (Data data : test::kAllData) {
    const size_t k = 512;
    PageBuffer<float> x(k);
    test::Fill(data, random, x.data(), k);
    PageBuffer<uint8_t> blocks(format().row_bytes(k));
    format().encode(x.data(), k, blocks.data());
    EXPECT_TRUE(blocks.FrontIntact()) << Name(data);
  }
}

// ---------------------------------------------------------------- reference files

template <class T>
std::vector<T> ReadFile(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  const std::string bytes{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
  std::vector<T> values(bytes.size() / sizeof(T));
  std::memcpy(values.data(), bytes.data(), values.size() * sizeof(T));
  return values;
}

// <directory>/<type>.blocks: 8 rows of 512 values of src.f32, encoded; <type>.f32: decoded again.
struct ReferenceFiles {
  std::vector<float> source, decoded;
  std::vector<uint8_t> blocks;

  static constexpr size_t kRows = 8, kValues = 512;

  // Empty if there are none for this format; names are compared without regard to case.
  explicit ReferenceFiles(const std::string& name) {
    const std::filesystem::path data = test::DataDir();
    if (data.empty()) return;
    std::error_code error;
    for (const auto& entry :
         std::filesystem::directory_iterator(data / "reference" / "formats", error)) {
      std::string stem = entry.path().stem().string();
      std::transform(stem.begin(), stem.end(), stem.begin(),
                     [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
      if (stem != name || entry.path().extension() != ".blocks") continue;
      source = ReadFile<float>(entry.path().parent_path() / "src.f32");
      decoded = ReadFile<float>(std::filesystem::path(entry.path()).replace_extension(".f32"));
      blocks = ReadFile<uint8_t>(entry.path());
    }
  }
};

TEST_P(FormatsTest, DecodesTheReferenceFilesBitForBit) {
  const ReferenceFiles files(format().name);
  if (files.blocks.empty()) GTEST_SKIP() << "no reference file (set HOB_TEST_DATA)";
  constexpr size_t kValues = ReferenceFiles::kValues;
  const size_t row_bytes = format().row_bytes(kValues);
  ASSERT_EQ(files.blocks.size(), ReferenceFiles::kRows * row_bytes);
  ASSERT_EQ(files.decoded.size(), ReferenceFiles::kRows * kValues);
  for (Target target : SupportedTargets()) {
    for (size_t row = 0; row < ReferenceFiles::kRows; ++row) {
      std::vector<float> got(kValues);
      format().kernels(target).dequantize(files.blocks.data() + row * row_bytes, kValues,
                                          got.data());
      EXPECT_TRUE(SameRow(got.data(), files.decoded.data() + row * kValues, kValues))
          << TargetName(target) << ", row " << row;
    }
  }
}

TEST_P(FormatsTest, EncodesAsWellAsTheReference) {
  const ReferenceFiles files(format().name);
  if (files.blocks.empty()) GTEST_SKIP() << "no reference file (set HOB_TEST_DATA)";
  constexpr size_t kValues = ReferenceFiles::kValues;
  std::vector<uint8_t> blocks(format().row_bytes(kValues));
  for (size_t row = 0; row < ReferenceFiles::kRows; ++row) {
    const float* source = files.source.data() + row * kValues;
    format().encode(source, kValues, blocks.data());
    const std::vector<float> ours = Decoded(format(), blocks.data(), kValues);
    EXPECT_LE(RelativeRms(source, ours.data(), kValues),
              1.01 * RelativeRms(source, files.decoded.data() + row * kValues, kValues))
        << "row " << row;
  }
}

}  // namespace
}  // namespace hob
