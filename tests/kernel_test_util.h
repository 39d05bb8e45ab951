// What the kernel tests share: bit-exact comparison, seeded random data with the awkward values in
// it, and buffers that notice any access past their end.
//
// Environment: HOB_TEST_QUICK=1 runs fewer shapes (for emulators), HOB_TEST_SEED=N draws other
// random data, HOB_TEST_DATA names the directory with the reference files.
#ifndef HOB_TESTS_KERNEL_TEST_UTIL_H_
#define HOB_TESTS_KERNEL_TEST_UTIL_H_

#include <gtest/gtest.h>

#include <bit>
#include <cfloat>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <limits>
#include <span>
#include <string>
#include <vector>

#if defined(__unix__) || defined(__APPLE__)
#include <sys/mman.h>
#include <unistd.h>
#define HOB_TEST_GUARD_PAGES 1
#else
#define HOB_TEST_GUARD_PAGES 0
#endif
#if defined(__x86_64__)
#include <xmmintrin.h>
#endif

#include "kernels/formats.h"
#include "kernels/targets.h"

namespace hob::test {

// ---------------------------------------------------------------- environment

inline bool EnvFlag(const char* name) {
  const char* value = std::getenv(name);
  return value != nullptr && *value != '\0' && std::strcmp(value, "0") != 0;
}

inline bool Quick() { return EnvFlag("HOB_TEST_QUICK"); }

inline uint64_t Seed() {
  const char* value = std::getenv("HOB_TEST_SEED");
  return value == nullptr ? 1 : std::strtoull(value, nullptr, 0);
}

// The directory with the reference files, or an empty path.
inline std::filesystem::path DataDir() {
  std::error_code error;
  if (const char* value = std::getenv("HOB_TEST_DATA")) return value;
#ifdef HOB_SOURCE_DIR
  const std::filesystem::path beside = std::filesystem::path(HOB_SOURCE_DIR) / ".." / "shared";
  if (std::filesystem::is_directory(beside, error)) return beside;
#endif
  return {};
}

// ---------------------------------------------------------------- bits

inline uint32_t Bits(float x) { return std::bit_cast<uint32_t>(x); }
inline float FromBits(uint32_t bits) { return std::bit_cast<float>(bits); }

inline constexpr float kInf = std::numeric_limits<float>::infinity();
inline constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
inline constexpr float kMinSubnormal = std::numeric_limits<float>::denorm_min();

// The same value, sign of zero included; any NaN is as good as another.
inline bool Same(float a, float b) {
  return Bits(a) == Bits(b) || (std::isnan(a) && std::isnan(b));
}

inline ::testing::AssertionResult SameRow(const float* got, const float* want, size_t n) {
  size_t different = 0, first = 0;
  for (size_t i = 0; i < n; ++i) {
    if (!Same(got[i], want[i]) && different++ == 0) first = i;
  }
  if (different == 0) return ::testing::AssertionSuccess();
  char text[160];
  std::snprintf(text, sizeof text,
                "[%zu] is %.9g (0x%08x), expected %.9g (0x%08x); %zu of %zu differ", first,
                static_cast<double>(got[first]), Bits(got[first]), static_cast<double>(want[first]),
                Bits(want[first]), different, n);
  return ::testing::AssertionFailure() << text;
}

// ---------------------------------------------------------------- floating-point mode

// The bits that control rounding and flushing (not the sticky exception flags).
inline uint32_t FloatMode() {
#if defined(__x86_64__)
  return _mm_getcsr() & ~0x3fu;
#else
  return 0;
#endif
}

// Runs one kernel call, which must leave the floating-point mode as it was.
template <class F>
void RunKernel(F&& kernel) {
  const uint32_t before = FloatMode();
  kernel();
  EXPECT_EQ(FloatMode(), before) << "the kernel changed the floating-point mode";
}

// ---------------------------------------------------------------- random data

// SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014).
class Random {
 public:
  // `salt` keeps the tests' streams apart.
  explicit Random(uint64_t salt) : state_(Seed() * 0x2545f4914f6cdd1dull + salt) {}

  uint64_t Next() {
    uint64_t z = state_ += 0x9e3779b97f4a7c15ull;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    return z ^ (z >> 31);
  }
  size_t Below(size_t n) { return static_cast<size_t>(Next() % n); }
  bool OneIn(size_t n) { return Below(n) == 0; }

  // Uniform in [-1, 1).
  float Uniform() { return static_cast<float>(static_cast<int32_t>(Next() >> 32)) * 0x1p-31f; }
  // Bell-shaped with variance 1: the sum of three uniforms.
  float Normal() { return Uniform() + Uniform() + Uniform(); }
  float AnyBits() { return FromBits(static_cast<uint32_t>(Next())); }

  float Special() {
    static constexpr float kValues[] = {kNan,
                                        -kNan,
                                        kInf,
                                        -kInf,
                                        0.0f,
                                        -0.0f,
                                        kMinSubnormal,
                                        -kMinSubnormal,
                                        FLT_MIN,
                                        -FLT_MIN,
                                        0x1.fffffcp-127f,
                                        -0x1.fffffcp-127f,
                                        FLT_MAX,
                                        -FLT_MAX,
                                        1.0f,
                                        -1.0f};
    return kValues[Below(std::size(kValues))];
  }

  // Products of two of these lie where binary32 turns subnormal, some within a few units of it.
  float NearUnderflow() {
    const float scale = std::ldexp(1.0f, -63 - static_cast<int>(OneIn(2) ? Below(3) : Below(28)));
    const float mantissa = 1.0f + static_cast<float>(Below(8)) * 0.125f;
    return OneIn(2) ? scale * mantissa : -scale * mantissa;
  }

 private:
  uint64_t state_;
};

// Kinds of float data that every kernel must survive.
enum class Data { kNormal, kSpecials, kAnyBits, kNearUnderflow, kSubnormal, kHuge, kEqual, kZero };
inline constexpr Data kAllData[] = {Data::kNormal,        Data::kSpecials,  Data::kAnyBits,
                                    Data::kNearUnderflow, Data::kSubnormal, Data::kHuge,
                                    Data::kEqual,         Data::kZero};

inline const char* Name(Data data) {
  static constexpr const char* kNames[] = {"normal",    "specials", "any bits", "near underflow",
                                           "subnormal", "huge",     "equal",    "zero"};
  return kNames[static_cast<size_t>(data)];
}

inline void Fill(Data data, Random& random, float* x, size_t n) {
  const float equal = random.Normal();
  for (size_t i = 0; i < n; ++i) {
    switch (data) {
      case Data::kNormal:
        x[i] = random.Normal();
        break;
      case Data::kSpecials:  // sparse, so that not every result is NaN
        x[i] = random.OneIn(24) ? random.Special() : random.Normal();
        break;
      case Data::kAnyBits:
        x[i] = random.AnyBits();
        break;
      case Data::kNearUnderflow:
        x[i] = random.NearUnderflow();
        break;
      case Data::kSubnormal:
        x[i] = FromBits(static_cast<uint32_t>(random.Next()) & 0x807fffffu);
        break;
      case Data::kHuge:
        x[i] = random.Uniform() * FLT_MAX;
        break;
      case Data::kEqual:
        x[i] = equal;
        break;
      case Data::kZero:
        x[i] = random.OneIn(2) ? 0.0f : -0.0f;
        break;
    }
  }
}

inline std::vector<float> Filled(Data data, Random& random, size_t n) {
  std::vector<float> x(n);
  Fill(data, random, x.data(), n);
  return x;
}

// ---------------------------------------------------------------- buffers

inline constexpr uint8_t kSentinelByte = 0xa5;
inline constexpr uint32_t kSentinelBits = 0xa5a5a5a5u;  // as a float: finite and unlikely

// `count` elements that end, up to `alignment`, where an inaccessible page begins. So they have the
// least alignment that the count allows, and a kernel that reads or writes past them crashes.
template <class T>
class PageBuffer {
 public:
  explicit PageBuffer(size_t count, size_t alignment = alignof(T)) : count_(count) {
    const size_t bytes = count * sizeof(T);
#if HOB_TEST_GUARD_PAGES
    const size_t page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
    const size_t usable = (bytes + alignment + page - 1) / page * page;
    mapped_ = usable + page;
    base_ = static_cast<uint8_t*>(
        mmap(nullptr, mapped_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    if (base_ == MAP_FAILED) std::abort();
    mprotect(base_ + usable, page, PROT_NONE);
#else
    const size_t usable = bytes + alignment;
    mapped_ = usable;
    base_ = static_cast<uint8_t*>(std::malloc(usable));
#endif
    std::memset(base_, kSentinelByte, usable);
    const uintptr_t start = reinterpret_cast<uintptr_t>(base_ + usable - bytes);
    data_ = reinterpret_cast<T*>(start / alignment * alignment);
  }
  ~PageBuffer() {
#if HOB_TEST_GUARD_PAGES
    munmap(base_, mapped_);
#else
    std::free(base_);
#endif
  }
  PageBuffer(const PageBuffer&) = delete;
  PageBuffer& operator=(const PageBuffer&) = delete;

  T* data() { return data_; }
  const T* data() const { return data_; }
  size_t size() const { return count_; }
  T& operator[](size_t i) { return data_[i]; }
  const T& operator[](size_t i) const { return data_[i]; }

  // The bytes before the first element are as they were.
  bool FrontIntact() const {
    const uint8_t* front = reinterpret_cast<const uint8_t*>(data_);
    for (size_t i = 1; i <= 256 && front - i >= base_; ++i) {
      if (*(front - i) != kSentinelByte) return false;
    }
    return true;
  }

 private:
  uint8_t* base_;
  size_t mapped_;
  T* data_;
  size_t count_;
};

// A row-major matrix with guard values in the gap between its rows.
class Matrix {
 public:
  Matrix(size_t rows, size_t cols, size_t stride)
      : rows_(rows), cols_(cols), stride_(stride), buffer_((rows - 1) * stride + cols) {}

  float* data() { return buffer_.data(); }
  const float* data() const { return buffer_.data(); }
  float* row(size_t i) { return data() + i * stride_; }
  const float* row(size_t i) const { return data() + i * stride_; }
  size_t stride() const { return stride_; }

  void Set(Data data, Random& random) {
    for (size_t i = 0; i < rows_; ++i) Fill(data, random, row(i), cols_);
  }
  void CopyFrom(const float* x, size_t x_stride) {
    for (size_t i = 0; i < rows_; ++i) std::memcpy(row(i), x + i * x_stride, cols_ * sizeof *x);
  }

  ::testing::AssertionResult GuardsIntact() const {
    for (size_t i = 0; i + 1 < rows_; ++i) {
      for (size_t j = cols_; j < stride_; ++j) {
        if (Bits(row(i)[j]) != kSentinelBits) {
          return ::testing::AssertionFailure()
                 << "row " << i << " wrote past its end, column " << j;
        }
      }
    }
    if (!buffer_.FrontIntact()) {
      return ::testing::AssertionFailure() << "something wrote before the first element";
    }
    return ::testing::AssertionSuccess();
  }

 private:
  size_t rows_, cols_, stride_;
  PageBuffer<float> buffer_;
};

// Every row of `got` has the bits of the same row of `want`, and no guard was touched.
inline ::testing::AssertionResult SameMatrix(const Matrix& got, const float* want,
                                             size_t want_stride, size_t rows, size_t cols) {
  for (size_t i = 0; i < rows; ++i) {
    ::testing::AssertionResult row = SameRow(got.row(i), want + i * want_stride, cols);
    if (!row) return ::testing::AssertionFailure() << "row " << i << ' ' << row.message();
  }
  return got.GuardsIntact();
}

// ---------------------------------------------------------------- fixtures

// A test that draws random data: failures show the seed that repeats them.
class SeededTest : public ::testing::Test {
 private:
  ::testing::ScopedTrace trace_{__FILE__, __LINE__, "HOB_TEST_SEED=" + std::to_string(Seed())};
};

// The same, once for every target that this CPU runs.
class TargetTest : public SeededTest, public ::testing::WithParamInterface<Target> {};

inline std::string TargetParamName(const ::testing::TestParamInfo<Target>& info) {
  return TargetName(info.param);
}
inline auto EveryTarget() { return ::testing::ValuesIn(SupportedTargets()); }

// Once for every format, and every pair of format and target.
class FormatTest : public SeededTest, public ::testing::WithParamInterface<const Format*> {};

inline std::string FormatParamName(const ::testing::TestParamInfo<const Format*>& info) {
  return info.param->name;
}
inline auto EveryFormat() { return ::testing::ValuesIn(Formats().begin(), Formats().end()); }

// Makes `target` the active one while it lives.
class UseTarget {
 public:
  explicit UseTarget(Target target) : before_(ActiveTarget()) {
    EXPECT_TRUE(CapTarget(TargetName(target)));
    EXPECT_EQ(ActiveTarget(), target);
  }
  ~UseTarget() { CapTarget(TargetName(before_)); }
  UseTarget(const UseTarget&) = delete;
  UseTarget& operator=(const UseTarget&) = delete;

 private:
  Target before_;
};

// OnIntel() for as long as it lives.
class UseIntelsWay {
 public:
  explicit UseIntelsWay(bool on_intel) : before_(OnIntel()) { SetOnIntel(on_intel); }
  ~UseIntelsWay() { SetOnIntel(before_); }
  UseIntelsWay(const UseIntelsWay&) = delete;
  UseIntelsWay& operator=(const UseIntelsWay&) = delete;

 private:
  bool before_;
};

// ---------------------------------------------------------------- weights

// What the blocks of a weight matrix are filled with. kScales: codes at random, and awkward f16
// values where formats keep their scales (at the ends of a block).
enum class Blocks { kEncoded, kNearUnderflow, kRandomBytes, kScales, kAll00, kAllFF, kAll80 };
inline constexpr Blocks kAllBlocks[] = {
    Blocks::kEncoded, Blocks::kNearUnderflow, Blocks::kRandomBytes, Blocks::kScales,
    Blocks::kAll00,   Blocks::kAllFF,         Blocks::kAll80};

inline const char* Name(Blocks blocks) {
  static constexpr const char* kNames[] = {"encoded", "near underflow", "random bytes", "scales",
                                           "all 00",  "all ff",         "all 80"};
  return kNames[static_cast<size_t>(blocks)];
}

// An f16 that is subnormal, extreme, negative, zero or (rarely, to leave other outputs finite) not
// finite.
inline uint16_t AwkwardF16(Random& random) {
  static constexpr uint16_t kFinite[] = {0x0001, 0x8001, 0x03ff, 0x0400, 0x7bff, 0xfbff,
                                         0x0000, 0x8000, 0x3c00, 0xbc00, 0x2e66};
  static constexpr uint16_t kOther[] = {0x7c00, 0xfc00, 0x7e00, 0xfe01, 0x7c01};
  return random.OneIn(64) ? kOther[random.Below(std::size(kOther))]
                          : kFinite[random.Below(std::size(kFinite))];
}

// n rows of k values in the file's layout.
inline std::vector<uint8_t> WeightRows(const Format& format, Blocks blocks, Random& random,
                                       size_t n, size_t k) {
  const size_t row_bytes = format.row_bytes(k);
  std::vector<uint8_t> rows(n * row_bytes);
  if (blocks == Blocks::kEncoded || blocks == Blocks::kNearUnderflow) {
    const Data data = blocks == Blocks::kEncoded ? Data::kNormal : Data::kNearUnderflow;
    for (size_t i = 0; i < n; ++i) {
      format.encode(Filled(data, random, k).data(), k, rows.data() + i * row_bytes);
    }
    return rows;
  }
  for (uint8_t& byte : rows) {
    byte = blocks == Blocks::kAll00   ? 0x00
           : blocks == Blocks::kAllFF ? 0xff
           : blocks == Blocks::kAll80 ? 0x80
                                      : static_cast<uint8_t>(random.Next());
  }
  if (blocks == Blocks::kScales) {
    const size_t last = format.block_bytes - sizeof(uint16_t);
    for (size_t at = 0; at < rows.size(); at += format.block_bytes) {
      const uint16_t first_value = AwkwardF16(random), last_value = AwkwardF16(random);
      std::memcpy(rows.data() + at, &first_value, sizeof first_value);
      if (random.OneIn(2)) std::memcpy(rows.data() + at + last, &last_value, sizeof last_value);
    }
  }
  return rows;
}

// Values of k that a format's kernels must handle: whole blocks, or any number of single values.
inline std::vector<size_t> Depths(const Format& format) {
  if (format.block_values == 1) {
    return Quick() ? std::vector<size_t>{1, 3, 33} : std::vector<size_t>{1, 2, 3, 31, 33, 172, 576};
  }
  const size_t block = format.block_values;
  if (Quick()) return {block, 3 * block};
  return {block, 2 * block, 3 * block, (576 + block - 1) / block * block};
}

}  // namespace hob::test

#endif  // HOB_TESTS_KERNEL_TEST_UTIL_H_
