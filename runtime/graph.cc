// See graph.h. Building comes first, then planning; start with Graph::Plan.
#include "runtime/graph.h"

#include <algorithm>
#include <utility>

#include "kernels/matmul.h"
#include "runtime/aligned_buffer.h"
#include "runtime/error.h"

namespace hob {
namespace {

std::string Shape(const Tensor& tensor) {
  const char* rows = tensor.rows == RowSet::kBatch ? "batch" : "output";
  return "'" + tensor.name + "' (" + rows + " rows x " + std::to_string(tensor.cols) + ")";
}

[[noreturn]] void Fail(OpKind kind, const std::string& name, const std::string& message) {
  throw Error(HOB_ERROR_SHAPE, std::string(OpName(kind)) + " '" + name + "': " + message);
}

void CheckCols(OpKind kind, const std::string& name, const Tensor& tensor, size_t expected,
               const std::string& why) {
  if (tensor.cols == expected) return;
  Fail(kind, name,
       "input " + Shape(tensor) + " should have " + std::to_string(expected) + " columns, " + why);
}

void CheckSize(OpKind kind, const std::string& name, const WeightVector& vector, size_t expected,
               const std::string& why) {
  if (vector.values.size() == expected) return;
  Fail(kind, name,
       "vector '" + vector.name + "' has " + std::to_string(vector.values.size()) +
           " values, expected " + std::to_string(expected) + ", " + why);
}

std::string Heads(size_t heads, size_t head_dim) {
  return std::to_string(heads) + " heads of " + std::to_string(head_dim);
}

}  // namespace

const char* OpName(OpKind kind) {
  switch (kind) {
    case OpKind::kEmbed:
      return "embed";
    case OpKind::kRmsNorm:
      return "rms_norm";
    case OpKind::kPrepare:
      return "prepare";
    case OpKind::kMatmul:
      return "matmul";
    case OpKind::kGated:
      return "gated_matmul";
    case OpKind::kRope:
      return "rope";
    case OpKind::kAppend:
      return "append";
    case OpKind::kAttention:
      return "attention";
    case OpKind::kAdd:
      return "add";
  }
  return "unknown op";
}

bool PreparesOutput(OpKind kind) { return kind == OpKind::kRmsNorm || kind == OpKind::kGated; }

// ---------------------------------------------------------------- building

TensorId Graph::AddOp(Op op, Tensor output) {
  const size_t index = ops_.size();
  for (TensorId input : op.inputs) {
    tensors_[input].consumers.push_back(index);
    const TensorId root = tensors_[input].root;
    if (root != kNoTensor) tensors_[root].consumers.push_back(index);
  }
  op.output = tensors_.size();
  output.producer = index;
  tensors_.push_back(std::move(output));
  ops_.push_back(std::move(op));
  return tensors_.size() - 1;
}

const Tensor& Graph::Input(OpKind kind, const std::string& name, TensorId id) const {
  if (id >= tensors_.size()) Fail(kind, name, "an input does not exist");
  const Tensor& tensor = tensors_[id];
  if (tensor.storage != Storage::kFloats && tensor.storage != Storage::kView) {
    Fail(kind, name, "input " + Shape(tensor) + " does not hold floats");
  }
  return tensor;
}

void Graph::CheckSameShape(OpKind kind, const std::string& name, TensorId a, TensorId b) const {
  const Tensor& x = Input(kind, name, a);
  const Tensor& y = Input(kind, name, b);
  if (x.rows != y.rows || x.cols != y.cols) {
    Fail(kind, name, "inputs " + Shape(x) + " and " + Shape(y) + " should have the same shape");
  }
}

TensorId Graph::Embed(const std::string& name, const WeightMatrix& table) {
  return AddOp({.kind = OpKind::kEmbed, .matrix = &table},
               {.name = name, .rows = RowSet::kBatch, .cols = table.k});
}

TensorId Graph::RmsNorm(const std::string& name, TensorId x, const WeightVector& weight,
                        float eps) {
  CheckCols(OpKind::kRmsNorm, name, Input(OpKind::kRmsNorm, name, x), weight.values.size(),
            "as weight '" + weight.name + "'");
  return AddRmsNorm(name, x, weight, eps);
}

TensorId Graph::RmsNormHeads(const std::string& name, TensorId x, const WeightVector& weight,
                             float eps, const HeadShape& heads) {
  CheckCols(OpKind::kRmsNorm, name, Input(OpKind::kRmsNorm, name, x),
            heads.n_heads * heads.head_dim, Heads(heads.n_heads, heads.head_dim));
  CheckSize(OpKind::kRmsNorm, name, weight, heads.head_dim, "one head");
  return AddRmsNorm(name, x, weight, eps);
}

TensorId Graph::AddRmsNorm(const std::string& name, TensorId x, const WeightVector& weight,
                           float eps) {
  return AddOp({.kind = OpKind::kRmsNorm, .inputs = {x}, .vector = &weight, .eps = eps},
               {.name = name, .rows = tensors_[x].rows, .cols = tensors_[x].cols});
}

// Nothing to do for f32; otherwise once for all matmuls of x and this kind, by the op that makes x
// if it can do that, else by an op of its own.
TensorId Graph::Prepare(TensorId x, ActKind kind) {
  if (kind == ActKind::kF32) return x;
  const auto [found, inserted] = prepared_.try_emplace({x, kind}, kNoTensor);
  if (!inserted) return found->second;
  const Tensor& input = tensors_[x];
  Tensor output = {.name = input.name + " (prepared)",
                   .rows = input.rows,
                   .cols = input.cols,
                   .storage = Storage::kPrepared,
                   .act = kind,
                   .producer = input.producer};
  Op& producer = ops_[input.producer];
  if (input.storage == Storage::kFloats && PreparesOutput(producer.kind)) {
    found->second = tensors_.size();
    producer.prepared.push_back(found->second);
    tensors_.push_back(std::move(output));
  } else {
    found->second = AddOp({.kind = OpKind::kPrepare, .inputs = {x}}, std::move(output));
  }
  return found->second;
}

void Graph::CheckEpilogue(const std::string& name, const Tensor& input, const WeightMatrix& weight,
                          const Epilogue& epilogue) const {
  const std::string n = "the n of weight '" + weight.name + "'";
  if (epilogue.bias != nullptr) CheckSize(OpKind::kMatmul, name, *epilogue.bias, weight.n, n);
  if (epilogue.residual == kNoTensor) return;
  const Tensor& sum = Input(OpKind::kMatmul, name, epilogue.residual);
  CheckCols(OpKind::kMatmul, name, sum, weight.n, n);
  if (sum.rows != input.rows) {
    Fail(OpKind::kMatmul, name, Shape(input) + " and " + Shape(sum) + " differ in rows");
  }
}

TensorId Graph::AddMatmul(const std::string& name, TensorId x, const WeightMatrix& weight,
                          const Epilogue& epilogue, Storage storage) {
  const Tensor& input = Input(OpKind::kMatmul, name, x);
  CheckCols(OpKind::kMatmul, name, input, weight.k, "the k of weight '" + weight.name + "'");
  CheckEpilogue(name, input, weight, epilogue);
  const RowSet rows = input.rows;
  std::vector<TensorId> inputs = {Prepare(x, weight.format->act)};  // `input` may have moved
  if (epilogue.residual != kNoTensor) inputs.push_back(epilogue.residual);
  return AddOp({.kind = OpKind::kMatmul,
                .inputs = std::move(inputs),
                .matrix = &weight,
                .vector = epilogue.bias},
               {.name = name, .rows = rows, .cols = weight.n, .storage = storage});
}

TensorId Graph::Matmul(const std::string& name, TensorId x, const WeightMatrix& weight,
                       const Epilogue& epilogue) {
  return AddMatmul(name, x, weight, epilogue, Storage::kFloats);
}

TensorId Graph::Logits(const std::string& name, TensorId x, const WeightMatrix& weight) {
  return AddMatmul(name, x, weight, {}, Storage::kLogits);
}

TensorId Graph::GatedMatmul(const std::string& name, TensorId x, const WeightMatrix& gate,
                            const WeightMatrix& up) {
  const Tensor& input = Input(OpKind::kGated, name, x);
  for (const WeightMatrix* weight : {&gate, &up}) {
    CheckCols(OpKind::kGated, name, input, weight->k, "the k of weight '" + weight->name + "'");
  }
  if (gate.n != up.n) {
    Fail(OpKind::kGated, name,
         "weight '" + gate.name + "' has " + std::to_string(gate.n) + " outputs, expected " +
             std::to_string(up.n) + ", those of weight '" + up.name + "'");
  }
  const RowSet rows = input.rows;
  const TensorId up_act = Prepare(x, up.format->act), gate_act = Prepare(x, gate.format->act);
  return AddOp({.kind = OpKind::kGated, .inputs = {up_act, gate_act}, .matrix = &up, .gate = &gate},
               {.name = name, .rows = rows, .cols = up.n});
}

void Graph::CheckRotation(OpKind kind, const std::string& name, const HeadShape& heads) const {
  if (heads.n_rot <= heads.head_dim && heads.n_rot % 2 == 0) return;
  Fail(kind, name,
       "rotates " + std::to_string(heads.n_rot) + " elements of " +
           Heads(heads.n_heads, heads.head_dim) + "; expected an even number, at most a head");
}

TensorId Graph::Rope(const std::string& name, TensorId x, const HeadShape& heads) {
  const Tensor& input = Input(OpKind::kRope, name, x);
  CheckCols(OpKind::kRope, name, input, heads.n_heads * heads.head_dim,
            Heads(heads.n_heads, heads.head_dim));
  CheckRotation(OpKind::kRope, name, heads);
  return AddOp({.kind = OpKind::kRope, .inputs = {x}, .heads = heads},
               {.name = name, .rows = input.rows, .cols = input.cols});
}

TensorId Graph::Append(const std::string& name, size_t layer, TensorId k, TensorId v,
                       const HeadShape& heads) {
  CheckSameShape(OpKind::kAppend, name, k, v);
  const Tensor& keys = tensors_[k];
  CheckCols(OpKind::kAppend, name, keys, heads.n_kv_heads * heads.head_dim,
            Heads(heads.n_kv_heads, heads.head_dim));
  if (keys.rows != RowSet::kBatch) {
    Fail(OpKind::kAppend, name, "input " + Shape(keys) + " should have all rows of the batch");
  }
  if (!keys.consumers.empty()) {
    Fail(OpKind::kAppend, name,
         "input " + Shape(keys) + " is read elsewhere, but appending overwrites it");
  }
  CheckRotation(OpKind::kAppend, name, heads);
  return AddOp(
      {.kind = OpKind::kAppend, .inputs = {k, v}, .layer = layer, .heads = heads},
      {.name = name, .rows = RowSet::kBatch, .cols = keys.cols, .storage = Storage::kCache});
}

TensorId Graph::Attention(const std::string& name, TensorId q, TensorId cache,
                          const HeadShape& heads) {
  const Tensor& input = Input(OpKind::kAttention, name, q);
  CheckCols(OpKind::kAttention, name, input, heads.n_heads * heads.head_dim,
            Heads(heads.n_heads, heads.head_dim));
  if (cache >= tensors_.size() || tensors_[cache].storage != Storage::kCache) {
    Fail(OpKind::kAttention, name, "its second input is not a cache");
  }
  CheckCols(OpKind::kAttention, name, tensors_[cache], heads.n_kv_heads * heads.head_dim,
            Heads(heads.n_kv_heads, heads.head_dim));
  if (heads.n_kv_heads == 0 || heads.n_heads % heads.n_kv_heads != 0) {
    Fail(OpKind::kAttention, name,
         std::to_string(heads.n_heads) + " heads cannot share " + std::to_string(heads.n_kv_heads) +
             " KV heads evenly");
  }
  const Op& append = ops_[tensors_[cache].producer];
  return AddOp({.kind = OpKind::kAttention,
                .inputs = {q, cache, append.inputs[0], append.inputs[1]},
                .layer = append.layer,
                .heads = heads},
               {.name = name, .rows = input.rows, .cols = input.cols});
}

TensorId Graph::Add(const std::string& name, TensorId a, TensorId b) {
  CheckSameShape(OpKind::kAdd, name, a, b);
  return AddOp({.kind = OpKind::kAdd, .inputs = {a, b}},
               {.name = name, .rows = tensors_[a].rows, .cols = tensors_[a].cols});
}

TensorId Graph::OutputRows(TensorId x) {
  const Tensor& root = tensors_.at(x);
  if (root.storage != Storage::kFloats || root.rows != RowSet::kBatch) {
    throw Error(HOB_ERROR_SHAPE, "output rows of " + Shape(root) + ", which is no batch of floats");
  }
  tensors_.push_back({.name = root.name + " (output rows)",
                      .rows = RowSet::kOutput,
                      .cols = root.cols,
                      .storage = Storage::kView,
                      .root = x,
                      .producer = root.producer});
  return tensors_.size() - 1;
}

// ---------------------------------------------------------------- planning

void Graph::Plan(size_t max_rows) {
  max_rows_ = max_rows;
  for (Tensor& tensor : tensors_) {
    if (tensor.storage == Storage::kFloats) tensor.bytes = max_rows * tensor.cols * sizeof(float);
    if (tensor.storage == Storage::kPrepared) {
      tensor.bytes = ActivationBytes(tensor.act, max_rows, tensor.cols);
    }
  }
  FormPhases();
  AbsorbNorms();
  ChooseInPlace();
  AbsorbIntoAttention();
  LayOutArena();
}

// An op joins the phase of the op before it unless it reads something made there.
void Graph::FormPhases() {
  phases_.clear();
  phase_of_.assign(ops_.size(), 0);
  for (size_t i = 0; i < ops_.size(); ++i) {
    const size_t begin = phases_.empty() ? 0 : phases_.back().begin;
    const bool depends =
        std::any_of(ops_[i].inputs.begin(), ops_[i].inputs.end(),
                    [&](TensorId input) { return tensors_[input].producer >= begin; });
    if (phases_.empty() || depends) phases_.push_back({i, i});
    phases_.back().end = i + 1;
    phase_of_[i] = phases_.size() - 1;
  }
}

// The last phase in which the op may be done.
size_t Graph::LastPhaseOf(size_t op) const {
  const size_t absorber = ops_[op].absorber;
  return absorber == kNoOp ? phase_of_[op] : std::max(phase_of_[op], phase_of_[absorber]);
}

// The last phase in which the tensor is read or written.
size_t Graph::LastPhase(const Tensor& tensor) const {
  size_t last = phase_of_[tensor.producer];
  for (size_t consumer : tensor.consumers) last = std::max(last, LastPhaseOf(consumer));
  return last;
}

// The first phase in which the tensor may be written.
size_t Graph::FirstPhase(const Tensor& tensor) const {
  const size_t absorber = ops_[tensor.producer].absorber;
  const size_t phase = phase_of_[tensor.producer];
  return absorber == kNoOp ? phase : std::min(phase, phase_of_[absorber]);
}

// An output takes over the place of an input of its own shape if its op is the only one to read
// that input in this phase, and none does later.
void Graph::ChooseInPlace() {
  for (size_t i = 0; i < ops_.size(); ++i) {
    const Op& op = ops_[i];
    Tensor& output = tensors_[op.output];
    if (output.storage != Storage::kFloats || op.kind == OpKind::kAttention) continue;
    // These read whole rows of their first input for every element of the output.
    const bool elementwise = op.kind != OpKind::kMatmul && op.kind != OpKind::kGated;
    for (size_t j = elementwise ? 0 : 1; j < op.inputs.size(); ++j) {
      const Tensor& input = tensors_[op.inputs[j]];
      if (input.storage != Storage::kFloats || input.rows != output.rows ||
          input.cols != output.cols || input.consumers.back() != i) {
        continue;
      }
      const size_t readers =
          std::count_if(input.consumers.begin(), input.consumers.end(),
                        [&](size_t consumer) { return LastPhaseOf(consumer) >= phase_of_[i]; });
      if (readers != 1) continue;
      output.in_place_of = op.inputs[j];
      break;
    }
  }
}

// A norm of which only the next phase's matmuls read, and nothing but prepared activations.
void Graph::AbsorbNorms() {
  for (size_t i = 0; i < ops_.size(); ++i) {
    Op& norm = ops_[i];
    if (norm.kind != OpKind::kRmsNorm || !tensors_[norm.output].consumers.empty()) continue;
    size_t reader = kNoOp;
    bool next_phase = true;
    for (TensorId id : norm.prepared) {
      for (size_t consumer : tensors_[id].consumers) {
        reader = consumer;
        next_phase = next_phase && phase_of_[consumer] == phase_of_[i] + 1;
      }
    }
    if (next_phase) norm.absorber = reader;
  }
}

// What only an attention op reads, or makes ready for matmuls what it makes.
void Graph::AbsorbIntoAttention() {
  for (size_t i = 0; i < ops_.size(); ++i) {
    if (ops_[i].kind != OpKind::kAttention) continue;
    const auto absorb = [&](size_t other) {
      ops_[i].absorbed.push_back(other);
      ops_[other].absorber = i;
    };
    for (size_t input : {0, 1}) {
      const Tensor& tensor = tensors_[ops_[i].inputs[input]];
      const Op& producer = ops_[tensor.producer];
      const Tensor& made = tensors_[producer.output];
      const bool in_place = producer.kind == OpKind::kRope && made.in_place_of != kNoTensor;
      if (made.consumers.size() == 1 && (in_place || producer.kind == OpKind::kAppend)) {
        absorb(tensor.producer);
      }
    }
    for (size_t consumer : tensors_[ops_[i].output].consumers) {
      if (ops_[consumer].kind == OpKind::kPrepare) absorb(consumer);
    }
  }
}

// Goes through the phases in order; each tensor that begins to live gets the smallest gap between
// the living ones that holds it, or the end.
void Graph::LayOutArena() {
  struct Living {
    size_t offset, bytes, last_phase;
  };
  std::vector<Living> living;  // by offset
  std::vector<TensorId> by_birth;
  for (const Op& op : ops_) {
    by_birth.push_back(op.output);
    by_birth.insert(by_birth.end(), op.prepared.begin(), op.prepared.end());
  }
  std::sort(by_birth.begin(), by_birth.end(), [&](TensorId a, TensorId b) {
    return std::pair(FirstPhase(tensors_[a]), a) < std::pair(FirstPhase(tensors_[b]), b);
  });
  // A chain of tensors that take over one place lives as long as the last of them.
  std::vector<size_t> last_phase(tensors_.size());
  for (TensorId id = tensors_.size(); id-- != 0;) {
    last_phase[id] = std::max(last_phase[id], LastPhase(tensors_[id]));
    const TensorId before = tensors_[id].in_place_of;
    if (before != kNoTensor) last_phase[before] = std::max(last_phase[before], last_phase[id]);
  }
  arena_bytes_ = 0;
  for (TensorId id : by_birth) {
    Tensor& tensor = tensors_[id];
    if (tensor.bytes == 0) continue;
    if (tensor.in_place_of != kNoTensor) {
      tensor.offset = tensors_[tensor.in_place_of].offset;
      continue;
    }
    const size_t phase = FirstPhase(tensor);
    std::erase_if(living, [&](const Living& other) { return other.last_phase < phase; });

    const size_t bytes = RoundUp(tensor.bytes, kAlignment);
    size_t best_gap = SIZE_MAX, end = 0;
    for (const Living& other : living) {
      const size_t gap = other.offset - end;
      if (gap >= bytes && gap < best_gap) {
        best_gap = gap;
        tensor.offset = end;
      }
      end = other.offset + other.bytes;
    }
    if (best_gap == SIZE_MAX) tensor.offset = end;

    const auto behind = std::find_if(living.begin(), living.end(), [&](const Living& other) {
      return other.offset > tensor.offset;
    });
    living.insert(behind, {tensor.offset, bytes, last_phase[id]});
    arena_bytes_ = std::max(arena_bytes_, tensor.offset + bytes);
  }
}

}  // namespace hob
