// hob: the C++20 wrapper of model.h, header-only. Objects own what they hold, failures are
// exceptions, ranges are spans and strings. Nothing here computes: see model.h for what each call
// does.
//
//   hob::TbbThreads threads;                      // needs hob::tbb; or your own hob_threads
//   hob::Model model = hob::Model::Load("model.gguf", {.threads = threads.get()});
//   hob::Session session(model, {.threads = threads.get()});
//   session.Generate(model.Tokenize(model.ApplyTemplate("Once upon a time")), 100,
//                    [](std::string_view text) { std::cout << text; return true; });
#ifndef HOB_HOB_HPP_
#define HOB_HOB_HPP_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "hob/model.h"
#include "hob/tbb.h"

namespace hob {
// Inline: one writes hob::Model. The name keeps these classes apart from those inside the library,
// which share the outer namespace and would otherwise be the same symbols in a static link.
inline namespace api {

// A call of the C interface failed. what() is its message.
class StatusError : public std::runtime_error {
 public:
  explicit StatusError(hob_status status)
      : std::runtime_error(hob_status_message()), status_(status) {}
  hob_status status() const noexcept { return status_; }

 private:
  hob_status status_;
};

// Throws if a call of the C interface failed.
inline void Check(hob_status status) {
  if (status != HOB_OK) throw StatusError(status);
}

// A zeroed option or result struct: Zeroed<hob_matmul_args>().
template <class Struct>
Struct Zeroed() {
  Struct zeroed = {};
  zeroed.struct_size = sizeof(zeroed);
  return zeroed;
}

// ---------------------------------------------------------------- threads

// Threads of oneTBB. Must outlive the models and sessions that use it.
class TbbThreads {
 public:
  // 0 = as many as this process may use.
  explicit TbbThreads(size_t count = 0) { Check(hob_tbb_create(count, &threads_)); }
  ~TbbThreads() { hob_tbb_free(&threads_); }
  TbbThreads(const TbbThreads&) = delete;
  TbbThreads& operator=(const TbbThreads&) = delete;

  const hob_threads* get() const noexcept { return &threads_; }
  size_t count() const noexcept { return threads_.count; }

 private:
  hob_threads threads_ = {};
};

// ---------------------------------------------------------------- models

// The fields of hob_model_options, for designated initializers.
struct ModelOptions {
  const hob_threads* threads = nullptr;
  int (*progress)(void* context, float done) = nullptr;
  void* progress_context = nullptr;
  bool vocabulary_only = false;
};

class Model {
 public:
  static Model Load(const std::string& path, const ModelOptions& options = {}) {
    return Open(options, [&](const hob_model_options* c_options, hob_model** model) {
      return hob_model_load(path.c_str(), c_options, model);
    });
  }
  static Model LoadMemory(std::span<const uint8_t> data, const ModelOptions& options = {}) {
    return Open(options, [&](const hob_model_options* c_options, hob_model** model) {
      return hob_model_load_memory(data.data(), data.size(), c_options, model);
    });
  }
  // The model that is built into the library.
  static Model LoadDefault(const ModelOptions& options = {}) {
    return Open(options, hob_model_load_default);
  }

  const hob_model* get() const noexcept { return model_.get(); }

  hob_model_info Describe() const {
    auto info = Zeroed<hob_model_info>();
    Check(hob_model_describe(get(), &info));
    return info;
  }

  // The text with the model's prompt template around it; as it is if the model has none.
  std::string ApplyTemplate(std::string_view text) const {
    const char* prompt_template = Describe().prompt_template;
    if (prompt_template == nullptr) return std::string(text);
    constexpr std::string_view kPlace = "{prompt}";
    std::string result = prompt_template;
    const size_t place = result.find(kPlace);
    return place == std::string::npos ? result : result.replace(place, kPlace.size(), text);
  }

  // `flags`: HOB_TOKENIZE_NO_BOS, HOB_TOKENIZE_NO_SPECIAL.
  std::vector<int32_t> Tokenize(std::string_view text, unsigned flags = 0) const {
    std::vector<int32_t> tokens(text.size() + 8);  // enough for nearly every tokenizer and text
    size_t count = 0;
    const auto tokenize = [&] {
      Check(hob_tokenize(get(), text.data(), text.size(), flags, tokens.data(), tokens.size(),
                         &count));
    };
    tokenize();
    const bool complete = count <= tokens.size();
    tokens.resize(count);
    if (!complete) tokenize();
    return tokens;
  }

  // The bytes of a token, maybe a part of a character; lives as long as the model.
  std::string_view TokenText(int32_t token) const {
    const char* text = nullptr;
    size_t bytes = 0;
    Check(hob_token_text(get(), token, &text, &bytes));
    return {text, bytes};
  }

  bool IsEnd(int32_t token) const {
    int end = 0;
    Check(hob_token_is_end(get(), token, &end));
    return end != 0;
  }

 private:
  struct Free {
    void operator()(hob_model* model) const noexcept { hob_model_free(model); }
  };

  explicit Model(hob_model* model) : model_(model) {}

  template <class LoadFunction>
  static Model Open(const ModelOptions& options, LoadFunction load) {
    auto c_options = Zeroed<hob_model_options>();
    c_options.threads = options.threads;
    c_options.progress = options.progress;
    c_options.progress_context = options.progress_context;
    c_options.vocabulary_only = options.vocabulary_only ? 1 : 0;
    hob_model* model = nullptr;
    Check(load(&c_options, &model));
    return Model(model);
  }

  std::unique_ptr<hob_model, Free> model_;
};

// ---------------------------------------------------------------- sessions

// The fields of hob_session_options, for designated initializers.
struct SessionOptions {
  size_t context = 0;
  size_t batch = 0;
  int cache_type = 0;
  const hob_threads* threads = nullptr;
  int (*cancel)(void* context) = nullptr;
  void* cancel_context = nullptr;
};

class Session {
 public:
  // The model must outlive the session.
  explicit Session(const Model& model, const SessionOptions& options = {}) : model_(model.get()) {
    auto c_options = Zeroed<hob_session_options>();
    c_options.context = options.context;
    c_options.batch = options.batch;
    c_options.cache_type = options.cache_type;
    c_options.threads = options.threads;
    c_options.cancel = options.cancel;
    c_options.cancel_context = options.cancel_context;
    hob_session* session = nullptr;
    Check(hob_session_create(model_, &c_options, &session));
    session_.reset(session);
  }

  hob_session* get() const noexcept { return session_.get(); }

  // Appends tokens. The logits of the last of them are kept for Logits and Sample.
  void Eval(std::span<const int32_t> tokens) {
    Check(hob_session_eval(get(), tokens.data(), tokens.size(), nullptr));
  }
  // Appends tokens and writes a row of logits for each: (tokens.size(), vocabulary).
  void Eval(std::span<const int32_t> tokens, float* logits) {
    Check(hob_session_eval(get(), tokens.data(), tokens.size(), logits));
  }

  // (vocabulary); valid until the next Eval.
  const float* Logits() const {
    const float* logits = nullptr;
    Check(hob_session_logits(get(), &logits));
    return logits;
  }

  size_t Position() const noexcept { return hob_session_position(get()); }
  void Rewind(size_t position) { Check(hob_session_rewind(get(), position)); }

  // Rewinds to what the sequence and `tokens` have in common at their beginning. Returns how many
  // tokens that are; the rest, one at least, remains to be evaluated.
  size_t Reuse(std::span<const int32_t> tokens) {
    size_t kept = 0;
    Check(hob_session_reuse(get(), tokens.data(), tokens.size(), &kept));
    return kept;
  }

  hob_session_info Describe() const {
    auto info = Zeroed<hob_session_info>();
    Check(hob_session_describe(get(), &info));
    return info;
  }

  // Writes tokens, logits and cache to a file, and makes a session of the same model go on there.
  void Save(const std::string& path) const { Check(hob_session_save(get(), path.c_str())); }
  void Restore(const std::string& path) { Check(hob_session_restore(get(), path.c_str())); }
  // The same in memory.
  std::vector<uint8_t> SaveMemory() const {
    size_t bytes = 0;
    Check(hob_session_save_memory(get(), nullptr, 0, &bytes));
    std::vector<uint8_t> data(bytes);
    Check(hob_session_save_memory(get(), data.data(), data.size(), &bytes));
    return data;
  }
  void RestoreMemory(std::span<const uint8_t> data) {
    Check(hob_session_restore_memory(get(), data.data(), data.size()));
  }

  // How to sample; struct_size is filled in.
  void SetSampler(hob_sampler_options options) {
    options.struct_size = sizeof(options);
    Check(hob_session_sampler(get(), &options));
  }

  int32_t Sample() {
    int32_t token = -1;
    Check(hob_session_sample(get(), &token));
    return token;
  }

  // The text that a token brings out, whole characters only; valid until the next call. -1 brings
  // out the rest.
  std::string_view Text(int32_t token) {
    const char* text = nullptr;
    size_t bytes = 0;
    Check(hob_session_text(get(), token, &text, &bytes));
    return {text, bytes};
  }

  // Appends the prompt, then samples up to `limit` tokens, until one ends the text or
  // on_text(std::string_view) returns false. Returns how many tokens the text has.
  template <class OnText>
  size_t Generate(std::span<const int32_t> prompt, size_t limit, OnText&& on_text) {
    Eval(prompt);
    size_t count = 0;
    bool wanted = true;
    while (wanted && count < limit) {
      const int32_t token = Sample();
      int end = 0;
      Check(hob_token_is_end(model_, token, &end));
      if (end != 0) break;
      const std::string_view text = Text(token);
      if (!text.empty()) wanted = on_text(text);
      if (++count < limit && wanted) Eval(std::span(&token, 1));
    }
    const std::string_view rest = Text(-1);
    if (!rest.empty() && wanted) on_text(rest);
    return count;
  }

 private:
  struct Free {
    void operator()(hob_session* session) const noexcept { hob_session_free(session); }
  };

  const hob_model* model_;
  std::unique_ptr<hob_session, Free> session_;
};

}  // namespace api
}  // namespace hob

#endif  // HOB_HOB_HPP_
