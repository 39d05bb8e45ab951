// ReservedMemory by POSIX mmap; with what Linux has beyond it, where it is there.
#include <sys/mman.h>
#include <unistd.h>

#include <new>

#include "runtime/reserved_memory.h"

namespace hob {
namespace {

// Untouched pages shall not count against what the system promises either.
#if defined(MAP_NORESERVE)
constexpr int kFlags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
#else
constexpr int kFlags = MAP_PRIVATE | MAP_ANONYMOUS;
#endif

}  // namespace

ReservedMemory::ReservedMemory(size_t bytes) : size_(bytes) {
  if (bytes == 0) return;
  void* memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, kFlags, -1, 0);
  if (memory == MAP_FAILED) throw std::bad_alloc();
  data_ = static_cast<uint8_t*>(memory);
#if defined(MADV_NOHUGEPAGE)
  // A huge page would take 2 MB at the first touch. A hint, too: kernels without them refuse it.
  madvise(memory, bytes, MADV_NOHUGEPAGE);
#endif
}

ReservedMemory::~ReservedMemory() {
  if (data_ != nullptr) munmap(data_, size_);
}

void ReservedMemory::Discard(size_t begin, size_t end) const {
  const auto page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  const size_t first = (begin + page - 1) / page * page;
  const size_t last = end / page * page;
  if (first < last) madvise(data_ + first, last - first, MADV_DONTNEED);
}

}  // namespace hob
