// The region does every chunk exactly once and phase after phase, whatever the host's threads do.
#include "runtime/region.h"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <cstddef>
#include <memory>
#include <thread>
#include <vector>

namespace hob {
namespace {

// Checks what it is asked to do: each chunk once, and only when the phases before are complete.
class CheckedWork : public RegionWork {
 public:
  explicit CheckedWork(std::vector<size_t> chunks) : chunks_(std::move(chunks)) { Reset(); }

  void Reset() {
    runs_ = std::vector<std::vector<std::atomic<int>>>(chunks_.size());
    for (size_t p = 0; p < chunks_.size(); ++p) {
      runs_[p] = std::vector<std::atomic<int>>(chunks_[p]);
    }
    finished_ = std::vector<std::atomic<size_t>>(chunks_.size());
    out_of_order_ = 0;
    polls_ = 0;
  }

  size_t phase_count() const override { return chunks_.size(); }
  size_t chunk_count(size_t phase) const override { return chunks_[phase]; }

  void RunChunk(size_t phase, size_t chunk, size_t participant) override {
    ++runs_[phase][chunk];
    if (participant < busy_.size() && busy_[participant]++ != 0) ++out_of_order_;
    for (size_t p = 0; p < phase; ++p) {
      if (finished_[p] != chunks_[p]) ++out_of_order_;
    }
    if (delay_.count() != 0 && chunk == 0) std::this_thread::sleep_for(delay_);
    if (participant < busy_.size()) --busy_[participant];
    ++finished_[phase];
  }

  bool Cancelled(size_t) override { return ++polls_ > cancel_after_; }

  void ExpectAllRunOnce() const {
    EXPECT_EQ(out_of_order_, 0);
    for (size_t p = 0; p < chunks_.size(); ++p) {
      for (size_t c = 0; c < chunks_[p]; ++c) {
        ASSERT_EQ(runs_[p][c], 1) << "phase " << p << " chunk " << c;
      }
    }
  }

  size_t TotalRuns() const {
    size_t total = 0;
    for (const auto& phase : runs_) {
      for (const auto& runs : phase) total += static_cast<size_t>(runs.load());
    }
    return total;
  }

  int cancel_after_ = 1 << 30;
  std::chrono::microseconds delay_{0};

 private:
  std::vector<size_t> chunks_;
  std::vector<std::vector<std::atomic<int>>> runs_;
  std::vector<std::atomic<size_t>> finished_;
  std::vector<std::atomic<int>> busy_ = std::vector<std::atomic<int>>(16);
  std::atomic<int> out_of_order_ = 0, polls_ = 0;
};

// Phases of all sizes, empty ones and single chunks among them.
std::vector<size_t> MixedPhases() {
  std::vector<size_t> chunks;
  for (size_t p = 0; p < 60; ++p) chunks.push_back(p * 7 % 13);
  return chunks;
}

using Body = void (*)(void* argument, size_t i);

// A pool that starts a thread for each body.
void RunOnThreads(void*, size_t n, Body body, void* argument) {
  std::vector<std::thread> threads;
  for (size_t i = 0; i < n; ++i) threads.emplace_back(body, argument, i);
  for (std::thread& thread : threads) thread.join();
}

// A pool that runs all bodies one after the other, the last first.
void RunSerially(void*, size_t n, Body body, void* argument) {
  while (n-- != 0) body(argument, n);
}

// A pool whose second half of threads comes late, when the work is half done or over.
void RunLate(void*, size_t n, Body body, void* argument) {
  std::vector<std::thread> threads;
  for (size_t i = 0; i < n; ++i) {
    threads.emplace_back([=] {
      if (i >= n / 2) std::this_thread::sleep_for(std::chrono::milliseconds(2));
      body(argument, i);
    });
  }
  for (std::thread& thread : threads) thread.join();
}

hob_threads Threads(size_t count, decltype(hob_threads::parallel_for) parallel_for) {
  return {sizeof(hob_threads), nullptr, count, parallel_for};
}

TEST(RegionTest, CallingThreadAlone) {
  Region region(nullptr);
  EXPECT_EQ(region.participants(), 1u);
  CheckedWork work(MixedPhases());
  EXPECT_TRUE(region.Run(work));
  work.ExpectAllRunOnce();
}

TEST(RegionTest, AnyNumberOfParticipants) {
  for (size_t count : {1, 2, 3, 7}) {
    const hob_threads threads = Threads(count, RunOnThreads);
    Region region(&threads);
    EXPECT_EQ(region.participants(), count);
    CheckedWork work(MixedPhases());
    for (int run = 0; run < 30; ++run) {
      work.Reset();
      EXPECT_TRUE(region.Run(work));
      work.ExpectAllRunOnce();
    }
  }
}

TEST(RegionTest, HostThatRunsBodiesOneAfterTheOther) {
  const hob_threads threads = Threads(5, RunSerially);
  Region region(&threads);
  CheckedWork work(MixedPhases());
  EXPECT_TRUE(region.Run(work));
  work.ExpectAllRunOnce();
}

TEST(RegionTest, LateParticipants) {
  const hob_threads threads = Threads(4, RunLate);
  Region region(&threads);
  CheckedWork work(MixedPhases());
  for (int delay : {0, 200}) {
    work.delay_ = std::chrono::microseconds(delay);
    work.Reset();
    EXPECT_TRUE(region.Run(work));
    work.ExpectAllRunOnce();
  }
}

// Waits longer than the spin, so that participants sleep and must be woken.
TEST(RegionTest, SleepersWakeUp) {
  const hob_threads threads = Threads(3, RunOnThreads);
  Region region(&threads);
  CheckedWork work({2, 1, 2, 3, 1, 1, 2});
  work.delay_ = std::chrono::milliseconds(3);
  for (int run = 0; run < 5; ++run) {
    work.Reset();
    EXPECT_TRUE(region.Run(work));
    work.ExpectAllRunOnce();
  }
}

TEST(RegionTest, MoreParticipantsThanCores) {
  const hob_threads threads = Threads(16, RunOnThreads);
  Region region(&threads);
  CheckedWork work(std::vector<size_t>(200, 4));
  for (int run = 0; run < 5; ++run) {
    work.Reset();
    EXPECT_TRUE(region.Run(work));
    work.ExpectAllRunOnce();
  }
}

TEST(RegionTest, CancelEndsTheRunWithThePhaseThatAsks) {
  for (size_t count : {1, 3}) {
    const hob_threads threads = Threads(count, RunOnThreads);
    Region region(&threads);
    CheckedWork work(std::vector<size_t>(20, 3));
    for (int phases : {0, 1, 7}) {
      work.cancel_after_ = phases;
      work.Reset();
      EXPECT_FALSE(region.Run(work));
      // Others may be at work on chunks of the phase whose first one asks.
      const size_t before = static_cast<size_t>(phases) * 3, others = count == 1 ? 0 : 2;
      EXPECT_GE(work.TotalRuns(), before);
      EXPECT_LE(work.TotalRuns(), before + others);
    }
    work.cancel_after_ = 1 << 30;
    work.Reset();
    EXPECT_TRUE(region.Run(work));  // the region is as good as new
    work.ExpectAllRunOnce();
  }
}

TEST(RegionTest, NothingToDo) {
  const hob_threads threads = Threads(3, RunOnThreads);
  Region region(&threads);
  CheckedWork none({}), empty({0, 0, 0}), single({1, 1, 0, 1});
  EXPECT_TRUE(region.Run(none));
  EXPECT_TRUE(region.Run(empty));
  EXPECT_TRUE(region.Run(single));
  single.ExpectAllRunOnce();
}

}  // namespace
}  // namespace hob
