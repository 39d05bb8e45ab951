// See temporary_file.h.
#include "runtime/temporary_file.h"

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <random>
#include <system_error>
#include <utility>

#include "runtime/error.h"
#include "runtime/unicode.h"

namespace hob {
namespace {

[[noreturn]] void FailWithErrno(const char* action, const std::string& path) {
  const int reason = errno;
  throw Error(HOB_ERROR_IO, std::string("cannot ") + action + " " + Quoted(path, 1000) + ": " +
                                std::strerror(reason));
}

// Renaming a file over a device or a directory would destroy it or fail late.
const std::string& CheckPlace(const std::string& path) {
  std::error_code ignored;
  const auto status = std::filesystem::status(path, ignored);
  if (std::filesystem::exists(status) && !std::filesystem::is_regular_file(status)) {
    throw Error(HOB_ERROR_IO, "cannot write " + Quoted(path, 1000) + ": not a regular file");
  }
  return path;
}

}  // namespace

TemporaryFile::TemporaryFile(const std::string& path)
    : final_path_(CheckPlace(path)),
      path_(path + ".partial-" + std::to_string(std::random_device()())),
      file_(std::fopen(path_.c_str(), "wbx")) {
  if (file_ == nullptr) FailWithErrno("create", path_);
}

TemporaryFile::~TemporaryFile() {
  if (file_ != nullptr) std::fclose(file_);
  if (!committed_) std::remove(path_.c_str());
}

void TemporaryFile::Write(std::span<const uint8_t> bytes) {
  if (!bytes.empty() && std::fwrite(bytes.data(), 1, bytes.size(), file_) != bytes.size()) {
    FailWithErrno("write", path_);
  }
}

void TemporaryFile::Commit() {
  // Closing writes what is still buffered, so it can fail too.
  if (std::fclose(std::exchange(file_, nullptr)) != 0) FailWithErrno("write", path_);
  std::error_code error;
  std::filesystem::rename(path_, final_path_, error);
  if (error) {
    throw Error(HOB_ERROR_IO, "cannot write " + Quoted(final_path_, 1000) + ": " + error.message());
  }
  committed_ = true;
}

}  // namespace hob
