// Memory of a fixed size that costs nothing until it is written: address space is reserved, and the
// system finds a page when it is first touched. A buffer that may become large can so grow without
// a copy and without an allocation. The only place that knows how the operating system does it:
// reserved_memory_posix.cc, or reserved_memory_portable.cc where that does not compile.
#ifndef HOB_RUNTIME_RESERVED_MEMORY_H_
#define HOB_RUNTIME_RESERVED_MEMORY_H_

#include <cstddef>
#include <cstdint>

namespace hob {

class ReservedMemory {
 public:
  // Zeroed, at least 64-byte aligned. Throws std::bad_alloc.
  explicit ReservedMemory(size_t bytes);
  ~ReservedMemory();
  ReservedMemory(const ReservedMemory&) = delete;
  ReservedMemory& operator=(const ReservedMemory&) = delete;

  uint8_t* data() const { return data_; }  // (size)
  size_t size() const { return size_; }

  // Asks for the memory in large pages as far as [begin, end), which has been written, fills them
  // together with what is before it. A hint: it may change speed and nothing else.
  void UseLargePages(size_t begin, size_t end) const;

  // Gives back the memory of the pages that lie wholly inside [begin, end). What was in them is
  // lost; they can be written again. A hint: it may change memory use and nothing else.
  void Discard(size_t begin, size_t end) const;

 private:
  uint8_t* data_ = nullptr;
  size_t size_ = 0;
  void* block_ = nullptr;  // what data_ lies in, for the destructor
};

}  // namespace hob

#endif  // HOB_RUNTIME_RESERVED_MEMORY_H_
