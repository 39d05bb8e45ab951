// The ops on rows of floats: quantizing, rounding to bf16, RMSNorm, RoPE, softmax, SiLU * mul, GELU
// * mul, add, argmax. The bounds are derived in docs/numerics.md.

#include <algorithm>
#include <cmath>

#include "kernels/reference.h"
#include "runtime/verify/bounds.h"
#include "runtime/verify/ops.h"

namespace hob::verify {
namespace {

constexpr size_t kMost = 65536;
constexpr size_t kLengths[] = {1, 2, 15, 16, 17, 31, 33, 64, 333};
constexpr Fill kFills[] = {
    Fill::kNormal,    Fill::kSpecials, Fill::kOneNan, Fill::kOneInfinity, Fill::kNearUnderflow,
    Fill::kSubnormal, Fill::kHuge,     Fill::kEqual,  Fill::kZeros,       Fill::kHalfMax};

std::vector<std::string> NoVariants() { return {"-"}; }

// Calls make(fill, n, case, random) for every kind and length wanted; it adds the inputs.
template <class Make>
std::vector<Case> ForEachLength(const char* op, const std::string& variant, Extent extent,
                                std::span<const size_t> lengths, Make make) {
  std::vector<Case> cases;
  for (const Fill fill : kFills) {
    for (const size_t n : lengths) {
      if (extent == Extent::kFew &&
          (n != 33 || (fill != Fill::kNormal && fill != Fill::kSpecials))) {
        continue;
      }
      Case c = {op, variant, std::string(FillName(fill)) + ", n " + std::to_string(n), {}, {}};
      c.numbers["n"] = static_cast<double>(n);
      Random random(std::string(op) + variant + c.name);
      make(fill, n, &c, random);
      cases.push_back(std::move(c));
    }
  }
  return cases;
}

size_t LengthOf(const Case& c) { return Size(c, "n", 1, kMost); }
const float* Floats(const Case& c, const char* name, size_t n) {
  return Values<float>(c, name, {n}).data();
}
Outputs OneOutput(const std::vector<float>& out) { return {MakeArray("out", {out.size()}, out)}; }

// ---------------------------------------------------------------- quantize

std::vector<Case> MakeQuantize(const std::string& variant, Extent extent) {
  // In blocks; around the chunks of 32.
  constexpr size_t kBlocks[] = {1, 2, 3, 31, 32, 33, 70};
  return ForEachLength(
      "quantize", variant, extent, kBlocks, [](Fill fill, size_t n, Case* c, Random& random) {
        c->inputs = {MakeArray("x", {n, kBlock}, Filled(fill, random, n * kBlock))};
      });
}

template <class Function>
Outputs Quantize(const Case& c, Function quantize) {
  const size_t blocks = LengthOf(c);
  const std::span<const float> x = Values<float>(c, "x", {blocks, kBlock});
  std::vector<int8_t> codes(blocks * kBlock);
  std::vector<float> scales(blocks);
  std::vector<int32_t> sums(blocks * 2);
  quantize(x.data(), blocks, kBlock, codes.data(), 1, scales.data(), sums.data());
  return {MakeArray("codes", {blocks, kBlock}, codes), MakeArray("scales", {blocks}, scales),
          MakeArray("sums", {blocks, 2}, sums)};
}

// code * scale is at most half a scale from x, and what the roundings of inverse and scale make of
// 127.
std::vector<Checked> CheckQuantize(const Case& c, const Outputs& outputs) {
  const size_t blocks = LengthOf(c);
  const std::span<const float> x = Values<float>(c, "x", {blocks, kBlock});
  std::vector<Checked> checked;
  for (size_t i = 0; i < x.size(); ++i) {
    const auto scale = static_cast<double>(outputs[1].as<float>()[i / kBlock]);
    const double got = outputs[0].as<int8_t>()[i] * scale;
    double bound = scale * (0.5 + 127 * 3 * kU) + 128 * kTiny, want = static_cast<double>(x[i]);
    if (std::isnan(scale)) want = scale;                      // a NaN or an infinity in the block
    if (scale == 0) bound = 127 / kFloatMax * (1 + 0x1p-20);  // too small to invert
    checked.push_back({got, want, bound});
  }
  return checked;
}

// ---------------------------------------------------------------- bf16

std::vector<Case> MakeBF16(const std::string& variant, Extent extent) {
  return ForEachLength("bf16", variant, extent, kLengths,
                       [](Fill fill, size_t n, Case* c, Random& random) {
                         c->inputs = {MakeArray("x", {n}, Filled(fill, random, n))};
                       });
}

template <class Function>
Outputs ToBF16(const Case& c, Function to_pairs) {
  const size_t n = LengthOf(c);
  std::vector<uint32_t> out((n + 1) / 2);
  to_pairs(Floats(c, "x", n), n, out.data());
  return {MakeArray("out", {out.size()}, out)};
}

std::vector<Checked> CheckBF16(const Case& c, const Outputs& outputs) {
  const size_t n = LengthOf(c);
  const float* x = Floats(c, "x", n);
  std::vector<Checked> checked;
  for (size_t i = 0; i < n; ++i) {
    const uint32_t pair = outputs[0].as<uint32_t>()[i / 2];
    const float got = std::bit_cast<float>(i % 2 == 0 ? pair & 0xFFFF0000 : pair << 16);
    const double want = static_cast<double>(x[i]);
    const bool overflow = std::isfinite(x[i]) && std::fabs(want) >= 0x1.ffp127;
    checked.push_back({static_cast<double>(got), want,
                       overflow ? kUnbounded : 0x1p-8 * std::fabs(want) + 0x1p-126});
  }
  return checked;
}

// ---------------------------------------------------------------- RMSNorm

std::vector<Case> MakeRmsNorm(const std::string& variant, Extent extent) {
  return ForEachLength("rms_norm", variant, extent, kLengths,
                       [](Fill fill, size_t n, Case* c, Random& random) {
                         c->numbers["eps"] = static_cast<double>(n % 2 == 0 ? 1e-6f : 1e-5f);
                         c->inputs = {MakeArray("x", {n}, Filled(fill, random, n)),
                                      MakeArray("weight", {n}, Filled(Fill::kNormal, random, n))};
                       });
}

template <class Function>
Outputs RmsNorm(const Case& c, Function rms_norm) {
  const size_t n = LengthOf(c);
  std::vector<float> out(n);
  rms_norm(Floats(c, "x", n), Floats(c, "weight", n), Number(c, "eps"), n, out.data());
  return OneOutput(out);
}

std::vector<Checked> CheckRmsNorm(const Case& c, const Outputs& outputs) {
  const size_t n = LengthOf(c);
  const float *x = Floats(c, "x", n), *weight = Floats(c, "weight", n);
  Sum squares;
  for (size_t i = 0; i < n; ++i) squares.Add(static_cast<double>(x[i]) * static_cast<double>(x[i]));
  const Bounded sum = Chain(squares, (n + 15) / 16 + 4);
  const double count = static_cast<double>(n), eps = static_cast<double>(Number(c, "eps"));
  const Bounded mean =
      Plus(Rounded(sum.want / count, sum.bound / count), Exactly(Number(c, "eps")));
  const double inverse = 1 / std::sqrt(squares.value() / count + eps);
  // Half the relative error of what is under the root, then the root and the quotient.
  const double relative = mean.bound / mean.want / 2 * (1 + mean.bound / mean.want) + 2 * kU;
  const bool usable = sum.bound != kUnbounded && relative < 0.01;
  const Bounded factor = {inverse, usable ? inverse * relative * (1 + 0x1p-20) : kUnbounded};
  std::vector<Checked> checked;
  for (size_t i = 0; i < n; ++i) {
    const Bounded value = Times(Times(Exactly(x[i]), factor), Exactly(weight[i]));
    const bool finite = std::isfinite(squares.value());  // otherwise every output is NaN or 0
    checked.push_back({static_cast<double>(outputs[0].as<float>()[i]), value.want,
                       finite || std::isnan(squares.value()) ? value.bound : kUnbounded});
  }
  return checked;
}

// ---------------------------------------------------------------- RoPE

std::vector<std::string> RopeStyles() { return {"interleaved", "halves"}; }

hob_rope_style StyleOf(const Case& c) {
  if (c.variant == "interleaved") return HOB_ROPE_INTERLEAVED;
  if (c.variant == "halves") return HOB_ROPE_HALVES;
  Refuse(c, "there is no RoPE style of that name");
}

std::vector<Case> MakeRope(const std::string& variant, Extent extent) {
  struct Form {
    size_t heads, dim, rot;
  };
  constexpr Form kForms[] = {{1, 2, 2}, {3, 34, 34}, {4, 80, 64}, {2, 33, 30}};
  std::vector<Case> cases;
  for (const Form& form : kForms) {
    for (const Fill fill : kFills) {
      if (extent == Extent::kFew && (form.dim != 33 || fill != Fill::kNormal)) continue;
      Case c = {"rope", variant, "", {}, {}};
      c.name = std::string(FillName(fill)) + ", head_dim " + std::to_string(form.dim) + " n_rot " +
               std::to_string(form.rot);
      c.numbers = {{"n_heads", form.heads}, {"head_dim", form.dim}, {"n_rot", form.rot}};
      Random random("rope" + variant + c.name);
      std::vector<float> table(form.rot);
      RopeTable(random.Below(5000), 1, form.rot, 10000.0, 1.0, nullptr, table.data());
      c.inputs = {
          MakeArray("table", {form.rot}, table),
          MakeArray("x", {form.heads, form.dim}, Filled(fill, random, form.heads * form.dim))};
      cases.push_back(std::move(c));
    }
  }
  return cases;
}

struct RopeInputs {
  size_t heads, dim, rot;
  const float *table, *x;
};

RopeInputs RopeInputsOf(const Case& c) {
  const size_t heads = Size(c, "n_heads", 1, kMost), dim = Size(c, "head_dim", 1, kMost);
  const size_t rot = Size(c, "n_rot", 2, dim);
  if (rot % 2 != 0) Refuse(c, "n_rot is odd");
  return {heads, dim, rot, Floats(c, "table", rot), Values<float>(c, "x", {heads, dim}).data()};
}

template <class Function>
Outputs Rope(const Case& c, Function rope) {
  const RopeInputs in = RopeInputsOf(c);
  std::vector<float> x(in.x, in.x + in.heads * in.dim);
  rope(StyleOf(c), in.table, in.heads, in.dim, in.rot, x.data());
  return {MakeArray("out", {in.heads, in.dim}, x)};
}

std::vector<Checked> CheckRope(const Case& c, const Outputs& outputs) {
  const RopeInputs in = RopeInputsOf(c);
  const bool halves = StyleOf(c) == HOB_ROPE_HALVES;
  std::vector<Checked> checked(in.heads * in.dim);
  for (size_t i = 0; i < checked.size(); ++i) {
    const float* head = in.x + i / in.dim * in.dim;
    const size_t d = i % in.dim, half = in.rot / 2;
    const double got = static_cast<double>(outputs[0].as<float>()[i]);
    if (d >= in.rot) {
      checked[i] = {got, static_cast<double>(head[d]), 0};
      continue;
    }
    const size_t pair = halves ? d % half : d / 2;
    const bool first = halves ? d < half : d % 2 == 0;
    const size_t other = halves ? (first ? d + half : d - half) : d ^ 1;
    // The second product rounds by itself, the first in the fused multiply-add.
    const Bounded product = Times(Exactly(head[other]), Exactly(in.table[2 * pair + 1]));
    const double fused = static_cast<double>(head[d]) * static_cast<double>(in.table[2 * pair]);
    const double want = first ? fused - product.want : fused + product.want;
    const Bounded value = Rounded(want, product.bound);
    checked[i] = {got, value.want, value.bound};
  }
  return checked;
}

std::vector<Case> MakeRopeTable(const std::string& variant, Extent extent) {
  struct Form {
    size_t first, count, rot;
    double base, freq_scale;
    bool factors;
  };
  constexpr Form kForms[] = {{0, 17, 64, 10000, 1, false},
                             {1000, 3, 64, 500000, 1, true},
                             {131000, 2, 128, 1000000, 1, false},
                             {77, 2, 30, 10000, 0.25, false}};
  std::vector<Case> cases;
  for (const Form& form : kForms) {
    if (extent == Extent::kFew && form.rot == 128) continue;
    Case c = {"rope_table", variant, "first " + std::to_string(form.first), {}, {}};
    c.numbers = {{"first", form.first},
                 {"count", form.count},
                 {"n_rot", form.rot},
                 {"base", form.base},
                 {"freq_scale", form.freq_scale}};
    Random random("rope_table" + c.name);
    std::vector<float> factors(form.rot / 2);
    for (float& factor : factors) factor = 4 + random.Normal();
    if (form.factors) c.inputs.push_back(MakeArray("factors", {form.rot / 2}, factors));
    cases.push_back(std::move(c));
  }
  return cases;
}

struct RopeTableInputs {
  size_t first, count, rot;
  double base, freq_scale;
  const float* factors;
};

RopeTableInputs RopeTableInputsOf(const Case& c) {
  const size_t rot = Size(c, "n_rot", 2, 4096);
  if (rot % 2 != 0) Refuse(c, "n_rot is odd");
  Number(c, "base"), Number(c, "freq_scale");
  return {Size(c, "first", 0, 1 << 20), Size(c, "count", 1, 4096),        rot, c.numbers.at("base"),
          c.numbers.at("freq_scale"),   Optional(c, "factors", {rot / 2})};
}

Outputs MakeTable(const Case& c) {
  const RopeTableInputs in = RopeTableInputsOf(c);
  std::vector<float> table(in.count * in.rot);
  RopeTable(in.first, in.count, in.rot, in.base, in.freq_scale, in.factors, table.data());
  return {MakeArray("out", {in.count, in.rot}, table)};
}

// In long double where that is more than double; otherwise the oracle is the C library's own.
std::vector<Checked> CheckRopeTable(const Case& c, const Outputs& outputs) {
  using Long = long double;
  const RopeTableInputs in = RopeTableInputsOf(c);
  std::vector<Checked> checked;
  for (size_t i = 0; i < in.count * in.rot; ++i) {
    const size_t position = in.first + i / in.rot, pair = i % in.rot / 2;
    Long frequency = std::pow(static_cast<Long>(in.base),
                              -2 * static_cast<Long>(pair) / static_cast<Long>(in.rot));
    frequency *= static_cast<Long>(in.freq_scale);
    if (in.factors != nullptr) frequency /= static_cast<Long>(in.factors[pair]);
    const Long angle = static_cast<Long>(position) * frequency;
    const auto want = static_cast<double>(i % 2 == 0 ? std::cos(angle) : std::sin(angle));
    const double angle_error = static_cast<double>(angle) * 0x1p-48 + 0x1p-50;
    checked.push_back(
        {static_cast<double>(outputs[0].as<float>()[i]), want, kU * std::fabs(want) + angle_error});
  }
  return checked;
}

// ---------------------------------------------------------------- softmax

std::vector<Case> MakeSoftmax(const std::string& variant, Extent extent) {
  std::vector<Case> cases = ForEachLength("softmax", variant, extent, kLengths,
                                          [](Fill fill, size_t n, Case* c, Random& random) {
                                            std::vector<float> x = Filled(fill, random, n);
                                            for (float& value : x) value *= 20;
                                            c->inputs = {MakeArray("x", {n}, x)};
                                          });
  for (const size_t n : {size_t{1}, size_t{17}, size_t{33}}) {
    Case c = {"softmax", variant, "all masked, n " + std::to_string(n), {{"n", n}}, {}};
    c.inputs = {MakeArray("x", {n}, std::vector<float>(n, -HUGE_VALF))};
    if (extent == Extent::kAll || n == 17) cases.push_back(std::move(c));
  }
  return cases;
}

template <class Function>
Outputs Softmax(const Case& c, Function softmax) {
  const size_t n = LengthOf(c);
  std::vector<float> out(n);
  softmax(Floats(c, "x", n), n, out.data());
  return OneOutput(out);
}

std::vector<Checked> CheckSoftmax(const Case& c, const Outputs& outputs) {
  const size_t n = LengthOf(c);
  const float* x = Floats(c, "x", n);
  double max = -HUGE_VAL;
  for (size_t i = 0; i < n; ++i)
    max = std::max(max, std::isnan(x[i]) ? max : static_cast<double>(x[i]));
  if (max == -HUGE_VAL) max = 0;
  // Relative errors of the terms: the subtraction's error goes through exp.
  const auto term = [&](size_t i) { return std::exp(static_cast<double>(x[i]) - max); };
  const auto error = [&](size_t i) {
    const double d = max - static_cast<double>(x[i]);
    return std::isfinite(d) ? std::expm1(kU * d) + kExpError : 0;
  };
  double sum = 0, sum_error = 0;
  for (size_t i = 0; i < n; ++i) {
    sum += term(i);
    if (term(i) > 0) sum_error += term(i) * std::min(error(i), 1.0) + kTiny;
  }
  const double sum_relative = sum_error / sum + Gamma((n + 15) / 16 + 4);
  std::vector<Checked> checked;
  for (size_t i = 0; i < n; ++i) {
    const double want = sum == 0 ? 0 : term(i) / sum;
    const double relative = (error(i) + sum_relative + 2 * kU) * (1 + 0x1p-10);
    // Below the normal range the exponential loses up to a unit, the product half a one.
    checked.push_back({static_cast<double>(outputs[0].as<float>()[i]), want,
                       want == 0 ? 2 * kTiny : want * relative + 2 * kTiny});
  }
  return checked;
}

// ---------------------------------------------------------------- element by element

std::vector<Case> MakePairs(const char* op, const char* a, const char* b, float range,
                            const std::string& variant, Extent extent) {
  return ForEachLength(
      op, variant, extent, kLengths, [&](Fill fill, size_t n, Case* c, Random& random) {
        std::vector<float> first = Filled(fill, random, n);
        for (float& value : first) value *= range;
        c->inputs = {MakeArray(a, {n}, first), MakeArray(b, {n}, Filled(fill, random, n))};
      });
}

// An activation of the gate times up.
std::vector<Case> MakeGated(const char* op, float step, const std::string& variant, Extent extent) {
  std::vector<Case> cases = MakePairs(op, "gate", "up", 8, variant, extent);
  // All the way down to where exp overflows.
  Case c = {op, variant, "sweep, n 512", {{"n", 512}}, {}};
  std::vector<float> gate(512);
  for (size_t i = 0; i < gate.size(); ++i) gate[i] = (static_cast<float>(i) - 256.0f) * step;
  c.inputs = {MakeArray("gate", {512}, gate),
              MakeArray("up", {512}, std::vector<float>(512, 1.0f))};
  if (extent == Extent::kAll) cases.push_back(std::move(c));
  return cases;
}

std::vector<Case> MakeSiluMul(const std::string& variant, Extent extent) {
  return MakeGated("silu_mul", 0.375f, variant, extent);
}

std::vector<Case> MakeGeluMul(const std::string& variant, Extent extent) {
  return MakeGated("gelu_mul", 0.0421875f, variant, extent);
}

std::vector<Case> MakeAdd(const std::string& variant, Extent extent) {
  return MakePairs("add", "a", "b", 1, variant, extent);
}

template <class Function>
Outputs Pairs(const Case& c, const char* a, const char* b, Function function) {
  const size_t n = LengthOf(c);
  std::vector<float> out(n);
  function(Floats(c, a, n), Floats(c, b, n), n, out.data());
  return OneOutput(out);
}

template <class Activation>
std::vector<Checked> CheckGated(const Case& c, const Outputs& outputs, Activation activation) {
  const size_t n = LengthOf(c);
  const float *gate = Floats(c, "gate", n), *up = Floats(c, "up", n);
  std::vector<Checked> checked;
  for (size_t i = 0; i < n; ++i) {
    const Bounded value = Times(activation(gate[i]), Exactly(up[i]));
    checked.push_back({static_cast<double>(outputs[0].as<float>()[i]), value.want, value.bound});
  }
  return checked;
}

std::vector<Checked> CheckSiluMul(const Case& c, const Outputs& outputs) {
  return CheckGated(c, outputs, Silu);
}

std::vector<Checked> CheckGeluMul(const Case& c, const Outputs& outputs) {
  return CheckGated(c, outputs, Gelu);
}

std::vector<Checked> CheckAdd(const Case& c, const Outputs& outputs) {
  const size_t n = LengthOf(c);
  const float *a = Floats(c, "a", n), *b = Floats(c, "b", n);
  std::vector<Checked> checked;
  for (size_t i = 0; i < n; ++i) {
    const Bounded value = Plus(Exactly(a[i]), Exactly(b[i]));
    checked.push_back({static_cast<double>(outputs[0].as<float>()[i]), value.want, value.bound});
  }
  return checked;
}

// ---------------------------------------------------------------- argmax

std::vector<Case> MakeArgmax(const std::string& variant, Extent extent) {
  std::vector<Case> cases = ForEachLength(
      "argmax", variant, extent, kLengths, [](Fill fill, size_t n, Case* c, Random& random) {
        c->inputs = {MakeArray("x", {n}, Filled(fill, random, n))};
      });
  Case c = {"argmax", variant, "all NaN, n 33", {{"n", 33}}, {}};
  c.inputs = {MakeArray("x", {33}, std::vector<float>(33, std::nanf("")))};
  cases.push_back(std::move(c));
  return cases;
}

template <class Function>
Outputs Argmax(const Case& c, Function argmax) {
  const size_t n = LengthOf(c);
  const std::vector<int32_t> index = {static_cast<int32_t>(argmax(Floats(c, "x", n), n))};
  return {MakeArray("out", {1}, index)};
}

std::vector<Checked> CheckArgmax(const Case& c, const Outputs& outputs) {
  const size_t n = LengthOf(c);
  const float* x = Floats(c, "x", n);
  size_t best = n;
  for (size_t i = 0; i < n; ++i) {
    if (!std::isnan(x[i]) && (best == n || x[i] > x[best])) best = i;
  }
  return {{static_cast<double>(outputs[0].as<int32_t>()[0]),
           static_cast<double>(best == n ? 0 : best), 0}};
}

}  // namespace

std::vector<Op> RowOps() {
  namespace r = reference;
  return {
      {"quantize", "activations to 8-bit codes", false, NoVariants, MakeQuantize,
       [](const Case& c) { return Quantize(c, r::QuantizeQ8); },
       [](const Case& c, const Kernels& k) { return Quantize(c, k.rows.quantize_q8); },
       CheckQuantize},
      {"bf16", "activations rounded to bf16", false, NoVariants, MakeBF16,
       [](const Case& c) { return ToBF16(c, r::ToBF16Pairs); },
       [](const Case& c, const Kernels& k) { return ToBF16(c, k.rows.to_bf16_pairs); }, CheckBF16},
      {"rms_norm", "RMSNorm", false, NoVariants, MakeRmsNorm,
       [](const Case& c) { return RmsNorm(c, r::RmsNorm); },
       [](const Case& c, const Kernels& k) { return RmsNorm(c, k.rows.rms_norm); }, CheckRmsNorm},
      {"rope", "rotation of pairs by a table", false, RopeStyles, MakeRope,
       [](const Case& c) { return Rope(c, r::Rope); },
       [](const Case& c, const Kernels& k) { return Rope(c, k.rows.rope); }, CheckRope},
      {"rope_table", "its cosines and sines", false, NoVariants, MakeRopeTable, MakeTable,
       [](const Case& c, const Kernels&) { return MakeTable(c); }, CheckRopeTable},
      {"softmax", "softmax", false, NoVariants, MakeSoftmax,
       [](const Case& c) { return Softmax(c, r::Softmax); },
       [](const Case& c, const Kernels& k) { return Softmax(c, k.rows.softmax); }, CheckSoftmax},
      {"silu_mul", "SiLU(gate) * up", false, NoVariants, MakeSiluMul,
       [](const Case& c) { return Pairs(c, "gate", "up", r::SiluMul); },
       [](const Case& c, const Kernels& k) { return Pairs(c, "gate", "up", k.rows.silu_mul); },
       CheckSiluMul},
      {"gelu_mul", "GELU(gate) * up", false, NoVariants, MakeGeluMul,
       [](const Case& c) { return Pairs(c, "gate", "up", r::GeluMul); },
       [](const Case& c, const Kernels& k) { return Pairs(c, "gate", "up", k.rows.gelu_mul); },
       CheckGeluMul},
      {"add", "addition", false, NoVariants, MakeAdd,
       [](const Case& c) { return Pairs(c, "a", "b", r::Add); },
       [](const Case& c, const Kernels& k) { return Pairs(c, "a", "b", k.rows.add); }, CheckAdd},
      {"argmax", "index of the largest", false, NoVariants, MakeArgmax,
       [](const Case& c) { return Argmax(c, r::Argmax); },
       [](const Case& c, const Kernels& k) { return Argmax(c, k.rows.argmax); }, CheckArgmax},
  };
}

}  // namespace hob::verify
