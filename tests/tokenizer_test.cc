// Tokenizers: tiny vocabularies made here, whose tokens can be counted by hand, and the golden
// pairs of real vocabularies where the reference data is at hand.
#include "runtime/tokenizer.h"

#include <gtest/gtest.h>

#include <chrono>
#include <cstdlib>
#include <fstream>
#include <functional>
#include <limits>
#include <memory>
#include <sstream>
#include <string>
#include <vector>

#include "runtime/error.h"
#include "tests/test_files.h"

namespace hob {
namespace {

using Ids = std::vector<int32_t>;

constexpr Tokenizer::EncodeOptions kPlain = {.add_bos = false, .parse_special = false};
constexpr Tokenizer::EncodeOptions kSpecial = {.add_bos = false, .parse_special = true};

std::unique_ptr<Tokenizer> Create(const GgufWriter& writer) {
  const std::vector<uint8_t> bytes = writer.WriteBytes();
  return Tokenizer::Create(Gguf::FromMemory(bytes, "test"));  // does not need the bytes any more
}

std::unique_ptr<Tokenizer> CreateSpm() {
  GgufWriter writer;
  test::AddSpmVocabulary(&writer);
  return Create(writer);
}

std::unique_ptr<Tokenizer> CreateBpe(std::string_view pre) {
  GgufWriter writer;
  test::AddBpeVocabulary(&writer, pre);
  return Create(writer);
}

// The message of the error that creating a tokenizer must give, with its status in front.
std::string ErrorOf(const GgufWriter& writer) {
  try {
    Create(writer);
  } catch (const Error& error) {
    EXPECT_EQ(std::string(error.what()).find('\n'), std::string::npos);
    return std::to_string(error.status()) + " " + error.what();
  }
  return "no error";
}

// The token with this piece.
int32_t Id(const Tokenizer& tokenizer, std::string_view piece) {
  for (int32_t id = tokenizer.size() - 1; id >= 0; --id) {
    if (tokenizer.Piece(id, true) == piece) return id;
  }
  ADD_FAILURE() << "no token '" << piece << "'";
  return -1;
}

Ids IdsOf(const Tokenizer& tokenizer, const std::vector<std::string>& pieces) {
  Ids ids;
  for (const std::string& piece : pieces) ids.push_back(Id(tokenizer, piece));
  return ids;
}

std::string Join(const Tokenizer& tokenizer, const Ids& ids) {
  std::string text;
  for (const int32_t id : ids) text += tokenizer.Piece(id);
  return text;
}

std::vector<std::string> Pieces(const Tokenizer& tokenizer, const Ids& ids) {
  std::vector<std::string> pieces;
  for (const int32_t id : ids) pieces.emplace_back(tokenizer.Piece(id, true));
  return pieces;
}

using Words = std::vector<std::string>;

// ---------------------------------------------------------------- SentencePiece

TEST(SpmTokenizer, MergesByScoreAndPutsSpaceAndBosInFront) {
  const auto tokenizer = CreateSpm();
  const Ids hello_world = IdsOf(*tokenizer, {" hello", " world"});
  EXPECT_EQ(tokenizer->Encode("hello world", kPlain), hello_world);
  Ids with_bos = hello_world;
  with_bos.insert(with_bos.begin(), 1);
  EXPECT_EQ(tokenizer->Encode("hello world"), with_bos);
  EXPECT_EQ(tokenizer->Encode("", kPlain), Ids());
  EXPECT_EQ(tokenizer->Encode(""), Ids{1});
  EXPECT_EQ(tokenizer->bos(), 1);
  EXPECT_EQ(tokenizer->eos(), 2);
  EXPECT_TRUE(tokenizer->wants_bos());
  EXPECT_FALSE(tokenizer->wants_eos());
}

TEST(SpmTokenizer, FallsBackToBytes) {
  const auto tokenizer = CreateSpm();
  const int32_t space = Id(*tokenizer, " ");
  EXPECT_EQ(tokenizer->Encode("z", kPlain), (Ids{space, 3 + 'z'}));
  EXPECT_EQ(tokenizer->Encode("\xC3\xA4", kPlain), (Ids{space, Id(*tokenizer, "\xC3\xA4")}));
  EXPECT_EQ(tokenizer->Encode("\xC3\xB6", kPlain), (Ids{space, 3 + 0xC3, 3 + 0xB6}));
  // Not UTF-8: bytes as they are.
  EXPECT_EQ(tokenizer->Encode("\xC3z\xFF", kPlain), (Ids{space, 3 + 0xC3, 3 + 'z', 3 + 0xFF}));
}

TEST(SpmTokenizer, KeysSwitchSpaceBosAndEos) {
  GgufWriter writer;
  test::AddSpmVocabulary(&writer);
  writer.SetBool("tokenizer.ggml.add_space_prefix", false);
  writer.SetBool("tokenizer.ggml.add_bos_token", false);
  writer.SetBool("tokenizer.ggml.add_eos_token", true);
  const auto tokenizer = Create(writer);
  EXPECT_EQ(tokenizer->Encode("hello"), (Ids{Id(*tokenizer, "hello"), 2}));
  EXPECT_FALSE(tokenizer->adds_leading_space());
}

TEST(SpmTokenizer, SpecialTokensInText) {
  const auto tokenizer = CreateSpm();
  const int32_t end = Id(*tokenizer, "<|end|>");
  const int32_t tool = Id(*tokenizer, "<tool>");
  const int32_t hello = Id(*tokenizer, " hello");
  EXPECT_EQ(tokenizer->Encode("hello<|end|><tool>hello</s>", kSpecial),
            (Ids{hello, end, tool, hello, 2}));
  // Without them, the spelling of a control token is text; a user-defined token is always matched.
  const Ids plain = tokenizer->Encode("hello<|end|><tool>hello</s>", kPlain);
  EXPECT_EQ(std::count(plain.begin(), plain.end(), end), 0);
  EXPECT_EQ(std::count(plain.begin(), plain.end(), 2), 0);
  EXPECT_EQ(std::count(plain.begin(), plain.end(), tool), 1);
  EXPECT_EQ(tokenizer->Piece(end), "");
  EXPECT_EQ(tokenizer->Piece(end, true), "<|end|>");
  EXPECT_EQ(tokenizer->Piece(-1), "");
  EXPECT_EQ(tokenizer->Piece(tokenizer->size()), "");
  EXPECT_TRUE(tokenizer->IsEndOfText(end));
  EXPECT_TRUE(tokenizer->IsEndOfText(2));
  EXPECT_FALSE(tokenizer->IsEndOfText(1));
  EXPECT_FALSE(tokenizer->IsEndOfText(hello));
}

TEST(SpmTokenizer, LongestSpecialTokenWins) {
  GgufWriter writer;
  writer.SetString("tokenizer.ggml.model", "llama");
  writer.SetStringArray("tokenizer.ggml.tokens",
                        std::vector<std::string>{"<unk>", "a", "aa", "aaa", "b", "x"});
  writer.SetF32Array("tokenizer.ggml.scores", std::vector<float>(6, 0.0F));
  writer.SetI32Array("tokenizer.ggml.token_type", std::vector<int32_t>{2, 4, 3, 4, 1, 1});
  writer.SetBool("tokenizer.ggml.add_space_prefix", false);
  writer.SetU32("tokenizer.ggml.bos_token_id", 0);
  const auto tokenizer = Create(writer);
  EXPECT_EQ(tokenizer->Encode("aaaaa", kSpecial), (Ids{3, 2}));
  EXPECT_EQ(tokenizer->Encode("aaaaa", kPlain), (Ids{3, 1, 1}));
  EXPECT_EQ(tokenizer->Encode("bab", kSpecial), (Ids{4, 1, 4}));
  // No byte tokens here: what is unknown is <unk>.
  EXPECT_EQ(tokenizer->Encode("b\xC3\xA4", kSpecial), (Ids{4, 0}));
}

// ---------------------------------------------------------------- byte-level BPE

TEST(BpeTokenizer, MergesByRank) {
  const auto tokenizer = CreateBpe("gpt-2");
  EXPECT_EQ(tokenizer->Encode("hello world", kPlain), IdsOf(*tokenizer, {"hello", " world"}));
  EXPECT_EQ(tokenizer->Encode("hello"), (Ids{Id(*tokenizer, "hello")}));  // no BOS by default
  EXPECT_EQ(tokenizer->Encode("hella", kPlain), IdsOf(*tokenizer, {"hell", "a"}));
  EXPECT_EQ(tokenizer->Encode("aaaaaaa", kPlain), IdsOf(*tokenizer, {"aaaa", "aa", "a"}));
  EXPECT_EQ(tokenizer->Encode("", kPlain), Ids());
}

TEST(BpeTokenizer, EveryByteSurvives) {
  for (const char* pre : {"gpt-2", "llama-bpe", "smollm"}) {
    const auto tokenizer = CreateBpe(pre);
    std::string bytes;
    for (int byte = 0; byte < 256; ++byte) bytes += static_cast<char>(byte);
    bytes += "\xC3\xA4 \xF0\x9F\x98\x80\xF0\x9F";
    EXPECT_EQ(Join(*tokenizer, tokenizer->Encode(bytes, kPlain)), bytes) << pre;
  }
}

TEST(BpeTokenizer, SplitsIntoWords) {
  // Merges happen within words only, so they show where words end.
  const auto words = [](const char* pre, std::string_view text) {
    const auto tokenizer = CreateBpe(pre);
    return Pieces(*tokenizer, tokenizer->Encode(text, kPlain));
  };
  EXPECT_EQ(words("gpt-2", "aa1aa"), (Words{"aa", "1", "aa"}));
  EXPECT_EQ(words("gpt-2", " world"), (Words{" world"}));
  // The last space belongs to the word behind it.
  EXPECT_EQ(words("gpt-2", "  world"), (Words{" ", " world"}));
  EXPECT_EQ(words("llama-bpe", "\nworld"), (Words{"\n", "w", "or", "ld"}));
}

TEST(BpeTokenizer, SmolLmTakesDigitsOutFirst) {
  // A vocabulary with "  " and "12" shows where words end.
  const auto encode = [](const char* pre, std::string_view text) {
    GgufWriter writer;
    std::vector<std::string> tokens = {"\xC4\xA0",
                                       "1",
                                       "2",
                                       "a",
                                       "\xC4\xA0\xC4\xA0",
                                       "12",
                                       "\xC4\xA0"
                                       "1"};
    writer.SetString("tokenizer.ggml.model", "gpt2");
    writer.SetString("tokenizer.ggml.pre", pre);
    writer.SetStringArray("tokenizer.ggml.tokens", tokens);
    writer.SetStringArray("tokenizer.ggml.merges",
                          std::vector<std::string>{"\xC4\xA0 \xC4\xA0", "1 2", "\xC4\xA0 1"});
    const auto tokenizer = Create(writer);
    return Pieces(*tokenizer, tokenizer->Encode(text, kPlain));
  };
  EXPECT_EQ(encode("gpt-2", "a  12"), (Words{"a", " ", " ", "12"}));
  EXPECT_EQ(encode("smollm", "a  12"), (Words{"a", "  ", "1", "2"}));
  EXPECT_EQ(encode("qwen2", "a  12"), (Words{"a", " ", " ", "1", "2"}));
  EXPECT_EQ(encode("llama-bpe", "a  12"), (Words{"a", " ", " ", "12"}));
}

TEST(BpeTokenizer, Qwen2Normalizes) {
  const auto qwen2 = CreateBpe("qwen2");
  const auto gpt2 = CreateBpe("gpt-2");
  const std::string decomposed = "a\xCC\x88";  // a, combining diaeresis
  EXPECT_EQ(Join(*qwen2, qwen2->Encode(decomposed, kPlain)), "\xC3\xA4");
  EXPECT_EQ(Join(*gpt2, gpt2->Encode(decomposed, kPlain)), decomposed);
  // Marks in another order are the same text: below (U+0323), above (U+0307).
  EXPECT_EQ(qwen2->Encode("q\xCC\x87\xCC\xA3", kPlain), qwen2->Encode("q\xCC\xA3\xCC\x87", kPlain));
  // Broken bytes between do no harm.
  EXPECT_EQ(Join(*qwen2, qwen2->Encode("\xFF" + decomposed + "\xE2\x82", kPlain)),
            "\xFF\xC3\xA4\xE2\x82");
}

TEST(BpeTokenizer, Llama3WantsBos) {
  const auto tokenizer = CreateBpe("llama-bpe");
  EXPECT_TRUE(tokenizer->wants_bos());
  EXPECT_EQ(tokenizer->Encode("a").front(), tokenizer->bos());
  EXPECT_TRUE(tokenizer->IsEndOfText(tokenizer->eos()));
  EXPECT_EQ(tokenizer->Encode("a<|endoftext|><tool>", kSpecial),
            IdsOf(*tokenizer, {"a", "<|endoftext|>", "<tool>"}));
}

// ---------------------------------------------------------------- errors

TEST(Tokenizer, RefusesWhatItDoesNotKnowByName) {
  GgufWriter writer;
  test::AddBpeVocabulary(&writer, "martian");
  EXPECT_EQ(
      ErrorOf(writer),
      "8 test: tokenizer.ggml.pre 'martian' is not supported, expected one of gpt-2, default, "
      "llama-bpe, llama3, llama-v3, qwen2, smollm");
  writer.SetString("tokenizer.ggml.model", "bert");
  EXPECT_EQ(ErrorOf(writer),
            "8 test: tokenizer.ggml.model 'bert' (WordPiece) is not supported, expected llama "
            "(SentencePiece BPE) or gpt2 (byte-level BPE)");
  EXPECT_EQ(ErrorOf(GgufWriter()),
            "7 test: key 'tokenizer.ggml.model' is missing, expected string");
}

TEST(Tokenizer, RefusesDamagedMetadata) {
  const auto error = [](const std::function<void(GgufWriter*)>& damage, bool spm) {
    GgufWriter writer;
    if (spm) {
      test::AddSpmVocabulary(&writer);
    } else {
      test::AddBpeVocabulary(&writer, "gpt-2");
    }
    damage(&writer);
    return ErrorOf(writer);
  };
  const auto strings = [](std::vector<std::string> values) { return values; };
  EXPECT_EQ(error([](auto* w) { w->SetU32("tokenizer.ggml.eos_token_id", 5000); }, true),
            "7 test: tokenizer.ggml.eos_token_id is 5000, expected an id of the 286 tokens");
  EXPECT_EQ(error([](auto* w) { w->SetF32Array("tokenizer.ggml.scores", {}); }, true),
            "7 test: tokenizer.ggml.scores has 0 elements, expected 286, one for each token");
  EXPECT_EQ(error(
                [](auto* w) {
                  w->SetF32Array("tokenizer.ggml.scores",
                                 std::vector<float>(286, std::numeric_limits<float>::quiet_NaN()));
                },
                true),
            "7 test: the score of token 0 is not a number");
  EXPECT_EQ(error(
                [](auto* w) {
                  w->SetI32Array("tokenizer.ggml.token_type", std::vector<int32_t>(286, 7));
                },
                true),
            "7 test: token 0 has the type 7, expected 0 to 6");
  EXPECT_EQ(error([](auto* w) { w->SetStringArray("tokenizer.ggml.tokens", {}); }, true),
            "7 test: tokenizer.ggml.tokens is empty");
  EXPECT_EQ(error([&](auto* w) { w->SetStringArray("tokenizer.ggml.merges", strings({"hello"})); },
                  false),
            "7 test: tokenizer.ggml.merges has the entry 'hello', expected two tokens with a space "
            "between them");
  EXPECT_EQ(
      error([&](auto* w) { w->SetStringArray("tokenizer.ggml.merges", strings({"x y"})); }, false),
      "7 test: tokenizer.ggml.merges has the entry 'x y', expected two tokens whose union is a "
      "token");
}

TEST(Tokenizer, AcceptsNoneForIds) {
  GgufWriter writer;
  test::AddSpmVocabulary(&writer);
  writer.SetU32("tokenizer.ggml.bos_token_id", std::numeric_limits<uint32_t>::max());
  EXPECT_EQ(Create(writer)->bos(), -1);
  EXPECT_FALSE(Create(writer)->wants_bos());
  writer.SetBool("tokenizer.ggml.add_bos_token", true);
  EXPECT_EQ(ErrorOf(writer),
            "7 test: tokenizer.ggml.add_bos_token is true, but the file names no such token");
}

// ---------------------------------------------------------------- streaming

TEST(StreamDecoder, NeverGivesHalfACharacter) {
  const auto tokenizer = CreateBpe("gpt-2");
  const std::string text = "h\xC3\xA4 \xE2\x82\xAC \xF0\x9F\x98\x80!";
  StreamDecoder decoder(*tokenizer);
  std::string all;
  for (const int32_t id : tokenizer->Encode(text, kPlain)) {
    const std::string part = decoder.Push(id);
    EXPECT_EQ(ValidUtf8Prefix(part), part.size());
    all += part;
  }
  EXPECT_EQ(decoder.Flush(), "");
  EXPECT_EQ(all, text);
}

TEST(StreamDecoder, ReplacesBrokenBytes) {
  const auto tokenizer = CreateBpe("gpt-2");  // id = byte
  StreamDecoder decoder(*tokenizer);
  EXPECT_EQ(decoder.Push(0xE2), "");
  EXPECT_EQ(decoder.Push(0x82), "");
  EXPECT_EQ(decoder.Push('a'),
            "\xEF\xBF\xBD"
            "a");
  EXPECT_EQ(decoder.Push(0xFF), "\xEF\xBF\xBD");
  EXPECT_EQ(decoder.Push(0xF0), "");
  EXPECT_EQ(decoder.Flush(), "\xEF\xBF\xBD");
  EXPECT_EQ(decoder.Flush(), "");
}

TEST(StreamDecoder, TakesTheLeadingSpaceAway) {
  const auto tokenizer = CreateSpm();
  const auto decode = [&](bool at_text_start) {
    StreamDecoder decoder(*tokenizer, at_text_start);
    std::string text;
    for (const int32_t id : tokenizer->Encode("hello world")) text += decoder.Push(id);
    return text + decoder.Flush();
  };
  EXPECT_EQ(decode(true), "hello world");
  EXPECT_EQ(decode(false), " hello world");
}

// ---------------------------------------------------------------- time

TEST(Tokenizer, LongTextsTakeNoQuadraticTime) {
  const auto spm = CreateSpm();
  std::string marks = "q";
  for (int i = 0; i < 50000; ++i) marks += i % 2 == 0 ? "\xCC\x87" : "\xCC\xA3";
  std::string spaced_lines;
  for (int i = 0; i < 50000; ++i) spaced_lines += " \r";
  const std::vector<std::string> texts = {std::string(200000, 'a'),
                                          std::string(200000, ' '),
                                          std::string(200000, '!'),
                                          std::string(200000, '\n'),
                                          std::string(200000, '7'),
                                          std::string(200000, '\xFF'),
                                          std::string(200000, '\''),
                                          std::string(200000, '<'),
                                          std::string(200000, ' ') + "a",
                                          marks,
                                          spaced_lines};
  const auto begin = std::chrono::steady_clock::now();
  for (const std::string& text : texts) {
    EXPECT_GT(spm->Encode(text).size(), 0U);
    for (const char* pre : {"gpt-2", "llama-bpe", "qwen2", "smollm"}) {
      EXPECT_GT(CreateBpe(pre)->Encode(text).size(), 0U);
    }
  }
  // 55 texts; quadratic time would be minutes for each. Generous for sanitizers and busy machines.
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - begin;
  EXPECT_LT(seconds.count(), 60);
}

// ---------------------------------------------------------------- real vocabularies

std::string ReadText(const std::string& path) {
  const std::vector<uint8_t> bytes = test::ReadBytes(path);
  return {bytes.begin(), bytes.end()};
}

// Texts separated by lines __ggml_vocab_test__, and for each of them a line of ids.
void ExpectGolden(const std::string& name) {
  const std::string base = "reference/vocab/ggml-vocab-" + name + ".gguf";
  const auto path = test::FindData(base);
  if (!path) GTEST_SKIP() << test::MissingData(base);
  const auto tokenizer = Tokenizer::Create(Gguf::Open(*path));
  const std::string texts = ReadText(*path + ".inp");
  std::istringstream lines(ReadText(*path + ".out"));
  constexpr std::string_view kSeparator = "\n__ggml_vocab_test__\n";
  int count = 0;
  size_t at = 0;
  for (std::string line; std::getline(lines, line); ++count) {
    Ids expected;
    std::istringstream numbers(line);
    for (int32_t id; numbers >> id;) expected.push_back(id);
    ASSERT_LE(at, texts.size());
    const size_t end = std::min(texts.find(kSeparator, at), texts.size());
    const std::string text = texts.substr(at, end - at);
    at = end + kSeparator.size();
    EXPECT_EQ(tokenizer->Encode(text, kPlain), expected) << "text " << count << ": " << text;
    EXPECT_EQ(tokenizer->Encode(text, kSpecial), expected) << "text " << count << ": " << text;
    StreamDecoder decoder(*tokenizer, true);
    std::string decoded;
    for (const int32_t id : expected) decoded += decoder.Push(id);
    EXPECT_EQ(decoded + decoder.Flush(), text);
  }
  EXPECT_GE(at, texts.size());
  EXPECT_GT(count, 40);
}

TEST(GoldenVocabulary, Gpt2) { ExpectGolden("gpt-2"); }
TEST(GoldenVocabulary, LlamaSpm) { ExpectGolden("llama-spm"); }
TEST(GoldenVocabulary, Phi3) { ExpectGolden("phi-3"); }

TEST(GoldenVocabulary, BertIsRefused) {
  const std::string name = "reference/vocab/ggml-vocab-bert-bge.gguf";
  const auto path = test::FindData(name);
  if (!path) GTEST_SKIP() << test::MissingData(name);
  EXPECT_THROW(Tokenizer::Create(Gguf::Open(*path)), Error);
}

}  // namespace
}  // namespace hob
