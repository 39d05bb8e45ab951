// Every kernel on every instruction set that this CPU has, beside the scalar reference, bit for
// bit: random op, format and shape, data of awkward kinds or any bits at all.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <string>
#include <vector>

#include "kernels/attention.h"
#include "kernels/formats.h"
#include "kernels/matmul.h"
#include "kernels/reference.h"
#include "kernels/rows.h"
#include "kernels/targets.h"
#include "runtime/aligned_buffer.h"
#include "tests/fuzz/fuzz.h"

namespace {

using hob::fuzz::Broken;
using hob::fuzz::Input;
using hob::fuzz::Numbers;

constexpr uint32_t kAwkward[] = {0x00000000, 0x80000000, 0x00000001, 0x807fffff, 0x00800000,
                                 0x80800000, 0x7f7fffff, 0xff7fffff, 0x7f800000, 0xff800000,
                                 0x7fc00000, 0x3f800000, 0xbf800000, 0x3effffff, 0x1f800000,
                                 0x20000000, 0x42fe0000, 0xc2ce8ed0};

// `count` floats of a kind that the input chooses; the input's own bytes are one kind.
std::vector<float> Floats(Input* input, size_t count) {
  std::vector<float> x(count);
  const uint8_t kind = input->Take<uint8_t>() % 5;
  Numbers numbers(input->Take<uint32_t>());
  for (float& value : x) {
    const uint64_t number = numbers.Next();
    const auto bits = static_cast<uint32_t>(number);
    const float ordinary = static_cast<float>(static_cast<int32_t>(bits)) * 0x1p-31F;
    switch (kind) {
      case 0:
        value = ordinary;
        break;
      case 1:  // mostly ordinary
        value = number >> 32 & 15 ? ordinary : std::bit_cast<float>(kAwkward[(number >> 40) % 18]);
        break;
      case 2:
        value = std::bit_cast<float>(bits);
        break;
      case 3:  // products of two lie where numbers turn subnormal
        value = std::ldexp(ordinary, -40 - static_cast<int>(number >> 58));
        break;
      default:
        value = input->Take<float>();
    }
  }
  return x;
}

std::vector<uint8_t> WeightRows(Input* input, const hob::Format& format, size_t n, size_t k) {
  std::vector<uint8_t> rows(n * format.row_bytes(k));
  if (input->Flag()) {
    for (size_t i = 0; i < n; ++i) {
      const std::vector<float> x = Floats(input, k);
      format.encode(x.data(), k, rows.data() + i * format.row_bytes(k));
    }
    return rows;
  }
  Numbers numbers(input->Take<uint32_t>());
  for (uint8_t& byte : rows) byte = static_cast<uint8_t>(numbers.Next());
  const std::vector<uint8_t> given = input->Bytes(std::min<size_t>(rows.size(), 64));
  std::copy(given.begin(), given.end(), rows.begin());
  return rows;
}

// Any NaN is as good as another.
void Compare(const std::vector<float>& got, const std::vector<float>& want, const std::string& what,
             hob::Target target) {
  for (size_t i = 0; i < want.size(); ++i) {
    if (std::bit_cast<uint32_t>(got[i]) == std::bit_cast<uint32_t>(want[i])) continue;
    if (std::isnan(got[i]) && std::isnan(want[i])) continue;
    char text[200];
    std::snprintf(text, sizeof(text), "%s on %s: [%zu] is %a, by the reference %a", what.c_str(),
                  hob::TargetName(target), i, static_cast<double>(got[i]),
                  static_cast<double>(want[i]));
    Broken(text);
  }
}

template <typename F>
void OnEveryTarget(F check) {
  for (const hob::Target target : hob::SupportedTargets()) {
    hob::CapTarget(hob::TargetName(target));  // what prepares the activations
    check(target);
  }
  hob::CapTarget(nullptr);
}

void Matmul(Input* input) {
  const auto formats = hob::Formats();
  const hob::Format& format = *formats[input->Below(formats.size())];
  const size_t m = 1 + input->Below(19), n = 1 + input->Below(50);
  const size_t k = format.block_values == 1
                       ? 1 + input->Below(100)
                       : format.block_values * (1 + input->Below(512 / format.block_values));
  const bool with_bias = input->Flag(), with_residual = input->Flag(), with_gate = input->Flag();
  const std::vector<uint8_t> rows = WeightRows(input, format, n, k);
  const std::vector<float> act = Floats(input, m * k), bias = Floats(input, n);
  const std::vector<float> residual = Floats(input, m * n), gate = Floats(input, m * n);
  std::vector<float> want(m * n);
  hob::reference::Matmul(
      format, rows.data(), n, k, act.data(), k, m, with_bias ? bias.data() : nullptr,
      with_residual ? residual.data() : nullptr, want.data(), n, with_gate ? gate.data() : nullptr);

  hob::AlignedBuffer packed(format.packed_bytes(n, k));
  hob::PackRows(format, rows.data(), n, k, 0, n, packed.data());
  hob::AlignedBuffer prepared(hob::ActivationBytes(format.act, m, k));
  const std::string what = std::string("matmul ") + format.name + " m " + std::to_string(m) +
                           " n " + std::to_string(n) + " k " + std::to_string(k);
  OnEveryTarget([&](hob::Target target) {
    hob::PrepareActivations(format.act, act.data(), k, m, k, 0, m, prepared.data());
    std::vector<float> out(m * n);
    hob::MatmulTask task{
        m,
        n,
        k,
        packed.data(),
        format.act == hob::ActKind::kF32 ? static_cast<const void*>(act.data()) : prepared.data(),
        k,
        with_bias ? bias.data() : nullptr,
        with_residual ? residual.data() : nullptr,
        out.data(),
        n,
        with_gate ? gate.data() : nullptr};
    format.kernels(target).matmul(task, 0, (n + hob::kPanel - 1) / hob::kPanel);
    Compare(out, want, what, target);
  });
}

void Dequantize(Input* input) {
  const auto formats = hob::Formats();
  const hob::Format& format = *formats[input->Below(formats.size())];
  const size_t k = format.block_values * (1 + input->Below(format.block_values == 1 ? 100 : 4));
  const std::vector<uint8_t> row = WeightRows(input, format, 1, k);
  std::vector<float> want(k);
  format.kernels(hob::kScalar).dequantize(row.data(), k, want.data());
  OnEveryTarget([&](hob::Target target) {
    std::vector<float> out(k);
    format.kernels(target).dequantize(row.data(), k, out.data());
    Compare(out, want, std::string("dequantize ") + format.name, target);
  });
}

void Attention(Input* input) {
  const auto type = static_cast<hob_cache_type>(input->Below(3));
  const size_t head_dim = 1 + input->Below(80), kv_heads = 1 + input->Below(2);
  const size_t group = 1 + input->Below(4), m = 1 + input->Below(9);
  const size_t pos = input->Flag() ? input->Below(300) : input->Below(40);
  const size_t heads = kv_heads * group, width = kv_heads * head_dim, tokens = pos + m;
  const float scale =
      input->Flag() ? 1 / std::sqrt(static_cast<float>(head_dim)) : input->Take<float>();
  const hob::AttentionOptions options = {input->Flag() ? 0 : input->Below(200),
                                         input->Flag() ? 0.0F : 0.25F + 8 * input->Flag(),
                                         input->Below(4) == 0};
  const std::vector<float> q = Floats(input, m * heads * head_dim);
  const std::vector<float> k = Floats(input, tokens * width), v = Floats(input, tokens * width);
  std::vector<float> want(q.size());
  hob::reference::Attention(type, q.data(), k.data(), v.data(), m, heads, kv_heads, head_dim, pos,
                            scale, want.data(), options);
  const size_t bytes = hob::CacheBytes(type, kv_heads, head_dim, tokens);
  OnEveryTarget([&](hob::Target target) {
    hob::AlignedBuffer keys(bytes), values(bytes);
    hob::AlignedBuffer workspace(hob::AttentionWorkspace(head_dim));
    std::memset(keys.data(), 0xff, bytes);  // NaN: what was never written must not be seen
    std::memset(values.data(), 0xff, bytes);
    std::memset(workspace.data(), 0xff, hob::AttentionWorkspace(head_dim));
    const hob::CacheView view{type, kv_heads, head_dim, tokens, keys.data(), values.data()};
    const hob::AttentionKernels& kernels = hob::AttentionFor(target);
    kernels.append(view, 0, tokens, k.data(), v.data(), width);
    std::vector<float> out(q.size());
    const hob::AttentionTask task{view, m, heads, pos, scale, q.data(), out.data(), options};
    const size_t rows = m * group, block = hob::kRowBlock;
    for (size_t head = 0; head < kv_heads; ++head) {
      for (size_t row = 0; row < rows; row += block) {
        kernels.attend(task, head, row, std::min(row + block, rows), workspace.data());
      }
    }
    Compare(out, want, "attention", target);
  });
}

void Rows(Input* input) {
  const size_t op = input->Below(8), n = 1 + input->Below(200);
  const std::vector<float> x = Floats(input, n), y = Floats(input, n);
  const float eps = input->Take<float>();
  const size_t heads = 1 + input->Below(3), head_dim = n / heads, pairs = head_dim / 2;
  const auto style = input->Flag() ? HOB_ROPE_HALVES : HOB_ROPE_INTERLEAVED;
  // One kernel table to one row of numbers, in floats.
  const auto run = [&](const hob::RowKernels& kernels) {
    std::vector<float> out(n);
    switch (op) {
      case 0:
        kernels.rms_norm(x.data(), y.data(), eps, n, out.data());
        break;
      case 1:
        out = x;
        kernels.rope(style, y.data(), heads, head_dim, 2 * pairs, out.data());
        break;
      case 2:
        kernels.softmax(x.data(), n, out.data());
        break;
      case 3:
        kernels.silu_mul(x.data(), y.data(), n, out.data());
        break;
      case 4:
        kernels.add(x.data(), y.data(), n, out.data());
        break;
      case 5:
        out[0] = static_cast<float>(kernels.argmax(x.data(), n));
        break;
      case 6:
        kernels.gelu_mul(x.data(), y.data(), n, out.data());
        break;
      default: {
        const size_t blocks = n / hob::kBlock;
        std::vector<int8_t> codes(blocks * hob::kBlock);
        std::vector<float> scales(blocks);
        std::vector<int32_t> sums(2 * blocks);
        kernels.quantize_q8(x.data(), blocks, hob::kBlock, codes.data(), 1, scales.data(),
                            sums.data());
        out.assign(codes.begin(), codes.end());
        out.insert(out.end(), scales.begin(), scales.end());
        out.insert(out.end(), sums.begin(), sums.end());
      }
    }
    return out;
  };
  const std::vector<float> want = run(hob::RowsFor(hob::kScalar));
  OnEveryTarget([&](hob::Target target) {
    Compare(run(hob::RowsFor(target)), want, "row op " + std::to_string(op), target);
  });
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  Input input(data, size);
  switch (input.Below(8)) {
    case 0:
      Attention(&input);
      break;
    case 1:
      Dequantize(&input);
      break;
    case 2:
    case 3:
      Rows(&input);
      break;
    default:
      Matmul(&input);
  }
  return 0;
}
