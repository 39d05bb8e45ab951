// See input_file.h.
#include "runtime/cli/input_file.h"

#include <sys/stat.h>
#include <sys/types.h>

#include <cerrno>
#include <cstring>
#include <stdexcept>

namespace hob::cli {

InputFile::InputFile(const std::string& path)
    : path_(path), file_(std::fopen(path.c_str(), "rb"), std::fclose) {
  if (file_ == nullptr) {
    throw std::runtime_error("cannot open " + path_ + ": " + std::strerror(errno));
  }
  struct stat status;
  if (fstat(fileno(file_.get()), &status) != 0 || !S_ISREG(status.st_mode)) {
    Fail("not a regular file");
  }
  size_ = static_cast<uint64_t>(status.st_size);
}

void InputFile::Read(void* data, size_t bytes) {
  if (bytes == 0 || std::fread(data, 1, bytes, file_.get()) == bytes) return;
  Fail(std::ferror(file_.get()) ? std::strerror(errno) : "it ends too early");
}

void InputFile::Skip(uint64_t bytes) {
  if (fseeko(file_.get(), static_cast<off_t>(bytes), SEEK_CUR) != 0) Fail(std::strerror(errno));
}

void InputFile::Rewind() {
  if (fseeko(file_.get(), 0, SEEK_SET) != 0) Fail(std::strerror(errno));
}

void InputFile::Fail(const std::string& message) const {
  throw std::runtime_error(path_ + ": " + message);
}

}  // namespace hob::cli
