// ReservedMemory in standard C++, for systems without a file of their own. Large blocks of calloc
// come untouched from most systems, so they cost little until they are written; but nothing is
// given back before the end.
#include <cstdlib>
#include <new>

#include "runtime/reserved_memory.h"

namespace hob {
namespace {

constexpr size_t kAlignment = 64;

}  // namespace

// What calloc gave stands in the 8 bytes in front of the data, for the destructor.
ReservedMemory::ReservedMemory(size_t bytes) : size_(bytes) {
  if (bytes > SIZE_MAX - 2 * kAlignment) throw std::bad_alloc();
  void* block = std::calloc(bytes + 2 * kAlignment, 1);
  if (block == nullptr) throw std::bad_alloc();
  const auto address = reinterpret_cast<uintptr_t>(block);
  const uintptr_t start = (address + 2 * kAlignment - 1) / kAlignment * kAlignment;
  data_ = static_cast<uint8_t*>(block) + (start - address);
  reinterpret_cast<void**>(data_)[-1] = block;
}

ReservedMemory::~ReservedMemory() { std::free(reinterpret_cast<void**>(data_)[-1]); }

void ReservedMemory::Discard(size_t, size_t) const {}

}  // namespace hob
