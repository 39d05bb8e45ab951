// ReservedMemory in standard C++, for systems without a file of their own. Large blocks of calloc
// come untouched from most systems, so they cost little until they are written; but nothing is
// given back before the end.
#include <cstdlib>
#include <new>

#include "runtime/aligned_buffer.h"
#include "runtime/reserved_memory.h"

namespace hob {
ReservedMemory::ReservedMemory(size_t bytes) : size_(bytes) {
  if (bytes > SIZE_MAX - kAlignment) throw std::bad_alloc();
  block_ = std::calloc(bytes + kAlignment, 1);
  if (block_ == nullptr) throw std::bad_alloc();
  const auto address = reinterpret_cast<uintptr_t>(block_);
  data_ = static_cast<uint8_t*>(block_) + (RoundUp(address, kAlignment) - address);
}

ReservedMemory::~ReservedMemory() { std::free(block_); }

void ReservedMemory::UseLargePages(size_t, size_t) const {}

void ReservedMemory::Discard(size_t, size_t) const {}

}  // namespace hob
