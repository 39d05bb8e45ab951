// A file mapped into memory, read-only, and large pages. The only place that knows how the
// operating system does these.
#ifndef HOB_RUNTIME_MAPPED_FILE_H_
#define HOB_RUNTIME_MAPPED_FILE_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

namespace hob {

class MappedFile {
 public:
  // Throws HOB_ERROR_IO, naming the path and the system's reason, if the file cannot be opened or
  // is not a regular file. An empty file maps to an empty span. If another process shortens the
  // file while it is mapped, reading what is gone raises a signal: replace model files by renaming
  // a new one over them, as GgufWriter does.
  explicit MappedFile(const std::string& path);
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  std::span<const uint8_t> bytes() const { return {data_, size_}; }

  // Gives back the memory of the pages that lie wholly inside [begin, begin + size) of the file;
  // they are read again from the file if needed. Offsets beyond the end are ignored.
  void DropPages(size_t begin, size_t size) const;

 private:
  const uint8_t* data_ = nullptr;
  size_t size_ = 0;
};

// Asks for large pages behind [begin, begin + size), memory that has not been used yet: they are
// fewer to be faulted in, and to be looked up whenever the memory is read. Only a hint: it changes
// speed and nothing else.
void PreferLargePages(void* begin, size_t size);

}  // namespace hob

#endif  // HOB_RUNTIME_MAPPED_FILE_H_
