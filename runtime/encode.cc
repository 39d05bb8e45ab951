// Start at EncodeRows, at the end.
#include "runtime/encode.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "runtime/error.h"

namespace hob {

Target RequireTarget() {
  const Target target = ActiveTarget();
  if (target < 0) throw Error(HOB_ERROR_TARGET, BadTargetMessage());
  return target;
}

void ParallelFor(const hob_threads* threads, size_t n, const std::function<void(size_t)>& body) {
  if (threads == nullptr || threads->count <= 1 || n <= 1) {
    for (size_t i = 0; i < n; ++i) body(i);
    return;
  }
  threads->parallel_for(
      threads->context, n,
      [](void* self, size_t i) { (*static_cast<const std::function<void(size_t)>*>(self))(i); },
      const_cast<std::function<void(size_t)>*>(&body));
}

// ---------------------------------------------------------------- errors

double RelativeRms(double squared_error, double squared_source) {
  if (squared_error == 0) return 0;
  const double relative = std::sqrt(squared_error / squared_source);
  // NaN and infinity in the source have no relative error; as the worst they are found.
  return std::isnan(relative) ? std::numeric_limits<double>::infinity() : relative;
}

EncodingError::EncodingError(const Format& format)
    : block_values_(format.block_values > 1 ? format.block_values : 32) {}

void EncodingError::AddRow(const float* source, const float* decoded, size_t k) {
  for (size_t begin = 0; begin < k; begin += block_values_, ++blocks_) {
    double squared_source = 0, squared_error = 0;
    for (size_t i = begin; i < std::min(k, begin + block_values_); ++i) {
      const double value = source[i], error = decoded[i] - value;
      squared_source += value * value;
      squared_error += error * error;
    }
    squared_source_ += squared_source;
    squared_error_ += squared_error;
    // Most blocks need no division or root to see that they are not the worst.
    if (squared_error <= worst_ * worst_ * squared_source && worst_ >= 0) continue;
    if (const double relative = RelativeRms(squared_error, squared_source); relative > worst_) {
      worst_ = relative;
      worst_block_ = blocks_;
    }
  }
  values_ += k;
}

void EncodingError::Append(const EncodingError& next) {
  if (next.worst_ > worst_) {
    worst_ = next.worst_;
    worst_block_ = blocks_ + next.worst_block_;
  }
  values_ += next.values_;
  blocks_ += next.blocks_;
  squared_source_ += next.squared_source_;
  squared_error_ += next.squared_error_;
}

// ---------------------------------------------------------------- encoding

void EncodeRows(const EncodeTask& task, const std::function<void(std::span<const uint8_t>)>& sink,
                const std::function<void(uint64_t)>& advance) {
  const size_t k = task.k, row_bytes = task.to.row_bytes(k);
  const size_t slice = std::clamp<size_t>(kSliceValues / k, 1, task.rows);
  // Pieces do not depend on the threads, so that neither do the sums of errors; there are enough
  // of them that a slow thread does not keep the others waiting.
  const size_t most_pieces = std::min<size_t>(slice, 64);
  const auto decode = task.error == nullptr ? nullptr : task.to.kernels(RequireTarget()).dequantize;
  std::vector<uint8_t> bytes(slice * row_bytes);
  std::vector<float> scratch(most_pieces * k * (decode == nullptr ? 1 : 2));
  std::vector<EncodingError> errors;

  for (size_t begin = 0; begin < task.rows; begin += slice) {
    const size_t count = std::min(slice, task.rows - begin);
    const size_t pieces = std::min(count, most_pieces);
    errors.assign(pieces, EncodingError(task.to));
    ParallelFor(task.threads, pieces, [&](size_t piece) {
      float* values = scratch.data() + piece * (scratch.size() / most_pieces);
      float* decoded = values + k;
      for (size_t row = piece * count / pieces; row < (piece + 1) * count / pieces; ++row) {
        uint8_t* encoded = bytes.data() + row * row_bytes;
        task.source(begin + row, values);
        task.to.encode(values, k, encoded);
        if (decode == nullptr) continue;
        decode(encoded, k, decoded);
        errors[piece].AddRow(values, decoded, k);
      }
    });
    if (task.error != nullptr) {
      for (const EncodingError& error : errors) task.error->Append(error);
    }
    sink(std::span(bytes).first(count * row_bytes));
    advance(count * k);
  }
}

}  // namespace hob
