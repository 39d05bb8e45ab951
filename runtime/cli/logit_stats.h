// What one compares logits by: probabilities of a row, the divergence of two rows, and summaries of
// many numbers. Everything is in double precision. Start with CompareRows.
#ifndef HOB_RUNTIME_CLI_LOGIT_STATS_H_
#define HOB_RUNTIME_CLI_LOGIT_STATS_H_

#include <cstddef>
#include <optional>
#include <span>
#include <vector>

namespace hob::cli {

// The first value of a row that is no finite number; nothing if all are.
std::optional<size_t> FirstNonFinite(std::span<const float> row);

// The smallest index of the largest value. The row must be finite and not empty, here and below.
size_t Top(std::span<const float> row);

// log of the sum over i of exp(row[i]), so that log p[i] = row[i] - LogSumExp(row).
double LogSumExp(std::span<const float> row);

struct RowComparison {
  // sum over i of p[i] * (log p[i] - log q[i]); p of `base`, q of `other`. Never negative: rounding
  // that would make it so counts as zero.
  double divergence = 0;
  double base_log_sum = 0, other_log_sum = 0;  // LogSumExp of each
  bool same_top = false;
};
// The rows have the same length.
RowComparison CompareRows(std::span<const float> base, std::span<const float> other);

// A mean and its standard error sqrt(variance / (n - 1)), variance the mean of the squared
// deviations; the error is 0 for n = 1.
struct Estimate {
  double mean = 0, error = 0;
};
Estimate MeanOf(std::span<const double> values);

// The covariance of two means, so that MeanCovariance(x, x) = MeanOf(x).error squared.
double MeanCovariance(std::span<const double> x, std::span<const double> y);

// The quantile of sorted values at `share`, 0 to 1: between the two values that are nearest to
// place share * (n - 1), in proportion. `sorted` is not empty.
double Quantile(std::span<const double> sorted, double share);

}  // namespace hob::cli

#endif  // HOB_RUNTIME_CLI_LOGIT_STATS_H_
