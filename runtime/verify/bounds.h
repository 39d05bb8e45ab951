// How far a result of binary32 arithmetic may be from the exact one. docs/numerics.md derives what
// is computed here; an op's Check (ops.h) puts it together from these parts.
#ifndef HOB_RUNTIME_VERIFY_BOUNDS_H_
#define HOB_RUNTIME_VERIFY_BOUNDS_H_

#include <algorithm>
#include <cfloat>
#include <cmath>
#include <cstddef>
#include <limits>

namespace hob::verify {

inline constexpr double kU = 0x1p-24;       // half a unit in the last place, relative
inline constexpr double kTiny = 0x1p-149;   // at least what a result below the normal range loses
inline constexpr double kFlush = 0x1p-125;  // at least what flushing a subnormal loses, in and out
inline constexpr double kUnbounded = std::numeric_limits<double>::infinity();
inline constexpr double kFloatMax = static_cast<double>(FLT_MAX);

// Relative errors of hob's exponentials: the worst ULPs that docs/numerics.md states, times 2 u; of
// exp2b, which is a bf16's, what that page allows for.
inline constexpr double kExpError = 0.91 * 2 * kU;
inline constexpr double kExp2Error = 2.04 * 2 * kU;
inline constexpr double kExp2BF16Error = 0x1p-13;
inline constexpr double kTanhError = 1.37 * 2 * kU;
// exp has no finite value in binary32 beyond this.
inline constexpr double kExpOverflow = 88.72;

// What n roundings in a row make of a relative error: n u / (1 - n u).
inline double Gamma(size_t n) {
  const double nu = static_cast<double>(n) * kU;
  return nu / (1 - nu);
}

// The sum of doubles with the rounding errors of the additions added in the end (Neumaier), and the
// sum of the magnitudes. Not finite: as plain addition has it.
class Sum {
 public:
  void Add(double term) {
    const double sum = sum_ + term;
    const double larger = std::fabs(sum_) >= std::fabs(term) ? sum_ : term;
    const double smaller = larger == sum_ ? term : sum_;
    rest_ += (larger - sum) + smaller;
    sum_ = sum;
    magnitudes_ += std::fabs(term);
  }
  double value() const { return std::isfinite(sum_) ? sum_ + rest_ : sum_; }
  double magnitudes() const { return magnitudes_; }

 private:
  double sum_ = 0, rest_ = 0, magnitudes_ = 0;
};

// A value that hob computes, with what is known of it.
struct Bounded {
  double want;   // exact, or nearly so
  double bound;  // of |computed - want|; kUnbounded where the definition may overflow

  // The largest magnitude that the computed value can have.
  double Largest() const { return std::fabs(want) + bound; }
};

// The result of one more rounded operation, given what it would be without rounding.
inline Bounded Rounded(double want, double bound) {
  const double most = std::fabs(want) + bound;
  if (std::isfinite(want) && !(most * (1 + kU) < kFloatMax)) bound = kUnbounded;
  return {want, bound + kU * most + kTiny};
}
inline Bounded Plus(Bounded a, Bounded b) { return Rounded(a.want + b.want, a.bound + b.bound); }
inline Bounded Times(Bounded a, Bounded b) {
  if (a.bound == kUnbounded || b.bound == kUnbounded) return {a.want * b.want, kUnbounded};
  return Rounded(a.want * b.want, a.Largest() * b.bound + std::fabs(b.want) * a.bound);
}
inline Bounded Exactly(float x) { return {static_cast<double>(x), 0}; }

// A chain of `steps` fused multiply-adds whose exact terms are summed up in `sum`.
inline Bounded Chain(const Sum& sum, size_t steps, double lost_each = kTiny) {
  Bounded chain = {sum.value(), Gamma(steps) * sum.magnitudes() +
                                    2 * static_cast<double>(steps) * lost_each +
                                    0x1p-50 * sum.magnitudes()};
  if (std::isfinite(chain.want) && !(sum.magnitudes() * (1 + Gamma(steps)) < kFloatMax)) {
    chain.bound = kUnbounded;
  }
  return chain;
}

// g / (1 + exp(-g)). Where exp(-g) overflows the result is 0.
inline Bounded Silu(float gate) {
  const double g = static_cast<double>(gate);
  const double want = g / (1 + std::exp(-g));
  if (!std::isfinite(want)) return {want, 0};
  const double lost = g < -kExpOverflow ? std::fabs(want) : 0;
  return {want, std::fabs(want) * (kExpError + 2 * kU) * (1 + 0x1p-20) + lost + kTiny};
}

// gelu in its tanh form, as x / (1 + exp(w)). w has the roundings of two constants, of x^2, of the
// sum and of the product: 4 u, which exp turns into e^(4 u |w|) - 1. Where exp(w) overflows the
// result is 0.
inline Bounded Gelu(float gate) {
  const double x = static_cast<double>(gate);
  const double w = -1.5957691216057308 * x * (1 + 0.044715 * x * x);
  const double want = x / (1 + std::exp(w));
  if (!std::isfinite(want)) return {want, 0};
  const double relative = std::expm1(4 * kU * std::min(std::fabs(w), 104.0)) + kExpError + 2 * kU;
  const double lost = w > kExpOverflow * (1 - 8 * kU) ? std::fabs(want) : 0;
  return {want, std::fabs(want) * relative * (1 + 0x1p-16) + lost + kTiny};
}

}  // namespace hob::verify

#endif  // HOB_RUNTIME_VERIFY_BOUNDS_H_
