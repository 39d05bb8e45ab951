// The one exception of the runtime. Inside runtime/ a failure throws Error with a status and one
// line that names the thing, what was found and what was expected; the C border (c_api.cc) turns it
// into a hob_status and a message, so no exception ever leaves the library.
#ifndef HOB_RUNTIME_ERROR_H_
#define HOB_RUNTIME_ERROR_H_

#include <stdexcept>
#include <string>

#include "hob/hob.h"

namespace hob {

class Error : public std::runtime_error {
 public:
  Error(hob_status status, const std::string& message)
      : std::runtime_error(message), status_(status) {}
  hob_status status() const { return status_; }

 private:
  hob_status status_;
};

}  // namespace hob

#endif  // HOB_RUNTIME_ERROR_H_
