// Runs a planned graph: each phase becomes chunks of panels, rows or attention units, which a
// Region spreads over the threads; each chunk calls a kernel. Start with Executor::RunOp.
#ifndef HOB_RUNTIME_EXECUTOR_H_
#define HOB_RUNTIME_EXECUTOR_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "hob/hob.h"
#include "kernels/attention.h"
#include "kernels/matmul.h"
#include "runtime/aligned_buffer.h"
#include "runtime/graph.h"
#include "runtime/kv_cache.h"
#include "runtime/region.h"

namespace hob {

// What one run evaluates: a batch of tokens that follow each other.
struct Step {
  const int32_t* tokens;  // (rows), each below the vocabulary
  size_t rows;            // at most the graph's max_rows
  size_t position;        // of the first token; rows from here on fit in the cache
  size_t outputs;         // how many of the last rows need logits
  float* logits;          // (outputs, vocabulary)
};

class Profile;

class Executor final : private RegionWork {
 public:
  struct Options {
    const hob_threads* threads = nullptr;
    int (*cancel)(void* context) = nullptr;  // asked between phases; other than 0 stops
    void* cancel_context = nullptr;
  };

  // `graph` has been planned. rope_table: (graph.max_rows, n_rot), holds the angles of a step's
  // rows while it runs (rope_rows.h). All three must outlive this object.
  Executor(const Graph& graph, const KvCache& cache, const float* rope_table,
           const Options& options);

  // False if cancelled: then the cache rows of this step and the arena hold nothing of use, and
  // nothing is in `logits`. Does not allocate after the first time.
  bool Run(const Step& step);

  // From the next Run on, adds up where the time goes; nullptr ends it. Of this graph and at least
  // participants(); must live as long as it is set.
  void SetProfile(Profile* profile) { profile_ = profile; }
  size_t participants() const { return region_.participants(); }

  size_t arena_bytes() const { return arena_.size(); }
  size_t workspace_bytes() const { return workspace_.size(); }

 private:
  // The norm whose row lies in a participant's workspace, until attention takes that. On lines of
  // its own.
  struct alignas(128) OwnRow {
    const Op* norm = nullptr;
  };

  // An op's part of its phase: `units` (panels, rows, pages, ...) that are taken by whole steps of
  // `step`; what one of them costs, in whatever all ops of the phase are measured by; the cost of
  // the ops before it; and how many chunks of the least work it would make.
  struct OpSplit {
    size_t units = 0, step = 1, unit_cost = 0, least_chunks = 0, begin = 0;
  };

  // A phase is cut into chunks of equal cost, wherever its ops begin and end.
  struct PhaseSplit {
    size_t chunks = 0, cost = 0;
    bool mirrored = false;          // the last participant has the first chunks
    const Op* attention = nullptr;  // that follows these weights

    size_t Begin(const OpSplit& op, size_t place) const;
    size_t PlaceOf(size_t chunk, size_t participants) const;
  };

  size_t phase_count() const override { return graph_.phases().size(); }
  size_t chunk_count(size_t phase) const override { return phase_splits_[phase].chunks; }
  void RunChunk(size_t phase, size_t chunk, size_t participant) override;
  bool Cancelled(size_t phase) override;

  void SplitPhase(size_t phase);
  size_t MostChunks(const Op& op, const PhaseSplit& split) const;
  const AttentionDivision& DivisionOf(const Op& attention) const;
  bool IsAbsorbed(const Op& op) const;
  OpSplit SplitOp(const Op& op) const;
  OpSplit SplitMatmul(const Op& op) const;
  OpSplit SplitAttention(const Op& op) const;
  OpSplit SplitAppend(const Op& op) const;
  OpSplit SplitRows(const Op& op) const;

  void PrefetchCache(const Op& attention, size_t participant) const;
  void RunOp(const Op& op, size_t begin, size_t end, size_t participant);
  void RunEmbed(const Op& op, size_t begin, size_t end);
  void RunRmsNorm(const Op& op, size_t begin, size_t end);
  void RunPrepare(const Op& op, size_t begin, size_t end);
  void RunMatmul(const Op& op, size_t begin, size_t end, size_t participant);
  void RunGated(const Op& op, size_t begin, size_t end, size_t participant);
  void RunRope(const Op& op, size_t begin, size_t end);
  void RunAppend(const Op& op, size_t begin, size_t end);
  void RunAttention(const Op& op, size_t begin, size_t end, size_t participant);
  void RunAdd(const Op& op, size_t begin, size_t end);

  size_t Rows(const Tensor& tensor) const;
  size_t OutputRows(const Op& op) const { return Rows(graph_.tensors()[op.output]); }
  uint8_t* Workspace(size_t participant) const {
    return workspace_.data() + participant * workspace_bytes_;
  }
  uint8_t* Data(TensorId id) const;
  float* Floats(TensorId id, size_t row = 0) const;
  void NormRow(const Op& norm, const float* x, float* out) const;
  size_t OwnOffset(const Op& norm, TensorId id) const;
  const uint8_t* Activations(const Op& reader, TensorId id, size_t participant);
  MatmulTask Task(const Op& op, const WeightMatrix& weight, const uint8_t* act) const;
  void Rotate(const HeadShape& heads, size_t n_heads, size_t batch_row, float* x) const;
  AttentionTask Task(const Op& op) const;
  void AppendTokens(const Op& op, KeyRange tokens, size_t first_head, size_t n_heads);
  void RunAbsorbed(size_t index, const UnitShare& share, size_t participant, bool before);
  void RotateQueries(const Op& attention, const UnitShare& share);
  void AppendShare(const Op& append, const UnitShare& share);
  bool MergeLast(const AttentionTask& task, const AttentionDivision& division, size_t kv_head,
                 float* partials);
  void PrepareHead(const Op& attention, const Op& prepare, size_t kv_head);

  const Graph& graph_;
  const KvCache& cache_;
  const float* rope_table_;  // (max_rows, n_rot), of the step's rows
  Options options_;
  Region region_;
  AlignedBuffer arena_;
  AlignedBuffer workspace_;  // (participants, workspace_bytes_), for attention or a row
  size_t workspace_bytes_ = 0;
  std::vector<OwnRow> own_rows_;                 // (participants)
  AlignedBuffer partials_;                       // of attention whose keys are divided
  std::vector<std::atomic<size_t>> parts_done_;  // (KV heads), of such
  Step step_{};
  Profile* profile_ = nullptr;
  std::vector<AttentionDivision> divisions_;  // (ops), of attention
  std::vector<OpSplit> op_splits_;            // (ops)
  std::vector<PhaseSplit> phase_splits_;      // (phases)
};

}  // namespace hob

#endif  // HOB_RUNTIME_EXECUTOR_H_
