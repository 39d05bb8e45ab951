// Rewrites a GGUF file with its matrices in another format: the work behind hob_quantize_file.
#ifndef HOB_RUNTIME_QUANTIZE_FILE_H_
#define HOB_RUNTIME_QUANTIZE_FILE_H_

#include "hob/model.h"

namespace hob {

// As hob_quantize_file in hob/model.h says, with every option's field present. Throws Error.
void QuantizeFile(const char* in_path, const char* out_path, const char* format,
                  const hob_quantize_options& options);

}  // namespace hob

#endif  // HOB_RUNTIME_QUANTIZE_FILE_H_
