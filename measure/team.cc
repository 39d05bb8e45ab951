#include "measure/team.h"

#include <hwy/cache_control.h>
#include <time.h>

#include <chrono>
#include <map>
#include <memory>

#if defined(__linux__)
#include <sched.h>
#endif

namespace hob::measure {
namespace {

// How long a thread looks again and again before it lets others run: longer than the pause between
// two turns of a benchmark, shorter than anything that a measurement would notice.
constexpr int kSpins = 20000;

}  // namespace

size_t CpuCount() {
#if defined(__linux__)
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) == 0) return static_cast<size_t>(CPU_COUNT(&set));
#endif
  const unsigned count = std::thread::hardware_concurrency();
  return count == 0 ? 1 : count;
}

const std::vector<size_t>& ThreadCounts() {
  static const std::vector<size_t> counts =
      CpuCount() > 1 ? std::vector<size_t>{1, CpuCount()} : std::vector<size_t>{1};
  return counts;
}

Team& Team::Of(size_t threads) {
  static std::map<size_t, std::unique_ptr<Team>> teams;
  std::unique_ptr<Team>& team = teams[threads];
  if (team == nullptr) team = std::make_unique<Team>(threads);
  return *team;
}

Team::Team(size_t threads) {
  for (size_t i = 1; i < threads; ++i) workers_.emplace_back([this, i] { Work(i); });
}

Team::~Team() {
  Start(nullptr, nullptr);
  for (std::thread& worker : workers_) worker.join();
}

void Team::Start(Call call, void* body) {
  if (!workers_.empty()) {
    call_ = call;
    body_ = body;
    running_.store(workers_.size(), std::memory_order_relaxed);
    turn_.fetch_add(1, std::memory_order_release);
    turn_.notify_all();  // no system call unless one sleeps
  }
  if (call != nullptr) call(body, 0);
  // The barrier. Nobody sleeps here, since the others are nearly done, too; but on a busy machine
  // they may be waiting for this very CPU.
  for (int spins = 0; running_.load(std::memory_order_acquire) != 0; ++spins) {
    hwy::Pause();
    if (spins > kSpins) std::this_thread::yield();
  }
}

void Team::Work(size_t thread) {
  for (uint32_t seen = 0;;) {
    // Between benchmarks a worker sleeps, so that it takes nothing from those of one thread.
    for (int spins = 0; turn_.load(std::memory_order_acquire) == seen; ++spins) {
      hwy::Pause();
      if (spins > kSpins) turn_.wait(seen, std::memory_order_acquire);
    }
    ++seen;  // a turn ends only when every worker is through, so none is skipped
    const Call call = call_;
    if (call != nullptr) call(body_, thread);
    running_.fetch_sub(1, std::memory_order_release);
    if (call == nullptr) return;
  }
}

double Team::Now() const { return threads() == 1 ? ThreadSeconds() : WallSeconds(); }

double ThreadSeconds() {
#if defined(CLOCK_THREAD_CPUTIME_ID)
  timespec now;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
#else
  return WallSeconds();
#endif
}

double WallSeconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

}  // namespace hob::measure
