// hob verify: the same bits on every instruction set of this CPU, and how near to the exact
// results.
#include "runtime/verify/verify.h"

#include <string>
#include <vector>

#include "kernels/targets.h"
#include "runtime/cli/common.h"
#include "runtime/cli/verify_report.h"

namespace hob::cli {
namespace {

struct VerifyCommand {
  std::string op, format, target;
  bool json = false, verbose = false;
};

void Verify(const VerifyCommand& command) {
  const verify::Op* op = verify::FindOp(command.op);
  if (op != nullptr && !op->has_formats && !command.format.empty()) {
    throw UsageError("--op " + command.op + " has no weights, so there is no --format for it");
  }
  verify::VerifyOptions options = {command.op, command.format, {}};
  Progress progress("verifying");
  options.progress = [&](float done) {
    progress.Show(done);
    if (Interrupted()) throw Interrupt();
  };
  const verify::Report report = verify::Verify(options, ChosenKernels(command.target));
  progress.Clear();
  PrintReport(report, command.json, command.verbose);
}

}  // namespace

void AddVerify(CLI::App& app, Action& action) {
  CLI::App* command =
      app.add_subcommand("verify", "Check that every kernel here gives the right bits");
  auto options = std::make_shared<VerifyCommand>();
  std::vector<std::string> ops, formats;
  for (const verify::Op& op : verify::Ops()) ops.push_back(op.name);
  for (const Format* format : Formats()) formats.push_back(format->name);
  command->add_option("--op", options->op, "Only this op")->type_name("OP")->check(OneOf(ops));
  command->add_option("--format", options->format, "Only ops on weights of this format")
      ->type_name("FORMAT")
      ->check(OneOf(formats));
  AddTargetOption(*command, &options->target);
  command->add_flag("--json", options->json, "As JSON, everything");
  command->add_flag("--verbose", options->verbose, "A row for every format, with its digest");
  command->footer(
      "Computes every op, format and awkward kind of input on every instruction set of this CPU\n"
      "and compares: with the scalar reference, bit for bit, and the reference with a computation\n"
      "in double precision, whose error must stay within a derived bound (docs/numerics.md). The\n"
      "digest of the results is the same on every machine. Any difference makes the exit code 1.\n"
      "\n"
      "Examples:\n"
      "  hob verify\n"
      "  hob verify --op matmul --format q4_k --verbose\n"
      "  hob verify --json | jq .digest");
  command->callback([options, &action] { action = [options] { Verify(*options); }; });
}

}  // namespace hob::cli
