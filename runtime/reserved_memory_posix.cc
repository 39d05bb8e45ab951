// ReservedMemory by POSIX mmap; with what Linux has beyond it, where it is there.
#include <sys/mman.h>
#include <unistd.h>

#include <new>

#include "runtime/aligned_buffer.h"
#include "runtime/reserved_memory.h"

namespace hob {
namespace {

// Untouched pages shall not count against what the system promises either.
#if defined(MAP_NORESERVE)
constexpr int kFlags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
#else
constexpr int kFlags = MAP_PRIVATE | MAP_ANONYMOUS;
#endif

// Where it is not the right size, the system refuses.
constexpr size_t kLargePage = size_t{1} << 21;

// A large page would take 2 MB at the first touch. A hint, too: kernels without them refuse it.
void UseSmallPages([[maybe_unused]] uint8_t* begin, [[maybe_unused]] size_t bytes) {
#if defined(MADV_NOHUGEPAGE)
  madvise(begin, bytes, MADV_NOHUGEPAGE);
#endif
}

}  // namespace

ReservedMemory::ReservedMemory(size_t bytes) : size_(bytes) {
  if (bytes == 0) return;
  if (bytes > SIZE_MAX - kLargePage) throw std::bad_alloc();
  void* block = mmap(nullptr, bytes + kLargePage, PROT_READ | PROT_WRITE, kFlags, -1, 0);
  if (block == MAP_FAILED) throw std::bad_alloc();
  block_ = block;
  const auto address = reinterpret_cast<uintptr_t>(block);
  data_ = static_cast<uint8_t*>(block) + (RoundUp(address, kLargePage) - address);
  UseSmallPages(data_, size_);
}

ReservedMemory::~ReservedMemory() {
  if (block_ != nullptr) munmap(block_, size_ + kLargePage);
}

void ReservedMemory::UseLargePages([[maybe_unused]] size_t begin,
                                   [[maybe_unused]] size_t end) const {
#if defined(MADV_HUGEPAGE)
  constexpr int kCollapse = 25;  // MADV_COLLAPSE, which Debian 12's C library does not name yet
  const size_t first = begin / kLargePage * kLargePage, last = end / kLargePage * kLargePage;
  if (first >= last) return;
  madvise(data_ + first, last - first, MADV_HUGEPAGE);
  // At once, since Linux 6.1; before, the advice alone lets the kernel do it when it finds time.
  madvise(data_ + first, last - first, kCollapse);
#endif
}

void ReservedMemory::Discard(size_t begin, size_t end) const {
  const auto page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  const size_t first = (begin + page - 1) / page * page;
  const size_t last = end / page * page;
  if (first >= last) return;
  madvise(data_ + first, last - first, MADV_DONTNEED);
  UseSmallPages(data_ + first, last - first);
}

}  // namespace hob
