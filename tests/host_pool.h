// Hosts that lend their threads to hob in different ways, for tests.
#ifndef HOB_TESTS_HOST_POOL_H_
#define HOB_TESTS_HOST_POOL_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <thread>
#include <vector>

#include "hob/hob.h"

namespace hob::test {

// Threads that are already running when work comes, like those of a game or a server. It neither
// allocates nor locks while it works, so that what is counted is hob's. One caller at a time.
class HostPool {
 public:
  // The caller is one of the `count` threads.
  explicit HostPool(size_t count) : count_(count) {
    for (size_t i = 1; i < count; ++i) {
      workers_.emplace_back([this] { Work(); });
    }
  }
  ~HostPool() {
    stop_ = true;
    Start();
    for (std::thread& worker : workers_) worker.join();
  }
  HostPool(const HostPool&) = delete;
  HostPool& operator=(const HostPool&) = delete;

  hob_threads threads() { return {sizeof(hob_threads), this, count_, ParallelFor}; }

 private:
  using Body = void (*)(void* argument, size_t i);

  static void ParallelFor(void* self, size_t n, Body body, void* argument) {
    auto& pool = *static_cast<HostPool*>(self);
    pool.body_ = body;
    pool.argument_ = argument;
    pool.bodies_ = n;
    pool.next_ = 0;
    pool.left_ = 0;
    pool.Start();
    pool.Claim();
    for (size_t left; (left = pool.left_) != pool.workers_.size();) pool.left_.wait(left);
  }

  void Start() {
    ++generation_;
    generation_.notify_all();
  }

  void Work() {
    for (uint32_t seen = 0;;) {
      generation_.wait(seen);
      ++seen;
      if (stop_) return;
      Claim();
      ++left_;
      left_.notify_one();
    }
  }

  void Claim() {
    for (size_t i; (i = next_++) < bodies_;) body_(argument_, i);
  }

  size_t count_;
  Body body_ = nullptr;
  void* argument_ = nullptr;
  size_t bodies_ = 0;
  std::atomic<size_t> next_ = 0;
  std::atomic<size_t> left_ = 0;  // workers that have done their part
  std::atomic<uint32_t> generation_ = 0;
  std::atomic<bool> stop_ = false;
  std::vector<std::thread> workers_;
};

// A host that says it has `count` threads and has only the caller's: bodies run one after the
// other.
inline hob_threads OneThreadFor(size_t count) {
  return {sizeof(hob_threads), nullptr, count,
          [](void*, size_t n, void (*body)(void*, size_t), void* argument) {
            for (size_t i = 0; i < n; ++i) body(argument, i);
          }};
}

// A host that starts a thread for each body.
inline hob_threads ThreadForEach(size_t count) {
  return {sizeof(hob_threads), nullptr, count,
          [](void*, size_t n, void (*body)(void*, size_t), void* argument) {
            std::vector<std::thread> threads;
            for (size_t i = 0; i < n; ++i) threads.emplace_back(body, argument, i);
            for (std::thread& thread : threads) thread.join();
          }};
}

}  // namespace hob::test

#endif  // HOB_TESTS_HOST_POOL_H_
