// Any bytes as text, with the vocabulary of the default model and synthetic ones of both kinds:
// what Encode gives are tokens, and nothing of the text is lost. And any ids as tokens: what comes
// out is valid UTF-8.
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/default_model/default_model.h"
#include "runtime/tokenizer.h"
#include "runtime/unicode.h"
#include "tests/fuzz/fuzz.h"
#include "tests/test_files.h"

namespace {

using hob::Tokenizer;
using hob::fuzz::Require;

struct Vocabulary {
  std::unique_ptr<Tokenizer> tokenizer;
  bool spm;         // SentencePiece, which writes spaces as U+2581
  bool normalizes;  // composes Unicode characters first
};

std::vector<Vocabulary> MakeVocabularies() {
  std::vector<Vocabulary> all;
  hob::GgufWriter spm;
  hob::test::AddSpmVocabulary(&spm);
  const auto add = [&](const std::vector<uint8_t>& bytes, bool is_spm, bool normalizes) {
    all.push_back({Tokenizer::Create(hob::Gguf::FromMemory(bytes)), is_spm, normalizes});
  };
  add(spm.WriteBytes(), true, false);
  for (const std::string pre : {"gpt-2", "llama-bpe", "qwen2"}) {
    hob::GgufWriter bpe;
    hob::test::AddBpeVocabulary(&bpe, pre);
    add(bpe.WriteBytes(), false, pre == "qwen2");
  }
  if (!hob::DefaultModelBytes().empty()) {
    const hob::Gguf file = hob::Gguf::FromMemory(hob::DefaultModelBytes());
    all.push_back(
        {Tokenizer::Create(file), file.GetString("tokenizer.ggml.model") == "llama", false});
  }
  return all;
}

std::string Pieces(const Tokenizer& tokenizer, const std::vector<int32_t>& ids) {
  std::string text;
  for (const int32_t id : ids) text += tokenizer.Piece(id);
  return text;
}

void EncodeAndBack(const Vocabulary& vocabulary, std::string_view text) {
  const Tokenizer& tokenizer = *vocabulary.tokenizer;
  for (const bool special : {false, true}) {
    const auto ids =
        tokenizer.Encode(text, {.add_bos = special, .add_eos = special, .parse_special = special});
    for (const int32_t id : ids) Require(id >= 0 && id < tokenizer.size(), "Encode gives tokens");
    if (special || vocabulary.normalizes) continue;  // control tokens have no bytes
    if (vocabulary.spm && text.find("\xE2\x96\x81") != std::string_view::npos) continue;
    std::string back = Pieces(tokenizer, ids), given(text);
    if (tokenizer.adds_leading_space()) {  // and behind every user-defined token another one
      std::erase(back, ' ');
      std::erase(given, ' ');
    }
    Require(back == given, "Encode loses nothing");
  }
}

void Decode(const Tokenizer& tokenizer, const uint8_t* data, size_t size) {
  hob::fuzz::Input input(data, size);
  hob::StreamDecoder decoder(tokenizer, input.Flag(), input.Flag());
  std::string text;
  while (!input.empty()) {
    const auto id = static_cast<int32_t>(input.Take<uint16_t>());
    // Mostly tokens, sometimes ids that are none.
    const std::string part = decoder.Push(id % 16 == 15 ? id - 40000 : id % tokenizer.size());
    Require(hob::ValidUtf8Prefix(part) == part.size(), "every part is valid UTF-8");
    text += part;
  }
  text += decoder.Flush();
  Require(hob::ValidUtf8Prefix(text) == text.size(), "the whole is valid UTF-8");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const auto* vocabularies = new std::vector<Vocabulary>(MakeVocabularies());
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  for (const Vocabulary& vocabulary : *vocabularies) {
    EncodeAndBack(vocabulary, text);
    Decode(*vocabulary.tokenizer, data, size);
  }
  return 0;
}
