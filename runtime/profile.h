// Where the time of a step goes: how long each participant has worked on each op of a graph.
// Attached to an executor (Executor::SetProfile) it costs two readings of the clock for every chunk
// of work; without it a step is as fast as ever.
#ifndef HOB_RUNTIME_PROFILE_H_
#define HOB_RUNTIME_PROFILE_H_

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <map>
#include <string>

#include "runtime/aligned_buffer.h"
#include "runtime/graph.h"

namespace hob {

class Profile {
 public:
  // For steps of `graph`, which must outlive this object, by so many participants.
  Profile(const Graph& graph, size_t participants);

  // Adds the time of its own life to an op, and takes it from the one `within` which that is done;
  // does nothing if `profile` is nullptr. Neither allocates nor locks: a participant has counters
  // of its own, and works on one chunk at a time.
  class Timer {
   public:
    Timer(Profile* profile, size_t participant, const Op& op, const Op* within = nullptr)
        : profile_(profile), participant_(participant), op_(op), within_(within) {
      if (profile_ != nullptr) start_ = Clock::now();
    }
    ~Timer() {
      if (profile_ == nullptr) return;
      const Clock::duration time = Clock::now() - start_;
      profile_->Counter(participant_, op_) += time;
      if (within_ != nullptr) profile_->Counter(participant_, *within_) -= time;
    }
    Timer(const Timer&) = delete;
    Timer& operator=(const Timer&) = delete;

   private:
    Profile* profile_;
    size_t participant_;
    const Op& op_;
    const Op* within_;
    std::chrono::steady_clock::time_point start_;
  };

  void Clear();

  size_t participants() const { return participants_; }

  // Seconds of all participants together, by OpName. Not while a step runs, as all that follows.
  std::map<std::string, double> SecondsByKind() const;
  // The same of matmuls alone, by the name of their output without "blk.<i>.".
  std::map<std::string, double> SecondsOfMatmuls() const;

 private:
  using Clock = std::chrono::steady_clock;

  Clock::duration* Row(size_t participant) const {
    return reinterpret_cast<Clock::duration*>(counters_.data()) + participant * stride_;
  }
  Clock::duration& Counter(size_t participant, const Op& op) const {
    return Row(participant)[&op - graph_.ops().data()];
  }
  double Seconds(const Op& op) const;

  const Graph& graph_;
  size_t participants_;
  size_t stride_;           // counters from one participant's to the next one's
  AlignedBuffer counters_;  // (participants, stride)
};

}  // namespace hob

#endif  // HOB_RUNTIME_PROFILE_H_
