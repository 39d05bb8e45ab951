#include "runtime/cli/verify_report.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "kernels/targets.h"

namespace hob::cli {
namespace {

using Json = nlohmann::ordered_json;
using verify::Line;
using verify::Report;

// ---------------------------------------------------------------- text

// A table whose columns are as wide as what is in them; the first two are flush left.
class Table {
 public:
  void Add(std::vector<std::string> row) { rows_.push_back(std::move(row)); }

  std::string Text() const {
    std::vector<size_t> widths;
    for (const auto& row : rows_) {
      widths.resize(std::max(widths.size(), row.size()));
      for (size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], row[i].size());
    }
    std::string text;
    for (const auto& row : rows_) {
      for (size_t i = 0; i < row.size(); ++i) {
        const std::string space(widths[i] - row[i].size(), ' ');
        const bool last = i + 1 == row.size();
        text += i < 2 ? row[i] + (last ? "" : space) : space + row[i];
        text += last ? "\n" : "  ";
      }
    }
    return text;
  }

 private:
  std::vector<std::vector<std::string>> rows_;
};

std::string Formatted(const char* format, double value) {
  char text[40];
  std::snprintf(text, sizeof(text), format, value);
  return text;
}

// The lines of one op as one: sums, and the worst.
Line Merged(const std::vector<const Line*>& lines) {
  Line merged = *lines.front();
  if (lines.size() == 1) return merged;
  merged.variant = std::to_string(lines.size()) + " variants";
  for (const Line* line : std::vector(lines.begin() + 1, lines.end())) {
    merged.outputs += line->outputs;
    merged.checked += line->checked;
    merged.beyond += line->beyond;
    if (line->worst.share > merged.worst.share) merged.worst = line->worst;
    for (size_t i = 0; i < line->targets.size(); ++i) {
      merged.targets[i].different += line->targets[i].different;
    }
  }
  return merged;
}

std::vector<std::string> Row(const Line& line, bool digest) {
  const bool checked = line.checked > 0;
  const verify::Worst& worst = line.worst;
  std::vector<std::string> row = {line.op,
                                  line.variant,
                                  std::to_string(line.outputs),
                                  checked ? Formatted("%.2g", worst.bound) : "-",
                                  checked ? Formatted("%.2g", worst.error) : "-",
                                  checked ? Formatted("%.3g", worst.ulp) : "-",
                                  checked ? Formatted("%.0f %%", 100 * worst.share) : "-",
                                  checked ? std::to_string(line.beyond) : "-"};
  for (const auto& target : line.targets) {
    row.push_back(target.different == 0 ? "same" : std::to_string(target.different) + " differ");
  }
  if (digest) row.push_back(line.digest.substr(0, 16));
  return row;
}

std::string Text(const Report& report, bool verbose) {
  Table table;
  std::vector<std::string> head = {"op",    "variant", "outputs",  "bound",
                                   "error", "ulp",     "of bound", "beyond"};
  for (const auto& target : report.lines.front().targets) head.push_back(target.target);
  if (verbose) head.push_back("digest");
  table.Add(head);
  std::string problems;
  for (size_t i = 0; i < report.lines.size();) {
    std::vector<const Line*> lines;
    const std::string& op = report.lines[i].op;
    for (; i < report.lines.size() && report.lines[i].op == op; ++i) {
      const Line& line = report.lines[i];
      lines.push_back(&line);
      if (verbose) table.Add(Row(line, true));
      for (const verify::Difference& d : line.differences) {
        problems += "different: " + op + " " + line.variant + " on " + d.target + ", " + d.test +
                    ", " + d.output + ": " + d.got + ", expected " + d.want + "\n";
      }
      if (line.beyond > 0) {
        problems += "beyond its bound: " + op + " " + line.variant + ", " +
                    std::to_string(line.beyond) + " outputs; worst in " + line.worst.test + "\n";
      }
    }
    if (!verbose) table.Add(Row(Merged(lines), false));
  }
  return table.Text() + "\n" + problems + "digest  " + report.digest + "\n";
}

// ---------------------------------------------------------------- JSON

// JSON has no infinity.
Json Finite(double value) { return std::isfinite(value) ? Json(value) : Json(nullptr); }

std::string JsonText(const Report& report) {
  Json root = {{"version", hob_version()}, {"ok", report.ok}, {"digest", report.digest}};
  root["lines"] = Json::array();
  for (const Line& line : report.lines) {
    Json item = {{"op", line.op},           {"variant", line.variant},
                 {"cases", line.cases},     {"outputs", line.outputs},
                 {"checked", line.checked}, {"beyond_bound", line.beyond}};
    if (line.checked > 0) {
      item["worst"] = {{"bound", line.worst.bound},
                       {"error", line.worst.error},
                       {"ulp", line.worst.ulp},
                       {"share_of_bound", Finite(line.worst.share)},
                       {"test", line.worst.test}};
    }
    item["digest"] = line.digest;
    for (const auto& target : line.targets) {
      item["targets"][target.target] = {{"different", target.different}, {"digest", target.digest}};
    }
    for (const verify::Difference& d : line.differences) {
      item["differences"].push_back({{"target", d.target},
                                     {"test", d.test},
                                     {"output", d.output},
                                     {"got", d.got},
                                     {"expected", d.want}});
    }
    root["lines"].push_back(std::move(item));
  }
  return root.dump(2) + "\n";
}

}  // namespace

std::vector<verify::Kernels> ChosenKernels(const std::string& name) {
  std::vector<verify::Kernels> kernels;
  for (const Target target : SupportedTargets()) {
    if (name.empty() || name == TargetName(target)) kernels.push_back(verify::KernelsOf(target));
  }
  return kernels;
}

// A validator for one of some names.
CLI::Validator OneOf(const std::vector<std::string>& names) {
  std::string list;
  for (const std::string& name : names) list += (list.empty() ? "" : ", ") + name;
  return CLI::Validator(
      [names, list](std::string& name) {
        return std::find(names.begin(), names.end(), name) != names.end()
                   ? std::string()
                   : "there is no \"" + name + "\"; expected one of " + list;
      },
      "");
}

void AddTargetOption(CLI::App& command, std::string* target) {
  std::vector<std::string> targets;
  for (const Target supported : SupportedTargets()) targets.push_back(TargetName(supported));
  command.add_option("--target", *target, "Only this instruction set")
      ->type_name("TARGET")
      ->check(OneOf(targets));
}

void PrintReport(const Report& report, bool json, bool verbose) {
  Print(json ? JsonText(report) : Text(report, verbose));
  if (!report.ok) throw std::runtime_error("results are not what they must be; see above");
}

}  // namespace hob::cli
