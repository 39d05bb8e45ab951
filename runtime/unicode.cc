// UTF-8 as defined by RFC 3629. See unicode.h.
#include "runtime/unicode.h"

namespace hob {
namespace {

// How the first byte of a character limits what follows it.
struct Lead {
  size_t bytes;         // of the whole character; 0 = no character begins so
  uint8_t bits;         // mask of the payload in the first byte
  uint8_t low = 0x80;   // limits of the second byte: they exclude overlong forms, surrogates
  uint8_t high = 0xBF;  // and values above U+10FFFF
};

Lead ReadLead(uint8_t byte) {
  if (byte < 0x80) return {1, 0x7F};
  if (byte < 0xC2) return {0, 0};
  if (byte < 0xE0) return {2, 0x1F};
  if (byte == 0xE0) return {3, 0x0F, 0xA0, 0xBF};
  if (byte == 0xED) return {3, 0x0F, 0x80, 0x9F};
  if (byte < 0xF0) return {3, 0x0F};
  if (byte == 0xF0) return {4, 0x07, 0x90, 0xBF};
  if (byte < 0xF4) return {4, 0x07};
  if (byte == 0xF4) return {4, 0x07, 0x80, 0x8F};
  return {0, 0};
}

}  // namespace

Utf8Step NextUtf8(std::string_view text) {
  const auto byte = [&](size_t i) { return static_cast<uint8_t>(text[i]); };
  const Lead lead = ReadLead(byte(0));
  if (lead.bytes == 0) return {Utf8Step::kInvalid, 1, 0};
  char32_t character = byte(0) & lead.bits;
  for (size_t i = 1; i < lead.bytes; ++i) {
    if (i == text.size()) return {Utf8Step::kPartial, i, 0};
    const uint8_t low = i == 1 ? lead.low : 0x80;
    const uint8_t high = i == 1 ? lead.high : 0xBF;
    if (byte(i) < low || byte(i) > high) return {Utf8Step::kInvalid, i, 0};
    character = (character << 6) | (byte(i) & 0x3F);
  }
  return {Utf8Step::kValid, lead.bytes, character};
}

size_t ValidUtf8Prefix(std::string_view text) {
  size_t valid = 0;
  while (valid < text.size()) {
    const Utf8Step step = NextUtf8(text.substr(valid));
    if (step.kind != Utf8Step::kValid) break;
    valid += step.bytes;
  }
  return valid;
}

void AppendUtf8(char32_t character, std::string* out) {
  const auto put = [out](char32_t byte) { out->push_back(static_cast<char>(byte)); };
  const auto tail = [&](int shift) { put(0x80 | ((character >> shift) & 0x3F)); };
  if (character < 0x80) {
    put(character);
  } else if (character < 0x800) {
    put(0xC0 | (character >> 6));
    tail(0);
  } else if (character < 0x10000) {
    put(0xE0 | (character >> 12));
    tail(6);
    tail(0);
  } else {
    put(0xF0 | (character >> 18));
    tail(12);
    tail(6);
    tail(0);
  }
}

std::string Quoted(std::string_view text, size_t limit) {
  static constexpr char kHex[] = "0123456789abcdef";
  std::string out = "'";
  size_t at = 0;
  while (at < text.size() && at < limit) {
    const Utf8Step step = NextUtf8(text.substr(at));
    // C0, DEL and C1 controls, and the separators that some terminals break lines at.
    const char32_t c = step.character;
    const bool shown = step.kind == Utf8Step::kValid && c >= 0x20 && !(c >= 0x7F && c < 0xA0) &&
                       c != 0x2028 && c != 0x2029;
    for (size_t i = at; i < at + step.bytes; ++i) {
      const auto byte = static_cast<uint8_t>(text[i]);
      if (shown) {
        out += text[i];
      } else {
        out += {'\\', 'x', kHex[byte >> 4], kHex[byte & 15]};
      }
    }
    at += step.bytes;
  }
  return out + (at < text.size() ? "...'" : "'");
}

}  // namespace hob
