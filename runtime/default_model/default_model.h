// The model that is built into the library: a GGUF file, 64-byte aligned, in read-only memory.
// MODEL_CARD.md says what it does, generate.py and its neighbours how it was made.
#ifndef HOB_RUNTIME_DEFAULT_MODEL_DEFAULT_MODEL_H_
#define HOB_RUNTIME_DEFAULT_MODEL_DEFAULT_MODEL_H_

#include <cstdint>
#include <span>

namespace hob {

// Empty in a build without it.
std::span<const uint8_t> DefaultModelBytes();

}  // namespace hob

#endif  // HOB_RUNTIME_DEFAULT_MODEL_DEFAULT_MODEL_H_
