// The matmul of every format on every target against the reference, bit for bit: shapes, weights
// and activations of all kinds, bias and residual, ranges of panels; and the reference itself
// against double precision with a bound derived from the definition.
#include "kernels/matmul.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "kernels/reference.h"
#include "kernels/rows.h"
#include "tests/kernel_test_util.h"

namespace hob {
namespace {

using test::Blocks;
using test::Data;
using test::Filled;
using test::kAllBlocks;
using test::kAllData;
using test::Matrix;
using test::Name;
using test::PageBuffer;
using test::Random;
using test::RunKernel;
using test::SameMatrix;
using test::UseIntelsWay;
using test::UseTarget;

enum class Residual { kNone, kSeparate, kInPlace };

// One matmul's inputs, and its outputs by the reference.
struct Problem {
  const Format& format;
  size_t m, n, k;
  std::vector<uint8_t> rows;
  Matrix act;
  std::vector<float> bias, residual;  // (n), (m, n)

  Problem(const Format& f, size_t m_, size_t n_, size_t k_, Data data, Blocks blocks,
          Random& random)
      : format(f),
        m(m_),
        n(n_),
        k(k_),
        rows(test::WeightRows(f, blocks, random, n_, k_)),
        act(m_, k_, k_ + 3),
        bias(Filled(Data::kNormal, random, n_)),
        residual(Filled(Data::kNormal, random, m_ * n_)) {
    act.Set(data, random);
  }

  std::vector<float> Reference(bool with_bias, Residual with_residual) const {
    std::vector<float> out(m * n);
    if (with_residual == Residual::kInPlace) out = residual;
    const float* added = with_residual == Residual::kNone       ? nullptr
                         : with_residual == Residual::kSeparate ? residual.data()
                                                                : out.data();
    reference::Matmul(format, rows.data(), n, k, act.data(), act.stride(), m,
                      with_bias ? bias.data() : nullptr, added, out.data(), n);
    return out;
  }
};

// Weights packed, and activations prepared by the active target, as the kernels want them.
struct Prepared {
  PageBuffer<uint8_t> packed, act;
  size_t m, n;

  // Of the first m rows and n outputs.
  Prepared(const Problem& p, size_t m_, size_t n_)
      : packed(p.format.packed_bytes(n_, p.k), 64),
        act(ActivationBytes(p.format.act, m_, p.k), 64),
        m(m_),
        n(n_) {
    PackRows(p.format, p.rows.data(), n, p.k, 0, n, packed.data());
    RunKernel([&] {
      PrepareActivations(p.format.act, p.act.data(), p.act.stride(), m, p.k, 0, m, act.data());
    });
  }

  MatmulTask Task(const Problem& p, Matrix& out, bool with_bias, const float* residual) const {
    const void* prepared = p.format.act == ActKind::kF32 ? static_cast<const void*>(p.act.data())
                                                         : static_cast<const void*>(act.data());
    return MatmulTask{m,
                      n,
                      p.k,
                      packed.data(),
                      prepared,
                      p.act.stride(),
                      with_bias ? p.bias.data() : nullptr,
                      residual,
                      out.data(),
                      out.stride()};
  }

  size_t panels() const { return (n + kPanel - 1) / kPanel; }
};

class MatmulTest : public test::FormatTest {
 protected:
  const Format& format() const { return *GetParam(); }

  // Calls check() with each target active.
  template <class F>
  void OnEveryTarget(F check) {
    for (Target target : SupportedTargets()) {
      SCOPED_TRACE(TargetName(target));
      const UseTarget active(target);
      check();
    }
  }
};
INSTANTIATE_TEST_SUITE_P(Formats, MatmulTest, test::EveryFormat(), test::FormatParamName);

// All rows and outputs at once are the reference's; so the first m of them must be as well, for any
// m and n. This also shows that a row alone has the bits it has in a batch.
TEST_P(MatmulTest, ShapesMatchTheReference) {
  const std::vector<size_t> ms =
      test::Quick() ? std::vector<size_t>{1, 3, 8, 15, 17}
                    : std::vector<size_t>{1, 2, 3, 4, 5, 7, 8, 13, 15, 16, 17, 33, 130};
  const std::vector<size_t> ns = test::Quick()
                                     ? std::vector<size_t>{1, 17, 48}
                                     : std::vector<size_t>{1, 15, 16, 17, 31, 32, 33, 48, 100};
  Random random(301);
  for (size_t k : test::Depths(format())) {
    const Problem p(format(), ms.back(), ns.back(), k, Data::kNormal, Blocks::kEncoded, random);
    const std::vector<float> want = p.Reference(false, Residual::kNone);
    OnEveryTarget([&] {
      for (size_t n : ns) {
        for (size_t m : ms) {
          SCOPED_TRACE("m " + std::to_string(m) + " n " + std::to_string(n) + " k " +
                       std::to_string(k));
          const Prepared prepared(p, m, n);
          Matrix out(m, n, n + 2);
          const MatmulTask task = prepared.Task(p, out, false, nullptr);
          RunKernel([&] { MatmulPanels(format(), task, 0, prepared.panels()); });
          ASSERT_TRUE(SameMatrix(out, want.data(), p.n, m, n));
        }
      }
    });
  }
}

// More steps of k than the kernels take at once, for any number of rows.
TEST_P(MatmulTest, ManyStepsMatchTheReference) {
  constexpr size_t kK = 4608, kN = 17, kM = 15;
  Random random(308);
  const Problem p(format(), kM, kN, kK, Data::kNormal, Blocks::kEncoded, random);
  const std::vector<float> want = p.Reference(false, Residual::kNone);
  OnEveryTarget([&] {
    for (size_t m : {size_t{1}, size_t{6}, kM}) {
      if (test::Quick() && m < kM) continue;
      SCOPED_TRACE("m " + std::to_string(m));
      const Prepared prepared(p, m, kN);
      Matrix out(m, kN, kN);
      const MatmulTask task = prepared.Task(p, out, false, nullptr);
      RunKernel([&] { MatmulPanels(format(), task, 0, prepared.panels()); });
      EXPECT_TRUE(SameMatrix(out, want.data(), kN, m, kN));
    }
  });
}

// One row is read in one stream or two, or in more that are asked for ahead, as the CPU likes it
// best; here both ways on any CPU, with panels that do and do not divide by the streams.
TEST_P(MatmulTest, OneRowReadBothWays) {
  constexpr size_t kN = 16 * kPanel + 5;
  Random random(309);
  for (size_t k : test::Depths(format())) {
    const Problem p(format(), 1, kN, k, Data::kNormal, Blocks::kEncoded, random);
    const std::vector<float> want = p.Reference(true, Residual::kNone);
    OnEveryTarget([&] {
      for (const bool intel : {false, true}) {
        const UseIntelsWay way(intel);
        for (size_t n : {kPanel, 3 * kPanel, 7 * kPanel + 1, 10 * kPanel, kN}) {
          SCOPED_TRACE("n " + std::to_string(n) + " k " + std::to_string(k));
          const Prepared prepared(p, 1, n);
          Matrix out(1, n, n);
          const MatmulTask task = prepared.Task(p, out, true, nullptr);
          RunKernel([&] { MatmulPanels(format(), task, 0, prepared.panels()); });
          ASSERT_TRUE(SameMatrix(out, want.data(), kN, 1, n))
              << (intel ? "Intel's way" : "not Intel's way");
        }
      }
    });
  }
}

// So are several rows, whose dots load activations by themselves or share a broadcast: as many as
// stay in registers, and tiles with every rest of their groups.
TEST_P(MatmulTest, RowsAreTakenBothWays) {
  constexpr size_t kN = 4 * kPanel + 3, kM = 141;
  Random random(310);
  const size_t k = test::Depths(format())[1];
  const Problem p(format(), kM, kN, k, Data::kNormal, Blocks::kEncoded, random);
  const std::vector<float> want = p.Reference(true, Residual::kNone);
  OnEveryTarget([&] {
    for (const bool intel : {false, true}) {
      const UseIntelsWay way(intel);
      for (size_t m : {2, 15, 16, 17, 18, 19, 20, 21, 24, 26, 141}) {
        if (test::Quick() && m != 21) continue;
        SCOPED_TRACE("m " + std::to_string(m) + (intel ? ", Intel's way" : ", not Intel's way"));
        const Prepared prepared(p, m, kN);
        Matrix out(m, kN, kN);
        const MatmulTask task = prepared.Task(p, out, true, nullptr);
        RunKernel([&] { MatmulPanels(format(), task, 0, prepared.panels()); });
        ASSERT_TRUE(SameMatrix(out, want.data(), kN, m, kN));
      }
    }
  });
}

TEST_P(MatmulTest, AwkwardDataMatchesTheReference) {
  Random random(302);
  const size_t n = 35;
  for (Blocks blocks : kAllBlocks) {
    for (Data data : kAllData) {
      for (size_t m : {1, 4, 9, 21}) {
        if (test::Quick() && m > 4) continue;
        const size_t k = test::Depths(format())[test::Quick() ? 1 : random.OneIn(2) ? 2 : 3];
        const Problem p(format(), m, n, k, data, blocks, random);
        const std::vector<float> want = p.Reference(false, Residual::kNone);
        OnEveryTarget([&] {
          SCOPED_TRACE(std::string("weights ") + Name(blocks) + ", activations " + Name(data) +
                       ", m " + std::to_string(m) + ", k " + std::to_string(k));
          const Prepared prepared(p, m, n);
          Matrix out(m, n, n);
          const MatmulTask task = prepared.Task(p, out, false, nullptr);
          RunKernel([&] { MatmulPanels(format(), task, 0, prepared.panels()); });
          EXPECT_TRUE(SameMatrix(out, want.data(), n, m, n));
        });
      }
    }
  }
}

TEST_P(MatmulTest, BiasAndResidual) {
  Random random(303);
  const size_t k = test::Depths(format())[1];
  for (const auto& [m, n] : {std::pair<size_t, size_t>{1, 16}, {1, 21}, {3, 50}, {18, 33}}) {
    const Problem p(format(), m, n, k, Data::kNormal, Blocks::kEncoded, random);
    for (bool with_bias : {false, true}) {
      for (Residual kind : {Residual::kNone, Residual::kSeparate, Residual::kInPlace}) {
        const std::vector<float> want = p.Reference(with_bias, kind);
        OnEveryTarget([&, m = m, n = n] {
          SCOPED_TRACE("m " + std::to_string(m) + " n " + std::to_string(n) + " bias " +
                       std::to_string(with_bias) + " residual " +
                       std::to_string(static_cast<int>(kind)));
          const Prepared prepared(p, m, n);
          Matrix out(m, n, n + 5), residual(m, n, n + 5);
          residual.CopyFrom(p.residual.data(), n);
          const float* added = nullptr;
          if (kind == Residual::kSeparate) added = residual.data();
          if (kind == Residual::kInPlace) {
            out.CopyFrom(p.residual.data(), n);
            added = out.data();
          }
          const MatmulTask task = prepared.Task(p, out, with_bias, added);
          RunKernel([&] { MatmulPanels(format(), task, 0, prepared.panels()); });
          EXPECT_TRUE(SameMatrix(out, want.data(), n, m, n));
        });
      }
    }
  }
}

// What is added keeps its subnormals, also in a format whose sums flush theirs.
TEST_P(MatmulTest, SubnormalBiasAndResidual) {
  Random random(308);
  const size_t k = test::Depths(format())[1], m = 18, n = 48;
  Problem p(format(), m, n, k, Data::kNormal, Blocks::kEncoded, random);
  p.act.CopyFrom(std::vector<float>(m * k).data(), k);  // the sums are 0
  for (float& value : p.bias) value *= 0x1p-140f;
  for (float& value : p.residual) value *= 0x1p-140f;
  const std::vector<float> want = p.Reference(true, Residual::kSeparate);
  OnEveryTarget([&] {
    const Prepared prepared(p, m, n);
    Matrix out(m, n, n + 5), residual(m, n, n + 5);
    residual.CopyFrom(p.residual.data(), n);
    const MatmulTask task = prepared.Task(p, out, true, residual.data());
    RunKernel([&] { MatmulPanels(format(), task, 0, prepared.panels()); });
    EXPECT_TRUE(SameMatrix(out, want.data(), n, m, n));
  });
}

// Threads take ranges of panels and of rows; no division of the work may show in the bits.
TEST_P(MatmulTest, AnyRangesOfPanelsAndRows) {
  Random random(304);
  const size_t k = test::Depths(format())[1], n = 100;
  for (size_t m : {1, 6, 20}) {
    const Problem p(format(), m, n, k, Data::kNormal, Blocks::kEncoded, random);
    const std::vector<float> want = p.Reference(true, Residual::kNone);
    OnEveryTarget([&] {
      Prepared prepared(p, m, n);
      PageBuffer<uint8_t> act(prepared.act.size(), 64);
      for (size_t row = m; row-- > 0;) {  // one row at a time, backwards
        PrepareActivations(format().act, p.act.data(), p.act.stride(), m, k, row, row + 1,
                           act.data());
      }
      EXPECT_EQ(std::memcmp(act.data(), prepared.act.data(), act.size()), 0);
      for (size_t width : {1, 2, 3, 5}) {
        Matrix out(m, n, n + 1);
        const MatmulTask task = prepared.Task(p, out, true, nullptr);
        for (size_t end = prepared.panels(); end > 0;) {
          const size_t begin = end > width ? end - width : 0;
          RunKernel([&] { MatmulPanels(format(), task, begin, end); });
          end = begin;
        }
        EXPECT_TRUE(SameMatrix(out, want.data(), n, m, n)) << "ranges of " << width;
      }
      Matrix out(m, n, n);
      const MatmulTask task = prepared.Task(p, out, true, nullptr);
      RunKernel([&] { MatmulPanels(format(), task, 2, 2); });  // an empty range
      for (size_t j = 0; j < n; ++j) ASSERT_EQ(test::Bits(out.row(0)[j]), test::kSentinelBits);
      RunKernel([&] { MatmulPanels(format(), task, 2, 3); });
      for (size_t j = 0; j < n; ++j) {
        const bool inside = j / kPanel == 2;
        ASSERT_EQ(test::Bits(out.row(0)[j]), inside ? test::Bits(want[j]) : test::kSentinelBits);
      }
    });
  }
}

// One bad activation row or weight row spoils its own outputs and no others.
TEST_P(MatmulTest, NanStaysWhereItBelongs) {
  Random random(305);
  const size_t k = test::Depths(format())[1], n = 40, m = 9;
  Problem p(format(), m, n, k, Data::kNormal, Blocks::kEncoded, random);
  p.act.row(4)[k / 2] = test::kNan;
  OnEveryTarget([&] {
    const Prepared prepared(p, m, n);
    Matrix out(m, n, n);
    const MatmulTask task = prepared.Task(p, out, false, nullptr);
    RunKernel([&] { MatmulPanels(format(), task, 0, prepared.panels()); });
    for (size_t i = 0; i < m; ++i) {
      for (size_t j = 0; j < n; ++j) {
        EXPECT_EQ(std::isnan(out.row(i)[j]), i == 4) << i << ' ' << j;
      }
    }
  });
}

// ---------------------------------------------------------------- the reference, in doubles

// Definition (docs/numerics.md): a chain of fused multiply-adds over decoded weights and
// activations that kQ8 and kBF16 round first. So the error is at most that of the rounded
// activations times the weights, and for each step half a unit of a partial sum, which is at most
// the sum of magnitudes.
TEST_P(MatmulTest, ReferenceAgainstDouble) {
  Random random(306);
  const size_t m = 3, n = 20;
  for (size_t k : test::Depths(format())) {
    const Problem p(format(), m, n, k, Data::kNormal, Blocks::kEncoded, random);
    const std::vector<float> got = p.Reference(true, Residual::kSeparate);
    std::vector<float> w(k);
    for (size_t j = 0; j < n; ++j) {
      format().kernels(kScalar).dequantize(p.rows.data() + j * format().row_bytes(k), k, w.data());
      double largest = 0;
      for (float x : w) largest = std::max(largest, std::abs(static_cast<double>(x)));
      for (size_t i = 0; i < m; ++i) {
        double want = static_cast<double>(p.bias[j]) + static_cast<double>(p.residual[i * n + j]);
        double magnitude = std::abs(static_cast<double>(p.bias[j])) +
                           std::abs(static_cast<double>(p.residual[i * n + j]));
        double rounding = 0;  // of the activations
        for (size_t begin = 0; begin < k; begin += kBlock) {
          const size_t end = std::min(begin + kBlock, k);
          double amax = 0;
          for (size_t t = begin; t < end; ++t) {
            amax = std::max(amax, std::abs(static_cast<double>(p.act.row(i)[t])));
          }
          for (size_t t = begin; t < end; ++t) {
            const double x = static_cast<double>(p.act.row(i)[t]);
            const double weight = static_cast<double>(w[t]);
            want += weight * x;
            // The largest weight, as formats with a minimum take a difference of larger products.
            magnitude += 2 * largest * amax;
            if (format().act == ActKind::kBF16) rounding += std::abs(weight * x) * 0x1p-8;
            if (format().act == ActKind::kQ8) rounding += std::abs(weight) * amax * 0.50002 / 127;
          }
        }
        const double bound = rounding + static_cast<double>(k + 4) * 0x1p-24 * magnitude;
        EXPECT_LE(std::abs(static_cast<double>(got[i * n + j]) - want), bound)
            << "k " << k << " row " << i << " output " << j;
      }
    }
  }
}

// Integers small enough that every step is exact, whatever the rounding.
TEST_P(MatmulTest, SmallIntegersAreExact) {
  const size_t k = format().block_values == 1 ? 96 : format().block_values;
  std::vector<float> row(k), x(k), w(k);
  for (size_t t = 0; t < k; ++t) {
    row[t] = static_cast<float>(static_cast<int>(t % 5) - 2);
    x[t] = static_cast<float>(static_cast<int>(t * 7 % 11) - 5);
  }
  for (size_t t = 0; t < k; t += kBlock) x[t] = 127;  // so that the scale of the block is 1
  std::vector<uint8_t> blocks(format().row_bytes(k));
  format().encode(row.data(), k, blocks.data());
  format().kernels(kScalar).dequantize(blocks.data(), k, w.data());
  double want = 0, magnitude = 0;
  for (size_t t = 0; t < k; ++t) {
    want += static_cast<double>(w[t]) * static_cast<double>(x[t]);
    magnitude += std::abs(static_cast<double>(w[t]) * static_cast<double>(x[t]));
  }
  float got = 0;
  reference::Matmul(format(), blocks.data(), 1, k, x.data(), k, 1, nullptr, nullptr, &got, 1);
  EXPECT_NEAR(static_cast<double>(got), want, magnitude * static_cast<double>(k) * 0x1p-24);
  if (row == w) {
    EXPECT_EQ(static_cast<double>(got), want);
  }
}

}  // namespace
}  // namespace hob
