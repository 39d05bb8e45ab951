// See rope_rows.h.
#include "runtime/rope_rows.h"

#include <algorithm>

#include "kernels/rows.h"

namespace hob {
namespace {

// Angles of these positions are kept, since short sequences are evaluated again and again: a
// megabyte for heads of 64. A longer sequence has steps long enough not to notice the computing.
constexpr size_t kMostKept = 4096;

size_t Bytes(const DecoderConfig& config, size_t rows) {
  return rows * config.n_rot * sizeof(float);
}

}  // namespace

RopeRows::RopeRows(const DecoderConfig& config, size_t context, size_t batch)
    : config_(config),
      most_kept_(std::min(context, kMostKept)),
      table_(Bytes(config, most_kept_)),
      rows_(Bytes(config, batch)) {}

void RopeRows::Set(size_t position, size_t rows) {
  const size_t end = position + rows;
  if (end > most_kept_) return Compute(position, rows, Floats(rows_));
  if (end > kept_) {
    Compute(kept_, end - kept_, Floats(table_) + kept_ * config_.n_rot);
    kept_ = end;
  }
  std::copy_n(Floats(table_) + position * config_.n_rot, rows * config_.n_rot, Floats(rows_));
}

void RopeRows::Compute(size_t position, size_t rows, float* table) const {
  RopeTable(position, rows, config_.n_rot, config_.rope_base, config_.rope_freq_scale,
            config_.rope_factors.empty() ? nullptr : config_.rope_factors.data(), table);
}

}  // namespace hob
