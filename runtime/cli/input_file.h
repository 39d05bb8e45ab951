// A file that is read from its beginning to its end, piece by piece: logits do not fit in memory.
#ifndef HOB_RUNTIME_CLI_INPUT_FILE_H_
#define HOB_RUNTIME_CLI_INPUT_FILE_H_

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <string>

namespace hob::cli {

// Every function throws std::runtime_error, naming the file.
class InputFile {
 public:
  // Regular files only, since sizes are checked before anything is read.
  explicit InputFile(const std::string& path);

  const std::string& path() const { return path_; }
  uint64_t size() const { return size_; }

  // Reads exactly that many bytes.
  void Read(void* data, size_t bytes);
  void Skip(uint64_t bytes);
  void Rewind();

  [[noreturn]] void Fail(const std::string& message) const;

 private:
  std::string path_;
  std::unique_ptr<std::FILE, int (*)(std::FILE*)> file_;
  uint64_t size_ = 0;
};

}  // namespace hob::cli

#endif  // HOB_RUNTIME_CLI_INPUT_FILE_H_
