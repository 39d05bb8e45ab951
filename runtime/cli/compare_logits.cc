// hob compare-logits: how far two files of logits are from each other.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <nlohmann/json.hpp>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "runtime/cli/common.h"
#include "runtime/cli/input_file.h"
#include "runtime/cli/logit_stats.h"

namespace hob::cli {
namespace {

using Json = nlohmann::ordered_json;

struct CompareOptions {
  std::string base, other;
  size_t vocabulary = 0;
  bool json = false;
};

// Where a value is: its row and its place in the row.
struct Place {
  uint64_t row = 0, column = 0;
};

struct Comparison {
  uint64_t rows = 0, row_values = 0;
  uint64_t equal_rows = 0;          // bit for bit
  uint64_t left_out = 0;            // rows with a value that is not finite, in either file
  uint64_t non_finite[2] = {0, 0};  // such values in each file
  std::optional<Place> first_non_finite;
  // Of the rows that are not left out:
  double difference_sum = 0, largest_difference = 0;
  Place largest_at;
  std::vector<double> row_differences;  // the largest of each row
  // And with rows that are distributions (the vocabulary is known):
  std::vector<double> divergences;
  uint64_t same_top = 0;

  uint64_t compared() const { return rows - left_out; }
};

uint64_t CountNonFinite(std::span<const float> row) {
  return static_cast<uint64_t>(
      std::count_if(row.begin(), row.end(), [](float value) { return !std::isfinite(value); }));
}

// Whether both rows are finite; notes what is not.
bool NoteNonFinite(std::span<const float> a, std::span<const float> b, uint64_t row,
                   Comparison* result) {
  const uint64_t in_a = CountNonFinite(a), in_b = CountNonFinite(b);
  if (in_a == 0 && in_b == 0) return true;
  result->non_finite[0] += in_a;
  result->non_finite[1] += in_b;
  if (!result->first_non_finite) {
    const size_t column =
        std::min(FirstNonFinite(a).value_or(a.size()), FirstNonFinite(b).value_or(b.size()));
    result->first_non_finite = Place{row, column};
  }
  ++result->left_out;
  return false;
}

void NoteDifferences(std::span<const float> a, std::span<const float> b, uint64_t row,
                     Comparison* result) {
  double largest = 0;  // of this row
  for (size_t i = 0; i < a.size(); ++i) {
    const double difference = std::abs(static_cast<double>(a[i]) - b[i]);
    result->difference_sum += difference;
    if (difference <= largest) continue;
    largest = difference;
    if (difference > result->largest_difference) {
      result->largest_difference = difference;
      result->largest_at = {row, i};
    }
  }
  if (a.size() > 1) result->row_differences.push_back(largest);
}

void CheckSizes(const InputFile& base, const InputFile& other, uint64_t row_bytes) {
  if (base.size() != other.size()) {
    other.Fail(std::to_string(other.size()) + " bytes, expected " + std::to_string(base.size()) +
               " as in " + base.path());
  }
  if (base.size() == 0) base.Fail("it is empty, expected rows of f32");
  if (base.size() % row_bytes != 0) {
    base.Fail(std::to_string(base.size()) + " bytes, expected a multiple of " +
              std::to_string(row_bytes) + ", a row of " + std::to_string(row_bytes / 4) + " f32");
  }
}

// Without a vocabulary (0) each value is a row of its own, and there are no distributions.
Comparison Compare(InputFile& base, InputFile& other, size_t vocabulary) {
  CheckSizes(base, other, sizeof(float) * std::max<uint64_t>(vocabulary, 1));
  Comparison result;
  result.row_values = vocabulary != 0 ? vocabulary : 1;
  result.rows = base.size() / sizeof(float) / result.row_values;
  std::vector<float> a(result.row_values), b(result.row_values);
  Progress progress("hob: comparing");
  for (uint64_t row = 0; row < result.rows; ++row) {
    if (Interrupted() != 0) throw Interrupt();
    base.Read(a.data(), a.size() * sizeof(float));
    other.Read(b.data(), b.size() * sizeof(float));
    if (std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0) ++result.equal_rows;
    if (!NoteNonFinite(a, b, row, &result)) continue;
    NoteDifferences(a, b, row, &result);
    if (vocabulary != 0) {
      const RowComparison compared = CompareRows(a, b);
      result.divergences.push_back(compared.divergence);
      if (compared.same_top) ++result.same_top;
    }
    progress.Show(static_cast<float>(row + 1) / static_cast<float>(result.rows));
  }
  std::sort(result.row_differences.begin(), result.row_differences.end());
  std::sort(result.divergences.begin(), result.divergences.end());
  return result;
}

// ---------------------------------------------------------------- what is printed

struct NamedShare {
  const char *text, *key;
  double share;
};
constexpr NamedShare kShares[] = {{"median", "median", 0.5},
                                  {"90 %", "p90", 0.9},
                                  {"99 %", "p99", 0.99},
                                  {"99.9 %", "p99_9", 0.999},
                                  {"maximum", "max", 1}};

Json Summary(std::span<const double> sorted, double mean) {
  if (sorted.empty()) return nullptr;
  Json summary = {{"mean", mean}};
  for (const NamedShare& share : kShares) summary[share.key] = Quantile(sorted, share.share);
  return summary;
}

double MeanDifference(const Comparison& result) {
  return result.difference_sum / static_cast<double>(result.compared() * result.row_values);
}

Json PlaceJson(const Place& place) { return {{"row", place.row}, {"column", place.column}}; }

std::string JsonText(const Comparison& result, bool distributions) {
  Json root = {{"rows", result.rows},
               {"row_values", result.row_values},
               {"equal_rows", result.equal_rows},
               {"rows_left_out", result.left_out},
               {"non_finite_a", result.non_finite[0]},
               {"non_finite_b", result.non_finite[1]}};
  root["first_non_finite"] =
      result.first_non_finite ? PlaceJson(*result.first_non_finite) : Json(nullptr);
  root["difference"] = nullptr;
  if (result.compared() != 0) {
    root["difference"] = {{"mean", MeanDifference(result)},
                          {"max", result.largest_difference},
                          {"max_at", PlaceJson(result.largest_at)}};
  }
  if (distributions) {
    const Estimate divergence = MeanOf(result.divergences);
    root["row_difference"] = Summary(result.row_differences, MeanOf(result.row_differences).mean);
    root["kl_divergence"] = Summary(result.divergences, divergence.mean);
    if (result.compared() != 0) root["kl_divergence"]["standard_error"] = divergence.error;
    root["same_top"] =
        result.compared() == 0
            ? Json(nullptr)
            : Json(static_cast<double>(result.same_top) / static_cast<double>(result.compared()));
  }
  return root.dump(2) + "\n";
}

std::string Line(const char* format, const char* name, double value) {
  char line[160];
  std::snprintf(line, sizeof(line), format, name, value);
  return line;
}

std::string PlainText(const Comparison& result, bool distributions) {
  const auto count = [](const char* name, uint64_t number) {
    char line[160];
    std::snprintf(line, sizeof(line), "%-24s %llu\n", name,
                  static_cast<unsigned long long>(number));
    return std::string(line);
  };
  std::string out = count(distributions ? "rows" : "values", result.rows);
  if (distributions) out += count("values in a row", result.row_values);
  out += count("equal, bit for bit", result.equal_rows);
  if (result.left_out != 0) {
    out += count("NaN or infinite in A", result.non_finite[0]);
    out += count("NaN or infinite in B", result.non_finite[1]);
    out += count("left out because of that", result.left_out);
  }
  if (result.compared() == 0) return out;
  constexpr const char* kLine = "%-24s %.6g\n";
  out += "\ndifference |A - B|\n";
  out += Line(kLine, "  mean", MeanDifference(result));
  out += Line(kLine, "  maximum", result.largest_difference);
  if (!distributions) return out;
  out += count("    in row", result.largest_at.row);
  out += count("    at", result.largest_at.column);
  out += "\n                         KL(A || B)     largest |A - B| of a row\n";
  const auto row = [&](const char* name, double divergence, double difference) {
    char line[160];
    std::snprintf(line, sizeof(line), "%-24s %-14.6g %.6g\n", name, divergence, difference);
    return std::string(line);
  };
  const Estimate divergence = MeanOf(result.divergences);
  out += row("  mean", divergence.mean, MeanOf(result.row_differences).mean);
  out += Line(kLine, "  standard error", divergence.error);
  for (const NamedShare& share : kShares) {
    out += row((std::string("  ") + share.text).c_str(), Quantile(result.divergences, share.share),
               Quantile(result.row_differences, share.share));
  }
  out += "\n" +
         Line("%-24s %.3f %%\n", "same top token",
              100 * static_cast<double>(result.same_top) / static_cast<double>(result.compared()));
  return out;
}

void CompareLogits(const CompareOptions& options) {
  InputFile base(options.base), other(options.other);
  const Comparison result = Compare(base, other, options.vocabulary);
  if (const auto& place = result.first_non_finite) {
    std::fprintf(stderr,
                 "hob: warning: NaN or infinite values, first in row %llu at %llu; such rows are "
                 "counted and left out\n",
                 static_cast<unsigned long long>(place->row),
                 static_cast<unsigned long long>(place->column));
  }
  const bool distributions = options.vocabulary != 0;
  Print(options.json ? JsonText(result, distributions) : PlainText(result, distributions));
}

}  // namespace

void AddCompareLogits(CLI::App& app, Action& action) {
  CLI::App* command =
      app.add_subcommand("compare-logits", "Compare two files that hob logits wrote");
  auto options = std::make_shared<CompareOptions>();
  command->add_option("a", options->base, "The reference: raw little-endian f32")
      ->type_name("A")
      ->required();
  command->add_option("b", options->other, "What is compared with it, of the same size")
      ->type_name("B")
      ->required();
  command
      ->add_option("--vocab", options->vocabulary,
                   "Values in a row, the model's tokens (see hob info); without it the files are "
                   "numbers and no distributions, and only differences are given")
      ->type_name("N")
      ->check(AtLeast(1));
  command->add_flag("--json", options->json, "As JSON");
  command->footer(
      "Prints the differences of the values and, for each row, the KL divergence of B's\n"
      "probabilities (softmax) from A's, in double precision: mean, standard error, percentiles;\n"
      "and how often both have the same top token. Rows with NaN or infinite values are counted\n"
      "and left out. The files may come from any program that writes such rows.\n"
      "\n"
      "Examples:\n"
      "  hob logits -m model-f16.gguf -f text.txt -o a.f32\n"
      "  hob logits -m model-q4_0.gguf -f text.txt -o b.f32\n"
      "  hob compare-logits a.f32 b.f32 --vocab 49152");
  command->callback([options, &action] { action = [options] { CompareLogits(*options); }; });
}

}  // namespace hob::cli
