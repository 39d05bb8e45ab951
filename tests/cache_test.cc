// The key/value cache over a session's life: that it grows with the sequence, that what is kept of
// it gives the same bits as computing anew, that saved sessions go on as if they had never stopped,
// and that nothing in a damaged one is believed.
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "hob/model.h"
#include "runtime/checksum.h"
#include "runtime/rope_rows.h"
#include "runtime/session_state.h"
#include "tests/host_pool.h"
#include "tests/test_files.h"

namespace hob {
namespace {

// ---------------------------------------------------------------- models and sessions

struct FreeModel {
  void operator()(hob_model* model) const { hob_model_free(model); }
};
struct FreeSession {
  void operator()(hob_session* session) const { hob_session_free(session); }
};
using ModelPtr = std::unique_ptr<hob_model, FreeModel>;
using SessionPtr = std::unique_ptr<hob_session, FreeSession>;
using Floats = std::vector<float>;
using Tokens = std::vector<int32_t>;
using Bytes = std::vector<uint8_t>;

constexpr size_t kVocabulary = 286, kLayers = 2, kKvHeads = 2;

ModelPtr Load(const GgufWriter& writer) {
  const Bytes bytes = writer.WriteBytes();
  hob_model* model = nullptr;
  EXPECT_EQ(hob_model_load_memory(bytes.data(), bytes.size(), nullptr, &model), HOB_OK)
      << hob_status_message();
  return ModelPtr(model);
}

// test::TinyLlama with a longer context.
GgufWriter TinyWriter(size_t context = 256, uint32_t seed = 1) {
  GgufWriter writer = test::TinyLlama(seed);
  writer.SetU32("llama.context_length", static_cast<uint32_t>(context));
  return writer;
}

hob_session_options Options(int cache_type = 0, size_t context = 0, size_t batch = 0,
                            const hob_threads* threads = nullptr) {
  hob_session_options options{};
  options.struct_size = sizeof(options);
  options.cache_type = cache_type;
  options.context = context;
  options.batch = batch;
  options.threads = threads;
  return options;
}

SessionPtr Create(const ModelPtr& model, const hob_session_options& options = Options()) {
  hob_session* session = nullptr;
  EXPECT_EQ(hob_session_create(model.get(), &options, &session), HOB_OK) << hob_status_message();
  return SessionPtr(session);
}

// The values of hob_session_options::cache_type that name one.
std::vector<int> CacheTypes(const ModelPtr& model) {
  std::vector<int> types;
  for (int type = 1; type < 10; ++type) {
    hob_session* session = nullptr;
    const hob_session_options options = Options(type);
    if (hob_session_create(model.get(), &options, &session) == HOB_OK) types.push_back(type);
    hob_session_free(session);
  }
  EXPECT_GE(types.size(), 3u);
  return types;
}

Tokens RandomTokens(size_t count, uint32_t seed = 7) {
  std::mt19937 random(seed);
  Tokens tokens(count);
  for (int32_t& token : tokens) token = static_cast<int32_t>(random() % kVocabulary);
  return tokens;
}

// Evaluates tokens [begin, end); their logits, (end - begin, vocabulary).
Floats Eval(const SessionPtr& session, const Tokens& tokens, size_t begin, size_t end) {
  Floats logits((end - begin) * kVocabulary);
  EXPECT_EQ(hob_session_eval(session.get(), tokens.data() + begin, end - begin, logits.data()),
            HOB_OK)
      << hob_status_message();
  return logits;
}

void Feed(const SessionPtr& session, const Tokens& tokens, size_t begin, size_t end) {
  if (begin == end) return;
  EXPECT_EQ(hob_session_eval(session.get(), tokens.data() + begin, end - begin, nullptr), HOB_OK)
      << hob_status_message();
}

// The logits after the last token; nothing if there are none.
std::optional<Floats> LastLogits(const SessionPtr& session) {
  const float* logits = nullptr;
  if (hob_session_logits(session.get(), &logits) != HOB_OK) return std::nullopt;
  return Floats(logits, logits + kVocabulary);
}

Floats Rows(const Floats& logits, size_t begin, size_t end) {
  return Floats(logits.begin() + static_cast<ptrdiff_t>(begin * kVocabulary),
                logits.begin() + static_cast<ptrdiff_t>(end * kVocabulary));
}

bool SameBits(const Floats& a, const Floats& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

hob_session_info Describe(const SessionPtr& session) {
  hob_session_info info{};
  info.struct_size = sizeof(info);
  EXPECT_EQ(hob_session_describe(session.get(), &info), HOB_OK) << hob_status_message();
  return info;
}

Bytes Save(const SessionPtr& session) {
  size_t size = 0;
  EXPECT_EQ(hob_session_save_memory(session.get(), nullptr, 0, &size), HOB_OK)
      << hob_status_message();
  Bytes bytes(size);
  EXPECT_EQ(hob_session_save_memory(session.get(), bytes.data(), size, &size), HOB_OK)
      << hob_status_message();
  EXPECT_EQ(size, bytes.size());
  return bytes;
}

hob_status Restore(const SessionPtr& session, const Bytes& bytes) {
  return hob_session_restore_memory(session.get(), bytes.data(), bytes.size());
}

// ---------------------------------------------------------------- growth

// Bytes of memory that this process has now, or nothing where the system does not say.
std::optional<size_t> ResidentBytes() {
  std::ifstream file("/proc/self/statm");
  size_t total = 0, resident = 0;
  if (!(file >> total >> resident)) return std::nullopt;
  return resident * static_cast<size_t>(sysconf(_SC_PAGESIZE));
}

TEST(CacheTest, MemoryIsTakenAsTheSequenceGrows) {
  if (!ResidentBytes()) GTEST_SKIP() << "no /proc/self/statm";
  if (HOB_SANITIZED || std::getenv("HOB_TEST_QUICK") != nullptr) {
    GTEST_SKIP() << "sanitizers keep what is freed, and emulators grow on their own";
  }
  constexpr size_t kContext = size_t{1} << 21, kMega = size_t{1} << 20;
  const ModelPtr model = Load(TinyWriter(kContext));
  const auto grown_by = [before = *ResidentBytes()] {
    const size_t now = *ResidentBytes();
    return now > before ? now - before : 0;
  };
  const SessionPtr session = Create(model, Options(0, kContext));
  const hob_session_info fresh = Describe(session);
  EXPECT_EQ(fresh.context, kContext);
  EXPECT_EQ(fresh.cache_bytes, 0u);
  EXPECT_GE(fresh.cache_reserved_bytes, 512 * kMega);
  EXPECT_LT(fresh.work_bytes, 8 * kMega);
  EXPECT_LT(grown_by(), 8 * kMega) << "a new session";

  constexpr size_t kTokens = 8192;
  Feed(session, RandomTokens(kTokens), 0, kTokens);
  const size_t used = Describe(session).cache_bytes;
  EXPECT_EQ(used, fresh.cache_reserved_bytes / (kContext / kTokens));
  const size_t full = grown_by();
  EXPECT_GE(full, used) << "otherwise this test measures nothing";
  EXPECT_LT(full, used + 16 * kMega);

  ASSERT_EQ(hob_session_rewind(session.get(), 100), HOB_OK);
  EXPECT_LT(grown_by() + used * 3 / 4, full) << "rewinding far gives memory back";
  // What it gave back can be used again.
  const Tokens tokens = RandomTokens(3000, 8);
  ASSERT_EQ(hob_session_rewind(session.get(), 0), HOB_OK);
  const SessionPtr other = Create(model);
  EXPECT_TRUE(SameBits(Eval(session, tokens, 0, 3000), Eval(other, tokens, 0, 3000)));
}

TEST(CacheTest, DescribesTheSession) {
  const ModelPtr model = Load(TinyWriter());
  const SessionPtr session = Create(model, Options(1 + HOB_CACHE_BF16, 100, 16));
  Feed(session, RandomTokens(17), 0, 17);
  const hob_session_info info = Describe(session);
  EXPECT_EQ(info.context, 100u);
  EXPECT_EQ(info.batch, 16u);
  EXPECT_EQ(info.cache_type, HOB_CACHE_BF16);
  EXPECT_EQ(info.position, 17u);
  // Keys and values, heads padded to 16 and tokens to 64.
  EXPECT_EQ(info.cache_bytes, kLayers * 2 * kKvHeads * 16 * 64 * 2);
  EXPECT_EQ(info.cache_reserved_bytes, kLayers * 2 * kKvHeads * 16 * 128 * 2);
  EXPECT_GT(info.work_bytes, kVocabulary * sizeof(float));
  // A byte each, and a scale for each of 32 elements or fewer.
  const SessionPtr q8 = Create(model, Options(1 + HOB_CACHE_Q8_0, 100, 16));
  Feed(q8, RandomTokens(17), 0, 17);
  EXPECT_EQ(Describe(q8).cache_type, HOB_CACHE_Q8_0);
  EXPECT_EQ(Describe(q8).cache_bytes, kLayers * 2 * kKvHeads * (16 + 4) * 64);

  hob_session_info wrong{};
  EXPECT_EQ(hob_session_describe(session.get(), &wrong), HOB_ERROR_ARGUMENT);
  EXPECT_EQ(hob_session_describe(session.get(), nullptr), HOB_ERROR_ARGUMENT);
  EXPECT_EQ(hob_session_describe(nullptr, &wrong), HOB_ERROR_ARGUMENT);
}

// The angles of a step's rows are those of the whole table, in whatever order rows are set, below
// and above what is kept, and where they straddle that.
TEST(CacheTest, RopeRowsAreThoseOfTheTable) {
  DecoderConfig config;
  config.n_rot = 6;
  config.rope_base = 10000;
  config.rope_factors = {1.0f, 2.0f, 3.0f};
  constexpr size_t kContext = 5000, kBatch = 40;
  Floats table(kContext * config.n_rot);
  ASSERT_EQ(hob_rope_table(0, kContext, config.n_rot, config.rope_base, 1.0,
                           config.rope_factors.data(), table.data()),
            HOB_OK);
  RopeRows rope(config, kContext, kBatch);
  for (size_t position : {7, 0, 100, 4080, 4056, 4057, 4096, 4960, 50}) {
    rope.Set(position, kBatch);
    EXPECT_EQ(std::memcmp(rope.data(), table.data() + position * config.n_rot,
                          kBatch * config.n_rot * sizeof(float)),
              0)
        << position;
  }
}

// ---------------------------------------------------------------- prefix reuse

TEST(CacheTest, ReuseKeepsTheCommonPrefix) {
  const ModelPtr model = Load(TinyWriter());
  const Tokens tokens = RandomTokens(40);
  const SessionPtr session = Create(model);
  const auto reuse = [&](const Tokens& wanted) {
    size_t kept = 12345;
    EXPECT_EQ(hob_session_reuse(session.get(), wanted.data(), wanted.size(), &kept), HOB_OK);
    EXPECT_EQ(hob_session_position(session.get()), kept);
    EXPECT_FALSE(LastLogits(session).has_value());
    return kept;
  };
  EXPECT_EQ(reuse(tokens), 0u) << "a new session";
  Feed(session, tokens, 0, 40);
  EXPECT_EQ(reuse(tokens), 39u) << "one is left, since its logits are wanted";
  EXPECT_EQ(reuse(tokens), 39u);
  Feed(session, tokens, 39, 40);
  Tokens longer = tokens;
  longer.push_back(1);
  EXPECT_EQ(reuse(longer), 40u);
  Tokens other = tokens;
  other[25] ^= 1;
  EXPECT_EQ(reuse(other), 25u);
  EXPECT_EQ(reuse({tokens.begin(), tokens.begin() + 10}), 9u);
  EXPECT_EQ(reuse({tokens[0]}), 0u);

  size_t kept = 0;
  Feed(session, tokens, 0, 5);
  EXPECT_EQ(hob_session_reuse(session.get(), tokens.data(), 0, &kept), HOB_ERROR_ARGUMENT);
  EXPECT_EQ(hob_session_reuse(session.get(), nullptr, 1, &kept), HOB_ERROR_ARGUMENT);
  EXPECT_EQ(hob_session_reuse(session.get(), tokens.data(), 1, nullptr), HOB_ERROR_ARGUMENT);
  EXPECT_EQ(hob_session_reuse(nullptr, tokens.data(), 1, &kept), HOB_ERROR_ARGUMENT);
  EXPECT_EQ(hob_session_position(session.get()), 5u) << "changed by a call that failed";
}

TEST(CacheTest, ReusedPrefixesGiveTheSameBits) {
  const ModelPtr model = Load(TinyWriter());
  const Tokens tokens = RandomTokens(90);
  test::HostPool pool(3);
  const hob_threads threads = pool.threads();
  for (const int type : CacheTypes(model)) {
    const Floats expected = Eval(Create(model, Options(type)), tokens, 0, 90);
    for (size_t batch : {1, 7, 256}) {
      const SessionPtr session =
          Create(model, Options(type, 0, batch, batch == 7 ? &threads : nullptr));
      for (size_t same : {0, 1, 15, 16, 31, 64, 89}) {
        // Another text with the same beginning, then the tokens again.
        Tokens other = tokens;
        for (size_t i = same; i < other.size(); ++i) other[i] = (other[i] + 1) % 250;
        size_t kept = 0;
        ASSERT_EQ(hob_session_reuse(session.get(), other.data(), 90, &kept), HOB_OK);
        Feed(session, other, kept, 90);
        ASSERT_EQ(hob_session_reuse(session.get(), tokens.data(), 90, &kept), HOB_OK);
        EXPECT_EQ(kept, same);
        EXPECT_TRUE(SameBits(Eval(session, tokens, kept, 90), Rows(expected, kept, 90)))
            << "cache type " << type << ", batch " << batch << ", kept " << kept;
      }
    }
  }
}

// ---------------------------------------------------------------- saving and restoring

TEST(CacheTest, RestoredSessionsGoOnWithTheSameBits) {
  const ModelPtr model = Load(TinyWriter());
  const Tokens tokens = RandomTokens(100);
  test::HostPool pool(4);
  const hob_threads threads = pool.threads();
  for (const int type : CacheTypes(model)) {
    const Floats expected = Eval(Create(model, Options(type)), tokens, 0, 100);
    for (size_t saved : {0, 1, 2, 15, 16, 17, 63, 64, 65, 99}) {
      const SessionPtr first = Create(model, Options(type, 100, 16));
      Feed(first, tokens, 0, saved);
      const Bytes bytes = Save(first);
      for (const hob_session_options& options :
           {Options(type), Options(type, 256, 1), Options(type, 101, 7, &threads),
            Options(type, 100, 100, &threads)}) {
        const SessionPtr session = Create(model, options);
        Feed(session, RandomTokens(70, 99), 0, 70);  // must vanish
        ASSERT_EQ(Restore(session, bytes), HOB_OK) << hob_status_message();
        EXPECT_EQ(hob_session_position(session.get()), saved);
        const auto last = LastLogits(session);
        ASSERT_EQ(last.has_value(), saved != 0);
        if (last) {
          EXPECT_TRUE(SameBits(*last, Rows(expected, saved - 1, saved)));
        }
        EXPECT_TRUE(SameBits(Eval(session, tokens, saved, 100), Rows(expected, saved, 100)))
            << "cache type " << type << ", saved after " << saved << ", batch " << options.batch;
      }
    }
  }
}

// Segments of 1024 tokens (runtime/kv_cache.h) are seen by nobody: neither the bits nor the saved
// bytes depend on where they begin and end, nor on what was given back and taken again.
TEST(CacheTest, SegmentsAreSeenByNobody) {
  if (std::getenv("HOB_TEST_QUICK") != nullptr) GTEST_SKIP();
  constexpr size_t kTokens = 2100;
  const ModelPtr model = Load(TinyWriter(2 * kTokens));
  const Tokens tokens = RandomTokens(kTokens), other = RandomTokens(kTokens, 3);
  for (const int type : CacheTypes(model)) {
    SCOPED_TRACE("cache type " + std::to_string(type));
    const Floats expected = Eval(Create(model, Options(type, kTokens)), tokens, 0, kTokens);
    const SessionPtr session = Create(model, Options(type));
    Feed(session, other, 0, kTokens);
    for (size_t kept : {2048, 2047, 1025, 1024, 1023, 0}) {
      // Token by token around the borders: it is then that full segments move to large pages.
      size_t begin = 0;
      ASSERT_EQ(hob_session_reuse(session.get(), tokens.data(), kept + 1, &begin), HOB_OK);
      for (size_t end = begin; begin < kTokens; begin = end) {
        const bool border = begin % 1024 > 1017 || begin % 1024 < 4;
        end = border ? begin + 1 : std::min(kTokens, begin + 99);
        ASSERT_TRUE(SameBits(Eval(session, tokens, begin, end), Rows(expected, begin, end)))
            << begin;
      }
      const Bytes bytes = Save(session);
      const SessionPtr restored = Create(model, Options(type, kTokens + 1, 64));
      Feed(restored, other, 0, 1050);
      ASSERT_EQ(Restore(restored, bytes), HOB_OK) << hob_status_message();
      EXPECT_EQ(Save(restored), bytes);
      const int32_t next = 7;
      EXPECT_TRUE(SameBits(Eval(restored, {next}, 0, 1), Eval(session, {next}, 0, 1)));
      ASSERT_EQ(hob_session_rewind(session.get(), kept), HOB_OK);
    }
  }
}

// No instruction set, batch, number of threads or history leaves a trace, nor does a text that was
// rewound.
TEST(CacheTest, SavedBytesDependOnTheTokensAlone) {
  const ModelPtr model = Load(TinyWriter());
  const Tokens tokens = RandomTokens(37), secret = RandomTokens(80, 3);
  test::HostPool pool(3);
  const hob_threads threads = pool.threads();
  const char* targets[32];
  const size_t n_targets = hob_targets(targets, 32);
  for (const int type : CacheTypes(model)) {
    const SessionPtr first = Create(model, Options(type));
    Feed(first, tokens, 0, 37);
    const Bytes expected = Save(first);
    EXPECT_EQ(expected.size(), sizeof(StateHeader) + 37 * sizeof(int32_t) +
                                   kVocabulary * sizeof(float) + Describe(first).cache_bytes);
    for (size_t i = 0; i < n_targets; ++i) {
      ASSERT_EQ(hob_target_set(targets[i]), HOB_OK);
      const SessionPtr session = Create(model, Options(type, 90, 9, &threads));
      Feed(session, secret, 0, 80);
      ASSERT_EQ(hob_session_rewind(session.get(), 0), HOB_OK);
      Feed(session, tokens, 0, 37);
      EXPECT_EQ(Save(session), expected) << targets[i] << ", cache type " << type;
      // Saving leaves the session as it was.
      EXPECT_EQ(Save(session), expected);
      EXPECT_EQ(hob_session_position(session.get()), 37u);
    }
    ASSERT_EQ(hob_target_set(nullptr), HOB_OK);
  }
}

TEST(CacheTest, RestoresWithoutLogits) {
  const ModelPtr model = Load(TinyWriter());
  const Tokens tokens = RandomTokens(30);
  const Floats expected = Eval(Create(model), tokens, 0, 30);
  const SessionPtr first = Create(model);
  Feed(first, tokens, 0, 25);
  ASSERT_EQ(hob_session_rewind(first.get(), 20), HOB_OK);
  const SessionPtr session = Create(model);
  Feed(session, tokens, 0, 3);
  ASSERT_EQ(Restore(session, Save(first)), HOB_OK) << hob_status_message();
  EXPECT_EQ(hob_session_position(session.get()), 20u);
  EXPECT_FALSE(LastLogits(session).has_value());
  EXPECT_TRUE(SameBits(Eval(session, tokens, 20, 30), Rows(expected, 20, 30)));
}

// The sampler stays that of the session; what it draws from, and what it penalizes, is restored.
TEST(CacheTest, RestoredSessionsSampleWithTheirOwnSampler) {
  const ModelPtr model = Load(TinyWriter());
  const Tokens tokens = RandomTokens(30);
  hob_sampler_options sampler{};
  sampler.struct_size = sizeof(sampler);
  sampler.temperature = 1;
  sampler.repetition_penalty = 1.5f;
  sampler.seed = 3;
  const auto generate = [&](const SessionPtr& session) {
    EXPECT_EQ(hob_session_sampler(session.get(), &sampler), HOB_OK);
    Tokens out;
    for (int i = 0; i < 20; ++i) {
      int32_t token = -1;
      EXPECT_EQ(hob_session_sample(session.get(), &token), HOB_OK);
      EXPECT_EQ(hob_session_eval(session.get(), &token, 1, nullptr), HOB_OK);
      out.push_back(token);
    }
    return out;
  };
  const SessionPtr first = Create(model);
  Feed(first, tokens, 0, 30);
  const Bytes bytes = Save(first);
  const SessionPtr second = Create(model);
  ASSERT_EQ(Restore(second, bytes), HOB_OK);
  EXPECT_EQ(generate(first), generate(second));
}

TEST(CacheTest, Files) {
  const test::TempDir directory;
  const std::string path = directory.File("session");
  const ModelPtr model = Load(TinyWriter());
  const Tokens tokens = RandomTokens(60);
  const Floats expected = Eval(Create(model), tokens, 0, 60);
  const SessionPtr first = Create(model);
  for (size_t position : {20, 50}) {  // the second replaces the first
    Feed(first, tokens, hob_session_position(first.get()), position);
    ASSERT_EQ(hob_session_save(first.get(), path.c_str()), HOB_OK) << hob_status_message();
    EXPECT_EQ(test::ReadBytes(path), Save(first));
    const SessionPtr session = Create(model, Options(0, 200, 3));
    ASSERT_EQ(hob_session_restore(session.get(), path.c_str()), HOB_OK) << hob_status_message();
    EXPECT_TRUE(SameBits(Eval(session, tokens, position, 60), Rows(expected, position, 60)));
  }
  const auto files = [&] {
    const std::filesystem::directory_iterator all(std::filesystem::path(path).parent_path());
    return std::distance(begin(all), end(all));
  };
  EXPECT_EQ(files(), 1) << "something was left beside the file";

  const auto fails = [&](hob_status status, hob_status expected_status, const std::string& part) {
    EXPECT_EQ(status, expected_status);
    EXPECT_NE(std::string(hob_status_message()).find(part), std::string::npos)
        << hob_status_message();
  };
  const Bytes before = test::ReadBytes(path);
  const std::string nowhere = directory.File("none/session"), folder = directory.File("folder");
  std::filesystem::create_directories(folder);
  fails(hob_session_save(first.get(), nowhere.c_str()), HOB_ERROR_IO, nowhere);
  fails(hob_session_save(first.get(), folder.c_str()), HOB_ERROR_IO, folder);
  fails(hob_session_restore(first.get(), nowhere.c_str()), HOB_ERROR_IO, nowhere);
  fails(hob_session_restore(first.get(), folder.c_str()), HOB_ERROR_IO, folder);
  test::WriteBytes(path, Bytes(before.begin(), before.end() - 1));
  fails(hob_session_restore(first.get(), path.c_str()), HOB_ERROR_FILE, path);
  test::WriteBytes(path, {});
  fails(hob_session_restore(first.get(), path.c_str()), HOB_ERROR_FILE, path);
  EXPECT_EQ(Save(first), before) << "changed by a call that failed";
}

TEST(CacheTest, SaveChecksItsArguments) {
  const ModelPtr model = Load(TinyWriter());
  const SessionPtr session = Create(model);
  size_t size = 0;
  EXPECT_EQ(hob_session_save_memory(session.get(), nullptr, 1, &size), HOB_ERROR_ARGUMENT);
  EXPECT_EQ(hob_session_save_memory(session.get(), nullptr, 0, nullptr), HOB_ERROR_ARGUMENT);
  EXPECT_EQ(hob_session_save_memory(nullptr, nullptr, 0, &size), HOB_ERROR_ARGUMENT);
  ASSERT_EQ(hob_session_save_memory(session.get(), nullptr, 0, &size), HOB_OK);
  Bytes bytes(size + 8, 0xAB);
  EXPECT_EQ(hob_session_save_memory(session.get(), bytes.data(), size - 1, &size),
            HOB_ERROR_ARGUMENT);
  EXPECT_EQ(bytes, Bytes(size + 8, 0xAB));
  EXPECT_EQ(hob_session_save_memory(session.get(), bytes.data(), size + 8, &size), HOB_OK);
  EXPECT_EQ(bytes[size], 0xAB) << "written behind the end";
  EXPECT_EQ(hob_session_save(session.get(), nullptr), HOB_ERROR_ARGUMENT);
  EXPECT_EQ(hob_session_save(nullptr, "x"), HOB_ERROR_ARGUMENT);
  EXPECT_EQ(hob_session_restore(session.get(), nullptr), HOB_ERROR_ARGUMENT);
  EXPECT_EQ(hob_session_restore(nullptr, "x"), HOB_ERROR_ARGUMENT);
  EXPECT_EQ(hob_session_restore_memory(session.get(), nullptr, 1), HOB_ERROR_ARGUMENT);
  EXPECT_EQ(hob_session_restore_memory(nullptr, bytes.data(), 1), HOB_ERROR_ARGUMENT);
  EXPECT_EQ(hob_session_restore_memory(session.get(), nullptr, 0), HOB_ERROR_FILE);
}

// ---------------------------------------------------------------- refusing

// A session that has been at work, and what would show if it had changed.
class Untouched {
 public:
  explicit Untouched(const ModelPtr& model, const hob_session_options& options = Options())
      : session_(Create(model, options)) {
    Feed(session_, RandomTokens(21, 77), 0, 21);
    before_ = Save(session_);
  }
  const SessionPtr& session() const { return session_; }
  bool Intact() const { return Save(session_) == before_; }

 private:
  SessionPtr session_;
  Bytes before_;
};

void ExpectRefused(const Untouched& untouched, const Bytes& bytes, hob_status status,
                   const std::string& part) {
  EXPECT_EQ(Restore(untouched.session(), bytes), status) << part;
  EXPECT_NE(std::string(hob_status_message()).find(part), std::string::npos)
      << hob_status_message() << "\n  should say " << part;
  EXPECT_TRUE(untouched.Intact()) << part;
}

// The same with its checksum made right.
Bytes Sealed(Bytes bytes) {
  const uint64_t checksum = StateChecksum(bytes);
  std::memcpy(bytes.data() + offsetof(StateHeader, checksum), &checksum, sizeof(checksum));
  return bytes;
}

template <typename T>
Bytes With(Bytes bytes, size_t offset, T value) {
  std::memcpy(bytes.data() + offset, &value, sizeof(value));
  return Sealed(std::move(bytes));
}

TEST(CacheTest, EveryFieldOfTheHeaderIsChecked) {
  const ModelPtr model = Load(TinyWriter());
  const SessionPtr first = Create(model);
  Feed(first, RandomTokens(40), 0, 40);
  const Bytes good = Save(first);
  const Untouched session(model);
  const auto refused = [&](size_t offset, auto value, hob_status status, const std::string& part) {
    ExpectRefused(session, With(good, offset, value), status, part);
  };
  refused(offsetof(StateHeader, magic), 'H', HOB_ERROR_FILE, "no saved session");
  refused(offsetof(StateHeader, magic) + 7, 'E', HOB_ERROR_FILE, "no saved session");
  refused(offsetof(StateHeader, byte_order), 0x04030201u, HOB_ERROR_UNSUPPORTED, "byte order");
  refused(offsetof(StateHeader, byte_order), 0x01020305u, HOB_ERROR_FILE, "byte order");
  refused(offsetof(StateHeader, version), 0u, HOB_ERROR_UNSUPPORTED, "version 0");
  refused(offsetof(StateHeader, version), 2u, HOB_ERROR_UNSUPPORTED, "version 2");
  refused(offsetof(StateHeader, model), uint64_t{5}, HOB_ERROR_ARGUMENT, "0000000000000005");
  refused(offsetof(StateHeader, cache_type), 1u, HOB_ERROR_ARGUMENT, "bf16");
  refused(offsetof(StateHeader, cache_type), 2u, HOB_ERROR_ARGUMENT, "q8_0");
  refused(offsetof(StateHeader, cache_type), 77u, HOB_ERROR_ARGUMENT, "77");
  refused(offsetof(StateHeader, layout), 1u, HOB_ERROR_UNSUPPORTED, "layout 1");
  refused(offsetof(StateHeader, layers), 3u, HOB_ERROR_FILE, "3 layers");
  refused(offsetof(StateHeader, layers), UINT32_MAX, HOB_ERROR_FILE, "layers");
  refused(offsetof(StateHeader, kv_heads), 0u, HOB_ERROR_FILE, "0 KV heads");
  refused(offsetof(StateHeader, head_dim), 9u, HOB_ERROR_FILE, "9 elements");
  refused(offsetof(StateHeader, vocabulary), 287u, HOB_ERROR_FILE, "287 tokens");
  for (uint64_t tokens : {uint64_t{257}, UINT64_MAX, UINT64_MAX / 4, uint64_t{1} << 32}) {
    refused(offsetof(StateHeader, tokens), tokens, HOB_ERROR_SHAPE, std::to_string(tokens));
  }
  for (uint64_t tokens : {0, 1, 39, 41, 256}) {
    refused(offsetof(StateHeader, tokens), tokens, HOB_ERROR_FILE, "the saved session");
  }
  for (uint64_t logits : {uint64_t{1}, uint64_t{285}, UINT64_MAX, UINT64_MAX / 4 + 1}) {
    refused(offsetof(StateHeader, logits), logits, HOB_ERROR_FILE, std::to_string(logits));
  }
  refused(offsetof(StateHeader, logits), uint64_t{0}, HOB_ERROR_FILE, "for its 40 tokens");
  for (uint64_t bytes : {uint64_t{0}, uint64_t{80}, good.size() + 1, UINT64_MAX}) {
    refused(offsetof(StateHeader, bytes), bytes, HOB_ERROR_FILE, std::to_string(bytes));
  }
  for (int32_t token : {-1, 286, INT32_MAX, INT32_MIN}) {
    refused(sizeof(StateHeader) + 39 * sizeof(token), token, HOB_ERROR_FILE,
            "token 39 of the saved session is " + std::to_string(token));
  }
  Bytes bad = good;
  bad[offsetof(StateHeader, checksum)] ^= 1;
  ExpectRefused(session, bad, HOB_ERROR_FILE, "checksum");

  // More or less than there should be, with a header that agrees.
  for (const ptrdiff_t change : {-64, -1, 1, 64, 4096}) {
    Bytes other = good;
    other.resize(static_cast<size_t>(static_cast<ptrdiff_t>(good.size()) + change));
    const uint64_t size = other.size();
    ExpectRefused(session, With(other, offsetof(StateHeader, bytes), size), HOB_ERROR_FILE,
                  "for its 40 tokens");
  }
  for (size_t size = 0; size < good.size(); size += size < 200 ? 1 : 97) {
    const Bytes cut(good.begin(), good.begin() + static_cast<ptrdiff_t>(size));
    ASSERT_EQ(Restore(session.session(), cut), HOB_ERROR_FILE) << size;
  }
  EXPECT_TRUE(session.Intact());
  EXPECT_EQ(Restore(session.session(), With(good, offsetof(StateHeader, version), 1u)), HOB_OK)
      << hob_status_message() << ": the tests above prove nothing";
}

TEST(CacheTest, OtherModelsCachesAndContextsAreRefused) {
  const ModelPtr model = Load(TinyWriter());
  const SessionPtr first = Create(model);
  Feed(first, RandomTokens(40), 0, 40);
  const Bytes good = Save(first);

  ExpectRefused(Untouched(model, Options(1 + HOB_CACHE_BF16)), good, HOB_ERROR_ARGUMENT, "f32");
  ExpectRefused(Untouched(model, Options(1 + HOB_CACHE_Q8_0)), good, HOB_ERROR_ARGUMENT, "q8_0");
  ExpectRefused(Untouched(model, Options(0, 39)), good, HOB_ERROR_SHAPE, "context of 39");
  ExpectRefused(Untouched(Load(TinyWriter(256, 2))), good, HOB_ERROR_ARGUMENT, "another model");
  // Every weight counts, a norm's as much as a matrix's, and so does the metadata.
  for (const char* name :
       {"token_embd.weight", "blk.0.attn_norm.weight", "blk.1.ffn_down.weight", "output.weight"}) {
    Bytes bytes = TinyWriter().WriteBytes();
    const Gguf file = Gguf::FromMemory(bytes);
    const GgufTensor& tensor = file.GetTensor(name);
    bytes[tensor.begin + *tensor.bytes - 4] ^= 1;  // the last bit of the last weight
    hob_model* other = nullptr;
    ASSERT_EQ(hob_model_load_memory(bytes.data(), bytes.size(), nullptr, &other), HOB_OK);
    ExpectRefused(Untouched(ModelPtr(other)), good, HOB_ERROR_ARGUMENT, "another model");
  }
  GgufWriter turned = TinyWriter();
  turned.SetF32("llama.rope.freq_base", 20000.0f);
  ExpectRefused(Untouched(Load(turned)), good, HOB_ERROR_ARGUMENT, "another model");

  // The same model, loaded again under another name.
  GgufWriter renamed = TinyWriter();
  renamed.SetString("general.name", "somebody else");
  const ModelPtr same = Load(renamed);
  const SessionPtr session = Create(same);
  EXPECT_EQ(Restore(session, good), HOB_OK) << hob_status_message();
}

// Changes a saved session at random, in one of several ways.
Bytes Damaged(Bytes bytes, std::mt19937& random) {
  const auto below = [&](size_t limit) { return static_cast<size_t>(random()) % limit; };
  switch (below(7)) {
    case 0:  // a wrong bit
      bytes[below(bytes.size())] ^= static_cast<uint8_t>(1 << below(8));
      break;
    case 1:  // in the header
      bytes[below(sizeof(StateHeader))] ^= static_cast<uint8_t>(1 + below(255));
      break;
    case 2:  // the end is missing
      bytes.resize(below(bytes.size()));
      break;
    case 3:  // something follows
      for (size_t i = 0, n = 1 + below(300); i < n; ++i) {
        bytes.push_back(static_cast<uint8_t>(random()));
      }
      break;
    case 4: {  // a block of nothing, as of a disk that was full
      const size_t begin = below(bytes.size() - 100);
      std::fill_n(bytes.begin() + static_cast<ptrdiff_t>(begin), 1 + below(100), uint8_t{0});
      break;
    }
    case 5: {  // two words swapped
      const size_t a = below(bytes.size() / 8) * 8, b = below(bytes.size() / 8) * 8;
      std::swap_ranges(bytes.begin() + static_cast<ptrdiff_t>(a),
                       bytes.begin() + static_cast<ptrdiff_t>(a + 8),
                       bytes.begin() + static_cast<ptrdiff_t>(b));
      break;
    }
    default: {  // an extreme number in the header
      constexpr uint32_t kExtremes[] = {0, 1, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF};
      std::memcpy(bytes.data() + 4 * below(sizeof(StateHeader) / 4), &kExtremes[below(5)], 4);
    }
  }
  return bytes;
}

TEST(CacheTest, DamagedCopiesAreRefused) {
  const ModelPtr model = Load(TinyWriter());
  const test::TempDir directory;
  const std::string path = directory.File("session");
  std::mt19937 random(2026);
  for (const int type : CacheTypes(model)) {
    const SessionPtr first = Create(model, Options(type));
    Feed(first, RandomTokens(50), 0, 50);
    const Bytes good = Save(first);
    const Untouched session(model, Options(type));
    const int copies = std::getenv("HOB_TEST_QUICK") != nullptr ? 100 : 500;
    for (int copy = 0; copy < copies; ++copy) {
      const Bytes bad = Damaged(good, random);
      if (bad == good) continue;
      hob_status status;
      if (copy % 10 == 0) {
        test::WriteBytes(path, bad);
        status = hob_session_restore(session.session().get(), path.c_str());
      } else {
        status = Restore(session.session(), bad);
      }
      ASSERT_TRUE(status == HOB_ERROR_FILE || status == HOB_ERROR_UNSUPPORTED)
          << "copy " << copy << ": " << hob_status_name(status);
      const std::string message = hob_status_message();
      ASSERT_FALSE(message.empty());
      ASSERT_EQ(message.find('\n'), std::string::npos);
    }
    EXPECT_TRUE(session.Intact());

    // Whoever makes the checksum right can get numbers in, but nothing else: a status or a session
    // that runs.
    for (int copy = 0; copy < 200; ++copy) {
      Bytes bad = Damaged(good, random);
      if (bad.size() < sizeof(StateHeader)) continue;
      const SessionPtr victim = Create(model, Options(type));
      if (Restore(victim, Sealed(std::move(bad))) == HOB_OK) {
        Eval(victim, RandomTokens(3), 0, 3);
      } else {
        EXPECT_EQ(hob_session_position(victim.get()), 0u);
      }
    }
  }
}

// ---------------------------------------------------------------- checksums

TEST(ChecksumTest, DependsOnEveryByteAndNotOnThePieces) {
  std::mt19937 random(1);
  Bytes bytes(300);
  for (uint8_t& byte : bytes) byte = static_cast<uint8_t>(random());
  for (size_t size : {0, 1, 7, 8, 63, 64, 65, 128, 300}) {
    const std::span<const uint8_t> part(bytes.data(), size);
    const uint64_t whole = Checksum().Add(part).value();
    for (size_t piece : {1, 3, 64, 100}) {
      Checksum sum;
      for (size_t at = 0; at < size; at += piece) {
        sum.Add(part.subspan(at, std::min(piece, size - at)));
        EXPECT_EQ(sum.value(), sum.value());
      }
      EXPECT_EQ(sum.value(), whole) << size << " in pieces of " << piece;
    }
    for (size_t bit = 0; bit < 8 * size; ++bit) {
      bytes[bit / 8] ^= static_cast<uint8_t>(1 << bit % 8);
      EXPECT_NE(Checksum().Add(part).value(), whole) << "bit " << bit << " of " << size;
      bytes[bit / 8] ^= static_cast<uint8_t>(1 << bit % 8);
    }
  }
  const Bytes zeros(100);
  std::vector<uint64_t> values;
  for (size_t size = 0; size <= zeros.size(); ++size) {
    values.push_back(Checksum().Add(std::span(zeros.data(), size)).value());
  }
  std::sort(values.begin(), values.end());
  EXPECT_EQ(std::adjacent_find(values.begin(), values.end()), values.end()) << "length counts";
  // The same on every machine, or saved sessions would not travel.
  EXPECT_EQ(Checksum().Add("hobcache").Add(uint64_t{42}).value(), 0xBD374414E3C7F387u);
}

}  // namespace
}  // namespace hob
