// See executor.h. First how work is divided (SplitPhase), then how it is done (RunOp).
#include "runtime/executor.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <thread>
#include <utility>

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
// A matrix that memory begins to give anew takes as long as if it had so many bytes more.
constexpr size_t kStartBytes = size_t{16} << 10;
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
      divisions_(graph.ops().size()),
      op_splits_(graph.ops().size()),
      phase_splits_(graph.phases().size()) {
  // Participants go through the weights to and fro: who ends at the end of a phase's begins at the
  // beginning of the next one's, and with two participants each reads on where it stopped.
  bool mirrored = false;
  PhaseSplit* weights = nullptr;
  for (size_t p = 0; p < phase_splits_.size(); ++p) {
    const Op& first = graph.ops()[graph.phases()[p].begin];
    if (first.kind == OpKind::kAttention && weights != nullptr) weights->attention = &first;
    if (!ReadsWeights(first)) continue;
    weights = &phase_splits_[p];
    weights->mirrored = std::exchange(mirrored, !mirrored);
  }
  size_t partial_bytes = 0, kv_heads = 0;
  for (const Op& op : graph.ops()) {
    if (op.kind == OpKind::kRmsNorm && op.absorber != kNoOp) {
      workspace_bytes_ = std::max(workspace_bytes_, OwnOffset(op, kNoTensor));
    }
    if (op.kind != OpKind::kAttention) continue;
    workspace_bytes_ = std::max(workspace_bytes_, AttentionWorkspace(op.heads.head_dim));
    const CacheView view = cache.Layer(op.layer);
    partial_bytes = std::max(partial_bytes, AttentionPartialBytes(view, kSplitRows, view.capacity));
    kv_heads = std::max(kv_heads, view.n_kv_heads);
  }
  // Whole pairs of cache lines: participants do not share them.
  workspace_bytes_ = RoundUp(workspace_bytes_, 2 * kAlignment);
  workspace_ = AlignedBuffer(region_.participants() * workspace_bytes_);
  own_rows_ = std::vector<OwnRow>(region_.participants());
  if (region_.participants() > 1) {
    partials_ = AlignedBuffer(partial_bytes);
    parts_done_ = std::vector<std::atomic<size_t>>(kv_heads);
  }
}

bool Executor::Run(const Step& step) {
  step_ = step;
  for (std::atomic<size_t>& done : parts_done_) done.store(0, std::memory_order_relaxed);
  for (OwnRow& own : own_rows_) own.norm = nullptr;
  for (size_t i = 0; i < divisions_.size(); ++i) {
    const Op& op = graph_.ops()[i];
    if (op.kind != OpKind::kAttention || OutputRows(op) == 0) continue;
    divisions_[i] = DivideAttention(Task(op), region_.at_once());
  }
  for (size_t p = 0; p < phase_splits_.size(); ++p) SplitPhase(p);
  return region_.Run(*this);
}

// Not in the last phase, where others may be at work already: it writes what a run is given memory
// for, which so is complete or as it was.
bool Executor::Cancelled(size_t phase) {
  return phase + 1 < phase_splits_.size() && options_.cancel != nullptr &&
         options_.cancel(options_.cancel_context) != 0;
}

// ---------------------------------------------------------------- dividing

void Executor::SplitPhase(size_t phase) {
  PhaseSplit& split = phase_splits_[phase];
  const auto [begin, end] = graph_.phases()[phase];
  split.cost = 0;
  size_t chunks = 0;
  for (size_t i = begin; i < end; ++i) {
    OpSplit& op = op_splits_[i] = SplitOp(graph_.ops()[i]);
    if (ReadsWeights(graph_.ops()[i]) && op.units != 0) split.cost += kStartBytes;
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

// Of an op that has rows in this step.
const AttentionDivision& Executor::DivisionOf(const Op& attention) const {
  return divisions_[static_cast<size_t>(&attention - graph_.ops().data())];
}

// Whether others do this op's work in this step, as part of their own. While tokens come one by one
// that spares four phases a layer, and another core's lines.
//
// A single row's norm: who needs it can have it sooner than somebody else's would come from there.
// Next to attention: who takes a row of queries alone can rotate it. Who takes all rows of a KV
// head can append their keys first, each those that it reads, and prepare their outputs: nobody
// else reads either in this phase.
bool Executor::IsAbsorbed(const Op& op) const {
  if (op.absorber == kNoOp) return false;
  if (op.kind == OpKind::kRmsNorm) return OutputRows(op) == 1;
  const Op& attention = graph_.ops()[op.absorber];
  if (OutputRows(attention) == 0) return false;
  const AttentionDivision& division = DivisionOf(attention);
  const HeadShape& heads = attention.heads;
  switch (op.kind) {
    case OpKind::kRope:
      return division.parts == 1;
    case OpKind::kAppend:
      return division.row_blocks == 1 && OutputRows(attention) == step_.rows;
    default:
      return division.row_blocks == 1 &&
             heads.n_heads / heads.n_kv_heads * heads.head_dim % kBlock == 0;
  }
}

Executor::OpSplit Executor::SplitOp(const Op& op) const {
  if (OutputRows(op) == 0 || IsAbsorbed(op)) return {};
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
  const size_t scores = OutputRows(op) * op.heads.n_heads * (step_.position + step_.rows);
  return {DivisionOf(op).units, 1, 1, 2 * scores * op.heads.head_dim / kMinOfAttention};
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
  if (split.attention != nullptr && step_.rows == 1 && chunk < region_.at_once()) {
    PrefetchCache(*split.attention, participant);  // once for each participant
  }
  // The first units of attention are the longest ones: every participant has some of them.
  const bool in_turn = graph_.ops()[begin].kind == OpKind::kAttention;
  const size_t place = in_turn ? chunk : split.PlaceOf(chunk, region_.at_once());
  for (size_t i = begin; i < end; ++i) {
    const Op& op = graph_.ops()[i];
    const size_t first = split.Begin(op_splits_[i], place);
    const size_t last = split.Begin(op_splits_[i], place + 1);
    if (first < last) RunOp(op, first, last, participant);
  }
}

// Asks for what one token's attention will write to and read first, while weights are being read:
// all that has come from memory since has driven it out of the caches.
void Executor::PrefetchCache(const Op& attention, size_t participant) const {
  if (OutputRows(attention) == 0) return;
  const AttentionTask task = Task(attention);
  const AttentionDivision& division = DivisionOf(attention);
  const size_t chunk = step_.position / kKeyChunk;
  for (size_t i = participant; i < division.units; i += region_.at_once()) {
    const UnitShare share = ShareOf(task, division, division.units - 1 - i);
    if (chunk >= share.chunks.begin && chunk < share.chunks.end) {
      PrefetchTile(task.cache, share.kv_head, step_.position);
    }
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
      return RunMatmul(op, begin, end, participant);
    case OpKind::kGated:
      return RunGated(op, begin, end, participant);
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

// x -> out: (cols). In parts of the weight's size: one, or the heads.
void Executor::NormRow(const Op& norm, const float* x, float* out) const {
  const std::vector<float>& weight = norm.vector->values;
  for (size_t part = 0; part < graph_.tensors()[norm.output].cols; part += weight.size()) {
    hob::Rows().rms_norm(x + part, weight.data(), norm.eps, weight.size(), out + part);
  }
}

void Executor::RunRmsNorm(const Op& op, size_t begin, size_t end) {
  const size_t cols = graph_.tensors()[op.output].cols;
  for (size_t i = begin; i < end; ++i) {
    NormRow(op, Floats(op.inputs[0], i), Floats(op.output, i));
  }
  for (TensorId id : op.prepared) {
    PrepareActivations(graph_.tensors()[id].act, Floats(op.output), cols, OutputRows(op), cols,
                       begin, end, Data(id));
  }
}

// Where what an absorbed norm makes lies in a workspace: its floats, then what is prepared of them.
// kNoTensor: the end.
size_t Executor::OwnOffset(const Op& norm, TensorId id) const {
  const size_t cols = graph_.tensors()[norm.output].cols;
  size_t offset = RoundUp(cols * sizeof(float), kAlignment);
  for (TensorId prepared : norm.prepared) {
    if (prepared == id) break;
    offset += RoundUp(ActivationBytes(graph_.tensors()[prepared].act, 1, cols), kAlignment);
  }
  return offset;
}

// What a matmul reads: common to all, or the participant's own, made when it is first asked for.
const uint8_t* Executor::Activations(const Op& reader, TensorId id, size_t participant) {
  const Op& norm = graph_.ops()[graph_.tensors()[id].producer];
  if (norm.kind != OpKind::kRmsNorm || !IsAbsorbed(norm)) return Data(id);
  uint8_t* const own = Workspace(participant);
  if (std::exchange(own_rows_[participant].norm, &norm) != &norm) {
    const Profile::Timer timer(profile_, participant, norm, &reader);
    const size_t cols = graph_.tensors()[norm.output].cols;
    float* row = reinterpret_cast<float*>(own);
    NormRow(norm, Floats(norm.inputs[0]), row);
    for (TensorId prepared : norm.prepared) {
      PrepareActivations(graph_.tensors()[prepared].act, row, cols, 1, cols, 0, 1,
                         own + OwnOffset(norm, prepared));
    }
  }
  return own + OwnOffset(norm, id);
}

void Executor::RunPrepare(const Op& op, size_t begin, size_t end) {
  const Tensor& output = graph_.tensors()[op.output];
  PrepareActivations(output.act, Floats(op.inputs[0]), output.cols, Rows(output), output.cols,
                     begin, end, Data(op.output));
}

MatmulTask Executor::Task(const Op& op, const WeightMatrix& weight, const uint8_t* act) const {
  return {
      .m = OutputRows(op),
      .n = weight.n,
      .k = weight.k,
      .packed = weight.packed,
      .act = act,
      .act_stride = weight.k,
      .bias = nullptr,
      .residual = nullptr,
      .out = Floats(op.output),
      .out_stride = weight.n,
  };
}

void Executor::RunMatmul(const Op& op, size_t begin, size_t end, size_t participant) {
  MatmulTask task = Task(op, *op.matrix, Activations(op, op.inputs[0], participant));
  if (op.vector != nullptr) task.bias = op.vector->values.data();
  if (op.inputs.size() > 1) task.residual = Floats(op.inputs[1]);
  MatmulPanels(*op.matrix->format, task, begin, end);
}

// A few panels of the gate, then the same of the other, which take the gate's place as they are
// multiplied with it, then their activations: all of it stays in a cache.
void Executor::RunGated(const Op& op, size_t begin, size_t end, size_t participant) {
  const MatmulTask gate = Task(op, *op.gate, Activations(op, op.inputs[1], participant));
  MatmulTask up = Task(op, *op.matrix, Activations(op, op.inputs[0], participant));
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
  AppendTokens(op,
               {std::max(step_.position, (first_page + begin) * kKeyPage),
                std::min(step_.position + step_.rows, (first_page + end) * kKeyPage)},
               0, op.heads.n_kv_heads);
}

// Some KV heads of tokens of this step.
void Executor::AppendTokens(const Op& op, KeyRange tokens, size_t first_head, size_t n_heads) {
  const size_t head_dim = op.heads.head_dim, stride = op.heads.n_kv_heads * head_dim;
  const size_t row = tokens.begin - step_.position, count = tokens.end - tokens.begin;
  float* k = Floats(op.inputs[0], row) + first_head * head_dim;
  for (size_t i = 0; i < count; ++i) Rotate(op.heads, n_heads, row + i, k + i * stride);
  hob::Attention().append(HeadsOf(cache_.Layer(op.layer), first_head, n_heads), tokens.begin, count,
                          k, Floats(op.inputs[1], row) + first_head * head_dim, stride);
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

// The rows of queries of a unit, as many heads of a token at a time as there are.
void Executor::RotateQueries(const Op& attention, const UnitShare& share) {
  const HeadShape& heads = attention.heads;
  const size_t group = heads.n_heads / heads.n_kv_heads;
  const size_t first = step_.rows - OutputRows(attention);
  for (size_t row = share.row_begin, next; row < share.row_end; row = next) {
    const size_t token = row / group, head = share.kv_head * group + row % group;
    next = std::min(share.row_end, (token + 1) * group);
    Rotate(heads, next - row, first + token,
           Floats(attention.inputs[0], token) + head * heads.head_dim);
  }
}

// The tokens of this step that are among a unit's keys.
void Executor::AppendShare(const Op& append, const UnitShare& share) {
  const size_t begin = std::max(step_.position, share.chunks.begin * kKeyChunk);
  const size_t end = std::min(step_.position + step_.rows, share.chunks.end * kKeyChunk);
  if (begin < end) AppendTokens(append, {begin, end}, share.kv_head, 1);
}

// What a matmul wants of a KV head's outputs.
void Executor::PrepareHead(const Op& attention, const Op& prepare, size_t kv_head) {
  const HeadShape& heads = attention.heads;
  const Tensor& output = graph_.tensors()[prepare.output];
  const size_t cols = output.cols / heads.n_kv_heads;
  PrepareColumns(output.act, Floats(attention.output), output.cols, Rows(output), output.cols,
                 kv_head * cols, (kv_head + 1) * cols, Data(prepare.output));
}

void Executor::RunAttention(const Op& op, size_t begin, size_t end, size_t participant) {
  const AttentionTask task = Task(op);
  const AttentionDivision& division = DivisionOf(op);
  uint8_t* workspace = Workspace(participant);
  auto* const partials = reinterpret_cast<float*>(partials_.data());
  for (size_t i = begin; i < end; ++i) {
    // The last units see the most keys: they go first, so that no long one is left for the end.
    const size_t unit = division.units - 1 - i;
    const UnitShare share = ShareOf(task, division, unit);
    for (size_t index : op.absorbed) RunAbsorbed(index, share, participant, /*before=*/true);
    AttentionUnit(task, division, unit, workspace, partials);
    if (division.parts > 1 && !MergeLast(task, division, share.kv_head, partials)) continue;
    for (size_t index : op.absorbed) RunAbsorbed(index, share, participant, /*before=*/false);
  }
}

// What a unit of attention does of an op that comes before it or behind it, if anything.
void Executor::RunAbsorbed(size_t index, const UnitShare& share, size_t participant, bool before) {
  const Op& op = graph_.ops()[index];
  if ((op.kind != OpKind::kPrepare) != before || !IsAbsorbed(op)) return;
  const Op& attention = graph_.ops()[op.absorber];
  const Profile::Timer timer(profile_, participant, op, &attention);
  if (op.kind == OpKind::kRope) RotateQueries(attention, share);
  if (op.kind == OpKind::kAppend) AppendShare(op, share);
  if (op.kind == OpKind::kPrepare) PrepareHead(attention, op, share.kv_head);
}

// Whoever is through with the last part of a KV head merges them, and returns true; that leaves the
// count at 0 for the next op. Attention ops are never at work at the same time: each waits for its
// layer.
bool Executor::MergeLast(const AttentionTask& task, const AttentionDivision& division,
                         size_t kv_head, float* partials) {
  std::atomic<size_t>& done = parts_done_[kv_head];
  if (done.fetch_add(1, std::memory_order_acq_rel) + 1 < division.parts) return false;
  done.store(0, std::memory_order_relaxed);
  AttentionMerge(task, kv_head, partials);
  return true;
}

void Executor::RunAdd(const Op& op, size_t begin, size_t end) {
  const size_t cols = graph_.tensors()[op.output].cols;
  hob::Rows().add(Floats(op.inputs[0], begin), Floats(op.inputs[1], begin), (end - begin) * cols,
                  Floats(op.output, begin));
}

}  // namespace hob
