// The scalar functions that results are made of, against their definitions: exp in double
// precision, rounding to bf16 and the bf16 step in integers.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>

#include "kernels/reference.h"
#include "kernels/rows.h"
#include "tests/kernel_test_util.h"

namespace hob {
namespace {

using test::Bits;
using test::FromBits;
using test::kInf;
using test::kNan;
using test::Random;

class MathTest : public test::SeededTest {};

// The largest error of one function, in units of the last place of the exact result.
struct WorstUlp {
  double ulp = 0;
  float at = 0;

  void Update(float x, float got, double want) {
    if (want >= 0x1.ffffffp127) {  // rounds to infinity
      if (got != kInf) ulp = kInf, at = x;
      return;
    }
    const int exponent = std::max(std::ilogb(want), FLT_MIN_EXP - 1);
    const double error =
        std::abs(static_cast<double>(got) - want) / std::ldexp(1.0, exponent - (FLT_MANT_DIG - 1));
    if (!(error <= ulp)) ulp = error, at = x;
  }
};

// How far to step through the bit patterns of all floats.
uint64_t Step() { return test::Quick() ? 65521 : 4093; }

// The same for exp, where all of those can be asked for whose result is not plainly 0, 1 or
// infinity.
uint64_t ExpStep(float x) {
  const bool varies = std::abs(x) > 0x1p-26f && std::abs(x) < 128.0f;
  return varies && test::EnvFlag("HOB_TEST_EXHAUSTIVE") ? 1 : Step();
}

TEST_F(MathTest, ExpIsAccurate) {
  WorstUlp normal, subnormal;
  float x = 0;
  for (uint64_t bits = 0; bits < (uint64_t{1} << 32); bits += ExpStep(x)) {
    x = FromBits(static_cast<uint32_t>(bits));
    const float got = reference::Exp(x);
    if (std::isnan(x)) {
      EXPECT_TRUE(std::isnan(got));
      continue;
    }
    const double want = std::exp(static_cast<double>(x));
    (want < static_cast<double>(FLT_MIN) ? subnormal : normal).Update(x, got, want);
  }
  std::printf("Exp: worst error %.4f ULP at %a; subnormal results %.4f at %a\n", normal.ulp,
              static_cast<double>(normal.at), subnormal.ulp, static_cast<double>(subnormal.at));
  // The worst of all floats are 0.9091 and 0.8578.
  EXPECT_LE(normal.ulp, 0.91);
  EXPECT_LE(subnormal.ulp, 0.86);
}

TEST_F(MathTest, ExpOfSpecialValues) {
  EXPECT_EQ(Bits(reference::Exp(0.0f)), Bits(1.0f));
  EXPECT_EQ(Bits(reference::Exp(-0.0f)), Bits(1.0f));
  EXPECT_EQ(Bits(reference::Exp(test::kMinSubnormal)), Bits(1.0f));
  EXPECT_EQ(Bits(reference::Exp(-kInf)), Bits(0.0f));
  EXPECT_EQ(Bits(reference::Exp(-FLT_MAX)), Bits(0.0f));
  EXPECT_EQ(reference::Exp(kInf), kInf);
  EXPECT_EQ(reference::Exp(FLT_MAX), kInf);
  EXPECT_TRUE(std::isnan(reference::Exp(kNan)));
  EXPECT_TRUE(std::isnan(reference::Exp(-kNan)));
}

TEST_F(MathTest, Exp2NonPositiveIsAccurate) {
  WorstUlp worst;
  float x = 0;
  for (uint64_t bits = Bits(-0.0f); bits < Bits(-63.5f); bits += ExpStep(x)) {
    x = FromBits(static_cast<uint32_t>(bits));
    worst.Update(x, reference::Exp2NonPositive(x), std::exp2(static_cast<double>(x)));
  }
  std::printf("Exp2NonPositive: worst error %.4f ULP at %a\n", worst.ulp,
              static_cast<double>(worst.at));
  // The worst of all floats is 2.0351.
  EXPECT_LE(worst.ulp, 2.04);
}

TEST_F(MathTest, Exp2ForBF16IsAccurate) {
  double worst = 0, worst_rounded = 0;
  float x = 0;
  for (uint64_t bits = Bits(-0.0f); bits < Bits(-63.5f); bits += ExpStep(x)) {
    x = FromBits(static_cast<uint32_t>(bits));
    const float got = reference::Exp2ForBF16(x), rounded = reference::RoundToBF16(got);
    const double want = std::exp2(static_cast<double>(x));
    worst = std::max(worst, std::abs(static_cast<double>(got) / want - 1));
    worst_rounded = std::max(worst_rounded, std::abs(static_cast<double>(rounded) / want - 1));
  }
  std::printf("Exp2ForBF16: worst error 2^%.3f, rounded to bf16 2^%.3f\n", std::log2(worst),
              std::log2(worst_rounded));
  // The worst of all floats are 2^-13.268 and 2^-8.005; that of rounding alone is 2^-8.
  EXPECT_LE(worst, 0x1p-13);
  EXPECT_LE(worst_rounded, 0x1p-8 + 0x1p-13);
}

TEST_F(MathTest, Exp2OfSpecialValues) {
  for (const auto exp2 : {reference::Exp2NonPositive, reference::Exp2ForBF16}) {
    EXPECT_EQ(Bits(exp2(0.0f)), Bits(1.0f));
    EXPECT_EQ(Bits(exp2(-0.0f)), Bits(1.0f));
    for (int i = 0; i < 64; ++i) {
      EXPECT_EQ(Bits(exp2(static_cast<float>(-i))), Bits(std::ldexp(1.0f, -i)));
    }
    EXPECT_GT(exp2(std::nextafterf(-63.5f, 0.0f)), 0.0f);
    for (float x : {-63.5f, -64.0f, -65.0f, -1000.0f, -FLT_MAX, -kInf}) {
      EXPECT_EQ(Bits(exp2(x)), Bits(0.0f)) << x;
    }
    EXPECT_TRUE(std::isnan(exp2(kNan)));
  }
}

TEST_F(MathTest, TanhIsAccurate) {
  WorstUlp worst;
  float x = 0;
  for (uint64_t bits = 0; bits < Bits(kInf); bits += ExpStep(x)) {
    x = FromBits(static_cast<uint32_t>(bits));
    const float got = reference::Tanh(x);
    worst.Update(x, got, std::tanh(static_cast<double>(x)));
    EXPECT_EQ(Bits(reference::Tanh(-x)), Bits(-got)) << x;
  }
  std::printf("Tanh: worst error %.4f ULP at %a\n", worst.ulp, static_cast<double>(worst.at));
  // The worst of all floats is 1.3622.
  EXPECT_LE(worst.ulp, 1.37);
}

TEST_F(MathTest, TanhOfSpecialValues) {
  EXPECT_EQ(Bits(reference::Tanh(0.0f)), Bits(0.0f));
  EXPECT_EQ(Bits(reference::Tanh(-0.0f)), Bits(-0.0f));
  EXPECT_EQ(Bits(reference::Tanh(test::kMinSubnormal)), Bits(test::kMinSubnormal));
  for (float x : {9.1f, 15.0f, 17.0f, 1e10f, FLT_MAX, kInf}) {
    EXPECT_EQ(Bits(reference::Tanh(x)), Bits(1.0f)) << x;
    EXPECT_EQ(Bits(reference::Tanh(-x)), Bits(-1.0f)) << x;
  }
  EXPECT_TRUE(std::isnan(reference::Tanh(kNan)));
}

// An activation of every float, or of some; below `lowest`, where e^-x overflows, the result is 0
// instead of a tiny number. Returns the worst error for x >= least.
template <class Kernel, class Exact>
double WorstOfActivation(const char* name, Kernel kernel, Exact exact, float least, float lowest) {
  WorstUlp worst, some;
  const float one = 1.0f;
  float x = 0;
  for (uint64_t bits = 0; bits < (uint64_t{1} << 32); bits += ExpStep(x)) {
    x = FromBits(static_cast<uint32_t>(bits));
    float got;
    kernel(&x, &one, 1, &got);
    if (std::isnan(x)) {
      EXPECT_TRUE(std::isnan(got));
    } else if (x < lowest) {
      EXPECT_TRUE(std::abs(got) < 1e-36f || x == -kInf) << x;
    } else {
      const double want = exact(static_cast<double>(x));
      worst.Update(x, got, want);
      if (x >= least) some.Update(x, got, want);
    }
  }
  std::printf("%s: worst error %.4f ULP at %a; from %g on %.4f at %a\n", name, worst.ulp,
              static_cast<double>(worst.at), static_cast<double>(least), some.ulp,
              static_cast<double>(some.at));
  return some.ulp;
}

TEST_F(MathTest, SiluIsAccurate) {
  const auto exact = [](double x) { return x / (1 + std::exp(-x)); };
  EXPECT_LE(WorstOfActivation("Silu", reference::SiluMul, exact, -88.72f, -88.72f), 2.6);
}

TEST_F(MathTest, GeluIsAccurate) {
  const auto exact = [](double x) {
    return x / (1 + std::exp(-1.5957691216057308 * x * (1 + 0.044715 * x * x)));
  };
  EXPECT_LE(WorstOfActivation("Gelu", reference::GeluMul, exact, -1.0f, -10.0f), 2.61);
}

// Rows as attention and sampling see them. The error of a term grows with its distance from the
// maximum, whose subtraction rounds.
TEST_F(MathTest, SoftmaxIsAccurate) {
  Random random(104);
  constexpr size_t kN = 1024;
  for (const float spread : {1.0f, 4.0f, 16.0f}) {
    WorstUlp worst;
    for (int row = 0; row < (test::Quick() ? 20 : 1000); ++row) {
      float x[kN], out[kN];
      test::Fill(test::Data::kNormal, random, x, kN);
      for (float& value : x) value *= spread;
      reference::Softmax(x, kN, out);
      const double max = static_cast<double>(*std::max_element(x, x + kN));
      double sum = 0;
      for (const float value : x) sum += std::exp(static_cast<double>(value) - max);
      for (size_t i = 0; i < kN; ++i) {
        worst.Update(x[i], out[i], std::exp(static_cast<double>(x[i]) - max) / sum);
      }
    }
    std::printf("Softmax of %zu, spread %g: worst error %.4f ULP\n", kN,
                static_cast<double>(spread), worst.ulp);
    EXPECT_LE(worst.ulp, 8 + 4 * static_cast<double>(spread));
  }
}

// Against long double, whose pow, sin and cos are right to more bits than double's, if it is more.
TEST_F(MathTest, RopeTableIsAccurate) {
  using Long = long double;
  constexpr size_t kRot = 128;
  for (const double base : {1e4, 5e5, 1e6}) {
    WorstUlp worst;
    double most = 0;
    for (size_t p = 0; p < (1 << 17); p += test::Quick() ? 1021 : 13) {
      float table[kRot];
      RopeTable(p, 1, kRot, base, 1.0, nullptr, table);
      for (size_t i = 0; i < kRot; ++i) {
        const Long frequency =
            std::pow(static_cast<Long>(base), -2 * static_cast<Long>(i / 2) / Long{kRot});
        const Long angle = static_cast<Long>(p) * frequency;
        const Long want = i % 2 == 0 ? std::cos(angle) : std::sin(angle);
        worst.Update(static_cast<float>(p), table[i], static_cast<double>(want));
        most = std::max(most, static_cast<double>(std::abs(static_cast<Long>(table[i]) - want)));
      }
    }
    std::printf("Rope table of base %g: worst error %.4f ULP at %g, %.4f * 2^-24\n", base,
                worst.ulp, static_cast<double>(worst.at), most * 0x1p24);
    EXPECT_LE(most, 0x1.001p-25);
  }
}

// ---------------------------------------------------------------- bf16

// To nearest even on 16 bits, of normal numbers; what is subnormal counts as zero.
uint32_t RoundedToBF16(uint32_t bits) {
  if ((bits & 0x7f800000u) == 0) return bits & 0x80000000u;
  const uint32_t low = bits & 0xffffu, kept = bits & 0xffff0000u;
  const bool up = low > 0x8000u || (low == 0x8000u && (kept & 0x10000u) != 0);
  return kept + (up ? 0x10000u : 0u);
}

TEST_F(MathTest, RoundToBF16) {
  for (uint64_t i = 0; i < (uint64_t{1} << 32); i += Step()) {
    for (uint32_t bits : {static_cast<uint32_t>(i), static_cast<uint32_t>(i & ~0xffffull) | 0x8000u,
                          static_cast<uint32_t>(i & ~0xffffull) | 0x7fffu}) {
      const float x = FromBits(bits), got = reference::RoundToBF16(x);
      if (std::isnan(x)) {
        EXPECT_TRUE(std::isnan(got));
      } else {
        EXPECT_EQ(Bits(got), RoundedToBF16(bits)) << std::hex << bits;
      }
    }
  }
}

// A finite number as significand * 2^exponent, the significand normalized to `digits` bits or 0.
struct Scaled {
  int64_t significand;
  int exponent;
};

Scaled Split(double x, int digits) {
  if (x == 0) return {0, 0};
  const int exponent = std::ilogb(x) - (digits - 1);
  return {static_cast<int64_t>(std::ldexp(x, -exponent)), exponent};
}

// v * 2^-shift, the lost bits gathered in the lowest one so that rounding later is still right.
int64_t ShiftSticky(int64_t v, int shift) {
  if (shift >= 62) return v == 0 ? 0 : v < 0 ? -1 : 1;
  const int64_t magnitude = v < 0 ? -v : v;
  const int64_t kept = (magnitude >> shift) | ((magnitude & ((int64_t{1} << shift) - 1)) != 0);
  return v < 0 ? -kept : kept;
}

// The sum of w * x and acc, rounded to 24 bits as if exponents had no bounds, is below the smallest
// normal number. All finite; the sum is not 0.
bool TinyAfterRounding(float w, float x, float acc, bool* negative) {
  Scaled product = Split(static_cast<double>(w) * static_cast<double>(x), 16);
  Scaled addend = Split(static_cast<double>(acc), 24);
  if (product.significand == 0) product.exponent = addend.exponent;
  if (addend.significand == 0) addend.exponent = product.exponent;
  // Room of 38 bits below the larger exponent: 62 bits in all.
  const int exponent = std::max(product.exponent, addend.exponent) - 38;
  const auto aligned = [exponent](const Scaled& s) {
    const int left = s.exponent - exponent;
    return left >= 0 ? s.significand * (int64_t{1} << left) : ShiftSticky(s.significand, -left);
  };
  const int64_t sum = aligned(product) + aligned(addend);
  *negative = sum < 0;
  const uint64_t magnitude = static_cast<uint64_t>(sum < 0 ? -sum : sum);
  const int width = static_cast<int>(std::bit_width(magnitude));
  const int drop = std::max(width - 24, 0);
  uint64_t rounded = magnitude >> drop;
  if (drop > 0) {
    const uint64_t rest = magnitude & ((uint64_t{1} << drop) - 1), half = uint64_t{1} << (drop - 1);
    if (rest > half || (rest == half && (rounded & 1) != 0)) ++rounded;
  }
  // rounded * 2^(exponent + drop) < 2^-126
  return static_cast<int>(std::bit_width(rounded)) + exponent + drop <= -126;
}

float ExpectedBF16Step(float w, float x, float acc) {
  if (std::fpclassify(acc) == FP_SUBNORMAL) acc = std::copysign(0.0f, acc);
  const float fused = std::fma(w, x, acc);
  if (!std::isfinite(w) || !std::isfinite(x) || !std::isfinite(acc)) return fused;
  // Exactly zero: the ordinary rules give its sign.
  const double product = static_cast<double>(w) * static_cast<double>(x);
  if (product == -static_cast<double>(acc)) return fused;
  bool negative = false;
  if (TinyAfterRounding(w, x, acc, &negative)) return negative ? -0.0f : 0.0f;
  return fused;
}

void ExpectBF16Step(float w, float x, float acc) {
  const float got = reference::BF16Step(w, x, acc), want = ExpectedBF16Step(w, x, acc);
  EXPECT_TRUE(test::Same(got, want))
      << std::hexfloat << w << " * " << x << " + " << acc << " is " << got << ", expected " << want;
}

float RandomBF16(Random& random, int exponent) {
  const float magnitude = std::ldexp(1.0f + static_cast<float>(random.Below(128)) / 128, exponent);
  return random.OneIn(2) ? magnitude : -magnitude;
}

TEST_F(MathTest, BF16StepOfAnyFiniteValues) {
  Random random(101);
  const int cases = test::Quick() ? 20000 : 500000;
  for (int i = 0; i < cases; ++i) {
    const int a = static_cast<int>(random.Below(250)) - 125;
    const int b = std::clamp(static_cast<int>(random.Below(250)) - 125, -126 - a, 127 - a);
    const float w = RandomBF16(random, std::clamp(a, -126, 127));
    const float x = RandomBF16(random, std::clamp(b, -126, 127));
    const float acc = FromBits(static_cast<uint32_t>(random.Next()));
    if (std::isnan(acc)) continue;
    ExpectBF16Step(w, x, acc);
  }
}

// Sums around the smallest normal number, where what is flushed and what is not lies half a unit
// in the 25th bit apart.
TEST_F(MathTest, BF16StepNearTheSubnormals) {
  Random random(102);
  const int cases = test::Quick() ? 50000 : 2000000;
  for (int i = 0; i < cases; ++i) {
    // The product: anywhere from 2^-170 to 2^-120; often right where the rounding decides.
    const int exponent = random.OneIn(2) ? -154 + static_cast<int>(random.Below(8))
                                         : -170 + static_cast<int>(random.Below(50));
    const int part = -60 - static_cast<int>(random.Below(20));
    const float w = RandomBF16(random, part), x = RandomBF16(random, exponent - part);
    // The sum so far: the smallest normal numbers, their neighbours on both sides, or about them.
    uint32_t bits = 0x00800000u;
    switch (random.Below(4)) {
      case 0:
        bits += static_cast<uint32_t>(random.Below(4));
        break;
      case 1:
        bits -= static_cast<uint32_t>(random.Below(4));
        break;
      case 2:
        bits = static_cast<uint32_t>(random.Below(0x02000000));
        break;
      default:
        bits = 0x00800000u + static_cast<uint32_t>(random.Below(0x00800000));
        break;
    }
    ExpectBF16Step(w, x, FromBits(bits | (random.OneIn(2) ? 0x80000000u : 0)));
  }
}

TEST_F(MathTest, BF16StepByHand) {
  const float min = FLT_MIN;  // 2^-126
  // 2^-126 - 2^-150 is a 24-bit number below the normal range, though binary32 rounds it back.
  EXPECT_EQ(Bits(reference::BF16Step(-0x1p-75f, 0x1p-75f, min)), Bits(0.0f));
  EXPECT_EQ(Bits(reference::BF16Step(0x1p-75f, 0x1p-75f, -min)), Bits(-0.0f));
  // 2^-126 - 2^-151 is a tie of 24 bits, to even: 2^-126, which is normal.
  EXPECT_EQ(Bits(reference::BF16Step(-0x1p-75f, 0x1p-76f, min)), Bits(min));
  // 2^-126 - 1.5 * 2^-151 is nearer to 2^-126 - 2^-150.
  EXPECT_EQ(Bits(reference::BF16Step(-0x1.8p-75f, 0x1p-76f, min)), Bits(0.0f));
  // A subnormal sum so far is zero.
  EXPECT_EQ(Bits(reference::BF16Step(1.0f, min, 0x1p-127f)), Bits(min));
  EXPECT_EQ(Bits(reference::BF16Step(0.0f, 1.0f, 0x1p-127f)), Bits(0.0f));
  // Zeros: only the sum of two negative ones is negative.
  EXPECT_EQ(Bits(reference::BF16Step(-0.0f, 1.0f, -0.0f)), Bits(-0.0f));
  EXPECT_EQ(Bits(reference::BF16Step(-0.0f, 1.0f, -0x1p-130f)), Bits(-0.0f));
  EXPECT_EQ(Bits(reference::BF16Step(-0.0f, 1.0f, 0.0f)), Bits(0.0f));
  EXPECT_EQ(Bits(reference::BF16Step(1.0f, -1.0f, 1.0f)), Bits(0.0f));
  EXPECT_EQ(Bits(reference::BF16Step(-0x1p-100f, 0x1p-100f, 0.0f)), Bits(-0.0f));
  EXPECT_EQ(reference::BF16Step(0x1p100f, 0x1p100f, 0.0f), kInf);
  EXPECT_TRUE(std::isnan(reference::BF16Step(kInf, 0.0f, 1.0f)));
  EXPECT_TRUE(std::isnan(reference::BF16Step(kInf, 1.0f, -kInf)));
}

TEST_F(MathTest, SumOf16IsTheTree) {
  Random random(103);
  for (int i = 0; i < 1000; ++i) {
    float x[16];
    test::Fill(i % 2 == 0 ? test::Data::kNormal : test::Data::kSpecials, random, x, 16);
    const float got = reference::SumOf16(x);
    for (size_t half = 8; half > 0; half /= 2) {
      for (size_t j = 0; j < half; ++j) x[j] += x[j + half];
    }
    EXPECT_TRUE(test::Same(got, x[0]));
  }
}

}  // namespace
}  // namespace hob
