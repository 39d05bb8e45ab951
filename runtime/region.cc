// See region.h. Start with Participate: the life of one participant.
#include "runtime/region.h"

#include <chrono>

namespace hob {
namespace {

// How long to watch for the next phase before sleeping: longer than a phase of a small model, much
// shorter than what a scheduler gives to a thread.
constexpr std::chrono::microseconds kSpinTime{40};
constexpr int kPausesPerClockRead = 32;
constexpr int kSoonPauses = 128;

// Added to the count of finished chunks, of which there are fewer, when there will be no more.
constexpr uint32_t kCancelled = uint32_t{1} << 31;

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
  if (threads_.count == 1) return RunAlone();
  due_.resize(phases_ + 1);
  for (uint32_t p = 0; p < phases_; ++p) {
    due_[p + 1] = due_[p] + static_cast<uint32_t>(work.chunk_count(p));
  }
  for (Owner& owner : owners_) owner.claimed.store(0, std::memory_order_relaxed);
  finished_.store(0, std::memory_order_relaxed);
  if (RunSingles(0, 0) < due_[phases_]) {  // else it is too little work to share
    threads_.parallel_for(
        threads_.context, at_once(),
        [](void* region, size_t i) { static_cast<Region*>(region)->Participate(i); }, this);
  }
  return finished_.load(std::memory_order_relaxed) == due_[phases_];
}

bool Region::RunAlone() {
  for (uint32_t phase = 0; phase < phases_; ++phase) {
    const size_t chunks = work_->chunk_count(phase);
    for (size_t chunk = 0; chunk < chunks; ++chunk) {
      if (!RunChunk(phase, chunk, 0)) return false;
    }
  }
  return true;
}

// False: cancelled.
bool Region::RunChunk(uint32_t phase, size_t chunk, size_t participant) {
  if (chunk == 0 && work_->Cancelled(phase)) return false;
  work_->RunChunk(phase, chunk, participant);
  return true;
}

void Region::Participate(size_t participant) {
  bool helped = false;
  uint32_t phase = 0, finished = finished_.load(std::memory_order_acquire);
  for (;;) {
    if (finished >= due_[phases_]) return;  // the end, or cancelled
    while (due_[phase + 1] <= finished) ++phase;
    const std::optional<size_t> chunk = Claim(participant, phase, helped);
    if (!chunk) {
      finished = WaitFor(due_[phase + 1]);
    } else if (!RunChunk(phase, *chunk, participant)) {
      finished = Cancel();
    } else {
      // Release our results to whoever sees the phase finished; if that is us, acquire everybody's.
      finished = finished_.fetch_add(1, std::memory_order_acq_rel) + 1;
      if (finished == due_[phase + 1]) finished = RunSingles(phase + 1, participant);
    }
  }
}

// A chunk of the participant's own, or else, if its owner does not come for it, of somebody else's,
// the next one's first: `helped`, after which it is not waited for again. A phase of one chunk is
// with whoever finished the phase before.
std::optional<size_t> Region::Claim(size_t participant, uint32_t phase, bool& helped) {
  if (Chunks(phase) == 1) return std::nullopt;
  std::optional<size_t> chunk = ClaimOf(participant, phase);
  if (chunk || (!helped && FinishesSoon(phase))) return chunk;
  for (size_t i = 1; i < at_once() && !chunk; ++i) {
    chunk = ClaimOf((participant + i) % at_once(), phase);
  }
  helped = chunk.has_value();
  return chunk;
}

// The next of the chunks that are `owner`'s in a phase, every at_once()th. A claim carries no data,
// so it needs no order: what the chunk reads came with the phase. A claimant who is late finds that
// all are claimed, as the phase would not be over otherwise, or that others are by now.
std::optional<size_t> Region::ClaimOf(size_t owner, uint32_t phase) {
  std::atomic<uint64_t>& claimed = owners_[owner].claimed;
  uint64_t seen = claimed.load(std::memory_order_relaxed);
  for (;;) {
    if (seen >> 32 > phase) return std::nullopt;
    const uint32_t count = seen >> 32 == phase ? static_cast<uint32_t>(seen) : 0;
    const size_t chunk = owner + count * at_once();
    if (chunk >= Chunks(phase)) return std::nullopt;
    if (claimed.compare_exchange_weak(seen, Claims(phase, count + 1), std::memory_order_relaxed)) {
      return chunk;
    }
  }
}

// Called by the one participant that finished the last chunk before `phase`, which for the others
// is open now. Phases of a single chunk from there on are run here: who has just finished has most
// of what they read. Returns how many chunks are finished then.
uint32_t Region::RunSingles(uint32_t phase, size_t participant) {
  const uint32_t before = due_[phase];
  for (; phase < phases_ && Chunks(phase) <= 1; ++phase) {
    if (Chunks(phase) == 1 && !RunChunk(phase, 0, participant)) return Cancel();
  }
  // Nobody else adds anything meanwhile: they can but wait.
  if (due_[phase] != before) finished_.store(due_[phase], std::memory_order_release);
  WakeSleepers();
  return due_[phase];
}

uint32_t Region::Cancel() {
  const uint32_t finished = finished_.fetch_or(kCancelled, std::memory_order_relaxed) | kCancelled;
  WakeSleepers();
  return finished;
}

// Whoever is about to sleep says so, then looks at finished_ once more; we have written it, then
// look for sleepers. notify_all alone may look before the store is out.
void Region::WakeSleepers() {
  std::atomic_thread_fence(std::memory_order_seq_cst);
  finished_.notify_all();
}

// Whether the phase is over within the time by which participants usually differ, a microsecond or
// two. To look at the others' claims before would take their lines from them.
bool Region::FinishesSoon(uint32_t phase) const {
  for (int i = 0; i < kSoonPauses; ++i) {
    if (finished_.load(std::memory_order_relaxed) >= due_[phase + 1]) return true;
    Pause();
  }
  return false;
}

// Until so many chunks are finished, or there will be no more; returns how many are.
uint32_t Region::WaitFor(uint32_t due) const {
  uint32_t finished;
  const auto deadline = std::chrono::steady_clock::now() + kSpinTime;
  do {
    for (int i = 0; i < kPausesPerClockRead; ++i) {
      if ((finished = finished_.load(std::memory_order_acquire)) >= due) return finished;
      Pause();
    }
  } while (std::chrono::steady_clock::now() < deadline);
  while ((finished = finished_.load(std::memory_order_acquire)) < due) {
    finished_.wait(finished, std::memory_order_acquire);
  }
  return finished;
}

}  // namespace hob
