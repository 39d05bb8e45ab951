// A model's forward pass as a graph: tensors and the ops between them. An architecture
// (decoder.cc) builds it in reading order; every op checks its shapes. Plan then groups ops that
// are independent of each other into phases and gives every tensor its place in one arena, so that
// running (executor.h) allocates nothing.
//
// A tensor has one row per token. How many tokens there are is only known when the graph runs; it
// is planned for the most there can be.
#ifndef HOB_RUNTIME_GRAPH_H_
#define HOB_RUNTIME_GRAPH_H_

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "hob/hob.h"
#include "kernels/formats.h"

namespace hob {

// ---------------------------------------------------------------- weights

// weight[n][k] of a matmul, or n embeddings of k values, packed in panels of 16 of the n.
struct WeightMatrix {
  std::string name;
  const Format* format = nullptr;
  size_t n = 0, k = 0;
  const uint8_t* packed = nullptr;  // (format->packed_bytes(n, k))
};

struct WeightVector {
  std::string name;
  std::vector<float> values;
};

// ---------------------------------------------------------------- tensors

using TensorId = size_t;
inline constexpr TensorId kNoTensor = SIZE_MAX;
inline constexpr size_t kNoOp = SIZE_MAX;

// The rows of a tensor: one for each token of the batch, or only the last ones, for which somebody
// wants logits.
enum class RowSet { kBatch, kOutput };

enum class Storage {
  kFloats,    // (rows, cols) f32 in the arena
  kPrepared,  // activations as a matmul wants them (ActKind), in the arena
  kLogits,    // (rows, cols) f32 in memory given with each run
  kCache,     // nothing here: stands for a layer's key/value cache after an append
  kView       // the kOutput rows of `root`, a kBatch tensor
};

struct Tensor {
  std::string name;
  RowSet rows;
  size_t cols;
  Storage storage = Storage::kFloats;
  ActKind act = ActKind::kF32;  // of kPrepared
  TensorId root = kNoTensor;    // of kView
  size_t producer = 0;          // op
  std::vector<size_t> consumers = {};
  // From Plan: bytes for the largest batch, and the place in the arena.
  size_t bytes = 0, offset = 0;
  // The input whose place this tensor takes over, its producer being that one's last reader.
  TensorId in_place_of = kNoTensor;
};

// ---------------------------------------------------------------- ops

// What an op computes; inputs in this order.
enum class OpKind {
  kEmbed,      // () -> x: the tokens' rows of `matrix`
  kRmsNorm,    // x -> x / rms(x) * vector, for each part of a row that is as long as the vector
  kPrepare,    // x -> activations for matmuls of one ActKind
  kMatmul,     // act [, residual] -> [residual +] (act * matrix^T [+ vector])
  kGated,      // act, act -> silu(act * gate^T) * (act * matrix^T); the second act is the gate's
  kRope,       // x -> x with its heads rotated by the tokens' positions
  kAppend,     // k, v -> the layer's cache with them, k rotated by the tokens' positions
  kAttention,  // q, cache, k, v -> causal attention; k and v are what the cache was given last
  kAdd         // a, b -> a + b
};
const char* OpName(OpKind kind);

// Whether such an op can prepare its output for matmuls while it makes it.
bool PreparesOutput(OpKind kind);

// Heads of the attention ops.
struct HeadShape {
  size_t n_heads = 0;     // of this op's rows: query heads, or KV heads
  size_t n_kv_heads = 0;  // of the cache
  size_t head_dim = 0;
  size_t n_rot = 0;  // of kRope and kAppend: elements that turn
  hob_rope_style style = HOB_ROPE_INTERLEAVED;
};

// What a matmul does with its outputs, in this order, before it stores them.
struct Epilogue {
  const WeightVector* bias = nullptr;  // (n): added to every row
  TensorId residual = kNoTensor;       // rows x n: added
};

struct Op {
  OpKind kind;
  std::vector<TensorId> inputs = {};
  TensorId output = kNoTensor;
  // Its output once more, as matmuls want it, made while it is still in a cache. Only of those ops
  // that PreparesOutput names.
  std::vector<TensorId> prepared = {};
  const WeightMatrix* matrix = nullptr;
  const WeightMatrix* gate = nullptr;    // of kGated
  const WeightVector* vector = nullptr;  // weight of kRmsNorm; bias of kMatmul, or nullptr
  float eps = 0;
  size_t layer = 0;
  HeadShape heads = {};
  // Of kAttention: the ops next to it whose work it can do itself, head by head, while what they
  // make is in the core's caches. Of such an op: who that is. Of a norm: one of the matmuls behind
  // it, where it can be done as well, by each participant for itself. The executor decides when.
  std::vector<size_t> absorbed = {};
  size_t absorber = kNoOp;
};

// Ops [begin, end), which do not depend on each other.
struct Phase {
  size_t begin, end;
};

// ---------------------------------------------------------------- the graph

class Graph {
 public:
  // Each adds an op and gives its output, called `name`. They throw HOB_ERROR_SHAPE, naming op and
  // tensors, if shapes do not fit. Weights must outlive the graph. Shapes: rows x columns.
  TensorId Embed(const std::string& name, const WeightMatrix& table);  // -> rows x k
  // weight: (columns of x).
  TensorId RmsNorm(const std::string& name, TensorId x, const WeightVector& weight, float eps);
  // Each head by itself. x: rows x (n_heads * head_dim); weight: (head_dim), the same for all.
  TensorId RmsNormHeads(const std::string& name, TensorId x, const WeightVector& weight, float eps,
                        const HeadShape& heads);
  // x: rows x k -> rows x n. Matmuls with the same x share its prepared activations.
  TensorId Matmul(const std::string& name, TensorId x, const WeightMatrix& weight,
                  const Epilogue& epilogue = {});
  // The same into the memory that a run is given: the end of the model.
  TensorId Logits(const std::string& name, TensorId x, const WeightMatrix& weight);
  // silu(x * gate^T) * (x * up^T). x: rows x k -> rows x n.
  TensorId GatedMatmul(const std::string& name, TensorId x, const WeightMatrix& gate,
                       const WeightMatrix& up);
  // x: rows x (n_heads * head_dim).
  TensorId Rope(const std::string& name, TensorId x, const HeadShape& heads);
  // Rotates k in its place and stores it, and v: rows x (n_kv_heads * head_dim). Nobody else may
  // read k.
  TensorId Append(const std::string& name, size_t layer, TensorId k, TensorId v,
                  const HeadShape& heads);
  // q: rows x (n_heads * head_dim); cache: from Append of the same layer.
  TensorId Attention(const std::string& name, TensorId q, TensorId cache, const HeadShape& heads);
  TensorId Add(const std::string& name, TensorId a, TensorId b);
  // The rows of x whose logits are wanted, where they are.
  TensorId OutputRows(TensorId x);

  // Forms the phases and lays out the arena for up to `max_rows` rows. Call once, at the end.
  void Plan(size_t max_rows);

  const std::vector<Tensor>& tensors() const { return tensors_; }
  const std::vector<Op>& ops() const { return ops_; }
  const std::vector<Phase>& phases() const { return phases_; }
  size_t arena_bytes() const { return arena_bytes_; }

 private:
  TensorId AddOp(Op op, Tensor output);
  TensorId Prepare(TensorId x, ActKind kind);
  void CheckRotation(OpKind kind, const std::string& name, const HeadShape& heads) const;
  TensorId AddMatmul(const std::string& name, TensorId x, const WeightMatrix& weight,
                     const Epilogue& epilogue, Storage storage);
  void CheckEpilogue(const std::string& name, const Tensor& input, const WeightMatrix& weight,
                     const Epilogue& epilogue) const;
  TensorId AddRmsNorm(const std::string& name, TensorId x, const WeightVector& weight, float eps);
  const Tensor& Input(OpKind kind, const std::string& name, TensorId id) const;
  void CheckSameShape(OpKind kind, const std::string& name, TensorId a, TensorId b) const;

  void FormPhases();
  void ChooseInPlace();
  void AbsorbNorms();
  void AbsorbIntoAttention();
  void LayOutArena();
  size_t LastPhaseOf(size_t op) const;
  size_t FirstPhase(const Tensor& tensor) const;
  size_t LastPhase(const Tensor& tensor) const;

  std::vector<Tensor> tensors_;
  std::vector<Op> ops_;
  std::map<std::pair<TensorId, ActKind>, TensorId> prepared_;
  std::vector<Phase> phases_;
  std::vector<size_t> phase_of_;  // (ops)
  size_t max_rows_ = 0, arena_bytes_ = 0;
};

}  // namespace hob

#endif  // HOB_RUNTIME_GRAPH_H_
