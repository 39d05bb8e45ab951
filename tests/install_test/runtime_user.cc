// The runtime from C++: every public header, a call into every library, and an error that comes back
// as a status.
#include <hob/hob.hpp>
#include <hob/model.h>

#include <cstdio>
#ifdef WITH_TBB
#include <hob/tbb.h>
#endif

int main() {
  hob_model* model = nullptr;
  const hob_status status = hob_model_load("there is no such file.gguf", nullptr, &model);
  if (status != HOB_ERROR_IO || hob_status_message()[0] == '\0') {
    std::fprintf(stderr, "%s: '%s'\n", hob_status_name(status), hob_status_message());
    return 1;
  }
#ifdef WITH_TBB
  hob_threads threads = {};
  threads.struct_size = sizeof(threads);
  if (hob_tbb_create(2, &threads) != HOB_OK) return 1;
  hob_tbb_free(&threads);
#endif
  std::puts("ok");
  return 0;
}
