// Row ops on every target against the reference, bit for bit: odd lengths, misaligned pointers,
// awkward values, in place; the reference against double precision; the RoPE table against the C
// library in long double.
#include "kernels/rows.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "kernels/reference.h"
#include "tests/kernel_test_util.h"

namespace hob {
namespace {

using test::Bits;
using test::Data;
using test::Filled;
using test::FromBits;
using test::kAllData;
using test::kInf;
using test::kNan;
using test::Name;
using test::PageBuffer;
using test::Random;
using test::RunKernel;
using test::SameRow;

std::vector<size_t> Lengths() {
  if (test::Quick()) return {1, 15, 16, 17, 33, 172};
  return {1, 2, 3, 15, 16, 17, 31, 32, 33, 47, 64, 65, 172, 255, 576, 1024, 1027};
}

PageBuffer<float>& CopyInto(PageBuffer<float>& to, const std::vector<float>& from) {
  std::copy(from.begin(), from.end(), to.data());
  return to;
}

class RowsTest : public test::TargetTest {
 protected:
  const RowKernels& rows() const { return RowsFor(GetParam()); }
};
INSTANTIATE_TEST_SUITE_P(Targets, RowsTest, test::EveryTarget(), test::TargetParamName);

// Calls check(x, n) with every kind of data at every length.
template <class F>
void ForAllRows(uint64_t salt, F check) {
  Random random(salt);
  for (size_t n : Lengths()) {
    for (Data data : kAllData) {
      SCOPED_TRACE(std::string(Name(data)) + ", n = " + std::to_string(n));
      check(random, Filled(data, random, n), n);
    }
  }
}

TEST_P(RowsTest, RmsNorm) {
  ForAllRows(1, [&](Random& random, const std::vector<float>& x, size_t n) {
    PageBuffer<float> in(n), weight(n), out(n), in_place(n);
    CopyInto(in, x);
    CopyInto(in_place, x);
    CopyInto(weight, Filled(Data::kNormal, random, n));
    for (float eps : {1e-5f, 0.0f, 1e-6f}) {
      std::vector<float> want(n);
      reference::RmsNorm(x.data(), weight.data(), eps, n, want.data());
      RunKernel([&] { rows().rms_norm(in.data(), weight.data(), eps, n, out.data()); });
      EXPECT_TRUE(SameRow(out.data(), want.data(), n));
      EXPECT_TRUE(out.FrontIntact());
      CopyInto(in_place, x);
      RunKernel([&] { rows().rms_norm(in_place.data(), weight.data(), eps, n, in_place.data()); });
      EXPECT_TRUE(SameRow(in_place.data(), want.data(), n)) << "in place";
    }
  });
}

TEST_P(RowsTest, Softmax) {
  ForAllRows(2, [&](Random&, const std::vector<float>& x, size_t n) {
    PageBuffer<float> in(n), out(n);
    CopyInto(in, x);
    std::vector<float> want(n);
    reference::Softmax(x.data(), n, want.data());
    RunKernel([&] { rows().softmax(in.data(), n, out.data()); });
    EXPECT_TRUE(SameRow(out.data(), want.data(), n));
    EXPECT_TRUE(out.FrontIntact());
    RunKernel([&] { rows().softmax(in.data(), n, in.data()); });
    EXPECT_TRUE(SameRow(in.data(), want.data(), n)) << "in place";
  });
}

TEST_P(RowsTest, SoftmaxOfMinusInfinity) {
  for (size_t n : Lengths()) {
    PageBuffer<float> x(n), out(n);
    std::vector<float> want(n);
    std::fill(x.data(), x.data() + n, -kInf);
    RunKernel([&] { rows().softmax(x.data(), n, out.data()); });
    EXPECT_TRUE(SameRow(out.data(), std::vector<float>(n, 0.0f).data(), n)) << "a row of -inf";
    for (size_t at : {size_t{0}, n / 2, n - 1}) {
      std::fill(x.data(), x.data() + n, -kInf);
      x[at] = -3.0f;
      std::fill(want.begin(), want.end(), 0.0f);
      want[at] = 1.0f;
      RunKernel([&] { rows().softmax(x.data(), n, out.data()); });
      EXPECT_TRUE(SameRow(out.data(), want.data(), n)) << "one finite at " << at;
    }
  }
}

// Weights around where e^x turns subnormal and then 0, in every lane and in the rest of a row.
TEST_P(RowsTest, SoftmaxOfTinyWeights) {
  for (size_t n : Lengths()) {
    PageBuffer<float> x(n), out(n);
    std::vector<float> want(n);
    for (size_t i = 0; i < n; ++i) x[i] = -85.0f - static_cast<float>(i * 7 % 23);
    for (size_t at : {n / 2, n - 1}) {
      for (float other : {-104.0f, std::nextafter(-104.0f, -kInf), -1e30f, -FLT_MAX}) {
        x[0] = other;
        x[at] = 0.0f;
        reference::Softmax(x.data(), n, want.data());
        RunKernel([&] { rows().softmax(x.data(), n, out.data()); });
        EXPECT_TRUE(SameRow(out.data(), want.data(), n)) << other << ", largest at " << at;
      }
    }
  }
}

// An activation of the gate times up: one of RowKernels' against its reference.
using GatedKernel = void (*)(const float* gate, const float* up, size_t n, float* out);

void TestGated(uint64_t salt, GatedKernel kernel, GatedKernel want_of) {
  ForAllRows(salt, [&](Random& random, const std::vector<float>& x, size_t n) {
    PageBuffer<float> gate(n), up(n), out(n);
    CopyInto(gate, x);
    CopyInto(up, Filled(Data::kNormal, random, n));
    std::vector<float> want(n);
    want_of(gate.data(), up.data(), n, want.data());
    RunKernel([&] { kernel(gate.data(), up.data(), n, out.data()); });
    EXPECT_TRUE(SameRow(out.data(), want.data(), n));
    EXPECT_TRUE(out.FrontIntact());
    const std::vector<float> saved_up(up.data(), up.data() + n);
    RunKernel([&] { kernel(gate.data(), up.data(), n, up.data()); });
    EXPECT_TRUE(SameRow(up.data(), want.data(), n)) << "out is up";
    CopyInto(up, saved_up);
    RunKernel([&] { kernel(gate.data(), up.data(), n, gate.data()); });
    EXPECT_TRUE(SameRow(gate.data(), want.data(), n)) << "out is gate";
  });
}

TEST_P(RowsTest, SiluMul) { TestGated(3, rows().silu_mul, reference::SiluMul); }
TEST_P(RowsTest, GeluMul) { TestGated(6, rows().gelu_mul, reference::GeluMul); }

// Walks through the floats, to meet every branch of the vector exp.
void TestGatedOverAllExponents(GatedKernel kernel, GatedKernel want_of) {
  const uint64_t step = test::Quick() ? 1u << 18 : test::EnvFlag("HOB_TEST_EXHAUSTIVE") ? 1 : 4093;
  constexpr size_t kCount = 4096;
  std::vector<float> gate(kCount), up(kCount, 1.0f), got(kCount), want(kCount);
  for (uint64_t first = 0; first < (uint64_t{1} << 32); first += step * kCount) {
    for (size_t i = 0; i < kCount; ++i) gate[i] = FromBits(static_cast<uint32_t>(first + i * step));
    want_of(gate.data(), up.data(), kCount, want.data());
    RunKernel([&] { kernel(gate.data(), up.data(), kCount, got.data()); });
    ASSERT_TRUE(SameRow(got.data(), want.data(), kCount)) << "from 0x" << std::hex << first;
  }
}

TEST_P(RowsTest, SiluMulOverAllExponents) {
  TestGatedOverAllExponents(rows().silu_mul, reference::SiluMul);
}
TEST_P(RowsTest, GeluMulOverAllExponents) {
  TestGatedOverAllExponents(rows().gelu_mul, reference::GeluMul);
}

TEST_P(RowsTest, Add) {
  ForAllRows(4, [&](Random& random, const std::vector<float>& x, size_t n) {
    PageBuffer<float> a(n), b(n), out(n);
    CopyInto(a, x);
    CopyInto(b, Filled(Data::kSpecials, random, n));
    std::vector<float> want(n);
    reference::Add(a.data(), b.data(), n, want.data());
    RunKernel([&] { rows().add(a.data(), b.data(), n, out.data()); });
    EXPECT_TRUE(SameRow(out.data(), want.data(), n));
    EXPECT_TRUE(out.FrontIntact());
    RunKernel([&] { rows().add(a.data(), b.data(), n, a.data()); });
    EXPECT_TRUE(SameRow(a.data(), want.data(), n)) << "out is a";
    CopyInto(a, x);
    RunKernel([&] { rows().add(a.data(), b.data(), n, b.data()); });
    EXPECT_TRUE(SameRow(b.data(), want.data(), n)) << "out is b";
  });
}

TEST_P(RowsTest, Argmax) {
  ForAllRows(5, [&](Random&, const std::vector<float>& x, size_t n) {
    PageBuffer<float> in(n);
    CopyInto(in, x);
    size_t got = n;
    RunKernel([&] { got = rows().argmax(in.data(), n); });
    EXPECT_EQ(got, reference::Argmax(x.data(), n));
  });
}

TEST_P(RowsTest, ArgmaxTiesAndNan) {
  for (size_t n : Lengths()) {
    PageBuffer<float> x(n);
    for (size_t first = 0; first < n; first = first * 2 + 1) {
      for (size_t second = first; second < n; second = second * 2 + 3) {
        std::fill(x.data(), x.data() + n, kNan);
        x[first] = x[second] = -kInf;
        RunKernel(
            [&] { EXPECT_EQ(rows().argmax(x.data(), n), first) << "-inf among NaN, n " << n; });
        std::fill(x.data(), x.data() + n, -1.0f);
        x[first] = x[second] = 2.0f;
        RunKernel([&] { EXPECT_EQ(rows().argmax(x.data(), n), first) << "tie, n " << n; });
        std::fill(x.data(), x.data() + n, -1.0f);
        x[first] = -0.0f;
        x[second] = 0.0f;  // compare equal
        RunKernel([&] { EXPECT_EQ(rows().argmax(x.data(), n), first) << "zeros, n " << n; });
        x[first] = kNan;
        const size_t want = first == second ? (first == 0 && n > 1 ? 1 : 0) : second;
        RunKernel([&] { EXPECT_EQ(rows().argmax(x.data(), n), want) << "NaN first, n " << n; });
      }
    }
    std::fill(x.data(), x.data() + n, kNan);
    RunKernel([&] { EXPECT_EQ(rows().argmax(x.data(), n), 0u) << "only NaN, n " << n; });
  }
}

// Long rows are searched piece by piece.
TEST_P(RowsTest, ArgmaxOfLongRows) {
  for (size_t n : {2047, 2048, 2049, 6150}) {
    PageBuffer<float> x(n);
    const auto expect = [&](size_t want) {
      EXPECT_EQ(reference::Argmax(x.data(), n), want);
      size_t got = n;
      RunKernel([&] { got = rows().argmax(x.data(), n); });
      EXPECT_EQ(got, want) << "n = " << n;
    };
    for (size_t at : {size_t{0}, n / 3, n - 2, n - 1}) {
      SCOPED_TRACE(at);
      std::fill(x.data(), x.data() + n, kNan);
      expect(0);
      x[at] = -kInf;
      expect(at);
      x[n - 1] = -kInf;
      expect(at);
      std::fill(x.data(), x.data() + n, -1.0f);
      x[at] = -0.0f;
      expect(at);
      x[n - 1] = 0.0f;  // equal, and no smaller index
      expect(at);
    }
  }
}

TEST_P(RowsTest, Rope) {
  Random random(6);
  struct Shape {
    size_t n_heads, head_dim, n_rot;
  };
  for (const Shape& s : {Shape{1, 2, 2}, Shape{3, 2, 2}, Shape{1, 8, 8}, Shape{5, 8, 4},
                         Shape{3, 33, 32}, Shape{2, 33, 6}, Shape{1, 48, 34}, Shape{9, 64, 64},
                         Shape{3, 64, 30}, Shape{2, 80, 80}, Shape{7, 128, 64}}) {
    for (hob_rope_style style : {HOB_ROPE_INTERLEAVED, HOB_ROPE_HALVES}) {
      for (Data data : {Data::kNormal, Data::kSpecials, Data::kAnyBits, Data::kSubnormal}) {
        SCOPED_TRACE(std::string(Name(data)) + ", style " + std::to_string(style) + ", heads " +
                     std::to_string(s.n_heads) + " x " + std::to_string(s.head_dim) + ", n_rot " +
                     std::to_string(s.n_rot));
        const size_t n = s.n_heads * s.head_dim;
        PageBuffer<float> table(s.n_rot), x(n);
        RopeTable(random.Below(5000), 1, s.n_rot, 10000.0, 1.0, nullptr, table.data());
        std::vector<float> want = Filled(data, random, n);
        CopyInto(x, want);
        reference::Rope(style, table.data(), s.n_heads, s.head_dim, s.n_rot, want.data());
        RunKernel(
            [&] { rows().rope(style, table.data(), s.n_heads, s.head_dim, s.n_rot, x.data()); });
        EXPECT_TRUE(SameRow(x.data(), want.data(), n));
        EXPECT_TRUE(x.FrontIntact());
      }
    }
  }
}

// Quantizes x on the target under test and with the reference, and compares everything. The codes
// lie `code_stride` bytes and the scales and sums `stride` elements apart, with guards between.
void ExpectSameQ8(const RowKernels& rows, const std::vector<float>& x, size_t code_stride,
                  size_t stride) {
  const size_t blocks = x.size() / kBlock;
  PageBuffer<float> in(x.size());
  CopyInto(in, x);
  PageBuffer<int8_t> codes((blocks - 1) * code_stride + kBlock);
  PageBuffer<float> scales((blocks - 1) * stride + 1);
  PageBuffer<int32_t> sums((2 * blocks - 1) * stride + 1);
  std::vector<int8_t> want_codes(codes.size(), static_cast<int8_t>(test::kSentinelByte));
  std::vector<float> want_scales(scales.size(), FromBits(test::kSentinelBits));
  std::vector<int32_t> want_sums(sums.size(), static_cast<int32_t>(test::kSentinelBits));
  reference::QuantizeQ8(x.data(), blocks, code_stride, want_codes.data(), stride,
                        want_scales.data(), want_sums.data());
  RunKernel([&] {
    rows.quantize_q8(in.data(), blocks, code_stride, codes.data(), stride, scales.data(),
                     sums.data());
  });
  EXPECT_TRUE(SameRow(scales.data(), want_scales.data(), scales.size())) << "scales";
  for (size_t b = 0; b < blocks; ++b) {
    // A block whose scale is NaN is NaN in every result, whatever its codes.
    if (std::isnan(want_scales[b * stride])) continue;
    EXPECT_EQ(
        std::memcmp(codes.data() + b * code_stride, want_codes.data() + b * code_stride, kBlock), 0)
        << "codes of block " << b;
    for (size_t at : {2 * b * stride, (2 * b + 1) * stride}) {
      EXPECT_EQ(sums[at], want_sums[at]) << "sum of block " << b;
    }
  }
  for (size_t b = 0; b + 1 < blocks; ++b) {
    for (size_t j = kBlock; j < code_stride; ++j) {
      ASSERT_EQ(static_cast<uint8_t>(codes[b * code_stride + j]), test::kSentinelByte);
    }
    for (size_t j = 1; j < stride; ++j) {
      ASSERT_EQ(static_cast<uint32_t>(sums[2 * b * stride + j]), test::kSentinelBits);
      ASSERT_EQ(static_cast<uint32_t>(sums[(2 * b + 1) * stride + j]), test::kSentinelBits);
    }
  }
  EXPECT_TRUE(codes.FrontIntact() && scales.FrontIntact() && sums.FrontIntact());
}

TEST_P(RowsTest, QuantizeQ8) {
  Random random(7);
  for (size_t blocks : {1, 2, 3, 5, 18, 32, 33, 67}) {
    for (Data data : kAllData) {
      for (size_t stride : {1, 3}) {
        SCOPED_TRACE(std::string(Name(data)) + ", blocks " + std::to_string(blocks));
        ExpectSameQ8(rows(), Filled(data, random, blocks * kBlock), kBlock * stride, stride);
        ExpectSameQ8(rows(), Filled(data, random, blocks * kBlock), kBlock + 5, stride + 1);
      }
    }
  }
}

// Some rows of a batch of more, as they lie in prepared activations: what belongs to other rows
// stays.
void ExpectSameQ8Rows(const RowKernels& kernels, Data data, Random& random, size_t rows,
                      size_t blocks) {
  const size_t stride = rows + 2, k = blocks * kBlock, x_stride = k + 5;
  const std::vector<float> x = Filled(data, random, (rows - 1) * x_stride + k);
  PageBuffer<float> in(x.size());
  CopyInto(in, x);
  struct Outputs {
    PageBuffer<int8_t> codes;
    PageBuffer<float> scales;
    PageBuffer<int32_t> sums;
    // As far as the last row goes, two in front of the end.
    explicit Outputs(size_t all) : codes((all - 2) * kBlock), scales(all - 2), sums(2 * all - 2) {}
  };
  Outputs got(blocks * stride), want(blocks * stride);
  const auto quantize = [&](auto run, Outputs& out) {
    run(in.data(), x_stride, rows, blocks, stride * kBlock, out.codes.data(), stride,
        out.scales.data(), out.sums.data());
  };
  quantize(reference::QuantizeQ8Rows, want);
  RunKernel([&] { quantize(kernels.quantize_q8_rows, got); });
  EXPECT_TRUE(SameRow(got.scales.data(), want.scales.data(), got.scales.size())) << "scales";
  for (size_t i = 0; i < got.scales.size(); ++i) {
    if (i % stride < rows && std::isnan(want.scales[i])) continue;  // then any codes will do
    EXPECT_EQ(std::memcmp(got.codes.data() + i * kBlock, want.codes.data() + i * kBlock, kBlock), 0)
        << "codes of block " << i / stride << ", row " << i % stride;
    for (size_t half : {0, 1}) {
      const size_t at = (2 * (i / stride) + half) * stride + i % stride;
      EXPECT_EQ(got.sums[at], want.sums[at]) << "sum " << half << " of block " << i / stride;
    }
  }
  EXPECT_TRUE(got.codes.FrontIntact() && got.scales.FrontIntact() && got.sums.FrontIntact());
}

TEST_P(RowsTest, QuantizeQ8Rows) {
  Random random(17);
  for (size_t count : {1, 3, 4, 5, 8, 16, 18, 19}) {
    for (size_t blocks : {1, 2, 3, 4, 5, 7, 8, 12, 16, 18, 33}) {
      for (Data data : kAllData) {
        SCOPED_TRACE(std::string(Name(data)) + ", rows " + std::to_string(count) + ", blocks " +
                     std::to_string(blocks));
        ExpectSameQ8Rows(rows(), data, random, count, blocks);
      }
    }
  }
}

// Exact halves between two codes, and largest magnitudes around where 127 / amax overflows.
TEST_P(RowsTest, QuantizeQ8TiesAndTinyBlocks) {
  for (int exponent : {-100, -3, 0, 3, 100}) {
    std::vector<float> x(kBlock);
    for (size_t i = 0; i < kBlock; ++i) {
      x[i] = std::ldexp(static_cast<float>(i) - 15.5f, exponent);
    }
    x[7] = std::ldexp(127.0f, exponent);
    SCOPED_TRACE("ties at 2^" + std::to_string(exponent));
    ExpectSameQ8(rows(), x, kBlock, 1);
    x[7] = -x[7];
    ExpectSameQ8(rows(), x, kBlock, 1);
  }
  for (uint32_t bits : {0x00000001u, 0x00000002u, 0x0000007fu, 0x00012345u, 0x003fffffu,
                        0x007fffffu, 0x00800000u, 0x00fe0000u, 0x01000000u, 0x7f7fffffu}) {
    // 127 / x overflows up to about 2^-121.
    for (uint32_t around = 0; around < 5; ++around) {
      for (uint32_t base : {bits, Bits(127.0f / FLT_MAX)}) {
        std::vector<float> x(kBlock, 0.0f);
        x[3] = FromBits(base + around - std::min(base, 2u));
        x[30] = -x[3] / 3;
        SCOPED_TRACE("amax " + std::to_string(Bits(x[3])));
        ExpectSameQ8(rows(), x, kBlock, 1);
      }
    }
  }
}

TEST_P(RowsTest, QuantizeQ8ShowsNanAndInfinity) {
  for (float bad : {kNan, -kNan, kInf, -kInf}) {
    for (size_t at = 0; at < kBlock; ++at) {
      std::vector<float> x(3 * kBlock, 1.0f);
      x[kBlock + at] = bad;
      std::vector<int8_t> codes(x.size());
      float scales[3];
      int32_t sums[6];
      RunKernel([&] { rows().quantize_q8(x.data(), 3, kBlock, codes.data(), 1, scales, sums); });
      EXPECT_TRUE(std::isnan(scales[1])) << bad << " at " << at;
      EXPECT_EQ(Bits(scales[0]), Bits(1.0f / 127));
      EXPECT_EQ(Bits(scales[2]), Bits(1.0f / 127));
      EXPECT_EQ(sums[4] + sums[5], 32 * 127);
    }
  }
}

TEST_P(RowsTest, ToBF16Pairs) {
  ForAllRows(8, [&](Random&, const std::vector<float>& x, size_t n) {
    const size_t pairs = (n + 1) / 2;
    PageBuffer<float> in(n);
    CopyInto(in, x);
    PageBuffer<uint32_t> out(pairs);
    RunKernel([&] { rows().to_bf16_pairs(in.data(), n, out.data()); });
    EXPECT_TRUE(out.FrontIntact());
    std::vector<uint32_t> want(pairs);
    reference::ToBF16Pairs(x.data(), n, want.data());
    for (size_t i = 0; i < pairs; ++i) {
      EXPECT_TRUE(test::Same(FromBits(out[i] & 0xffff0000u), FromBits(want[i] & 0xffff0000u)) &&
                  test::Same(FromBits(out[i] << 16), FromBits(want[i] << 16)))
          << "pair " << i << " is " << std::hex << out[i] << ", expected " << want[i];
    }
    if (n % 2 != 0) {
      EXPECT_EQ(out[pairs - 1] & 0xffffu, 0u) << "an odd end is paired with +0";
    }
  });
}

// ---------------------------------------------------------------- the reference, in doubles

constexpr double kHalfUlp = 0x1p-24;  // relative error of one rounding

TEST(RowsReferenceTest, RmsNormAgainstDouble) {
  Random random(9);
  for (size_t n : Lengths()) {
    const std::vector<float> x = Filled(Data::kNormal, random, n);
    const std::vector<float> weight = Filled(Data::kNormal, random, n);
    std::vector<float> got(n);
    reference::RmsNorm(x.data(), weight.data(), 1e-5f, n, got.data());
    double sum = 0;
    for (float value : x) sum += static_cast<double>(value) * value;
    const double root = std::sqrt(sum / static_cast<double>(n) + 1e-5);
    // A chain of n / 16 + 1 sums of positive terms and the tree's 4, halved by the root; the mean,
    // eps, root, inverse and two products on top.
    const double bound = ((static_cast<double>(n) / 16 + 6) / 2 + 7) * kHalfUlp;
    for (size_t i = 0; i < n; ++i) {
      const double want = static_cast<double>(x[i]) / root * static_cast<double>(weight[i]);
      EXPECT_LE(std::abs(static_cast<double>(got[i]) - want), bound * std::abs(want) + 1e-44);
    }
  }
}

TEST(RowsReferenceTest, SoftmaxAgainstDouble) {
  Random random(10);
  for (size_t n : Lengths()) {
    for (float spread : {1.0f, 20.0f}) {
      std::vector<float> x = Filled(Data::kNormal, random, n);
      for (float& value : x) value *= spread;
      std::vector<float> got(n);
      reference::Softmax(x.data(), n, got.data());
      const double max = static_cast<double>(*std::max_element(x.begin(), x.end()));
      double sum = 0;
      for (float value : x) sum += std::exp(static_cast<double>(value) - max);
      for (size_t i = 0; i < n; ++i) {
        const double shifted = static_cast<double>(x[i]) - max;
        const double want = std::exp(shifted) / sum;
        // The difference is rounded (its error is multiplied into e^x), exp is within 2 ULP, the
        // sum has n / 16 + 5 roundings, the division two.
        const double worst_shift = 6.0 * static_cast<double>(spread);
        const double bound =
            (worst_shift + std::abs(shifted) + 8 + static_cast<double>(n) / 16 + 5 + 2) * kHalfUlp;
        EXPECT_LE(std::abs(static_cast<double>(got[i]) - want), bound * want + 1e-44)
            << "n " << n << " i " << i;
      }
    }
  }
}

TEST(RowsReferenceTest, SiluMulAgainstDouble) {
  Random random(11);
  const size_t n = 10000;
  std::vector<float> gate = Filled(Data::kNormal, random, n), up = Filled(Data::kNormal, random, n);
  for (float& value : gate) value *= 10;
  std::vector<float> got(n);
  reference::SiluMul(gate.data(), up.data(), n, got.data());
  for (size_t i = 0; i < n; ++i) {
    const double g = static_cast<double>(gate[i]);
    const double want = g / (1 + std::exp(-g)) * static_cast<double>(up[i]);
    EXPECT_LE(std::abs(static_cast<double>(got[i]) - want), 8 * kHalfUlp * std::abs(want));
  }
}

TEST(RowsReferenceTest, QuantizeQ8IsWithinHalfAStep) {
  Random random(12);
  const size_t blocks = 200;
  const std::vector<float> x = Filled(Data::kNormal, random, blocks * kBlock);
  std::vector<int8_t> codes(x.size());
  std::vector<float> scales(blocks);
  std::vector<int32_t> sums(2 * blocks);
  reference::QuantizeQ8(x.data(), blocks, kBlock, codes.data(), 1, scales.data(), sums.data());
  for (size_t b = 0; b < blocks; ++b) {
    int32_t sum = 0;
    int largest = 0;
    for (size_t i = b * kBlock; i < (b + 1) * kBlock; ++i) {
      const double scale = static_cast<double>(scales[b]);
      EXPECT_LE(std::abs(static_cast<double>(x[i]) - scale * codes[i]), scale * 0.50002);
      sum += codes[i];
      largest = std::max(largest, std::abs(static_cast<int>(codes[i])));
    }
    EXPECT_EQ(largest, 127);
    EXPECT_EQ(sums[2 * b] + sums[2 * b + 1], sum);
  }
}

TEST(RowsReferenceTest, QuantizeQ8RoundsHalvesToEven) {
  float x[kBlock] = {127.0f, 0.5f, 1.5f, 2.5f, -0.5f, -1.5f, -2.5f, 126.5f, -126.5f, 0.49f, -0.0f};
  const int8_t want[kBlock] = {127, 0, 2, 2, 0, -2, -2, 126, -126, 0, 0};
  int8_t codes[kBlock];
  float scale = 0;
  int32_t sums[2] = {0, 0};
  reference::QuantizeQ8(x, 1, kBlock, codes, 1, &scale, sums);
  EXPECT_EQ(std::memcmp(codes, want, kBlock), 0);
  EXPECT_EQ(scale, 1.0f);
  EXPECT_EQ(sums[0], 127);
  EXPECT_EQ(sums[1], 0);
}

// ---------------------------------------------------------------- the RoPE table

TEST(RopeTableTest, AgainstLongDouble) {
  constexpr long double kFactors[] = {1.0L, 1.5L, 32.0L, 0.75L};
  for (double base : {10000.0, 500000.0, 1e6}) {
    for (double freq_scale : {1.0, 0.25}) {
      for (size_t n_rot : {2, 6, 64, 80, 128}) {
        for (size_t first : {0, 1, 1000, 131070}) {
          std::vector<float> factors(n_rot / 2);
          for (size_t i = 0; i < factors.size(); ++i) {
            factors[i] = static_cast<float>(kFactors[i % std::size(kFactors)]);
          }
          for (bool with_factors : {false, true}) {
            constexpr size_t kCount = 3;
            PageBuffer<float> table(kCount * n_rot);
            RopeTable(first, kCount, n_rot, base, freq_scale,
                      with_factors ? factors.data() : nullptr, table.data());
            for (size_t p = 0; p < kCount; ++p) {
              for (size_t i = 0; i < n_rot / 2; ++i) {
                long double angle =
                    static_cast<long double>(first + p) * static_cast<long double>(freq_scale) *
                    powl(static_cast<long double>(base),
                         -2.0L * static_cast<long double>(i) / static_cast<long double>(n_rot));
                if (with_factors) angle /= static_cast<long double>(factors[i]);
                // The angle in double precision: a few roundings of it. Then half a unit of f32.
                const long double angle_error = angle * 0x1p-49L + 0x1p-52L;
                const long double cosine = cosl(angle), sine = sinl(angle);
                const float* got = table.data() + p * n_rot + 2 * i;
                EXPECT_LE(fabsl(static_cast<long double>(got[0]) - cosine),
                          fabsl(cosine) * 0x1p-24L + angle_error)
                    << "cos, position " << first + p << " pair " << i << " of " << n_rot;
                EXPECT_LE(fabsl(static_cast<long double>(got[1]) - sine),
                          fabsl(sine) * 0x1p-24L + angle_error)
                    << "sin, position " << first + p << " pair " << i << " of " << n_rot;
              }
            }
          }
        }
      }
    }
  }
}

TEST(RopeTableTest, PositionZeroIsExact) {
  std::vector<float> table(64);
  RopeTable(0, 1, 64, 10000.0, 1.0, nullptr, table.data());
  for (size_t i = 0; i < 64; ++i) EXPECT_EQ(Bits(table[i]), Bits(i % 2 == 0 ? 1.0f : 0.0f));
}

TEST(RopeTableTest, RangesAgree) {
  std::vector<float> all(20 * 64), one(64);
  RopeTable(100, 20, 64, 10000.0, 1.0, nullptr, all.data());
  for (size_t p = 0; p < 20; ++p) {
    RopeTable(100 + p, 1, 64, 10000.0, 1.0, nullptr, one.data());
    EXPECT_TRUE(SameRow(one.data(), all.data() + p * 64, 64)) << "position " << 100 + p;
  }
}

// cos and sin of position * base^(-2 pair / n_rot), rounded from long double.
TEST(RopeTableTest, GoldenBits) {
  struct Golden {
    size_t position, n_rot;
    double base;
    size_t pair;
    uint32_t cosine, sine;
  };
  static constexpr Golden kGolden[] = {
      {1, 64, 1e4, 0, 0x3f0a5140u, 0x3f576aa4u},
      {1, 64, 1e4, 1, 0x3f3b54b0u, 0x3f2e7aceu},
      {1, 64, 1e4, 31, 0x3f800000u, 0x390bd471u},
      {7, 64, 1e4, 5, 0xbdb65e5cu, 0x3f7efba7u},
      {255, 64, 1e4, 0, 0xbf5cbfeeu, 0xbf01a2e2u},
      {4095, 64, 1e4, 3, 0x3f040fceu, 0xbf5b4eacu},
      {100000, 64, 5e5, 0, 0xbf7fd61cu, 0x3d126d55u},
      {131071, 128, 5e5, 17, 0x3f712f3fu, 0x3eaba6a5u},
      {32767, 128, 1e6, 1, 0xbf7f9bddu, 0x3d625723u},
      {2, 2, 1e4, 0, 0xbed51133u, 0x3f68c7b7u},
      {355, 64, 1e4, 0, 0xbf800000u, 0xb7fcde82u},
      {22, 64, 1e4, 0, 0xbf7ffd6fu, 0xbc110515u},
  };
  for (const Golden& g : kGolden) {
    std::vector<float> table(g.n_rot);
    RopeTable(g.position, 1, g.n_rot, g.base, 1.0, nullptr, table.data());
    EXPECT_EQ(Bits(table[2 * g.pair]), g.cosine) << "position " << g.position << " pair " << g.pair;
    EXPECT_EQ(Bits(table[2 * g.pair + 1]), g.sine)
        << "position " << g.position << " pair " << g.pair;
  }
}

}  // namespace
}  // namespace hob
