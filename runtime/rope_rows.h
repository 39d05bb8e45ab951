// The RoPE angles of the rows that a step evaluates. They are computed when they are needed, so
// that a session does not pay for a context that it never fills.
#ifndef HOB_RUNTIME_ROPE_ROWS_H_
#define HOB_RUNTIME_ROPE_ROWS_H_

#include <cstddef>

#include "runtime/aligned_buffer.h"
#include "runtime/decoder.h"

namespace hob {

class RopeRows {
 public:
  // For sequences of up to `context` tokens, evaluated up to `batch` at a time. `config` must
  // outlive this object.
  RopeRows(const DecoderConfig& config, size_t context, size_t batch);

  // (batch, n_rot), as hob_rope_table makes it, for the rows that were set last.
  const float* data() const { return Floats(rows_); }

  // From now on data() has the angles of positions [position, position + rows), rows <= batch. The
  // same bits whatever was set before. Does not allocate.
  void Set(size_t position, size_t rows);

  size_t bytes() const { return table_.size() + rows_.size(); }

 private:
  static float* Floats(const AlignedBuffer& buffer) {
    return reinterpret_cast<float*>(buffer.data());
  }
  void Compute(size_t position, size_t rows, float* table) const;

  const DecoderConfig& config_;
  size_t most_kept_;     // positions
  size_t kept_ = 0;      // the first positions, which are computed once
  AlignedBuffer table_;  // (most_kept, n_rot), of which `kept` are there
  AlignedBuffer rows_;   // (batch, n_rot)
};

}  // namespace hob

#endif  // HOB_RUNTIME_ROPE_ROWS_H_
