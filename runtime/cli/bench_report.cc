// See bench_report.h. First numbers and tables, then the text, then the JSON.
#include "runtime/cli/bench_report.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <string_view>
#include <utility>
#include <vector>

#include "hob/hob.h"
#include "measure/machine.h"

namespace hob::cli {
namespace {

using Json = nlohmann::ordered_json;

// ---------------------------------------------------------------- numbers

// Three significant digits, but never fewer than those before the point: 0.118, 12.3, 1234.
std::string Digits(double value) {
  const int before = value > 0 ? static_cast<int>(std::floor(std::log10(value))) + 1 : 1;
  char text[32];
  std::snprintf(text, sizeof(text), "%.*f", std::clamp(3 - before, 0, 6), value);
  return text;
}

// With a unit of thousands in front of `unit`: 1.98 T, 42.1 G.
std::string Scaled(double value, std::string_view unit) {
  constexpr std::string_view kPrefixes[] = {"", "k", "M", "G", "T", "P"};
  size_t prefix = 0;
  for (; value >= 999.5 && prefix + 1 < std::size(kPrefixes); ++prefix) value /= 1000;
  return Digits(value) + " " + std::string(kPrefixes[prefix]) + std::string(unit);
}

std::string Percent(double share) {
  char text[32];
  std::snprintf(text, sizeof(text), "%.1f %%", 100 * share);
  return text;
}

std::string RangeOf(const Samples& samples) {
  return Digits(samples.Min()) + " .. " + Digits(samples.Max());
}

// ---------------------------------------------------------------- tables

using Row = std::vector<std::string>;

// Columns as wide as need be; the first and, if `last_is_text`, the last to the left, the others to
// the right.
std::string Table(const std::vector<Row>& rows, bool last_is_text) {
  std::vector<size_t> widths(rows.front().size());
  for (const Row& row : rows) {
    for (size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], row[i].size());
  }
  std::string text;
  for (const Row& row : rows) {
    std::string line;
    for (size_t i = 0; i < row.size(); ++i) {
      const std::string space(widths[i] - row[i].size(), ' ');
      const bool left = i == 0 || (last_is_text && i + 1 == row.size());
      line += (i == 0 ? "" : "   ") + (left ? row[i] + space : space + row[i]);
    }
    line.erase(line.find_last_not_of(' ') + 1);
    text += line + "\n";
  }
  return text;
}

// ---------------------------------------------------------------- text

std::string Plural(size_t count, const std::string& what) {
  return std::to_string(count) + " " + what + (count == 1 ? "" : "s");
}

std::string Formats(const ModelMeasured& measured) {
  std::string text;
  for (const auto& [name, count] : measured.formats) {
    text += (text.empty() ? "" : ", ") + std::to_string(count) + " " + name;
  }
  return text;
}

std::string LimitText(const Speed& speed) {
  if (speed.share.values.empty()) return "";
  constexpr std::pair<std::string_view, std::string_view> kWords[] = {
      {"int8_dot", "op/s int8 dots"},   {"bf16_dot", "op/s bf16 dots"},
      {"f32_fma", "op/s f32 FMAs"},     {"mixed", "op/s, mixed"},
      {"l1", "B/s from the L1 caches"}, {"l2", "B/s from the L2 caches"},
      {"l3", "B/s from the L3 cache"},  {"memory", "B/s from memory"}};
  for (const auto& [name, words] : kWords) {
    if (name != speed.limit) continue;
    return Percent(speed.share.Median()) + " of " + Scaled(speed.limit_rate.Median(), words);
  }
  return "";
}

Row SpeedRow(const std::string& label, const Speed& speed) {
  return {label, Digits(speed.tokens_per_second.Median()) + " tok/s",
          RangeOf(speed.tokens_per_second), LimitText(speed)};
}

std::string GenerationLabel(const Speed& speed) {
  return "generation, " + Plural(speed.tokens, "token") + " after " + std::to_string(speed.before);
}

std::string SpeedTable(const ModelMeasured& measured) {
  const Samples& load = measured.load_seconds;
  Samples milliseconds;
  for (const double seconds : load.values) milliseconds.values.push_back(1e3 * seconds);
  std::vector<Row> rows = {
      {"", "median", "range", "share of what the machine can do"},
      {"load", Digits(milliseconds.Median()) + " ms   ", RangeOf(milliseconds), ""},
      SpeedRow("prompt, " + Plural(measured.prompt.tokens, "token"), measured.prompt),
      SpeedRow(GenerationLabel(measured.generation), measured.generation)};
  if (measured.deep_generation) {
    rows.push_back(SpeedRow(GenerationLabel(*measured.deep_generation), *measured.deep_generation));
  }
  if (measured.peak_memory_bytes != 0) {
    rows.push_back({"peak memory",
                    Digits(static_cast<double>(measured.peak_memory_bytes) * 1e-6) + " MB   ", "",
                    ""});
  }
  return Table(rows, true);
}

struct TimeColumn {
  std::string label;
  const TimeSpent* spent;
};

std::vector<TimeColumn> TimeColumns(const ModelMeasured& measured) {
  std::vector<TimeColumn> columns;
  const auto add = [&](const std::string& label, const std::optional<TimeSpent>& spent) {
    if (spent) columns.push_back({label, &*spent});
  };
  add("prompt", measured.prompt_time);
  add("generation", measured.generation_time);
  if (measured.deep_generation) {
    add("after " + std::to_string(measured.deep_generation->before), measured.deep_generation_time);
  }
  return columns;
}

// By op, the most of the last column first.
std::string TimeTable(const ModelMeasured& measured) {
  const std::vector<TimeColumn> columns = TimeColumns(measured);
  std::vector<std::string> kinds;
  for (const auto& [kind, seconds] : columns.front().spent->kinds) kinds.push_back(kind);
  const auto most = [&](const std::string& kind) {
    double share = 0;
    for (const TimeColumn& column : columns) {
      share = std::max(share, column.spent->kinds.at(kind) / column.spent->whole);
    }
    return share;
  };
  std::sort(kinds.begin(), kinds.end(), [&](const std::string& a, const std::string& b) {
    return std::pair(most(b), a) < std::pair(most(a), b);
  });

  std::vector<Row> rows = {{"time of all threads"}};
  for (const TimeColumn& column : columns) rows[0].push_back(column.label);
  const auto add = [&](const std::string& label, auto seconds_of) {
    Row row = {label};
    for (const TimeColumn& column : columns) {
      row.push_back(Percent(seconds_of(*column.spent) / column.spent->whole));
    }
    rows.push_back(std::move(row));
  };
  for (const std::string& kind : kinds) {
    add(kind, [&](const TimeSpent& spent) { return spent.kinds.at(kind); });
  }
  add("sampling", [](const TimeSpent& spent) { return spent.sampling; });
  add("waiting", [](const TimeSpent& spent) { return spent.Waiting(); });
  return Table(rows, false);
}

// ---------------------------------------------------------------- JSON

Json ToJson(const Samples& samples) {
  if (samples.values.empty()) return nullptr;
  return {{"median", samples.Median()},
          {"min", samples.Min()},
          {"max", samples.Max()},
          {"samples", samples.values}};
}

bool IsReads(const Speed& speed) { return speed.limit == "memory" || speed.limit.starts_with("l"); }

Json ToJson(const Speed& speed) {
  return {{"tokens", speed.tokens},
          {"tokens_before", speed.before},
          {"tokens_per_second", ToJson(speed.tokens_per_second)},
          {"seconds", ToJson(speed.seconds)},
          {"matmul_operations", speed.work.all_ops()},
          {"weight_bytes", speed.work.weight_bytes},
          {"cache_bytes", speed.work.cache_bytes},
          {"share", ToJson(speed.share)},
          {"limit",
           {{"name", speed.limit},
            {"unit", IsReads(speed) ? "bytes/s" : "operations/s"},
            {"rate", ToJson(speed.limit_rate)}}}};
}

Json Shares(const std::map<std::string, double>& seconds, double whole) {
  Json shares = Json::object();
  for (const auto& [name, time] : seconds) shares[name] = time / whole;
  return shares;
}

Json ToJson(const TimeSpent& spent) {
  Json ops = Shares(spent.kinds, spent.whole);
  ops["sampling"] = spent.sampling / spent.whole;
  ops["waiting"] = spent.Waiting() / spent.whole;
  return {{"seconds", spent.whole},
          {"ops", std::move(ops)},
          {"matmuls", Shares(spent.matmuls, spent.whole)}};
}

Json MachineJson(const BenchSubject& subject) {
  return {{"cpu", subject.cpu},
          {"l1_bytes", measure::CacheBytes(1)},
          {"l2_bytes", measure::CacheBytes(2)},
          {"l3_bytes", measure::CacheBytes(3)},
          {"target", subject.target},
          {"threads", subject.threads}};
}

Json ModelJson(const BenchSubject& subject, const ModelMeasured& measured) {
  const auto or_null = [](const std::string& text) { return text.empty() ? Json() : Json(text); };
  return {{"name", measured.name},
          {"architecture", measured.architecture},
          {"file", or_null(subject.model)},
          {"shape", or_null(subject.shape)},
          {"format", or_null(subject.format)},
          {"matrices", measured.formats},
          {"parameters", measured.parameters},
          {"weights_per_token", measured.weights_per_token},
          {"packed_bytes", measured.weight_bytes},
          {"cache_type", measured.cache_type},
          {"context", measured.context},
          {"batch", measured.batch}};
}

}  // namespace

std::string BenchText(const BenchSubject& subject, const ModelMeasured& measured) {
  std::string text;
  text += "model    " + measured.name + ", " +
          Scaled(static_cast<double>(measured.parameters), "weights in ") +
          Scaled(static_cast<double>(measured.weight_bytes), "B") +
          " (matrices: " + Formats(measured) + "), " + measured.cache_type + " cache\n";
  text += "machine  " + (subject.cpu.empty() ? "unknown CPU" : subject.cpu) + ", " +
          subject.target + ", " + Plural(subject.threads, "thread") + "\n";
  text += std::string("program  hob ") + hob_version() + ", " + subject.compiler + "\n\n";
  text += SpeedTable(measured);
  if (measured.prompt_time) text += "\n" + TimeTable(measured);
  return text;
}

std::string BenchJson(const BenchSubject& subject, const ModelMeasured& measured) {
  Json root = {{"versions", {{"hob", hob_version()}, {"compiler", subject.compiler}}},
               {"machine", MachineJson(subject)},
               {"model", ModelJson(subject, measured)},
               {"load", {{"seconds", ToJson(measured.load_seconds)}}},
               {"prompt", ToJson(measured.prompt)},
               {"generation", ToJson(measured.generation)}};
  if (measured.deep_generation) root["deep_generation"] = ToJson(*measured.deep_generation);
  root["peak_memory_bytes"] =
      measured.peak_memory_bytes != 0 ? Json(measured.peak_memory_bytes) : Json();
  if (measured.prompt_time) {
    Json& profile = root["profile"];
    profile["prompt"] = ToJson(*measured.prompt_time);
    profile["generation"] = ToJson(*measured.generation_time);
    if (measured.deep_generation_time) {
      profile["deep_generation"] = ToJson(*measured.deep_generation_time);
    }
  }
  // Text that is not UTF-8 must not end the program.
  return root.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

}  // namespace hob::cli
