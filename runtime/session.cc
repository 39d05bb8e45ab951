// See session.h.
#include "runtime/session.h"

#include <algorithm>

#include "kernels/targets.h"
#include "runtime/decoder.h"
#include "runtime/error.h"
#include "runtime/mapped_file.h"
#include "runtime/temporary_file.h"
#include "runtime/unicode.h"

namespace hob {
namespace {

constexpr size_t kDefaultContext = 4096;
constexpr size_t kDefaultBatch = 256;

bool HasF32Matrices(const DecoderWeights& weights) {
  return std::all_of(weights.layers.begin(), weights.layers.end(), [](const DecoderLayer& layer) {
    return layer.q.format->id == HOB_FORMAT_F32 && layer.down.format->id == HOB_FORMAT_F32;
  });
}

Graph PlannedGraph(const Model& model, size_t batch) {
  Graph graph = BuildDecoder(model.config(), model.weights());
  graph.Plan(batch);
  return graph;
}

}  // namespace

Session::Limits Session::ChooseLimits(const Model& model, const hob_session_options& options) {
  if (!model.has_weights()) {
    throw Error(HOB_ERROR_UNSUPPORTED, "the model was loaded with vocabulary_only: no session");
  }
  const size_t trained = model.config().context;
  if (options.context > trained) {
    throw Error(HOB_ERROR_SHAPE, "context is " + std::to_string(options.context) +
                                     ", expected at most the model's, " + std::to_string(trained));
  }
  if (options.cache_type < 0 || options.cache_type > 1 + HOB_CACHE_Q8_0) {
    throw Error(HOB_ERROR_ARGUMENT, "cache_type is " + std::to_string(options.cache_type) +
                                        ", expected 0 or 1 + a hob_cache_type, so 0 to " +
                                        std::to_string(1 + HOB_CACHE_Q8_0));
  }
  Limits limits;
  limits.context = options.context != 0 ? options.context : std::min(trained, kDefaultContext);
  limits.batch = std::min(options.batch != 0 ? options.batch : kDefaultBatch, limits.context);
  limits.cache_type = HasF32Matrices(model.weights()) ? HOB_CACHE_F32 : HOB_CACHE_BF16;
  if (options.cache_type != 0) {
    limits.cache_type = static_cast<hob_cache_type>(options.cache_type - 1);
  }
  return limits;
}

Session::Session(const Model& model, const hob_session_options& options)
    : Session(model, options, ChooseLimits(model, options)) {}

Session::Session(const Model& model, const hob_session_options& options, const Limits& limits)
    : model_(model),
      limits_(limits),
      cache_(limits.cache_type, model.config().layers, model.config().kv_heads,
             model.config().head_dim, limits.context),
      rope_(model.config(), limits.context, limits.batch),
      graph_(PlannedGraph(model, limits.batch)),
      executor_(graph_, cache_, rope_.data(),
                {options.threads, options.cancel, options.cancel_context}),
      logits_(model.config().vocabulary) {
  tokens_.reserve(limits.context);
}

void Session::CheckTokens(std::span<const int32_t> tokens) const {
  if (tokens.empty()) throw Error(HOB_ERROR_ARGUMENT, "count is 0, expected at least one token");
  if (tokens.size() > limits_.context - position()) {
    throw Error(HOB_ERROR_SHAPE, std::to_string(tokens.size()) + " tokens after position " +
                                     std::to_string(position()) +
                                     " do not fit the session's context of " +
                                     std::to_string(limits_.context));
  }
  const size_t vocabulary = model_.config().vocabulary;
  for (size_t i = 0; i < tokens.size(); ++i) {
    if (tokens[i] >= 0 && static_cast<size_t>(tokens[i]) < vocabulary) continue;
    throw Error(HOB_ERROR_ARGUMENT, "tokens[" + std::to_string(i) + "] is " +
                                        std::to_string(tokens[i]) + ", expected 0 to " +
                                        std::to_string(vocabulary - 1));
  }
}

void Session::Eval(std::span<const int32_t> tokens, float* logits) {
  CheckTokens(tokens);
  if (ActiveTarget() < 0) throw Error(HOB_ERROR_TARGET, BadTargetMessage());
  const size_t vocabulary = logits_.size();
  cache_.Extend(position() + tokens.size());
  for (size_t done = 0; done < tokens.size();) {
    const size_t rows = std::min(limits_.batch, tokens.size() - done);
    Step step{tokens.data() + done, rows, position() + done, 0, nullptr};
    if (logits != nullptr) {
      step.outputs = rows;
      step.logits = logits + done * vocabulary;
    } else if (done + rows == tokens.size()) {
      step.outputs = 1;
      step.logits = logits_.data();
    }
    rope_.Set(step.position, rows);
    // The logits are the last phase, and nobody is asked there: logits_ is old or complete.
    if (!executor_.Run(step)) {
      throw Error(HOB_ERROR_CANCELLED, "evaluating was stopped by the cancel callback");
    }
    done += rows;
  }
  if (logits != nullptr) {
    std::copy_n(logits + (tokens.size() - 1) * vocabulary, vocabulary, logits_.data());
  }
  has_logits_ = true;
  tokens_.insert(tokens_.end(), tokens.begin(), tokens.end());  // reserved: no allocation
}

// In the batches of Eval.
Work Session::WorkOf(size_t position, size_t count) const {
  Work work;
  for (size_t done = 0; done < count;) {
    const size_t rows = std::min(limits_.batch, count - done);
    const size_t outputs = done + rows == count ? 1 : 0;
    work += WorkOfStep(graph_, cache_, position + done, rows, outputs);
    done += rows;
  }
  return work;
}

std::span<const float> Session::Logits() const {
  if (!has_logits_) {
    throw Error(HOB_ERROR_ARGUMENT, "the session has no logits: evaluate a token first");
  }
  return logits_;
}

void Session::Rewind(size_t position) {
  if (position > tokens_.size()) {
    throw Error(HOB_ERROR_ARGUMENT, "position is " + std::to_string(position) +
                                        ", expected at most the session's, " +
                                        std::to_string(tokens_.size()));
  }
  tokens_.resize(position);
  has_logits_ = false;
  cache_.Shrink(position);
}

size_t Session::Reuse(std::span<const int32_t> tokens) {
  if (tokens.empty()) throw Error(HOB_ERROR_ARGUMENT, "count is 0, expected at least one token");
  const auto [end, ignored] =
      std::mismatch(tokens_.begin(), tokens_.end(), tokens.begin(), tokens.end());
  const auto same = static_cast<size_t>(end - tokens_.begin());
  const size_t kept = std::min(same, tokens.size() - 1);
  Rewind(kept);
  return kept;
}

hob_session_info Session::Describe() const {
  hob_session_info info{};
  info.struct_size = sizeof(info);
  info.context = limits_.context;
  info.batch = limits_.batch;
  info.cache_type = limits_.cache_type;
  info.position = position();
  info.cache_bytes = cache_.UsedBytes(position());
  info.cache_reserved_bytes = cache_.reserved_bytes();
  info.work_bytes = executor_.arena_bytes() + executor_.workspace_bytes() + rope_.bytes() +
                    logits_.size() * sizeof(float);
  return info;
}

// ---------------------------------------------------------------- saving

StateShape Session::Shape() const {
  return {model_.Fingerprint(), model_.config().layers, logits_.size(), limits_.context};
}

std::span<const float> Session::SavedLogits() const {
  return has_logits_ ? std::span<const float>(logits_) : std::span<const float>();
}

void Session::Save(const std::string& path) const {
  TemporaryFile file(path);
  WriteState(Shape(), cache_, tokens_, SavedLogits(),
             [&](std::span<const uint8_t> piece) { file.Write(piece); });
  file.Commit();
}

size_t Session::SavedBytes() const {
  return StateBytes(cache_, tokens_.size(), SavedLogits().size());
}

void Session::SaveTo(std::span<uint8_t> bytes) const {
  auto at = bytes.begin();
  WriteState(Shape(), cache_, tokens_, SavedLogits(), [&](std::span<const uint8_t> piece) {
    at = std::copy(piece.begin(), piece.end(), at);
  });
}

void Session::Restore(const std::string& path) {
  const MappedFile file(path);
  Restore(StateReader(file.bytes(), Quoted(path, 1000), Shape(), cache_,
                      [&](size_t begin, size_t size) { file.DropPages(begin, size); }));
}

void Session::RestoreFrom(std::span<const uint8_t> bytes) {
  Restore(StateReader(bytes, "memory", Shape(), cache_, {}));
}

// Nothing here fails: the state has been checked, and there is room.
void Session::Restore(const StateReader& state) {
  has_logits_ = state.CopyTo(cache_, tokens_, logits_);
  decoder_.reset();
}

std::string_view Session::Text(int32_t token) {
  if (!decoder_) {
    const bool at_start =
        tokens_.empty() || (tokens_.size() == 1 && tokens_[0] == model_.tokenizer().bos());
    decoder_.emplace(model_.tokenizer(), at_start);
  }
  if (token == -1) {
    text_ = decoder_->Flush();
    decoder_.reset();
  } else {
    text_ = decoder_->Push(token);
  }
  return text_;
}

}  // namespace hob
