// hob run: continues a text.
#include <cstdio>
#include <filesystem>
#include <random>
#include <string>
#include <utility>

#include "runtime/cli/common.h"

namespace hob::cli {
namespace {

struct RunOptions {
  std::string model;
  TextOptions prompt;
  EvalOptions eval;
  size_t limit = 256;
  std::optional<float> temperature;
  std::optional<uint64_t> seed;
  hob_sampler_options sampler = Zeroed<hob_sampler_options>();
  std::string prompt_cache;
  bool raw = false, quiet = false;
};

// The prompt's text. One newline at the end, which editors and echo add, does not belong to it.
std::string ReadPrompt(const TextOptions& options) {
  std::optional<std::string> text = ReadText(options);
  if (!text) throw UsageError("no prompt: give -p TEXT or -f FILE, or pipe it to stdin");
  if (!options.text && text->ends_with('\n')) text->pop_back();
  return *std::move(text);
}

hob_sampler_options ChooseSampler(const RunOptions& options) {
  hob_sampler_options sampler = options.sampler;
  // The built-in model answers with commands, which leave no room for variety.
  sampler.temperature = options.temperature.value_or(options.model.empty() ? 0.0f : 0.8f);
  sampler.seed = options.seed ? *options.seed : std::random_device()();
  return sampler;
}

struct Generated {
  size_t reused = 0;  // tokens of the prompt
  size_t tokens = 0;
  double prompt_seconds = 0, seconds = 0;
  bool context_full = false;
};

// Whether the session's sequence is exactly the prompt.
bool Holds(Session& session, const std::vector<int32_t>& prompt) {
  if (session.Position() != prompt.size()) return false;
  std::vector<int32_t> longer = prompt;
  longer.push_back(prompt.back());  // Reuse always leaves a token
  return session.Reuse(longer) == prompt.size();
}

// Evaluates the prompt. With a cache file, only what the file's session does not begin with; then
// the file is made to hold this prompt, unless it does already. Returns how many tokens were
// reused.
size_t EvalPrompt(Session& session, const std::vector<int32_t>& prompt, const std::string& cache) {
  if (!cache.empty() && std::filesystem::exists(cache)) session.Restore(cache);
  const bool saved = Holds(session, prompt);
  const size_t reused = session.Reuse(prompt);
  session.Eval(std::span(prompt).subspan(reused));
  if (!cache.empty() && !saved) session.Save(cache);
  return reused;
}

Generated Generate(const Model& model, Session& session, const std::vector<int32_t>& prompt,
                   const std::string& cache, size_t limit, size_t context) {
  Generated generated;
  const Stopwatch prompt_watch;
  generated.reused = EvalPrompt(session, prompt, cache);
  generated.prompt_seconds = prompt_watch.Seconds();
  const Stopwatch watch;
  while (generated.tokens < limit && Interrupted() == 0) {
    const int32_t token = session.Sample();
    if (model.IsEnd(token)) break;
    Print(session.Text(token));
    if (++generated.tokens == limit) break;
    if (session.Position() == context) {
      generated.context_full = true;
      break;
    }
    session.Eval(std::span(&token, 1));
  }
  generated.seconds = watch.Seconds();
  Print(session.Text(-1));
  return generated;
}

double Rate(size_t tokens, double seconds) {
  return seconds > 0 ? static_cast<double>(tokens) / seconds : 0;
}

void Run(RunOptions options) {
  const std::string text = ReadPrompt(options.prompt);
  const Threads threads(options.eval.threads);
  const Stopwatch load_watch;
  const Model model = LoadModel(options.model, threads);
  const double load_seconds = load_watch.Seconds();

  const std::vector<int32_t> prompt =
      model.Tokenize(options.raw ? text : model.ApplyTemplate(text));
  if (prompt.empty()) {
    throw std::runtime_error(
        "the prompt is empty, and the model has no token to begin a text with");
  }
  if (options.eval.context == 0 && !options.prompt_cache.empty()) {
    // The file's sequence must fit, whatever it is; memory is taken for what is used.
    options.eval.context = std::max(prompt.size(), model.Describe().context);
  } else if (options.eval.context == 0) {
    // At least the prompt, so that one that is too long is refused by name.
    options.eval.context =
        std::min(prompt.size() + options.limit, std::max(prompt.size(), model.Describe().context));
  }
  Session session = MakeSession(model, options.eval, threads);
  const hob_sampler_options sampler = ChooseSampler(options);
  session.SetSampler(sampler);

  const Generated generated =
      Generate(model, session, prompt, options.prompt_cache, options.limit, options.eval.context);
  Print("\n");
  if (generated.context_full) {
    std::fprintf(stderr, "hob: stopped: the context of %zu tokens is full\n", options.eval.context);
  }
  if (!options.quiet) {
    const size_t evaluated = prompt.size() - generated.reused;
    if (generated.reused != 0) {
      std::fprintf(stderr, "hob: %zu prompt tokens from %s\n", generated.reused,
                   options.prompt_cache.c_str());
    }
    std::fprintf(
        stderr,
        "hob: %zu prompt tokens in %.1f ms (%.0f tok/s), %zu generated in %.1f ms "
        "(%.0f tok/s), load %.0f ms, %s, %zu thread%s",
        evaluated, 1e3 * generated.prompt_seconds, Rate(evaluated, generated.prompt_seconds),
        generated.tokens, 1e3 * generated.seconds, Rate(generated.tokens, generated.seconds),
        1e3 * load_seconds, hob_target(), threads.count(), threads.count() == 1 ? "" : "s");
    if (sampler.temperature > 0) {
      std::fprintf(stderr, ", seed %llu", static_cast<unsigned long long>(sampler.seed));
    }
    std::fputc('\n', stderr);
  }
  if (Interrupted() != 0) throw Interrupt();
}

}  // namespace

void AddRun(CLI::App& app, Action& action) {
  CLI::App* command = app.add_subcommand("run", "Continue a text");
  auto options = std::make_shared<RunOptions>();
  hob_sampler_options& sampler = options->sampler;
  sampler.top_k = 40;
  sampler.top_p = 0.95f;
  sampler.min_p = 0.05f;
  sampler.repetition_penalty = 1.0f;

  AddModelOption(*command, &options->model);
  AddTextOptions(*command, &options->prompt);
  command->add_option("-n,--predict", options->limit, "Most tokens to generate (default: 256)")
      ->type_name("N")
      ->check(AtLeast(0));
  command->add_flag("--raw", options->raw,
                    "Do not put the model's prompt template around the text");
  command
      ->add_option("--temp", options->temperature,
                   "Temperature; 0 always takes the most probable token (default: 0 for the "
                   "built-in model, 0.8 for others)")
      ->type_name("T")
      ->check(AtLeast(0));
  command
      ->add_option("--top-k", sampler.top_k, "Sample from the K best tokens; 0 = all (default: 40)")
      ->type_name("K")
      ->check(AtLeast(0));
  command
      ->add_option("--top-p", sampler.top_p,
                   "Sample from the best tokens whose probabilities sum up to P; 1 = all (default: "
                   "0.95)")
      ->type_name("P")
      ->check(Between(0, 1));
  command
      ->add_option("--min-p", sampler.min_p,
                   "Drop tokens less probable than P times the best; 0 = none (default: 0.05)")
      ->type_name("P")
      ->check(Between(0, 1));
  command
      ->add_option("--repeat-penalty", sampler.repetition_penalty,
                   "Make the last 64 tokens less likely by this factor; 1 = off (default: 1)")
      ->type_name("R")
      ->check(AtLeast(0));
  command
      ->add_option("--seed", options->seed,
                   "Seed of the random numbers: the same seed gives the same text on every machine "
                   "(default: random)")
      ->type_name("S")
      ->check(AtLeast(0));
  AddEvalOptions(*command, &options->eval);
  command
      ->add_option("--prompt-cache", options->prompt_cache,
                   "File that keeps the evaluated prompt: what this prompt and the file's have in "
                   "common at their beginning is not evaluated again, then the file gets this "
                   "prompt. It holds the text, readable by whoever can read the file")
      ->type_name("FILE");
  command->add_flag("-q,--quiet", options->quiet, "No line with the measured speed at the end");
  command->footer(
      "Prints the generated text, without the prompt, and a newline. Without -p and -f the prompt\n"
      "comes from stdin. The filters run in the order --repeat-penalty, --top-k, --top-p, "
      "--min-p,\n"
      "--temp.\n"
      "\n"
      "Examples:\n"
      "  hob run -p \"remind me to call Anna at 5 pm\"\n"
      "  echo \"set a timer for ten minutes\" | hob run -q | jq .intent\n"
      "  hob run -m model.gguf --temp 0 -n 50 -p \"The capital of France is\"\n"
      "  hob run -m model.gguf --seed 7 -p \"\"           from the beginning of a text\n"
      "  hob run -m model.gguf --prompt-cache chat.hob -f chat.txt   again and again, as it grows");
  command->callback([options, &action] { action = [options] { Run(*options); }; });
}

}  // namespace hob::cli
