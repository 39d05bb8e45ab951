// Chooses the next token from a row of logits. The same options, seed and logits give the same
// tokens on every machine: the random numbers come from our own generator, exp is the library's
// own, and the rest is + - * / and comparisons in a fixed order. Start at Sampler::Sample in
// sampler.cc.
#ifndef HOB_RUNTIME_SAMPLER_H_
#define HOB_RUNTIME_SAMPLER_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "hob/model.h"

namespace hob {

// PCG32 (XSH-RR, 64 bits of state): M. E. O'Neill, "PCG: A Family of Simple Fast Space-Efficient
// Statistically Good Algorithms for Random Number Generation", 2014. The standard library's
// generators would do, but none of them is this small.
class Pcg32 {
 public:
  // Generators of different streams are independent of each other.
  explicit Pcg32(uint64_t seed, uint64_t stream = 0);

  // Uniform over all values of 32 bits.
  uint32_t Next();

 private:
  uint64_t state_ = 0;
  uint64_t increment_;
};

class Sampler {
 public:
  // All zero = greedy. Throws Error if an option is out of range.
  explicit Sampler(const hob_sampler_options& options = {});

  // The next token, an index into `logits` (at least one). `recent` is the sequence so far, of
  // which the last penalty_window tokens count. Allocates only when `logits` is larger than ever
  // before.
  int32_t Sample(std::span<const float> logits, std::span<const int32_t> recent);

 private:
  struct Candidate {
    float logit;
    int32_t id;
    float weight;  // exp(logit - largest), a multiple of the probability
  };

  // Most probable first; ids break ties, so that sorting has one result only.
  static bool Better(const Candidate& a, const Candidate& b);

  bool penalizes() const;
  std::span<const float> Penalize(std::span<const float> logits, std::span<const int32_t> recent);
  void Gather(std::span<const float> logits, float largest);
  void KeepTopK();
  void KeepTopP();
  void KeepMinP();
  int32_t Draw(float largest);

  hob_sampler_options options_;
  Pcg32 random_;
  std::vector<float> penalized_;
  std::vector<Candidate> candidates_;
};

}  // namespace hob

#endif  // HOB_RUNTIME_SAMPLER_H_
