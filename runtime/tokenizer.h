// Text to tokens and back. Start with Tokenizer::Create, which reads the vocabulary from a GGUF
// file's metadata (of any architecture, with or without tensors); StreamDecoder turns generated
// tokens into text as they come.
//
// Kinds (key tokenizer.ggml.model), each in a file of its own:
//   "llama"  SentencePiece BPE, tokenizer_spm.cc
//   "gpt2"   byte-level BPE, tokenizer_bpe.cc; how it splits text into words is chosen by the key
//            tokenizer.ggml.pre, and a missing key means GPT-2's own way
// Others are refused by name.
//
// Text is bytes, meant to be UTF-8. Bytes that are not valid UTF-8 are never an error: each becomes
// the tokens of that byte, so that Encode loses nothing.
#ifndef HOB_RUNTIME_TOKENIZER_H_
#define HOB_RUNTIME_TOKENIZER_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/gguf.h"

namespace hob {

// Immutable once created; any number of threads may use it at the same time.
class Tokenizer {
 public:
  // Throws HOB_ERROR_UNSUPPORTED (a kind or word splitting that hob does not have, by name) or
  // HOB_ERROR_FILE (damaged metadata). The file is not needed afterwards.
  static std::unique_ptr<Tokenizer> Create(const Gguf& file);

  virtual ~Tokenizer() = default;
  Tokenizer(const Tokenizer&) = delete;
  Tokenizer& operator=(const Tokenizer&) = delete;

  struct EncodeOptions {
    bool add_bos = true;        // if the model wants one in front
    bool add_eos = true;        // if the model wants one behind
    bool parse_special = true;  // read the spelling of control tokens as these tokens
  };
  std::vector<int32_t> Encode(std::string_view text, const EncodeOptions& options) const;
  std::vector<int32_t> Encode(std::string_view text) const { return Encode(text, {}); }

  // The bytes of one token, which may be a part of a UTF-8 character; they live as long as the
  // tokenizer. Control and unknown tokens give "" unless `show_special`; so does an id that is not
  // in the vocabulary.
  std::string_view Piece(int32_t id, bool show_special = false) const;

  int32_t size() const { return static_cast<int32_t>(types_.size()); }
  int32_t bos() const { return bos_; }  // -1 = none, here and below
  int32_t eos() const { return eos_; }
  int32_t unknown() const { return unknown_; }
  bool wants_bos() const { return wants_bos_; }
  bool wants_eos() const { return wants_eos_; }

  // Whether the token ends a text, a turn or a message: those that the file names (eos, eot, eom)
  // and control tokens with a spelling that well-known models use for it.
  bool IsEndOfText(int32_t id) const;

  // Whether Encode puts a space in front of the text, which StreamDecoder takes away again.
  bool adds_leading_space() const { return adds_leading_space_; }

 protected:
  // The values of tokenizer.ggml.token_type.
  enum class TokenType : uint8_t {
    kUndefined = 0,
    kNormal = 1,
    kUnknown = 2,
    kControl = 3,      // matched in text only on request, shown only on request
    kUserDefined = 4,  // always matched in text
    kUnused = 5,
    kByte = 6
  };

  struct Defaults {
    int32_t bos = -1;
    int32_t eos = -1;
    int32_t unknown = -1;
    bool add_bos = false;
    bool add_leading_space = false;
  };

  // Reads what all kinds have in common; `defaults` stand in for keys that the file lacks.
  Tokenizer(const Gguf& file, const Defaults& defaults);

  // Appends the tokens of text without special tokens: all of it, or a part between two of them.
  virtual void EncodePlain(std::string_view text, std::vector<int32_t>* out) const = 0;

  // Fills the table behind Piece: `decode` gives the bytes of a token that is part of text. Called
  // once, by the constructor of each kind.
  void DecodePieces(
      const std::function<void(int32_t id, std::string_view text, std::string* out)>& decode);

  // The id of a token that text can consist of (not control, user defined, unknown or byte), or -1.
  int32_t Lookup(std::string_view text) const;

  std::string_view Text(int32_t id) const { return texts_[static_cast<size_t>(id)]; }
  TokenType Type(int32_t id) const { return types_[static_cast<size_t>(id)]; }

  // Appends what stands for bytes that are no token: the token of each byte if there is one for
  // each of them, else the unknown token. Throws HOB_ERROR_UNSUPPORTED if there is neither.
  void EncodeBytes(std::string_view bytes, std::vector<int32_t>* out) const;

  std::array<int32_t, 256> byte_ids_;  // the token of each byte, -1 = none; each kind fills it

 private:
  // Many strings in one block of memory.
  class StringTable {
   public:
    void Reserve(size_t strings, size_t bytes);
    void Add(std::string_view text);
    std::string_view operator[](size_t i) const;
    size_t size() const { return begins_.size() - 1; }

   private:
    std::string bytes_;
    std::vector<size_t> begins_{0};
  };

  // A special token found in a text.
  struct Match {
    int32_t id = -1;
    size_t bytes = 0;
  };

  void ReadTypes(const Gguf& file);
  void ReadSpecialIds(const Gguf& file, const Defaults& defaults);
  void IndexTokens();
  bool IsPlain(int32_t id) const;
  size_t SlotOf(std::string_view text) const;
  Match MatchSpecial(std::string_view text, bool parse_control) const;

  StringTable texts_;   // as in the file
  StringTable pieces_;  // decoded
  std::vector<TokenType> types_;
  // The ids of plain tokens by the hash of their text, or in the next free slot; -1 = free. Half of
  // the slots are, at least. A map of strings would take five times the memory.
  std::vector<int32_t> slots_;
  size_t longest_text_ = 0;                 // of plain tokens, in bytes
  std::vector<int32_t> specials_;           // control and user defined, sorted by text
  std::array<bool, 256> begins_special_{};  // by first byte
  std::vector<int32_t> ends_;               // sorted ids for IsEndOfText
  int32_t bos_ = -1;
  int32_t eos_ = -1;
  int32_t unknown_ = -1;
  bool wants_bos_ = false;
  bool wants_eos_ = false;
  bool adds_leading_space_ = false;
};

// Collects the bytes of tokens and hands out whole UTF-8 characters only, so that what comes out is
// always valid UTF-8. Bytes that can never become a character come out as U+FFFD.
class StreamDecoder {
 public:
  // `at_text_start`: the first token begins a text (or is the BOS before it), so that the space
  // which Encode puts in front is taken away. False when the tokens continue a prompt.
  explicit StreamDecoder(const Tokenizer& tokenizer, bool at_text_start = false,
                         bool show_special = false)
      : tokenizer_(tokenizer),
        strip_space_(at_text_start && tokenizer.adds_leading_space()),
        show_special_(show_special) {}

  // The text that is complete now.
  std::string Push(int32_t id);
  // The end of the text: what is left, a broken character as U+FFFD.
  std::string Flush();

 private:
  std::string TakeCharacters(bool at_end);

  const Tokenizer& tokenizer_;
  bool strip_space_;
  bool show_special_;
  std::string pending_;
};

}  // namespace hob

#endif  // HOB_RUNTIME_TOKENIZER_H_
