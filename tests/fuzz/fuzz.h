// What the fuzz targets share. A target is one file with LLVMFuzzerTestOneInput, which is given any
// bytes and must come back: an error is fine, a crash, a hang, a sanitizer's report or a broken
// promise (Require) is a finding.
//
// Built twice: with libFuzzer's own main (`./dev fuzz`), which invents inputs, and with
// replay_main.cc, which runs the files of corpus/ through the same function in the normal tests.
#ifndef HOB_TESTS_FUZZ_FUZZ_H_
#define HOB_TESTS_FUZZ_FUZZ_H_

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <span>
#include <string>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

namespace hob::fuzz {

// Ends the program with a message, which the engine takes for a crash.
[[noreturn]] inline void Broken(const std::string& promise) {
  std::fprintf(stderr, "broken promise: %s\n", promise.c_str());
  std::abort();
}
inline void Require(bool kept, const char* promise) {
  if (!kept) Broken(promise);
}

// The bytes of an input, taken from the front; zeros when there are no more.
class Input {
 public:
  Input(const uint8_t* data, size_t size) : rest_(data, size) {}

  bool empty() const { return rest_.empty(); }
  std::span<const uint8_t> rest() const { return rest_; }

  template <typename T>
  T Take() {
    T value{};
    const size_t bytes = std::min(sizeof(T), rest_.size());
    std::memcpy(&value, rest_.data(), bytes);
    rest_ = rest_.subspan(bytes);
    return value;
  }
  // From 0 to n - 1.
  size_t Below(size_t n) { return n <= 256 ? Take<uint8_t>() % n : Take<uint64_t>() % n; }
  bool Flag() { return (Take<uint8_t>() & 1) != 0; }

  // A small number mostly; sometimes one near a power of two or the end of the range.
  size_t Size(size_t small) {
    const uint8_t kind = Take<uint8_t>();
    if (kind < 240) return kind % (small + 1);
    const size_t power = size_t{1} << Take<uint8_t>() % 64;
    return kind % 2 == 0 ? power : power - 1 + (kind % 4 == 1 ? SIZE_MAX / 2 : 0);
  }

  std::vector<uint8_t> Bytes(size_t count) {
    count = std::min(count, rest_.size());
    std::vector<uint8_t> bytes(rest_.begin(), rest_.begin() + static_cast<ptrdiff_t>(count));
    rest_ = rest_.subspan(count);
    return bytes;
  }

 private:
  std::span<const uint8_t> rest_;
};

// Numbers that follow from a seed (SplitMix64), for data of which only the kind matters.
class Numbers {
 public:
  explicit Numbers(uint64_t seed) : state_(seed) {}
  uint64_t Next() {
    uint64_t z = state_ += 0x9e3779b97f4a7c15;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    return z ^ (z >> 31);
  }

 private:
  uint64_t state_;
};

}  // namespace hob::fuzz

#endif  // HOB_TESTS_FUZZ_FUZZ_H_
