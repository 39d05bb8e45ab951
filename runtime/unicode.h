// UTF-8 helpers of the tokenizers and of error messages: one step through possibly broken UTF-8,
// and text made safe to show. Everything works on bytes and accepts any input.
#ifndef HOB_RUNTIME_UNICODE_H_
#define HOB_RUNTIME_UNICODE_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace hob {

// What text begins with.
struct Utf8Step {
  enum Kind {
    kValid,    // a character
    kPartial,  // the text ends inside a character that more bytes could complete
    kInvalid   // bytes that begin no character
  };
  Kind kind;
  size_t bytes;        // how many bytes it takes, at least 1
  char32_t character;  // if kValid
};

// Looks at the beginning of `text`, which must not be empty. Surrogates, overlong forms and values
// above U+10FFFF are invalid; a broken character ends before the byte that broke it.
Utf8Step NextUtf8(std::string_view text);

// The length of the longest beginning of `text` that is valid UTF-8.
size_t ValidUtf8Prefix(std::string_view text);

// Appends the UTF-8 form of `character`, which must be a Unicode scalar value.
void AppendUtf8(char32_t character, std::string* out);

// U+FFFD, which stands for broken bytes.
inline constexpr std::string_view kReplacementCharacter = "\xEF\xBF\xBD";

// `text` between single quotes for a message of one line: control characters and broken bytes as
// \xNN, cut after `limit` bytes.
std::string Quoted(std::string_view text, size_t limit = 100);

}  // namespace hob

#endif  // HOB_RUNTIME_UNICODE_H_
