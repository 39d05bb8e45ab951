// A second reading of the weight formats' blocks, in exact arithmetic, written from the tables in
// docs/numerics.md and sharing no code with kernels/formats: what the scalar decoders are checked
// against. A format without a row here is compared with the scalar reference only.
#ifndef HOB_RUNTIME_VERIFY_BLOCKS_H_
#define HOB_RUNTIME_VERIFY_BLOCKS_H_

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

namespace hob::verify {

// A row of weights taken apart: weight[i] = scale[i / sub] * level[i] - min[i / sub]. Single values
// are levels of scale 1, with sub = 1.
struct Parts {
  size_t sub = 1;
  bool has_min = false;
  std::vector<double> scale, min, level;
};

// Whether there is a row for that format.
bool HasLayout(std::string_view format);

// Takes k weights of a format that has a row apart.
Parts TakeApart(std::string_view format, const uint8_t* blocks, size_t k);

}  // namespace hob::verify

#endif  // HOB_RUNTIME_VERIFY_BLOCKS_H_
