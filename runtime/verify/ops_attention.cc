// Attention over a cache of each type: appended in two pieces, then attended to. The bound is
// derived in docs/numerics.md.

#include <algorithm>
#include <cmath>

#include "kernels/attention.h"
#include "kernels/exp_constants.h"
#include "kernels/reference.h"
#include "runtime/aligned_buffer.h"
#include "runtime/verify/bounds.h"
#include "runtime/verify/ops.h"

namespace hob::verify {
namespace {

std::vector<std::string> CacheTypes() { return {"f32", "bf16", "q8_0"}; }

// ---------------------------------------------------------------- cases

struct Form {
  size_t m, pos, n_heads, n_kv_heads, head_dim;
  AttentionOptions options = {};
  size_t parts = 1;  // into which the keys are divided
};

// Around pages of 32, tiles of 64 and chunks of 256 keys, blocks of 96 rows, 16 lanes of a head.
constexpr Form kForms[] = {
    {1, 0, 1, 1, 16},
    {2, 0, 2, 1, 1},
    {1, 15, 3, 1, 15},
    {17, 0, 2, 2, 17},
    {1, 63, 4, 2, 40},
    {3, 62, 4, 2, 33},
    {33, 31, 6, 2, 32},
    {1, 255, 2, 1, 64},
    {2, 256, 3, 3, 31},
    {21, 300, 6, 2, 40},
    {5, 600, 2, 1, 16},
    // Options, and keys divided: 16 rows at most.
    {3, 700, 4, 2, 20, {}, 3},
    {1, 1000, 2, 1, 33, {}, 4},
    {7, 62, 2, 1, 24, {.window = 1}},
    {20, 290, 4, 2, 24, {.window = 65}},
    {4, 600, 2, 2, 17, {.window = 301}, 2},
    {20, 100, 4, 2, 24, {.softcap = 2.5f}},
    {70, 5, 2, 1, 24, {.bidirectional = true}},
    {30, 250, 2, 1, 9, {.window = 40, .softcap = 30.0f, .bidirectional = true}},
    {2, 555, 3, 1, 16, {.window = 500, .softcap = 1.5f, .bidirectional = true}, 3}};

Case MakeCase(const std::string& type, const Form& form, Fill fill, const std::string& name) {
  Case c = {"attention", type, "", {}, {}};
  c.name = name + ", m " + std::to_string(form.m) + " pos " + std::to_string(form.pos) + " heads " +
           std::to_string(form.n_heads) + "/" + std::to_string(form.n_kv_heads) + " head_dim " +
           std::to_string(form.head_dim);
  const AttentionOptions& options = form.options;
  if (options.window != 0) c.name += " window " + std::to_string(options.window);
  if (options.softcap != 0) c.name += " soft cap";
  if (options.bidirectional) c.name += " bidirectional";
  if (form.parts > 1) c.name += " in " + std::to_string(form.parts) + " parts";
  c.numbers = {{"m", form.m},
               {"pos", form.pos},
               {"n_heads", form.n_heads},
               {"n_kv_heads", form.n_kv_heads},
               {"head_dim", form.head_dim},
               {"scale", 0.15625},
               {"window", options.window},
               {"softcap", static_cast<double>(options.softcap)},
               {"bidirectional", options.bidirectional ? 1 : 0},
               {"parts", form.parts}};
  Random random("attention" + type + c.name);
  const size_t q = form.m * form.n_heads * form.head_dim;
  const size_t kv = (form.pos + form.m) * form.n_kv_heads * form.head_dim;
  std::vector<float> queries = Filled(fill, random, q);
  for (float& value : queries) value *= 3;
  c.inputs = {MakeArray("q", {form.m, form.n_heads, form.head_dim}, queries),
              MakeArray("keys", {form.pos + form.m, form.n_kv_heads, form.head_dim},
                        Filled(fill, random, kv)),
              MakeArray("values", {form.pos + form.m, form.n_kv_heads, form.head_dim},
                        Filled(fill, random, kv))};
  return c;
}

// Keys of -infinity and queries above zero: every score is -infinity, for some heads or for all.
// q8_0 makes NaN of an infinity: there the scores overflow.
Case MakeMasked(const std::string& type, const Form& form) {
  Case c = MakeCase(type, form, Fill::kNormal, "all masked");
  const size_t q = CountOf(c.inputs[0].shape), kv = CountOf(c.inputs[1].shape);
  std::vector<float> keys(kv, type == "q8_0" ? -3e38f : -HUGE_VALF);
  if (form.n_kv_heads > 1) std::fill_n(keys.begin(), form.head_dim, 0.5f);  // head 0, token 0
  c.inputs[0] = MakeArray("q", c.inputs[0].shape, std::vector<float>(q, 1.5f));
  c.inputs[1] = MakeArray("keys", c.inputs[1].shape, keys);
  return c;
}

std::vector<Case> MakeAttention(const std::string& variant, Extent extent) {
  std::vector<Case> cases;
  if (extent == Extent::kFew) {
    cases.push_back(MakeCase(variant, {2, 65, 2, 1, 9}, Fill::kNormal, "normal"));
    cases.push_back(MakeCase(variant, {1, 256, 1, 1, 3}, Fill::kNormal, "normal"));
    cases.push_back(MakeMasked(variant, {2, 1, 2, 2, 4}));
    cases.push_back(MakeCase(variant, {3, 63, 2, 1, 5, {.window = 4, .softcap = 2.5f}},
                             Fill::kNormal, "normal"));
    cases.push_back(
        MakeCase(variant, {4, 2, 1, 1, 6, {.bidirectional = true}}, Fill::kNormal, "normal"));
    if (variant == "q8_0") {  // more than a block
      cases.push_back(MakeCase(variant, {1, 4, 1, 1, 35}, Fill::kNormal, "normal"));
      cases.push_back(MakeCase(variant, {1, 2, 1, 1, 40}, Fill::kSpecials, "specials"));
    }
    return cases;
  }
  for (const Form& form : kForms) cases.push_back(MakeCase(variant, form, Fill::kNormal, "normal"));
  constexpr Form kSome[] = {{3, 62, 4, 2, 33},
                            {1, 255, 2, 1, 64, {.window = 100, .softcap = 4.0f}}};
  for (const Fill fill :
       {Fill::kSpecials, Fill::kOneNan, Fill::kOneInfinity, Fill::kNearUnderflow, Fill::kSubnormal,
        Fill::kHuge, Fill::kEqual, Fill::kZeros, Fill::kHalfMax}) {
    for (const Form& form : kSome) cases.push_back(MakeCase(variant, form, fill, FillName(fill)));
  }
  constexpr Form kMasked[] = {{3, 62, 4, 2, 33}, {1, 255, 2, 1, 64}, {2, 300, 2, 2, 16, {}, 2}};
  for (const Form& form : kMasked) cases.push_back(MakeMasked(variant, form));
  return cases;
}

// ---------------------------------------------------------------- computing

struct Inputs {
  hob_cache_type type;
  size_t m, pos, n_heads, n_kv_heads, head_dim;
  float scale;
  AttentionOptions options;
  size_t parts;
  const float *q, *keys, *values;

  size_t group() const { return n_heads / n_kv_heads; }
  size_t tokens() const { return pos + m; }
};

hob_cache_type CacheTypeOf(const Case& c) {
  if (c.variant == "f32") return HOB_CACHE_F32;
  if (c.variant == "bf16") return HOB_CACHE_BF16;
  if (c.variant == "q8_0") return HOB_CACHE_Q8_0;
  Refuse(c, "there is no cache type of that name");
}

Inputs InputsOf(const Case& c) {
  Inputs in = {};
  in.type = CacheTypeOf(c);
  in.m = Size(c, "m", 1, 4096);
  in.pos = Size(c, "pos", 0, 65536);
  in.n_kv_heads = Size(c, "n_kv_heads", 1, 256);
  in.n_heads = Size(c, "n_heads", in.n_kv_heads, 256);
  in.head_dim = Size(c, "head_dim", 1, 1024);
  if (in.n_heads % in.n_kv_heads != 0) Refuse(c, "n_heads is no multiple of n_kv_heads");
  in.scale = Number(c, "scale");
  in.options = {Size(c, "window", 0, 1 << 20), Number(c, "softcap"),
                Size(c, "bidirectional", 0, 1) != 0};
  if (!(in.options.softcap >= 0)) Refuse(c, "softcap is no number from 0 on");
  in.parts = Size(c, "parts", 1, 64);
  if (in.parts > 1 && in.m * in.group() > kSplitRows) {
    Refuse(c, "parts is for at most " + std::to_string(kSplitRows) + " rows of a KV head");
  }
  in.q = Values<float>(c, "q", {in.m, in.n_heads, in.head_dim}).data();
  const Shape cached = {in.tokens(), in.n_kv_heads, in.head_dim};
  in.keys = Values<float>(c, "keys", cached).data();
  in.values = Values<float>(c, "values", cached).data();
  return in;
}

Outputs Output(const Inputs& in, const std::vector<float>& out) {
  return {MakeArray("out", {in.m, in.n_heads, in.head_dim}, out)};
}

Outputs Reference(const Case& c) {
  const Inputs in = InputsOf(c);
  std::vector<float> out(in.m * in.n_heads * in.head_dim);
  reference::Attention(in.type, in.q, in.keys, in.values, in.m, in.n_heads, in.n_kv_heads,
                       in.head_dim, in.pos, in.scale, out.data(), in.options);
  return Output(in, out);
}

// All rows of one KV head, against all keys.
void AttendWhole(const AttentionTask& task, size_t head, void* workspace, const Kernels& kernels) {
  const size_t rows = task.m * task.group();
  for (size_t row = 0; row < rows; row += kRowBlock) {
    kernels.attention.attend(task, head, row, std::min(rows, row + kRowBlock), workspace);
  }
}

// The same, the chunks of keys in several parts, of which the last is the first to be done.
void AttendInParts(const AttentionTask& task, size_t head, size_t parts, void* workspace,
                   float* partials, const Kernels& kernels) {
  const size_t first = VisibleKeys(task.options, task.pos, task.m, 0).begin / kKeyChunk;
  const size_t count = (task.tokens() + kKeyChunk - 1) / kKeyChunk - first;
  for (size_t part = parts; part-- > 0;) {
    const size_t begin = first + count * part / parts, end = first + count * (part + 1) / parts;
    if (begin < end) kernels.attention.attend_chunks(task, head, begin, end, workspace, partials);
  }
  kernels.attention.merge_chunks(task, head, partials);
}

Outputs Run(const Case& c, const Kernels& kernels) {
  const Inputs in = InputsOf(c);
  const size_t bytes = CacheBytes(in.type, in.n_kv_heads, in.head_dim, in.tokens());
  const AlignedBuffer keys(bytes), values(bytes), workspace(AttentionWorkspace(in.head_dim));
  const CacheView cache = {in.type,     in.n_kv_heads, in.head_dim,
                           in.tokens(), keys.data(),   values.data()};
  // As a prompt in two pieces, the second of which begins anywhere in a tile.
  const size_t token = in.n_kv_heads * in.head_dim;
  kernels.attention.append(cache, 0, in.pos, in.keys, in.values, token);
  kernels.attention.append(cache, in.pos, in.m, in.keys + in.pos * token,
                           in.values + in.pos * token, token);
  std::vector<float> out(in.m * in.n_heads * in.head_dim);
  const AttentionTask task = {cache,    in.m, in.n_heads, in.pos,
                              in.scale, in.q, out.data(), in.options};
  const AlignedBuffer partials(
      in.parts > 1 ? AttentionPartialBytes(cache, in.m * in.group(), in.tokens()) : 0);
  for (size_t head = 0; head < in.n_kv_heads; ++head) {
    if (in.parts == 1) {
      AttendWhole(task, head, workspace.data(), kernels);
    } else {
      AttendInParts(task, head, in.parts, workspace.data(),
                    reinterpret_cast<float*>(partials.data()), kernels);
    }
  }
  return Output(in, out);
}

// ---------------------------------------------------------------- checking

// What the cache holds of keys or values: the oracle takes it as given.
std::vector<float> Held(const Inputs& in, const float* x) {
  std::vector<float> held(x, x + in.tokens() * in.n_kv_heads * in.head_dim);
  if (in.type == HOB_CACHE_BF16) {
    for (float& value : held) value = reference::RoundToBF16(value);
  }
  if (in.type == HOB_CACHE_Q8_0) {
    for (size_t at = 0; at < held.size(); at += in.head_dim) {
      reference::ThroughQ8(held.data() + at, in.head_dim, held.data() + at);
    }
  }
  return held;
}

// One row of queries in double precision; keys and values of `in` as they are held.
class Row {
 public:
  Row(const Inputs& in, size_t query, size_t head)
      : in_(in),
        keys_(VisibleKeys(in.options, in.pos, in.m, query)),
        visible_(keys_.end - keys_.begin),
        kv_offset_(head / in.group() * in.head_dim) {
    const float cap = in.options.softcap;
    const float factor = cap != 0 ? in.scale / cap : in.scale * kLog2E;
    const float* q = in.q + (query * in.n_heads + head) * in.head_dim;
    for (size_t d = 0; d < in.head_dim; ++d) {
      const float scaled = q[d] * factor;
      q_.push_back(static_cast<double>(bf16() ? reference::RoundToBF16(scaled) : scaled));
    }
    for (size_t t = 0; t < visible_; ++t) scores_.push_back(Capped(Score(t)));
    Weigh();
  }

  Bounded Value(size_t d) const {
    double sum = 0, sum_magnitudes = 0, sum_error = 0, magnitudes = 0;
    for (size_t t = 0; t < visible_; ++t) {
      const double v = Cached(in_.values, t, d), part = weights_[t] * v;
      sum += part;
      sum_magnitudes += std::fabs(part);
      sum_error += std::fabs(part) * errors_[t];
      magnitudes += std::fabs(v);
    }
    if (is_nan_) return {std::nan(""), 0};
    if (!std::isfinite(magnitudes)) return {0, kUnbounded};
    if (total_ == 0) return {0, 0};
    if (unbounded_ || magnitudes > kFloatMax / 2) return {0, kUnbounded};
    const double want = sum / total_, count = static_cast<double>(visible_);
    const size_t steps = std::min(visible_, kKeyChunk) + 2 * rescales_ + 2;
    const double error = sum_error + 2 * Gamma(steps) * sum_magnitudes;
    // Weights of 2^-63.5 and less are dropped; steps may lose what is below the normal range.
    const double lost = (0x1p-62 + (bf16() ? kFlush : kTiny)) * magnitudes +
                        4 * count * (bf16() ? kFlush : kTiny) + std::fabs(want) * count * 0x1p-62;
    const double relative = total_error_ / (1 - total_error_) + 2 * kU;
    return {want,
            (error / total_ * (1 + relative) + std::fabs(want) * relative) * (1 + 0x1p-10) + lost};
  }

 private:
  bool bf16() const { return in_.type != HOB_CACHE_F32; }

  double Cached(const float* tokens, size_t t, size_t d) const {
    return static_cast<double>(
        tokens[(keys_.begin + t) * in_.n_kv_heads * in_.head_dim + kv_offset_ + d]);
  }

  Bounded Score(size_t t) const {
    Sum sum;
    for (size_t d = 0; d < in_.head_dim; ++d) sum.Add(Cached(in_.keys, t, d) * q_[d]);
    return Chain(sum, in_.head_dim + 1, bf16() ? kFlush : kTiny);
  }

  // A slope of at most 1, the error of tanh, and a product.
  Bounded Capped(Bounded score) const {
    if (in_.options.softcap == 0) return score;
    const double want = std::tanh(score.want);
    const double bound = std::min(score.bound, 2.0) + kTanhError * std::fabs(want) + kTiny;
    return Times({want, bound}, Exactly(in_.options.softcap * kLog2E));
  }

  // Weights relative to the largest score's, and their relative errors.
  void Weigh() {
    double max = -HUGE_VAL, worst = 0;
    for (const Bounded& score : scores_) {
      // The shift by a score of +infinity makes NaN of it.
      is_nan_ |= std::isnan(score.want) || score.want == HUGE_VAL;
      unbounded_ |= score.bound == kUnbounded;
      max = std::max(max, score.want);
      if (std::isfinite(score.want)) worst = std::max(worst, score.bound);
    }
    if (unbounded_) is_nan_ = false;
    const size_t chunks = visible_ / kKeyChunk + 2;  // at most
    rescales_ = chunks + 1;
    double sum_error = 0;
    for (const Bounded& score : scores_) {
      const double below = max - score.want;
      const double weight = score.want == -HUGE_VAL ? 0 : std::exp2(-below);
      const double through = std::log(2.0) * (score.bound + kU * (below + 4 * worst));
      const double error = weight == 0 ? 0
                                       : std::expm1(through) +
                                             static_cast<double>(rescales_) * (kExp2Error + kU) +
                                             (bf16() ? 0x1p-8 + kExp2BF16Error : 0);
      weights_.push_back(weight);
      errors_.push_back(error);
      total_ += weight;
      sum_error += weight * error;
    }
    total_error_ = sum_error / total_ + Gamma(visible_ / 16 + 1 + 2 * rescales_ + 4) +
                   static_cast<double>(visible_) * 0x1p-62;
    if (!is_nan_ && total_ > 0 && !(total_error_ < 0.5)) unbounded_ = true;
  }

  const Inputs& in_;
  KeyRange keys_;
  size_t visible_, kv_offset_, rescales_ = 0;  // visible_: how many
  std::vector<double> q_, weights_, errors_;
  std::vector<Bounded> scores_;
  double total_ = 0, total_error_ = 0;
  bool is_nan_ = false, unbounded_ = false;
};

std::vector<Checked> Check(const Case& c, const Outputs& outputs) {
  Inputs in = InputsOf(c);
  const std::vector<float> keys = Held(in, in.keys), values = Held(in, in.values);
  in.keys = keys.data();
  in.values = values.data();
  std::vector<Checked> checked;
  for (size_t query = 0; query < in.m; ++query) {
    for (size_t head = 0; head < in.n_heads; ++head) {
      const Row row(in, query, head);
      for (size_t d = 0; d < in.head_dim; ++d) {
        const Bounded value = row.Value(d);
        checked.push_back(
            {static_cast<double>(outputs[0].as<float>()[checked.size()]), value.want, value.bound});
      }
    }
  }
  return checked;
}

}  // namespace

std::vector<Op> AttentionOps() {
  return {{"attention", "append to a cache, then attention", false, CacheTypes, MakeAttention,
           Reference, Run, Check}};
}

}  // namespace hob::verify
