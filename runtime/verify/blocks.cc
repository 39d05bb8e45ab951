#include "runtime/verify/blocks.h"

#include <bit>
#include <cmath>
#include <cstring>
#include <limits>

namespace hob::verify {
namespace {

// What one block holds.
struct Block {
  double* scale;  // (values / sub)
  double* min;
  double* level;  // (values)
};

struct Layout {
  const char* name;
  size_t values, bytes, sub;  // bytes: of a block
  bool has_min;
  void (*read)(const uint8_t* in, const Block& out);
};

double F16(const uint8_t* at) {
  const int bits = at[0] | at[1] << 8, exponent = bits >> 10 & 31, mantissa = bits & 1023;
  const double sign = bits >> 15 != 0 ? -1 : 1;
  if (exponent == 31) {
    return mantissa != 0 ? std::numeric_limits<double>::quiet_NaN() : sign * HUGE_VAL;
  }
  return sign *
         (exponent == 0 ? std::ldexp(mantissa, -24) : std::ldexp(1024 + mantissa, exponent - 25));
}

// Code i of `bits` bits each, where a byte has codes that are `apart` apart, from its low bits up.
int Code(const uint8_t* bytes, size_t bits, size_t apart, size_t i) {
  const size_t group = apart * (8 / bits);
  const uint8_t byte = bytes[i / group * apart + i % apart];
  return byte >> (i % group / apart * bits) & ((1 << bits) - 1);
}

constexpr int kUneven[16] = {-127, -104, -83, -65, -49, -35, -22, -10,
                             1,    13,   25,  38,  53,  69,  89,  113};
// Of mxfp4, doubled.
constexpr int kFloat4[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};

void ReadF32(const uint8_t* in, const Block& out) {
  float value;
  std::memcpy(&value, in, sizeof(value));
  out.level[0] = static_cast<double>(value);
}

void ReadBF16(const uint8_t* in, const Block& out) {
  const auto bits = static_cast<uint32_t>(in[0]) << 16 | static_cast<uint32_t>(in[1]) << 24;
  out.level[0] = static_cast<double>(std::bit_cast<float>(bits));
}

// Blocks of one scale. Calls level(i) for each.
template <class Level>
void ReadSimple(const uint8_t* d, size_t values, size_t sub, const Block& out, Level level) {
  for (size_t i = 0; i < values / sub; ++i) out.scale[i] = F16(d);
  for (size_t i = 0; i < values; ++i) out.level[i] = level(i);
}

void ReadQ8_0(const uint8_t* in, const Block& out) {
  ReadSimple(in, 32, 32, out, [&](size_t i) { return static_cast<int8_t>(in[2 + i]); });
}
void ReadQ4_0(const uint8_t* in, const Block& out) {
  ReadSimple(in, 32, 32, out, [&](size_t i) { return Code(in + 2, 4, 16, i) - 8; });
}
void ReadQ4_1(const uint8_t* in, const Block& out) {
  ReadSimple(in, 32, 32, out, [&](size_t i) { return Code(in + 4, 4, 16, i); });
  out.min[0] = -F16(in + 2);
}
void ReadQ5_0(const uint8_t* in, const Block& out) {
  ReadSimple(in, 32, 32, out,
             [&](size_t i) { return Code(in + 6, 4, 16, i) + 16 * Code(in + 2, 1, 1, i) - 16; });
}
void ReadQ5_1(const uint8_t* in, const Block& out) {
  ReadSimple(in, 32, 32, out,
             [&](size_t i) { return Code(in + 8, 4, 16, i) + 16 * Code(in + 4, 1, 1, i); });
  out.min[0] = -F16(in + 2);
}
void ReadIQ4_NL(const uint8_t* in, const Block& out) {
  ReadSimple(in, 32, 32, out, [&](size_t i) { return kUneven[Code(in + 2, 4, 16, i)]; });
}
void ReadQ1_0(const uint8_t* in, const Block& out) {
  ReadSimple(in, 128, 32, out, [&](size_t i) { return 2 * Code(in + 2, 1, 1, i) - 1; });
}
void ReadTQ2_0(const uint8_t* in, const Block& out) {
  ReadSimple(in + 64, 256, 32, out, [&](size_t i) { return Code(in, 2, 32, i) - 1; });
}
void ReadMXFP4(const uint8_t* in, const Block& out) {
  ReadSimple(in, 32, 32, out, [&](size_t i) { return kFloat4[Code(in + 1, 4, 16, i)]; });
  out.scale[0] = std::ldexp(1.0, in[0] - 128);
}

// Digits in base 3: those of a byte are the leading ones of byte / 256.
void ReadTQ1_0(const uint8_t* in, const Block& out) {
  ReadSimple(in + 52, 256, 32, out, [&](size_t i) {
    const size_t part = i < 160 ? 0 : i < 240 ? 1 : 2;  // of 32, 16 and 4 bytes
    const size_t bytes = size_t{32} >> (part == 2 ? 3 : part),
                 first = part == 0 ? 0 : 80 + 80 * part;
    int rest = in[(part == 0 ? 0 : 16 + 16 * part) + (i - first) % bytes];
    for (size_t digit = (i - first) / bytes; digit > 0; --digit) rest = rest * 3 % 256;
    return rest * 3 / 256 - 1;
  });
}

void ReadQ2_K(const uint8_t* in, const Block& out) {
  for (size_t i = 0; i < 16; ++i) {
    out.scale[i] = F16(in + 80) * (in[i] & 15);
    out.min[i] = F16(in + 82) * (in[i] >> 4);
  }
  for (size_t i = 0; i < 256; ++i) out.level[i] = Code(in + 16, 2, 32, i);
}

void ReadQ3_K(const uint8_t* in, const Block& out) {
  for (size_t i = 0; i < 16; ++i) {
    const int scale = Code(in + 96, 4, 8, i) + 16 * Code(in + 104, 2, 4, i);
    out.scale[i] = F16(in + 108) * (scale - 32);
  }
  for (size_t i = 0; i < 256; ++i) {
    out.level[i] = Code(in + 32, 2, 32, i) + 4 * Code(in, 1, 32, i) - 4;
  }
}

// The header of q4_k and q5_k.
void ReadSixBits(const uint8_t* in, const Block& out) {
  const uint8_t* packed = in + 4;
  for (size_t i = 0; i < 8; ++i) {
    const size_t j = i % 4;
    const int scale = i < 4 ? packed[j] & 63 : (packed[8 + j] & 15) | packed[j] >> 6 << 4;
    const int min = i < 4 ? packed[4 + j] & 63 : packed[8 + j] >> 4 | packed[4 + j] >> 6 << 4;
    out.scale[i] = F16(in) * scale;
    out.min[i] = F16(in + 2) * min;
  }
}
void ReadQ4_K(const uint8_t* in, const Block& out) {
  ReadSixBits(in, out);
  for (size_t i = 0; i < 256; ++i) out.level[i] = Code(in + 16, 4, 32, i);
}
void ReadQ5_K(const uint8_t* in, const Block& out) {
  ReadSixBits(in, out);
  for (size_t i = 0; i < 256; ++i) {
    out.level[i] = Code(in + 48, 4, 32, i) + 16 * Code(in + 16, 1, 32, i);
  }
}

void ReadQ6_K(const uint8_t* in, const Block& out) {
  for (size_t i = 0; i < 16; ++i) out.scale[i] = F16(in + 208) * static_cast<int8_t>(in[192 + i]);
  for (size_t i = 0; i < 256; ++i) {
    out.level[i] = Code(in, 4, 64, i) + 16 * Code(in + 128, 2, 32, i) - 32;
  }
}

void ReadIQ4_XS(const uint8_t* in, const Block& out) {
  for (size_t i = 0; i < 8; ++i) {
    const int scale = Code(in + 4, 4, 1, i) + 16 * Code(in + 2, 2, 1, i);
    out.scale[i] = F16(in) * (scale - 32);
  }
  for (size_t i = 0; i < 256; ++i) out.level[i] = kUneven[Code(in + 8, 4, 16, i)];
}

constexpr Layout kLayouts[] = {
    {"f32", 1, 4, 1, false, ReadF32},
    {"f16", 1, 2, 1, false, [](const uint8_t* in, const Block& out) { out.level[0] = F16(in); }},
    {"bf16", 1, 2, 1, false, ReadBF16},
    {"q4_0", 32, 18, 32, false, ReadQ4_0},
    {"q4_1", 32, 20, 32, true, ReadQ4_1},
    {"q5_0", 32, 22, 32, false, ReadQ5_0},
    {"q5_1", 32, 24, 32, true, ReadQ5_1},
    {"q8_0", 32, 34, 32, false, ReadQ8_0},
    {"q2_k", 256, 84, 16, true, ReadQ2_K},
    {"q3_k", 256, 110, 16, false, ReadQ3_K},
    {"q4_k", 256, 144, 32, true, ReadQ4_K},
    {"q5_k", 256, 176, 32, true, ReadQ5_K},
    {"q6_k", 256, 210, 16, false, ReadQ6_K},
    {"iq4_nl", 32, 18, 32, false, ReadIQ4_NL},
    {"iq4_xs", 256, 136, 32, false, ReadIQ4_XS},
    {"tq1_0", 256, 54, 32, false, ReadTQ1_0},
    {"tq2_0", 256, 66, 32, false, ReadTQ2_0},
    {"mxfp4", 32, 17, 32, false, ReadMXFP4},
    {"q1_0", 128, 18, 32, false, ReadQ1_0},
};

const Layout* FindLayout(std::string_view format) {
  for (const Layout& layout : kLayouts) {
    if (format == layout.name) return &layout;
  }
  return nullptr;
}

}  // namespace

bool HasLayout(std::string_view format) { return FindLayout(format) != nullptr; }

Parts TakeApart(std::string_view format, const uint8_t* blocks, size_t k) {
  const Layout& layout = *FindLayout(format);
  Parts parts = {layout.sub, layout.has_min, std::vector<double>(k / layout.sub, 1.0),
                 std::vector<double>(k / layout.sub), std::vector<double>(k)};
  for (size_t i = 0; i < k; i += layout.values, blocks += layout.bytes) {
    layout.read(blocks,
                {&parts.scale[i / layout.sub], &parts.min[i / layout.sub], &parts.level[i]});
  }
  return parts;
}

}  // namespace hob::verify
