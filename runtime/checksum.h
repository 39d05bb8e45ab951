// A fast fingerprint of bytes, 64 bits: tells damaged from whole and one model from another. It
// finds accidents, not attackers.
#ifndef HOB_RUNTIME_CHECKSUM_H_
#define HOB_RUNTIME_CHECKSUM_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

namespace hob {

// Eight lanes, so that a core works on eight words at a time; word w of the bytes goes to lane
// w mod 8, the last word is filled up with zeros. Every step is a bijection of the lane, and of the
// word: no single wrong word goes unnoticed. The value depends on the bytes alone: not on the
// pieces in which they come, nor on the machine, if it is little-endian.
class Checksum {
 public:
  Checksum& Add(std::span<const uint8_t> bytes);
  Checksum& Add(std::string_view text) {
    return Add({reinterpret_cast<const uint8_t*>(text.data()), text.size()});
  }
  Checksum& Add(uint64_t number) {
    return Add({reinterpret_cast<const uint8_t*>(&number), sizeof(number)});
  }
  uint64_t value() const;

 private:
  static constexpr size_t kLanes = 8;
  static constexpr size_t kStripe = kLanes * sizeof(uint64_t);

  void AddStripe(const uint8_t* bytes);

  std::array<uint64_t, kLanes> lanes_ = {1, 2, 3, 4, 5, 6, 7, 8};
  std::array<uint8_t, kStripe> rest_{};  // bytes that do not make a stripe yet
  uint64_t total_ = 0;
};

}  // namespace hob

#endif  // HOB_RUNTIME_CHECKSUM_H_
