// hob: threads lent by oneTBB, in a library of its own (hob::tbb) so that embedders who bring their
// own threads need not link it.
#ifndef HOB_TBB_H_
#define HOB_TBB_H_

#include "hob/hob.h"

#ifdef __cplusplus
extern "C" {
#endif

// Threads of a oneTBB task_arena. `count` 0 = as many as this process may use: physical cores,
// bounded by its affinity and its cgroup's quota; HOB_NUM_THREADS overrides it. *threads is valid
// until hob_tbb_free.
HOB_API hob_status hob_tbb_create(size_t count, hob_threads* threads);
HOB_API void hob_tbb_free(hob_threads* threads);  // a zeroed struct is fine

#ifdef __cplusplus
}
#endif

#endif  // HOB_TBB_H_
