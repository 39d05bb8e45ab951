// hob perplexity: how well a model predicts a text, and how far its predictions are from those of
// another one, such as the same model before it was quantized. docs/validating.md defines every
// number.
//
// Start with Perplexity(): cut the text into chunks, evaluate each, score the rows of its second
// half, summarize.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "runtime/cli/common.h"
#include "runtime/cli/kl_base.h"
#include "runtime/cli/logit_stats.h"

namespace hob::cli {
namespace {

using Json = nlohmann::ordered_json;

constexpr size_t kDefaultContext = 512;
constexpr size_t kLeastContext = 4;  // two rows to look back on, one to score

struct PerplexityOptions {
  std::string model, base, save_base;
  TextOptions text;
  EvalOptions eval;
  size_t chunks = 0;  // 0 = all
  bool json = false;
};

// ---------------------------------------------------------------- chunks

// Whether the model's texts begin with BOS.
bool BeginsWithBos(const Model& model) { return !model.Tokenize("").empty(); }

size_t ChooseContext(size_t wanted, const hob_model_info& info) {
  if (wanted == 0) wanted = std::min(kDefaultContext, info.context);
  if (wanted < kLeastContext) {
    throw UsageError("--context is " + std::to_string(wanted) + ", expected at least " +
                     std::to_string(kLeastContext));
  }
  if (wanted > info.context) {
    throw UsageError("--context is " + std::to_string(wanted) + ", expected at most the model's, " +
                     std::to_string(info.context));
  }
  return wanted;
}

// Pieces of `context` tokens; what is left at the end is left out. Control tokens have no spelling
// here: the text is what is to be predicted. A model that wants BOS has it in place of the first
// token of every chunk, which is never scored.
Chunks CutText(const Model& model, const std::string& text, const PerplexityOptions& options) {
  const hob_model_info info = model.Describe();
  Chunks chunks{ChooseContext(options.eval.context, info), info.vocabulary, 0, {}};
  chunks.tokens = model.Tokenize(text, HOB_TOKENIZE_NO_SPECIAL);
  chunks.count = chunks.tokens.size() / chunks.context;
  if (chunks.count == 0) {
    throw std::runtime_error("the text has " + std::to_string(chunks.tokens.size()) +
                             " tokens, expected at least one chunk of " +
                             std::to_string(chunks.context) +
                             " (a longer text, or a shorter --context)");
  }
  if (options.chunks != 0) chunks.count = std::min(chunks.count, options.chunks);
  chunks.tokens.resize(chunks.count * chunks.context);
  if (BeginsWithBos(model)) {
    for (size_t i = 0; i < chunks.count; ++i) chunks.tokens[i * chunks.context] = info.bos;
  }
  return chunks;
}

Chunks ChooseChunks(const Model& model, const PerplexityOptions& options, const KlBase* base) {
  const bool given = options.text.text || !options.text.file.empty();
  if (base == nullptr || !base->has_chunks() || given) {
    const std::optional<std::string> text = ReadText(options.text);
    if (!text) throw UsageError("no text: give -f FILE or -p TEXT, or pipe it to stdin");
    return CutText(model, *text, options);
  }
  const Chunks& chunks = base->chunks();
  if (options.eval.context != 0 && options.eval.context != chunks.context) {
    throw UsageError("--context is " + std::to_string(options.eval.context) +
                     ", expected that of " + options.base + ", " + std::to_string(chunks.context));
  }
  if (options.chunks != 0 && options.chunks != chunks.count) {
    throw UsageError("--chunks goes with a text; " + options.base + " has its own " +
                     std::to_string(chunks.count));
  }
  return chunks;
}

// ---------------------------------------------------------------- scores

// One number for each scored token.
struct Scores {
  std::vector<double> loss;  // -log of the probability of the token that came
  // With a base:
  std::vector<double> base_loss;
  std::vector<double> divergence;  // KL(base || model)
  std::vector<double> shift;       // probability of the token that came: model's less the base's
  size_t same_top = 0;
};

void RequireFinite(std::span<const float> row, const char* whose, size_t chunk, size_t position) {
  if (const auto at = FirstNonFinite(row)) {
    throw std::runtime_error(std::string(whose) + " logits are not finite: chunk " +
                             std::to_string(chunk) + ", position " + std::to_string(position) +
                             ", token " + std::to_string(*at));
  }
}

void Score(std::span<const float> row, size_t next, Scores* scores) {
  scores->loss.push_back(LogSumExp(row) - row[next]);
}

void ScoreBoth(std::span<const float> row, std::span<const float> base, size_t next,
               Scores* scores) {
  const RowComparison compared = CompareRows(base, row);
  const double loss = compared.other_log_sum - row[next];
  const double base_loss = compared.base_log_sum - base[next];
  scores->loss.push_back(loss);
  scores->base_loss.push_back(base_loss);
  scores->divergence.push_back(compared.divergence);
  scores->shift.push_back(std::exp(-loss) - std::exp(-base_loss));
  if (compared.same_top) ++scores->same_top;
}

// Evaluates chunks, hands every scored row to the scores and to the base file that is written.
class Evaluation {
 public:
  Evaluation(const Model& model, const Chunks& chunks, const EvalOptions& options,
             const Threads& threads)
      : chunks_(chunks), session_(MakeSession(model, options, threads)) {
    const size_t slice = RowsAtATime(options.batch, chunks.vocabulary);
    rows_.resize(std::min(slice, chunks.scored()) * chunks.vocabulary);
    base_row_.resize(chunks.vocabulary);
  }

  // `base` and `save` may be nullptr.
  void Run(size_t chunk, KlBase* base, KlBaseWriter* save, Scores* scores) {
    const std::span<const int32_t> tokens = chunks_.chunk(chunk);
    const size_t vocabulary = chunks_.vocabulary, slice = rows_.size() / vocabulary;
    session_.Rewind(0);
    session_.Eval(tokens.first(chunks_.first()));
    for (size_t begin = 0; begin < chunks_.scored(); begin += slice) {
      const size_t count = std::min(slice, chunks_.scored() - begin);
      const size_t position = chunks_.first() + begin;
      session_.Eval(tokens.subspan(position, count), rows_.data());
      if (save != nullptr) save->Write(std::span(rows_).first(count * vocabulary));
      for (size_t i = 0; i < count; ++i) {
        const auto row = std::span<const float>(rows_).subspan(i * vocabulary, vocabulary);
        const auto next = static_cast<size_t>(tokens[position + i + 1]);
        RequireFinite(row, "the model's", chunk, position + i);
        if (base == nullptr) {
          Score(row, next, scores);
          continue;
        }
        base->ReadRow(begin + i, base_row_);
        RequireFinite(base_row_, "the base's", chunk, position + i);
        ScoreBoth(row, base_row_, next, scores);
      }
    }
  }

 private:
  const Chunks& chunks_;
  Session session_;
  std::vector<float> rows_, base_row_;
};

// ---------------------------------------------------------------- summaries

// exp of a mean, its error by the derivative.
Estimate Exp(const Estimate& log) {
  const double value = std::exp(log.mean);
  return {value, value * log.error};
}

struct NamedShare {
  const char *text, *key;
  double share;
};
constexpr NamedShare kShares[] = {
    {"maximum", "max", 1}, {"99.9 %", "p99_9", 0.999}, {"99 %", "p99", 0.99}, {"95 %", "p95", 0.95},
    {"90 %", "p90", 0.9},  {"median", "median", 0.5},  {"10 %", "p10", 0.1},  {"5 %", "p5", 0.05},
    {"1 %", "p1", 0.01},   {"minimum", "min", 0}};

// What is said of a base, in the order in which it is printed.
struct BaseSummary {
  Estimate perplexity, log_ratio, ratio, divergence, shift, rms_shift, same_top;
  std::optional<double> correlation;  // of the losses; none if one of them never changes
  std::vector<double> sorted_divergence, sorted_shift;
};

std::vector<double> Sorted(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values;
}

Estimate RootMeanSquare(std::span<const double> values) {
  std::vector<double> squares;
  for (const double value : values) squares.push_back(value * value);
  const Estimate mean = MeanOf(squares);
  const double root = std::sqrt(mean.mean);
  return {root, root == 0 ? 0 : 0.5 / root * mean.error};
}

Estimate Share(size_t count, size_t of) {
  const double share = static_cast<double>(count) / static_cast<double>(of);
  return {share, of < 2 ? 0 : std::sqrt(share * (1 - share) / static_cast<double>(of - 1))};
}

BaseSummary SummarizeBase(const Scores& scores) {
  BaseSummary summary;
  const Estimate loss = MeanOf(scores.loss), base_loss = MeanOf(scores.base_loss);
  summary.perplexity = Exp(base_loss);
  std::vector<double> differences;
  for (size_t i = 0; i < scores.loss.size(); ++i) {
    differences.push_back(scores.loss[i] - scores.base_loss[i]);
  }
  summary.log_ratio = MeanOf(differences);
  summary.ratio = Exp(summary.log_ratio);
  if (loss.error > 0 && base_loss.error > 0) {
    summary.correlation =
        MeanCovariance(scores.loss, scores.base_loss) / (loss.error * base_loss.error);
  }
  summary.divergence = MeanOf(scores.divergence);
  summary.shift = MeanOf(scores.shift);
  summary.rms_shift = RootMeanSquare(scores.shift);
  summary.same_top = Share(scores.same_top, scores.loss.size());
  summary.sorted_divergence = Sorted(scores.divergence);
  summary.sorted_shift = Sorted(scores.shift);
  return summary;
}

Json ToJson(const Estimate& estimate) {
  return {{"value", estimate.mean}, {"standard_error", estimate.error}};
}

Json WithQuantiles(const Estimate& mean, std::span<const double> sorted) {
  Json json = {{"mean", mean.mean}, {"standard_error", mean.error}};
  for (const NamedShare& share : kShares) json[share.key] = Quantile(sorted, share.share);
  return json;
}

std::string JsonText(const Chunks& chunks, const Scores& scores, const BaseSummary* base) {
  Json root = {{"chunks", chunks.count},
               {"context", chunks.context},
               {"scored_tokens", scores.loss.size()},
               {"perplexity", ToJson(Exp(MeanOf(scores.loss)))}};
  if (base != nullptr) {
    root["base_perplexity"] = ToJson(base->perplexity);
    root["log_perplexity_ratio"] = ToJson(base->log_ratio);
    root["perplexity_ratio"] = ToJson(base->ratio);
    root["loss_correlation"] = base->correlation ? Json(*base->correlation) : Json(nullptr);
    root["kl_divergence"] = WithQuantiles(base->divergence, base->sorted_divergence);
    root["probability_shift"] = WithQuantiles(base->shift, base->sorted_shift);
    root["rms_probability_shift"] = ToJson(base->rms_shift);
    root["same_top"] = ToJson(base->same_top);
  }
  return root.dump(2) + "\n";
}

std::string Line(const std::string& name, const Estimate& estimate, int digits, double scale = 1,
                 const char* unit = "") {
  char line[160];
  std::snprintf(line, sizeof(line), "%-32s %.*f +/- %.*f%s\n", name.c_str(), digits,
                scale * estimate.mean, digits, scale * estimate.error, unit);
  return line;
}

std::string QuantileLines(std::span<const double> sorted, double scale, const char* unit) {
  std::string out;
  for (const NamedShare& share : kShares) {
    char line[160];
    std::snprintf(line, sizeof(line), "  %-30s %.6f%s\n", share.text,
                  scale * Quantile(sorted, share.share), unit);
    out += line;
  }
  return out;
}

std::string PlainText(const Chunks& chunks, const Scores& scores, const BaseSummary* base) {
  char first[160];
  std::snprintf(first, sizeof(first), "%-32s %zu in %zu chunks of %zu\n", "tokens scored",
                scores.loss.size(), chunks.count, chunks.context);
  std::string out = first;
  out += Line("perplexity", Exp(MeanOf(scores.loss)), 5);
  if (base == nullptr) return out;
  out += Line("perplexity of the base", base->perplexity, 5);
  out += Line("ln(perplexity / base's)", base->log_ratio, 6);
  out += Line("perplexity / base's", base->ratio, 6);
  if (base->correlation) {
    char line[160];
    std::snprintf(line, sizeof(line), "%-32s %.4f\n", "correlation of the losses",
                  *base->correlation);
    out += line;
  }
  out += "\n" + Line("KL divergence, mean", base->divergence, 6);
  out += QuantileLines(base->sorted_divergence, 1, "");
  out += "\n" + Line("change of probability, mean", base->shift, 4, 100, " %");
  out += QuantileLines(base->sorted_shift, 100, " %");
  out += Line("root mean square", base->rms_shift, 4, 100, " %");
  out += "\n" + Line("same top token", base->same_top, 3, 100, " %");
  return out;
}

void Perplexity(PerplexityOptions options) {
  std::optional<KlBase> base;
  if (!options.base.empty()) base.emplace(options.base);  // before the model: errors come at once
  const Threads threads(options.eval.threads);
  const Model model = LoadModel(options.model, threads);
  const Chunks chunks = ChooseChunks(model, options, base ? &*base : nullptr);
  if (base)
    base->Require(Chunks{chunks.context, model.Describe().vocabulary, chunks.count, chunks.tokens});
  options.eval.context = chunks.context;
  Evaluation evaluation(model, chunks, options.eval, threads);
  std::optional<KlBaseWriter> save;
  if (!options.save_base.empty()) save.emplace(options.save_base, chunks);

  Scores scores;
  Progress progress("hob: evaluating");
  for (size_t chunk = 0; chunk < chunks.count; ++chunk) {
    evaluation.Run(chunk, base ? &*base : nullptr, save ? &*save : nullptr, &scores);
    if (Interrupted() != 0) throw Interrupt();
    progress.Show(static_cast<float>(chunk + 1) / static_cast<float>(chunks.count));
  }
  progress.Clear();
  if (save) save->Close();
  std::optional<BaseSummary> summary;
  if (base) summary = SummarizeBase(scores);
  const BaseSummary* with = summary ? &*summary : nullptr;
  Print(options.json ? JsonText(chunks, scores, with) : PlainText(chunks, scores, with));
}

}  // namespace

void AddPerplexity(CLI::App& app, Action& action) {
  CLI::App* command = app.add_subcommand("perplexity", "Measure how well a model predicts a text");
  auto options = std::make_shared<PerplexityOptions>();
  AddModelOption(*command, &options->model);
  AddTextOptions(*command, &options->text);
  AddEvalOptions(*command, &options->eval);
  command->get_option("--context")
      ->description("Tokens of a chunk (default: 512, or as many as the model takes)");
  command->add_option("--chunks", options->chunks, "Evaluate only so many chunks (default: all)")
      ->type_name("N")
      ->check(AtLeast(1));
  CLI::Option* base =
      command
          ->add_option("--kl-base", options->base,
                       "Compare with another model's logits: a file that --save-kl-base wrote, "
                       "which has its own text, or raw f32 logits for every token of the text")
          ->type_name("FILE");
  command
      ->add_option("--save-kl-base", options->save_base,
                   "Write the logits to a base file, 4 bytes x tokens of the vocabulary for each "
                   "scored token")
      ->type_name("FILE")
      ->excludes(base);
  command->add_flag("--json", options->json, "As JSON");
  command->footer(
      "As llama.cpp's tool defines it: the text is cut into chunks, each is evaluated from an "
      "empty\n"
      "cache, with the beginning-of-text token in its first place if the model wants one, and the\n"
      "tokens of its second half are scored. What is left at the end of the text is left out.\n"
      "docs/validating.md defines every number.\n"
      "\n"
      "Examples:\n"
      "  hob perplexity -m model-f16.gguf -f text.txt --save-kl-base base.logits\n"
      "  hob perplexity -m model-q4_0.gguf --kl-base base.logits");
  command->callback([options, &action] { action = [options] { Perplexity(*options); }; });
}

}  // namespace hob::cli
