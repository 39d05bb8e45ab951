// What the operating system says of this machine and of this process. The only file of measure/
// that asks it. Whatever it does not say is 0 or "".
#ifndef HOB_MEASURE_MACHINE_H_
#define HOB_MEASURE_MACHINE_H_

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
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

// Memory in pages as large as can be had, and written to by nobody yet. It begins on a page.
class LargePages {
 public:
  explicit LargePages(size_t bytes);
  uint8_t* get() const { return data_.get(); }

 private:
  struct Free {
    void operator()(uint8_t* p) const { std::free(p); }
  };
  std::unique_ptr<uint8_t, Free> data_;
};

}  // namespace hob::measure

#endif  // HOB_MEASURE_MACHINE_H_
