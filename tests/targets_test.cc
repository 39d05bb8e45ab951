// The list of instruction sets, the choice among them, and HOB_TARGET.
#include "kernels/targets.h"

#include <gtest/gtest.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <iterator>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include "hob/hob.h"
#include "tests/kernel_test_util.h"

namespace hob {
namespace {

TEST(TargetsTest, ScalarIsLast) {
  const std::vector<Target>& targets = SupportedTargets();
  ASSERT_FALSE(targets.empty());
  EXPECT_EQ(targets.back(), kScalar);
  EXPECT_STREQ(TargetName(kScalar), "scalar");
}

TEST(TargetsTest, NamesAreUniqueAndKnown) {
  std::istringstream words(KnownTargetNames());
  const std::set<std::string> known{std::istream_iterator<std::string>(words), {}};
  std::set<std::string> names;
  for (Target target : SupportedTargets()) {
    const std::string name = TargetName(target);
    EXPECT_TRUE(names.insert(name).second) << name;
    EXPECT_EQ(known.count(name), 1u) << name << " is not in " << KnownTargetNames();
    for (char c : name) {
      EXPECT_TRUE((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_') << name;
    }
  }
}

TEST(TargetsTest, CapSelectsEachTarget) {
  const Target before = ActiveTarget();
  for (Target target : SupportedTargets()) {
    EXPECT_TRUE(CapTarget(TargetName(target)));
    EXPECT_EQ(ActiveTarget(), target);
  }
  EXPECT_TRUE(CapTarget(nullptr));
  EXPECT_EQ(ActiveTarget(), SupportedTargets().front());
  EXPECT_TRUE(CapTarget(TargetName(before)));
}

TEST(TargetsTest, UnknownNameChangesNothing) {
  const Target before = ActiveTarget();
  for (const char* name : {"", "avx1024", "AVX2 ", "scalar,avx2", "scala"}) {
    EXPECT_FALSE(CapTarget(name)) << name;
    EXPECT_EQ(ActiveTarget(), before) << name;
  }
}

TEST(TargetsTest, CApiListsTheSameTargets) {
  const std::vector<Target>& targets = SupportedTargets();
  EXPECT_EQ(hob_targets(nullptr, 0), targets.size());
  std::vector<const char*> names(targets.size() + 1, nullptr);
  EXPECT_EQ(hob_targets(names.data(), names.size()), targets.size());
  EXPECT_EQ(names.back(), nullptr);
  for (size_t i = 0; i < targets.size(); ++i) EXPECT_STREQ(names[i], TargetName(targets[i]));

  const char* one[2] = {nullptr, nullptr};
  EXPECT_EQ(hob_targets(one, 1), targets.size());
  EXPECT_STREQ(one[0], names[0]);
  EXPECT_EQ(one[1], nullptr);
}

TEST(TargetsTest, CApiCapsTheTarget) {
  const std::string before = hob_target();
  EXPECT_EQ(hob_target_set("scalar"), HOB_OK);
  EXPECT_STREQ(hob_target(), "scalar");
  EXPECT_EQ(hob_target_set("nonsense"), HOB_ERROR_TARGET);
  EXPECT_NE(std::strstr(hob_status_message(), "nonsense"), nullptr) << hob_status_message();
  EXPECT_STREQ(hob_target(), "scalar");
  EXPECT_EQ(hob_target_set(nullptr), HOB_OK);
  EXPECT_STREQ(hob_target(), TargetName(SupportedTargets().front()));
  EXPECT_EQ(hob_target_set(before.c_str()), HOB_OK);
}

#if GTEST_HAS_DEATH_TEST
// HOB_TARGET is read when a process starts to use hob, so each case needs a process of its own: the
// "threadsafe" style runs this binary again, with the environment set here.
void InNewProcess(const char* hob_target_value, bool (*check)()) {
  ::testing::FLAGS_gtest_death_test_style = "threadsafe";
  const char* before = std::getenv("HOB_TARGET");
  const std::string saved = before == nullptr ? "" : before;
  setenv("HOB_TARGET", hob_target_value, 1);
  const auto checked = [check] {
    if (check()) std::_Exit(0);
    std::fprintf(stderr, "target %s, message: %s\n", TargetName(ActiveTarget()),
                 hob_status_message());
    std::_Exit(1);
  };
  EXPECT_EXIT(checked(), ::testing::ExitedWithCode(0), "");
  if (before == nullptr) {
    unsetenv("HOB_TARGET");
  } else {
    setenv("HOB_TARGET", saved.c_str(), 1);
  }
}

TEST(TargetsDeathTest, EnvironmentCapsTheTarget) {
  if (test::Quick()) GTEST_SKIP() << "emulators cannot always start this binary again";
  InNewProcess("scalar", [] { return std::strcmp(hob_target(), "scalar") == 0; });
}

TEST(TargetsDeathTest, UnknownNameInTheEnvironmentStopsEveryComputeCall) {
  if (test::Quick()) GTEST_SKIP() << "emulators cannot always start this binary again";
  InNewProcess("nonsense", [] {
    const float a = 1, b = 2;
    float out = 0;
    return hob_target() == nullptr && ActiveTarget() == -1 &&
           hob_add(&a, &b, 1, &out) == HOB_ERROR_TARGET &&
           std::strstr(hob_status_message(), "nonsense") != nullptr;
  });
}
#endif

}  // namespace
}  // namespace hob
