// What hob bench prints: aligned text for people, JSON with every sample for machines.
#ifndef HOB_RUNTIME_CLI_BENCH_REPORT_H_
#define HOB_RUNTIME_CLI_BENCH_REPORT_H_

#include <cstddef>
#include <string>

#include "runtime/cli/measure_model.h"

namespace hob::cli {

// What was measured where.
struct BenchSubject {
  std::string model;   // path; "" for the built-in one, or if it was made of a shape
  std::string shape;   // or ""
  std::string format;  // of the shape, or ""
  std::string cpu, target, compiler;
  size_t threads = 1;
};

std::string BenchText(const BenchSubject& subject, const ModelMeasured& measured);
std::string BenchJson(const BenchSubject& subject, const ModelMeasured& measured);

}  // namespace hob::cli

#endif  // HOB_RUNTIME_CLI_BENCH_REPORT_H_
