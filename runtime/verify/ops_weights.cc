// The ops on weights, once for every format: matmul, dequantize, embed (pack, then decode from the
// panels) and encode. The bounds are derived in docs/numerics.md.

#include <algorithm>
#include <cmath>
#include <cstring>

#include "kernels/half.h"
#include "kernels/matmul.h"
#include "kernels/reference.h"
#include "runtime/aligned_buffer.h"
#include "runtime/verify/blocks.h"
#include "runtime/verify/bounds.h"
#include "runtime/verify/ops.h"

namespace hob::verify {
namespace {

constexpr size_t kMostRows = 4096, kMostValues = 65536;

// Around the tile of 16 outputs and 4 rows, and the pair of panels.
constexpr size_t kSizes[] = {1, 2, 15, 16, 17, 31, 33};

std::vector<std::string> FormatNames() {
  std::vector<std::string> names;
  for (const Format* format : Formats()) names.push_back(format->name);
  return names;
}

const Format& FormatOfCase(const Case& c) {
  for (const Format* format : Formats()) {
    if (c.variant == format->name) return *format;
  }
  Refuse(c, "there is no weight format of that name");
}

// ---------------------------------------------------------------- weights

enum class Blocks { kEncoded, kRandom, kScales, kAll00, kAllFF, kAll80, kUnderflow };
constexpr const char* kBlocksNames[] = {"encoded",  "random",   "awkward scales",   "bytes 00",
                                        "bytes FF", "bytes 80", "encoded underflow"};

// An f16 that is subnormal, extreme, negative, zero or (rarely, to leave others finite) none.
uint16_t AwkwardF16(Random& random) {
  constexpr uint16_t kFinite[] = {0x0001, 0x8001, 0x03ff, 0x0400, 0x7bff, 0xfbff,
                                  0x0000, 0x8000, 0x3c00, 0xbc00, 0x2e66};
  constexpr uint16_t kOthers[] = {0x7c00, 0xfc00, 0x7e00, 0xfe01, 0x7c01};
  return random.OneIn(64) ? kOthers[random.Below(std::size(kOthers))]
                          : kFinite[random.Below(std::size(kFinite))];
}

// n rows of k weights in the file's layout. Scales lie at the ends of a block, in every format.
std::vector<uint8_t> WeightRows(const Format& format, Blocks blocks, Random& random, size_t n,
                                size_t k) {
  std::vector<uint8_t> rows(n * format.row_bytes(k));
  if (blocks == Blocks::kEncoded || blocks == Blocks::kUnderflow) {
    const Fill fill = blocks == Blocks::kEncoded ? Fill::kNormal : Fill::kNearUnderflow;
    for (size_t i = 0; i < n; ++i) {
      format.encode(Filled(fill, random, k).data(), k, rows.data() + i * format.row_bytes(k));
    }
    return rows;
  }
  for (uint8_t& byte : rows) {
    byte = blocks == Blocks::kAll00   ? 0x00
           : blocks == Blocks::kAllFF ? 0xFF
           : blocks == Blocks::kAll80 ? 0x80
                                      : static_cast<uint8_t>(random.Next());
  }
  if (blocks != Blocks::kScales) return rows;
  const size_t last = format.block_bytes - sizeof(uint16_t);
  for (size_t at = 0; at < rows.size(); at += format.block_bytes) {
    StoreAs(AwkwardF16(random), rows.data() + at);
    if (random.OneIn(2)) StoreAs(AwkwardF16(random), rows.data() + at + last);
  }
  return rows;
}

// The weights of a case and their extent.
struct Weights {
  const Format& format;
  size_t n, k;
  const uint8_t* rows;

  const uint8_t* row(size_t i) const { return rows + i * format.row_bytes(k); }
};

Weights WeightsOf(const Case& c) {
  const Format& format = FormatOfCase(c);
  const size_t n = Size(c, "n", 1, kMostRows), k = Size(c, "k", 1, kMostValues);
  if (k % format.block_values != 0) {
    Refuse(c, "k is " + std::to_string(k) + ", expected a multiple of " +
                  std::to_string(format.block_values));
  }
  return {format, n, k, Values<uint8_t>(c, "weight", {n, format.row_bytes(k)}).data()};
}

AlignedBuffer Packed(const Weights& w) {
  AlignedBuffer packed(w.format.packed_bytes(w.n, w.k));
  PackRows(w.format, w.rows, w.n, w.k, 0, w.n, packed.data());
  return packed;
}

// The definition of decoding.
std::vector<float> Decoded(const Weights& w, size_t row) {
  std::vector<float> values(w.k);
  w.format.kernels(kScalar).dequantize(w.row(row), w.k, values.data());
  return values;
}

// ---------------------------------------------------------------- decoding and encoding

std::vector<Case> MakeDecode(const char* op, const std::string& variant, Extent extent) {
  Case c = {op, variant, "", {}, {}};
  const Format& format = FormatOfCase(c);
  const bool values = format.block_values == 1, few = extent == Extent::kFew;
  const size_t k = values ? 67 : few ? format.block_values : 3 * format.block_values;
  std::vector<Case> cases;
  for (const Blocks blocks : {Blocks::kEncoded, Blocks::kRandom, Blocks::kScales, Blocks::kAll00,
                              Blocks::kAllFF, Blocks::kAll80, Blocks::kUnderflow}) {
    if (few && blocks != Blocks::kEncoded && blocks != Blocks::kScales) continue;
    const size_t n = few ? 1 : 17;
    c.name = kBlocksNames[static_cast<size_t>(blocks)];
    Random random(std::string(op) + variant + c.name);
    c.numbers = {{"n", n}, {"k", k}};
    c.inputs = {
        MakeArray("weight", {n, format.row_bytes(k)}, WeightRows(format, blocks, random, n, k))};
    cases.push_back(c);
  }
  return cases;
}

std::vector<Case> MakeDequantize(const std::string& variant, Extent extent) {
  return MakeDecode("dequantize", variant, extent);
}

Outputs Dequantize(const Case& c, const FormatKernels& kernels) {
  const Weights w = WeightsOf(c);
  std::vector<float> out(w.n * w.k);
  for (size_t i = 0; i < w.n; ++i) kernels.dequantize(w.row(i), w.k, out.data() + i * w.k);
  return {MakeArray("out", {w.n, w.k}, out)};
}

// A subnormal bf16 is zero once packed.
double FlushedBF16(double weight) { return std::fabs(weight) < 0x1p-126 ? 0 : weight; }

// scale * level is exact, so only the subtraction of a minimum rounds. `packed`: from a panel.
void CheckDecoded(const Weights& w, size_t row, bool packed, const float* got,
                  std::vector<Checked>* checked) {
  if (!HasLayout(w.format.name)) return;
  const bool flushed = packed && w.format.act == ActKind::kBF16;
  const Parts parts = TakeApart(w.format.name, w.row(row), w.k);
  for (size_t i = 0; i < w.k; ++i) {
    const size_t sub = i / parts.sub;
    const double product = parts.scale[sub] * parts.level[i];
    const double min = parts.min[sub], want = parts.has_min ? product - min : product;
    const bool overflow = std::isfinite(product) && std::fabs(product) > kFloatMax;
    checked->push_back({static_cast<double>(got[i]), flushed ? FlushedBF16(want) : want,
                        overflow   ? kUnbounded
                        : min == 0 ? 0
                                   : kU * std::fabs(want) + kTiny});
  }
}

std::vector<Checked> CheckDequantize(const Case& c, const Outputs& outputs) {
  const Weights w = WeightsOf(c);
  std::vector<Checked> checked;
  const std::span<const float> out = outputs[0].as<float>();
  for (size_t i = 0; i < w.n; ++i) CheckDecoded(w, i, false, out.data() + i * w.k, &checked);
  return checked;
}

std::vector<Case> MakeEmbed(const std::string& variant, Extent extent) {
  std::vector<Case> cases = MakeDecode("embed", variant, extent);
  if (extent == Extent::kFew) cases.resize(1);
  for (Case& c : cases) {
    const auto n = static_cast<int32_t>(c.numbers["n"]);
    std::vector<int32_t> ids;
    for (int32_t id = n; id-- > 0;) ids.push_back(id);
    ids.push_back(0);
    c.numbers["m"] = static_cast<double>(ids.size());
    c.inputs.push_back(MakeArray("ids", {ids.size()}, ids));
  }
  return cases;
}

std::span<const int32_t> Ids(const Case& c, const Weights& w) {
  const std::span<const int32_t> ids = Values<int32_t>(c, "ids", {Size(c, "m", 1, kMostRows)});
  for (const int32_t id : ids) {
    if (id < 0 || static_cast<size_t>(id) >= w.n) {
      Refuse(c, "id " + std::to_string(id) + ", expected 0 to " + std::to_string(w.n - 1));
    }
  }
  return ids;
}

Outputs EmbedReference(const Case& c) {
  const Weights w = WeightsOf(c);
  std::vector<float> out;
  const std::span<const int32_t> ids = Ids(c, w);
  for (const int32_t id : ids) {
    for (float value : Decoded(w, static_cast<size_t>(id))) {
      const bool zero = w.format.act == ActKind::kBF16 && std::fabs(value) < FLT_MIN;
      out.push_back(zero ? std::copysign(0.0f, value) : value);
    }
  }
  return {MakeArray("out", {ids.size(), w.k}, out)};
}

Outputs EmbedRun(const Case& c, const Kernels&) {
  const Weights w = WeightsOf(c);
  const std::span<const int32_t> ids = Ids(c, w);
  const AlignedBuffer packed = Packed(w);
  std::vector<float> out(ids.size() * w.k);
  for (size_t i = 0; i < ids.size(); ++i) {
    const auto id = static_cast<size_t>(ids[i]);
    w.format.unpack(packed.data() + id / kPanel * w.format.panel_bytes(w.k), id % kPanel, w.k,
                    out.data() + i * w.k);
  }
  return {MakeArray("out", {ids.size(), w.k}, out)};
}

std::vector<Checked> CheckEmbed(const Case& c, const Outputs& outputs) {
  const Weights w = WeightsOf(c);
  std::vector<Checked> checked;
  const float* out = outputs[0].as<float>().data();
  for (const int32_t id : Ids(c, w)) {
    CheckDecoded(w, static_cast<size_t>(id), true, out, &checked);
    out += w.k;
  }
  return checked;
}

std::vector<Case> MakeEncode(const std::string& variant, Extent extent) {
  Case c = {"encode", variant, "", {}, {}};
  const Format& format = FormatOfCase(c);
  const bool few = extent == Extent::kFew;
  const size_t n = few ? 1 : 4, k = format.block_values == 1 ? 67 : format.block_values;
  std::vector<Case> cases;
  for (const Fill fill :
       {Fill::kNormal, Fill::kSpecials, Fill::kOneNan, Fill::kOneInfinity, Fill::kNearUnderflow,
        Fill::kSubnormal, Fill::kHuge, Fill::kEqual, Fill::kZeros, Fill::kHalfMax}) {
    const bool telling = fill == Fill::kNormal || fill == Fill::kSpecials || fill == Fill::kHuge ||
                         fill == Fill::kNearUnderflow || fill == Fill::kZeros;
    if (few && !telling) continue;
    c.name = FillName(fill);
    Random random("encode" + variant + c.name);
    c.numbers = {{"n", n}, {"k", k}};
    c.inputs = {MakeArray("x", {n, k}, Filled(fill, random, n * k))};
    cases.push_back(c);
  }
  return cases;
}

Outputs Encode(const Case& c) {
  const Format& format = FormatOfCase(c);
  const size_t n = Size(c, "n", 1, kMostRows), k = Size(c, "k", 1, kMostValues);
  if (k % format.block_values != 0) Refuse(c, "k is no multiple of the block");
  const std::span<const float> x = Values<float>(c, "x", {n, k});
  std::vector<uint8_t> rows(n * format.row_bytes(k));
  for (size_t i = 0; i < n; ++i) {
    format.encode(x.data() + i * k, k, rows.data() + i * format.row_bytes(k));
  }
  return {MakeArray("weight", {n, format.row_bytes(k)}, rows)};
}

// ---------------------------------------------------------------- matmul

// Makes the matmul cases of one format.
class MatmulMaker {
 public:
  MatmulMaker(const Format& format, Extent extent)
      : format_(format), extent_(extent), k_(format.block_values == 1 ? 33 : format.block_values) {}

  std::vector<Case> Make() {
    if (extent_ == Extent::kFew) {
      Add("epilogue", Blocks::kEncoded, Fill::kNormal, 2, 5, k_, "brg");
      Add("awkward", Blocks::kScales, Fill::kSpecials, 2, 3, k_, "");
      return std::move(cases_);
    }
    AddShapes();
    const size_t three = format_.block_values == 1 ? 131 : 3 * k_;
    for (const char* parts : {"b", "r", "g", "brg"}) {
      Add(std::string("with ") + parts, Blocks::kEncoded, Fill::kNormal, 3, 33, three, parts);
    }
    Add("with special brg", Blocks::kEncoded, Fill::kNormal, 5, 18, k_, "BRG");
    for (const Blocks blocks : {Blocks::kRandom, Blocks::kScales, Blocks::kAll00, Blocks::kAllFF,
                                Blocks::kAll80, Blocks::kUnderflow}) {
      for (const size_t m : {size_t{1}, size_t{6}}) {
        Add(kBlocksNames[static_cast<size_t>(blocks)], blocks, Fill::kNormal, m, 18, three, "");
      }
    }
    for (const Fill fill :
         {Fill::kSpecials, Fill::kOneNan, Fill::kOneInfinity, Fill::kNearUnderflow,
          Fill::kSubnormal, Fill::kHuge, Fill::kZeros, Fill::kHalfMax}) {
      for (const size_t m : {size_t{1}, size_t{6}}) {
        Add(FillName(fill), Blocks::kEncoded, fill, m, 18, three, "");
      }
    }
    Add("both underflow", Blocks::kUnderflow, Fill::kNearUnderflow, 6, 18, three, "");
    Add("deep", Blocks::kEncoded, Fill::kNormal, 2, 16, format_.block_values == 1 ? 777 : 2048, "");
    return std::move(cases_);
  }

 private:
  // Every pair of sizes, all with the first rows of the same matrices.
  void AddShapes() {
    constexpr size_t kMost = 33;
    Random random(std::string("matmul shapes ") + format_.name);
    const auto rows = WeightRows(format_, Blocks::kEncoded, random, kMost, k_);
    const auto act = Filled(Fill::kNormal, random, kMost * k_);
    for (const size_t m : kSizes) {
      for (const size_t n : kSizes) {
        Case c = Empty("shape", m, n, k_);
        c.inputs = {
            MakeArray("weight", {n, format_.row_bytes(k_)},
                      std::vector<uint8_t>(
                          rows.begin(),
                          rows.begin() + static_cast<ptrdiff_t>(n * format_.row_bytes(k_)))),
            MakeArray(
                "act", {m, k_},
                std::vector<float>(act.begin(), act.begin() + static_cast<ptrdiff_t>(m * k_)))};
        cases_.push_back(std::move(c));
      }
    }
  }

  Case Empty(const std::string& name, size_t m, size_t n, size_t k) const {
    return {
        "matmul",
        format_.name,
        name + ", m " + std::to_string(m) + " n " + std::to_string(n) + " k " + std::to_string(k),
        {{"m", m}, {"n", n}, {"k", k}},
        {}};
  }

  // parts: of b(ias), r(esidual), g(ate); capitals for special values.
  void Add(const std::string& name, Blocks blocks, Fill fill, size_t m, size_t n, size_t k,
           const std::string& parts) {
    Case c = Empty(name, m, n, k);
    Random random("matmul" + c.variant + c.name);
    c.inputs = {
        MakeArray("weight", {n, format_.row_bytes(k)}, WeightRows(format_, blocks, random, n, k)),
        MakeArray("act", {m, k}, Filled(fill, random, m * k))};
    for (const char part : parts) {
      const bool bias = part == 'b' || part == 'B', gate = part == 'g' || part == 'G';
      const Fill values = part < 'a' ? Fill::kSpecials : Fill::kNormal;
      c.inputs.push_back(MakeArray(bias   ? "bias"
                                   : gate ? "gate"
                                          : "residual",
                                   bias ? Shape{n} : Shape{m, n},
                                   Filled(values, random, bias ? n : m * n)));
    }
    cases_.push_back(std::move(c));
  }

  const Format& format_;
  Extent extent_;
  size_t k_;
  std::vector<Case> cases_;
};

std::vector<Case> MakeMatmul(const std::string& variant, Extent extent) {
  return MatmulMaker(FormatOfCase({"matmul", variant, "", {}, {}}), extent).Make();
}

struct MatmulInputs {
  Weights w;
  size_t m;
  const float *act, *bias, *gate, *residual;
};

MatmulInputs MatmulInputsOf(const Case& c) {
  const Weights w = WeightsOf(c);
  const size_t m = Size(c, "m", 1, kMostRows);
  return {w,
          m,
          Values<float>(c, "act", {m, w.k}).data(),
          Optional(c, "bias", {w.n}),
          Optional(c, "gate", {m, w.n}),
          Optional(c, "residual", {m, w.n})};
}

Outputs MatmulReference(const Case& c) {
  const MatmulInputs in = MatmulInputsOf(c);
  const Weights& w = in.w;
  std::vector<float> out(in.m * w.n);
  reference::Matmul(w.format, w.rows, w.n, w.k, in.act, w.k, in.m, in.bias, in.residual, out.data(),
                    w.n, in.gate);
  return {MakeArray("out", {in.m, w.n}, out)};
}

Outputs MatmulRun(const Case& c, const Kernels& kernels) {
  const MatmulInputs in = MatmulInputsOf(c);
  const Weights& w = in.w;
  const AlignedBuffer packed = Packed(w), prepared(ActivationBytes(w.format.act, in.m, w.k));
  for (size_t row = 0; row < in.m; ++row) {
    const float* x = in.act + row * w.k;
    if (w.format.act == ActKind::kQ8) {
      const Q8Acts acts = Q8ActsIn(prepared.data(), in.m, w.k);
      kernels.rows.quantize_q8(x, w.k / kBlock, in.m * kBlock, acts.codes + row * kBlock, in.m,
                               acts.scales + row, acts.sums + row);
    } else if (w.format.act == ActKind::kBF16) {
      kernels.rows.to_bf16_pairs(
          x, w.k, reinterpret_cast<uint32_t*>(prepared.data()) + row * ((w.k + 1) / 2));
    }
  }
  std::vector<float> out(in.m * w.n);
  const void* act = w.format.act == ActKind::kF32 ? static_cast<const void*>(in.act)
                                                  : static_cast<const void*>(prepared.data());
  const MatmulTask task = {in.m,    w.n,         w.k,        packed.data(), act,    w.k,
                           in.bias, in.residual, out.data(), w.n,           in.gate};
  kernels.format(w.format).matmul(task, 0, (w.n + kPanel - 1) / kPanel);
  return {MakeArray("out", {in.m, w.n}, out)};
}

// One row of activations, quantized by the definition.
struct Quantized {
  std::vector<int8_t> codes;
  std::vector<float> scales;

  Quantized(const float* x, size_t k) : codes(k), scales(k / kBlock) {
    std::vector<int32_t> sums(2 * k / kBlock);
    reference::QuantizeQ8(x, k / kBlock, kBlock, codes.data(), 1, scales.data(), sums.data());
  }
};

// The chain of a block format: exact terms from the quantized activations; every term has the
// rounding of its product of scales besides the chain's, and may lose bits where that is subnormal.
Bounded BlockChain(const Parts& parts, const Quantized& q) {
  Sum sum;
  double lost = 0;
  bool overflow = false;
  const auto product = [&](double a, double b) {
    overflow |= std::isfinite(a * b) && std::fabs(a * b) > kFloatMax;
    return a * b;
  };
  for (size_t sub = 0; sub < parts.scale.size(); ++sub) {
    const size_t first = sub * parts.sub;
    const auto q_scale = static_cast<double>(q.scales[first / kBlock]);
    double levels = 0, codes = 0;  // exact: integers
    for (size_t i = first; i < first + parts.sub; ++i) {
      levels += parts.level[i] * q.codes[i];
      codes += q.codes[i];
    }
    sum.Add(product(parts.scale[sub], q_scale) * levels);
    lost += kTiny * std::fabs(levels);
    if (parts.has_min) {
      sum.Add(-parts.min[sub] * product(q_scale, codes));
      lost += kTiny * std::fabs(parts.min[sub]);
    }
  }
  Bounded chain = Chain(sum, parts.scale.size() * (parts.has_min ? 2 : 1) + 1);
  chain.bound += 2 * lost;
  if (overflow) chain.bound = kUnbounded;
  return chain;
}

// The chain of a format of single values, whose products with the activations are exact in double.
Bounded ValueChain(const Parts& parts, bool bf16, const float* x) {
  Sum sum;
  for (size_t i = 0; i < parts.level.size(); ++i) {
    const double weight = bf16 ? FlushedBF16(parts.level[i]) : parts.level[i];
    sum.Add(weight * static_cast<double>(bf16 ? reference::RoundToBF16(x[i]) : x[i]));
  }
  return Chain(sum, parts.level.size() + 1, bf16 ? kFlush : kTiny);
}

std::vector<Checked> CheckMatmul(const Case& c, const Outputs& outputs) {
  const MatmulInputs in = MatmulInputsOf(c);
  const Weights& w = in.w;
  if (!HasLayout(w.format.name)) return {};
  const bool blocks = w.format.act == ActKind::kQ8, bf16 = w.format.act == ActKind::kBF16;
  std::vector<Quantized> quantized;
  for (size_t row = 0; blocks && row < in.m; ++row) quantized.emplace_back(in.act + row * w.k, w.k);
  std::vector<Checked> checked(in.m * w.n);
  for (size_t n = 0; n < w.n; ++n) {
    const Parts parts = TakeApart(w.format.name, w.row(n), w.k);
    for (size_t row = 0; row < in.m; ++row) {
      const size_t at = row * w.n + n;
      Bounded value =
          blocks ? BlockChain(parts, quantized[row]) : ValueChain(parts, bf16, in.act + row * w.k);
      if (in.bias != nullptr) value = Plus(value, Exactly(in.bias[n]));
      if (in.gate != nullptr) value = Times(Silu(in.gate[at]), value);
      if (in.residual != nullptr) value = Plus(Exactly(in.residual[at]), value);
      checked[at] = {static_cast<double>(outputs[0].as<float>()[at]), value.want, value.bound};
    }
  }
  return checked;
}

}  // namespace

std::vector<Op> WeightOps() {
  return {
      {"matmul", "act * weight^T, with bias, gate and residual", true, FormatNames, MakeMatmul,
       MatmulReference, MatmulRun, CheckMatmul},
      {"dequantize", "weights decoded from the file's blocks", true, FormatNames, MakeDequantize,
       [](const Case& c) { return Dequantize(c, FormatOfCase(c).kernels(kScalar)); },
       [](const Case& c, const Kernels& kernels) {
         return Dequantize(c, kernels.format(FormatOfCase(c)));
       },
       CheckDequantize},
      {"embed", "weights packed, rows decoded from the panels", true, FormatNames, MakeEmbed,
       EmbedReference, EmbedRun, CheckEmbed},
      {"encode", "weights encoded: bytes", true, FormatNames, MakeEncode, Encode,
       [](const Case& c, const Kernels&) { return Encode(c); }, nullptr},
  };
}

}  // namespace hob::verify
