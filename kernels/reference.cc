// The definitions. Read them beside docs/numerics.md.

#include "kernels/reference.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <initializer_list>
#include <vector>

#include "kernels/attention.h"
#include "kernels/exp_constants.h"
#include "kernels/matmul.h"

namespace hob::reference {
namespace {

constexpr float kInfinity = HUGE_VALF;

// The magnitude's bits; as integers they order like the floats, infinity and NaN above all.
uint32_t MagnitudeBits(float x) { return std::bit_cast<uint32_t>(x) & 0x7FFFFFFF; }

// 2^n for -126 <= n <= 127.
float PowerOf2(int32_t n) { return std::bit_cast<float>(static_cast<uint32_t>(n + 127) << 23); }

// Of a number plus kRound: the integer that it was rounded to, and the same in *n.
float Rounded(float shifted, int32_t* n) {
  *n = static_cast<int32_t>(std::bit_cast<uint32_t>(shifted) - static_cast<uint32_t>(kRoundBits));
  return shifted - kRound;
}

float MaxOf(const float* x, size_t n) {
  float max = -kInfinity;
  for (size_t i = 0; i < n; ++i) max = x[i] > max ? x[i] : max;
  return max;
}

}  // namespace

float Exp(float x) {
  if (x != x) return x;
  x = x < kExpMin ? kExpMin : x;
  x = x > kExpMax ? kExpMax : x;
  int32_t bits;
  const float n = Rounded(std::fma(x, kLog2E, kRound), &bits);
  float r = std::fma(-n, kLn2Hi, x);
  r = std::fma(-n, kLn2Lo, r);
  float p = kExpC6;
  for (const float c : {kExpC5, kExpC4, kExpC3, kExpC2, 1.0f, 1.0f}) p = std::fma(p, r, c);
  // 2^n in two factors: n reaches -150 and 128, beyond one normal power.
  const int32_t half = bits >> 1;
  return p * PowerOf2(half) * PowerOf2(bits - half);
}

namespace {

// p(x - round(x)) * 2^round(x), p by its coefficients from the highest power on.
float Exp2By(std::initializer_list<float> coefficients, float x) {
  if (x != x) return x;
  x = x < kExp2Min ? kExp2Min : x;
  int32_t n;
  const float f = x - Rounded(x + kRound, &n);
  float p = 0.0f;
  for (const float c : coefficients) p = std::fma(p, f, c);
  return static_cast<float>(n) == kExp2Min ? 0.0f : p * PowerOf2(n);
}

}  // namespace

float Exp2NonPositive(float x) {
  return Exp2By({kExp2C5, kExp2C4, kExp2C3, kExp2C2, kExp2C1, 1.0f}, x);
}

float Exp2ForBF16(float x) { return Exp2By({kExp2BF16C3, kExp2BF16C2, kExp2BF16C1, 1.0f}, x); }

float Tanh(float x) {
  const float a = std::fabs(x);
  if (a >= kTanhSmall) {
    const float e = Exp(2.0f * (a < kTanhMax ? a : kTanhMax));
    return std::copysign(1.0f - 2.0f / (1.0f + e), x);
  }
  const float z = x * x;
  float p = kTanhC4;
  for (const float c : {kTanhC3, kTanhC2, kTanhC1, kTanhC0}) p = std::fma(p, z, c);
  return std::copysign(std::fma(x, z * p, x), x);
}

float RoundToBF16(float x) {
  const uint32_t bits = std::bit_cast<uint32_t>(x), magnitude = MagnitudeBits(x);
  if (magnitude > 0x7F800000) return std::bit_cast<float>(0x7FC00000);
  if (magnitude < 0x00800000) return std::bit_cast<float>(bits & 0x80000000);
  return std::bit_cast<float>((bits + 0x7FFF + (bits >> 16 & 1)) & 0xFFFF0000);
}

float BF16Step(float w, float x, float acc) {
  constexpr float kLeastNormal = 0x1p-126f;
  if (std::fabs(acc) < kLeastNormal) acc = std::copysign(0.0f, acc);
  const float result = std::fma(w, x, acc);
  if (!(std::fabs(result) <= kLeastNormal)) return result;
  // Near the border: is the sum tiny once rounded to 24 bits? Scaled by 2^32 nothing that matters
  // is subnormal (w may overflow only if the product is far from tiny).
  const float scaled = std::fma(w * 0x1p32f, x, acc * 0x1p32f);
  return std::fabs(scaled) < 0x1p-94f ? std::copysign(0.0f, scaled) : result;
}

float SumOf16(const float* partial) {
  float s[16];
  std::copy(partial, partial + 16, s);
  for (size_t half = 8; half > 0; half /= 2) {
    for (size_t i = 0; i < half; ++i) s[i] = s[i] + s[i + half];
  }
  return s[0];
}

float Q8Scale(uint32_t amax_bits, float* inverse) {
  *inverse = 0.0f;
  if (amax_bits >= 0x7F800000) return std::bit_cast<float>(0x7FC00000);  // NaN: never hidden
  const float amax = std::bit_cast<float>(amax_bits);
  if (amax == 0.0f || 127.0f / amax == kInfinity) return 0.0f;
  *inverse = 127.0f / amax;
  return amax / 127.0f;
}

void RmsNorm(const float* x, const float* weight, float eps, size_t n, float* out) {
  float partial[16] = {};
  for (size_t j = 0; j < n; ++j) partial[j % 16] = std::fma(x[j], x[j], partial[j % 16]);
  const float mean = SumOf16(partial) / static_cast<float>(n);
  const float inverse = 1.0f / std::sqrt(mean + eps);
  for (size_t j = 0; j < n; ++j) out[j] = x[j] * inverse * weight[j];
}

void RotatePairs(const float* table, size_t pairs, size_t stride, float* a, float* b) {
  for (size_t i = 0; i < pairs; ++i) {
    const float c = table[2 * i], s = table[2 * i + 1];
    const float x = a[i * stride], y = b[i * stride];
    a[i * stride] = std::fma(x, c, -(y * s));
    b[i * stride] = std::fma(y, c, x * s);
  }
}

void Rope(hob_rope_style style, const float* table, size_t n_heads, size_t head_dim, size_t n_rot,
          float* x) {
  for (size_t h = 0; h < n_heads; ++h, x += head_dim) {
    if (style == HOB_ROPE_HALVES) {
      RotatePairs(table, n_rot / 2, 1, x, x + n_rot / 2);
    } else {
      RotatePairs(table, n_rot / 2, 2, x, x + 1);
    }
  }
}

void Softmax(const float* x, size_t n, float* out) {
  const float max = MaxOf(x, n);
  const float shift = max == -kInfinity ? 0.0f : max;
  float partial[16] = {};
  for (size_t j = 0; j < n; ++j) {
    out[j] = Exp(x[j] - shift);
    partial[j % 16] = partial[j % 16] + out[j];
  }
  const float sum = SumOf16(partial);
  const float inverse = sum == 0.0f ? 0.0f : 1.0f / sum;
  for (size_t j = 0; j < n; ++j) out[j] = out[j] * inverse;
}

void SiluMul(const float* gate, const float* up, size_t n, float* out) {
  for (size_t j = 0; j < n; ++j) out[j] = gate[j] / (1.0f + Exp(-gate[j])) * up[j];
}

void GeluMul(const float* gate, const float* up, size_t n, float* out) {
  for (size_t j = 0; j < n; ++j) {
    const float x = gate[j];
    out[j] = x / (1.0f + Exp(x * std::fma(kGeluC3, x * x, kGeluC1))) * up[j];
  }
}

void Add(const float* a, const float* b, size_t n, float* out) {
  for (size_t j = 0; j < n; ++j) out[j] = a[j] + b[j];
}

size_t Argmax(const float* x, size_t n) {
  const float max = MaxOf(x, n);
  for (size_t j = 0; j < n; ++j) {
    if (x[j] == max) return j;
  }
  return 0;  // nothing but NaN
}

void QuantizeQ8(const float* x, size_t blocks, size_t code_stride, int8_t* codes, size_t stride,
                float* scales, int32_t* sums) {
  for (size_t b = 0; b < blocks; ++b, x += kBlock, codes += code_stride) {
    uint32_t amax = 0;
    for (size_t i = 0; i < kBlock; ++i) amax = std::max(amax, MagnitudeBits(x[i]));
    float inverse;
    scales[b * stride] = Q8Scale(amax, &inverse);
    int32_t sum[2] = {0, 0};
    for (size_t i = 0; i < kBlock; ++i) {
      int32_t q = 0;
      if (inverse != 0.0f) Rounded(std::fma(x[i], inverse, kRound), &q);
      codes[i] = static_cast<int8_t>(q);
      sum[i / 16] += q;
    }
    sums[2 * b * stride] = sum[0];
    sums[(2 * b + 1) * stride] = sum[1];
  }
}

void QuantizeQ8Rows(const float* x, size_t x_stride, size_t rows, size_t blocks, size_t code_stride,
                    int8_t* codes, size_t stride, float* scales, int32_t* sums) {
  for (size_t row = 0; row < rows; ++row) {
    QuantizeQ8(x + row * x_stride, blocks, code_stride, codes + row * kBlock, stride, scales + row,
               sums + row);
  }
}

void ThroughQ8(const float* x, size_t n, float* out) {
  for (size_t begin = 0; begin < n; begin += kBlock) {
    float block[kBlock] = {}, scale;
    int8_t codes[kBlock];
    int32_t sums[2];
    const size_t count = std::min(kBlock, n - begin);
    std::copy_n(x + begin, count, block);
    QuantizeQ8(block, 1, kBlock, codes, 1, &scale, sums);
    for (size_t i = 0; i < count; ++i) {
      out[begin + i] = RoundToBF16(scale * static_cast<float>(codes[i]));
    }
  }
}

void ToBF16Pairs(const float* x, size_t k, uint32_t* out) {
  for (size_t i = 0; i < k; i += 2) {
    const uint32_t first = std::bit_cast<uint32_t>(RoundToBF16(x[i]));
    const uint32_t second = i + 1 < k ? std::bit_cast<uint32_t>(RoundToBF16(x[i + 1])) : 0;
    out[i / 2] = first | second >> 16;
  }
}

void Matmul(const Format& format, const uint8_t* rows, size_t n, size_t k, const float* act,
            size_t act_stride, size_t m, const float* bias, const float* residual, float* out,
            size_t out_stride, const float* gate) {
  std::vector<uint8_t> buffer(ActivationBytes(format.act, 1, k) + 1);
  for (size_t i = 0; i < m; ++i) {
    const float* x = act + i * act_stride;
    const void* prepared = buffer.data();
    if (format.act == ActKind::kQ8) {
      const Q8Acts acts = Q8ActsIn(buffer.data(), 1, k);
      QuantizeQ8(x, k / kBlock, kBlock, acts.codes, 1, acts.scales, acts.sums);
    } else if (format.act == ActKind::kBF16) {
      ToBF16Pairs(x, k, reinterpret_cast<uint32_t*>(buffer.data()));
    } else {
      prepared = x;
    }
    for (size_t j = 0; j < n; ++j) {
      float value = format.chain(rows + j * format.row_bytes(k), k, prepared);
      if (bias != nullptr) value = value + bias[j];
      if (gate != nullptr) SiluMul(gate + i * out_stride + j, &value, 1, &value);
      if (residual != nullptr) value = residual[i * out_stride + j] + value;
      out[i * out_stride + j] = value;
    }
  }
}

// ---------------------------------------------------------------- attention

namespace {

// Keys and values of one KV head in plain arrays, tokens `stride` floats apart.
struct PlainHead {
  hob_cache_type type;
  size_t head_dim;
  const float* keys;
  const float* values;
  size_t stride;

  float Key(size_t t, size_t d) const { return keys[t * stride + d]; }
  float Value(size_t t, size_t d) const { return values[t * stride + d]; }
};

// The same in the cache's own layout.
struct CachedHead {
  hob_cache_type type;
  size_t head_dim;
  const CacheView& cache;
  size_t kv_head;

  float Key(size_t t, size_t d) const { return CachedKey(cache, kv_head, t, d); }
  float Value(size_t t, size_t d) const { return CachedValue(cache, kv_head, t, d); }
};

// A running softmax-weighted sum: weights relative to 2^max.
struct Partial {
  float max = -kInfinity;
  float sum[16] = {};
  float* out = nullptr;  // (head_dim)

  Partial() = default;
  Partial(float* buffer, size_t head_dim) : out(buffer) { std::fill_n(out, head_dim, 0.0f); }
};

float Shift(float max) { return max == -kInfinity ? 0.0f : max; }

// One step of a dot product over head_dim or over tokens.
float CacheStep(hob_cache_type type, float cached, float x, float acc) {
  return type == HOB_CACHE_F32 ? std::fma(cached, x, acc) : BF16Step(RoundToBF16(cached), x, acc);
}

// bf16 chains run over pairs, aligned to even elements: one that begins or ends between the two has
// a partner of zeros.
float CacheBorder(hob_cache_type type, size_t border, float acc) {
  return type != HOB_CACHE_F32 && border % 2 != 0 ? BF16Step(0.0f, 0.0f, acc) : acc;
}

template <class Head>
float Score(const Head& head, const float* q, size_t t) {
  float acc = 0.0f;
  for (size_t d = 0; d < head.head_dim; ++d) acc = CacheStep(head.type, head.Key(t, d), q[d], acc);
  return CacheBorder(head.type, head.head_dim, acc);
}

// part.out += p . values of tokens [begin, end).
template <class Head>
void AddValues(const Head& head, const float* p, size_t begin, size_t end, Partial* part) {
  for (size_t d = 0; d < head.head_dim; ++d) {
    float acc = CacheBorder(head.type, begin, part->out[d]);
    for (size_t t = begin; t < end; ++t) {
      acc = CacheStep(head.type, head.Value(t, d), p[t - begin], acc);
    }
    part->out[d] = CacheBorder(head.type, end, acc);
  }
}

// What all scores of a row have in common.
struct Query {
  const float* q;  // (head_dim), prepared
  float softcap;   // 0: none
};

// all = all + chunk, both rescaled to their common maximum.
void Merge(const Partial& chunk, size_t head_dim, Partial* all) {
  const float max = chunk.max > all->max ? chunk.max : all->max;
  const float shift = Shift(max);
  const float old_factor = Exp2NonPositive(all->max - shift);
  const float new_factor = Exp2NonPositive(chunk.max - shift);
  for (size_t i = 0; i < 16; ++i) {
    all->sum[i] = std::fma(chunk.sum[i], new_factor, all->sum[i] * old_factor);
  }
  for (size_t d = 0; d < head_dim; ++d) {
    all->out[d] = std::fma(chunk.out[d], new_factor, all->out[d] * old_factor);
  }
  all->max = max;
}

// out = all divided by its sum.
void Finish(const Partial& all, size_t head_dim, float* out) {
  const float sum = SumOf16(all.sum);
  const float inverse = sum == 0.0f ? 0.0f : 1.0f / sum;
  for (size_t d = 0; d < head_dim; ++d) out[d] = all.out[d] * inverse;
}

// q as scores need it, in scaled (head_dim).
Query Prepare(hob_cache_type type, const float* q, size_t head_dim, float scale, float softcap,
              float* scaled) {
  const float factor = softcap == 0.0f ? scale * kLog2E : scale / softcap;
  for (size_t d = 0; d < head_dim; ++d) {
    scaled[d] = q[d] * factor;
    if (type != HOB_CACHE_F32) scaled[d] = RoundToBF16(scaled[d]);
  }
  return {scaled, softcap};
}

// The keys of chunk `chunk` that are among `keys`, into a part that has none.
template <class Head>
void AddChunk(const Head& head, const Query& query, KeyRange keys, size_t chunk, Partial* part) {
  const size_t begin = std::max(keys.begin, chunk * kKeyChunk);
  const size_t end = std::min(keys.end, (chunk + 1) * kKeyChunk);
  if (begin >= end) return;
  float p[kKeyChunk];
  for (size_t t = begin; t < end; ++t) {
    float score = Score(head, query.q, t);
    if (query.softcap != 0.0f) score = Tanh(score) * (query.softcap * kLog2E);
    p[t - begin] = score;
  }
  part->max = MaxOf(p, end - begin);
  const float shift = Shift(part->max);
  for (size_t t = begin; t < end; ++t) {
    float& weight = p[t - begin];
    weight = weight - shift;
    weight =
        head.type == HOB_CACHE_F32 ? Exp2NonPositive(weight) : RoundToBF16(Exp2ForBF16(weight));
    part->sum[t % 16] = part->sum[t % 16] + weight;
  }
  AddValues(head, p, begin, end, part);
}

// One query row that sees `keys`; scratch (3, head_dim).
template <class Head>
void AttentionRow(const Head& head, const float* q, float scale, float softcap, KeyRange keys,
                  float* scratch, float* out) {
  const size_t dim = head.head_dim;
  const Query query = Prepare(head.type, q, dim, scale, softcap, scratch);
  Partial all(scratch + dim, dim);
  for (size_t chunk = keys.begin / kKeyChunk; chunk * kKeyChunk < keys.end; ++chunk) {
    Partial part(scratch + 2 * dim, dim);
    AddChunk(head, query, keys, chunk, &part);
    Merge(part, dim, &all);
  }
  Finish(all, dim, out);
}

// Offset of a row of a KV head in q and out, and the keys that it sees.
size_t RowAt(const AttentionTask& task, size_t kv_head, size_t row) {
  const size_t group = task.group();
  return (row / group * task.n_heads + kv_head * group + row % group) * task.cache.head_dim;
}
KeyRange KeysOf(const AttentionTask& task, size_t row) {
  return VisibleKeys(task.options, task.pos, task.m, row / task.group());
}

}  // namespace

void Attention(hob_cache_type type, const float* q, const float* keys, const float* values,
               size_t m, size_t n_heads, size_t n_kv_heads, size_t head_dim, size_t pos,
               float scale, float* out, const AttentionOptions& options) {
  const size_t group = n_heads / n_kv_heads;
  if (type == HOB_CACHE_Q8_0) {
    const size_t heads = (pos + m) * n_kv_heads;
    std::vector<float> k(heads * head_dim), v(heads * head_dim);
    for (size_t i = 0; i < heads; ++i) {
      ThroughQ8(keys + i * head_dim, head_dim, k.data() + i * head_dim);
      ThroughQ8(values + i * head_dim, head_dim, v.data() + i * head_dim);
    }
    return Attention(HOB_CACHE_BF16, q, k.data(), v.data(), m, n_heads, n_kv_heads, head_dim, pos,
                     scale, out, options);
  }
  std::vector<float> scratch(3 * head_dim);
  for (size_t i = 0; i < m; ++i) {
    for (size_t h = 0; h < n_heads; ++h) {
      const size_t offset = h / group * head_dim;
      const PlainHead head = {type, head_dim, keys + offset, values + offset,
                              n_kv_heads * head_dim};
      const size_t row = (i * n_heads + h) * head_dim;
      AttentionRow(head, q + row, scale, options.softcap, VisibleKeys(options, pos, m, i),
                   scratch.data(), out + row);
    }
  }
}

void Attend(const AttentionTask& task, size_t kv_head, size_t row_begin, size_t row_end,
            void* workspace) {
  const CachedHead head = {task.cache.type, task.cache.head_dim, task.cache, kv_head};
  for (size_t r = row_begin; r < row_end; ++r) {
    const size_t at = RowAt(task, kv_head, r);
    AttentionRow(head, task.q + at, task.scale, task.options.softcap, KeysOf(task, r),
                 static_cast<float*>(workspace), task.out + at);
  }
}

void AttendChunks(const AttentionTask& task, size_t kv_head, size_t chunk_begin, size_t chunk_end,
                  void* workspace, float* partials) {
  const size_t dim = task.cache.head_dim;
  const CachedHead head = {task.cache.type, dim, task.cache, kv_head};
  const PartialLayout layout(task);
  for (size_t r = 0; r < layout.rows; ++r) {
    const KeyRange keys = KeysOf(task, r);
    const Query query = Prepare(head.type, task.q + RowAt(task, kv_head, r), dim, task.scale,
                                task.options.softcap, static_cast<float*>(workspace));
    for (size_t chunk = chunk_begin; chunk < chunk_end; ++chunk) {
      float* record = partials + layout.At(kv_head, r, chunk);
      Partial part(record + 32, dim);
      AddChunk(head, query, keys, chunk, &part);
      record[0] = part.max;
      std::copy_n(part.sum, 16, record + 16);
    }
  }
}

void MergeChunks(const AttentionTask& task, size_t kv_head, float* partials) {
  const size_t dim = task.cache.head_dim;
  const PartialLayout layout(task);
  for (size_t r = 0; r < layout.rows; ++r) {
    const KeyRange keys = KeysOf(task, r);
    Partial all(partials + layout.At(kv_head, r, layout.chunks), dim);
    for (size_t chunk = keys.begin / kKeyChunk; chunk * kKeyChunk < keys.end; ++chunk) {
      float* record = partials + layout.At(kv_head, r, chunk);
      Partial part;
      part.out = record + 32;
      part.max = record[0];
      std::copy_n(record + 16, 16, part.sum);
      Merge(part, dim, &all);
    }
    Finish(all, dim, task.out + RowAt(task, kv_head, r));
  }
}

}  // namespace hob::reference
