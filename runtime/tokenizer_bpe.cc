// Byte-level BPE (Radford et al., "Language Models are Unsupervised Multitask Learners", 2019). A
// pattern splits the text into words; the bytes of a word are its first symbols, each spelled as a
// printable character in the vocabulary; then neighbours are merged in the order of the merge list.
// A new way of splitting is a new row of kSplits.
#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <utf8proc.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <memory>
#include <numeric>
#include <optional>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "runtime/error.h"
#include "runtime/tokenizer_impl.h"
#include "runtime/unicode.h"

namespace hob {
namespace {

// ---------------------------------------------------------------- words

// In the patterns, {S} stands for the characters with Unicode's White_Space property; PCRE2's own
// \s has U+180E in addition, which lost the property long ago.
constexpr std::string_view kWhiteSpace = "\\t-\\r\\x{85}\\p{Z}";

constexpr char kGpt2[] =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^{S}\p{L}\p{N}]+|[{S}]+(?![^{S}])|[{S}]+)";
constexpr char kLlama3[] = R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3})"
                           R"(| ?[^{S}\p{L}\p{N}]+[\r\n]*|[{S}]*[\r\n]+|[{S}]+(?![^{S}])|[{S}]+)";
// Llama 3's with digits one by one.
constexpr char kQwen2[] = R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N})"
                          R"(| ?[^{S}\p{L}\p{N}]+[\r\n]*|[{S}]*[\r\n]+|[{S}]+(?![^{S}])|[{S}]+)";
// Digits are taken out one by one first, then GPT-2's pattern splits what is between them; so to
// it, white space before a digit is white space at the end.
constexpr char kSmolLm[] =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+|\p{N}| ?[^{S}\p{L}\p{N}]+|[{S}]+(?![^{S}\p{N}])|[{S}]+)";

struct Split {
  std::string_view name;  // in tokenizer.ggml.pre
  const char* pattern;
  bool normalize;    // to Unicode's NFC first
  bool whole_words;  // a word that is a token is this token, whatever merging would give
  bool add_bos;      // if the file does not say
};
constexpr Split kSplits[] = {
    {"gpt-2", kGpt2, false, false, false},     {"default", kGpt2, false, false, false},
    {"llama-bpe", kLlama3, false, true, true}, {"llama3", kLlama3, false, true, true},
    {"llama-v3", kLlama3, false, true, true},  {"qwen2", kQwen2, true, false, false},
    {"smollm", kSmolLm, false, false, false},
};

const Split& ReadSplit(const Gguf& file) {
  constexpr std::string_view kKey = "tokenizer.ggml.pre";
  const std::string_view name = file.GetString(kKey, "default");
  std::string known;
  for (const Split& split : kSplits) {
    if (split.name == name) return split;
    known += (known.empty() ? "" : ", ") + std::string(split.name);
  }
  file.Fail(HOB_ERROR_UNSUPPORTED,
            std::string(kKey) + " " + Quoted(name) + " is not supported, expected one of " + known);
}

std::string PcreMessage(int code) {
  PCRE2_UCHAR8 text[256];
  pcre2_get_error_message(code, text, sizeof(text));
  return reinterpret_cast<const char*>(text);
}

// A compiled pattern that cuts text into words.
class WordPattern {
 public:
  explicit WordPattern(std::string_view pattern) {
    std::string expanded(pattern);
    constexpr std::string_view kPlaceholder = "{S}";
    for (size_t at = 0; (at = expanded.find(kPlaceholder, at)) != std::string::npos;) {
      expanded.replace(at, kPlaceholder.size(), kWhiteSpace);
    }
    int error = 0;
    PCRE2_SIZE offset = 0;
    code_.reset(pcre2_compile(reinterpret_cast<PCRE2_SPTR>(expanded.data()), expanded.size(),
                              PCRE2_UTF | PCRE2_UCP, &error, &offset, nullptr));
    if (code_ == nullptr) {
      throw Error(HOB_ERROR_UNSUPPORTED,
                  "PCRE2 does not compile the tokenizer's pattern (it needs "
                  "Unicode support): " +
                      PcreMessage(error));
    }
    // Only for speed: a PCRE2 without it interprets the pattern.
    pcre2_jit_compile(code_.get(), PCRE2_JIT_COMPLETE);
  }

  // Calls visit(word) for the words of `text`, which must be valid UTF-8, in order and without
  // gaps.
  template <typename Visitor>
  void ForEachWord(std::string_view text, const Visitor& visit) const {
    const std::unique_ptr<pcre2_match_data, FreeMatch> match(
        pcre2_match_data_create_from_pattern(code_.get(), nullptr));
    if (match == nullptr)
      throw Error(HOB_ERROR_MEMORY, "no memory to match the tokenizer's pattern");
    size_t at = 0;
    while (at < text.size()) {
      const auto [begin, end] = Find(text, at, match.get());
      // The patterns leave no character out; should one do so, it becomes a word of its own.
      if (begin > at) visit(text.substr(at, begin - at));
      if (end > begin) visit(text.substr(begin, end - begin));
      at = end;
    }
  }

 private:
  struct FreeCode {
    void operator()(pcre2_code* code) const { pcre2_code_free(code); }
  };
  struct FreeMatch {
    void operator()(pcre2_match_data* match) const { pcre2_match_data_free(match); }
  };

  // The next match at or behind `at`; the end of the text if there is none.
  std::pair<size_t, size_t> Find(std::string_view text, size_t at, pcre2_match_data* match) const {
    const auto run = [&](uint32_t options) {
      // Without the repeated check of all of the text, which would make this quadratic.
      return pcre2_match(code_.get(), reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(), at,
                         options | PCRE2_NO_UTF_CHECK | PCRE2_NOTEMPTY, match, nullptr);
    };
    int result = run(0);
    // The interpreter takes its memory from the heap.
    if (result == PCRE2_ERROR_JIT_STACKLIMIT) result = run(PCRE2_NO_JIT);
    if (result == PCRE2_ERROR_NOMATCH) return {text.size(), text.size()};
    if (result < 0) {
      throw Error(HOB_ERROR_INTERNAL, "the tokenizer's pattern failed at byte " +
                                          std::to_string(at) + " of a text of " +
                                          std::to_string(text.size()) +
                                          " bytes: " + PcreMessage(result));
    }
    const PCRE2_SIZE* ends = pcre2_get_ovector_pointer(match);
    return {ends[0], ends[1]};
  }

  std::unique_ptr<pcre2_code, FreeCode> code_;
};

// ---------------------------------------------------------------- normalization

// Puts runs of combining marks into canonical order. utf8proc does so too, but in quadratic time,
// so that a text made of nothing but marks would take minutes.
void OrderMarks(std::string_view text, std::string* out) {
  std::vector<std::tuple<int, size_t, char32_t>> marks;  // combining class, position, character
  const auto flush = [&] {
    std::sort(marks.begin(), marks.end());
    for (const auto& mark : marks) AppendUtf8(std::get<char32_t>(mark), out);
    marks.clear();
  };
  for (size_t at = 0; at < text.size();) {
    const Utf8Step step = NextUtf8(text.substr(at));
    const auto character = static_cast<utf8proc_int32_t>(step.character);
    const int combining_class = utf8proc_get_property(character)->combining_class;
    if (combining_class == 0) {
      flush();
      *out += text.substr(at, step.bytes);
    } else {
      marks.emplace_back(combining_class, at, step.character);
    }
    at += step.bytes;
  }
  flush();
}

// Unicode's normalization form C of valid UTF-8.
std::string Normalize(std::string_view text) {
  const auto is_ascii = [](char c) { return static_cast<unsigned char>(c) < 0x80; };
  if (std::all_of(text.begin(), text.end(), is_ascii)) return std::string(text);
  std::string ordered;
  OrderMarks(text, &ordered);
  utf8proc_uint8_t* composed = nullptr;
  const utf8proc_ssize_t bytes =
      utf8proc_map(reinterpret_cast<const utf8proc_uint8_t*>(ordered.data()),
                   static_cast<utf8proc_ssize_t>(ordered.size()), &composed,
                   static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_COMPOSE));
  const std::unique_ptr<utf8proc_uint8_t, decltype(&std::free)> owner(composed, &std::free);
  if (bytes < 0) {
    throw Error(bytes == UTF8PROC_ERROR_NOMEM ? HOB_ERROR_MEMORY : HOB_ERROR_INTERNAL,
                std::string("Unicode normalization failed: ") + utf8proc_errmsg(bytes));
  }
  return {reinterpret_cast<const char*>(composed), static_cast<size_t>(bytes)};
}

// ---------------------------------------------------------------- bytes as characters

// The vocabulary spells every byte as one printable character: those that are printable in Latin-1
// as themselves, the others as U+0100 and up, in order.
class ByteAlphabet {
 public:
  ByteAlphabet() {
    char32_t next = 0x100;
    for (char32_t byte = 0; byte < 256; ++byte) {
      const bool printable = (byte > 0x20 && byte < 0x7F) || (byte > 0xA0 && byte != 0xAD);
      characters_[byte] = printable ? byte : next++;
    }
    bytes_.fill(-1);
    for (size_t byte = 0; byte < 256; ++byte) bytes_[characters_[byte]] = static_cast<int>(byte);
  }

  std::string Spelling(size_t byte) const {
    std::string text;
    AppendUtf8(characters_[byte], &text);
    return text;
  }

  // The bytes that `text` spells. A text with other characters, such as a token that was added to
  // the vocabulary later, stands for itself.
  std::string Decode(std::string_view text) const {
    std::string out;
    for (size_t at = 0; at < text.size();) {
      const Utf8Step step = NextUtf8(text.substr(at));
      const bool known = step.kind == Utf8Step::kValid && step.character < bytes_.size();
      const int byte = known ? bytes_[step.character] : -1;
      if (byte < 0) return std::string(text);
      out += static_cast<char>(byte);
      at += step.bytes;
    }
    return out;
  }

 private:
  std::array<char32_t, 256> characters_;
  std::array<int, 0x200> bytes_;  // by character; -1 = none
};

// ---------------------------------------------------------------- merges

// What two neighbours become. The merges of a left token lie side by side, sorted by the right one:
// a fraction of the memory, and of the time to fill it, that a hash map would take.
class MergeTable {
 public:
  struct Entry {
    int32_t left, right;
    Merge merge;
  };

  // Of several entries for a pair the one of the smallest priority counts.
  MergeTable(size_t tokens, const std::vector<Entry>& entries)
      : begins_(tokens + 1), rows_(entries.size()) {
    for (const Entry& entry : entries) ++begins_[static_cast<size_t>(entry.left) + 1];
    std::partial_sum(begins_.begin(), begins_.end(), begins_.begin());
    std::vector<uint32_t> next(begins_.begin(), begins_.end() - 1);
    for (const Entry& entry : entries) {
      rows_[next[static_cast<size_t>(entry.left)]++] = {entry.right, entry.merge};
    }
    for (size_t left = 0; left < tokens; ++left) {
      std::sort(rows_.begin() + begins_[left], rows_.begin() + begins_[left + 1],
                [](const Row& a, const Row& b) {
                  return std::pair(a.right, a.merge.priority) <
                         std::pair(b.right, b.merge.priority);
                });
    }
  }

  // For ids of tokens, or -1.
  std::optional<Merge> Find(int32_t left, int32_t right) const {
    if (left < 0) return std::nullopt;
    const auto end = rows_.begin() + begins_[static_cast<size_t>(left) + 1];
    const auto found =
        std::lower_bound(rows_.begin() + begins_[static_cast<size_t>(left)], end, right,
                         [](const Row& row, int32_t id) { return row.right < id; });
    if (found == end || found->right != right) return std::nullopt;
    return found->merge;
  }

 private:
  struct Row {
    int32_t right;
    Merge merge;
  };
  std::vector<uint32_t> begins_;  // of each left token's in rows_; one more
  std::vector<Row> rows_;
};

// ---------------------------------------------------------------- tokenizer

class BpeTokenizer final : public Tokenizer {
 public:
  explicit BpeTokenizer(const Gguf& file) : BpeTokenizer(file, ReadSplit(file)) {}

 private:
  BpeTokenizer(const Gguf& file, const Split& split)
      : Tokenizer(file, SplitDefaults(split)), split_(split), pattern_(split.pattern) {
    for (size_t byte = 0; byte < byte_ids_.size(); ++byte) {
      byte_ids_[byte] = Lookup(alphabet_.Spelling(byte));
    }
    DecodePieces([this](int32_t, std::string_view text, std::string* out) {
      *out = alphabet_.Decode(text);
    });
    merges_.emplace(static_cast<size_t>(size()), ReadMerges(file));
  }

  static Defaults SplitDefaults(const Split& split) {
    Defaults defaults;
    defaults.add_bos = split.add_bos;
    return defaults;
  }

  std::vector<MergeTable::Entry> ReadMerges(const Gguf& file) const {
    constexpr std::string_view kKey = "tokenizer.ggml.merges";
    const std::vector<std::string_view> lines = file.GetStringArray(kKey);
    std::vector<MergeTable::Entry> entries;
    entries.reserve(lines.size());
    std::string joined;
    for (size_t rank = 0; rank < lines.size(); ++rank) {
      const std::string_view line = lines[rank];
      const size_t space = line.find(' ');
      if (space == std::string_view::npos) {
        file.Fail(HOB_ERROR_FILE, std::string(kKey) + " has the entry " + Quoted(line) +
                                      ", expected two tokens with a space between them");
      }
      const std::string_view left = line.substr(0, space);
      const std::string_view right = line.substr(space + 1);
      joined.assign(left).append(right);
      const int32_t left_id = Lookup(left);
      const int32_t right_id = Lookup(right);
      const int32_t id = Lookup(joined);
      if (left_id < 0 || right_id < 0 || id < 0) {
        file.Fail(HOB_ERROR_FILE, std::string(kKey) + " has the entry " + Quoted(line) +
                                      ", expected two tokens whose union is a token");
      }
      entries.push_back({left_id, right_id, {static_cast<float>(rank), id}});
    }
    return entries;
  }

  void EncodePlain(std::string_view text, std::vector<int32_t>* out) const override {
    while (!text.empty()) {
      const size_t valid = ValidUtf8Prefix(text);
      if (valid > 0) {
        EncodeValid(text.substr(0, valid), out);
      } else {
        EncodeWord(text.substr(0, 1), out);
      }
      text.remove_prefix(std::max<size_t>(valid, 1));
    }
  }

  void EncodeValid(std::string_view text, std::vector<int32_t>* out) const {
    const auto encode_word = [&](std::string_view word) { EncodeWord(word, out); };
    if (split_.normalize) {
      pattern_.ForEachWord(Normalize(text), encode_word);
    } else {
      pattern_.ForEachWord(text, encode_word);
    }
  }

  void EncodeWord(std::string_view word, std::vector<int32_t>* out) const {
    if (split_.whole_words) {
      const int32_t id = Whole(word);
      if (id >= 0) return out->push_back(id);
    }
    std::vector<Symbol> symbols;
    symbols.reserve(word.size());
    for (size_t i = 0; i < word.size(); ++i) {
      symbols.push_back({i, 1, byte_ids_[static_cast<uint8_t>(word[i])]});
    }
    MergeSymbols(&symbols, [this](const Symbol& left, const Symbol& right) {
      return merges_->Find(left.id, right.id);
    });
    for (const Symbol& symbol : symbols) {
      if (symbol.id >= 0) {
        out->push_back(symbol.id);
      } else {
        EncodeBytes(word.substr(symbol.begin, symbol.bytes), out);
      }
    }
  }

  // The token that is all of a word, or -1.
  int32_t Whole(std::string_view word) const {
    std::string spelling;
    for (const char byte : word) spelling += alphabet_.Spelling(static_cast<uint8_t>(byte));
    return Lookup(spelling);
  }

  const Split& split_;
  WordPattern pattern_;
  ByteAlphabet alphabet_;
  std::optional<MergeTable> merges_;
};

}  // namespace

std::unique_ptr<Tokenizer> CreateBpeTokenizer(const Gguf& file) {
  return std::make_unique<BpeTokenizer>(file);
}

}  // namespace hob
