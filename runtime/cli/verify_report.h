// What `hob verify` and `hob vectors check` share: the choice of targets and the report.
#ifndef HOB_RUNTIME_CLI_VERIFY_REPORT_H_
#define HOB_RUNTIME_CLI_VERIFY_REPORT_H_

#include <string>
#include <vector>

#include "runtime/cli/common.h"
#include "runtime/verify/verify.h"

namespace hob::cli {

// --target, one of this CPU's.
void AddTargetOption(CLI::App& command, std::string* target);
// That one, or all if it is "".
std::vector<verify::Kernels> ChosenKernels(const std::string& target);

// A validator for one of some names.
CLI::Validator OneOf(const std::vector<std::string>& names);

// Prints the report, then throws if something in it is not as it must be.
void PrintReport(const verify::Report& report, bool json, bool verbose);

}  // namespace hob::cli

#endif  // HOB_RUNTIME_CLI_VERIFY_REPORT_H_
