// Reserved memory as every system's file must give it; built with the portable one, which this
// system may not use otherwise. That memory is really taken late is in cache_test.cc.
#include "runtime/reserved_memory.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <new>

namespace hob {
namespace {

TEST(ReservedMemoryTest, IsZeroedAlignedAndWritable) {
  for (size_t bytes : {1, 63, 64, 4096, 1000000, 50000000}) {
    const ReservedMemory memory(bytes);
    ASSERT_NE(memory.data(), nullptr);
    EXPECT_EQ(memory.size(), bytes);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(memory.data()) % 64, 0u);
    for (size_t i = 0; i < bytes; i += std::max<size_t>(1, bytes / 1000)) {
      ASSERT_EQ(memory.data()[i], 0) << i << " of " << bytes;
    }
    memory.data()[0] = 1;
    memory.data()[bytes - 1] = 1;
  }
}

TEST(ReservedMemoryTest, DiscardKeepsWhatIsOutside) {
  const size_t bytes = 1000000, begin = 100001, end = 899999;
  const ReservedMemory memory(bytes);
  std::fill_n(memory.data(), bytes, uint8_t{7});
  memory.Discard(begin, end);
  memory.Discard(begin, begin);
  EXPECT_EQ(std::count(memory.data(), memory.data() + begin, 7), static_cast<ptrdiff_t>(begin));
  EXPECT_EQ(std::count(memory.data() + end, memory.data() + bytes, 7),
            static_cast<ptrdiff_t>(bytes - end));
  std::fill(memory.data() + begin, memory.data() + end, uint8_t{9});
  EXPECT_EQ(std::count(memory.data() + begin, memory.data() + end, 9),
            static_cast<ptrdiff_t>(end - begin));
}

TEST(ReservedMemoryTest, LargePagesKeepWhatIsThere) {
  const size_t bytes = 9 << 20;
  const ReservedMemory memory(bytes);
  const auto fill = [&](size_t begin, size_t end) {
    for (size_t i = begin; i < end; ++i) memory.data()[i] = static_cast<uint8_t>(i * 37 >> 5);
  };
  const auto first_wrong = [&](size_t end) {
    size_t i = 0;
    while (i < end && memory.data()[i] == static_cast<uint8_t>(i * 37 >> 5)) ++i;
    return i;
  };
  // In steps that are no whole number of pages.
  size_t done = 0;
  for (size_t end : {1000000, 3000000, 3000100, 8000000, 9 << 20}) {
    fill(done, end);
    memory.UseLargePages(done, end);
    EXPECT_EQ(first_wrong(end), end);
    done = end;
  }
  memory.UseLargePages(done, done);
  memory.Discard(5000000, 8500000);
  EXPECT_EQ(first_wrong(5000000), 5000000u);
  fill(0, bytes);
  memory.UseLargePages(0, bytes);
  EXPECT_EQ(first_wrong(bytes), bytes);
}

TEST(ReservedMemoryTest, TooMuchIsAnException) {
  if (HOB_SANITIZED) GTEST_SKIP() << "sanitizers end the program";
  EXPECT_THROW(ReservedMemory(SIZE_MAX), std::bad_alloc);
  EXPECT_THROW(ReservedMemory(SIZE_MAX / 2), std::bad_alloc);
}

}  // namespace
}  // namespace hob
