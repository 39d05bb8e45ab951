// See logit_stats.h.
#include "runtime/cli/logit_stats.h"

#include <algorithm>
#include <cmath>

namespace hob::cli {

std::optional<size_t> FirstNonFinite(std::span<const float> row) {
  const auto found =
      std::find_if(row.begin(), row.end(), [](float value) { return !std::isfinite(value); });
  if (found == row.end()) return std::nullopt;
  return static_cast<size_t>(found - row.begin());
}

size_t Top(std::span<const float> row) {
  return static_cast<size_t>(std::max_element(row.begin(), row.end()) - row.begin());
}

double LogSumExp(std::span<const float> row) {
  const double largest = *std::max_element(row.begin(), row.end());
  double sum = 0;
  for (const float value : row) sum += std::exp(value - largest);
  return largest + std::log(sum);
}

RowComparison CompareRows(std::span<const float> base, std::span<const float> other) {
  RowComparison result;
  result.base_log_sum = LogSumExp(base);
  result.other_log_sum = LogSumExp(other);
  double divergence = 0;
  for (size_t i = 0; i < base.size(); ++i) {
    const double log_p = base[i] - result.base_log_sum;
    const double log_q = other[i] - result.other_log_sum;
    divergence += std::exp(log_p) * (log_p - log_q);
  }
  result.divergence = std::max(divergence, 0.0);
  result.same_top = Top(base) == Top(other);
  return result;
}

double MeanCovariance(std::span<const double> x, std::span<const double> y) {
  const size_t n = x.size();
  if (n < 2) return 0;
  double mean_x = 0, mean_y = 0, sum = 0;
  for (size_t i = 0; i < n; ++i) {
    mean_x += x[i] / static_cast<double>(n);
    mean_y += y[i] / static_cast<double>(n);
  }
  for (size_t i = 0; i < n; ++i) sum += (x[i] - mean_x) * (y[i] - mean_y);
  return sum / static_cast<double>(n) / static_cast<double>(n - 1);
}

Estimate MeanOf(std::span<const double> values) {
  double sum = 0;
  for (const double value : values) sum += value;
  return {sum / static_cast<double>(values.size()), std::sqrt(MeanCovariance(values, values))};
}

double Quantile(std::span<const double> sorted, double share) {
  const double place = share * static_cast<double>(sorted.size() - 1);
  const auto below = static_cast<size_t>(place);
  const size_t above = std::min(below + 1, sorted.size() - 1);
  const double part = place - static_cast<double>(below);
  return sorted[below] + part * (sorted[above] - sorted[below]);
}

}  // namespace hob::cli
