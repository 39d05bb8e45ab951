// SHA-256 (FIPS 180-4), for digests of results and of files. Not meant to keep secrets.
#ifndef HOB_RUNTIME_VERIFY_SHA256_H_
#define HOB_RUNTIME_VERIFY_SHA256_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace hob::verify {

class Sha256 {
 public:
  void Add(const void* data, size_t bytes);
  void Add(std::string_view text) { Add(text.data(), text.size()); }

  // The digest of everything added, as 64 hexadecimal digits. Ends the sum.
  std::string Finish();

 private:
  void Block(const uint8_t* data);

  std::array<uint32_t, 8> state_ = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                                    0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
  std::array<uint8_t, 64> buffer_ = {};
  uint64_t bytes_ = 0;
};

inline std::string Sha256Of(const void* data, size_t bytes) {
  Sha256 sum;
  sum.Add(data, bytes);
  return sum.Finish();
}

}  // namespace hob::verify

#endif  // HOB_RUNTIME_VERIFY_SHA256_H_
