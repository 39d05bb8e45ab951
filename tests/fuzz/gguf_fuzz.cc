// Any bytes as a GGUF file: read, shown as `hob info` does, loaded as a model, and evaluated.
#include <algorithm>
#include <exception>
#include <string>
#include <vector>

#include "hob/model.h"
#include "runtime/error.h"
#include "runtime/gguf.h"
#include "tests/fuzz/fuzz.h"

namespace {

using hob::fuzz::Require;

// Everything that the reader can be asked, for each value and tensor.
void LookAt(const hob::Gguf& file) {
  const auto ask = [](auto question) {
    try {
      question();
    } catch (const hob::Error&) {
    }
  };
  for (const hob::GgufValue& value : file.values()) {
    Require(hob::Gguf::ValueText(value).find('\n') == std::string::npos, "values are one line");
    Require(file.Find(value.key) != nullptr, "a key is found");
    ask([&] { file.GetU32(value.key); });
    ask([&] { file.GetF32(value.key); });
    ask([&] { file.GetBool(value.key); });
    ask([&] { file.GetString(value.key); });
    ask([&] { file.GetI32Array(value.key); });
    ask([&] { file.GetF32Array(value.key); });
    ask([&] { file.GetStringArray(value.key); });
  }
  for (const hob::GgufTensor& tensor : file.tensors()) {
    ask([&] {
      // All of it can be read.
      const std::span<const uint8_t> bytes = file.Data(tensor);
      const std::vector<uint8_t> copy(bytes.begin(), bytes.end());
      file.DropPages(tensor);
      Require(std::equal(copy.begin(), copy.end(), bytes.begin()), "data stay what they are");
    });
  }
}

// A model that loads can be used.
void Use(const hob_model* model) {
  hob_model_info info = {};
  info.struct_size = sizeof(info);
  Require(hob_model_describe(model, &info) == HOB_OK, "a model describes itself");
  constexpr size_t kMostWidth = 1 << 16;  // keeps a run short
  if (info.width > kMostWidth || info.vocabulary > kMostWidth || info.feed_forward > kMostWidth) {
    return;
  }
  int32_t tokens[8] = {};
  size_t count = 0;
  const char text[] = "ab c\xff";
  if (hob_tokenize(model, text, sizeof(text) - 1, 0, tokens, 8, &count) != HOB_OK) return;
  hob_session_options options = {};
  options.struct_size = sizeof(options);
  options.context = std::min<size_t>(info.context, 16);
  options.batch = 4;
  hob_session* session = nullptr;
  if (hob_session_create(model, &options, &session) == HOB_OK) {
    count = std::min<size_t>({count, 8, options.context});
    if (hob_session_eval(session, tokens, count, nullptr) == HOB_OK) {
      int32_t next = -1;
      Require(hob_session_sample(session, &next) == HOB_OK, "what was evaluated can be sampled");
      Require(next >= 0 && static_cast<size_t>(next) < info.vocabulary, "a sample is a token");
      const char* piece = nullptr;
      size_t bytes = 0;
      Require(hob_session_text(session, next, &piece, &bytes) == HOB_OK, "a token has a text");
    }
  }
  hob_session_free(session);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::span<const uint8_t> bytes(data, size);
  try {
    LookAt(hob::Gguf::FromMemory(bytes));
  } catch (const hob::Error&) {
  }
  hob_model_options options = {};
  options.struct_size = sizeof(options);
  for (const int vocabulary_only : {1, 0}) {
    options.vocabulary_only = vocabulary_only;
    hob_model* model = nullptr;
    const hob_status status = hob_model_load_memory(data, size, &options, &model);
    Require((status == HOB_OK) == (model != nullptr), "a model, or an error");
    Require(status == HOB_OK || *hob_status_message() != '\0', "an error says what was wrong");
    Require(status != HOB_ERROR_INTERNAL, "no internal error");
    if (model != nullptr && vocabulary_only == 0) Use(model);
    hob_model_free(model);
  }
  return 0;
}
