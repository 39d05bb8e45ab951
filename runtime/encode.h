// Encodes a matrix slice by slice in parallel, so that memory stays small however large it is: what
// quantizing a file and making one from nothing have in common. On the way it measures what the
// encoding loses, if asked.
#ifndef HOB_RUNTIME_ENCODE_H_
#define HOB_RUNTIME_ENCODE_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>

#include "hob/hob.h"
#include "kernels/formats.h"
#include "kernels/targets.h"

namespace hob {

// Layouts of blocks as GGUF's general.quantization_version counts them.
inline constexpr uint32_t kQuantizationVersion = 2;

// Values per slice, more or less: enough to give every thread something to do.
inline constexpr size_t kSliceValues = size_t{1} << 22;

// The target whose kernels run. Throws HOB_ERROR_TARGET if HOB_TARGET names none.
Target RequireTarget();

// body(i) for i from 0 to n - 1, on the threads if there are any; NULL is fine.
void ParallelFor(const hob_threads* threads, size_t n, const std::function<void(size_t)>& body);

// What encoding lost. Sums are taken in an order that does not depend on the threads.
class EncodingError {
 public:
  // Values are compared in blocks of the format, or of 32 if it has none; a row begins a new block.
  explicit EncodingError(const Format& format);

  size_t block_values() const { return block_values_; }
  uint64_t values() const { return values_; }
  double squared_source() const { return squared_source_; }
  double squared_error() const { return squared_error_; }
  // The worst block, counted from the beginning of the matrix, and its relative RMS error.
  uint64_t worst_block() const { return worst_block_; }
  double worst() const { return worst_; }

  // Adds a row of k values.
  void AddRow(const float* source, const float* decoded, size_t k);
  // Adds what was found in the rows behind these.
  void Append(const EncodingError& next);

 private:
  size_t block_values_;
  uint64_t values_ = 0, blocks_ = 0, worst_block_ = 0;
  double squared_source_ = 0, squared_error_ = 0, worst_ = -1;
};

// sqrt(error / source); 0 if there is no error.
double RelativeRms(double squared_error, double squared_source);

struct EncodeTask {
  const Format& to;
  size_t k, rows;
  // Writes the k values of a row; called by several threads at once.
  std::function<void(size_t row, float* values)> source;
  const hob_threads* threads = nullptr;
  EncodingError* error = nullptr;  // adds what is lost; nullptr: does not measure
};

// Hands the rows' bytes to `sink` in order, piece by piece, and calls advance(values) after each.
void EncodeRows(const EncodeTask& task, const std::function<void(std::span<const uint8_t>)>& sink,
                const std::function<void(uint64_t)>& advance);

}  // namespace hob

#endif  // HOB_RUNTIME_ENCODE_H_
