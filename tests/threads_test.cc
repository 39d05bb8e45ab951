// Threads: how many there are (cpu_count), and those that oneTBB lends (hob/tbb.h).
#include <atomic>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <thread>
#include <vector>

#include "gtest/gtest.h"
#include "hob/tbb.h"
#include "runtime/cpu_count.h"
#include "runtime/error.h"

namespace hob {
namespace {

// A made-up /proc and /sys.
class FakeRoot : public testing::Test {
 protected:
  FakeRoot() {
    root_ = testing::TempDir() + "hob_fake_root_" +
            testing::UnitTest::GetInstance()->current_test_info()->name();
    std::filesystem::remove_all(root_);
  }
  ~FakeRoot() override { std::filesystem::remove_all(root_); }

  void Write(const std::string& path, const std::string& text) {
    std::filesystem::create_directories(std::filesystem::path(root_ + path).parent_path());
    std::ofstream(root_ + path) << text;
  }

  std::string root_;
};

using CpuCountTest = FakeRoot;

TEST_F(CpuCountTest, CountsCoresNotThreads) {
  for (int cpu = 0; cpu < 4; ++cpu) {
    Write("/sys/devices/system/cpu/cpu" + std::to_string(cpu) + "/topology/thread_siblings_list",
          cpu % 2 == 0 ? "0,2\n" : "1,3\n");
  }
  EXPECT_EQ(PhysicalCores(root_, {0, 1, 2, 3}), 2u);
  EXPECT_EQ(PhysicalCores(root_, {0, 2}), 1u);
  EXPECT_EQ(PhysicalCores(root_, {3}), 1u);
  EXPECT_EQ(PhysicalCores(root_, {7, 8}), 2u) << "no topology: every CPU is a core";
  EXPECT_EQ(PhysicalCores(root_, {}), 0u);
}

TEST_F(CpuCountTest, CgroupVersion2) {
  Write("/proc/self/mountinfo",
        "30 20 0:1 / /proc rw - proc proc rw\n"
        "31 20 0:28 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw\n");
  Write("/proc/self/cgroup", "0::/a/b\n");
  EXPECT_EQ(CgroupQuota(root_), std::nullopt);
  Write("/sys/fs/cgroup/a/b/cpu.max", "max 100000\n");
  EXPECT_EQ(CgroupQuota(root_), std::nullopt);
  Write("/sys/fs/cgroup/a/cpu.max", "250000 100000\n");
  EXPECT_EQ(CgroupQuota(root_), 2.5) << "set in the group above";
  Write("/sys/fs/cgroup/a/b/cpu.max", "150000 100000\n");
  EXPECT_EQ(CgroupQuota(root_), 1.5);
}

TEST_F(CpuCountTest, CgroupVersion1InAContainer) {
  Write("/proc/self/mountinfo",
        "32 31 0:29 /docker/x /cg/mem rw - cgroup cgroup rw,memory\n"
        "33 31 0:30 /docker/x /cg/cpu rw - cgroup cgroup rw,cpuacct,cpu\n");
  Write("/proc/self/cgroup", "5:memory:/docker/x\n4:cpuacct,cpu:/docker/x/job\n");
  Write("/cg/cpu/job/cpu.cfs_quota_us", "-1\n");
  Write("/cg/cpu/job/cpu.cfs_period_us", "100000\n");
  EXPECT_EQ(CgroupQuota(root_), std::nullopt);
  Write("/cg/cpu/cpu.cfs_quota_us", "50000\n");
  Write("/cg/cpu/cpu.cfs_period_us", "100000\n");
  EXPECT_EQ(CgroupQuota(root_), 0.5);
}

TEST(CpuCount, ReadsTheEnvironment) {
  EXPECT_EQ(ParseThreadCount("12"), 12u);
  for (const char* text : {"", "0", "-1", "two", "3x", "1025", "99999999999999999999"}) {
    EXPECT_THROW(ParseThreadCount(text), Error) << text;
  }
  ASSERT_EQ(setenv("HOB_NUM_THREADS", "7", 1), 0);
  EXPECT_EQ(CpuCount(), 7u);
  hob_threads threads;
  ASSERT_EQ(setenv("HOB_NUM_THREADS", "many", 1), 0);
  EXPECT_EQ(hob_tbb_create(0, &threads), HOB_ERROR_ARGUMENT);
  EXPECT_NE(std::string(hob_status_message()).find("\"many\""), std::string::npos);
  ASSERT_EQ(unsetenv("HOB_NUM_THREADS"), 0);
  EXPECT_GE(CpuCount(), 1u);
}

// Counts how often every index is visited.
struct Visits {
  explicit Visits(size_t n) : of(n) {}
  static void Body(void* argument, size_t i) { ++static_cast<Visits*>(argument)->of[i]; }
  bool EachOnce() const {
    for (const auto& visits : of) {
      if (visits != 1) return false;
    }
    return true;
  }
  std::vector<std::atomic<int>> of;
};

TEST(TbbThreads, RunsEveryBodyOnce) {
  for (size_t count : {1, 2, 5}) {
    hob_threads threads;
    ASSERT_EQ(hob_tbb_create(count, &threads), HOB_OK);
    EXPECT_EQ(threads.count, count);
    for (size_t n : {0, 1, 2, 3, 17, 1000}) {
      Visits visits(n);
      threads.parallel_for(threads.context, n, Visits::Body, &visits);
      EXPECT_TRUE(visits.EachOnce()) << count << " threads, n = " << n;
    }
    hob_tbb_free(&threads);
  }
}

TEST(TbbThreads, ServesSeveralCallersAtATime) {
  hob_threads threads;
  ASSERT_EQ(hob_tbb_create(2, &threads), HOB_OK);
  std::vector<std::thread> callers;
  std::atomic<int> good{0};
  for (int caller = 0; caller < 4; ++caller) {
    callers.emplace_back([&] {
      for (int round = 0; round < 200; ++round) {
        Visits visits(8);
        threads.parallel_for(threads.context, 8, Visits::Body, &visits);
        good += visits.EachOnce();
      }
    });
  }
  for (std::thread& caller : callers) caller.join();
  EXPECT_EQ(good, 4 * 200);
  hob_tbb_free(&threads);
}

TEST(TbbThreads, RefusesWhatItCannotGive) {
  hob_threads threads;
  EXPECT_EQ(hob_tbb_create(1, nullptr), HOB_ERROR_ARGUMENT);
  EXPECT_EQ(hob_tbb_create(1000000, &threads), HOB_ERROR_ARGUMENT);
  threads = {};
  hob_tbb_free(&threads);
  hob_tbb_free(nullptr);
}

}  // namespace
}  // namespace hob
