// One parallel region runs a whole step of a model: every participant (a body of the caller's
// parallel_for) walks the same list of phases and claims chunks of them. A phase is entered when
// the one before it is complete. This costs a fraction of a microsecond a phase, where a fork and
// join for each would cost more than the small phases take (docs/design.md, threads).
//
// Each participant has chunks of its own in every phase, the same ones whenever it can: what it
// needs of them may still be in its caches, and a claim of its own touches no line of another core.
// However many participants show up, and whenever, the work gets done: whoever is through with its
// own chunks helps others with theirs, and nobody waits for a chunk that is not already running. So
// no host pool can deadlock it, not even one that runs all bodies one after the other on one
// thread.
#ifndef HOB_RUNTIME_REGION_H_
#define HOB_RUNTIME_REGION_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "hob/hob.h"

namespace hob {

// What a region runs: phases one after the other, the chunks of a phase in any order at once.
class RegionWork {
 public:
  virtual size_t phase_count() const = 0;

  // Chunks of a phase; 0 skips it. Constant during a run.
  virtual size_t chunk_count(size_t phase) const = 0;

  // Runs one chunk. `participant` is below the region's participants(), and no other chunk runs
  // with the same one at the same time. Must not throw.
  virtual void RunChunk(size_t phase, size_t chunk, size_t participant) = 0;

  // Asked by whoever is about to run a phase's chunk 0, while others may run other chunks of it;
  // true ends the run there. The phases before are complete.
  virtual bool Cancelled(size_t /*phase*/) { return false; }

 protected:
  ~RegionWork() = default;
};

class Region {
 public:
  // A copy of the caller's threads; nullptr = the calling thread alone. At most `at_once` of them
  // run at a time: more than there are CPUs would wait for one that the system has put aside.
  explicit Region(const hob_threads* threads, size_t at_once = SIZE_MAX);

  size_t participants() const { return threads_.count; }
  // How many of them run at a time: what work should be divided for.
  size_t at_once() const { return threads_.count < at_once_ ? threads_.count : at_once_; }

  // Runs the work to its end, or false if it was cancelled. Does not lock, nor allocate unless no
  // run before had as many phases.
  bool Run(RegionWork& work);

 private:
  // Which of its own chunks a participant has next: those of the phase in the high half that are
  // claimed, in the low half. On a line of its own, or rather on the two that some CPUs fetch.
  struct alignas(128) Owner {
    std::atomic<uint64_t> claimed{0};
  };

  bool RunAlone();
  void Participate(size_t participant);
  size_t Chunks(uint32_t phase) const { return due_[phase + 1] - due_[phase]; }
  std::optional<size_t> Claim(size_t participant, uint32_t phase, bool& helped);
  std::optional<size_t> ClaimOf(size_t owner, uint32_t phase);
  bool RunChunk(uint32_t phase, size_t chunk, size_t participant);
  uint32_t RunSingles(uint32_t phase, size_t participant);
  uint32_t Cancel();
  void WakeSleepers();
  bool FinishesSoon(uint32_t phase) const;
  uint32_t WaitFor(uint32_t due) const;

  hob_threads threads_{};
  size_t at_once_;
  RegionWork* work_ = nullptr;
  uint32_t phases_ = 0;        // how many; also the "phase" that means the end
  std::vector<uint32_t> due_;  // (phases + 1): chunks of all phases before one

  std::vector<Owner> owners_;  // (at_once)
  // Chunks of the run that are finished, which says how far it is: whoever waits watches this line.
  // A phase is open when all chunks of the phases before it are finished.
  alignas(128) std::atomic<uint32_t> finished_{0};
};

}  // namespace hob

#endif  // HOB_RUNTIME_REGION_H_
