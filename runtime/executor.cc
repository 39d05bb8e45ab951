// See executor.h. First how work is divided (SplitPhase), then how it is done (RunOp).
#include "runtime/executor.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <thread>
#include <utility>

#include "kernels/attention.h"
#include "kernels/rows.h"
#include "runtime/profile.h"

namespace hob {
namespace {

// CPUs that this process may run on.
size_t LogicalCpus() {
  const unsigned count = std::thread::hardware_concurrency();
  return count == 0 ? SIZE_MAX : count;  // 0: not known
}

// Chunks that each participant gets of a large op, so that a slow one does not hold up the others.
// With one row memory is faster where chunks are longer: there are two of kLongChunk bytes or more
// of weights, or else one.
constexpr size_t kChunksPerParticipant = 4, kChunksOfOneRow = 2;
constexpr size_t kLongChunk = size_t{512} << 10;
// The least work in a chunk, a microsecond's or two: multiply-adds, or elements of row ops. Those
// of attention each read bytes of their own, from memory while tokens come one by one.
constexpr size_t kMinMultiplyAdds = size_t{1} << 15, kMinOfAttention = size_t{1} << 13;
constexpr size_t kMinElements = size_t{1} << 12;
// The matmul kernels work on pairs of panels.
constexpr size_t kPanelStep = 2;
// Outputs of a gate and of what it multiplies that follow each other: 256 KB, which L2 holds. With
// one row that is all of them, and either matrix is read in one go.
constexpr size_t kGatedOutputs = size_t{1} << 16;

size_t CeilDiv(size_t a, size_t b) { return (a + b - 1) / b; }

bool ReadsWeights(const Op& op) { return op.kind == OpKind::kMatmul || op.kind == OpKind::kGated; }

}  // namespace

Executor::Executor(const Graph& graph, const KvCache& cache, const float* rope_table,
                   const Options& options)
    : graph_(graph),
      cache_(cache),
      rope_table_(rope_table),
      options_(options),
      region_(options.threads, LogicalCpus()),
      arena_(graph.arena_bytes()),
      op_splits_(graph.ops().size()),
      phase_splits_(graph.phases().size()) {
  // Participants go through the weights to and fro: who ends at the end of a phase's begins at the
  // beginning of the next one's, and with two participants each reads on where it stopped.
  bool mirrored = false;
  for (size_t p = 0; p < phase_splits_.size(); ++p) {
    if (!ReadsWeights(graph.ops()[graph.phases()[p].begin])) continue;
    phase_splits_[p].mirrored = std::exchange(mirrored, !mirrored);
  }
  size_t partial_bytes = 0, kv_heads = 0;
  for (const Op& op : graph.ops()) {
    if (op.kind != OpKind::kAttention) continue;
    // Whole pairs of cache lines: participants do not share them.
    const size_t bytes = RoundUp(AttentionWorkspace(op.heads.head_dim), 2 * kAlignment);
    workspace_bytes_ = std::max(workspace_bytes_, bytes);
    const CacheView view = cache.Layer(op.layer);
    partial_bytes = std::max(partial_bytes, AttentionPartialBytes(view, kSplitRows, view.capacity));
    kv_heads = std::max(kv_heads, view.n_kv_heads);
  }
  workspace_ = AlignedBuffer(region_.participants() * workspace_bytes_);
  if (region_.participants() > 1) {
    partials_ = AlignedBuffer(partial_bytes);
    parts_done_ = std::vector<std::atomic<size_t>>(kv_heads);
  }
}

bool Executor::Run(const Step& step) {
  step_ = step;
  for (std::atomic<size_t>& done : parts_done_) done.store(0, std::memory_order_relaxed);
  for (size_t p = 0; p < phase_splits_.size(); ++p) SplitPhase(p);
  return region_.Run(*this);
}

bool Executor::Cancelled() {
  return options_.cancel != nullptr && options_.cancel(options_.cancel_context) != 0;
}

// ---------------------------------------------------------------- dividing

void Executor::SplitPhase(size_t phase) {
  PhaseSplit& split = phase_splits_[phase];
  const auto [begin, end] = graph_.phases()[phase];
  split.cost = 0;
  size_t chunks = 0;
  for (size_t i = begin; i < end; ++i) {
    OpSplit& op = op_splits_[i] = SplitOp(graph_.ops()[i]);
    op.begin = split.cost;
    split.cost += op.units * op.unit_cost;
    chunks += op.least_chunks;
  }
  const Op& first = graph_.ops()[begin];
  chunks = std::clamp<size_t>(chunks, 1, MostChunks(first, split));
  // As many for each participant, who are then through together. Units of attention differ anyway.
  if (chunks > region_.at_once() && first.kind != OpKind::kAttention) {
    chunks -= chunks % region_.at_once();
  }
  split.chunks = split.cost == 0 ? 0 : chunks;
}

// Chunks of a large phase that begins with `op`. A participant alone holds up nobody: it takes the
// phase whole.
size_t Executor::MostChunks(const Op& op, const PhaseSplit& split) const {
  const size_t participants = region_.at_once();
  if (participants == 1) return 1;
  if (op.kind == OpKind::kAttention) return std::max<size_t>(split.cost, 1);
  if (!ReadsWeights(op) || OutputRows(op) > 1) return participants * kChunksPerParticipant;
  return participants *
         std::clamp<size_t>(split.cost / participants / kLongChunk, 1, kChunksOfOneRow);
}

// The first unit of an op in the chunk at `place`.
size_t Executor::PhaseSplit::Begin(const OpSplit& op, size_t place) const {
  if (place == chunks) return op.units;
  const size_t at = cost * place / chunks, step_cost = op.step * op.unit_cost;
  if (at <= op.begin || step_cost == 0) return 0;
  return std::min(op.units, (at - op.begin + step_cost / 2) / step_cost * op.step);
}

// Where a chunk lies: a participant's chunks, every `participants`th, follow each other if all have
// as many.
size_t Executor::PhaseSplit::PlaceOf(size_t chunk, size_t participants) const {
  const size_t owners = std::min(participants, chunks), owner = chunk % owners;
  if (chunks % owners != 0) return chunk;
  return (mirrored ? owners - 1 - owner : owner) * (chunks / owners) + chunk / owners;
}

Executor::OpSplit Executor::SplitOp(const Op& op) const {
  if (OutputRows(op) == 0) return {};
  switch (op.kind) {
    case OpKind::kMatmul:
    case OpKind::kGated:
      return SplitMatmul(op);
    case OpKind::kAttention:
      return SplitAttention(op);
    case OpKind::kAppend:
      return SplitAppend(op);
    default:
      return SplitRows(op);
  }
}

// By panels of 16 outputs, and their bytes. Row counts do not divide a matmul: the weights are read
// once.
Executor::OpSplit Executor::SplitMatmul(const Op& op) const {
  size_t bytes = 0, multiply_adds = 0;
  for (const WeightMatrix* weight : {op.matrix, op.gate}) {
    if (weight == nullptr) continue;
    bytes += weight->format->panel_bytes(weight->k);
    multiply_adds += OutputRows(op) * weight->n * weight->k;
  }
  return {CeilDiv(op.matrix->n, kPanel), kPanelStep, bytes, multiply_adds / kMinMultiplyAdds};
}

// By the kernel's units; a few together while the sequence is short.
Executor::OpSplit Executor::SplitAttention(const Op& op) const {
  const AttentionTask task = Task(op);
  const size_t units = DivideAttention(task, region_.at_once()).units;
  const size_t scores = task.m * task.n_heads * (step_.position + step_.rows);
  return {units, 1, 1, 2 * scores * task.cache.head_dim / kMinOfAttention};
}

// By pages: neither one of keys nor a pair of values is shared.
Executor::OpSplit Executor::SplitAppend(const Op& op) const {
  const size_t first_page = step_.position / kKeyPage;
  const size_t pages = CeilDiv(step_.position + step_.rows, kKeyPage) - first_page;
  const size_t elements = 2 * op.heads.n_kv_heads * op.heads.head_dim;
  return {pages, 1, elements * kKeyPage, step_.rows * elements / kMinElements};
}

Executor::OpSplit Executor::SplitRows(const Op& op) const {
  const Tensor& output = graph_.tensors()[op.output];
  const size_t rows = Rows(output);
  return {rows, 1, output.cols, rows * output.cols / kMinElements};
}

void Executor::RunChunk(size_t phase, size_t chunk, size_t participant) {
  const auto [begin, end] = graph_.phases()[phase];
  const PhaseSplit& split = phase_splits_[phase];
  for (size_t i = begin; i < end; ++i) {
    const Op& op = graph_.ops()[i];
    // The first units of attention are the longest ones: every participant has some of them.
    const size_t place =
        op.kind == OpKind::kAttention ? chunk : split.PlaceOf(chunk, region_.at_once());
    const size_t first = split.Begin(op_splits_[i], place);
    const size_t last = split.Begin(op_splits_[i], place + 1);
    if (first < last) RunOp(op, first, last, participant);
  }
}

// ---------------------------------------------------------------- doing

// Units [begin, end) of an op.
void Executor::RunOp(const Op& op, size_t begin, size_t end, size_t participant) {
  const Profile::Timer timer(profile_, participant, op);
  switch (op.kind) {
    case OpKind::kEmbed:
      return RunEmbed(op, begin, end);
    case OpKind::kRmsNorm:
      return RunRmsNorm(op, begin, end);
    case OpKind::kPrepare:
      return RunPrepare(op, begin, end);
    case OpKind::kMatmul:
      return RunMatmul(op, begin, end);
    case OpKind::kGated:
      return RunGated(op, begin, end);
    case OpKind::kRope:
      return RunRope(op, begin, end);
    case OpKind::kAppend:
      return RunAppend(op, begin, end);
    case OpKind::kAttention:
      return RunAttention(op, begin, end, participant);
    case OpKind::kAdd:
      return RunAdd(op, begin, end);
  }
}

size_t Executor::Rows(const Tensor& tensor) const {
  return tensor.rows == RowSet::kBatch ? step_.rows : step_.outputs;
}

// First byte of a tensor; nullptr for a cache, which has none here.
uint8_t* Executor::Data(TensorId id) const {
  const Tensor& tensor = graph_.tensors()[id];
  switch (tensor.storage) {
    case Storage::kFloats:
    case Storage::kPrepared:
      return arena_.data() + tensor.offset;
    case Storage::kLogits:
      return reinterpret_cast<uint8_t*>(step_.logits);
    case Storage::kView:
      return Data(tensor.root) + (step_.rows - step_.outputs) * tensor.cols * sizeof(float);
    case Storage::kCache:
      return nullptr;
  }
  return nullptr;
}

// Row `row` of a tensor of floats: (cols).
float* Executor::Floats(TensorId id, size_t row) const {
  return reinterpret_cast<float*>(Data(id)) + row * graph_.tensors()[id].cols;
}

void Executor::RunEmbed(const Op& op, size_t begin, size_t end) {
  const WeightMatrix& table = *op.matrix;
  const size_t panel_bytes = table.format->panel_bytes(table.k);
  for (size_t i = begin; i < end; ++i) {
    const size_t token = static_cast<size_t>(step_.tokens[i]);
    table.format->unpack(table.packed + token / kPanel * panel_bytes, token % kPanel, table.k,
                         Floats(op.output, i));
  }
}

// A row in parts of the weight's size: one part, or its heads.
void Executor::RunRmsNorm(const Op& op, size_t begin, size_t end) {
  const std::vector<float>& weight = op.vector->values;
  const size_t cols = graph_.tensors()[op.output].cols;
  const RowKernels& kernels = hob::Rows();
  for (size_t i = begin; i < end; ++i) {
    const float* x = Floats(op.inputs[0], i);
    float* out = Floats(op.output, i);
    for (size_t part = 0; part < cols; part += weight.size()) {
      kernels.rms_norm(x + part, weight.data(), op.eps, weight.size(), out + part);
    }
  }
  for (TensorId id : op.prepared) {
    PrepareActivations(graph_.tensors()[id].act, Floats(op.output), cols, OutputRows(op), cols,
                       begin, end, Data(id));
  }
}

void Executor::RunPrepare(const Op& op, size_t begin, size_t end) {
  const Tensor& output = graph_.tensors()[op.output];
  PrepareActivations(output.act, Floats(op.inputs[0]), output.cols, Rows(output), output.cols,
                     begin, end, Data(op.output));
}

MatmulTask Executor::Task(const Op& op, const WeightMatrix& weight, TensorId act) const {
  return {
      .m = OutputRows(op),
      .n = weight.n,
      .k = weight.k,
      .packed = weight.packed,
      .act = Data(act),
      .act_stride = weight.k,
      .bias = nullptr,
      .residual = nullptr,
      .out = Floats(op.output),
      .out_stride = weight.n,
  };
}

void Executor::RunMatmul(const Op& op, size_t begin, size_t end) {
  MatmulTask task = Task(op, *op.matrix, op.inputs[0]);
  if (op.vector != nullptr) task.bias = op.vector->values.data();
  if (op.inputs.size() > 1) task.residual = Floats(op.inputs[1]);
  MatmulPanels(*op.matrix->format, task, begin, end);
}

// A few panels of the gate, then the same of the other, which take the gate's place as they are
// multiplied with it, then their activations: all of it stays in a cache.
void Executor::RunGated(const Op& op, size_t begin, size_t end) {
  const MatmulTask gate = Task(op, *op.gate, op.inputs[1]);
  MatmulTask up = Task(op, *op.matrix, op.inputs[0]);
  up.gate = up.out;
  const size_t step = RoundUp(CeilDiv(kGatedOutputs, gate.m * kPanel), kPanelStep);
  for (size_t panel = begin; panel < end; panel += step) {
    const size_t last = std::min(panel + step, end);
    MatmulPanels(*op.gate->format, gate, panel, last);
    MatmulPanels(*op.matrix->format, up, panel, last);
    for (TensorId id : op.prepared) {
      PrepareColumns(graph_.tensors()[id].act, up.out, up.n, up.m, up.n, panel * kPanel,
                     std::min(last * kPanel, up.n), Data(id));
    }
  }
}

// x: `n_heads` heads of row `batch_row` of the step.
void Executor::Rotate(const HeadShape& heads, size_t n_heads, size_t batch_row, float* x) const {
  hob::Rows().rope(heads.style, rope_table_ + batch_row * heads.n_rot, n_heads, heads.head_dim,
                   heads.n_rot, x);
}

void Executor::RunRope(const Op& op, size_t begin, size_t end) {
  const HeadShape& heads = op.heads;
  const size_t first = step_.rows - OutputRows(op);
  for (size_t i = begin; i < end; ++i) {
    const float* x = Floats(op.inputs[0], i);
    float* out = Floats(op.output, i);
    if (out != x) std::memcpy(out, x, heads.n_heads * heads.head_dim * sizeof(float));
    Rotate(heads, heads.n_heads, first + i, out);
  }
}

// Pages of keys by absolute position, cut to the step's rows.
void Executor::RunAppend(const Op& op, size_t begin, size_t end) {
  const size_t first_page = step_.position / kKeyPage;
  const size_t first = std::max(step_.position, (first_page + begin) * kKeyPage);
  const size_t last = std::min(step_.position + step_.rows, (first_page + end) * kKeyPage);
  const size_t row = first - step_.position;
  for (size_t i = row; i < last - step_.position; ++i) {
    Rotate(op.heads, op.heads.n_kv_heads, i, Floats(op.inputs[0], i));
  }
  hob::Attention().append(cache_.Layer(op.layer), first, last - first, Floats(op.inputs[0], row),
                          Floats(op.inputs[1], row), op.heads.n_kv_heads * op.heads.head_dim);
}

AttentionTask Executor::Task(const Op& op) const {
  const size_t rows = OutputRows(op);
  return {
      .cache = cache_.Layer(op.layer),
      .m = rows,
      .n_heads = op.heads.n_heads,
      .pos = step_.position + step_.rows - rows,
      .scale = 1.0f / std::sqrt(static_cast<float>(op.heads.head_dim)),
      .q = Floats(op.inputs[0]),
      .out = Floats(op.output),
  };
}

void Executor::RunAttention(const Op& op, size_t begin, size_t end, size_t participant) {
  const AttentionTask task = Task(op);
  const AttentionDivision division = DivideAttention(task, region_.at_once());
  uint8_t* workspace = workspace_.data() + participant * workspace_bytes_;
  auto* const partials = reinterpret_cast<float*>(partials_.data());
  for (size_t i = begin; i < end; ++i) {
    // The last units see the most keys: they go first, so that no long one is left for the end.
    const size_t unit = division.units - 1 - i;
    AttentionUnit(task, division, unit, workspace, partials);
    if (division.parts == 1) continue;
    // Whoever is through with the last part of a KV head merges them; that leaves the count at 0
    // for the next op. Attention ops are never at work at the same time: each waits for its layer.
    const size_t head = UnitHead(division, unit);
    if (parts_done_[head].fetch_add(1, std::memory_order_acq_rel) + 1 < division.parts) continue;
    parts_done_[head].store(0, std::memory_order_relaxed);
    AttentionMerge(task, head, partials);
  }
}

void Executor::RunAdd(const Op& op, size_t begin, size_t end) {
  const size_t cols = graph_.tensors()[op.output].cols;
  hob::Rows().add(Floats(op.inputs[0], begin), Floats(op.inputs[1], begin), (end - begin) * cols,
                  Floats(op.output, begin));
}

}  // namespace hob
