// Pieces for encoders: the search for the scale that makes the squared error least. Sums are in
// double, where no square of a float overflows or vanishes; everything is + - * / and comparisons,
// so every machine encodes the same bytes.
#ifndef HOB_KERNELS_FORMATS_ENCODE_H_
#define HOB_KERNELS_FORMATS_ENCODE_H_

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <limits>

#include "kernels/formats/contract.h"
#include "kernels/half.h"

namespace hob {

// The values an encoder works with: NaN becomes 0, infinity the largest float.
template <size_t kCount>
std::array<float, kCount> FiniteValues(const float* x) {
  constexpr float kMax = std::numeric_limits<float>::max();
  std::array<float, kCount> out;
  for (size_t i = 0; i < kCount; ++i) out[i] = x[i] == x[i] ? std::clamp(x[i], -kMax, kMax) : 0.0f;
  return out;
}

// The nearest finite f16.
inline uint16_t ToFiniteF16(float x) { return F32ToF16(std::clamp(x, -65504.0f, 65504.0f)); }
inline float RoundToF16(float x) { return F16ToF32(ToFiniteF16(x)); }

// For scales: only 0 becomes 0, since a scale that is too large still leaves the small levels.
inline float RoundScale(float x) {
  const float rounded = RoundToF16(x);
  return rounded == 0.0f && x != 0.0f ? std::copysign(0x1p-24f, x) : rounded;
}

// 1 / scale, or 0 where there is none. Of an f16 it is finite.
inline float InverseOf(float scale) { return scale != 0.0f ? 1.0f / scale : 0.0f; }

// Also for scales that come out of sums: what does not fit into a float becomes its maximum.
inline float ToFiniteFloat(double x) {
  constexpr double kMax = std::numeric_limits<float>::max();
  return x == x ? static_cast<float>(std::clamp(x, -kMax, kMax)) : 0.0f;
}

// Of a and b the one of larger magnitude, a if they are equal; for finite values.
//
// Magnitudes are compared as integers because clang 19 gets the comparison of fabs wrong, on every
// CPU (LLVM's issue 152824). A search starts from 0; once its loop is unrolled, the first step is
// fabs(b) > 0 ? b : 0. From that condition LLVM's value tracking (fcmpImpliesClass, which looks
// through the fabs and forgets it) takes b itself to be positive, so the fabs of the result in
// the next step is dropped, and a negative first element loses against smaller ones.
inline float LargerMagnitude(float a, float b) {
  const auto magnitude = [](float x) { return std::bit_cast<uint32_t>(x) & 0x7FFFFFFF; };
  return magnitude(b) > magnitude(a) ? b : a;
}

// The element of largest magnitude, the first of several; 0 if there are only zeros.
inline float Extreme(const float* x, size_t n) {
  float extreme = 0.0f;
  for (size_t i = 0; i < n; ++i) extreme = LargerMagnitude(extreme, x[i]);
  return extreme;
}

// The nearest integer within [low, high], for finite v: what RoundToCode does, as a float.
inline float RoundToLevel(float v, float low, float high) {
  return (std::min(std::max(v, low), high) + kRound) - kRound;
}

// Sums in this many lanes: what compilers turn into vectors.
inline constexpr size_t kSumLanes = 8;

template <class T>
T SumOfLanes(const T* lanes) {
  T sum = 0;
  for (size_t i = 0; i < kSumLanes; ++i) sum += lanes[i];
  return sum;
}

// The f16 scale with the least squared error of x = scale * level(x / scale), among 0 and, for each
// of `starts`, the scale that puts the extreme element on that level, refined `rounds` times. Level
// takes and returns floats; n is a multiple of 8.
template <class Level>
float SearchScale(const float* x, size_t n, std::initializer_list<float> starts, int rounds,
                  Level level) {
  const float extreme = Extreme(x, n);
  float best = 0.0f;
  double most = 0;  // by how much the squared error is less than that of 0
  for (const float start : starts) {
    float next = extreme / start;
    for (int round = 0; round <= rounds; ++round) {
      const float scale = RoundScale(next), inverse = InverseOf(scale);
      double xq_lanes[kSumLanes] = {};
      float qq_lanes[kSumLanes] = {};  // of integers, exact
      for (size_t i = 0; i < n; i += kSumLanes) {
        for (size_t j = 0; j < kSumLanes; ++j) {
          const float q = level(x[i + j] * inverse);
          xq_lanes[j] += static_cast<double>(x[i + j]) * static_cast<double>(q);
          qq_lanes[j] += q * q;
        }
      }
      const double d = scale, xq = SumOfLanes(xq_lanes);
      const auto qq = static_cast<double>(SumOfLanes(qq_lanes));
      const double gain = d * (2 * xq - d * qq);
      if (gain > most) {
        most = gain;
        best = scale;
      }
      if (!(qq > 0)) break;
      next = ToFiniteFloat(xq / qq);
      if (RoundScale(next) == scale) break;  // settled
    }
  }
  return best;
}

struct ScaleAndOffset {
  float scale, offset;
};

// The same for x = scale * level + offset with levels from 0 to max_level and both in f16. Each
// start divides the range of x by max_level + one of `cuts`, so that as much of it is clamped.
inline ScaleAndOffset SearchScaleAndOffset(const float* x, size_t n, int max_level,
                                           std::initializer_list<float> cuts, int rounds) {
  float low = x[0], high = x[0];
  double mean = 0;
  for (size_t i = 0; i < n; ++i) {
    low = std::min(low, x[i]);
    high = std::max(high, x[i]);
    mean += x[i];
  }
  mean /= static_cast<double>(n);
  const double range = static_cast<double>(high) - low, count = static_cast<double>(n);
  const auto top = static_cast<float>(max_level);

  ScaleAndOffset best = {0.0f, RoundToF16(ToFiniteFloat(mean))};
  double most = -(best.offset - mean) * (best.offset - mean) * count;  // less than that of the mean
  for (const float cut : cuts) {
    float next_scale = ToFiniteFloat(range / (top + cut));
    float next_offset = ToFiniteFloat(low + 0.5 * (range - static_cast<double>(next_scale) * top));
    for (int round = 0; round <= rounds; ++round) {
      const float scale = RoundScale(next_scale), inverse = InverseOf(scale);
      const float offset = RoundToF16(next_offset);
      double xq_lanes[kSumLanes] = {};  // of x - mean
      float q_lanes[kSumLanes] = {}, qq_lanes[kSumLanes] = {};
      for (size_t i = 0; i < n; i += kSumLanes) {
        for (size_t j = 0; j < kSumLanes; ++j) {
          const float q = RoundToLevel((x[i + j] - offset) * inverse, 0.0f, top);
          xq_lanes[j] += (x[i + j] - mean) * static_cast<double>(q);
          q_lanes[j] += q;
          qq_lanes[j] += q * q;
        }
      }
      const double d = scale, m = offset - mean, xq = SumOfLanes(xq_lanes);
      const auto q = static_cast<double>(SumOfLanes(q_lanes));
      const auto qq = static_cast<double>(SumOfLanes(qq_lanes));
      const double gain = d * (2 * xq - d * qq) - m * (2 * d * q + m * count);
      if (gain > most) {
        most = gain;
        best = {scale, offset};
      }
      const double determinant = count * qq - q * q;
      if (!(determinant > 0)) break;  // all levels are the same
      next_scale = ToFiniteFloat(count * xq / determinant);
      next_offset = ToFiniteFloat(mean - q * xq / determinant);
      if (RoundScale(next_scale) == scale && RoundToF16(next_offset) == offset) break;
    }
  }
  return best;
}

// The f16 scale with the least squared error of x = scale * {-1, 0, 1}: the mean magnitude of the
// largest ones, for the best number of them.
template <size_t kCount>
float TernaryScale(const std::array<float, kCount>& x) {
  std::array<float, kCount> magnitude;
  for (size_t i = 0; i < kCount; ++i) magnitude[i] = std::fabs(x[i]);
  std::sort(magnitude.begin(), magnitude.end());
  double sum = 0, best = 0, scale = 0;
  for (size_t taken = 1; taken <= kCount; ++taken) {
    sum += magnitude[kCount - taken];
    const double gain = sum * sum / static_cast<double>(taken);  // what the squared error loses
    if (gain > best) {
      best = gain;
      scale = sum / static_cast<double>(taken);
    }
  }
  return RoundScale(ToFiniteFloat(scale));
}

}  // namespace hob

#endif  // HOB_KERNELS_FORMATS_ENCODE_H_
