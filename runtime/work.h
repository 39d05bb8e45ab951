// What evaluating tokens takes at the least, read off the graph: the arithmetic of the matmuls, and
// the bytes of weights and cache. The time that was needed is held against it
// (docs/measuring.md).
#ifndef HOB_RUNTIME_WORK_H_
#define HOB_RUNTIME_WORK_H_

#include <array>
#include <cstddef>

#include "kernels/formats.h"
#include "runtime/graph.h"
#include "runtime/kv_cache.h"

namespace hob {

struct Work {
  // Operations of the matmuls, by the ActKind that they take: 2 n k for every row that they
  // compute, a multiplication and an addition being two. Attention's are not among them.
  std::array<double, 3> matmul_ops{};
  // Packed bytes of the matmuls' weights, once for every step that runs them. The embedding counts
  // only where it serves as output matrix: a lookup reads a few rows.
  double weight_bytes = 0;
  // Keys and values of all tokens up to the last one, once for every step and layer.
  double cache_bytes = 0;

  double ops(ActKind kind) const { return matmul_ops[static_cast<size_t>(kind)]; }
  double all_ops() const { return matmul_ops[0] + matmul_ops[1] + matmul_ops[2]; }
  double bytes() const { return weight_bytes + cache_bytes; }

  Work& operator+=(const Work& other);
};

// Of one step: `rows` tokens from `position` on, with logits of the last `outputs` of them.
Work WorkOfStep(const Graph& graph, const KvCache& cache, size_t position, size_t rows,
                size_t outputs);

}  // namespace hob

#endif  // HOB_RUNTIME_WORK_H_
