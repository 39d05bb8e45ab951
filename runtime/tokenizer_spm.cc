// SentencePiece BPE (Kudo and Richardson, "SentencePiece", 2018), as Llama 2, Gemma and TinyStories
// models have it. Every space of the text becomes U+2581; then neighbouring pieces are merged as
// long as the result is in the vocabulary, best score first. Characters that the vocabulary lacks
// become the tokens <0x00> to <0xFF> of their bytes.
#include <charconv>
#include <cmath>
#include <string>

#include "runtime/error.h"
#include "runtime/tokenizer_impl.h"
#include "runtime/unicode.h"

namespace hob {
namespace {

constexpr std::string_view kSpace = "\xE2\x96\x81";  // U+2581

// The byte that a token spelled <0xNN> stands for, or -1.
int ByteOf(std::string_view text) {
  if (text.size() != 6 || !text.starts_with("<0x") || text.back() != '>') return -1;
  int byte = -1;
  const char* const end = text.data() + 5;
  const auto result = std::from_chars(text.data() + 3, end, byte, 16);
  return result.ec == std::errc() && result.ptr == end ? byte : -1;
}

std::string Replace(std::string_view text, std::string_view from, std::string_view to) {
  std::string out;
  for (size_t at = 0; at < text.size();) {
    const size_t found = std::min(text.find(from, at), text.size());
    out += text.substr(at, found - at);
    if (found < text.size()) out += to;
    at = found + from.size();
  }
  return out;
}

class SpmTokenizer final : public Tokenizer {
 public:
  explicit SpmTokenizer(const Gguf& file) : Tokenizer(file, LlamaDefaults()) {
    constexpr std::string_view kScores = "tokenizer.ggml.scores";
    scores_ = file.GetF32Array(kScores);
    if (scores_.size() != static_cast<size_t>(size())) {
      file.Fail(HOB_ERROR_FILE, std::string(kScores) + " has " + std::to_string(scores_.size()) +
                                    " elements, expected " + std::to_string(size()) +
                                    ", one for each token");
    }
    for (int32_t id = 0; id < size(); ++id) {
      if (std::isnan(scores_[static_cast<size_t>(id)])) {
        file.Fail(HOB_ERROR_FILE, "the score of token " + std::to_string(id) + " is not a number");
      }
      const int byte = Type(id) == TokenType::kByte ? ByteOf(Text(id)) : -1;
      if (byte >= 0) byte_ids_[static_cast<size_t>(byte)] = id;
    }
    DecodePieces([this](int32_t id, std::string_view text, std::string* out) {
      const int byte = Type(id) == TokenType::kByte ? ByteOf(text) : -1;
      *out = byte >= 0 ? std::string(1, static_cast<char>(byte)) : Replace(text, kSpace, " ");
    });
  }

 private:
  static Defaults LlamaDefaults() {
    Defaults defaults;
    defaults.bos = 1;
    defaults.eos = 2;
    defaults.unknown = 0;
    defaults.add_bos = true;
    defaults.add_leading_space = true;
    return defaults;
  }

  void EncodePlain(std::string_view text, std::vector<int32_t>* out) const override {
    const std::string spaced =
        (adds_leading_space() ? std::string(kSpace) : std::string()) + Replace(text, " ", kSpace);
    const std::string_view view = spaced;
    std::vector<Symbol> symbols;
    symbols.reserve(view.size());
    for (size_t at = 0; at < view.size(); at += symbols.back().bytes) {
      const Utf8Step step = NextUtf8(view.substr(at));
      const size_t bytes = step.kind == Utf8Step::kValid ? step.bytes : 1;
      symbols.push_back({at, bytes, Lookup(view.substr(at, bytes))});
    }
    MergeSymbols(&symbols, [&](const Symbol& left, const Symbol& right) -> std::optional<Merge> {
      const int32_t id = Lookup(view.substr(left.begin, left.bytes + right.bytes));
      if (id < 0) return std::nullopt;
      return Merge{-scores_[static_cast<size_t>(id)], id};
    });
    for (const Symbol& symbol : symbols) {
      if (symbol.id >= 0) {
        out->push_back(symbol.id);
      } else {
        EncodeBytes(view.substr(symbol.begin, symbol.bytes), out);
      }
    }
  }

  std::vector<float> scores_;
};

}  // namespace

std::unique_ptr<Tokenizer> CreateSpmTokenizer(const Gguf& file) {
  return std::make_unique<SpmTokenizer>(file);
}

}  // namespace hob
