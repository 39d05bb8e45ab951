// The C border of the runtime: include/hob/model.h. Each function checks its pointers and options,
// calls the C++ class that does the work and turns what it throws into a hob_status with a message.
#include <algorithm>
#include <cstddef>
#include <cstring>
#include <exception>
#include <memory>
#include <new>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "hob/model.h"
#include "kernels/status.h"
#include "runtime/default_model/default_model.h"
#include "runtime/error.h"
#include "runtime/gguf.h"
#include "runtime/model.h"
#include "runtime/quantize_file.h"
#include "runtime/quantize_mix.h"
#include "runtime/session.h"

struct hob_model {
  std::unique_ptr<const hob::Model> model;
};

struct hob_session {
  hob_session(const hob::Model& model, const hob_session_options& options)
      : session(model, options) {}
  hob::Session session;
};

namespace hob {
namespace {

// ---------------------------------------------------------------- checks

// How far each struct went in its first version, 0.1; fields added since are optional.
template <typename Struct>
constexpr size_t kFirstSize = 0;
template <>
constexpr size_t kFirstSize<hob_threads> = offsetof(hob_threads, parallel_for) +
                                           sizeof(hob_threads::parallel_for);
template <>
constexpr size_t kFirstSize<hob_model_options> = offsetof(hob_model_options, vocabulary_only) +
                                                 sizeof(hob_model_options::vocabulary_only);
template <>
constexpr size_t kFirstSize<hob_model_info> = offsetof(hob_model_info, prompt_template) +
                                              sizeof(hob_model_info::prompt_template);
template <>
constexpr size_t kFirstSize<hob_session_options> = offsetof(hob_session_options, cancel_context) +
                                                   sizeof(hob_session_options::cancel_context);
template <>
constexpr size_t kFirstSize<hob_session_info> = offsetof(hob_session_info, work_bytes) +
                                                sizeof(hob_session_info::work_bytes);
template <>
constexpr size_t kFirstSize<hob_sampler_options> = offsetof(hob_sampler_options, seed) +
                                                   sizeof(hob_sampler_options::seed);
template <>
constexpr size_t kFirstSize<hob_quantize_options> = offsetof(hob_quantize_options, measured) +
                                                    sizeof(hob_quantize_options::measured);

// Runs the body of a function; nothing that it throws gets out.
template <typename Body>
hob_status Guard(Body body) {
  try {
    body();
    return HOB_OK;
  } catch (const Error& error) {
    return SetError(error.status(), "%s", error.what());
  } catch (const std::bad_alloc&) {
    return SetError(HOB_ERROR_MEMORY, "out of memory");
  } catch (const std::exception& error) {
    return SetError(HOB_ERROR_INTERNAL, "internal error: %s", error.what());
  } catch (...) {
    return SetError(HOB_ERROR_INTERNAL, "internal error");
  }
}

void RequireNotNull(const void* pointer, const char* name) {
  if (pointer == nullptr) throw Error(HOB_ERROR_ARGUMENT, std::string(name) + " is NULL");
}

// A copy of a caller's struct, which may be of an older or a newer version: fields that it does not
// have are zero, fields that we do not know are left out.
template <typename Struct>
Struct CopyStruct(const Struct* source, const char* name) {
  constexpr size_t kLeast = kFirstSize<Struct>;
  static_assert(kLeast != 0);
  Struct copy{};
  if (source == nullptr) return copy;
  if (source->struct_size < kLeast) {
    throw Error(HOB_ERROR_ARGUMENT, std::string(name) + "->struct_size is " +
                                        std::to_string(source->struct_size) +
                                        ", expected at least " + std::to_string(kLeast));
  }
  std::memcpy(&copy, source, std::min(source->struct_size, sizeof(Struct)));
  return copy;
}

// Fills a caller's result struct, which may be of an older or a newer version, as far as it goes.
template <typename Struct>
void FillStruct(Struct result, const char* name, Struct* out) {
  result.struct_size = CopyStruct(out, name).struct_size;
  std::memcpy(out, &result, std::min(result.struct_size, sizeof(result)));
}

// Calls `use` with the caller's threads, checked and copied, or with nullptr if there are none.
template <typename Use>
void WithThreads(const hob_threads* threads, Use use) {
  if (threads == nullptr) return use(static_cast<const hob_threads*>(nullptr));
  const hob_threads copy = CopyStruct(threads, "threads");
  constexpr size_t kMost = 1024;
  if (copy.count < 1 || copy.count > kMost) {
    throw Error(HOB_ERROR_ARGUMENT, "threads->count is " + std::to_string(copy.count) +
                                        ", expected 1 to " + std::to_string(kMost));
  }
  RequireNotNull(reinterpret_cast<const void*>(copy.parallel_for), "threads->parallel_for");
  use(&copy);
}

// ---------------------------------------------------------------- shared bodies

// `open` gives the Gguf.
template <typename Open>
hob_status LoadModel(const hob_model_options* options, hob_model** model, Open open) {
  if (model != nullptr) *model = nullptr;
  return Guard([&] {
    RequireNotNull(model, "model");
    hob_model_options copy = CopyStruct(options, "options");
    WithThreads(copy.threads, [&](const hob_threads* threads) {
      copy.threads = threads;
      const Gguf file = open();
      auto result = std::make_unique<hob_model>();
      result->model = Model::Load(file, copy);
      *model = result.release();
    });
  });
}

Gguf OpenDefaultModel() {
  const std::span<const uint8_t> bytes = DefaultModelBytes();
  if (bytes.empty()) {
    throw Error(HOB_ERROR_UNSUPPORTED,
                "no default model: hob was built without it (HOB_DEFAULT_MODEL=OFF)");
  }
  return Gguf::FromMemory(bytes, "default model");
}

}  // namespace
}  // namespace hob

using hob::CopyStruct;
using hob::Error;
using hob::Guard;
using hob::RequireNotNull;

extern "C" {

// ---------------------------------------------------------------- models

hob_status hob_model_load(const char* path, const hob_model_options* options, hob_model** model) {
  return hob::LoadModel(options, model, [&] {
    RequireNotNull(path, "path");
    return hob::Gguf::Open(path);
  });
}

hob_status hob_model_load_memory(const void* data, size_t bytes, const hob_model_options* options,
                                 hob_model** model) {
  return hob::LoadModel(options, model, [&] {
    RequireNotNull(data, "data");
    return hob::Gguf::FromMemory({static_cast<const uint8_t*>(data), bytes});
  });
}

hob_status hob_model_load_default(const hob_model_options* options, hob_model** model) {
  return hob::LoadModel(options, model, hob::OpenDefaultModel);
}

void hob_model_free(hob_model* model) { delete model; }

hob_status hob_model_describe(const hob_model* model, hob_model_info* info) {
  return Guard([&] {
    RequireNotNull(model, "model");
    RequireNotNull(info, "info");
    hob::FillStruct(model->model->Describe(), "info", info);
  });
}

// ---------------------------------------------------------------- text and tokens

hob_status hob_tokenize(const hob_model* model, const char* text, size_t bytes, unsigned flags,
                        int32_t* tokens, size_t capacity, size_t* count) {
  return Guard([&] {
    RequireNotNull(model, "model");
    if (bytes != 0) RequireNotNull(text, "text");
    if (capacity != 0) RequireNotNull(tokens, "tokens");
    RequireNotNull(count, "count");
    constexpr unsigned kKnown = HOB_TOKENIZE_NO_BOS | HOB_TOKENIZE_NO_SPECIAL;
    if ((flags & ~kKnown) != 0) {
      throw Error(HOB_ERROR_ARGUMENT, "flags is " + std::to_string(flags) +
                                          ", expected HOB_TOKENIZE constants only, so at most " +
                                          std::to_string(kKnown));
    }
    const std::vector<int32_t> ids = model->model->tokenizer().Encode(
        bytes == 0 ? std::string_view() : std::string_view(text, bytes),
        {.add_bos = (flags & HOB_TOKENIZE_NO_BOS) == 0,
         .add_eos = false,  // the text of a prompt goes on
         .parse_special = (flags & HOB_TOKENIZE_NO_SPECIAL) == 0});
    std::copy_n(ids.begin(), std::min(capacity, ids.size()), tokens);
    *count = ids.size();
  });
}

hob_status hob_token_text(const hob_model* model, int32_t token, const char** text, size_t* bytes) {
  return Guard([&] {
    RequireNotNull(model, "model");
    RequireNotNull(text, "text");
    RequireNotNull(bytes, "bytes");
    const std::string_view piece = model->model->tokenizer().Piece(token);
    *text = piece.empty() ? "" : piece.data();
    *bytes = piece.size();
  });
}

hob_status hob_token_is_end(const hob_model* model, int32_t token, int* end) {
  return Guard([&] {
    RequireNotNull(model, "model");
    RequireNotNull(end, "end");
    *end = model->model->tokenizer().IsEndOfText(token) ? 1 : 0;
  });
}

// ---------------------------------------------------------------- sessions

hob_status hob_session_create(const hob_model* model, const hob_session_options* options,
                              hob_session** session) {
  if (session != nullptr) *session = nullptr;
  return Guard([&] {
    RequireNotNull(model, "model");
    RequireNotNull(session, "session");
    hob_session_options copy = CopyStruct(options, "options");
    hob::WithThreads(copy.threads, [&](const hob_threads* threads) {
      copy.threads = threads;
      *session = new hob_session(*model->model, copy);
    });
  });
}

void hob_session_free(hob_session* session) { delete session; }

hob_status hob_session_eval(hob_session* session, const int32_t* tokens, size_t count,
                            float* logits) {
  return Guard([&] {
    RequireNotNull(session, "session");
    RequireNotNull(tokens, "tokens");
    session->session.Eval({tokens, count}, logits);
  });
}

hob_status hob_session_logits(const hob_session* session, const float** logits) {
  return Guard([&] {
    RequireNotNull(session, "session");
    RequireNotNull(logits, "logits");
    *logits = session->session.Logits().data();
  });
}

size_t hob_session_position(const hob_session* session) {
  return session == nullptr ? 0 : session->session.position();
}

hob_status hob_session_rewind(hob_session* session, size_t position) {
  return Guard([&] {
    RequireNotNull(session, "session");
    session->session.Rewind(position);
  });
}

hob_status hob_session_reuse(hob_session* session, const int32_t* tokens, size_t count,
                             size_t* kept) {
  return Guard([&] {
    RequireNotNull(session, "session");
    RequireNotNull(tokens, "tokens");
    RequireNotNull(kept, "kept");
    *kept = session->session.Reuse({tokens, count});
  });
}

hob_status hob_session_describe(const hob_session* session, hob_session_info* info) {
  return Guard([&] {
    RequireNotNull(session, "session");
    RequireNotNull(info, "info");
    hob::FillStruct(session->session.Describe(), "info", info);
  });
}

// ---------------------------------------------------------------- saving sessions

hob_status hob_session_save(const hob_session* session, const char* path) {
  return Guard([&] {
    RequireNotNull(session, "session");
    RequireNotNull(path, "path");
    session->session.Save(path);
  });
}

hob_status hob_session_restore(hob_session* session, const char* path) {
  return Guard([&] {
    RequireNotNull(session, "session");
    RequireNotNull(path, "path");
    session->session.Restore(path);
  });
}

hob_status hob_session_save_memory(const hob_session* session, void* data, size_t capacity,
                                   size_t* bytes) {
  return Guard([&] {
    RequireNotNull(session, "session");
    RequireNotNull(bytes, "bytes");
    if (capacity != 0) RequireNotNull(data, "data");
    *bytes = session->session.SavedBytes();
    if (data == nullptr) return;
    if (capacity < *bytes) {
      throw Error(HOB_ERROR_ARGUMENT, "capacity is " + std::to_string(capacity) +
                                          ", expected at least " + std::to_string(*bytes));
    }
    session->session.SaveTo({static_cast<uint8_t*>(data), *bytes});
  });
}

hob_status hob_session_restore_memory(hob_session* session, const void* data, size_t bytes) {
  return Guard([&] {
    RequireNotNull(session, "session");
    if (bytes != 0) RequireNotNull(data, "data");
    session->session.RestoreFrom({static_cast<const uint8_t*>(data), bytes});
  });
}

// ---------------------------------------------------------------- sampling

hob_status hob_session_sampler(hob_session* session, const hob_sampler_options* options) {
  return Guard([&] {
    RequireNotNull(session, "session");
    RequireNotNull(options, "options");
    session->session.SetSampler(CopyStruct(options, "options"));
  });
}

hob_status hob_session_sample(hob_session* session, int32_t* token) {
  return Guard([&] {
    RequireNotNull(session, "session");
    RequireNotNull(token, "token");
    *token = session->session.Sample();
  });
}

hob_status hob_session_text(hob_session* session, int32_t token, const char** text, size_t* bytes) {
  return Guard([&] {
    RequireNotNull(session, "session");
    RequireNotNull(text, "text");
    RequireNotNull(bytes, "bytes");
    const std::string_view ready = session->session.Text(token);
    *text = ready.data();
    *bytes = ready.size();
  });
}

// ---------------------------------------------------------------- files

hob_status hob_quantize_file(const char* in_path, const char* out_path, const char* format,
                             const hob_quantize_options* options) {
  return Guard([&] {
    RequireNotNull(in_path, "in_path");
    RequireNotNull(out_path, "out_path");
    RequireNotNull(format, "format");
    hob_quantize_options copy = CopyStruct(options, "options");
    hob::WithThreads(copy.threads, [&](const hob_threads* threads) {
      copy.threads = threads;
      hob::QuantizeFile(in_path, out_path, format, copy);
    });
  });
}

size_t hob_mixes(const char** names, size_t capacity) {
  const auto mixes = hob::Mixes();
  for (size_t i = 0; names != nullptr && i < std::min(capacity, mixes.size()); ++i) {
    names[i] = mixes[i].name.data();  // a literal, so it ends with a zero
  }
  return mixes.size();
}

}  // extern "C"
