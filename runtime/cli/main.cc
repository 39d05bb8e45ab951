// The program `hob`. Each command is a file of its own beside this one; common.h says how they
// work.
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <stdexcept>
#include <string>

#include "kernels/targets.h"
#include "runtime/cli/common.h"

namespace hob::cli {
namespace {

std::string Version() {
  return std::string("hob ") + hob_version() + "\ncompiled by " + Compiler() +
         "\nfor the instruction sets " + KnownTargetNames();
}

// HOB_TARGET is read by the library, which has no call that could fail because of it.
void CheckTarget() {
  if (hob_target() != nullptr) return;
  throw std::runtime_error("HOB_TARGET is \"" + std::string(std::getenv("HOB_TARGET")) +
                           "\"; expected one of " + KnownTargetNames());
}

int Fail(const std::string& message, int exit_code) {
  std::fprintf(stderr, "hob: error: %s\n", message.c_str());
  return exit_code;
}

int Main(int argc, char** argv) {
  CLI::App app(
      "Runs small language models on this machine: private, offline, the same bits on "
      "every CPU.",
      "hob");
  app.set_help_flag("-h,--help", "Explain the program, or a command: hob run --help");
  app.set_version_flag("--version", Version, "Show version, compiler and instruction sets");
  app.require_subcommand(1);
  app.footer(
      "Examples:\n"
      "  hob run -p \"turn off the kitchen lights\"     the built-in model: a request in, JSON "
      "out\n"
      "  hob run -m model.gguf -p \"Once upon a time\"  a Llama or Qwen model in GGUF\n"
      "  hob info model.gguf                          what is in a model file\n"
      "  hob quantize model.gguf small.gguf q4_0      make it smaller and faster\n"
      "  hob bench -m model.gguf                      how fast it is on this machine\n"
      "  hob perplexity -m small.gguf -f text.txt     see what that cost\n"
      "\n"
      "Data goes to stdout, progress and messages to stderr.\n"
      "Exit codes: 0 success, 1 failure, 2 wrong usage, 130 interrupted.\n"
      "Environment: HOB_TARGET caps the instruction set (see hob targets),\n"
      "             HOB_NUM_THREADS sets the number of threads.");
  Action action;
  AddRun(app, action);
  AddLogits(app, action);
  AddTokenize(app, action);
  AddInfo(app, action);
  AddTargets(app, action);
  AddQuantize(app, action);
  AddSynth(app, action);
  AddVerify(app, action);
  AddVectors(app, action);
  AddBench(app, action);
  AddCompareLogits(app, action);
  AddPerplexity(app, action);

  std::string command;  // for messages
  try {
    app.parse(argc, argv);
    command = app.get_subcommands().front()->get_name();
    CatchSignals();
    CheckTarget();
    action();
    return kExitOk;
  } catch (const CLI::Success& wish) {  // --help, --version
    return app.exit(wish);
  } catch (const CLI::ParseError& error) {
    if (!app.get_subcommands().empty()) command = app.get_subcommands().front()->get_name();
    const std::string help = "hob " + command + (command.empty() ? "" : " ") + "--help";
    return Fail(std::string(error.what()) + " (see " + help + ")", kExitUsage);
  } catch (const UsageError& error) {
    return Fail(std::string(error.what()) + " (see hob " + command + " --help)", kExitUsage);
  } catch (const std::exception& error) {
    return Interrupted() != 0 ? kExitSignal + Interrupted() : Fail(error.what(), kExitFailure);
  }
}

}  // namespace
}  // namespace hob::cli

int main(int argc, char** argv) { return hob::cli::Main(argc, argv); }
