// Models of real shapes with random weights, for measuring and testing where no real model is at
// hand. They compute as much as the real ones and say nothing.
#ifndef HOB_RUNTIME_SYNTH_H_
#define HOB_RUNTIME_SYNTH_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "hob/hob.h"

namespace hob {

struct SynthOptions {
  uint64_t seed = 0;  // the same file for the same seed on every machine
  const hob_threads* threads = nullptr;
  int (*progress)(void* context, float done) = nullptr;  // as in hob_model_options
  void* progress_context = nullptr;
};

// The names of the shapes.
std::vector<std::string> SynthShapes();

// Writes a GGUF file: the model `shape` in `format`, a weight format or a mix (quantize_mix.h).
// The same weights for every format: what quantizing the model in f32 would give.
// Throws HOB_ERROR_ARGUMENT on an unknown shape, otherwise as QuantizeFile.
void Synthesize(std::string_view shape, std::string_view format, const std::string& path,
                const SynthOptions& options);

}  // namespace hob

#endif  // HOB_RUNTIME_SYNTH_H_
