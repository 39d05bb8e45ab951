// hob bench: how fast a model is on this machine, and how near that is to what the machine can do.
// measure_model.h measures, bench_report.h prints.
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <optional>
#include <string>
#include <system_error>

#include "measure/machine.h"
#include "runtime/cli/bench_report.h"
#include "runtime/cli/common.h"
#include "runtime/cli/measure_model.h"
#include "runtime/synth.h"

namespace hob::cli {
namespace {

struct BenchOptions {
  std::string model, shape, format = "q4_0", cache_type = "auto", output = "text";
  MeasurePlan plan;
  size_t threads = 0;
};

// A directory that goes away with all that is in it.
class TemporaryDirectory {
 public:
  TemporaryDirectory() {
    std::string path = std::filesystem::temp_directory_path() / "hob-bench-XXXXXX";
    if (mkdtemp(path.data()) == nullptr) {
      throw std::runtime_error("cannot create " + path + ": " + std::strerror(errno));
    }
    path_ = path;
  }
  ~TemporaryDirectory() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  TemporaryDirectory(const TemporaryDirectory&) = delete;
  TemporaryDirectory& operator=(const TemporaryDirectory&) = delete;

  std::string File(const std::string& name) const { return path_ / name; }

 private:
  std::filesystem::path path_;
};

// Writes the shape's model and gives its path.
std::string WriteModel(const BenchOptions& options, const TemporaryDirectory& directory,
                       const Threads& threads) {
  const std::string path = directory.File(options.shape + "-" + options.format + ".gguf");
  std::fprintf(stderr, "hob: writing %s, which will be removed again\n", path.c_str());
  Progress progress("hob: writing");
  Synthesize(
      options.shape, options.format, path,
      {.threads = threads.get(), .progress = Progress::Callback, .progress_context = &progress});
  return path;
}

void Bench(const BenchOptions& options) {
  const Threads threads(options.threads);
  MeasurePlan plan = options.plan;
  plan.threads = threads.get();
  plan.path = options.model;
  plan.cache_type = CacheTypeOf(options.cache_type);
  plan.cancelled = [] { return Interrupted() != 0; };

  std::optional<TemporaryDirectory> directory;
  if (!options.shape.empty()) {
    directory.emplace();
    plan.path = WriteModel(options, *directory, threads);
    plan.loaded = [&directory] { directory.reset(); };
  }
  Progress progress("hob: measuring");
  plan.progress = [&progress](float done) { progress.Show(done); };
  ModelMeasured measured;
  try {
    measured = MeasureModel(plan);
  } catch (const BadPlan& error) {
    throw UsageError(error.what());
  }
  progress.Clear();
  const BenchSubject subject = {.model = options.model,
                                .shape = options.shape,
                                .format = options.shape.empty() ? "" : options.format,
                                .cpu = measure::CpuName(),
                                .target = hob_target(),
                                .compiler = Compiler(),
                                .threads = threads.count()};
  Print(options.output == "json" ? BenchJson(subject, measured) : BenchText(subject, measured));
}

void AddModelOptions(CLI::App& command, BenchOptions* options) {
  AddModelOption(command, &options->model);
  const std::vector<std::string> shapes = SynthShapes();
  CLI::Option* shape = command.add_option(
      "--shape", options->shape,
      "In place of a model, one of these dimensions with random weights, as hob synth writes it: " +
          CLI::detail::join(shapes, " "));
  shape->type_name("NAME")
      ->check(CLI::IsMember(shapes).description(""))
      ->excludes(command.get_option("--model"));
  AddFormatOption(command, "--format", &options->format)
      ->needs(shape)
      ->description("The shape's weight format or mix, as for hob synth (default: q4_0)");
}

void AddCount(CLI::App& command, const std::string& name, size_t* count, const std::string& help) {
  command.add_option(name, *count, help)->type_name("N")->check(AtLeast(1));
}

}  // namespace

void AddBench(CLI::App& app, Action& action) {
  CLI::App* command = app.add_subcommand("bench", "Measure how fast a model is on this machine");
  auto options = std::make_shared<BenchOptions>();
  MeasurePlan& plan = options->plan;
  AddModelOptions(*command, options.get());
  command
      ->add_option("-p,--prompt-tokens", plan.prompt,
                   "Tokens of the prompt (default: 512, or as many as the model can take)")
      ->type_name("N")
      ->check(AtLeast(1));
  command
      ->add_option("-n,--predict", plan.generate,
                   "Tokens to generate after a short prompt (default: 128, or as many as fit)")
      ->type_name("N")
      ->check(AtLeast(1));
  AddCount(*command, "--context", &plan.depth,
           "Generate once more with so many tokens in the cache");
  AddCount(*command, "-r,--runs", &plan.runs, "Runs of each, after one to warm up (default: 5)");
  command->add_flag("--profile", plan.profile,
                    "Show where the time goes, by kind of operation, in as many more runs");
  AddThreadsOption(*command, &options->threads);
  AddCacheTypeOption(*command, &options->cache_type);
  command->add_option("-o,--output", options->output, "text (default) or json, which has it all")
      ->type_name("FORM")
      ->check(CLI::IsMember({"text", "json"}).description(""));
  command->footer(
      "What the machine can do is measured before and after every run: for prompts arithmetic in\n"
      "registers, for generation reads from the cache or the memory that the weights fit in. A\n"
      "share is the least time by that, divided by the time that was needed; docs/measuring.md\n"
      "has the formulas. Loading is from files that the system has in its cache.\n"
      "\n"
      "Examples:\n"
      "  hob bench -m model.gguf\n"
      "  hob bench --shape smollm2-135m --format q4_k_m --context 4096 --profile\n"
      "  hob bench -m model.gguf -o json | jq .generation.tokens_per_second.median");
  command->callback([options, &action] { action = [options] { Bench(*options); }; });
}

}  // namespace hob::cli
