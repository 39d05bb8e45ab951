// hob synth: writes a model of a real shape with random weights, to measure and test with.
#include "runtime/synth.h"

#include <cstdio>
#include <map>
#include <string>

#include "runtime/cli/common.h"
#include "runtime/gguf.h"

namespace hob::cli {
namespace {

struct SynthesizeOptions {
  std::string shape, format, out;
  uint64_t seed = 0;
  size_t threads = 0;
};

void Synth(const SynthesizeOptions& options) {
  const Threads threads(options.threads);
  {
    Progress progress("hob: writing");
    Synthesize(options.shape, options.format, options.out,
               {.seed = options.seed,
                .threads = threads.get(),
                .progress = Progress::Callback,
                .progress_context = &progress});
  }
  // What was written, with the formats that took the place of others.
  const Gguf file = Gguf::Open(options.out);
  uint64_t parameters = 0;
  std::map<std::string, size_t> formats;
  for (const GgufTensor& tensor : file.tensors()) {
    parameters += tensor.elements;
    ++formats[TensorTypeName(tensor.type)];
  }
  std::string text;
  for (const auto& [format, count] : formats) text += ", " + std::to_string(count) + " " + format;
  std::fprintf(stderr, "hob: %s: %llu parameters%s\n", options.out.c_str(),
               static_cast<unsigned long long>(parameters), text.c_str());
}

}  // namespace

void AddSynth(CLI::App& app, Action& action) {
  CLI::App* command =
      app.add_subcommand("synth", "Write a model of a real shape with random weights");
  auto options = std::make_shared<SynthesizeOptions>();
  const std::vector<std::string> shapes = SynthShapes();
  command
      ->add_option("--shape", options->shape,
                   "Whose dimensions to take: " + CLI::detail::join(shapes, " "))
      ->type_name("NAME")
      ->check(CLI::IsMember(shapes).description(""))
      ->required();
  AddFormatOption(*command, "--format", &options->format)->required();
  command->add_option("-o,--out", options->out, "Model to write")
      ->type_name("OUT.gguf")
      ->required();
  command->add_option("--seed", options->seed, "Another number, other weights (default: 0)")
      ->type_name("N")
      ->check(AtLeast(0));
  AddThreadsOption(*command, &options->threads);
  command->footer(
      "The file has all that the real model's has: dimensions, metadata, a vocabulary as large\n"
      "that covers every byte. It computes as much and says nothing. The same seed gives the same\n"
      "weights on every machine, and the same in every format but for what the format loses.\n"
      "\n"
      "Example:\n"
      "  hob synth --shape smollm2-135m --format q4_0 -o random.gguf");
  command->callback([options, &action] { action = [options] { Synth(*options); }; });
}

}  // namespace hob::cli
