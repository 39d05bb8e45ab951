// See measure_model.h. From top to bottom: statistics, the machine's limits, the model's runs;
// start with MeasureModel at the end.
#include "runtime/cli/measure_model.h"

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <numeric>
#include <span>
#include <thread>
#include <utility>

#include "kernels/targets.h"
#include "measure/ceilings.h"
#include "measure/machine.h"
#include "measure/team.h"
#include "runtime/default_model/default_model.h"
#include "runtime/error.h"
#include "runtime/gguf.h"
#include "runtime/model.h"
#include "runtime/profile.h"
#include "runtime/session.h"

namespace hob::cli {

// ---------------------------------------------------------------- statistics

double Samples::Median() const {
  if (values.empty()) return 0;
  std::vector<double> sorted = values;
  std::sort(sorted.begin(), sorted.end());
  const size_t middle = sorted.size() / 2;
  return sorted.size() % 2 != 0 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}

double Samples::Min() const {
  return values.empty() ? 0 : *std::min_element(values.begin(), values.end());
}

double Samples::Max() const {
  return values.empty() ? 0 : *std::max_element(values.begin(), values.end());
}

double TimeSpent::Waiting() const {
  const double busy =
      std::accumulate(kinds.begin(), kinds.end(), sampling,
                      [](double sum, const auto& kind) { return sum + kind.second; });
  return std::max(whole - busy, 0.0);
}

namespace {

using measure::Arithmetic;
using measure::WallSeconds;

// Tokens in the cache when a generation begins that is not to be deep.
constexpr size_t kShortPrompt = 16;
constexpr size_t kDefaultPrompt = 512, kDefaultGenerate = 128;

// ---------------------------------------------------------------- the machine's limits

// What a Speed is held against.
class Limit {
 public:
  virtual ~Limit() = default;
  virtual std::string Name() const = 0;
  // Operations or bytes.
  virtual double Amount() const = 0;
  // The least time that the work takes at this moment; 0 if there is no limit to be had.
  virtual double SecondsNow() const = 0;
};

// The best of a few: for so short a time, whoever interrupts can only take away.
template <class Rate>
double BestOf(int count, Rate rate) {
  double best = 0;
  for (int i = 0; i < count; ++i) best = std::max(best, rate());
  return best;
}

class ArithmeticLimit final : public Limit {
 public:
  ArithmeticLimit(const Work& work, size_t threads) : work_(work), threads_(threads) {}

  std::string Name() const override {
    std::string name;
    for (const Kind& kind : kKinds) {
      if (work_.ops(kind.act) != 0) name = name.empty() ? kind.name : "mixed";
    }
    return name;
  }
  double Amount() const override { return work_.all_ops(); }

  double SecondsNow() const override {
    if (ActiveTarget() == kScalar) return 0;
    double seconds = 0;
    for (const Kind& kind : kKinds) {
      if (work_.ops(kind.act) == 0) continue;
      seconds += work_.ops(kind.act) / BestOf(5, [&] {
                   return measure::ArithmeticNow(ActiveTarget(), kind.ceiling, threads_);
                 });
    }
    return seconds;
  }

 private:
  struct Kind {
    ActKind act;
    double Arithmetic::*ceiling;
    const char* name;
  };
  static constexpr Kind kKinds[] = {{ActKind::kQ8, &Arithmetic::int8_dot, "int8_dot"},
                                    {ActKind::kBF16, &Arithmetic::bf16_dot, "bf16_dot"},
                                    {ActKind::kF32, &Arithmetic::f32_fma, "f32_fma"}};

  Work work_;
  size_t threads_;
};

class ReadLimit final : public Limit {
 public:
  // `work` of all steps of a run; `step_bytes` is what one of them goes through.
  ReadLimit(const Work& work, double step_bytes, size_t threads)
      : bytes_(work.bytes()),
        threads_(threads),
        level_(measure::LevelOf(static_cast<size_t>(step_bytes), threads)) {}

  std::string Name() const override { return measure::LevelName(level_); }
  double Amount() const override { return bytes_; }
  double SecondsNow() const override {
    return bytes_ / BestOf(3, [&] { return measure::ReadRateNow(level_, threads_); });
  }

 private:
  double bytes_;
  size_t threads_, level_;
};

// ---------------------------------------------------------------- the model's runs

// Spread over the vocabulary, so that the rows of the embedding come from all over it.
std::vector<int32_t> SomeTokens(size_t count, size_t vocabulary) {
  std::vector<int32_t> tokens(count);
  for (size_t i = 0; i < count; ++i) {
    tokens[i] = static_cast<int32_t>((i * 7919 + 1) % vocabulary);
  }
  return tokens;
}

const char* CacheName(hob_cache_type type) {
  switch (type) {
    case HOB_CACHE_F32:
      return "f32";
    case HOB_CACHE_BF16:
      return "bf16";
    case HOB_CACHE_Q8_0:
      return "q8_0";
  }
  return "unknown";
}

// Brings a file into the system's cache, as far as that has room.
void ReadThrough(const std::string& path) {
  const std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(std::fopen(path.c_str(), "rb"),
                                                             std::fclose);
  if (file == nullptr) return;  // loading says why
  std::vector<char> buffer(size_t{1} << 20);
  while (std::fread(buffer.data(), 1, buffer.size(), file.get()) == buffer.size()) {
  }
}

class ModelBench {
 public:
  explicit ModelBench(const MeasurePlan& plan) : plan_(plan) {}

  ModelMeasured Run() {
    Load();
    Describe();
    ChooseLengths();
    MakeSession();
    WarmUp();
    // From here on there is memory that the measuring needs.
    measured_.peak_memory_bytes = measure::PeakMemoryBytes();

    measured_.prompt = MeasurePrompt();
    measured_.generation = MeasureGeneration(kShortPrompt);
    if (plan_.depth != 0) measured_.deep_generation = MeasureGeneration(plan_.depth);
    if (plan_.profile) {
      measured_.prompt_time = ProfileRuns([&](Profile* profile) { return EvalPrompt(profile); });
      measured_.generation_time = ProfileGeneration(kShortPrompt);
      if (plan_.depth != 0) measured_.deep_generation_time = ProfileGeneration(plan_.depth);
    }
    return std::move(measured_);
  }

 private:
  void CheckCancelled() const {
    if (plan_.cancelled()) throw Error(HOB_ERROR_CANCELLED, "measuring was cancelled");
  }

  // How far the whole is, by runs.
  void Advance() {
    CheckCancelled();
    const size_t series = 2 + (plan_.depth != 0 ? 1 : 0);
    const size_t all = (series * (plan_.profile ? 2 : 1) + 1) * plan_.runs;
    plan_.progress(static_cast<float>(++runs_done_) / static_cast<float>(all));
  }

  // ---- loading

  void Load() {
    if (!plan_.path.empty()) ReadThrough(plan_.path);
    measure::ResetPeakMemory();
    for (size_t i = 0; i < plan_.runs; ++i) {
      model_.reset();  // never two of them in memory
      const double start = WallSeconds();
      model_ = LoadOnce();
      measured_.load_seconds.values.push_back(WallSeconds() - start);
      Advance();
    }
    plan_.loaded();
  }

  std::unique_ptr<Model> LoadOnce() const {
    hob_model_options options = {};
    options.struct_size = sizeof(options);
    options.threads = plan_.threads;
    options.progress = [](void* self, float) {
      return static_cast<const ModelBench*>(self)->plan_.cancelled() ? 1 : 0;
    };
    options.progress_context = const_cast<ModelBench*>(this);
    if (!plan_.path.empty()) return Model::Load(Gguf::Open(plan_.path), options);
    if (DefaultModelBytes().empty()) {
      throw Error(HOB_ERROR_UNSUPPORTED,
                  "this build has no built-in model; name a GGUF file or a shape");
    }
    return Model::Load(Gguf::FromMemory(DefaultModelBytes(), "the built-in model"), options);
  }

  void Describe() {
    const hob_model_info info = model_->Describe();
    measured_.name = info.name;
    measured_.architecture = info.architecture;
    measured_.parameters = info.parameters;
    measured_.weight_bytes = info.weight_bytes;
    tokens_ =
        SomeTokens(std::max({plan_.prompt.value_or(kDefaultPrompt), kShortPrompt, plan_.depth}),
                   info.vocabulary);
    trained_context_ = info.context;
  }

  // ---- the session

  void ChooseLengths() {
    const size_t before = std::max(kShortPrompt, plan_.depth);
    const size_t room = trained_context_ - std::min(trained_context_, before);
    prompt_tokens_ = plan_.prompt.value_or(std::min(kDefaultPrompt, trained_context_));
    generate_tokens_ = plan_.generate.value_or(std::min(kDefaultGenerate, room));
    context_ = std::max(prompt_tokens_, before + generate_tokens_);
    if (context_ <= trained_context_ && generate_tokens_ != 0) return;
    throw BadPlan("a prompt of " + std::to_string(prompt_tokens_) + " tokens, and generating " +
                  std::to_string(generate_tokens_) + " after " + std::to_string(before) +
                  ", do not fit the model's context of " + std::to_string(trained_context_) +
                  " tokens");
  }

  void MakeSession() {
    hob_session_options options = {};
    options.struct_size = sizeof(options);
    options.context = context_;
    options.cache_type = plan_.cache_type;
    options.threads = plan_.threads;
    options.cancel = [](void* self) {
      return static_cast<const ModelBench*>(self)->plan_.cancelled() ? 1 : 0;
    };
    options.cancel_context = this;
    session_ = std::make_unique<Session>(*model_, options);

    measured_.context = context_;
    const hob_session_info info = session_->Describe();
    measured_.batch = info.batch;
    measured_.participants = session_->participants();
    measured_.cache_type = CacheName(info.cache_type);
    measured_.weights_per_token = static_cast<size_t>(session_->WorkOf(0, 1).all_ops() / 2);
    for (const Op& op : session_->graph().ops()) {
      const bool is_matmul = op.kind == OpKind::kMatmul || op.kind == OpKind::kGated;
      if (is_matmul) ++measured_.formats[op.matrix->format->name];
      if (op.gate != nullptr) ++measured_.formats[op.gate->format->name];
    }
  }

  void WarmUp() {
    EvalPrompt(nullptr);
    Fill(std::max(kShortPrompt, plan_.depth));
    Generate(std::max(kShortPrompt, plan_.depth), nullptr);
  }

  std::span<const int32_t> FirstTokens(size_t count) const {
    return std::span(tokens_).first(count);
  }

  // Puts the first `count` tokens into the cache.
  void Fill(size_t count) {
    session_->Rewind(0);
    session_->Eval(FirstTokens(count), nullptr);
  }

  struct Timed {
    double seconds = 0, sampling = 0;
  };

  Timed EvalPrompt(Profile* profile) {
    session_->Rewind(0);
    session_->SetProfile(profile);
    const double start = WallSeconds();
    session_->Eval(FirstTokens(prompt_tokens_), nullptr);
    const double seconds = WallSeconds() - start;
    session_->SetProfile(nullptr);
    return {seconds};
  }

  // After the `before` tokens that Fill has put there. The last of them is evaluated once more,
  // which gives logits, and wakes threads and caches.
  Timed Generate(size_t before, Profile* profile) {
    session_->Rewind(before - 1);
    session_->Eval(FirstTokens(before).last(1), nullptr);
    session_->SetProfile(profile);
    Timed timed;
    const double start = WallSeconds();
    for (size_t i = 0; i < generate_tokens_; ++i) {
      const double sample_start = profile == nullptr ? 0 : WallSeconds();
      const int32_t token = session_->Sample();
      if (profile != nullptr) timed.sampling += WallSeconds() - sample_start;
      session_->Eval(std::span(&token, 1), nullptr);
    }
    timed.seconds = WallSeconds() - start;
    session_->SetProfile(nullptr);
    return timed;
  }

  // ---- measuring

  Speed MeasurePrompt() {
    Speed speed;
    speed.tokens = prompt_tokens_;
    speed.work = session_->WorkOf(0, prompt_tokens_);
    Measure(
        ArithmeticLimit(speed.work, LimitThreads()), [&] { return EvalPrompt(nullptr); }, speed);
    return speed;
  }

  Speed MeasureGeneration(size_t before) {
    Speed speed;
    speed.tokens = generate_tokens_;
    speed.before = before;
    for (size_t i = 0; i < generate_tokens_; ++i) speed.work += session_->WorkOf(before + i, 1);
    Fill(before);
    const double step_bytes = speed.work.bytes() / static_cast<double>(generate_tokens_);
    Measure(
        ReadLimit(speed.work, step_bytes, LimitThreads()),
        [&] { return Generate(before, nullptr); }, speed);
    return speed;
  }

  // Each run between two measurements of its limit, with the mean of which it is compared: clocks
  // drift, and neighbours come and go.
  template <class OneRun>
  void Measure(const Limit& limit, OneRun run, Speed& speed) {
    speed.limit = limit.Name();
    speed.amount = limit.Amount();
    double before = LimitSeconds(limit);
    for (size_t i = 0; i < plan_.runs; ++i) {
      const double seconds = run().seconds;
      const double after = LimitSeconds(limit), least = (before + after) / 2;
      before = after;
      speed.seconds.values.push_back(seconds);
      speed.tokens_per_second.values.push_back(static_cast<double>(speed.tokens) / seconds);
      if (least > 0) {
        speed.limit_rate.values.push_back(speed.amount / least);
        speed.share.values.push_back(least / seconds);
      }
      Advance();
    }
  }

  // More threads than CPUs take turns, and what they do then says nothing about the machine.
  size_t LimitThreads() const { return std::min(measured_.participants, measure::CpuCount()); }

  double LimitSeconds(const Limit& limit) const {
    const double seconds = limit.SecondsNow();
    // Its threads look out for more for a moment before they sleep, and the model needs the cores.
    if (measured_.participants > 1) std::this_thread::sleep_for(std::chrono::milliseconds(5));
    return seconds;
  }

  TimeSpent ProfileGeneration(size_t before) {
    Fill(before);
    return ProfileRuns([&](Profile* profile) { return Generate(before, profile); });
  }

  // In runs of their own, since reading the clock takes time, too.
  template <class OneRun>
  TimeSpent ProfileRuns(OneRun run) {
    Profile profile(session_->graph(), measured_.participants);
    TimeSpent spent;
    for (size_t i = 0; i < plan_.runs; ++i) {
      const Timed timed = run(&profile);
      spent.whole += timed.seconds * static_cast<double>(measured_.participants);
      spent.sampling += timed.sampling;
      Advance();
    }
    spent.kinds = profile.SecondsByKind();
    spent.matmuls = profile.SecondsOfMatmuls();
    return spent;
  }

  const MeasurePlan& plan_;
  ModelMeasured measured_;
  size_t runs_done_ = 0;
  std::unique_ptr<Model> model_;
  std::unique_ptr<Session> session_;
  std::vector<int32_t> tokens_;
  size_t trained_context_ = 0, context_ = 0;
  size_t prompt_tokens_ = 0, generate_tokens_ = 0;
};

}  // namespace

ModelMeasured MeasureModel(const MeasurePlan& plan) { return ModelBench(plan).Run(); }

}  // namespace hob::cli
