// hob vectors: conformance vectors, written and checked.
#include "runtime/verify/vectors.h"

#include <string>

#include "runtime/cli/common.h"
#include "runtime/cli/verify_report.h"

namespace hob::cli {
namespace {

struct VectorsCommand {
  std::string directory, target;
  bool json = false, verbose = false;
};

void Check(const VectorsCommand& command) {
  PrintReport(verify::CheckVectors(command.directory, ChosenKernels(command.target)), command.json,
              command.verbose);
}

CLI::App* AddCommand(CLI::App& app, const char* name, const char* what, VectorsCommand* options) {
  CLI::App* command = app.add_subcommand(name, what);
  command->add_option("directory", options->directory, "Directory of vectors")
      ->required()
      ->type_name("DIR");
  return command;
}

}  // namespace

void AddVectors(CLI::App& app, Action& action) {
  CLI::App* command =
      app.add_subcommand("vectors", "Write or check conformance vectors: inputs and right bits");
  command->require_subcommand(1);
  command->footer(
      "For other implementations of hob's definitions (docs/numerics.md) and other versions of\n"
      "hob. docs/vectors.md describes the files.\n"
      "\n"
      "Examples:\n"
      "  hob vectors export vectors\n"
      "  hob vectors check vectors");
  auto options = std::make_shared<VectorsCommand>();
  AddCommand(*command, "export", "Write inputs, expected bits and bounds", options.get())
      ->callback([options, &action] {
        action = [options] { verify::ExportVectors(options->directory); };
      });
  CLI::App* check =
      AddCommand(*command, "check", "Compute them and compare the bits", options.get());
  AddTargetOption(*check, &options->target);
  check->add_flag("--json", options->json, "As JSON, everything");
  check->add_flag("--verbose", options->verbose, "A row for every format");
  check->callback([options, &action] { action = [options] { Check(*options); }; });
}

}  // namespace hob::cli
