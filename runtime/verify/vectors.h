// Conformance vectors: cases with their expected bits and bounds as files, so that any other
// implementation can check itself against hob's definitions, and hob against a set that is kept.
// docs/vectors.md describes the files; tests/vectors/ has a small set.
#ifndef HOB_RUNTIME_VERIFY_VECTORS_H_
#define HOB_RUNTIME_VERIFY_VECTORS_H_

#include <span>
#include <string>

#include "runtime/verify/verify.h"

namespace hob::verify {

// Writes vectors.json and one file of arrays for each op into a directory, which is made if it is
// not there; files of the same names are replaced. The expected bits are the scalar reference's.
// Throws Error (HOB_ERROR_FILE) if a file cannot be written.
void ExportVectors(const std::string& directory);

// Computes the cases of such a directory by the scalar reference, whose bits are then the first
// target of each line of the report, and by `kernels`; compares with the expected bits, and these
// with the exact values and bounds that are in the files. Throws Error (HOB_ERROR_FILE) if the
// directory holds no vectors or damaged ones.
Report CheckVectors(const std::string& directory, std::span<const Kernels> kernels);

}  // namespace hob::verify

#endif  // HOB_RUNTIME_VERIFY_VECTORS_H_
