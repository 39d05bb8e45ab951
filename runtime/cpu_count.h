// How many threads this process should use. The only file that knows how the system tells it.
#ifndef HOB_RUNTIME_CPU_COUNT_H_
#define HOB_RUNTIME_CPU_COUNT_H_

#include <cstddef>
#include <optional>
#include <string>
#include <vector>

namespace hob {

// HOB_NUM_THREADS if it is set; otherwise the physical cores that this process may run on, bounded
// by the quota of its cgroup (rounded down, at least 1). Throws Error if HOB_NUM_THREADS is no
// number from 1 to kMaxThreads.
size_t CpuCount();

inline constexpr size_t kMaxThreads = 1024;

// The parts of it, which read Linux's /sys and /proc below `root` ("" outside of tests).

// How many physical cores the logical CPUs `cpus` belong to.
size_t PhysicalCores(const std::string& root, const std::vector<int>& cpus);

// The tightest CPU quota of this process's cgroup and those above it, in CPUs, version 2 or 1;
// nothing if there is none.
std::optional<double> CgroupQuota(const std::string& root);

// The value of HOB_NUM_THREADS; throws Error.
size_t ParseThreadCount(const std::string& text);

}  // namespace hob

#endif  // HOB_RUNTIME_CPU_COUNT_H_
