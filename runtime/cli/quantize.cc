// hob quantize: rewrites a model with its matrices in another format.
#include <cmath>
#include <cstdio>
#include <iomanip>
#include <sstream>
#include <string>

#include "runtime/cli/common.h"

namespace hob::cli {
namespace {

struct QuantizeOptions {
  std::string in, out, format;
  size_t threads = 0;
  bool report = false;
};

// What the callbacks of hob_quantize_file say: tensors to stderr at once, errors into a table.
class Log {
 public:
  static void Tensor(void* self, const hob_quantize_tensor* tensor) {
    static_cast<Log*>(self)->WriteTensor(*tensor);
  }
  static void Measured(void* self, const hob_quantize_tensor* tensor) {
    static_cast<Log*>(self)->AddRow(*tensor);
  }

  Progress& progress() { return progress_; }

  std::string Table() const {
    std::string table = Row("tensor", "format", "rel. RMS", "worst block", "rel. RMS") + rows_;
    const double total = error_ == 0 ? 0 : std::sqrt(error_ / source_);
    return table + Row("total", "", Number(total), "", "");
  }

 private:
  void WriteTensor(const hob_quantize_tensor& tensor) {
    progress_.Clear();
    std::string line = tensor.from;
    if (line != tensor.to) line += std::string(" -> ") + tensor.to;
    if (*tensor.note != '\0') line += std::string(" (") + tensor.note + ")";
    std::fprintf(stderr, "hob: %-40s %s\n", tensor.name, line.c_str());
  }

  void AddRow(const hob_quantize_tensor& tensor) {
    rows_ += Row(tensor.name, tensor.to, Number(tensor.relative_rms),
                 std::to_string(tensor.worst_block), Number(tensor.worst_relative_rms));
    source_ += tensor.squared_source;
    error_ += tensor.squared_error;
  }

  static std::string Number(double value) {
    char text[32];
    std::snprintf(text, sizeof(text), "%.6f", value);
    return text;
  }

  static std::string Row(const std::string& name, const std::string& format,
                         const std::string& error, const std::string& block,
                         const std::string& worst) {
    std::ostringstream line;
    line << std::left << std::setw(32) << name << "  " << std::setw(6) << format << std::right
         << std::setw(11) << error << std::setw(14) << block << std::setw(11) << worst;
    std::string text = line.str();
    text.erase(text.find_last_not_of(' ') + 1);
    return text + "\n";
  }

  Progress progress_{"hob: quantizing"};
  std::string rows_;
  double source_ = 0, error_ = 0;
};

void Quantize(const QuantizeOptions& options) {
  const Threads threads(options.threads);
  Log log;
  auto c_options = Zeroed<hob_quantize_options>();
  c_options.threads = threads.get();
  c_options.progress = Progress::Callback;
  c_options.progress_context = &log.progress();
  c_options.tensor = Log::Tensor;
  c_options.tensor_context = &log;
  if (options.report) c_options.measured = Log::Measured;
  Check(hob_quantize_file(options.in.c_str(), options.out.c_str(), options.format.c_str(),
                          &c_options));
  log.progress().Clear();
  if (options.report) Print(log.Table());
}

}  // namespace

void AddQuantize(CLI::App& app, Action& action) {
  CLI::App* command = app.add_subcommand("quantize", "Rewrite a model in another weight format");
  auto options = std::make_shared<QuantizeOptions>();
  command->add_option("in", options->in, "Model to read, best in f32, f16 or bf16")
      ->type_name("IN.gguf")
      ->required();
  command->add_option("out", options->out, "Model to write")->type_name("OUT.gguf")->required();
  AddFormatOption(*command, "format", &options->format)->required();
  command->add_flag("--report", options->report,
                    "Measure what encoding loses and print it for every tensor, as a table");
  AddThreadsOption(*command, &options->threads);
  command->footer(
      "A format is for every matrix; a mix gives the tensors that suffer most a larger format, by\n"
      "the rules that llama.cpp has for it. Vectors stay as they are. Where rows do not fit the\n"
      "blocks of a format a larger one takes its place, and the line of that tensor says so. The\n"
      "file is written under another name and renamed at the end.\n"
      "\n"
      "--report prints the relative RMS error of every tensor that was encoded, against the model\n"
      "that was read, and the same for its worst block.\n"
      "\n"
      "Examples:\n"
      "  hob quantize model-f16.gguf model-q4_0.gguf q4_0\n"
      "  hob quantize model-f16.gguf model-q4_k_m.gguf q4_k_m --report");
  command->callback([options, &action] { action = [options] { Quantize(*options); }; });
}

}  // namespace hob::cli
