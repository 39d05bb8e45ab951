// The message behind a hob_status: one line a thread, read back by hob_status_message().
#ifndef HOB_KERNELS_STATUS_H_
#define HOB_KERNELS_STATUS_H_

#include "hob/hob.h"

namespace hob {

// Stores the message, formatted as printf does, for the calling thread and returns `status`.
// Never allocates; a message longer than the buffer is cut. With C linkage, because hob's shared
// libraries export nothing but hob_*, and hob::tbb reports errors too.
extern "C" HOB_API hob_status hob_internal_set_error(hob_status status, const char* format, ...)
    __attribute__((format(printf, 2, 3)));

inline hob_status (*const SetError)(hob_status status, const char* format, ...)
    __attribute__((format(printf, 2, 3))) = hob_internal_set_error;

}  // namespace hob

#endif  // HOB_KERNELS_STATUS_H_
