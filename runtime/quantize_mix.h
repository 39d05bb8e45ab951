// Which format each tensor gets when a model is quantized. A format by name ("q8_0") is for every
// matrix; a mix ("q4_k_m") gives the tensors that suffer most a larger format, by the rules of the
// tables in quantize_mix.cc. Where a tensor's rows do not fit their format, a larger one stands in.
//
// Rules speak of formats by name, so that they can be read, and tested, without the formats.
#ifndef HOB_RUNTIME_QUANTIZE_MIX_H_
#define HOB_RUNTIME_QUANTIZE_MIX_H_

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/formats.h"
#include "runtime/gguf.h"

namespace hob {

struct Mix {
  std::string_view name;
  uint32_t file_type;     // GGUF's general.file_type
  std::string_view base;  // the format of tensors that no rule mentions
};

// In the order in which they are shown.
std::span<const Mix> Mixes();

// What a file is quantized to.
struct QuantizeGoal {
  std::string name;  // of the format or the mix, in lower case
  const Mix* mix;    // nullptr for a plain format
  uint32_t file_type;
};

// The format or mix called `what`, in any letter case. Throws HOB_ERROR_FORMAT.
QuantizeGoal ParseGoal(std::string_view what);

// What the rules look at.
struct MixModel {
  std::string architecture;
  uint32_t layers = 0, heads = 1, kv_heads = 1, experts = 0;
};
struct MixTensor {
  std::string_view name;
  uint32_t n_dims;
  uint64_t row, rows;  // values in a row; rows in all
};

MixModel ReadMixModel(const Gguf& file);
std::vector<MixTensor> ReadMixTensors(const Gguf& file);

struct TensorChoice {
  std::string_view format;  // lives forever, or as long as the goal; "" = the tensor stays as it is
  std::string note;         // "" or why it is not what the goal says
};

// A choice for each tensor.
std::vector<TensorChoice> ChooseFormats(const QuantizeGoal& goal, const MixModel& model,
                                        std::span<const MixTensor> tensors);

// A chosen format. Throws HOB_ERROR_FORMAT, naming all three, if this build does not have it.
const Format& RequireFormat(const QuantizeGoal& goal, const MixTensor& tensor,
                            std::string_view format);

}  // namespace hob

#endif  // HOB_RUNTIME_QUANTIZE_MIX_H_
