// What the operating system says of this machine and of this process. The only file of measure/
// that asks it. Whatever it does not say is 0 or "".
#ifndef HOB_MEASURE_MACHINE_H_
#define HOB_MEASURE_MACHINE_H_

#include <cstddef>
#include <string>

namespace hob::measure {

// "Intel(R) Xeon(R) Processor", for instance.
std::string CpuName();

// Size of the data cache of level 1, 2 or 3 that the first CPU uses, in bytes.
size_t CacheBytes(int level);

// The most memory, in bytes, that this process has had resident since it began or since the last
// ResetPeakMemory that succeeded. Pages of mapped files count while they are resident.
size_t PeakMemoryBytes();

// Begins to look for the peak anew. False if the system does not offer it.
bool ResetPeakMemory();

}  // namespace hob::measure

#endif  // HOB_MEASURE_MACHINE_H_
