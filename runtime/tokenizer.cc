// What all kinds of tokenizers share: the vocabulary's tables, special tokens in text, streaming.
// How plain text becomes tokens is in tokenizer_spm.cc and tokenizer_bpe.cc. See tokenizer.h.
#include "runtime/tokenizer.h"

#include <algorithm>
#include <bit>
#include <functional>
#include <limits>
#include <utility>

#include "runtime/error.h"
#include "runtime/tokenizer_impl.h"
#include "runtime/unicode.h"

namespace hob {
namespace {

constexpr std::string_view kTokensKey = "tokenizer.ggml.tokens";
constexpr std::string_view kTypesKey = "tokenizer.ggml.token_type";

// Spellings of control tokens that end a text, a turn or a message in well-known models, for files
// that do not name the id.
constexpr std::string_view kEndSpellings[] = {"<|endoftext|>", "<|end_of_text|>", "<|im_end|>",
                                              "<|end|>",       "<|eot_id|>",      "<|eom_id|>",
                                              "<|eot|>",       "<end_of_turn>",   "<eos>"};

// An id of the metadata; -1 if the file says "none", which some do with the largest 32-bit number.
int32_t ReadId(const Gguf& file, std::string_view key, int32_t fallback, int32_t size) {
  if (file.Find(key) == nullptr) return fallback < size ? fallback : -1;
  const uint32_t id = file.GetU32(key);
  if (id == std::numeric_limits<uint32_t>::max()) return -1;
  if (id >= static_cast<uint32_t>(size)) {
    file.Fail(HOB_ERROR_FILE, std::string(key) + " is " + std::to_string(id) +
                                  ", expected an id of the " + std::to_string(size) + " tokens");
  }
  return static_cast<int32_t>(id);
}

}  // namespace

std::unique_ptr<Tokenizer> Tokenizer::Create(const Gguf& file) {
  constexpr std::string_view kKey = "tokenizer.ggml.model";
  const std::string_view model = file.GetString(kKey);
  if (model == "llama") return CreateSpmTokenizer(file);
  if (model == "gpt2") return CreateBpeTokenizer(file);
  file.Fail(HOB_ERROR_UNSUPPORTED, std::string(kKey) + " " + Quoted(model) +
                                       (model == "bert" ? " (WordPiece)" : "") +
                                       " is not supported, expected llama (SentencePiece BPE) or "
                                       "gpt2 (byte-level BPE)");
}

// ---------------------------------------------------------------- tables

void Tokenizer::StringTable::Reserve(size_t strings, size_t bytes) {
  begins_.reserve(strings + 1);
  bytes_.reserve(bytes);
}

void Tokenizer::StringTable::Add(std::string_view text) {
  bytes_ += text;
  begins_.push_back(bytes_.size());
}

std::string_view Tokenizer::StringTable::operator[](size_t i) const {
  return std::string_view(bytes_).substr(begins_[i], begins_[i + 1] - begins_[i]);
}

Tokenizer::Tokenizer(const Gguf& file, const Defaults& defaults) {
  byte_ids_.fill(-1);
  const std::vector<std::string_view> texts = file.GetStringArray(kTokensKey);
  if (texts.empty()) file.Fail(HOB_ERROR_FILE, std::string(kTokensKey) + " is empty");
  size_t bytes = 0;
  for (const std::string_view text : texts) bytes += text.size();
  texts_.Reserve(texts.size(), bytes);
  for (const std::string_view text : texts) texts_.Add(text);
  types_.resize(texts.size(), TokenType::kNormal);
  ReadSpecialIds(file, defaults);
  ReadTypes(file);
  IndexTokens();
  adds_leading_space_ =
      defaults.add_leading_space && file.GetBool("tokenizer.ggml.add_space_prefix", true);
}

void Tokenizer::ReadSpecialIds(const Gguf& file, const Defaults& defaults) {
  bos_ = ReadId(file, "tokenizer.ggml.bos_token_id", defaults.bos, size());
  eos_ = ReadId(file, "tokenizer.ggml.eos_token_id", defaults.eos, size());
  unknown_ = ReadId(file, "tokenizer.ggml.unknown_token_id", defaults.unknown, size());
  const int32_t eot = ReadId(file, "tokenizer.ggml.eot_token_id", -1, size());
  const int32_t eom = ReadId(file, "tokenizer.ggml.eom_token_id", -1, size());
  for (const int32_t id : {eos_, eot, eom}) {
    if (id >= 0) ends_.push_back(id);
  }
  const auto read_wish = [&](std::string_view key, bool fallback, int32_t id) {
    const bool wanted = file.GetBool(key, fallback);
    if (wanted && id < 0 && file.Find(key) != nullptr) {
      file.Fail(HOB_ERROR_FILE, std::string(key) + " is true, but the file names no such token");
    }
    return wanted && id >= 0;
  };
  wants_bos_ = read_wish("tokenizer.ggml.add_bos_token", defaults.add_bos, bos_);
  wants_eos_ = read_wish("tokenizer.ggml.add_eos_token", false, eos_);
}

void Tokenizer::ReadTypes(const Gguf& file) {
  if (file.Find(kTypesKey) == nullptr) {
    // The ids that the file names are all that is known to be special.
    for (const int32_t id : {bos_, eos_}) {
      if (id >= 0) types_[static_cast<size_t>(id)] = TokenType::kControl;
    }
    return;
  }
  const std::vector<int32_t> types = file.GetI32Array(kTypesKey);
  if (types.size() != types_.size()) {
    file.Fail(HOB_ERROR_FILE, std::string(kTypesKey) + " has " + std::to_string(types.size()) +
                                  " elements, expected " + std::to_string(types_.size()) +
                                  ", one for each token");
  }
  for (size_t i = 0; i < types.size(); ++i) {
    if (types[i] < 0 || types[i] > static_cast<int32_t>(TokenType::kByte)) {
      file.Fail(HOB_ERROR_FILE, "token " + std::to_string(i) + " has the type " +
                                    std::to_string(types[i]) + ", expected 0 to 6");
    }
    types_[i] = static_cast<TokenType>(types[i]);
  }
}

bool Tokenizer::IsPlain(int32_t id) const {
  const TokenType type = Type(id);
  return type == TokenType::kNormal || type == TokenType::kUnused || type == TokenType::kUndefined;
}

void Tokenizer::IndexTokens() {
  slots_.assign(std::bit_ceil(2 * types_.size()), -1);
  for (int32_t id = 0; id < size(); ++id) {
    const std::string_view text = Text(id);
    if (text.empty()) continue;
    if (IsPlain(id)) {
      int32_t& slot = slots_[SlotOf(text)];
      if (slot < 0) slot = id;  // of tokens with the same text, the first
      longest_text_ = std::max(longest_text_, text.size());
    } else if (Type(id) == TokenType::kControl || Type(id) == TokenType::kUserDefined) {
      specials_.push_back(id);
      begins_special_[static_cast<uint8_t>(text[0])] = true;
      const auto* known = std::find(std::begin(kEndSpellings), std::end(kEndSpellings), text);
      if (known != std::end(kEndSpellings)) ends_.push_back(id);
    }
  }
  // Of tokens with the same text, the first.
  std::sort(specials_.begin(), specials_.end(), [this](int32_t a, int32_t b) {
    return std::make_pair(Text(a), a) < std::make_pair(Text(b), b);
  });
  std::sort(ends_.begin(), ends_.end());
}

void Tokenizer::DecodePieces(
    const std::function<void(int32_t id, std::string_view text, std::string* out)>& decode) {
  size_t bytes = 0;
  for (int32_t id = 0; id < size(); ++id) bytes += Text(id).size();
  pieces_.Reserve(types_.size(), bytes);
  std::string piece;
  for (int32_t id = 0; id < size(); ++id) {
    piece = Text(id);
    if (IsPlain(id) || Type(id) == TokenType::kByte) decode(id, Text(id), &piece);
    pieces_.Add(piece);
  }
}

int32_t Tokenizer::Lookup(std::string_view text) const {
  // Hashing only what can be found keeps merging long texts linear.
  if (text.size() > longest_text_) return -1;
  return slots_[SlotOf(text)];
}

// Where the id of the plain token `text` is, or would be.
size_t Tokenizer::SlotOf(std::string_view text) const {
  const size_t mask = slots_.size() - 1;
  size_t slot = std::hash<std::string_view>()(text) & mask;
  while (slots_[slot] >= 0 && Text(slots_[slot]) != text) slot = (slot + 1) & mask;
  return slot;
}

std::string_view Tokenizer::Piece(int32_t id, bool show_special) const {
  if (id < 0 || id >= size()) return {};
  const bool hidden = Type(id) == TokenType::kControl || Type(id) == TokenType::kUnknown;
  return hidden && !show_special ? std::string_view() : pieces_[static_cast<size_t>(id)];
}

bool Tokenizer::IsEndOfText(int32_t id) const {
  return std::binary_search(ends_.begin(), ends_.end(), id);
}

// ---------------------------------------------------------------- encoding

std::vector<int32_t> Tokenizer::Encode(std::string_view text, const EncodeOptions& options) const {
  std::vector<int32_t> out;
  if (options.add_bos && wants_bos_) out.push_back(bos_);
  size_t plain = 0;  // where the text begins that has not been encoded yet
  for (size_t at = 0; at < text.size();) {
    const Match special = MatchSpecial(text.substr(at), options.parse_special);
    if (special.id < 0) {
      ++at;
      continue;
    }
    if (at > plain) EncodePlain(text.substr(plain, at - plain), &out);
    out.push_back(special.id);
    at += special.bytes;
    plain = at;
  }
  if (plain < text.size()) EncodePlain(text.substr(plain), &out);
  if (options.add_eos && wants_eos_) out.push_back(eos_);
  return out;
}

// The longest special token that `text` begins with: narrows the sorted list byte by byte to the
// tokens that agree so far, of which one that ends here comes first.
Tokenizer::Match Tokenizer::MatchSpecial(std::string_view text, bool parse_control) const {
  Match best;
  if (!begins_special_[static_cast<uint8_t>(text[0])]) return best;
  auto first = specials_.begin();
  auto last = specials_.end();
  for (size_t length = 1; length <= text.size() && first != last; ++length) {
    const auto byte = static_cast<uint8_t>(text[length - 1]);
    const auto byte_of = [&](int32_t id) { return static_cast<uint8_t>(Text(id)[length - 1]); };
    first = std::partition_point(first, last, [&](int32_t id) { return byte_of(id) < byte; });
    last = std::partition_point(first, last, [&](int32_t id) { return byte_of(id) == byte; });
    for (; first != last && Text(*first).size() == length; ++first) {
      if (best.bytes < length && (parse_control || Type(*first) == TokenType::kUserDefined)) {
        best = {*first, length};
      }
    }
  }
  return best;
}

void Tokenizer::EncodeBytes(std::string_view bytes, std::vector<int32_t>* out) const {
  const auto missing = std::find_if(bytes.begin(), bytes.end(), [this](char byte) {
    return byte_ids_[static_cast<uint8_t>(byte)] < 0;
  });
  if (missing == bytes.end()) {
    for (const char byte : bytes) out->push_back(byte_ids_[static_cast<uint8_t>(byte)]);
  } else if (unknown_ >= 0) {
    out->push_back(unknown_);
  } else {
    throw Error(HOB_ERROR_UNSUPPORTED, "the vocabulary has no token for " + Quoted(bytes) +
                                           " and no token for what is unknown");
  }
}

// ---------------------------------------------------------------- streaming

std::string StreamDecoder::Push(int32_t id) {
  std::string_view piece = tokenizer_.Piece(id, show_special_);
  if (strip_space_ && !piece.empty()) {
    strip_space_ = false;
    if (piece[0] == ' ') piece.remove_prefix(1);
  }
  pending_ += piece;
  return TakeCharacters(false);
}

std::string StreamDecoder::Flush() { return TakeCharacters(true); }

std::string StreamDecoder::TakeCharacters(bool at_end) {
  std::string out;
  std::string_view left = pending_;
  while (!left.empty()) {
    const Utf8Step step = NextUtf8(left);
    if (step.kind == Utf8Step::kPartial && !at_end) break;
    out += step.kind == Utf8Step::kValid ? left.substr(0, step.bytes) : kReplacementCharacter;
    left.remove_prefix(step.bytes);
  }
  pending_ = std::string(left);
  return out;
}

}  // namespace hob
