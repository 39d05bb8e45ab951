// Runs a planned graph: each phase becomes chunks of panels, rows or attention units, which a
// Region spreads over the threads; each chunk calls a kernel. Start with Executor::RunOp.
#ifndef HOB_RUNTIME_EXECUTOR_H_
#define HOB_RUNTIME_EXECUTOR_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "hob/hob.h"
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

  // False if cancelled: then the cache rows of this step and the arena hold nothing of use. Does
  // not allocate.
  bool Run(const Step& step);

  // From the next Run on, adds up where the time goes; nullptr ends it. Of this graph and at least
  // participants(); must live as long as it is set.
  void SetProfile(Profile* profile) { profile_ = profile; }
  size_t participants() const { return region_.participants(); }

  size_t arena_bytes() const { return arena_.size(); }
  size_t workspace_bytes() const { return workspace_.size(); }

 private:
  // How the work of an op is divided: chunks of `units` (panels, rows, pages, ...), as equal as
  // whole steps of `step` of them allow, so that participants who take as many are through
  // together.
  struct Split {
    size_t units = 0, step = 1, chunks = 0;

    size_t Begin(size_t chunk) const;
  };

  size_t phase_count() const override { return graph_.phases().size(); }
  size_t chunk_count(size_t phase) const override { return phase_chunks_[phase]; }
  void RunChunk(size_t phase, size_t chunk, size_t participant) override;
  bool Cancelled() override;

  void SplitOps();
  static Split Divide(size_t units, size_t step, size_t least, size_t most);
  Split SplitOp(const Op& op) const;
  size_t LargeChunks(size_t each) const;
  size_t MatmulChunks(const Op& op) const;
  Split SplitMatmul(const Op& op) const;
  Split SplitAttention(const Op& op) const;
  Split SplitRows(const Op& op) const;

  void RunOp(const Op& op, size_t begin, size_t end, size_t participant);
  void RunEmbed(const Op& op, size_t begin, size_t end);
  void RunRmsNorm(const Op& op, size_t begin, size_t end);
  void RunPrepare(const Op& op, size_t begin, size_t end);
  void RunMatmul(const Op& op, size_t begin, size_t end);
  void RunGated(const Op& op, size_t begin, size_t end);
  void RunRope(const Op& op, size_t begin, size_t end);
  void RunAppend(const Op& op, size_t begin, size_t end);
  void RunAttention(const Op& op, size_t begin, size_t end, size_t participant);
  void RunAdd(const Op& op, size_t begin, size_t end);

  size_t Rows(const Tensor& tensor) const;
  size_t OutputRows(const Op& op) const { return Rows(graph_.tensors()[op.output]); }
  uint8_t* Data(TensorId id) const;
  float* Floats(TensorId id, size_t row = 0) const;
  MatmulTask Task(const Op& op, const WeightMatrix& weight, TensorId act) const;
  void Rotate(const HeadShape& heads, size_t n_heads, size_t batch_row, float* x) const;
  AttentionTask Task(const Op& op) const;

  const Graph& graph_;
  const KvCache& cache_;
  const float* rope_table_;  // (max_rows, n_rot), of the step's rows
  Options options_;
  Region region_;
  AlignedBuffer arena_;
  AlignedBuffer workspace_;  // (participants, workspace_bytes_), for attention
  size_t workspace_bytes_ = 0;
  AlignedBuffer partials_;                       // of attention whose keys are divided
  std::vector<std::atomic<size_t>> parts_done_;  // (KV heads), of such
  Step step_{};
  Profile* profile_ = nullptr;
  std::vector<Split> splits_;         // (ops)
  std::vector<size_t> phase_chunks_;  // (phases)
};

}  // namespace hob

#endif  // HOB_RUNTIME_EXECUTOR_H_
