// ReservedMemory in standard C++, for systems without a file of their own. Large blocks of calloc
// come untouched from most systems, so they cost little until they are written; but nothing is
// given back before the end.
#include "runtime/aligned_buffer.h"
#include "runtime/reserved_memory.h"

namespace hob {

ReservedMemory::ReservedMemory(size_t bytes) : size_(bytes) {
  auto* const buffer = new AlignedBuffer(bytes);
  block_ = buffer;
  data_ = buffer->data();
}

ReservedMemory::~ReservedMemory() { delete static_cast<AlignedBuffer*>(block_); }

void ReservedMemory::UseLargePages(size_t, size_t) const {}

void ReservedMemory::Discard(size_t, size_t) const {}

}  // namespace hob
