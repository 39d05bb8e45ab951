// `hob verify` from inside: every op's results on fixed inputs have the digest below, on every
// target of whatever CPU runs this; no result is further from the exact one than its bound; and
// verify would notice if it were otherwise. The other tests compare the targets of one machine with
// each other and with the reference; the digest compares machines.
//
// A change that is meant to change bits (docs/numerics.md, and the changelog says so), and any new
// format or case, changes the digest: the failure prints the new one. Which line it is, the output
// of `hob verify --verbose` before and after tells.
#include "runtime/verify/verify.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <string>
#include <vector>

#include "kernels/reference.h"
#include "runtime/error.h"
#include "runtime/verify/blocks.h"
#include "runtime/verify/sha256.h"

namespace hob::verify {
namespace {

// Computed with the scalar target on x86-64.
constexpr const char* kGolden = "96371aea6a3c317f419df9af39f4ee11bddc60d65439b2f02e0e9acc9cd691cf";

TEST(Sha256, IsTheStandards) {
  EXPECT_EQ(Sha256Of("abc", 3), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  EXPECT_EQ(Sha256Of("", 0), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  const std::string text = "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq";
  Sha256 sum;
  for (const char c : text) sum.Add(&c, 1);
  EXPECT_EQ(sum.Finish(), "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
  EXPECT_EQ(Sha256Of(std::string(1000000, 'a').data(), 1000000),
            "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

// All of this CPU, or those that HOB_TEST_TARGETS lists, between commas: emulators take their time.
bool IsWanted(Target target) {
  const char* wanted = std::getenv("HOB_TEST_TARGETS");
  const std::string name = std::string(",") + TargetName(target) + ",";
  return wanted == nullptr || ("," + std::string(wanted) + ",").find(name) != std::string::npos;
}

TEST(Verify, SameBitsEverywhere) {
  std::vector<Kernels> kernels;
  for (const Target target : SupportedTargets()) {
    if (IsWanted(target)) kernels.push_back(KernelsOf(target));
  }
  ASSERT_FALSE(kernels.empty());
  const Report report = Verify({}, kernels);
  for (const Line& line : report.lines) {
    const std::string what = line.op + " " + line.variant;
    for (const Difference& d : line.differences) {
      ADD_FAILURE() << what << " on " << d.target << ", " << d.test << ", " << d.output << ": "
                    << d.got << ", expected " << d.want;
    }
    for (const TargetResult& target : line.targets) {
      EXPECT_EQ(target.different, 0u) << what << " on " << target.target;
      EXPECT_EQ(target.digest, line.digest) << what << " on " << target.target;
    }
    EXPECT_EQ(line.beyond, 0u) << what << ": " << line.worst.error << " is beyond "
                               << line.worst.bound << " in " << line.worst.test;
    EXPECT_GT(line.outputs, 0u) << what;
    // Every op is checked against its oracle, but for bytes.
    if (FindOp(line.op)->check != nullptr &&
        (!FindOp(line.op)->has_formats || HasLayout(line.variant))) {
      EXPECT_GT(line.checked, 0u) << what;
    }
  }
  EXPECT_TRUE(report.ok);
  EXPECT_EQ(report.digest, kGolden);
}

// ---------------------------------------------------------------- would it notice?

// The last bit of one output in a large one.
void OneBitOff(const float* a, const float* b, size_t n, float* out) {
  reference::Add(a, b, n, out);
  if (n == 333) out[332] = std::nextafter(out[332], HUGE_VALF);
}

TEST(Verify, NoticesOneBit) {
  Kernels faulty = KernelsOf(kScalar);
  faulty.name = "faulty";
  faulty.rows.add = OneBitOff;
  const Kernels kernels[] = {KernelsOf(kScalar), faulty};
  const Report report = Verify({"add", "", {}}, kernels);
  ASSERT_EQ(report.lines.size(), 1u);
  const Line& line = report.lines[0];
  EXPECT_FALSE(report.ok);
  EXPECT_EQ(line.beyond, 0u);
  EXPECT_EQ(line.targets[0].different, 0u);
  EXPECT_GE(line.targets[1].different, 1u);
  EXPECT_EQ(line.targets[0].digest, line.digest);
  EXPECT_NE(line.targets[1].digest, line.digest);
  ASSERT_EQ(line.differences.size(), 1u);
  EXPECT_EQ(line.differences[0].target, "faulty");
  EXPECT_EQ(line.differences[0].test, "normal, n 333");
  EXPECT_EQ(line.differences[0].output, "out[332]");
  EXPECT_NE(line.differences[0].got, line.differences[0].want);
}

// Zeros of the wrong sign count; which NaN it is does not.
void WrongZeros(const float* a, const float* b, size_t n, float* out) {
  for (size_t i = 0; i < n; ++i) {
    out[i] = a[i] + b[i];
    if (out[i] == 0) out[i] = -out[i];
    if (std::isnan(out[i])) out[i] = -std::nanf("77");
  }
}

TEST(Verify, NoticesTheSignOfZeroAndNoPayload) {
  Kernels faulty = KernelsOf(kScalar);
  faulty.rows.add = WrongZeros;
  const Report report = Verify({"add", "", {}}, {&faulty, 1});
  EXPECT_FALSE(report.ok);
  ASSERT_EQ(report.lines[0].differences.size(), 1u);
  const Difference& d = report.lines[0].differences[0];
  EXPECT_TRUE(d.want == "0 (0x00000000)" || d.want == "-0 (0x80000000)") << d.want;
}

// A matmul that leaves the bias out, for one format.
FormatKernels WithoutBias(const Format& format) {
  FormatKernels kernels = format.kernels(kScalar);
  if (std::string_view(format.name) != "q4_0") return kernels;
  kernels.matmul = [](const MatmulTask& task, size_t begin, size_t end) {
    MatmulTask other = task;
    other.bias = nullptr;
    FindFormat(HOB_FORMAT_Q4_0)->kernels(kScalar).matmul(other, begin, end);
  };
  return kernels;
}

TEST(Verify, NoticesAFaultyFormat) {
  Kernels faulty = KernelsOf(kScalar);
  faulty.format = WithoutBias;
  EXPECT_TRUE(Verify({"matmul", "q4_1", {}}, {&faulty, 1}).ok);
  const Report report = Verify({"matmul", "q4_0", {}}, {&faulty, 1});
  ASSERT_EQ(report.lines.size(), 1u);
  EXPECT_FALSE(report.ok);
  ASSERT_EQ(report.lines[0].differences.size(), 1u);
  EXPECT_NE(report.lines[0].differences[0].test.find("with b"), std::string::npos);
}

TEST(Verify, NoticesWhatIsBeyondItsBound) {
  Line line;
  line.worst = {};
  AddChecked({{1.0, 1.0, 0.0}, {1.25, 1.0, 0.5}, {HUGE_VAL, HUGE_VAL, 0.0}}, "a", &line);
  EXPECT_EQ(line.checked, 3u);
  EXPECT_EQ(line.beyond, 0u);
  EXPECT_EQ(line.worst.share, 0.5);
  EXPECT_EQ(line.worst.error, 0.25);
  EXPECT_EQ(line.worst.ulp, 0.25 * 0x1p23);
  AddChecked({{1.75, 1.0, 0.5}, {1.0, std::nan(""), 0.5}, {-HUGE_VAL, HUGE_VAL, 0.5}}, "b", &line);
  EXPECT_EQ(line.beyond, 3u);
  EXPECT_EQ(line.worst.test, "b");
}

// The oracles are not so wide that anything passes: an error of one part in 5000 is beyond the
// bound of every op on floats in its plainest case.
TEST(Verify, BoundsAreNarrow) {
  for (const Op& op : Ops()) {
    if (op.check == nullptr) continue;
    for (const std::string& variant : op.variants()) {
      const Case c = op.make(variant, Extent::kAll).front();
      const Outputs outputs = op.reference(c);
      if (outputs.size() != 1 || outputs[0].type != Type::kF32) continue;
      std::vector<float> off(outputs[0].as<float>().begin(), outputs[0].as<float>().end());
      const float factor =
          variant != "f32" && op.name == std::string_view("attention") ? 1.0625f : 1.0002f;
      for (float& value : off) value *= factor;
      Line line;
      AddChecked(op.check(c, {MakeArray("out", outputs[0].shape, off)}), c.name, &line);
      EXPECT_GT(line.beyond, 0u) << op.name << " " << variant;
    }
  }
}

// ---------------------------------------------------------------- cases from files

TEST(Verify, RefusesCasesThatMakeNoSense) {
  const Op& add = *FindOp("add");
  const std::vector<float> two = {1, 2};
  const Case good = {
      "add", "-", "t", {{"n", 2}}, {MakeArray("a", {2}, two), MakeArray("b", {2}, two)}};
  EXPECT_EQ(add.reference(good)[0].as<float>()[1], 4.0f);
  Case c = good;
  c.numbers["n"] = 3;
  EXPECT_THROW(add.reference(c), Error);  // the inputs have two
  c.numbers["n"] = 1.5;
  EXPECT_THROW(add.reference(c), Error);
  c.numbers["n"] = std::nan("");
  EXPECT_THROW(add.reference(c), Error);
  c.numbers.clear();
  EXPECT_THROW(add.reference(c), Error);
  c = good;
  c.inputs.pop_back();
  EXPECT_THROW(add.reference(c), Error);
  c = good;
  c.inputs[1] = MakeArray("b", {2}, std::vector<int32_t>{1, 2});
  EXPECT_THROW(add.reference(c), Error);

  Case embed = FindOp("embed")->make("q8_0", Extent::kFew).front();
  embed.inputs[1] = MakeArray("ids", {1}, std::vector<int32_t>{1});  // of 1 row
  embed.numbers["m"] = 1;
  EXPECT_THROW(FindOp("embed")->reference(embed), Error);
  embed.variant = "q9_9";
  EXPECT_THROW(FindOp("embed")->reference(embed), Error);

  Case attention = FindOp("attention")->make("f32", Extent::kFew).front();
  attention.numbers["n_heads"] = 3;
  attention.numbers["n_kv_heads"] = 2;
  EXPECT_THROW(FindOp("attention")->reference(attention), Error);
}

}  // namespace
}  // namespace hob::verify
