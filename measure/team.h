// Threads to measure with, and the clocks that go with them. The kernels have no threads of their
// own, so here are workers that stay alive from turn to turn, as a program's pool would. Start with
// Team::Run.
#ifndef HOB_MEASURE_TEAM_H_
#define HOB_MEASURE_TEAM_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <thread>
#include <type_traits>
#include <vector>

namespace hob::measure {

// How many CPUs this process may use; taskset lowers it.
size_t CpuCount();

// 1, and CpuCount() if that is more: the thread counts that are measured.
const std::vector<size_t>& ThreadCounts();

class Team {
 public:
  // The team of this many threads, the calling one being one of them. Made at the first call.
  static Team& Of(size_t threads);

  explicit Team(size_t threads);
  ~Team();
  Team(const Team&) = delete;
  Team& operator=(const Team&) = delete;

  size_t threads() const { return workers_.size() + 1; }

  // body(thread) once on each thread, 0 being the caller; returns when all are done.
  template <class F>
  void Run(F&& body) {
    using Body = std::remove_reference_t<F>;
    Start([](void* f, size_t thread) { (*static_cast<Body*>(f))(thread); }, &body);
  }

  // body(begin, end) on parts of [0, count) that are multiples of `unit` (but the last) and as
  // equal as that allows.
  template <class F>
  void Split(size_t count, size_t unit, F&& body) {
    const size_t units = (count + unit - 1) / unit, n = threads();
    if (n == 1) {  // no divisions, which small turns would notice
      if (count > 0) body(size_t{0}, count);
      return;
    }
    Run([&](size_t thread) {
      const size_t begin = units * thread / n * unit, end = units * (thread + 1) / n * unit;
      if (begin < end) body(begin, end < count ? end : count);
    });
  }

  // The clock for what this team does, in seconds: ThreadSeconds() for one thread, else
  // WallSeconds().
  double Now() const;

 private:
  using Call = void (*)(void* body, size_t thread);

  void Start(Call call, void* body);
  void Work(size_t thread);

  // What to do; written before `turn_` moves on.
  Call call_ = nullptr;
  void* body_ = nullptr;
  // Each on a cache line of its own: the workers read one while they write the other.
  alignas(64) std::atomic<uint32_t> turn_{0};
  alignas(64) std::atomic<size_t> running_{0};
  std::vector<std::thread> workers_;
};

// Processor time of the calling thread: other programs that take their turn do not count. What one
// thread does is measured by it.
double ThreadSeconds();

// The clock on the wall, which is what several threads are measured by.
double WallSeconds();

}  // namespace hob::measure

#endif  // HOB_MEASURE_TEAM_H_
