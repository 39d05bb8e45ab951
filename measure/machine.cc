// Linux tells through files in /proc and /sys; elsewhere POSIX has a part of it.
#include "measure/machine.h"

#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include <array>
#include <charconv>
#include <fstream>
#include <new>
#include <string_view>

namespace hob::measure {
namespace {

// The first line of a file, without the zeros that end strings in some of them; "" if there is
// none.
std::string FirstLine(const std::string& path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  line.erase(line.find_last_not_of(std::string_view("\0 \t", 3)) + 1);
  return line;
}

// What follows `key`, white space and a colon in a file of such lines.
std::string FieldOf(const std::string& path, std::string_view key) {
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    if (!line.starts_with(key)) continue;
    const size_t colon = line.find(':');
    if (colon == std::string::npos) continue;
    const size_t begin = line.find_first_not_of(" \t", colon + 1);
    return begin == std::string::npos ? "" : line.substr(begin);
  }
  return "";
}

// "48K", "2 MB", "512": the number, times 1024 for each step of its unit.
size_t ParseBytes(std::string_view text) {
  size_t number = 0;
  const auto [end, problem] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (problem != std::errc()) return 0;
  text.remove_prefix(static_cast<size_t>(end - text.data()));
  const size_t unit = text.find_first_of("kKMG");
  if (unit == std::string_view::npos) return number;
  const char letter = text[unit];
  return number << (letter == 'G' ? 30 : letter == 'M' ? 20 : 10);
}

size_t CacheBytesFromFiles(int level) {
  for (int i = 0;; ++i) {
    const std::string folder = "/sys/devices/system/cpu/cpu0/cache/index" + std::to_string(i) + "/";
    const std::string found = FirstLine(folder + "level");
    if (found.empty()) return 0;
    if (found != std::to_string(level) || FirstLine(folder + "type") == "Instruction") continue;
    return ParseBytes(FirstLine(folder + "size"));
  }
}

// What the C library knows, in case that the files are missing.
size_t CacheBytesFromSystem([[maybe_unused]] int level) {
#if defined(_SC_LEVEL1_DCACHE_SIZE)
  static constexpr int kNames[] = {_SC_LEVEL1_DCACHE_SIZE, _SC_LEVEL2_CACHE_SIZE,
                                   _SC_LEVEL3_CACHE_SIZE};
  const long bytes = sysconf(kNames[level - 1]);
  if (bytes > 0) return static_cast<size_t>(bytes);
#endif
  return 0;
}

size_t FindCacheBytes(int level) {
  const size_t bytes = CacheBytesFromFiles(level);
  return bytes != 0 ? bytes : CacheBytesFromSystem(level);
}

}  // namespace

std::string CpuName() {
  const std::string name = FieldOf("/proc/cpuinfo", "model name");
  return name.empty() ? FirstLine("/proc/device-tree/model") : name;
}

size_t CacheBytes(int level) {
  static const std::array<size_t, 3> bytes = {FindCacheBytes(1), FindCacheBytes(2),
                                              FindCacheBytes(3)};
  return bytes[static_cast<size_t>(level - 1)];
}

size_t PeakMemoryBytes() {
  const size_t bytes = ParseBytes(FieldOf("/proc/self/status", "VmHWM"));
  if (bytes != 0) return bytes;
  struct rusage usage = {};
  if (getrusage(RUSAGE_SELF, &usage) != 0) return 0;
#if defined(__APPLE__)
  constexpr size_t kUnit = 1;
#else
  constexpr size_t kUnit = 1024;
#endif
  return static_cast<size_t>(usage.ru_maxrss) * kUnit;
}

bool ResetPeakMemory() {
  // See proc_pid_clear_refs(5): 5 resets the peak.
  std::ofstream file("/proc/self/clear_refs");
  file << "5" << std::flush;
  return file.good();
}

LargePages::LargePages(size_t bytes) {
  constexpr size_t kLarge = size_t{2} << 20;
  bytes = (bytes + kLarge - 1) / kLarge * kLarge;
  data_.reset(static_cast<uint8_t*>(std::aligned_alloc(kLarge, bytes)));
  if (data_ == nullptr) throw std::bad_alloc();
#if defined(MADV_HUGEPAGE)
  // Advice: where it is not taken, the pages are small.
  madvise(data_.get(), bytes, MADV_HUGEPAGE);
#endif
}

}  // namespace hob::measure
