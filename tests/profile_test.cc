// What hob bench asks of the runtime: where the time of a step goes, and what it has to do at
// least.
#include "runtime/profile.h"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <new>
#include <numeric>
#include <string>
#include <thread>
#include <vector>

#include "runtime/model.h"
#include "runtime/session.h"
#include "runtime/synth.h"
#include "runtime/work.h"

namespace {
std::atomic<size_t> allocations{0};
}  // namespace

// Not inlined: GCC would see free() get memory from `new` and warn.
[[gnu::noinline]] void* operator new(size_t bytes) {
  ++allocations;
  void* memory = std::malloc(bytes == 0 ? 1 : bytes);
  if (memory == nullptr) throw std::bad_alloc();
  return memory;
}
[[gnu::noinline]] void operator delete(void* memory) noexcept { std::free(memory); }
[[gnu::noinline]] void operator delete(void* memory, size_t) noexcept { std::free(memory); }

namespace hob {
namespace {

// The shape "tiny" of hob synth.
constexpr size_t kLayers = 2, kWidth = 256, kFeedForward = 512, kKvWidth = 128, kVocabulary = 512;
constexpr size_t kQkv = kWidth * (kWidth + 2 * kKvWidth);
constexpr size_t kRest = kWidth * kWidth + 3 * kWidth * kFeedForward;
constexpr size_t kOutput = kVocabulary * kWidth;

class ProfileTest : public testing::Test {
 protected:
  static std::unique_ptr<Model> Tiny(const std::string& format) {
    const std::string path = testing::TempDir() + "hob_profile_test_" + format + ".gguf";
    Synthesize("tiny", format, path, {});
    hob_model_options options = {};
    options.struct_size = sizeof(options);
    auto model = Model::Load(Gguf::Open(path), options);
    std::filesystem::remove(path);
    return model;
  }

  static hob_session_options Options() {
    hob_session_options options = {};
    options.struct_size = sizeof(options);
    return options;
  }

  static std::vector<int32_t> Tokens(size_t count) {
    std::vector<int32_t> tokens(count);
    std::iota(tokens.begin(), tokens.end(), 3);
    return tokens;
  }
};

// Two threads that are made anew for every step.
hob_threads TwoThreads() {
  hob_threads threads = {};
  threads.struct_size = sizeof(threads);
  threads.count = 2;
  threads.parallel_for = [](void*, size_t n, void (*body)(void*, size_t), void* argument) {
    std::vector<std::thread> running;
    for (size_t i = 0; i < n; ++i) running.emplace_back(body, argument, i);
    for (std::thread& thread : running) thread.join();
  };
  return threads;
}

TEST_F(ProfileTest, WorkOfAToken) {
  const std::unique_ptr<Model> model = Tiny("q8_0");
  const Session session(*model, Options());
  const Work work = session.WorkOf(10, 1);
  const double weights = kLayers * (kQkv + kRest) + kOutput;
  EXPECT_EQ(work.ops(ActKind::kQ8), 2 * weights);
  EXPECT_EQ(work.all_ops(), 2 * weights);
  // Every matrix once; the embedding is the output matrix.
  EXPECT_EQ(work.weight_bytes, static_cast<double>(model->Describe().weight_bytes));
  // 11 tokens of bf16 keys and values.
  EXPECT_EQ(work.cache_bytes, 11.0 * kLayers * 2 * kKvWidth * 2);
}

TEST_F(ProfileTest, WorkOfAPrompt) {
  const std::unique_ptr<Model> model = Tiny("f16");
  hob_session_options options = Options();
  options.batch = 100;
  options.cache_type = 1 + HOB_CACHE_F32;
  const Session session(*model, options);
  const Work work = session.WorkOf(5, 250);
  // Only the last token needs more of the last layer than its cache.
  const double ops = 2.0 * (250.0 * (kLayers * kQkv + (kLayers - 1) * kRest) + kRest + kOutput);
  EXPECT_EQ(work.ops(ActKind::kF32), ops);
  EXPECT_EQ(work.all_ops(), ops);
  const double bytes_per_weight = 2;
  EXPECT_EQ(work.weight_bytes,
            bytes_per_weight * (3.0 * (kLayers * kQkv + (kLayers - 1) * kRest) + kRest + kOutput));
  // The layers' attention of steps that end at 105, 205 and 255 tokens; of the last layer only the
  // last step's.
  EXPECT_EQ(work.cache_bytes, 2.0 * kKvWidth * 4 * (105 + 205 + 2 * 255));
}

TEST_F(ProfileTest, KindsOfActivationsAreKeptApart) {
  for (const auto& [format, kind] : {std::pair{"f32", ActKind::kF32},
                                     {"bf16", ActKind::kBF16},
                                     {"q4_0", ActKind::kQ8},
                                     {"q6_k", ActKind::kQ8}}) {
    const std::unique_ptr<Model> model = Tiny(format);
    const Work work = Session(*model, Options()).WorkOf(0, 1);
    EXPECT_GT(work.ops(kind), 0) << format;
    EXPECT_EQ(work.ops(kind), work.all_ops()) << format;
  }
}

TEST_F(ProfileTest, TimeIsCountedForEveryKindOfOpAndOnlyWhileAttached) {
  const std::unique_ptr<Model> model = Tiny("q8_0");
  const hob_threads threads = TwoThreads();
  for (const hob_threads* lent : {static_cast<const hob_threads*>(nullptr), &threads}) {
    hob_session_options options = Options();
    options.threads = lent;
    Session session(*model, options);
    EXPECT_EQ(session.participants(), lent == nullptr ? 1u : 2u);
    const std::vector<int32_t> tokens = Tokens(100);
    session.Eval(tokens, nullptr);
    const std::vector<float> plain(session.Logits().begin(), session.Logits().end());

    Profile profile(session.graph(), session.participants());
    for (const auto& [kind, seconds] : profile.SecondsByKind()) EXPECT_EQ(seconds, 0) << kind;
    session.Rewind(0);
    session.SetProfile(&profile);
    const auto start = std::chrono::steady_clock::now();
    session.Eval(tokens, nullptr);
    const double whole =
        std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    session.SetProfile(nullptr);
    EXPECT_TRUE(std::equal(plain.begin(), plain.end(), session.Logits().begin()));

    const auto kinds = profile.SecondsByKind();
    double sum = 0;
    for (const char* kind :
         {"embed", "rms_norm", "prepare", "matmul", "rope", "append", "attention"}) {
      ASSERT_EQ(kinds.count(kind), 1u) << kind;
      EXPECT_GT(kinds.at(kind), 0) << kind;
    }
    for (const auto& [kind, seconds] : kinds) sum += seconds;
    EXPECT_LE(sum, whole * static_cast<double>(session.participants()));

    const auto matmuls = profile.SecondsOfMatmuls();
    double matmul_sum = 0;
    for (const auto& [name, seconds] : matmuls) matmul_sum += seconds;
    EXPECT_NEAR(matmul_sum, kinds.at("matmul") + kinds.at("gated_matmul"), 1e-6);
    for (const char* name : {"q", "k", "v", "attn_out", "ffn", "down", "logits"}) {
      EXPECT_EQ(matmuls.count(name), 1u) << name;
    }

    session.Rewind(0);
    session.Eval(tokens, nullptr);
    EXPECT_EQ(profile.SecondsByKind(), kinds);  // not attached any more
    profile.Clear();
    for (const auto& [kind, seconds] : profile.SecondsByKind()) EXPECT_EQ(seconds, 0) << kind;
  }
}

TEST_F(ProfileTest, CountingDoesNotAllocate) {
  const std::unique_ptr<Model> model = Tiny("q4_0");
  Session session(*model, Options());
  Profile profile(session.graph(), session.participants());
  session.SetProfile(&profile);
  const std::vector<int32_t> tokens = Tokens(3);
  session.Eval(tokens, nullptr);
  const size_t before = allocations;
  for (int i = 0; i < 5; ++i) session.Eval(tokens, nullptr);
  EXPECT_EQ(allocations, before);
}

}  // namespace
}  // namespace hob
