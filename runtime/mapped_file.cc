// POSIX mmap. Another system gets a file of its own beside this one, chosen by the build.
#include "runtime/mapped_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "runtime/error.h"
#include "runtime/unicode.h"

namespace hob {
namespace {

// Closes the descriptor at the end of the constructor; the mapping stays.
struct Descriptor {
  ~Descriptor() {
    if (number >= 0) close(number);
  }
  int number;
};

[[noreturn]] void FailWithErrno(const std::string& action, const std::string& path) {
  const int reason = errno;
  throw Error(HOB_ERROR_IO,
              "cannot " + action + " " + Quoted(path, 1000) + ": " + std::strerror(reason));
}

// madvise for the pages that lie wholly inside [begin, begin + size).
void AdviseWholePages(uint8_t* begin, size_t size, int advice) {
  const auto page = static_cast<uintptr_t>(sysconf(_SC_PAGESIZE));
  const auto address = reinterpret_cast<uintptr_t>(begin);
  const uintptr_t first = (address + page - 1) / page * page, last = (address + size) / page * page;
  if (first < last) madvise(begin + (first - address), last - first, advice);
}

}  // namespace

MappedFile::MappedFile(const std::string& path) {
  // O_NONBLOCK: a named pipe shall be refused below instead of waited for.
  const Descriptor file{open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK)};
  if (file.number < 0) FailWithErrno("open", path);
  struct stat status;
  if (fstat(file.number, &status) != 0) FailWithErrno("examine", path);
  if (!S_ISREG(status.st_mode)) {
    throw Error(HOB_ERROR_IO, "cannot read " + Quoted(path, 1000) + ": not a regular file");
  }
  if (status.st_size == 0) return;
  const auto size = static_cast<size_t>(status.st_size);
  void* data = mmap(nullptr, size, PROT_READ, MAP_PRIVATE, file.number, 0);
  if (data == MAP_FAILED) FailWithErrno("map", path);
  data_ = static_cast<const uint8_t*>(data);
  size_ = size;
}

MappedFile::~MappedFile() {
  if (data_ != nullptr) munmap(const_cast<uint8_t*>(data_), size_);
}

void MappedFile::DropPages(size_t begin, size_t size) const {
  if (begin >= size_) return;
  // Only a hint: whether it works changes memory use and nothing else.
  AdviseWholePages(const_cast<uint8_t*>(data_) + begin, std::min(size, size_ - begin),
                   MADV_DONTNEED);
}

void PreferLargePages([[maybe_unused]] void* begin, [[maybe_unused]] size_t size) {
#ifdef MADV_HUGEPAGE  // Linux
  AdviseWholePages(static_cast<uint8_t*>(begin), size, MADV_HUGEPAGE);
#endif
}

}  // namespace hob
