// See checksum.h.
#include "runtime/checksum.h"

#include <algorithm>
#include <cstring>

namespace hob {
namespace {

// Odd, with bits all over: 2^64 divided by the golden ratio, rounded to an odd number.
constexpr uint64_t kMultiplier = 0x9E3779B97F4A7C15;

uint64_t Mix(uint64_t lane, uint64_t word) {
  const uint64_t product = (lane ^ word) * kMultiplier;
  return product ^ product >> 29;
}

}  // namespace

void Checksum::AddStripe(const uint8_t* bytes) {
  std::array<uint64_t, kLanes> words;
  std::memcpy(words.data(), bytes, kStripe);
  for (size_t i = 0; i < kLanes; ++i) lanes_[i] = Mix(lanes_[i], words[i]);
}

Checksum& Checksum::Add(std::span<const uint8_t> bytes) {
  const size_t waiting = total_ % kStripe;
  total_ += bytes.size();
  if (waiting != 0) {
    const size_t taken = std::min(kStripe - waiting, bytes.size());
    std::copy_n(bytes.data(), taken, rest_.data() + waiting);
    if (waiting + taken < kStripe) return *this;
    AddStripe(rest_.data());
    bytes = bytes.subspan(taken);
  }
  for (; bytes.size() >= kStripe; bytes = bytes.subspan(kStripe)) AddStripe(bytes.data());
  std::copy_n(bytes.data(), bytes.size(), rest_.data());
  return *this;
}

uint64_t Checksum::value() const {
  Checksum last = *this;
  const size_t waiting = total_ % kStripe;
  std::fill(last.rest_.begin() + static_cast<ptrdiff_t>(waiting), last.rest_.end(), uint8_t{0});
  if (waiting != 0) last.AddStripe(last.rest_.data());
  uint64_t value = total_;
  for (const uint64_t lane : last.lanes_) value = Mix(value, lane);
  return Mix(value, 0);
}

}  // namespace hob
