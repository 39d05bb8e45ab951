// See region.h. Start with Participate: the life of one participant.
#include "runtime/region.h"

#include <algorithm>
#include <chrono>

namespace hob {
namespace {

// How long to watch for the next phase before sleeping: longer than a phase of a small model, much
// shorter than what a scheduler gives to a thread.
constexpr std::chrono::microseconds kSpinTime{40};
constexpr int kPausesPerClockRead = 32;

// Tells the core that this is a spin loop.
inline void Pause() {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("isb" ::: "memory");  // `yield` does nothing on most Arm cores
#endif
}

constexpr uint64_t Ticket(uint32_t phase, uint32_t chunk) { return uint64_t{phase} << 32 | chunk; }

}  // namespace

Region::Region(const hob_threads* threads, size_t at_once) : at_once_(at_once) {
  if (threads != nullptr) threads_ = *threads;
  if (threads_.parallel_for == nullptr || threads_.count == 0) threads_.count = 1;
}

bool Region::Run(RegionWork& work) {
  work_ = &work;
  phases_ = static_cast<uint32_t>(work.phase_count());
  cancelled_ = false;
  if (threads_.count == 1) return RunAlone();
  const Claim first = OpenPhase(0, 0);
  if (first.phase == phases_) return !cancelled_;  // too little work to share
  // The claimed chunk goes back: any participant may be the first to come.
  ticket_.store(Ticket(first.phase, 0), std::memory_order_relaxed);
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
  Claim claim = ClaimNext();
  while (claim.phase < phases_) {
    const uint32_t chunks = static_cast<uint32_t>(work_->chunk_count(claim.phase));
    if (claim.chunk >= chunks) {
      WaitUntilPast(claim.phase);
      claim = ClaimNext();
      continue;
    }
    work_->RunChunk(claim.phase, claim.chunk, participant);
    // Release our results to whoever finishes last; if that is us, acquire everybody's.
    const uint32_t finished = finished_.fetch_add(1, std::memory_order_acq_rel) + 1;
    claim = finished == chunks ? OpenPhase(claim.phase + 1, participant) : ClaimNext();
  }
}

// The counter hands out chunks of whichever phase is open, so a late participant joins in there.
Region::Claim Region::ClaimNext() {
  const uint64_t ticket = ticket_.fetch_add(1, std::memory_order_acquire);
  return {static_cast<uint32_t>(ticket >> 32), static_cast<uint32_t>(ticket)};
}

// Called by the one participant that finished the last chunk of the phase before, while nobody else
// can do anything but wait. Runs phases of a single chunk itself, without telling the others, up to
// the first one worth sharing; returns a claim on chunk 0 of that, or the end.
Region::Claim Region::OpenPhase(uint32_t phase, size_t participant) {
  for (; phase < phases_; ++phase) {
    cancelled_ = work_->Cancelled();
    if (cancelled_) return Publish(phases_);
    const size_t chunks = work_->chunk_count(phase);
    if (chunks > 1) break;
    if (chunks == 1) work_->RunChunk(phase, 0, participant);
  }
  return Publish(phase);
}

// That chunk 0 is taken keeps the phase open, and so these stores in order, until we have run it.
Region::Claim Region::Publish(uint32_t phase) {
  finished_.store(0, std::memory_order_relaxed);
  ticket_.store(Ticket(phase, 1), std::memory_order_release);
  open_.store(phase, std::memory_order_release);
  open_.notify_all();
  return {phase, 0};
}

void Region::WaitUntilPast(uint32_t phase) {
  const auto deadline = std::chrono::steady_clock::now() + kSpinTime;
  do {
    for (int i = 0; i < kPausesPerClockRead; ++i) {
      if (open_.load(std::memory_order_acquire) > phase) return;
      Pause();
    }
  } while (std::chrono::steady_clock::now() < deadline);
  for (uint32_t open; (open = open_.load(std::memory_order_acquire)) <= phase;) {
    open_.wait(open, std::memory_order_acquire);
  }
}

}  // namespace hob
