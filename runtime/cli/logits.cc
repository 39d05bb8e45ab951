// hob logits: what a model says after each token, as raw numbers, for comparing with other
// programs.
#include <algorithm>
#include <charconv>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/cli/common.h"

namespace hob::cli {
namespace {

struct LogitsOptions {
  std::string model, tokens, tokens_file, out;
  TextOptions text;
  EvalOptions eval;
};

// Numbers separated by commas or white space.
std::vector<int32_t> ParseTokens(std::string_view text) {
  constexpr std::string_view kSeparators = ", \t\r\n";
  std::vector<int32_t> tokens;
  while (true) {
    text.remove_prefix(std::min(text.find_first_not_of(kSeparators), text.size()));
    if (text.empty()) return tokens;
    const std::string_view item = text.substr(0, text.find_first_of(kSeparators));
    int32_t token = 0;
    const auto [end, problem] = std::from_chars(item.data(), item.data() + item.size(), token);
    if (problem != std::errc() || end != item.data() + item.size() || token < 0) {
      throw UsageError("\"" + std::string(item) + "\" is no token id");
    }
    tokens.push_back(token);
    text.remove_prefix(item.size());
  }
}

std::vector<int32_t> ReadTokens(const LogitsOptions& options, const Model& model) {
  if (!options.tokens.empty()) return ParseTokens(options.tokens);
  if (!options.tokens_file.empty()) return ParseTokens(ReadFile(options.tokens_file));
  if (const std::optional<std::string> text = ReadText(options.text)) {
    return model.Tokenize(*text);
  }
  throw UsageError("no tokens: give --tokens, --tokens-file, -p or -f, or pipe a text to stdin");
}

void Logits(LogitsOptions options) {
  const Threads threads(options.eval.threads);
  const Model model = LoadModel(options.model, threads);
  const std::vector<int32_t> tokens = ReadTokens(options, model);
  if (tokens.empty()) throw UsageError("no tokens");
  if (options.eval.context == 0) options.eval.context = tokens.size();
  Session session = MakeSession(model, options.eval, threads);

  const size_t vocabulary = model.Describe().vocabulary;
  const size_t slice = RowsAtATime(options.eval.batch, vocabulary);
  std::vector<float> logits(std::min(slice, tokens.size()) * vocabulary);
  OutputFile out(options.out);
  Progress progress("hob: evaluating");
  for (size_t begin = 0; begin < tokens.size(); begin += slice) {
    const auto part = std::span(tokens).subspan(begin, std::min(slice, tokens.size() - begin));
    session.Eval(part, logits.data());
    out.Write(logits.data(), part.size() * vocabulary * sizeof(float));
    progress.Show(static_cast<float>(begin + part.size()) / static_cast<float>(tokens.size()));
  }
  out.Close();
}

}  // namespace

void AddLogits(CLI::App& app, Action& action) {
  CLI::App* command = app.add_subcommand("logits", "Write the logits after each token to a file");
  auto options = std::make_shared<LogitsOptions>();
  AddModelOption(*command, &options->model);
  CLI::Option* tokens = command->add_option("--tokens", options->tokens, "Token ids: 1,15043,3186");
  tokens->type_name("IDS");
  CLI::Option* file = command->add_option("--tokens-file", options->tokens_file,
                                          "File of token ids, separated by white space or commas");
  file->type_name("FILE")->excludes(tokens);
  AddTextOptions(*command, &options->text);
  for (const char* name : {"--prompt", "--file"}) {
    command->get_option(name)->excludes(tokens)->excludes(file);
  }
  AddEvalOptions(*command, &options->eval);
  command->add_option("-o,--out", options->out, "File to write")->type_name("FILE")->required();
  command->footer(
      "Writes raw little-endian f32: for each token one row of as many values as the model has\n"
      "tokens. The bytes depend on nothing but model, tokens and --cache-type: not on the CPU, "
      "the\n"
      "threads or the batch.\n"
      "\n"
      "Examples:\n"
      "  hob logits -m model.gguf --tokens 1,15043,3186 -o logits.f32\n"
      "  hob logits -m model.gguf -p \"Hello world\" -o logits.f32\n"
      "  python3 -c 'import numpy; print(numpy.fromfile(\"logits.f32\", \"<f4\"))'");
  command->callback([options, &action] { action = [options] { Logits(*options); }; });
}

}  // namespace hob::cli
