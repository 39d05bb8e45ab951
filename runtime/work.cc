// See work.h.
#include "runtime/work.h"

namespace hob {
namespace {

// Bytes of one token's keys and values in a layer, as they lie in the cache.
double BytesOfToken(const CacheView& cache) {
  const size_t tile = CacheBytes(cache.type, cache.n_kv_heads, cache.head_dim, kKeyTile);
  return 2 * static_cast<double>(tile) / static_cast<double>(kKeyTile);
}

// `rows` rows against one matrix.
void AddMatmul(const WeightMatrix& weight, size_t rows, Work* work) {
  const double weights = static_cast<double>(weight.n) * static_cast<double>(weight.k);
  work->matmul_ops[static_cast<size_t>(weight.format->act)] +=
      2 * weights * static_cast<double>(rows);
  work->weight_bytes += static_cast<double>(weight.format->packed_bytes(weight.n, weight.k));
}

}  // namespace

Work& Work::operator+=(const Work& other) {
  for (size_t i = 0; i < matmul_ops.size(); ++i) matmul_ops[i] += other.matmul_ops[i];
  weight_bytes += other.weight_bytes;
  cache_bytes += other.cache_bytes;
  return *this;
}

Work WorkOfStep(const Graph& graph, const KvCache& cache, size_t position, size_t rows,
                size_t outputs) {
  Work work;
  for (const Op& op : graph.ops()) {
    const size_t op_rows = graph.tensors()[op.output].rows == RowSet::kBatch ? rows : outputs;
    if (op_rows == 0) continue;
    if (op.kind == OpKind::kMatmul || op.kind == OpKind::kGated) {
      AddMatmul(*op.matrix, op_rows, &work);
      if (op.gate != nullptr) AddMatmul(*op.gate, op_rows, &work);
    } else if (op.kind == OpKind::kAttention) {
      work.cache_bytes +=
          BytesOfToken(cache.Layer(op.layer)) * static_cast<double>(position + rows);
    }
  }
  return work;
}

}  // namespace hob
