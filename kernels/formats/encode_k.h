// The encoder of the formats in super-blocks of 256 values (q2_k to q6_k, iq4_xs), where
//   value = d * sub_scale[i / kSub] * level - dmin * sub_min[i / kSub]
// with d and dmin in f16 and small integers for the rest. It minimizes the squared error:
//
//   1. Every sub-block alone: many candidate scales, the levels that each gives, the scale (and
//      minimum) that fit those levels best by least squares; the best of all is kept.
//   2. d and dmin follow from the largest scale and minimum. The integers are chosen among the
//      neighbours of their real values, by the error that they give with levels chosen for them.
//   3. d and dmin are fitted to all that was chosen, and 2 is repeated; the better one is kept.
//
// Floats only, in a fixed order: the same blocks on every machine.
#ifndef HOB_KERNELS_FORMATS_ENCODE_K_H_
#define HOB_KERNELS_FORMATS_ENCODE_K_H_

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>

#include "kernels/formats/contract.h"
#include "kernels/formats/encode.h"

namespace hob {

template <class F>
struct SuperBlock {
  static constexpr size_t kSubs = F::kValues / F::kSub;
  uint16_t d = 0, dmin = 0;
  int sub_scale[kSubs] = {}, sub_min[kSubs] = {};
  uint8_t code[F::kValues] = {};
};

// For each multiple of 1/2 from level 0 on, the code nearest to what lies between it and the next:
// every border between two levels is such a multiple. Empty where levels are codes.
template <class F>
constexpr auto MakeNearestCodes() {
  if constexpr (requires { F::kLevels; }) {
    std::array<uint8_t, 2 * F::kMaxLevel + 1> nearest = {};
    uint8_t code = 0;
    for (size_t i = 0; i < nearest.size(); ++i) {
      while (code < 15 && i >= size_t{F::kLevels[code]} + F::kLevels[code + 1]) ++code;
      nearest[i] = code;
    }
    return nearest;
  } else {
    return 0;
  }
}
template <class F>
inline constexpr auto kNearestCodes = MakeNearestCodes<F>();

// The search. Sub-scales are in [kSubLow, kSubHigh], sub-minima in [0, kSubHigh].
template <class F, int kSubLow, int kSubHigh>
class SuperBlockEncoder {
 public:
  static SuperBlock<F> Encode(const float* values) {
    alignas(64) float x[F::kValues];
    float largest = 0.0f;
    for (size_t i = 0; i < F::kValues; ++i) {
      x[i] = Sane(values[i]);
      largest = std::max(largest, std::fabs(x[i]));
    }
    SuperBlock<F> best;
    for (uint8_t& code : best.code) code = static_cast<uint8_t>(NearestCode(0.0f));
    if (largest == 0.0f) return best;

    Line line[kSubs];
    Line top = {};  // the scale of largest magnitude, with its sign, and the largest minimum
    for (size_t sub = 0; sub < kSubs; ++sub) {
      line[sub] = kSigned ? FitScale(x + sub * F::kSub) : FitLine(x + sub * F::kSub);
      top.scale = LargerMagnitude(top.scale, line[sub].scale);
      top.min = std::max(top.min, line[sub].min);
    }

    // The sign of d is such that the largest scale gets the end of the range that reaches further.
    float d = top.scale / static_cast<float>(kSigned ? kSubLow : kSubHigh);
    float dmin = top.min / static_cast<float>(kSubHigh);
    float best_error = 0.0f;
    for (int pass = 0; pass < 2; ++pass) {
      Levels levels;
      SuperBlock<F> now;
      now.d = F32ToF16(RoundScale(d));
      now.dmin = F32ToF16(RoundScale(dmin));
      const float error = Choose(x, line, &now, &levels);
      if (pass == 0 || error < best_error) {
        best_error = error;
        best = now;
      }
      Refit(x, now, levels, &d, &dmin);
    }

    for (size_t i = 0; i < F::kValues; ++i) {
      const size_t sub = i / F::kSub;
      const Line l = Decoded(best, best.sub_scale[sub], best.sub_min[sub]);
      best.code[i] = static_cast<uint8_t>(NearestCode((x[i] + l.min) * InverseOf(l.scale)));
    }
    return best;
  }

 private:
  static constexpr size_t kSubs = SuperBlock<F>::kSubs, kSub = F::kSub;
  static constexpr bool kSigned = kSubLow < 0;  // then levels are signed too, and there is no min
  static_assert(kSigned != F::kHasMin);
  static constexpr float kLow = -F::kZero, kHigh = F::kMaxLevel - F::kZero;

  // value = scale * level - min
  struct Line {
    float scale = 0.0f, min = 0.0f;
  };
  struct Levels {
    float of[F::kValues];
  };

  // No block can say NaN, what is beyond 2^29, or what is below half the least subnormal of f16;
  // without them no step of the search overflows or underflows.
  static float Sane(float x) {
    if (!(std::fabs(x) > 0x1p-40f)) return 0.0f;
    return std::min(std::max(x, -0x1p29f), 0x1p29f);
  }

  static Line Decoded(const SuperBlock<F>& block, int sub_scale, int sub_min) {
    return {F16ToF32(block.d) * static_cast<float>(sub_scale),
            F16ToF32(block.dmin) * static_cast<float>(sub_min)};
  }

  // ---------------------------------------------------------------- levels

  static int NearestCode(float v) {
    if constexpr (requires { F::kLevels; }) {
      return kNearestCodes<F>[static_cast<size_t>(
          RoundToCode(v * 2.0f + (2 * F::kZero - 0.5f), 0, 2 * F::kMaxLevel))];
    } else {
      return RoundToCode(v, -F::kZero, F::kMaxLevel - F::kZero) + F::kZero;
    }
  }

  static float NearestLevel(float v) {
    if constexpr (requires { F::kLevels; }) {
      return static_cast<float>(F::kLevels[NearestCode(v)] - F::kZero);
    } else {
      return (std::min(kHigh, std::max(kLow, v)) + kRound) - kRound;
    }
  }

  // Four sums and not one, in an order that vectors can follow.
  template <class Term>
  static float SumOf(Term term) {
    float lane[4] = {};
    for (size_t i = 0; i < kSub; i += 4) {
      for (size_t j = 0; j < 4; ++j) lane[j] += term(i + j);
    }
    return (lane[0] + lane[1]) + (lane[2] + lane[3]);
  }

  static void NearestLevels(const float* x, float inverse, float min, float* level) {
    for (size_t i = 0; i < kSub; ++i) level[i] = NearestLevel((x[i] + min) * inverse);
  }

  static float ErrorOf(const float* x, const float* level, Line line) {
    return SumOf([&](size_t i) {
      const float e = line.scale * level[i] - line.min - x[i];
      return e * e;
    });
  }

  // ---------------------------------------------------------------- one sub-block

  // Keeps what fits best.
  struct Best {
    Line line;
    float score = 0.0f;
  };

  // The best scale for the levels that 1 / inverse gives; its score, the sum of squares that it
  // takes off the error, goes to *best if it is larger.
  static void TryScale(const float* x, float inverse, Best* best) {
    alignas(64) float level[kSub];
    NearestLevels(x, inverse, 0.0f, level);
    const float xl = SumOf([&](size_t i) { return x[i] * level[i]; });
    const float ll = SumOf([&](size_t i) { return level[i] * level[i]; });
    if (ll > 0.0f && xl * (xl / ll) > best->score) *best = {{xl / ll, 0.0f}, xl * (xl / ll)};
  }

  // The element of largest magnitude lies near one or the other end of the levels.
  static Line FitScale(const float* x) {
    const float extreme = Extreme(x, kSub);
    Best best;
    if (extreme == 0.0f) return best.line;
    constexpr float kStep = (kHigh - kLow) / 15.0f < 1.0f ? 0.1f : (kHigh - kLow) / 150.0f;
    for (const float end : {kLow, kHigh}) {
      for (int i = -9; i <= 9; ++i) {
        TryScale(x, (end + kStep * static_cast<float>(i)) / extreme, &best);
      }
    }
    for (int i = 0; i < 2; ++i) TryScale(x, InverseOf(best.line.scale), &best);
    return best.line;
  }

  // The same for a scale and a minimum, which are not negative.
  static void TryLine(const float* x, float sum_x, float inverse, float min, Best* best) {
    alignas(64) float level[kSub];
    NearestLevels(x, inverse, min, level);
    const float l = SumOf([&](size_t i) { return level[i]; });
    const float ll = SumOf([&](size_t i) { return level[i] * level[i]; });
    const float xl = SumOf([&](size_t i) { return x[i] * level[i]; });
    constexpr auto n = static_cast<float>(kSub);
    const float det = n * ll - l * l;  // exact
    if (!(ll > 0.0f)) return;
    Line line = {xl / ll, 0.0f};
    if (det > 0.0f) {
      const Line free = {(n * xl - l * sum_x) / det, (l * xl - ll * sum_x) / det};
      if (free.min >= 0.0f) line = free;
    }
    if (line.scale < 0.0f) return;
    const float error = ErrorOf(x, level, line);
    if (error < best->score) *best = {line, error};
  }

  static Line FitLine(const float* x) {
    float low = 0.0f, high = x[0], sum = SumOf([&](size_t i) { return x[i]; });
    for (size_t i = 0; i < kSub; ++i) {
      low = std::min(low, x[i]);
      high = std::max(high, x[i]);
    }
    if (!(high > low)) return {0.0f, -low};
    // To be beaten: all values at the lower end.
    Best best = {{0.0f, -low}, SumOf([&](size_t i) { return (x[i] - low) * (x[i] - low); })};
    // The range takes somewhat less or more than all levels, and lies a third of a level up or
    // down: where one outlier makes levels wide, it matters where they fall among the others.
    for (int i = -10; i <= 10; i += 4) {
      const float inverse = (kHigh + 0.1f * static_cast<float>(i)) / (high - low);
      for (const float up : {0.0f, -0.33f, 0.33f}) {
        TryLine(x, sum, inverse, up / inverse - low, &best);
      }
    }
    for (int i = 0; i < 3; ++i) {
      TryLine(x, sum, InverseOf(best.line.scale), best.line.min, &best);
    }
    return best.line;
  }

  // ---------------------------------------------------------------- all of them

  // Chooses the integers of all sub-blocks for block->d and dmin; returns the error.
  static float Choose(const float* x, const Line* line, SuperBlock<F>* block, Levels* levels) {
    const float to_scale = InverseOf(F16ToF32(block->d)), to_min = InverseOf(F16ToF32(block->dmin));
    float sum = 0.0f;
    for (size_t sub = 0; sub < kSubs; ++sub) {
      const float* values = x + sub * kSub;
      float* best_level = levels->of + sub * kSub;
      const int scale = RoundToCode(line[sub].scale * to_scale, kSubLow, kSubHigh);
      float best = -1.0f;
      for (int s = std::max(scale - 1, kSubLow); s <= std::min(scale + 1, kSubHigh); ++s) {
        const int min = F::kHasMin ? NearMin(values, *block, s, line[sub], to_min) : 0;
        const int low = F::kHasMin ? std::max(min - 1, 0) : 0;
        const int high = F::kHasMin ? std::min(min + 1, kSubHigh) : 0;
        for (int m = low; m <= high; ++m) {
          const Line decoded = Decoded(*block, s, m);
          alignas(64) float level[kSub];
          NearestLevels(values, InverseOf(decoded.scale), decoded.min, level);
          const float error = ErrorOf(values, level, decoded);
          if (best >= 0.0f && !(error < best)) continue;
          best = error;
          block->sub_scale[sub] = s;
          block->sub_min[sub] = m;
          std::copy(level, level + kSub, best_level);
        }
      }
      sum += best;
    }
    return sum;
  }

  // The minimum that suits the levels under sub-scale s.
  static int NearMin(const float* x, const SuperBlock<F>& block, int s, Line line, float to_min) {
    const float scale = Decoded(block, s, 0).scale;
    alignas(64) float level[kSub];
    NearestLevels(x, InverseOf(scale), line.min, level);
    const float sum = SumOf([&](size_t i) { return scale * level[i] - x[i]; });
    return RoundToCode(sum / static_cast<float>(kSub) * to_min, 0, kSubHigh);
  }

  // d and dmin that fit all that was chosen best: least squares of a sum of two terms.
  static void Refit(const float* x, const SuperBlock<F>& block, const Levels& levels, float* d,
                    float* dmin) {
    float aa = 0.0f, am = 0.0f, mm = 0.0f, ax = 0.0f, mx = 0.0f;
    for (size_t sub = 0; sub < kSubs; ++sub) {
      const float* values = x + sub * kSub;
      const float* level = levels.of + sub * kSub;
      const auto s = static_cast<float>(block.sub_scale[sub]);
      const auto m = static_cast<float>(block.sub_min[sub]);
      const float l = SumOf([&](size_t i) { return level[i]; });
      aa += s * s * SumOf([&](size_t i) { return level[i] * level[i]; });
      ax += s * SumOf([&](size_t i) { return level[i] * values[i]; });
      if constexpr (F::kHasMin) {
        am += s * m * l;
        mm += m * m * static_cast<float>(kSub);
        mx += m * SumOf([&](size_t i) { return values[i]; });
      }
    }
    const float det = aa * mm - am * am;
    if (F::kHasMin && det > aa * mm * 0x1p-16f) {
      *d = (ax * mm - am * mx) / det;
      *dmin = (ax * am - aa * mx) / det;
    } else if (aa > 0.0f && mm == 0.0f) {
      *d = ax / aa;
    }
  }
};

}  // namespace hob

#endif  // HOB_KERNELS_FORMATS_ENCODE_K_H_
