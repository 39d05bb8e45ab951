// `hob verify`: every op, format and kind of input on every target against the scalar reference,
// bit for bit, and the reference against an oracle in double precision within a derived bound. What
// is tried is the same on every machine, and so must be the digest of the results.
//
// Start with Verify. An op is a row of Ops() (ops.h); docs/verify.md explains the output.
#ifndef HOB_RUNTIME_VERIFY_VERIFY_H_
#define HOB_RUNTIME_VERIFY_VERIFY_H_

#include <functional>
#include <span>
#include <string>
#include <vector>

#include "runtime/verify/ops.h"

namespace hob::verify {

// One element that has other bits than it should.
struct Difference {
  std::string target;
  std::string test;         // the case's name
  std::string output = {};  // of the case's outputs, and the index in it: "out[3]"
  std::string got = {}, want = {};
};

// One op and variant on one target.
struct TargetResult {
  std::string target;
  size_t different = 0;     // elements
  std::string digest = {};  // of the results
};

// The output that came nearest to its bound.
struct Worst {
  double error = 0, bound = 0;
  double ulp = 0;    // the error in units of the last place of the exact value, as binary32
  double share = 0;  // error / bound; above 1 the bound is wrong
  std::string test;
};

// One op and variant.
struct Line {
  std::string op, variant;
  size_t cases = 0, outputs = 0;  // outputs: elements
  size_t checked = 0;             // of them against the oracle
  size_t beyond = 0;  // of those not within the bound, or not NaN or infinite as they should
  Worst worst = {};
  std::string digest = {};  // of the reference's results
  std::vector<TargetResult> targets = {};
  std::vector<Difference> differences = {};  // the first of each target
};

struct Report {
  std::vector<Line> lines;
  std::string digest;  // of the reference's results, all lines
  bool ok = true;      // no differences, nothing beyond its bound
};

struct VerifyOptions {
  std::string op, format;  // "": all; otherwise known names (FindOp, a weight format)
  // Called before each line with the share that is done; may throw to stop.
  std::function<void(float done)> progress;
};

// Throws std::bad_alloc only (and what `progress` throws).
Report Verify(const VerifyOptions& options, std::span<const Kernels> kernels);

// The elements of `got` whose bits differ from those of `want`, which has the same outputs: how
// many, and the first one with its values. All NaNs must have been made equal.
size_t CountDifferent(const Outputs& got, const Outputs& want, Difference* first);

// How near the worst of `checked` came to its bound, into *line: checked, beyond, worst.
void AddChecked(const std::vector<Checked>& checked, const std::string& test, Line* line);

}  // namespace hob::verify

#endif  // HOB_RUNTIME_VERIFY_VERIFY_H_
