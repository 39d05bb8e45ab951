#include "kernels/targets.h"

#include <hwy/detect_targets.h>
#include <hwy/targets.h>

#if HWY_ARCH_X86 && defined(__GNUC__)
#include <cpuid.h>
#elif HWY_ARCH_ARM_A64 && defined(__linux__)
#include <sys/auxv.h>
#elif HWY_ARCH_ARM_A64 && defined(__APPLE__)
#include <sys/sysctl.h>
#endif

#include <atomic>
#include <cstdlib>
#include <string>

namespace hob {
namespace {

struct TargetRow {
  Target target;
  const char* name;
};

// Best first within an architecture, as in Highway's bits: a lower bit is a better target.
constexpr TargetRow kTargetRows[] = {
    {HWY_AVX3_ZEN4, "avx3_zen4"},        // AMD Zen 4 and later: AVX-512 with BF16
    {HWY_AVX3_DL, "avx3_dl"},            // Intel Ice Lake and later: AVX-512 with VNNI
    {HWY_AVX3, "avx3"},                  // Intel Skylake-X: AVX-512 F BW CD DQ VL
    {HWY_AVX2 | kWithDot, "avx2_vnni"},  // Intel Alder Lake and later without AVX-512
    {HWY_AVX2, "avx2"},                  // Intel Haswell, AMD Zen and later
    {HWY_SVE2_128, "sve2_128"},          // Arm Neoverse N2, V2: SVE2 with 128-bit vectors
    {HWY_SVE_256, "sve_256"},            // Arm Neoverse V1: SVE with 256-bit vectors
    {HWY_SVE2, "sve2"},                  // any other Armv9
    {HWY_SVE, "sve"},                    // any other SVE, such as A64FX
    {HWY_NEON_BF16, "neon_bf16"},  // Armv8.6 and later, such as Apple M2: bf16 and dot products
    {HWY_NEON_WITHOUT_AES | kWithDot,
     "neon_dot"},                    // Armv8.2 with dot products: Cortex-A76, Apple M1
    {HWY_NEON_WITHOUT_AES, "neon"},  // every Armv8
    {kScalar, "scalar"},             // everywhere: the reference
};

constexpr Target kUndecided = -2, kInvalid = -1;
std::atomic<Target> active_target{kUndecided};

bool IsCompiled(Target target) {
  return target == kScalar || (target & ~kWithDot & static_cast<Target>(HWY_TARGETS)) != 0;
}

// Whether this CPU has the dot that kWithDot speaks of.
bool CpuHasDot() {
#if HWY_ARCH_X86 && defined(__GNUC__)
  unsigned a = 0, b = 0, c = 0, d = 0;
  return __get_cpuid_count(7, 1, &a, &b, &c, &d) != 0 && (a >> 4 & 1) != 0;  // AVX-VNNI
#elif HWY_ARCH_ARM_A64 && defined(__linux__)
  constexpr unsigned long kAsimdDp = 1ul << 20;  // HWCAP_ASIMDDP
  return (getauxval(AT_HWCAP) & kAsimdDp) != 0;
#elif HWY_ARCH_ARM_A64 && defined(__APPLE__)
  int has = 0;
  size_t size = sizeof(has);
  return sysctlbyname("hw.optional.arm.FEAT_DotProd", &has, &size, nullptr, 0) == 0 && has != 0;
#else
  return false;
#endif
}

#if HWY_ARCH_X86 && defined(__GNUC__)
bool IsIntel() {
  unsigned a = 0, b = 0, c = 0, d = 0;
  return __get_cpuid(0, &a, &b, &c, &d) != 0 && b == signature_INTEL_ebx &&
         c == signature_INTEL_ecx && d == signature_INTEL_edx;
}
#else
bool IsIntel() { return false; }
#endif

std::atomic<bool> takes_intels_way{IsIntel()};

bool RunsHere(Target target) {
  if (target == kScalar) return true;
  static const int64_t supported = hwy::SupportedTargets();
  return (target & ~kWithDot & supported) != 0 && ((target & kWithDot) == 0 || CpuHasDot());
}

std::string LowerCase(const char* text) {
  std::string lower(text);
  for (char& c : lower) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  }
  return lower;
}

std::vector<Target> FindSupported() {
  std::vector<Target> targets;
  for (const TargetRow& row : kTargetRows) {
    if (IsCompiled(row.target) && RunsHere(row.target)) targets.push_back(row.target);
  }
  return targets;
}

// The best supported target from row `cap` on, or kInvalid if the name is unknown.
Target BestFrom(const char* cap) {
  const std::string name = LowerCase(cap);
  bool allowed = false;
  for (const TargetRow& row : kTargetRows) {
    if (IsCompiled(row.target) && name == row.name) allowed = true;
    if (!allowed) continue;
    for (const Target supported : SupportedTargets()) {
      if (supported == row.target) return supported;
    }
  }
  return kInvalid;
}

Target FromEnvironment() {
  const char* cap = std::getenv("HOB_TARGET");
  return cap == nullptr || *cap == '\0' ? SupportedTargets().front() : BestFrom(cap);
}

}  // namespace

const char* TargetName(Target target) {
  for (const TargetRow& row : kTargetRows) {
    if (row.target == target) return row.name;
  }
  return "unknown";
}

const std::vector<Target>& SupportedTargets() {
  static const std::vector<Target> targets = FindSupported();
  return targets;
}

Target ActiveTarget() {
  Target target = active_target.load(std::memory_order_relaxed);
  if (target == kUndecided) {
    const Target chosen = FromEnvironment();
    // Another thread may have capped the target meanwhile: its choice stays.
    active_target.compare_exchange_strong(target, chosen, std::memory_order_relaxed);
    target = active_target.load(std::memory_order_relaxed);
  }
  return target;
}

bool OnIntel() { return takes_intels_way.load(std::memory_order_relaxed); }

void SetOnIntel(bool on_intel) { takes_intels_way.store(on_intel, std::memory_order_relaxed); }

bool CapTarget(const char* name) {
  const Target target = name == nullptr ? SupportedTargets().front() : BestFrom(name);
  if (target == kInvalid) return false;
  active_target.store(target, std::memory_order_relaxed);
  return true;
}

const char* KnownTargetNames() {
  static const std::string names = [] {
    std::string list;
    for (const TargetRow& row : kTargetRows) {
      if (!IsCompiled(row.target)) continue;
      if (!list.empty()) list += ' ';
      list += row.name;
    }
    return list;
  }();
  return names.c_str();
}

const char* BadTargetMessage() {
  static const std::string message = [] {
    const char* value = std::getenv("HOB_TARGET");
    return std::string("HOB_TARGET is '") + (value == nullptr ? "" : value) +
           "', expected one of this build's targets: " + KnownTargetNames();
  }();
  return message.c_str();
}

}  // namespace hob
