// Writing a file so that nobody ever sees half of it.
#ifndef HOB_RUNTIME_TEMPORARY_FILE_H_
#define HOB_RUNTIME_TEMPORARY_FILE_H_

#include <cstdint>
#include <cstdio>
#include <span>
#include <string>

namespace hob {

// A file that is new, next to the one it is going to replace, and goes away unless it is committed.
// What is replaced must be a regular file or nothing. All throw HOB_ERROR_IO, naming the path and
// the system's reason.
class TemporaryFile {
 public:
  explicit TemporaryFile(const std::string& path);
  ~TemporaryFile();
  TemporaryFile(const TemporaryFile&) = delete;
  TemporaryFile& operator=(const TemporaryFile&) = delete;

  void Write(std::span<const uint8_t> bytes);

  // Puts the file, complete, in the place of `path`.
  void Commit();

 private:
  std::string final_path_;
  std::string path_;
  std::FILE* file_;
  bool committed_ = false;
};

}  // namespace hob

#endif  // HOB_RUNTIME_TEMPORARY_FILE_H_
