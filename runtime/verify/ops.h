// The ops that `hob verify` knows, each as four functions on cases: make them, compute them by the
// scalar reference, compute them by a target's kernels, and compute them again in double precision
// with a bound of how far a binary32 result may be off. One table, Ops(); one file for each family.
#ifndef HOB_RUNTIME_VERIFY_OPS_H_
#define HOB_RUNTIME_VERIFY_OPS_H_

#include <functional>
#include <span>
#include <string>
#include <vector>

#include "kernels/attention.h"
#include "kernels/formats.h"
#include "kernels/rows.h"
#include "kernels/targets.h"
#include "runtime/verify/case.h"

namespace hob::verify {

// What computes: the kernels of a target, or (in tests of verify) others in their place.
struct Kernels {
  std::string name;
  RowKernels rows;
  AttentionKernels attention;
  std::function<FormatKernels(const Format&)> format;
};
Kernels KernelsOf(Target target);

// One output against its oracle: NaN for NaN, the same infinity, or no further than the bound. An
// infinite bound says that the definition may overflow here, so that anything is right.
struct Checked {
  double got, want, bound;
  bool Right() const;
};

// What cases are wanted: all that `hob verify` tries, or few and small ones for files.
enum class Extent { kAll, kFew };

struct Op {
  const char* name;
  const char* what;  // in words, for people
  bool has_formats;  // the variants are weight formats
  std::vector<std::string> (*variants)();
  std::vector<Case> (*make)(const std::string& variant, Extent extent);
  // Both validate the case, which may come from a file, and throw Error.
  Outputs (*reference)(const Case& c);
  Outputs (*run)(const Case& c, const Kernels& kernels);
  // Checks some or all elements of the reference's outputs. nullptr where only equality counts.
  // With one output of floats: all of it, in order.
  std::vector<Checked> (*check)(const Case& c, const Outputs& outputs);
};

std::span<const Op> Ops();
const Op* FindOp(std::string_view name);

// The families, each in its file.
std::vector<Op> WeightOps();     // ops_weights.cc: matmul, dequantize, embed, encode
std::vector<Op> RowOps();        // ops_rows.cc
std::vector<Op> AttentionOps();  // ops_attention.cc

}  // namespace hob::verify

#endif  // HOB_RUNTIME_VERIFY_OPS_H_
