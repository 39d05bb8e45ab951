// Start at CpuCount, at the end. Whatever cannot be read counts as no limit.
#include "runtime/cpu_count.h"

#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <fstream>
#include <set>
#include <sstream>
#include <string_view>
#include <thread>

#include "runtime/error.h"

#if defined(__linux__)
#include <sched.h>
#endif

namespace hob {
namespace {

// The first line of a file; "" if there is none.
std::string FirstLine(const std::string& path) {
  std::string line;
  std::ifstream file(path);
  std::getline(file, line);
  return line;
}

// The logical CPUs that this process may run on; empty if the system does not tell.
std::vector<int> AllowedCpus() {
  std::vector<int> cpus;
#if defined(__linux__)
  // The kernel refuses masks smaller than its own, so large machines need a larger one.
  for (int capacity = CPU_SETSIZE; capacity <= 1 << 20; capacity *= 2) {
    std::vector<cpu_set_t> mask(static_cast<size_t>(capacity / CPU_SETSIZE));
    const size_t bytes = mask.size() * sizeof(cpu_set_t);
    if (sched_getaffinity(0, bytes, mask.data()) != 0) continue;
    for (int cpu = 0; cpu < capacity; ++cpu) {
      if (CPU_ISSET_S(cpu, bytes, mask.data())) cpus.push_back(cpu);
    }
    break;
  }
#endif
  return cpus;
}

// A mounted cgroup hierarchy: which directory of it is visible at which mount point.
struct CgroupMount {
  std::string top, point;
};

// `items` is a list separated by commas, such as "rw,cpu,cpuacct".
bool Lists(const std::string& items, std::string_view item) {
  std::istringstream stream(items);
  for (std::string each; std::getline(stream, each, ',');) {
    if (each == item) return true;
  }
  return false;
}

// Finds the mount of a cgroup2, or of the version 1 hierarchy that has the cpu controller. A line
// of mountinfo (proc(5)): ID PARENT DEVICE TOP POINT OPTIONS [OPTIONAL...] - TYPE SOURCE
// SUPER_OPTIONS.
std::optional<CgroupMount> FindCgroupMount(const std::string& root, bool version2) {
  std::ifstream file(root + "/proc/self/mountinfo");
  for (std::string line; std::getline(file, line);) {
    const size_t dash = line.find(" - ");
    if (dash == std::string::npos) continue;
    std::istringstream front(line.substr(0, dash)), back(line.substr(dash + 3));
    std::string skipped, type, super_options;
    CgroupMount mount;
    front >> skipped >> skipped >> skipped >> mount.top >> mount.point;
    back >> type >> skipped >> super_options;
    if (version2 ? type == "cgroup2" : type == "cgroup" && Lists(super_options, "cpu")) {
      return mount;
    }
  }
  return std::nullopt;
}

// This process's place in a hierarchy. Lines of /proc/self/cgroup: NUMBER:CONTROLLERS:PATH, with
// number 0 and no controllers for version 2.
std::optional<std::string> FindCgroupPath(const std::string& root, bool version2) {
  std::ifstream file(root + "/proc/self/cgroup");
  for (std::string line; std::getline(file, line);) {
    const size_t first = line.find(':');
    const size_t second = first == std::string::npos ? first : line.find(':', first + 1);
    if (second == std::string::npos) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1);
    if (version2 ? controllers.empty() : Lists(controllers, "cpu")) return line.substr(second + 1);
  }
  return std::nullopt;
}

// The quota set in one cgroup's directory, in CPUs.
std::optional<double> QuotaIn(const std::string& directory, bool version2) {
  std::istringstream stream(version2 ? FirstLine(directory + "/cpu.max")
                                     : FirstLine(directory + "/cpu.cfs_quota_us") + " " +
                                           FirstLine(directory + "/cpu.cfs_period_us"));
  double quota, period;  // microseconds; no quota: "max" in version 2, -1 in version 1
  if (!(stream >> quota >> period) || quota <= 0 || period <= 0) return std::nullopt;
  return quota / period;
}

std::optional<double> QuotaOf(const std::string& root, bool version2) {
  const std::optional<CgroupMount> mount = FindCgroupMount(root, version2);
  std::optional<std::string> path = FindCgroupPath(root, version2);
  if (!mount || !path) return std::nullopt;
  // In a container the mount may show only the part of the hierarchy that begins at `top`.
  if (mount->top != "/" && path->starts_with(mount->top)) path->erase(0, mount->top.size());
  std::optional<double> tightest;
  while (true) {
    if (path->ends_with('/')) path->pop_back();
    const std::optional<double> quota = QuotaIn(root + mount->point + *path, version2);
    if (quota && (!tightest || *quota < *tightest)) tightest = quota;
    if (path->empty()) return tightest;
    path->erase(std::min(path->rfind('/'), path->size()));
  }
}

}  // namespace

size_t PhysicalCores(const std::string& root, const std::vector<int>& cpus) {
  std::set<std::string> cores;
  for (int cpu : cpus) {
    const std::string name = std::to_string(cpu);
    // The CPUs that share a core all give the same list, such as "3,19".
    const std::string siblings =
        FirstLine(root + "/sys/devices/system/cpu/cpu" + name + "/topology/thread_siblings_list");
    cores.insert(siblings.empty() ? "cpu" + name : siblings);
  }
  return cores.size();
}

std::optional<double> CgroupQuota(const std::string& root) {
  const std::optional<double> quota = QuotaOf(root, true);
  return quota ? quota : QuotaOf(root, false);
}

size_t ParseThreadCount(const std::string& text) {
  size_t count = 0;
  const char* end = text.data() + text.size();
  const auto [stop, problem] = std::from_chars(text.data(), end, count);
  if (problem != std::errc() || stop != end || count < 1 || count > kMaxThreads) {
    throw Error(HOB_ERROR_ARGUMENT, "HOB_NUM_THREADS is \"" + text +
                                        "\"; expected a whole number from 1 to " +
                                        std::to_string(kMaxThreads));
  }
  return count;
}

size_t CpuCount() {
  if (const char* text = std::getenv("HOB_NUM_THREADS")) return ParseThreadCount(text);
  size_t count = PhysicalCores("", AllowedCpus());
  if (count == 0) count = std::thread::hardware_concurrency();
  if (const std::optional<double> quota = CgroupQuota("")) {
    count = std::min(count, static_cast<size_t>(*quota));
  }
  return std::clamp<size_t>(count, 1, kMaxThreads);
}

}  // namespace hob
