// One sequence on a model: cache, position, logits, sampler. Start with Session::Eval. How a
// session is saved is in session_state.h.
#ifndef HOB_RUNTIME_SESSION_H_
#define HOB_RUNTIME_SESSION_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "hob/model.h"
#include "runtime/executor.h"
#include "runtime/graph.h"
#include "runtime/kv_cache.h"
#include "runtime/model.h"
#include "runtime/rope_rows.h"
#include "runtime/sampler.h"
#include "runtime/session_state.h"
#include "runtime/tokenizer.h"
#include "runtime/work.h"

namespace hob {

class Session {
 public:
  // Allocates everything that evaluating needs. The model must outlive the session. Throws Error.
  Session(const Model& model, const hob_session_options& options);
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  // Appends the tokens; logits: (tokens, vocabulary), or nullptr to compute the last row only. On
  // an error, or if cancelled, the session stays as it was. Throws Error; does not allocate.
  void Eval(std::span<const int32_t> tokens, float* logits);

  // After the last token: (vocabulary). Throws if there are none.
  std::span<const float> Logits() const;

  size_t position() const { return tokens_.size(); }
  void Rewind(size_t position);
  // Rewinds to the end of the longest common prefix of the sequence and `tokens`, or to one token
  // less, so that one of `tokens` is left to evaluate. Returns the position.
  size_t Reuse(std::span<const int32_t> tokens);

  // As hob_session_describe gives it.
  hob_session_info Describe() const;

  // ---- saving; see session_state.h. Restoring throws Error and changes nothing, or succeeds.

  void Save(const std::string& path) const;
  size_t SavedBytes() const;
  void SaveTo(std::span<uint8_t> bytes) const;  // (SavedBytes)
  void Restore(const std::string& path);
  void RestoreFrom(std::span<const uint8_t> bytes);

  void SetSampler(const hob_sampler_options& options) { sampler_ = Sampler(options); }
  int32_t Sample() { return sampler_.Sample(Logits(), tokens_); }
  // The text that is complete with this token; -1 ends the text. Valid until the next call. Where
  // the sequence has nothing but BOS when the text begins, it begins without the tokenizer's space.
  std::string_view Text(int32_t token);

  // What Eval(tokens, nullptr) of `count` tokens has to do, if they begin at `position`.
  Work WorkOf(size_t position, size_t count) const;

  // For measuring: see Executor::SetProfile.
  void SetProfile(Profile* profile) { executor_.SetProfile(profile); }
  size_t participants() const { return executor_.participants(); }
  const Graph& graph() const { return graph_; }

 private:
  // The options with the defaults filled in.
  struct Limits {
    size_t context, batch;
    hob_cache_type cache_type;
  };
  static Limits ChooseLimits(const Model& model, const hob_session_options& options);
  Session(const Model& model, const hob_session_options& options, const Limits& limits);
  void CheckTokens(std::span<const int32_t> tokens) const;
  StateShape Shape() const;
  std::span<const float> SavedLogits() const;
  void Restore(const StateReader& state);

  const Model& model_;
  const Limits limits_;
  KvCache cache_;
  RopeRows rope_;
  Graph graph_;
  Executor executor_;
  std::vector<int32_t> tokens_;  // the sequence
  std::vector<float> logits_;    // (vocabulary)
  bool has_logits_ = false;
  Sampler sampler_;
  std::optional<StreamDecoder> decoder_;  // of the text that is going out
  std::string text_;
};

}  // namespace hob

#endif  // HOB_RUNTIME_SESSION_H_
