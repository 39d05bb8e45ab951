// The C functions of hob.h: what they refuse, and that what they compute has the bits of the
// internals and the reference, with any number of threads.
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "hob/hob.h"
#include "kernels/attention.h"
#include "kernels/matmul.h"
#include "kernels/reference.h"
#include "kernels/rows.h"
#include "tests/kernel_test_util.h"

namespace hob {
namespace {

using test::Blocks;
using test::Data;
using test::Filled;
using test::Matrix;
using test::PageBuffer;
using test::Random;
using test::RunKernel;
using test::SameMatrix;
using test::SameRow;

// The call failed with `status`, and the message contains `mention`, the argument at fault.
void ExpectError(hob_status got, hob_status status, const char* mention) {
  EXPECT_STREQ(hob_status_name(got), hob_status_name(status)) << hob_status_message();
  EXPECT_NE(std::strstr(hob_status_message(), mention), nullptr)
      << "the message is \"" << hob_status_message() << "\", without \"" << mention << '"';
  EXPECT_EQ(std::strchr(hob_status_message(), '\n'), nullptr);
}

#define EXPECT_OK(call) EXPECT_EQ((call), HOB_OK) << hob_status_message()

// Threads of the caller: one that runs the bodies backwards, and several real ones.
void Backwards(void*, size_t n, void (*body)(void*, size_t), void* argument) {
  while (n-- > 0) body(argument, n);
}
void OnThreads(void* context, size_t n, void (*body)(void*, size_t), void* argument) {
  std::atomic<size_t> next{0};
  std::vector<std::thread> threads;
  for (size_t t = 0; t < *static_cast<const size_t*>(context); ++t) {
    threads.emplace_back([&] {
      for (size_t i; (i = next.fetch_add(1)) < n;) body(argument, i);
    });
  }
  for (std::thread& thread : threads) thread.join();
}

// Calls check(threads) with none, with one that runs backwards and with three.
template <class F>
void WithThreads(F check) {
  size_t count = 3;
  const hob_threads backwards{sizeof(hob_threads), nullptr, 1, Backwards};
  const hob_threads wider{sizeof(hob_threads), nullptr, 7, Backwards};
  const hob_threads several{sizeof(hob_threads), &count, count, OnThreads};
  check(nullptr);
  check(&backwards);
  check(&wider);
  check(&several);
}

class KernelCApiTest : public test::SeededTest {};

TEST_F(KernelCApiTest, StatusNames) {
  std::set<std::string> names;
  for (int i = HOB_OK; i <= HOB_ERROR_INTERNAL; ++i) {
    const char* name = hob_status_name(static_cast<hob_status>(i));
    ASSERT_NE(name, nullptr);
    EXPECT_TRUE(names.insert(name).second) << name;
    EXPECT_EQ(std::strncmp(name, "HOB_", 4), 0) << name;
  }
  EXPECT_STREQ(hob_status_name(HOB_ERROR_SHAPE), "HOB_ERROR_SHAPE");
  EXPECT_NE(hob_status_name(static_cast<hob_status>(12345)), nullptr);
}

TEST_F(KernelCApiTest, MessagesBelongToTheirThread) {
  ExpectError(hob_format_from_name("first", nullptr), HOB_ERROR_ARGUMENT, "format");
  const std::string here = hob_status_message();
  std::thread([] {
    EXPECT_STREQ(hob_status_message(), "");
    hob_format format;
    ExpectError(hob_format_from_name("second", &format), HOB_ERROR_FORMAT, "second");
  }).join();
  EXPECT_EQ(hob_status_message(), here);
}

TEST_F(KernelCApiTest, Version) {
  const std::string want = std::to_string(HOB_VERSION_MAJOR) + "." +
                           std::to_string(HOB_VERSION_MINOR) + "." +
                           std::to_string(HOB_VERSION_PATCH);
  EXPECT_EQ(hob_version(), want);
  EXPECT_EQ(std::strncmp(hob_packed_layout(), "hob-panel-", 10), 0);
}

// ---------------------------------------------------------------- formats

TEST_F(KernelCApiTest, FormatLists) {
  const size_t count = Formats().size();
  EXPECT_EQ(hob_formats(nullptr, 0), count);
  std::vector<hob_format> formats(count + 1, HOB_FORMAT_NONE);
  EXPECT_EQ(hob_formats(formats.data(), formats.size()), count);
  EXPECT_EQ(formats[count], HOB_FORMAT_NONE);
  for (size_t i = 0; i < count; ++i) {
    const Format& format = *Formats()[i];
    EXPECT_EQ(formats[i], format.id);
    hob_format_info info{};
    info.struct_size = sizeof info;
    EXPECT_OK(hob_format_describe(formats[i], &info));
    EXPECT_STREQ(info.name, format.name);
    EXPECT_EQ(info.block_values, format.block_values);
    EXPECT_EQ(info.block_bytes, format.block_bytes);
    std::string name = format.name;
    hob_format found = HOB_FORMAT_NONE;
    EXPECT_OK(hob_format_from_name(name.c_str(), &found));
    EXPECT_EQ(found, format.id);
    for (char& c : name) c = static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
    found = HOB_FORMAT_NONE;
    EXPECT_OK(hob_format_from_name(name.c_str(), &found));
    EXPECT_EQ(found, format.id) << name;
  }
}

TEST_F(KernelCApiTest, FormatErrors) {
  hob_format_info info{};
  hob_format format;
  ExpectError(hob_format_describe(HOB_FORMAT_F32, nullptr), HOB_ERROR_ARGUMENT, "info");
  ExpectError(hob_format_describe(HOB_FORMAT_F32, &info), HOB_ERROR_ARGUMENT, "struct_size");
  info.struct_size = sizeof info;
  ExpectError(hob_format_describe(HOB_FORMAT_NONE, &info), HOB_ERROR_FORMAT, "format");
  ExpectError(hob_format_describe(static_cast<hob_format>(4), &info), HOB_ERROR_FORMAT, "4");
  ExpectError(hob_format_from_name(nullptr, &format), HOB_ERROR_ARGUMENT, "name");
  ExpectError(hob_format_from_name("", &format), HOB_ERROR_FORMAT, "");
  ExpectError(hob_format_from_name("q4_99", &format), HOB_ERROR_FORMAT, "q4_99");
}

TEST_F(KernelCApiTest, RowsEncodeAndDecode) {
  Random random(501);
  for (const Format* format : Formats()) {
    SCOPED_TRACE(format->name);
    const size_t rows = 37, k = 2 * format->block_values * (format->block_values == 1 ? 17 : 1);
    const size_t row_bytes = format->row_bytes(k);
    const std::vector<float> x = Filled(Data::kNormal, random, rows * k);
    std::vector<uint8_t> want(rows * row_bytes);
    std::vector<float> decoded(rows * k);
    for (size_t i = 0; i < rows; ++i) {
      format->encode(x.data() + i * k, k, want.data() + i * row_bytes);
      format->kernels(kScalar).dequantize(want.data() + i * row_bytes, k, decoded.data() + i * k);
    }
    WithThreads([&](const hob_threads* threads) {
      PageBuffer<uint8_t> blocks(want.size());
      EXPECT_OK(hob_quantize_rows(format->id, x.data(), rows, k, blocks.data(), threads));
      EXPECT_EQ(std::memcmp(blocks.data(), want.data(), want.size()), 0);
      PageBuffer<float> out(rows * k);
      EXPECT_OK(hob_dequantize_rows(format->id, want.data(), rows, k, out.data(), threads));
      EXPECT_TRUE(SameRow(out.data(), decoded.data(), rows * k));
    });
  }
}

TEST_F(KernelCApiTest, RowErrors) {
  float x[32] = {};
  uint8_t blocks[128] = {};
  const hob_format q8 = HOB_FORMAT_Q8_0;
  ExpectError(hob_quantize_rows(q8, nullptr, 1, 32, blocks, nullptr), HOB_ERROR_ARGUMENT, "src");
  ExpectError(hob_quantize_rows(q8, x, 1, 32, nullptr, nullptr), HOB_ERROR_ARGUMENT, "dst");
  ExpectError(hob_quantize_rows(q8, x, 1, 31, blocks, nullptr), HOB_ERROR_SHAPE, "31");
  ExpectError(hob_quantize_rows(HOB_FORMAT_NONE, x, 1, 32, blocks, nullptr), HOB_ERROR_FORMAT,
              "format");
  ExpectError(hob_dequantize_rows(q8, nullptr, 1, 32, x, nullptr), HOB_ERROR_ARGUMENT, "src");
  ExpectError(hob_dequantize_rows(q8, blocks, 1, 32, nullptr, nullptr), HOB_ERROR_ARGUMENT, "dst");
  ExpectError(hob_dequantize_rows(q8, blocks, 1, 48, x, nullptr), HOB_ERROR_SHAPE, "48");
  ExpectError(hob_dequantize_rows(HOB_FORMAT_NONE, blocks, 1, 32, x, nullptr), HOB_ERROR_FORMAT,
              "format");

  hob_threads threads{sizeof(hob_threads), nullptr, 1, Backwards};
  threads.struct_size = 0;
  ExpectError(hob_dequantize_rows(q8, blocks, 1, 32, x, &threads), HOB_ERROR_ARGUMENT,
              "struct_size");
  threads = {sizeof(hob_threads), nullptr, 0, Backwards};
  ExpectError(hob_dequantize_rows(q8, blocks, 1, 32, x, &threads), HOB_ERROR_ARGUMENT, "count");
  threads = {sizeof(hob_threads), nullptr, 1, nullptr};
  ExpectError(hob_dequantize_rows(q8, blocks, 1, 32, x, &threads), HOB_ERROR_ARGUMENT,
              "parallel_for");
}

// ---------------------------------------------------------------- matmul

// A matmul ready to be called, which a test then spoils in one place.
struct Matmul {
  const Format& format;
  size_t m, n, k;
  std::vector<uint8_t> rows;
  std::vector<float> act, bias;
  PageBuffer<uint8_t> packed;
  Matrix out;
  hob_matmul_args args{};

  Matmul(const Format& f, size_t m_, size_t n_, size_t k_, Random& random)
      : format(f),
        m(m_),
        n(n_),
        k(k_),
        rows(test::WeightRows(f, Blocks::kEncoded, random, n_, k_)),
        act(Filled(Data::kNormal, random, m_ * k_)),
        bias(Filled(Data::kNormal, random, n_)),
        packed(f.packed_bytes(n_, k_), 64),
        out(m_, n_, n_) {
    EXPECT_OK(hob_pack(f.id, rows.data(), n, k, 0, n, packed.data()));
    args.struct_size = sizeof args;
    args.format = f.id;
    args.m = m;
    args.n = n;
    args.k = k;
    args.act = act.data();
    args.packed = packed.data();
    args.bias = bias.data();
    args.out = out.data();
  }

  std::vector<float> Reference() const {
    std::vector<float> want(m * n);
    reference::Matmul(format, rows.data(), n, k, act.data(), k, m, bias.data(), nullptr,
                      want.data(), n);
    return want;
  }

  size_t WorkspaceBytes() const {
    size_t bytes = 0;
    EXPECT_OK(hob_matmul_workspace(&args, &bytes));
    return bytes;
  }
};

TEST_F(KernelCApiTest, MatmulHasTheReferencesBits) {
  Random random(502);
  for (const Format* format : Formats()) {
    for (size_t m : {1, 3, 40}) {
      for (size_t n : test::Quick() ? std::vector<size_t>{50} : std::vector<size_t>{1, 50, 333}) {
        SCOPED_TRACE(std::string(format->name) + " m " + std::to_string(m) + " n " +
                     std::to_string(n));
        Matmul matmul(*format, m, n, test::Depths(*format)[1], random);
        const std::vector<float> want = matmul.Reference();
        PageBuffer<uint8_t> workspace(matmul.WorkspaceBytes(), 64);
        WithThreads([&](const hob_threads* threads) {
          std::memset(workspace.data(), 0xff, workspace.size());
          std::fill(matmul.out.data(), matmul.out.data() + m * n, test::kNan);
          RunKernel([&] {
            EXPECT_OK(hob_matmul(&matmul.args, workspace.size() == 0 ? nullptr : workspace.data(),
                                 workspace.size(), threads));
          });
          EXPECT_TRUE(SameMatrix(matmul.out, want.data(), n, m, n));
        });
      }
    }
  }
}

TEST_F(KernelCApiTest, MatmulWithStrides) {
  Random random(503);
  for (const Format* format : Formats()) {
    SCOPED_TRACE(format->name);
    const size_t m = 5, n = 37, k = test::Depths(*format)[1];
    Matmul matmul(*format, m, n, k, random);
    Matrix act(m, k, k + 7), out(m, n, n + 3);
    act.CopyFrom(matmul.act.data(), k);
    matmul.args.act = act.data();
    matmul.args.act_stride = act.stride();
    matmul.args.out = out.data();
    matmul.args.out_stride = out.stride();
    PageBuffer<uint8_t> workspace(matmul.WorkspaceBytes(), 64);
    EXPECT_OK(hob_matmul(&matmul.args, workspace.size() == 0 ? nullptr : workspace.data(),
                         workspace.size(), nullptr));
    EXPECT_TRUE(SameMatrix(out, matmul.Reference().data(), n, m, n));
  }
}

// Gate and up of one feed-forward layer, then a third of another format and shape: the activations
// are shared, the gate is in place, and the residual comes last.
TEST_F(KernelCApiTest, MatmulGroupHasTheReferencesBits) {
  Random random(511);
  for (const Format* format : Formats()) {
    SCOPED_TRACE(format->name);
    const size_t m = 7, n = 70, k = test::Depths(*format)[1];
    Matmul gate(*format, m, n, k, random), up(*format, m, n, k, random);
    Matmul other(*FindFormat(HOB_FORMAT_BF16), m, 33, k, random);
    const std::vector<float> residual = Filled(Data::kNormal, random, m * n);
    std::vector<float> want = gate.Reference();
    const std::vector<float> want_other = [&] {
      other.act = gate.act;
      return other.Reference();
    }();
    reference::Matmul(*format, up.rows.data(), n, k, gate.act.data(), k, m, up.bias.data(),
                      residual.data(), want.data(), n, want.data());
    for (Matmul* one : {&up, &other}) one->args.act = gate.args.act;
    up.args.out = gate.args.out;
    up.args.gate = gate.args.out;
    up.args.residual = residual.data();
    const hob_matmul_args group[] = {gate.args, up.args, other.args};
    size_t bytes = 0;
    EXPECT_OK(hob_matmul_group_workspace(group, 3, &bytes));
    PageBuffer<uint8_t> workspace(bytes, 64);
    WithThreads([&](const hob_threads* threads) {
      std::memset(workspace.data(), 0xff, bytes);
      RunKernel([&] { EXPECT_OK(hob_matmul_group(group, 3, workspace.data(), bytes, threads)); });
      EXPECT_TRUE(SameMatrix(gate.out, want.data(), n, m, n));
      EXPECT_TRUE(SameMatrix(other.out, want_other.data(), 33, m, 33));
    });
  }
}

TEST_F(KernelCApiTest, MatmulGroupErrors) {
  Random random(512);
  const Format& format = *FindFormat(HOB_FORMAT_Q8_0);
  Matmul a(format, 2, 16, 64, random), b(format, 2, 16, 64, random);
  size_t bytes;
  hob_matmul_args group[] = {a.args, b.args};
  ExpectError(hob_matmul_group_workspace(group, 2, &bytes), HOB_ERROR_SHAPE, "args[1]");
  group[1].act = group[0].act;
  EXPECT_OK(hob_matmul_group_workspace(group, 2, &bytes));
  ExpectError(hob_matmul_group_workspace(group, 0, &bytes), HOB_ERROR_SHAPE, "count");
  group[1].m = 1;
  ExpectError(hob_matmul_group_workspace(group, 2, &bytes), HOB_ERROR_SHAPE, "args[1]");
  group[1].m = 2;
  // struct_size leads from one to the next: it must be a struct's, and the same in all.
  struct Longer {
    hob_matmul_args args;
    char more[64];
  } longer[2] = {{group[0], {}}, {group[1], {}}};
  longer[0].args.struct_size = longer[1].args.struct_size = sizeof(Longer);
  EXPECT_OK(hob_matmul_group_workspace(&longer[0].args, 2, &bytes));
  longer[1].args.struct_size = sizeof(hob_matmul_args);
  ExpectError(hob_matmul_group_workspace(&longer[0].args, 2, &bytes), HOB_ERROR_ARGUMENT,
              "struct_size");
  longer[0].args.struct_size = sizeof(hob_matmul_args) + 3;
  ExpectError(hob_matmul_group_workspace(&longer[0].args, 2, &bytes), HOB_ERROR_ARGUMENT,
              "multiple");
  EXPECT_OK(hob_matmul_workspace(&longer[0].args, &bytes));  // alone, there is no next
  group[1].packed = nullptr;
  ExpectError(hob_matmul_group(group, 2, nullptr, 0, nullptr), HOB_ERROR_ARGUMENT, "packed");
}

TEST_F(KernelCApiTest, MatmulOnEveryTarget) {
  Random random(504);
  Matmul matmul(*FindFormat(HOB_FORMAT_Q8_0), 4, 64, 96, random);
  const std::vector<float> want = matmul.Reference();
  PageBuffer<uint8_t> workspace(matmul.WorkspaceBytes(), 64);
  for (Target target : SupportedTargets()) {
    const test::UseTarget active(target);
    EXPECT_STREQ(hob_target(), TargetName(target));
    EXPECT_OK(hob_matmul(&matmul.args, workspace.data(), workspace.size(), nullptr));
    EXPECT_TRUE(SameMatrix(matmul.out, want.data(), 64, 4, 64));
  }
}

TEST_F(KernelCApiTest, MatmulErrors) {
  Random random(505);
  Matmul good(*FindFormat(HOB_FORMAT_Q8_0), 2, 20, 64, random);
  PageBuffer<uint8_t> workspace(good.WorkspaceBytes(), 64);
  ASSERT_GT(workspace.size(), 0u);
  const auto spoiled = [&](auto spoil) {
    hob_matmul_args args = good.args;
    spoil(args);
    return hob_matmul(&args, workspace.data(), workspace.size(), nullptr);
  };
  EXPECT_OK(spoiled([](hob_matmul_args&) {}));
  ExpectError(hob_matmul(nullptr, workspace.data(), workspace.size(), nullptr), HOB_ERROR_ARGUMENT,
              "args");
  ExpectError(spoiled([](hob_matmul_args& a) { a.struct_size = 0; }), HOB_ERROR_ARGUMENT,
              "struct_size");
  ExpectError(spoiled([](hob_matmul_args& a) { a.format = HOB_FORMAT_NONE; }), HOB_ERROR_FORMAT,
              "format");
  ExpectError(spoiled([](hob_matmul_args& a) { a.k = 63; }), HOB_ERROR_SHAPE, "63");
  ExpectError(spoiled([](hob_matmul_args& a) { a.act = nullptr; }), HOB_ERROR_ARGUMENT, "act");
  ExpectError(spoiled([](hob_matmul_args& a) { a.packed = nullptr; }), HOB_ERROR_ARGUMENT,
              "packed");
  ExpectError(spoiled([](hob_matmul_args& a) { a.out = nullptr; }), HOB_ERROR_ARGUMENT, "out");
  ExpectError(spoiled([](hob_matmul_args& a) { a.act_stride = a.k - 1; }), HOB_ERROR_SHAPE,
              "act_stride");
  ExpectError(spoiled([](hob_matmul_args& a) { a.out_stride = a.n - 1; }), HOB_ERROR_SHAPE,
              "out_stride");
  ExpectError(
      spoiled([](hob_matmul_args& a) { a.packed = static_cast<const uint8_t*>(a.packed) + 4; }),
      HOB_ERROR_ARGUMENT, "packed");
  ExpectError(hob_matmul(&good.args, nullptr, workspace.size(), nullptr), HOB_ERROR_ARGUMENT,
              "workspace");
  ExpectError(hob_matmul(&good.args, workspace.data(), workspace.size() - 1, nullptr),
              HOB_ERROR_ARGUMENT, "workspace");
  ExpectError(hob_matmul(&good.args, workspace.data() + 4, workspace.size(), nullptr),
              HOB_ERROR_ARGUMENT, "workspace");
  hob_threads threads{0, nullptr, 1, Backwards};
  ExpectError(hob_matmul(&good.args, workspace.data(), workspace.size(), &threads),
              HOB_ERROR_ARGUMENT, "struct_size");

  size_t bytes = 0;
  ExpectError(hob_matmul_workspace(nullptr, &bytes), HOB_ERROR_ARGUMENT, "args");
  ExpectError(hob_matmul_workspace(&good.args, nullptr), HOB_ERROR_ARGUMENT, "bytes");
  hob_matmul_args args = good.args;
  args.k = 33;
  ExpectError(hob_matmul_workspace(&args, &bytes), HOB_ERROR_SHAPE, "33");
}

// Sizes that overflow are refused, not computed with.
TEST_F(KernelCApiTest, HugeShapesAreRefused) {
  size_t bytes = 0;
  const size_t huge = SIZE_MAX / 2 / 64 * 64;
  EXPECT_NE(hob_packed_bytes(HOB_FORMAT_Q8_0, huge, huge, &bytes), HOB_OK);
  hob_matmul_args args{};
  args.struct_size = sizeof args;
  args.format = HOB_FORMAT_Q8_0;
  args.m = args.n = args.k = huge;
  EXPECT_NE(hob_matmul_workspace(&args, &bytes), HOB_OK);
  const hob_cache cache{sizeof(hob_cache), HOB_CACHE_F32, huge, huge, huge, nullptr, nullptr};
  EXPECT_NE(hob_cache_bytes(&cache, &bytes), HOB_OK);
}

// What fits only until it is padded to whole lanes and tiles is refused, too.
TEST_F(KernelCApiTest, HugePaddedShapesAreRefused) {
  size_t bytes = 0;
  const size_t huge = size_t{1} << 56;
  for (const hob_cache_type type : {HOB_CACHE_F32, HOB_CACHE_BF16, HOB_CACHE_Q8_0}) {
    for (int which = 0; which < 3; ++which) {
      hob_cache cache{sizeof(hob_cache), type, 1, 1, 1, nullptr, nullptr};
      (which == 0 ? cache.n_kv_heads : which == 1 ? cache.head_dim : cache.capacity) = huge;
      ExpectError(hob_cache_bytes(&cache, &bytes), HOB_ERROR_SHAPE, "too large");
    }
  }
  // A stride times the rows.
  hob_matmul_args args{};
  args.struct_size = sizeof args;
  args.format = HOB_FORMAT_Q8_0;
  args.m = 1024;
  args.n = 16;
  args.k = 32;
  EXPECT_OK(hob_matmul_workspace(&args, &bytes));
  args.act_stride = huge;
  ExpectError(hob_matmul_workspace(&args, &bytes), HOB_ERROR_SHAPE, "act_stride");
  args.act_stride = 0;
  args.out_stride = huge;
  ExpectError(hob_matmul_workspace(&args, &bytes), HOB_ERROR_SHAPE, "out_stride");
  // Query heads, which nothing else bounds.
  hob_cache cache{sizeof(hob_cache), HOB_CACHE_F32, 1, 64, 64, nullptr, nullptr};
  hob_attention_args attention{};
  attention.struct_size = sizeof attention;
  attention.cache = &cache;
  attention.m = 2;
  attention.n_heads = huge;
  ExpectError(hob_attention_workspace(&attention, nullptr, &bytes), HOB_ERROR_SHAPE, "n_heads");
  float x[4] = {}, table[4] = {};
  ExpectError(hob_rope(HOB_ROPE_HALVES, table, 4, huge, 2, 2, x), HOB_ERROR_SHAPE, "too large");
  EXPECT_OK(hob_rope(HOB_ROPE_HALVES, table, huge / 4, 0, 2, 2, x));  // at once: there is nothing
  ExpectError(hob_rope_table(0, size_t{1} << 20, huge, 1e4, 1e-9, nullptr, table), HOB_ERROR_SHAPE,
              "count");
}

// ---------------------------------------------------------------- packing and embedding

TEST_F(KernelCApiTest, PackAndEmbed) {
  Random random(506);
  for (const Format* format : Formats()) {
    SCOPED_TRACE(format->name);
    const size_t n = 70, k = test::Depths(*format)[1];
    const std::vector<uint8_t> rows = test::WeightRows(*format, Blocks::kEncoded, random, n, k);
    size_t bytes = 0;
    EXPECT_OK(hob_packed_bytes(format->id, n, k, &bytes));
    ASSERT_EQ(bytes, format->packed_bytes(n, k));
    PageBuffer<uint8_t> packed(bytes, 64), want(bytes, 64);
    PackRows(*format, rows.data(), n, k, 0, n, want.data());
    EXPECT_OK(hob_pack(format->id, rows.data(), n, k, 32, 70, packed.data()));
    EXPECT_OK(hob_pack(format->id, rows.data(), n, k, 0, 32, packed.data()));
    EXPECT_EQ(std::memcmp(packed.data(), want.data(), bytes), 0);

    const int32_t ids[] = {0, 69, 16, 15, 0};
    Matrix out(5, k, k + 2);
    EXPECT_OK(hob_embed(format->id, packed.data(), n, k, ids, 5, out.data(), out.stride()));
    for (size_t i = 0; i < 5; ++i) {
      std::vector<float> row(k);
      format->kernels(kScalar).dequantize(
          rows.data() + static_cast<size_t>(ids[i]) * format->row_bytes(k), k, row.data());
      EXPECT_TRUE(SameRow(out.row(i), row.data(), k)) << "id " << ids[i];
    }
    EXPECT_TRUE(out.GuardsIntact());
  }
}

TEST_F(KernelCApiTest, PackAndEmbedErrors) {
  const hob_format q8 = HOB_FORMAT_Q8_0;
  const size_t n = 40, k = 32;
  size_t bytes = 0;
  ExpectError(hob_packed_bytes(q8, n, k, nullptr), HOB_ERROR_ARGUMENT, "bytes");
  ExpectError(hob_packed_bytes(q8, n, 33, &bytes), HOB_ERROR_SHAPE, "33");
  ExpectError(hob_packed_bytes(HOB_FORMAT_NONE, n, k, &bytes), HOB_ERROR_FORMAT, "format");
  ASSERT_EQ(hob_packed_bytes(q8, n, k, &bytes), HOB_OK);
  std::vector<uint8_t> rows(n * 34);
  PageBuffer<uint8_t> packed(bytes, 64);
  EXPECT_OK(hob_pack(q8, rows.data(), n, k, 0, n, packed.data()));
  ExpectError(hob_pack(q8, nullptr, n, k, 0, n, packed.data()), HOB_ERROR_ARGUMENT, "rows");
  ExpectError(hob_pack(q8, rows.data(), n, k, 0, n, nullptr), HOB_ERROR_ARGUMENT, "packed");
  ExpectError(hob_pack(q8, rows.data(), n, k, 0, n, packed.data() + 8), HOB_ERROR_ARGUMENT,
              "packed");
  ExpectError(hob_pack(q8, rows.data(), n, 31, 0, n, packed.data()), HOB_ERROR_SHAPE, "31");
  for (const auto& [begin, end] : {std::pair<size_t, size_t>{8, 40}, {0, 20}, {0, 48}, {32, 16}}) {
    EXPECT_NE(hob_pack(q8, rows.data(), n, k, begin, end, packed.data()), HOB_OK)
        << begin << " to " << end;
    EXPECT_STRNE(hob_status_message(), "");
  }
  float out[2 * 32];
  int32_t ids[2] = {0, 39};
  EXPECT_OK(hob_embed(q8, packed.data(), n, k, ids, 2, out, k));
  ids[1] = 40;
  ExpectError(hob_embed(q8, packed.data(), n, k, ids, 2, out, k), HOB_ERROR_ARGUMENT, "40");
  ids[1] = -1;
  ExpectError(hob_embed(q8, packed.data(), n, k, ids, 2, out, k), HOB_ERROR_ARGUMENT, "-1");
  ids[1] = 1;
  ExpectError(hob_embed(q8, packed.data(), n, k, nullptr, 2, out, k), HOB_ERROR_ARGUMENT, "ids");
  ExpectError(hob_embed(q8, packed.data(), n, k, ids, 2, nullptr, k), HOB_ERROR_ARGUMENT, "out");
  ExpectError(hob_embed(q8, nullptr, n, k, ids, 2, out, k), HOB_ERROR_ARGUMENT, "packed");
  ExpectError(hob_embed(q8, packed.data() + 1, n, k, ids, 2, out, k), HOB_ERROR_ARGUMENT,
              "packed is not 64-byte aligned");
}

// ---------------------------------------------------------------- attention

// A cache of two KV heads filled with 100 tokens, queries of four heads at the last `m` of them.
struct Attended {
  static constexpr size_t kTokens = 100, kKvHeads = 2, kHeads = 4, kHeadDim = 24, kM = 40;
  static constexpr size_t kKvWidth = kKvHeads * kHeadDim, kWidth = kHeads * kHeadDim;

  std::vector<float> q, k, v;
  PageBuffer<uint8_t> keys, values;
  std::vector<float> out;
  hob_cache cache;
  hob_attention_args args{};

  static size_t Bytes(hob_cache_type type) {
    const hob_cache shape{sizeof(hob_cache), type, kKvHeads, kHeadDim, kTokens, nullptr, nullptr};
    size_t bytes = 0;
    EXPECT_OK(hob_cache_bytes(&shape, &bytes));
    EXPECT_EQ(bytes, CacheBytes(type, kKvHeads, kHeadDim, kTokens));
    return bytes;
  }

  Attended(hob_cache_type type, Random& random)
      : q(Filled(Data::kNormal, random, kM * kWidth)),
        k(Filled(Data::kNormal, random, kTokens * kKvWidth)),
        v(Filled(Data::kNormal, random, kTokens * kKvWidth)),
        keys(Bytes(type), 64),
        values(Bytes(type), 64),
        out(q.size()),
        cache{sizeof(hob_cache), type, kKvHeads, kHeadDim, kTokens, keys.data(), values.data()} {
    EXPECT_OK(hob_cache_append(&cache, 0, 60, k.data(), v.data()));
    EXPECT_OK(hob_cache_append(&cache, 60, 40, k.data() + 60 * kKvWidth, v.data() + 60 * kKvWidth));
    args.struct_size = sizeof args;
    args.cache = &cache;
    args.m = kM;
    args.n_heads = kHeads;
    args.pos = kTokens - kM;
    args.q = q.data();
    args.out = out.data();
  }
};

TEST_F(KernelCApiTest, AttentionHasTheReferencesBits) {
  Random random(507);
  for (hob_cache_type type : {HOB_CACHE_F32, HOB_CACHE_BF16, HOB_CACHE_Q8_0}) {
    Attended a(type, random);
    for (float scale : {0.0f, 0.3f}) {
      a.args.scale = scale;
      std::vector<float> want(a.out.size());
      const float used =
          scale == 0 ? 1.0f / std::sqrt(static_cast<float>(Attended::kHeadDim)) : scale;
      reference::Attention(type, a.q.data(), a.k.data(), a.v.data(), Attended::kM, Attended::kHeads,
                           Attended::kKvHeads, Attended::kHeadDim, a.args.pos, used, want.data());
      WithThreads([&](const hob_threads* threads) {
        size_t bytes = 0;
        EXPECT_OK(hob_attention_workspace(&a.args, threads, &bytes));
        PageBuffer<uint8_t> workspace(bytes, 64);
        std::fill(a.out.begin(), a.out.end(), test::kNan);
        RunKernel([&] { EXPECT_OK(hob_attention(&a.args, workspace.data(), bytes, threads)); });
        EXPECT_TRUE(SameRow(a.out.data(), want.data(), want.size()));
      });
    }
  }
}

TEST_F(KernelCApiTest, AttentionOptionsHaveTheReferencesBits) {
  Random random(514);
  Attended a(HOB_CACHE_BF16, random);
  for (const AttentionOptions& options :
       {AttentionOptions{.window = 20}, AttentionOptions{.window = 70, .softcap = 3.0f},
        AttentionOptions{.softcap = 0.5f, .bidirectional = true}}) {
    a.args.window = options.window;
    a.args.softcap = options.softcap;
    a.args.bidirectional = options.bidirectional ? 1 : 0;
    std::vector<float> want(a.out.size());
    reference::Attention(HOB_CACHE_BF16, a.q.data(), a.k.data(), a.v.data(), Attended::kM,
                         Attended::kHeads, Attended::kKvHeads, Attended::kHeadDim, a.args.pos,
                         1.0f / std::sqrt(static_cast<float>(Attended::kHeadDim)), want.data(),
                         options);
    WithThreads([&](const hob_threads* threads) {
      size_t bytes = 0;
      EXPECT_OK(hob_attention_workspace(&a.args, threads, &bytes));
      PageBuffer<uint8_t> workspace(bytes, 64);
      std::fill(a.out.begin(), a.out.end(), test::kNan);
      RunKernel([&] { EXPECT_OK(hob_attention(&a.args, workspace.data(), bytes, threads)); });
      EXPECT_TRUE(SameRow(a.out.data(), want.data(), want.size()));
    });
  }
}

// Few rows: threads share the keys.
TEST_F(KernelCApiTest, AttentionOfOneRowHasTheReferencesBits) {
  Random random(515);
  constexpr size_t kTokens = 900, kHeads = 6, kKvHeads = 2, kDim = 24, kWidth = kKvHeads * kDim;
  const auto q = Filled(Data::kNormal, random, kHeads * kDim);
  const auto k = Filled(Data::kNormal, random, kTokens * kWidth);
  const auto v = Filled(Data::kNormal, random, kTokens * kWidth);
  hob_cache cache{sizeof(hob_cache), HOB_CACHE_BF16, kKvHeads, kDim, kTokens, nullptr, nullptr};
  size_t bytes = 0;
  EXPECT_OK(hob_cache_bytes(&cache, &bytes));
  PageBuffer<uint8_t> keys(bytes, 64), values(bytes, 64);
  cache.keys = keys.data();
  cache.values = values.data();
  EXPECT_OK(hob_cache_append(&cache, 0, kTokens, k.data(), v.data()));
  std::vector<float> out(q.size()), want(q.size());
  reference::Attention(HOB_CACHE_BF16, q.data(), k.data(), v.data(), 1, kHeads, kKvHeads, kDim,
                       kTokens - 1, 0.2f, want.data());
  hob_attention_args args{};
  args.struct_size = sizeof(args);
  args.cache = &cache;
  args.m = 1;
  args.n_heads = kHeads;
  args.pos = kTokens - 1;
  args.scale = 0.2f;
  args.q = q.data();
  args.out = out.data();
  WithThreads([&](const hob_threads* threads) {
    EXPECT_OK(hob_attention_workspace(&args, threads, &bytes));
    PageBuffer<uint8_t> workspace(bytes, 64);
    std::fill(out.begin(), out.end(), test::kNan);
    RunKernel([&] { EXPECT_OK(hob_attention(&args, workspace.data(), bytes, threads)); });
    EXPECT_TRUE(SameRow(out.data(), want.data(), want.size()));
  });
}

// The workspace of that many threads would not fit a size_t.
TEST_F(KernelCApiTest, TooManyThreadsAreRefused) {
  Random random(513);
  Attended good(HOB_CACHE_F32, random);
  size_t bytes = 0;
  hob_threads threads{sizeof(hob_threads), nullptr, 1024, Backwards};
  EXPECT_OK(hob_attention_workspace(&good.args, &threads, &bytes));
  const size_t one = AttentionWorkspace(good.cache.head_dim);
  EXPECT_GE(bytes, 1024 * one);
  for (const size_t count : {size_t{1025}, SIZE_MAX / one + 2, SIZE_MAX}) {
    threads.count = count;
    ExpectError(hob_attention_workspace(&good.args, &threads, &bytes), HOB_ERROR_ARGUMENT, "1024");
  }
}

TEST_F(KernelCApiTest, AttentionErrors) {
  Random random(508);
  Attended good(HOB_CACHE_BF16, random);
  size_t bytes = 0;
  ASSERT_EQ(hob_attention_workspace(&good.args, nullptr, &bytes), HOB_OK);
  PageBuffer<uint8_t> workspace(bytes, 64);
  const auto spoiled = [&](auto spoil) {
    hob_cache cache = good.cache;
    hob_attention_args args = good.args;
    args.cache = &cache;
    spoil(args, cache);
    return hob_attention(&args, workspace.data(), bytes, nullptr);
  };
  using Args = hob_attention_args;
  using Cache = hob_cache;
  EXPECT_OK(spoiled([](Args&, Cache&) {}));
  ExpectError(hob_attention(nullptr, workspace.data(), bytes, nullptr), HOB_ERROR_ARGUMENT, "args");
  ExpectError(spoiled([](Args& a, Cache&) { a.struct_size = 0; }), HOB_ERROR_ARGUMENT,
              "struct_size");
  ExpectError(spoiled([](Args& a, Cache&) { a.cache = nullptr; }), HOB_ERROR_ARGUMENT, "cache");
  ExpectError(spoiled([](Args&, Cache& c) { c.struct_size = 0; }), HOB_ERROR_ARGUMENT,
              "struct_size");
  ExpectError(spoiled([](Args&, Cache& c) { c.type = static_cast<hob_cache_type>(3); }),
              HOB_ERROR_ARGUMENT, "type");
  ExpectError(spoiled([](Args&, Cache& c) { c.keys = nullptr; }), HOB_ERROR_ARGUMENT, "keys");
  ExpectError(spoiled([](Args&, Cache& c) { c.values = nullptr; }), HOB_ERROR_ARGUMENT, "values");
  ExpectError(spoiled([](Args&, Cache& c) { c.keys = static_cast<uint8_t*>(c.keys) + 4; }),
              HOB_ERROR_ARGUMENT, "keys");
  ExpectError(spoiled([](Args& a, Cache&) { a.q = nullptr; }), HOB_ERROR_ARGUMENT, "q");
  ExpectError(spoiled([](Args& a, Cache&) { a.out = nullptr; }), HOB_ERROR_ARGUMENT, "out");
  ExpectError(spoiled([](Args& a, Cache&) { a.n_heads = 3; }), HOB_ERROR_SHAPE, "n_heads");
  ExpectError(spoiled([](Args& a, Cache&) { a.pos += 1; }), HOB_ERROR_SHAPE, "pos");
  ExpectError(spoiled([](Args& a, Cache&) { a.pos = SIZE_MAX; }), HOB_ERROR_SHAPE, "pos");
  for (float bad : {-1.0f, test::kNan, test::kInf}) {
    ExpectError(spoiled([&](Args& a, Cache&) { a.softcap = bad; }), HOB_ERROR_ARGUMENT, "softcap");
  }
  ExpectError(spoiled([](Args& a, Cache&) { a.window = 5, a.bidirectional = 1; }),
              HOB_ERROR_ARGUMENT, "window");
  ExpectError(hob_attention(&good.args, nullptr, bytes, nullptr), HOB_ERROR_ARGUMENT, "workspace");
  ExpectError(hob_attention(&good.args, workspace.data(), bytes - 1, nullptr), HOB_ERROR_ARGUMENT,
              "workspace");
  ExpectError(hob_attention_workspace(&good.args, nullptr, nullptr), HOB_ERROR_ARGUMENT, "bytes");

  ExpectError(hob_cache_bytes(nullptr, &bytes), HOB_ERROR_ARGUMENT, "cache");
  ExpectError(hob_cache_bytes(&good.cache, nullptr), HOB_ERROR_ARGUMENT, "bytes");
  const float *k = good.k.data(), *v = good.v.data();
  ExpectError(hob_cache_append(nullptr, 0, 1, k, v), HOB_ERROR_ARGUMENT, "cache");
  ExpectError(hob_cache_append(&good.cache, 0, 1, nullptr, v), HOB_ERROR_ARGUMENT, "k");
  ExpectError(hob_cache_append(&good.cache, 0, 1, k, nullptr), HOB_ERROR_ARGUMENT, "v");
  ExpectError(hob_cache_append(&good.cache, 100, 1, k, v), HOB_ERROR_SHAPE, "pos");
  ExpectError(hob_cache_append(&good.cache, SIZE_MAX, 2, k, v), HOB_ERROR_SHAPE, "pos");
}

// ---------------------------------------------------------------- rows

TEST_F(KernelCApiTest, RowOpsHaveTheReferencesBits) {
  Random random(509);
  const size_t m = 3, n = 50;
  const std::vector<float> x = Filled(Data::kNormal, random, m * n);
  const std::vector<float> y = Filled(Data::kNormal, random, m * n);
  std::vector<float> got(m * n), want(m * n);

  EXPECT_OK(hob_rms_norm(x.data(), y.data(), 1e-5f, m, n, got.data()));
  for (size_t i = 0; i < m; ++i) {
    reference::RmsNorm(x.data() + i * n, y.data(), 1e-5f, n, want.data() + i * n);
  }
  EXPECT_TRUE(SameRow(got.data(), want.data(), m * n)) << "rms_norm";

  EXPECT_OK(hob_softmax(x.data(), m, n, got.data()));
  for (size_t i = 0; i < m; ++i) reference::Softmax(x.data() + i * n, n, want.data() + i * n);
  EXPECT_TRUE(SameRow(got.data(), want.data(), m * n)) << "softmax";

  EXPECT_OK(hob_silu_mul(x.data(), y.data(), m * n, got.data()));
  reference::SiluMul(x.data(), y.data(), m * n, want.data());
  EXPECT_TRUE(SameRow(got.data(), want.data(), m * n)) << "silu_mul";

  EXPECT_OK(hob_gelu_mul(x.data(), y.data(), m * n, got.data()));
  reference::GeluMul(x.data(), y.data(), m * n, want.data());
  EXPECT_TRUE(SameRow(got.data(), want.data(), m * n)) << "gelu_mul";

  EXPECT_OK(hob_add(x.data(), y.data(), m * n, got.data()));
  reference::Add(x.data(), y.data(), m * n, want.data());
  EXPECT_TRUE(SameRow(got.data(), want.data(), m * n)) << "add";

  int32_t index[m];
  EXPECT_OK(hob_argmax(x.data(), m, n, index));
  for (size_t i = 0; i < m; ++i) {
    EXPECT_EQ(static_cast<size_t>(index[i]), reference::Argmax(x.data() + i * n, n));
  }

  for (hob_rope_style style : {HOB_ROPE_INTERLEAVED, HOB_ROPE_HALVES}) {
    std::vector<float> table(m * 8), internal(m * 8);
    EXPECT_OK(hob_rope_table(7, m, 8, 10000.0, 1.0, nullptr, table.data()));
    RopeTable(7, m, 8, 10000.0, 1.0, nullptr, internal.data());
    EXPECT_TRUE(SameRow(table.data(), internal.data(), m * 8)) << "rope_table";
    got = want = x;
    EXPECT_OK(hob_rope(style, table.data(), m, 5, 10, 8, got.data()));
    for (size_t i = 0; i < m; ++i) {
      reference::Rope(style, table.data() + i * 8, 5, 10, 8, want.data() + i * n);
    }
    EXPECT_TRUE(SameRow(got.data(), want.data(), m * n)) << "rope";
  }
}

TEST_F(KernelCApiTest, QuantizeActivationsHasTheReferencesBits) {
  Random random(510);
  const size_t m = 4, k = 96;
  const std::vector<float> x = Filled(Data::kNormal, random, m * k);
  std::vector<int8_t> codes(m * k), want_codes(m * k);
  std::vector<float> scales(m * 3), want_scales(m * 3);
  std::vector<int32_t> sums(2 * m * 3);
  EXPECT_OK(hob_quantize_activations(x.data(), m, k, codes.data(), scales.data()));
  reference::QuantizeQ8(x.data(), m * 3, kBlock, want_codes.data(), 1, want_scales.data(),
                        sums.data());
  EXPECT_EQ(codes, want_codes);
  EXPECT_TRUE(SameRow(scales.data(), want_scales.data(), m * 3));
}

TEST_F(KernelCApiTest, RowOpErrors) {
  std::vector<float> x(64), out(64);
  int32_t index[1];
  int8_t codes[64];
  const float* none = nullptr;
  ExpectError(hob_rms_norm(none, x.data(), 1e-5f, 1, 64, out.data()), HOB_ERROR_ARGUMENT, "x");
  ExpectError(hob_rms_norm(x.data(), none, 1e-5f, 1, 64, out.data()), HOB_ERROR_ARGUMENT, "weight");
  ExpectError(hob_rms_norm(x.data(), x.data(), 1e-5f, 1, 64, nullptr), HOB_ERROR_ARGUMENT, "out");
  ExpectError(hob_softmax(none, 1, 64, out.data()), HOB_ERROR_ARGUMENT, "x");
  ExpectError(hob_softmax(x.data(), 1, 64, nullptr), HOB_ERROR_ARGUMENT, "out");
  ExpectError(hob_silu_mul(none, x.data(), 64, out.data()), HOB_ERROR_ARGUMENT, "gate");
  ExpectError(hob_silu_mul(x.data(), none, 64, out.data()), HOB_ERROR_ARGUMENT, "up");
  ExpectError(hob_silu_mul(x.data(), x.data(), 64, nullptr), HOB_ERROR_ARGUMENT, "out");
  ExpectError(hob_gelu_mul(none, x.data(), 64, out.data()), HOB_ERROR_ARGUMENT, "gate");
  ExpectError(hob_gelu_mul(x.data(), none, 64, out.data()), HOB_ERROR_ARGUMENT, "up");
  ExpectError(hob_gelu_mul(x.data(), x.data(), 64, nullptr), HOB_ERROR_ARGUMENT, "out");
  ExpectError(hob_add(none, x.data(), 64, out.data()), HOB_ERROR_ARGUMENT, "a");
  ExpectError(hob_add(x.data(), none, 64, out.data()), HOB_ERROR_ARGUMENT, "b");
  ExpectError(hob_add(x.data(), x.data(), 64, nullptr), HOB_ERROR_ARGUMENT, "out");
  ExpectError(hob_argmax(none, 1, 64, index), HOB_ERROR_ARGUMENT, "x");
  ExpectError(hob_argmax(x.data(), 1, 64, nullptr), HOB_ERROR_ARGUMENT, "index");
  EXPECT_NE(hob_argmax(x.data(), 1, 0, index), HOB_OK);
  ExpectError(hob_rms_norm(x.data(), x.data(), 1e-5f, 0, SIZE_MAX / 4, out.data()), HOB_ERROR_SHAPE,
              "m x n");
  ExpectError(hob_rope_table(0, 0, SIZE_MAX - 1, 1e4, 1.0, x.data(), out.data()), HOB_ERROR_SHAPE,
              "count x n_rot");
  EXPECT_EQ(hob_rope_table(0, 0, size_t{1} << 56, 1e4, 1.0, nullptr, out.data()), HOB_OK)
      << "no positions are done at once, however wide the head";
  ExpectError(hob_rope_table(0, 1, 64, 10000.0, 1.0, nullptr, nullptr), HOB_ERROR_ARGUMENT,
              "table");
  EXPECT_NE(hob_rope_table(0, 1, 63, 10000.0, 1.0, nullptr, out.data()), HOB_OK) << "odd n_rot";
  EXPECT_STRNE(hob_status_message(), "");
  ExpectError(hob_rope(HOB_ROPE_HALVES, none, 1, 1, 64, 64, out.data()), HOB_ERROR_ARGUMENT,
              "table");
  ExpectError(hob_rope(HOB_ROPE_HALVES, x.data(), 1, 1, 64, 64, nullptr), HOB_ERROR_ARGUMENT, "x");
  EXPECT_NE(hob_rope(static_cast<hob_rope_style>(7), x.data(), 1, 1, 64, 64, out.data()), HOB_OK);
  ExpectError(hob_rope(HOB_ROPE_HALVES, x.data(), 1, 1, 32, 64, out.data()), HOB_ERROR_SHAPE,
              "n_rot");
  ExpectError(hob_quantize_activations(none, 1, 64, codes, out.data()), HOB_ERROR_ARGUMENT, "x");
  ExpectError(hob_quantize_activations(x.data(), 1, 64, nullptr, out.data()), HOB_ERROR_ARGUMENT,
              "codes");
  ExpectError(hob_quantize_activations(x.data(), 1, 64, codes, nullptr), HOB_ERROR_ARGUMENT,
              "scales");
  ExpectError(hob_quantize_activations(x.data(), 1, 63, codes, out.data()), HOB_ERROR_SHAPE, "63");
}

}  // namespace
}  // namespace hob
