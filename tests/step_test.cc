// What a step costs its host: after the first one, no allocation and no lock, on one thread or on
// many, for prompts and for generation. And no host can make it hang or change its results.
//
// Allocations and locks are counted by standing in front of the C library's functions, so whatever
// hob calls, through whatever library, is seen. The threads are a pool of the test's own that does
// neither; oneTBB's scheduler has allocations and locks of its own, which are not hob's.
#include <dlfcn.h>
#include <gtest/gtest.h>
#include <pthread.h>

#include <atomic>
#include <cerrno>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "hob/model.h"
#include "runtime/synth.h"
#include "tests/host_pool.h"
#include "tests/test_files.h"

// ---------------------------------------------------------------- counting

namespace {

std::atomic<bool> counting{false};
std::atomic<size_t> allocations{0}, locks{0};

void Count(std::atomic<size_t>& what) {
  if (counting.load(std::memory_order_relaxed)) what.fetch_add(1, std::memory_order_relaxed);
}

}  // namespace

#if defined(__GLIBC__)
constexpr bool kCanCount = true;

// Visible, or shared libraries would not find these.
#pragma GCC visibility push(default)
extern "C" {

void* __libc_malloc(size_t bytes);
void* __libc_calloc(size_t count, size_t bytes);
void* __libc_realloc(void* old, size_t bytes);
void* __libc_memalign(size_t alignment, size_t bytes);

void* malloc(size_t bytes) noexcept {
  Count(allocations);
  return __libc_malloc(bytes);
}
void* calloc(size_t count, size_t bytes) noexcept {
  Count(allocations);
  return __libc_calloc(count, bytes);
}
void* realloc(void* old, size_t bytes) noexcept {
  Count(allocations);
  return __libc_realloc(old, bytes);
}
void* memalign(size_t alignment, size_t bytes) noexcept {
  Count(allocations);
  return __libc_memalign(alignment, bytes);
}
void* aligned_alloc(size_t alignment, size_t bytes) noexcept {
  Count(allocations);
  return __libc_memalign(alignment, bytes);
}
int posix_memalign(void** memory, size_t alignment, size_t bytes) noexcept {
  Count(allocations);
  *memory = __libc_memalign(alignment, bytes);
  return *memory == nullptr ? ENOMEM : 0;
}

}  // extern "C"

// Calls the C library's own; `real` is a static of the caller, filled once.
template <typename Function, typename... Arguments>
auto CallNext(Function*& real, const char* name, Arguments... arguments) {
  if (real == nullptr) real = reinterpret_cast<Function*>(dlsym(RTLD_NEXT, name));
  return real(arguments...);
}

extern "C" {

int pthread_mutex_lock(pthread_mutex_t* mutex) noexcept {
  static int (*real)(pthread_mutex_t*) = nullptr;
  Count(locks);
  return CallNext(real, "pthread_mutex_lock", mutex);
}
int pthread_mutex_trylock(pthread_mutex_t* mutex) noexcept {
  static int (*real)(pthread_mutex_t*) = nullptr;
  Count(locks);
  return CallNext(real, "pthread_mutex_trylock", mutex);
}
int pthread_rwlock_rdlock(pthread_rwlock_t* lock) noexcept {
  static int (*real)(pthread_rwlock_t*) = nullptr;
  Count(locks);
  return CallNext(real, "pthread_rwlock_rdlock", lock);
}
int pthread_rwlock_wrlock(pthread_rwlock_t* lock) noexcept {
  static int (*real)(pthread_rwlock_t*) = nullptr;
  Count(locks);
  return CallNext(real, "pthread_rwlock_wrlock", lock);
}

}  // extern "C"
#pragma GCC visibility pop
#else
constexpr bool kCanCount = false;
#endif

namespace hob {
namespace {

// Counts between its construction and Stop.
class Counter {
 public:
  Counter() {
    allocations = locks = 0;
    counting = true;
  }
  ~Counter() { Stop(); }
  void Stop() { counting = false; }
};

TEST(StepTest, CountersSeeWhatHappens) {
  if (!kCanCount) GTEST_SKIP() << "only with glibc";
  std::mutex mutex;
  Counter counter;
  std::vector<std::unique_ptr<std::string>> strings;
  for (int i = 0; i < 3; ++i) strings.push_back(std::make_unique<std::string>(100, 'x'));
  void* memory[3] = {std::malloc(7), std::aligned_alloc(64, 64), nullptr};
  EXPECT_EQ(posix_memalign(&memory[2], 64, 64), 0);
  const size_t allocated = allocations;
  { const std::lock_guard<std::mutex> lock(mutex); }
  counter.Stop();
  EXPECT_GE(allocated, 3 * 2 + 3u);
  EXPECT_GE(locks, 1u);
  for (void* block : memory) std::free(block);
}

// ---------------------------------------------------------------- models and sessions

struct FreeModel {
  void operator()(hob_model* model) const { hob_model_free(model); }
};
struct FreeSession {
  void operator()(hob_session* session) const { hob_session_free(session); }
};
using ModelPtr = std::unique_ptr<hob_model, FreeModel>;
using SessionPtr = std::unique_ptr<hob_session, FreeSession>;

// Wide enough that even single tokens make work for several threads.
ModelPtr MakeModel(const char* format) {
  const test::TempDir directory;
  const std::string path = directory.File("model.gguf");
  Synthesize("tiny", format, path, {});
  hob_model* model = nullptr;
  EXPECT_EQ(hob_model_load(path.c_str(), nullptr, &model), HOB_OK) << hob_status_message();
  return ModelPtr(model);
}

SessionPtr Create(const ModelPtr& model, const hob_threads* threads, size_t batch = 16,
                  int cache_type = 0) {
  hob_session_options options{};
  options.struct_size = sizeof(options);
  options.batch = batch;
  options.cache_type = cache_type;
  options.threads = threads;
  hob_session* session = nullptr;
  EXPECT_EQ(hob_session_create(model.get(), &options, &session), HOB_OK) << hob_status_message();
  return SessionPtr(session);
}

constexpr size_t kVocabulary = 512;

std::vector<int32_t> Tokens(size_t count) {
  std::vector<int32_t> tokens(count);
  for (size_t i = 0; i < count; ++i) tokens[i] = static_cast<int32_t>((i * 97 + 5) % kVocabulary);
  return tokens;
}

// ---------------------------------------------------------------- allocations and locks

// Everything that a host does once it is running. The status of the first failure.
hob_status Steps(hob_session* session, const std::vector<int32_t>& tokens,
                 std::vector<float>& logits) {
  hob_status status = HOB_OK;
  const auto then = [&](auto call) {
    if (status == HOB_OK) status = call();
  };
  int32_t token = tokens[0];
  size_t kept = 0;
  for (int i = 0; i < 20; ++i) {  // generation
    then([&] { return hob_session_eval(session, &token, 1, nullptr); });
    then([&] { return hob_session_sample(session, &token); });
  }
  then([&] { return hob_session_eval(session, tokens.data(), 100, nullptr); });       // a prompt
  then([&] { return hob_session_eval(session, tokens.data(), 40, logits.data()); });  // all logits
  then([&] { return hob_session_rewind(session, 30); });
  then([&] { return hob_session_reuse(session, tokens.data(), 60, &kept); });
  then([&] { return hob_session_eval(session, tokens.data() + kept, 60 - kept, nullptr); });
  then([&] { return hob_session_sample(session, &token); });
  return status;
}

TEST(StepTest, NothingIsAllocatedOrLockedAfterTheFirst) {
  if (!kCanCount) GTEST_SKIP() << "only with glibc";
  const std::vector<int32_t> tokens = Tokens(100);
  std::vector<float> logits(40 * kVocabulary);
  for (const char* format : {"f32", "bf16", "q4_0", "q4_k"}) {
    const ModelPtr model = MakeModel(format);
    for (size_t count : {1, 2, 4}) {
      test::HostPool pool(count);
      const hob_threads threads = pool.threads();
      const SessionPtr session = Create(model, count == 1 ? nullptr : &threads);
      hob_sampler_options sampler{};
      sampler.struct_size = sizeof(sampler);
      sampler.temperature = 0.8f;
      sampler.top_k = 40;
      sampler.top_p = 0.9f;
      sampler.repetition_penalty = 1.1f;
      ASSERT_EQ(hob_session_sampler(session.get(), &sampler), HOB_OK);
      // The first step: one prompt, one token.
      int32_t token;
      ASSERT_EQ(hob_session_eval(session.get(), tokens.data(), 20, nullptr), HOB_OK);
      ASSERT_EQ(hob_session_sample(session.get(), &token), HOB_OK);

      Counter counter;
      const hob_status status = Steps(session.get(), tokens, logits);
      counter.Stop();
      EXPECT_EQ(status, HOB_OK) << hob_status_message();
      EXPECT_EQ(allocations, 0u) << format << ", " << count << " threads";
      EXPECT_EQ(locks, 0u) << format << ", " << count << " threads";
    }
  }
}

// ---------------------------------------------------------------- hosts

// All logits of a prompt and then of single tokens.
std::vector<float> Logits(const ModelPtr& model, const hob_threads* threads) {
  const std::vector<int32_t> tokens = Tokens(50);
  const SessionPtr session = Create(model, threads);
  std::vector<float> logits(tokens.size() * kVocabulary);
  constexpr size_t kPrompt = 40;
  EXPECT_EQ(hob_session_eval(session.get(), tokens.data(), kPrompt, logits.data()), HOB_OK);
  for (size_t i = kPrompt; i < tokens.size(); ++i) {
    EXPECT_EQ(hob_session_eval(session.get(), &tokens[i], 1, logits.data() + i * kVocabulary),
              HOB_OK);
  }
  return logits;
}

void ExpectSame(const std::vector<float>& got, const std::vector<float>& expected,
                const std::string& what) {
  ASSERT_EQ(got.size(), expected.size());
  EXPECT_EQ(std::memcmp(got.data(), expected.data(), got.size() * sizeof(float)), 0) << what;
}

TEST(StepTest, NoHostHangsItOrChangesItsResults) {
  for (const char* format : {"f32", "q4_0"}) {
    const ModelPtr model = MakeModel(format);
    const std::vector<float> expected = Logits(model, nullptr);
    for (size_t count : {2, 4, 16}) {
      const std::string what = std::string(format) + ", " + std::to_string(count);
      test::HostPool pool(count);
      const hob_threads running = pool.threads();
      ExpectSame(Logits(model, &running), expected, what + " running threads");
      const hob_threads alone = test::OneThreadFor(count);
      ExpectSame(Logits(model, &alone), expected, what + " bodies on one thread");
    }
    const hob_threads fresh = test::ThreadForEach(4);
    ExpectSame(Logits(model, &fresh), expected, std::string(format) + ", new threads");
  }
}

}  // namespace
}  // namespace hob
