// See region.h. Start with Participate: the life of one participant.
#include "runtime/region.h"

#include <chrono>
#include <utility>

namespace hob {
namespace {

// How long to watch for the next phase before sleeping: longer than a phase of a small model, much
// shorter than what a scheduler gives to a thread.
constexpr std::chrono::microseconds kSpinTime{40};
constexpr int kPausesPerClockRead = 32;
constexpr int kSoonPauses = 128;

// Tells the core that this is a spin loop.
inline void Pause() {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("isb" ::: "memory");  // `yield` does nothing on most Arm cores
#endif
}

// A phase and how many of its chunks are claimed.
constexpr uint64_t Claims(uint32_t phase, uint32_t count) { return uint64_t{phase} << 32 | count; }

}  // namespace

Region::Region(const hob_threads* threads, size_t at_once) : at_once_(at_once) {
  if (threads != nullptr) threads_ = *threads;
  if (threads_.parallel_for == nullptr || threads_.count == 0) threads_.count = 1;
  owners_ = std::vector<Owner>(this->at_once());
}

bool Region::Run(RegionWork& work) {
  work_ = &work;
  phases_ = static_cast<uint32_t>(work.phase_count());
  cancelled_ = false;
  if (threads_.count == 1) return RunAlone();
  for (Owner& owner : owners_) owner.claimed.store(0, std::memory_order_relaxed);
  if (OpenPhase(0, 0) == phases_) return !cancelled_;  // too little work to share
  threads_.parallel_for(
      threads_.context, at_once(),
      [](void* region, size_t i) { static_cast<Region*>(region)->Participate(i); }, this);
  return !cancelled_;
}

bool Region::RunAlone() {
  for (uint32_t phase = 0; phase < phases_; ++phase) {
    if (work_->Cancelled()) return false;
    const size_t chunks = work_->chunk_count(phase);
    for (size_t chunk = 0; chunk < chunks; ++chunk) work_->RunChunk(phase, chunk, 0);
  }
  return true;
}

void Region::Participate(size_t participant) {
  bool helped = false;  // somebody did not come for a chunk of the phase before
  bool opened = false;  // the phase was opened here
  for (uint32_t phase = open_.load(std::memory_order_acquire); phase < phases_;) {
    std::optional<size_t> chunk = ClaimOf(participant, phase);
    if (!chunk && (helped || !OpensSoon(phase))) {
      chunk = Help(participant, phase);
      helped = chunk.has_value();
    }
    if (chunk) work_->RunChunk(phase, *chunk, participant);
    if (std::exchange(opened, false)) {
      std::atomic_thread_fence(std::memory_order_seq_cst);
      open_.notify_all();  // see OpenPhase
    }
    if (!chunk) {
      phase = WaitUntilPast(phase);
      continue;
    }
    // Release our results to whoever finishes last; if that is us, acquire everybody's.
    const uint32_t finished = finished_.fetch_add(1, std::memory_order_acq_rel) + 1;
    if (finished == work_->chunk_count(phase)) {
      phase = OpenPhase(phase + 1, participant);
      opened = true;
    }
  }
}

// The next of the chunks that are `owner`'s in a phase, every at_once()th. A claim carries no data,
// so it needs no order: what the chunk reads came with the phase. A claimant who is late finds that
// all are claimed, as the phase would not be over otherwise, or that others are by now.
std::optional<size_t> Region::ClaimOf(size_t owner, uint32_t phase) {
  const size_t chunks = work_->chunk_count(phase);
  std::atomic<uint64_t>& claimed = owners_[owner].claimed;
  uint64_t seen = claimed.load(std::memory_order_relaxed);
  for (;;) {
    if (seen >> 32 > phase) return std::nullopt;
    const uint32_t count = seen >> 32 == phase ? static_cast<uint32_t>(seen) : 0;
    const size_t chunk = owner + count * at_once();
    if (chunk >= chunks) return std::nullopt;
    if (claimed.compare_exchange_weak(seen, Claims(phase, count + 1), std::memory_order_relaxed)) {
      return chunk;
    }
  }
}

// A chunk of somebody else's, the next participant's first.
std::optional<size_t> Region::Help(size_t participant, uint32_t phase) {
  for (size_t i = 1; i < at_once(); ++i) {
    const std::optional<size_t> chunk = ClaimOf((participant + i) % at_once(), phase);
    if (chunk) return chunk;
  }
  return std::nullopt;
}

// Called by the one participant that finished the last chunk of the phase before, while nobody else
// can do anything but wait. Runs phases of a single chunk itself, without telling the others, up to
// the first one worth sharing; returns that, or the end.
uint32_t Region::OpenPhase(uint32_t phase, size_t participant) {
  for (; phase < phases_; ++phase) {
    cancelled_ = work_->Cancelled();
    if (cancelled_) {
      phase = phases_;
      break;
    }
    const size_t chunks = work_->chunk_count(phase);
    if (chunks > 1) break;
    if (chunks == 1) work_->RunChunk(phase, 0, participant);
  }
  finished_.store(0, std::memory_order_relaxed);
  open_.store(phase, std::memory_order_release);
  // Whoever is about to sleep says so, then looks at open_ once more; we look for sleepers, but
  // perhaps before our store is out, and waiting for it would keep us from our chunk. So
  // Participate looks again behind a fence. At the end there is nothing to keep us from.
  if (phase == phases_) std::atomic_thread_fence(std::memory_order_seq_cst);
  open_.notify_all();
  return phase;
}

// Whether the next phase opens within the time by which participants usually differ, a microsecond
// or two. To look at the others' claims before would take their lines from them.
bool Region::OpensSoon(uint32_t phase) const {
  for (int i = 0; i < kSoonPauses; ++i) {
    if (open_.load(std::memory_order_acquire) > phase) return true;
    Pause();
  }
  return false;
}

// Returns the phase that is open then.
uint32_t Region::WaitUntilPast(uint32_t phase) const {
  uint32_t open;
  const auto deadline = std::chrono::steady_clock::now() + kSpinTime;
  do {
    for (int i = 0; i < kPausesPerClockRead; ++i) {
      if ((open = open_.load(std::memory_order_acquire)) > phase) return open;
      Pause();
    }
  } while (std::chrono::steady_clock::now() < deadline);
  while ((open = open_.load(std::memory_order_acquire)) <= phase) {
    open_.wait(open, std::memory_order_acquire);
  }
  return open;
}

}  // namespace hob
