// That the ceilings are there and fit together, not how high they are: that would be a test of the
// machine.
#include <gtest/gtest.h>

#include <atomic>
#include <cmath>
#include <cstring>
#include <memory>
#include <vector>

#include "measure/ceilings.h"
#include "measure/machine.h"
#include "measure/team.h"

namespace hob::measure {
namespace {

TEST(MeasureTest, EveryThreadOfATeamRunsOnce) {
  for (const size_t threads : {1, 2, 5}) {
    Team team(threads);
    EXPECT_EQ(team.threads(), threads);
    std::vector<std::atomic<int>> runs(threads);
    for (int turn = 1; turn <= 100; ++turn) {
      team.Run([&](size_t thread) { ++runs[thread]; });
      for (const auto& count : runs) ASSERT_EQ(count, turn);
    }
  }
}

TEST(MeasureTest, SplitCoversEverythingInUnits) {
  Team team(3);
  for (const size_t count : {1, 7, 8, 100}) {
    std::vector<std::atomic<int>> seen(count);
    team.Split(count, 4, [&](size_t begin, size_t end) {
      EXPECT_EQ(begin % 4, 0u);
      EXPECT_TRUE(end % 4 == 0 || end == count);
      for (size_t i = begin; i < end; ++i) ++seen[i];
    });
    for (const auto& times : seen) EXPECT_EQ(times, 1);
  }
}

TEST(MeasureTest, EveryTargetHasItsArithmetic) {
  for (const Target target : SupportedTargets()) {
    for (double Arithmetic::*kind :
         {&Arithmetic::int8_dot, &Arithmetic::bf16_dot, &Arithmetic::f32_fma}) {
      const double rate = ArithmeticNow(target, kind, 1);
      if (target == kScalar) {
        EXPECT_EQ(rate, 0);
      } else {
        EXPECT_GT(rate, 1e6) << TargetName(target);
        EXPECT_TRUE(std::isfinite(rate)) << TargetName(target);
      }
    }
  }
}

TEST(MeasureTest, ReadsFromTheFirstLevels) {
  for (const size_t threads : {1, 2}) {
    for (const size_t level : {0, 1}) {
      const double rate = ReadRateNow(level, threads);
      EXPECT_GT(rate, 1e6) << LevelName(level);
      EXPECT_TRUE(std::isfinite(rate)) << LevelName(level);
      EXPECT_GT(ReadRateOf(level, threads), 1e6) << LevelName(level);
    }
  }
}

TEST(MeasureTest, LevelsHoldMoreAndMore) {
  EXPECT_EQ(LevelOf(1, 1), 0u);
  EXPECT_EQ(LevelOf(L1Bytes(), 1), 0u);
  EXPECT_EQ(LevelOf(L1Bytes() + 1, 1), 1u);
  EXPECT_EQ(LevelOf(2 * L1Bytes(), 2), 0u);
  EXPECT_EQ(LevelOf(L2Bytes() + 1, 1), 2u);
  EXPECT_EQ(LevelOf(size_t{1} << 40, 1), kLevels - 1);
}

TEST(MeasureTest, CachesAreOfSomeSizeOrUnknown) {
  for (int level = 1; level <= 3; ++level) {
    const size_t bytes = CacheBytes(level);
    EXPECT_TRUE(bytes == 0 || (bytes >= 1024 && bytes < size_t{1} << 33)) << level << ": " << bytes;
  }
}

TEST(MeasureTest, PeakMemoryRises) {
  constexpr size_t kBytes = size_t{64} << 20;
  const size_t before = PeakMemoryBytes();
  ASSERT_GT(before, 0u);
  {
    const std::unique_ptr<char[]> memory(new char[2 * kBytes]);
    std::memset(memory.get(), 1, 2 * kBytes);
    EXPECT_GE(PeakMemoryBytes(), before + kBytes);
  }
  const size_t high = PeakMemoryBytes();
  EXPECT_GE(high, before + kBytes);  // memory given back does not lower it
  if (!ResetPeakMemory()) GTEST_SKIP() << "the system keeps the old peak";
  if (HOB_SANITIZED) GTEST_SKIP() << "sanitizers keep what is freed";
  EXPECT_LT(PeakMemoryBytes(), high - kBytes);
}

}  // namespace
}  // namespace hob::measure
