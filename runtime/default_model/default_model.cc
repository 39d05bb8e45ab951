// The bytes come from default_model.S; the build defines HOB_HAVE_DEFAULT_MODEL if it is compiled.
#include "runtime/default_model/default_model.h"

#if defined(HOB_HAVE_DEFAULT_MODEL)
extern "C" {
[[gnu::visibility("hidden")]] extern const uint8_t hob_default_model_begin[];
[[gnu::visibility("hidden")]] extern const uint8_t hob_default_model_end[];
}
#endif

namespace hob {

std::span<const uint8_t> DefaultModelBytes() {
#if defined(HOB_HAVE_DEFAULT_MODEL)
  return {hob_default_model_begin, hob_default_model_end};
#else
  return {};
#endif
}

}  // namespace hob
