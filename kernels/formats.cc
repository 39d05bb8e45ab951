#include "kernels/formats.h"

#include "kernels/formats/contract.h"

namespace hob {

std::span<const Format* const> Formats() {
  static const Format* const formats[] = {
#define HOB_FORMAT(ENUM, name, id, values, bytes) &FormatOf<HOB_FORMAT_##ENUM>(),
#include "hob/formats.def"
#undef HOB_FORMAT
  };
  return formats;
}

const Format* FindFormat(hob_format id) {
  for (const Format* format : Formats()) {
    if (format->id == id) return format;
  }
  return nullptr;
}

}  // namespace hob
