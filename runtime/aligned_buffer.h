// Zeroed memory that starts on a 64-byte boundary: packed weights, activations, caches. From
// calloc, so that pages of a large buffer cost nothing until they are touched.
#ifndef HOB_RUNTIME_ALIGNED_BUFFER_H_
#define HOB_RUNTIME_ALIGNED_BUFFER_H_

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <new>

namespace hob {

inline constexpr size_t kAlignment = 64;

inline constexpr size_t RoundUp(size_t value, size_t multiple) {
  return (value + multiple - 1) / multiple * multiple;
}

class AlignedBuffer {
 public:
  AlignedBuffer() = default;

  // Throws std::bad_alloc.
  explicit AlignedBuffer(size_t bytes) : size_(bytes) {
    if (bytes > SIZE_MAX - kAlignment) throw std::bad_alloc();
    memory_.reset(std::calloc(bytes + kAlignment, 1));
    if (memory_ == nullptr) throw std::bad_alloc();
    const uintptr_t start = reinterpret_cast<uintptr_t>(memory_.get());
    data_ = static_cast<uint8_t*>(memory_.get()) + (RoundUp(start, kAlignment) - start);
  }

  uint8_t* data() const { return data_; }  // (size)
  size_t size() const { return size_; }

 private:
  struct Free {
    void operator()(void* memory) const { std::free(memory); }
  };
  std::unique_ptr<void, Free> memory_;
  uint8_t* data_ = nullptr;
  size_t size_ = 0;
};

}  // namespace hob

#endif  // HOB_RUNTIME_ALIGNED_BUFFER_H_
