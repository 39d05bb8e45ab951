// hob quantize: rewrites a model with its matrices in another format.
#include <cstdio>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/cli/common.h"

namespace hob::cli {
namespace {

struct QuantizeOptions {
  std::string in, out, format;
  size_t threads = 0;
};

void ReportTensor(void* progress, const char* name, const char* from, const char* to) {
  static_cast<Progress*>(progress)->Clear();
  std::fprintf(stderr, "hob: %-40s %s%s%s\n", name, from,
               std::string_view(from) == to ? "" : " -> ", std::string_view(from) == to ? "" : to);
}

void Quantize(const QuantizeOptions& options) {
  hob_format format;
  Check(hob_format_from_name(options.format.c_str(), &format));
  const Threads threads(options.threads);
  Progress progress("hob: quantizing");
  auto c_options = Zeroed<hob_quantize_options>();
  c_options.threads = threads.get();
  c_options.progress = Progress::Callback;
  c_options.progress_context = &progress;
  c_options.tensor = ReportTensor;
  c_options.tensor_context = &progress;
  Check(hob_quantize_file(options.in.c_str(), options.out.c_str(), format, &c_options));
}

std::vector<std::string> FormatNames() {
  std::vector<hob_format> formats(hob_formats(nullptr, 0));
  hob_formats(formats.data(), formats.size());
  std::vector<std::string> names;
  for (hob_format format : formats) {
    auto info = Zeroed<hob_format_info>();
    Check(hob_format_describe(format, &info));
    names.emplace_back(info.name);
  }
  return names;
}

}  // namespace

void AddQuantize(CLI::App& app, Action& action) {
  CLI::App* command = app.add_subcommand("quantize", "Rewrite a model in another weight format");
  auto options = std::make_shared<QuantizeOptions>();
  const std::vector<std::string> names = FormatNames();
  command->add_option("in", options->in, "Model to read, best in f32, f16 or bf16")
      ->type_name("IN.gguf")
      ->required();
  command->add_option("out", options->out, "Model to write")->type_name("OUT.gguf")->required();
  command->add_option("format", options->format, "Weight format: " + CLI::detail::join(names, " "))
      ->type_name("FORMAT")
      ->check(CLI::IsMember(names, CLI::ignore_case))
      ->required();
  AddThreadsOption(*command, &options->threads);
  command->footer(
      "Vectors, and matrices whose rows do not fit the format's blocks, stay as they are. The "
      "file\n"
      "is written under another name and renamed at the end.\n"
      "\n"
      "Example:\n"
      "  hob quantize model-f16.gguf model-q4_0.gguf q4_0");
  command->callback([options, &action] { action = [options] { Quantize(*options); }; });
}

}  // namespace hob::cli
