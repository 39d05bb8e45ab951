// hob_threads on a oneTBB task arena. A library of its own: nothing else in hob knows of oneTBB.
//
// The threads are the process's; an arena says how many of them may work for it at a time. Start at
// ParallelFor.
#include <oneapi/tbb/global_control.h>
#include <oneapi/tbb/parallel_for.h>
#include <oneapi/tbb/partitioner.h>
#include <oneapi/tbb/task_arena.h>

#include <algorithm>
#include <atomic>
#include <exception>
#include <new>

#include "hob/tbb.h"
#include "kernels/status.h"
#include "runtime/cpu_count.h"
#include "runtime/error.h"

namespace hob {
namespace {

using tbb::global_control;

// How many threads oneTBB may use in this process: the cores, unless somebody has set it.
size_t Limit() { return global_control::active_value(global_control::max_allowed_parallelism); }

struct Arena {
  explicit Arena(size_t wanted)
      : control(global_control::max_allowed_parallelism, std::max(wanted, Limit())),
        count(std::min(wanted, Limit())),
        arena(static_cast<int>(count)) {}

  global_control control;  // allows more threads than cores; cannot lift a limit of the program
  size_t count;            // within the limit, or oneTBB prints a warning
  tbb::task_arena arena;
};

// Every participant claims indices until there are none left. The caller is one of them: it works
// alone while the others wake up, and does the rest itself if oneTBB should fail.
void ParallelFor(void* context, size_t n, void (*body)(void* argument, size_t i), void* argument) {
  Arena& arena = *static_cast<Arena*>(context);
  std::atomic<size_t> next{0};
  const auto work = [&] {
    for (size_t i; (i = next.fetch_add(1, std::memory_order_relaxed)) < n;) body(argument, i);
  };
  const size_t participants = std::min(n, arena.count);
  if (participants > 1) {
    try {
      arena.arena.execute([&] {
        // Isolated, so that a caller who waits here does not take over another caller's bodies.
        tbb::this_task_arena::isolate([&] {
          tbb::parallel_for(
              size_t{0}, participants, [&](size_t) { work(); }, tbb::static_partitioner());
        });
      });
    } catch (...) {  // no memory for its tasks; those that had begun have ended by now
    }
  }
  work();
}

}  // namespace
}  // namespace hob

hob_status hob_tbb_create(size_t count, hob_threads* threads) {
  if (threads == nullptr)
    return hob::SetError(HOB_ERROR_ARGUMENT, "hob_tbb_create: threads is NULL");
  if (count > hob::kMaxThreads) {
    return hob::SetError(HOB_ERROR_ARGUMENT, "hob_tbb_create: count is %zu; expected at most %zu",
                         count, hob::kMaxThreads);
  }
  try {
    if (count == 0) count = hob::CpuCount();
    auto* arena = new hob::Arena(count);
    *threads = {sizeof(*threads), arena, arena->count, hob::ParallelFor};
    return HOB_OK;
  } catch (const hob::Error& error) {
    return hob::SetError(error.status(), "%s", error.what());
  } catch (const std::bad_alloc&) {
    return hob::SetError(HOB_ERROR_MEMORY, "hob_tbb_create: no memory for %zu threads", count);
  } catch (const std::exception& error) {
    return hob::SetError(HOB_ERROR_INTERNAL, "hob_tbb_create: oneTBB: %s", error.what());
  }
}

void hob_tbb_free(hob_threads* threads) {
  if (threads == nullptr) return;
  delete static_cast<hob::Arena*>(threads->context);
  *threads = {};
}
