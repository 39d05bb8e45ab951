// Writes the seeds of the fuzz targets: make_fuzz_corpus tests/fuzz/corpus
// What the fuzzers found is added beside them by hand, under a name that says what it was.
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>
#include <vector>

#include "hob/model.h"
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/micro_model.h"

namespace {

using hob::fuzz::Numbers;
using Bytes = std::vector<uint8_t>;

std::filesystem::path g_root;

void Write(const std::string& target, const std::string& name, const Bytes& bytes) {
  std::filesystem::create_directories(g_root / target);
  std::ofstream file(g_root / target / name, std::ios::binary);
  file.write(reinterpret_cast<const char*>(bytes.data()),
             static_cast<std::streamsize>(bytes.size()));
  hob::fuzz::Require(file.good(), "the corpus can be written");
}

// Targets that read their input as choices: a byte that chooses the call, then any bytes.
void WriteChoices(const std::string& target, size_t calls, size_t each, size_t bytes) {
  for (size_t call = 0; call < calls; ++call) {
    for (size_t i = 0; i < each; ++i) {
      Numbers numbers(call * 1000 + i);
      Bytes input(bytes);
      for (uint8_t& byte : input) byte = static_cast<uint8_t>(numbers.Next());
      input[0] = static_cast<uint8_t>(call);
      Write(target, "call" + std::to_string(call) + "_" + std::to_string(i), input);
    }
  }
}

void WriteTexts() {
  constexpr std::string_view kTexts[] = {
      "hello world",
      " two  spaces\n\n\ttab 12345 it's we'LL",
      "<s>hello</s><|end|><tool><|endoftext|>",
      "\xC3\xA4\xE2\x82\xAC\xF0\x9F\x99\x82 \xE2\x96\x81 e\xCC\x81",
      "broken \xC3 \xF0\x9F\x99 \xED\xA0\x80 \xFF\xFE",
      "{\"intent\":\"lights_set\",\"on\":false}",
  };
  size_t i = 0;
  for (const std::string_view text : kTexts) {
    Write("tokenizer", "text" + std::to_string(i++), Bytes(text.begin(), text.end()));
  }
}

Bytes SavedSession(hob_format format) {
  const Bytes file = hob::fuzz::MicroModel(format);
  hob_model* model = nullptr;
  hob_session* session = nullptr;
  hob::fuzz::Require(hob_model_load_memory(file.data(), file.size(), nullptr, &model) == HOB_OK &&
                         hob_session_create(model, nullptr, &session) == HOB_OK,
                     "a model loads");
  const int32_t tokens[] = {1, 4, 5};
  size_t bytes = 0;
  hob_session_eval(session, tokens, 3, nullptr);
  hob_session_save_memory(session, nullptr, 0, &bytes);
  Bytes saved(bytes);
  hob_session_save_memory(session, saved.data(), bytes, &bytes);
  hob_session_free(session);
  hob_model_free(model);
  return saved;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fprintf(stderr, "usage: %s DIRECTORY\n", argv[0]);
    return 2;
  }
  g_root = argv[1];
  Write("gguf", "q8_0", hob::fuzz::MicroModel(HOB_FORMAT_Q8_0));
  Write("gguf", "q4_0", hob::fuzz::MicroModel(HOB_FORMAT_Q4_0));
  hob::GgufWriter vocabulary;
  vocabulary.SetString("general.architecture", "none");
  hob::fuzz::AddMicroVocabulary(&vocabulary);
  Write("gguf", "vocabulary", vocabulary.WriteBytes());
  WriteTexts();
  for (const uint8_t repair : {0, 1}) {
    Bytes state = SavedSession(HOB_FORMAT_Q8_0);
    state.insert(state.begin(), repair);
    Write("session", "saved" + std::to_string(repair), state);
  }
  WriteChoices("kernels", 8, 6, 64);
  WriteChoices("c_api", 10, 5, 160);
  return 0;
}
