// The same bits on every machine: digests of every op's results on fixed inputs, computed on the
// targets of whatever CPU runs this, must equal the constants below. The other tests compare the
// targets of one machine with each other; this one compares machines.
//
// A change that is meant to change bits (docs/numerics.md, and the changelog says so) changes the
// constants: the failure prints the new ones.
#include <gtest/gtest.h>

#include <bit>
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "kernels/attention.h"
#include "kernels/formats.h"
#include "kernels/matmul.h"
#include "kernels/rows.h"
#include "kernels/targets.h"

namespace hob {
namespace {

// FNV-1a (Fowler, Noll, Vo).
uint64_t Digest(std::span<const uint8_t> bytes) {
  uint64_t hash = 0xcbf29ce484222325;
  for (uint8_t byte : bytes) hash = (hash ^ byte) * 0x100000001b3;
  return hash;
}

// Of the bytes of the values, lowest first.
uint64_t Digest(const std::vector<float>& values) {
  static_assert(std::endian::native == std::endian::little);
  return Digest({reinterpret_cast<const uint8_t*>(values.data()), values.size() * sizeof(float)});
}

// Values of about [-range, range), a linear congruential generator's (Numerical Recipes).
std::vector<float> Values(size_t count, uint32_t seed, float range) {
  std::vector<float> values(count);
  for (float& value : values) {
    seed = seed * 1664525 + 1013904223;
    value = (static_cast<float>(seed >> 8) * 0x1p-23f - 1.0f) * range;
  }
  return values;
}

// 64-byte aligned zeros.
class Aligned {
 public:
  explicit Aligned(size_t bytes) : storage_(bytes + 64) {}
  uint8_t* data() {
    return storage_.data() + (64 - reinterpret_cast<uintptr_t>(storage_.data()) % 64) % 64;
  }

 private:
  std::vector<uint8_t> storage_;
};

// A matrix of every format, packed.
constexpr size_t kN = 37, kK = 256;

Aligned PackedWeights(const Format& format) {
  const std::vector<float> weights = Values(kN * kK, 1, 0.7f);
  std::vector<uint8_t> rows(kN * format.row_bytes(kK));
  for (size_t n = 0; n < kN; ++n) {
    format.encode(weights.data() + n * kK, kK, rows.data() + n * format.row_bytes(kK));
  }
  Aligned packed(format.packed_bytes(kN, kK));
  PackRows(format, rows.data(), kN, kK, 0, kN, packed.data());
  return packed;
}

uint64_t PackDigest(const Format& format) {
  return Digest({PackedWeights(format).data(), format.packed_bytes(kN, kK)});
}

uint64_t MatmulDigest(const Format& format) {
  constexpr size_t kM = 9;
  const std::vector<float> act = Values(kM * kK, 2, 3.0f);
  Aligned packed = PackedWeights(format), prepared(ActivationBytes(format.act, kM, kK));
  PrepareActivations(format.act, act.data(), kK, kM, kK, 0, kM, prepared.data());
  std::vector<float> out(kM * kN);
  const void* x = format.act == ActKind::kF32 ? static_cast<const void*>(act.data())
                                              : static_cast<const void*>(prepared.data());
  MatmulPanels(format, {kM, kN, kK, packed.data(), x, kK, nullptr, nullptr, out.data(), kN}, 0,
               (kN + kPanel - 1) / kPanel);
  return Digest(out);
}

uint64_t AttentionDigest(hob_cache_type type) {
  constexpr size_t kHeads = 6, kKvHeads = 2, kDim = 40, kTokens = 330, kQueries = 21;
  const std::vector<float> k = Values(kTokens * kKvHeads * kDim, 3, 1.5f);
  const std::vector<float> v = Values(kTokens * kKvHeads * kDim, 4, 1.0f);
  const std::vector<float> q = Values(kQueries * kHeads * kDim, 5, 2.0f);
  const size_t bytes = CacheBytes(type, kKvHeads, kDim, kTokens);
  Aligned keys(bytes), values(bytes), workspace(AttentionWorkspace(kDim));
  const CacheView cache = {type, kKvHeads, kDim, kTokens, keys.data(), values.data()};
  Attention().append(cache, 0, kTokens, k.data(), v.data(), kKvHeads * kDim);
  std::vector<float> out(q.size());
  const AttentionTask task = {cache, kQueries, kHeads,    kTokens - kQueries,
                              0.16f, q.data(), out.data()};
  const AttentionDivision division = DivideAttention(task, 1);
  for (size_t unit = 0; unit < division.units; ++unit) {
    AttentionUnit(task, division, unit, workspace.data(), nullptr);
  }
  return Digest(out);
}

uint64_t RowsDigest() {
  constexpr size_t kN = 333;
  const std::vector<float> x = Values(kN, 6, 20.0f), y = Values(kN, 7, 5.0f);
  std::vector<float> all, out(kN), table(64);
  const auto keep = [&] { all.insert(all.end(), out.begin(), out.end()); };
  Rows().rms_norm(x.data(), y.data(), 1e-5f, kN, out.data());
  keep();
  Rows().softmax(x.data(), kN, out.data());
  keep();
  Rows().silu_mul(x.data(), y.data(), kN, out.data());
  keep();
  RopeTable(1234, 1, 64, 10000.0, 1.0, nullptr, table.data());
  all.insert(all.end(), table.begin(), table.end());
  for (const hob_rope_style style : {HOB_ROPE_INTERLEAVED, HOB_ROPE_HALVES}) {
    out = x;
    Rows().rope(style, table.data(), 4, 80, 64, out.data());
    keep();
  }
  return Digest(all);
}

struct Golden {
  const char* name;
  uint64_t digest;
};

// Computed with the scalar target on x86-64.
constexpr Golden kGolden[] = {
    {"rows", 0x75407d7450ecb58e},           {"attention f32", 0x1f90fb0e67f7cece},
    {"attention bf16", 0x71321698424e72ad}, {"matmul f32", 0x164eaabc58dd4d2e},
    {"matmul f16", 0xe572e9cda42cfe98},     {"matmul bf16", 0xec8f04f3c7cdc483},
    {"matmul q8_0", 0x71a0809e8da08c9e},    {"matmul q4_0", 0x564eef3143004772},
    {"matmul q4_1", 0x2c8d59c304fb528d},    {"matmul q5_0", 0x3efa2e1e8d3824e4},
    {"matmul q5_1", 0x693dc7db4ad87a8a},    {"matmul q2_k", 0x95b68ed017c525e5},
    {"matmul q3_k", 0x8cce6368d00c3d46},    {"matmul q4_k", 0xc2c1a7e832d1a642},
    {"matmul q5_k", 0xeed9ba47f3af2eeb},    {"matmul q6_k", 0xb12461154e65b55c},
    {"matmul iq4_nl", 0xde652a79613efb0d},  {"matmul iq4_xs", 0x22d3a0c1ebe0b1b2},
    {"matmul tq1_0", 0x4dc06b07427e0332},   {"matmul tq2_0", 0x4dc06b07427e0332},
    {"matmul mxfp4", 0xe6d9c02b82eb9ef7},   {"pack f32", 0xc1f2ec1d88200fb2},
    {"pack f16", 0x2e84b1401454ba84},       {"pack q4_0", 0x60bd086ac490ccbe},
    {"pack q4_1", 0x835fd5a67a0bfb69},      {"pack q5_0", 0xba3511c5d44b6686},
    {"pack q5_1", 0x46f26840218f0521},      {"pack q8_0", 0x97bd8c16fcf9a10c},
    {"pack q2_k", 0xb1fec6d73fb6fd7b},      {"pack q3_k", 0xbad923bb41a4a347},
    {"pack q4_k", 0x43b36c7d1f147311},      {"pack q5_k", 0xd27b89f078ca150c},
    {"pack q6_k", 0x395db9bd47664bde},      {"pack iq4_nl", 0xe86f0c33c29910e1},
    {"pack iq4_xs", 0xd3f7dab19e455f52},    {"pack bf16", 0xf17414e3ad7539d8},
    {"pack tq1_0", 0x37747a049dcd733e},     {"pack tq2_0", 0x962215e791264de7},
    {"pack mxfp4", 0xd1bc94737f5af5cc},     {"pack q1_0", 0x9bc0708c00a41814},
};

// Against the constant; without one (a new format) against the first target's digest.
void Expect(const std::string& name, uint64_t digest) {
  static std::map<std::string, uint64_t> known = [] {
    std::map<std::string, uint64_t> map;
    for (const Golden& golden : kGolden) map[golden.name] = golden.digest;
    return map;
  }();
  const uint64_t want = known.try_emplace(name, digest).first->second;
  EXPECT_EQ(digest, want) << "{\"" << name << "\", 0x" << std::hex << digest << "}, on "
                          << TargetName(ActiveTarget());
}

TEST(GoldenBits, EveryOpOnEveryTarget) {
  for (const Target target : SupportedTargets()) {
    ASSERT_TRUE(CapTarget(TargetName(target)));
    Expect("rows", RowsDigest());
    Expect("attention f32", AttentionDigest(HOB_CACHE_F32));
    Expect("attention bf16", AttentionDigest(HOB_CACHE_BF16));
    for (const Format* format : Formats()) {
      Expect(std::string("pack ") + format->name, PackDigest(*format));
    }
    for (const Format* format : Formats()) {
      Expect(std::string("matmul ") + format->name, MatmulDigest(*format));
    }
  }
  CapTarget(nullptr);
}

}  // namespace
}  // namespace hob
