// RoPE's angles, in double precision with routines of our own: the C library's sin, cos and pow
// differ from machine to machine. Only + - * / and comparisons, so the results are the same
// everywhere; relative errors are below 1e-15, far below what the conversion to f32 rounds away.

#include <bit>
#include <cstddef>
#include <cstdint>

#include "kernels/rows.h"

namespace hob {
namespace {

constexpr double kLn2 = 0x1.62e42fefa39efp-1;
// ln 2 in two parts, the first with 21 trailing zero bits: n * kLn2Head is exact for |n| < 2^21.
constexpr double kLn2Head = 0x1.62e42feep-1;
constexpr double kLn2Tail = 0x1.a39ef35793c76p-33;

// Rounds |x| < 2^51 to the nearest integer.
double RoundToInteger(double x) {
  constexpr double kShift = 0x1.8p52;
  return (x + kShift) - kShift;
}

double PowerOf2(int64_t n) { return std::bit_cast<double>(static_cast<uint64_t>(n + 1023) << 52); }

// ln x for normal x > 0: x = 2^e m, ln m = 2 atanh((m - 1) / (m + 1)), |s| <= 0.172, by its series.
double Log(double x) {
  const uint64_t bits = std::bit_cast<uint64_t>(x);
  int64_t e = static_cast<int64_t>(bits >> 52) - 1023;
  double m = std::bit_cast<double>((bits & 0x000FFFFFFFFFFFFF) | 0x3FF0000000000000);
  if (m > 1.4142135623730951) {
    m *= 0.5;
    ++e;
  }
  const double s = (m - 1.0) / (m + 1.0), s2 = s * s;
  double sum = 0.0;
  for (int i = 21; i >= 3; i -= 2) sum = (sum + 1.0 / i) * s2;
  return static_cast<double>(e) * kLn2 + 2.0 * s * (1.0 + sum);
}

// e^x for |x| < 700, by the series of e^r on |r| <= ln(2) / 2.
double Exp(double x) {
  const double n = RoundToInteger(x / kLn2);
  const double r = (x - n * kLn2Head) - n * kLn2Tail;
  double sum = 1.0;
  for (int i = 15; i >= 1; --i) sum = 1.0 + sum * r / i;
  return sum * PowerOf2(static_cast<int64_t>(n));
}

// cos and sin of |a| < 2^20 * pi / 2: reduced to |r| <= pi / 4 by a multiple of pi / 2 in three
// parts of which the first two have 20 trailing zero bits (products with the multiple are exact).
void CosSin(double a, double* cosine, double* sine) {
  constexpr double kPio2Head = 0x1.921fb544p+0;
  constexpr double kPio2Middle = 0x1.0b4611a6p-34;
  constexpr double kPio2Tail = 0x1.3198a2e037073p-69;
  const double n = RoundToInteger(a / 0x1.921fb54442d18p+0);
  const double r = ((a - n * kPio2Head) - n * kPio2Middle) - n * kPio2Tail;
  const double r2 = r * r;
  double s = 1.0, c = 1.0;
  for (int i = 18; i >= 2; i -= 2) {
    s = 1.0 - s * r2 / (i * (i + 1));
    c = 1.0 - c * r2 / (i * (i - 1));
  }
  s *= r;
  switch (static_cast<int64_t>(n) & 3) {
    case 0:
      *cosine = c;
      *sine = s;
      break;
    case 1:
      *cosine = -s;
      *sine = c;
      break;
    case 2:
      *cosine = -c;
      *sine = -s;
      break;
    default:
      *cosine = s;
      *sine = -c;
  }
}

}  // namespace

void RopeTable(size_t first, size_t count, size_t n_rot, double base, double freq_scale,
               const float* factors, float* table) {
  if (count == 0) return;  // or all frequencies of however wide a head would be found for nothing
  const double log_base = Log(base);
  for (size_t i = 0; i < n_rot / 2; ++i) {
    double frequency = Exp(-2.0 * static_cast<double>(i) / static_cast<double>(n_rot) * log_base);
    frequency *= freq_scale;
    if (factors != nullptr) frequency /= static_cast<double>(factors[i]);
    for (size_t p = 0; p < count; ++p) {
      double cosine, sine;
      CosSin(static_cast<double>(first + p) * frequency, &cosine, &sine);
      table[p * n_rot + 2 * i] = static_cast<float>(cosine);
      table[p * n_rot + 2 * i + 1] = static_cast<float>(sine);
    }
  }
}

}  // namespace hob
