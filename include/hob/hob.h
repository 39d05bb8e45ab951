// hob: the kernels, as a C library. Start here to embed them; model.h runs whole models on top.
//
// Conventions, the same in every call:
//  1. Letters. m = rows of activations (tokens), n = output features, k = the reduced dimension:
//     out[m][n] = sum over k of act[m][k] * weight[n][k]. Matrices are row-major; a stride is the
//     distance between the starts of two rows, in elements.
//  2. Results. Every function that can fail returns hob_status; hob_status_message() tells the
//     calling thread what was wrong, naming the argument, its value and what was expected. A failed
//     call leaves its outputs unspecified and everything else untouched. Nothing prints, aborts or
//     throws.
//  3. Memory. The caller owns every buffer. No compute call allocates: ask for the workspace size,
//     pass a workspace. Pointers need no alignment unless it is stated; outputs must not overlap
//     inputs unless it is stated.
//  4. Threads. Every function may be called from any thread, at the same time, on distinct outputs.
//     Work is spread only over the hob_threads that the caller passes; NULL = the calling thread.
//  5. Bits. A result is a fixed sequence of IEEE-754 binary32 operations (docs/numerics.md): the
//     same bits on every instruction set, for every number of threads and every batch size. Which
//     NaN a result is, is not part of it. The processor's floating-point mode must be the default
//     one (round to nearest, no flush-to-zero).
//  6. Options. Structs begin with struct_size = sizeof(the struct); zero every field that you do
//     not set. Later versions add fields at the end.
#ifndef HOB_HOB_H_
#define HOB_HOB_H_

#include <stddef.h>
#include <stdint.h>

#if defined(_WIN32)
#if defined(HOB_BUILD)
#define HOB_API __declspec(dllexport)
#elif defined(HOB_SHARED)
#define HOB_API __declspec(dllimport)
#else
#define HOB_API
#endif
#else
#define HOB_API __attribute__((visibility("default")))
#endif

// In C++, an enum that may hold any int: a caller's mistake must be an error, not undefined.
#ifdef __cplusplus
#define HOB_INT_ENUM : int
#else
#define HOB_INT_ENUM
#endif

#define HOB_VERSION_MAJOR 0
#define HOB_VERSION_MINOR 1
#define HOB_VERSION_PATCH 0

#ifdef __cplusplus
extern "C" {
#endif

// ---------------------------------------------------------------- status

typedef enum hob_status HOB_INT_ENUM {
  HOB_OK = 0,
  HOB_ERROR_ARGUMENT = 1,     // a null pointer, a struct_size or a value out of range
  HOB_ERROR_SHAPE = 2,        // dimensions that do not fit together or the format
  HOB_ERROR_FORMAT = 3,       // an unknown weight format
  HOB_ERROR_TARGET = 4,       // an unknown or unavailable instruction set
  HOB_ERROR_MEMORY = 5,       // memory could not be had
  HOB_ERROR_IO = 6,           // a file could not be opened, read or written
  HOB_ERROR_FILE = 7,         // a file's content is damaged or not what it claims to be
  HOB_ERROR_UNSUPPORTED = 8,  // well-formed, but of a kind that this version does not run
  HOB_ERROR_CANCELLED = 9,    // the caller's callback asked to stop
  HOB_ERROR_INTERNAL = 10     // a defect of hob; please report it
} hob_status;

// The constant's name, such as "HOB_ERROR_SHAPE"; never NULL. Static storage.
HOB_API const char* hob_status_name(hob_status status);

// One line about the calling thread's last call that failed; "" if none has. Valid until the
// thread's next call into hob.
HOB_API const char* hob_status_message(void);

// "MAJOR.MINOR.PATCH". Static storage.
HOB_API const char* hob_version(void);

// ---------------------------------------------------------------- threads

// The caller's threads. `parallel_for` runs body(argument, i) once for every i in [0, n), in any
// order, on any threads (at least one of them), and returns when all have finished; it must be
// callable from several threads. The bodies never throw, and take up to 192 KB of stack.
typedef struct hob_threads {
  size_t struct_size;
  void* context;  // handed to parallel_for
  size_t count;   // how many bodies may run at the same time; 1 to 1024
  void (*parallel_for)(void* context, size_t n, void (*body)(void* argument, size_t i),
                       void* argument);
} hob_threads;

// ---------------------------------------------------------------- instruction sets

// The instruction sets ("targets") that this build contains and this CPU runs, best first; the last
// is always "scalar", the reference. Writes up to `capacity` names (static storage) and returns how
// many there are. Names: avx2 avx2_vnni avx3 avx3_dl avx3_zen4 neon neon_dot neon_bf16 sve
// sve2 sve_256 sve2_128 scalar.
HOB_API size_t hob_targets(const char** names, size_t capacity);

// The target in use. At first the best one, capped by the environment variable HOB_TARGET if set.
// NULL if HOB_TARGET holds an unknown name; every compute call then fails with HOB_ERROR_TARGET.
HOB_API const char* hob_target(void);

// Caps the target: uses the best one of hob_targets() that is not better than `name`. For the whole
// process; calls that are running finish on the target they began with. NULL lifts the cap.
HOB_API hob_status hob_target_set(const char* name);

// ---------------------------------------------------------------- weight formats

typedef enum hob_format HOB_INT_ENUM {
#define HOB_FORMAT(ENUM, name, id, values, bytes) HOB_FORMAT_##ENUM = id,
#include "hob/formats.def"
#undef HOB_FORMAT
  HOB_FORMAT_NONE = -1
} hob_format;

typedef struct hob_format_info {
  size_t struct_size;
  const char* name;     // as in GGUF, in lower case: "q4_0"; static storage
  size_t block_values;  // values along k that are encoded together; k must be a multiple of it
  size_t block_bytes;   // bytes of one encoded block
} hob_format_info;

// Describes `format` (the values of hob_format are GGUF's tensor type ids).
// Fails with HOB_ERROR_FORMAT on an unknown format.
HOB_API hob_status hob_format_describe(hob_format format, hob_format_info* info);

// Lists the formats in the order of formats.def. Writes up to `capacity`, returns how many.
HOB_API size_t hob_formats(hob_format* formats, size_t capacity);

// The format called `name` ("q8_0", in any letter case). Fails with HOB_ERROR_FORMAT.
HOB_API hob_status hob_format_from_name(const char* name, hob_format* format);

// Encodes `rows` rows of k floats, src[rows][k], into blocks in GGUF's layout, dst[rows][row
// bytes], row bytes = k / block_values * block_bytes. Rounding and the choice of scales:
// docs/formats.md.
HOB_API hob_status hob_quantize_rows(hob_format format, const float* src, size_t rows, size_t k,
                                     void* dst, const hob_threads* threads);

// Decodes: dst[rows][k] from src[rows][row bytes], which may lie at any address. Exact: every value
// is representable in f32 except for one rounding of scale * code where the format's definition has
// one.
HOB_API hob_status hob_dequantize_rows(hob_format format, const void* src, size_t rows, size_t k,
                                       float* dst, const hob_threads* threads);

// ---------------------------------------------------------------- packed weights

// Matmul reads weights in panels of 16 outputs, interleaved once at load (docs/matmul.md). The
// layout is the same on every machine; this string names its version ("hob-panel-1").
HOB_API const char* hob_packed_layout(void);

// Size of the packed form of weight[n][k]. Fails with HOB_ERROR_SHAPE if k does not fit the format.
HOB_API hob_status hob_packed_bytes(hob_format format, size_t n, size_t k, size_t* bytes);

// Packs rows [n_begin, n_end) of weight[n][k] (`rows`: GGUF blocks of all n rows) into `packed`,
// which must be 64-byte aligned. n_begin must be a multiple of 16, and n_end one or n, so that
// several threads can each pack a range. One row of activations reads all of it once: where it is
// large, memory in large pages (on Linux: whole 2 MB, madvise(MADV_HUGEPAGE) before packing) is
// read faster.
HOB_API hob_status hob_pack(hob_format format, const void* rows, size_t n, size_t k, size_t n_begin,
                            size_t n_end, void* packed);

// Embedding lookup: out[i][k] = weight[ids[i]][k], decoded, from packed weights: the same values as
// hob_dequantize_rows gives, except that a subnormal bf16 is zero once packed. Every id must be in
// [0, n), and packed 64-byte aligned.
HOB_API hob_status hob_embed(hob_format format, const void* packed, size_t n, size_t k,
                             const int32_t* ids, size_t m, float* out, size_t out_stride);

// ---------------------------------------------------------------- matmul

// out[m][n] = residual[m][n] + silu(gate[m][n]) * (bias[n] + sum over k of act[m][k] *
// weight[n][k]), silu(x) = x / (1 + exp(-x)); what is NULL is left out. Block formats quantize the
// activations to 8 bits in blocks of 32 along k; bf16 rounds them to bf16; f32 and f16 use them as
// they are (docs/numerics.md has the exact sums).
typedef struct hob_matmul_args {
  size_t struct_size;
  hob_format format;
  size_t m, n, k;
  const float* act;       // (m, k)
  size_t act_stride;      // 0 = k
  const void* packed;     // weight[n][k] from hob_pack, 64-byte aligned
  const float* bias;      // (n) or NULL
  float* out;             // (m, n)
  size_t out_stride;      // 0 = n
  const float* residual;  // (m, n) with out_stride, or NULL; may be out
  const float* gate;      // (m, n) with out_stride, or NULL; may be out
} hob_matmul_args;

// Bytes of workspace for a matmul of this format and shape (only format, m, n, k are read).
HOB_API hob_status hob_matmul_workspace(const hob_matmul_args* args, size_t* bytes);

// Computes it. `workspace` holds at least that many bytes, 64-byte aligned; NULL if it is 0.
HOB_API hob_status hob_matmul(const hob_matmul_args* args, void* workspace, size_t workspace_bytes,
                              const hob_threads* threads);

// `count` matmuls of the same activations in one call, which prepares them once: query, key and
// value, or gate and up. args[0 .. count) must have the same struct_size, m, k, act and act_stride;
// formats may differ. They are computed in order, so that the gate or residual of one may be the
// out of an earlier one, if n and out_stride are the same:
//   args[0].out = h (gate); args[1].out = args[1].gate = h (up): h = silu(gate) * up
HOB_API hob_status hob_matmul_group_workspace(const hob_matmul_args* args, size_t count,
                                              size_t* bytes);
HOB_API hob_status hob_matmul_group(const hob_matmul_args* args, size_t count, void* workspace,
                                    size_t workspace_bytes, const hob_threads* threads);

// ---------------------------------------------------------------- attention

// How keys and values are kept.
typedef enum hob_cache_type HOB_INT_ENUM {
  HOB_CACHE_F32 = 0,   // as computed
  HOB_CACHE_BF16 = 1,  // rounded to bf16, half the memory and twice the dot rate where there is one
  // Of each head of a key and of a value, blocks of 32 elements (the last may be shorter) as int8
  // codes with an f32 scale, quantized as activations are; attention sees bf16(scale * code) and
  // does what it does with a bf16 cache. A little more than half of that one's memory.
  HOB_CACHE_Q8_0 = 2
} hob_cache_type;

// One layer's cache. Layouts (kernels/attention.h): keys in pages of 32 tokens, one lane a token;
// values with one lane an element of the head. Written by hob_cache_append only.
typedef struct hob_cache {
  size_t struct_size;
  hob_cache_type type;
  size_t n_kv_heads, head_dim;
  size_t capacity;  // tokens
  void* keys;       // hob_cache_bytes each, 64-byte aligned
  void* values;
} hob_cache;

// Bytes of `keys` and of `values` (they are equal) for a cache of this type and shape.
HOB_API hob_status hob_cache_bytes(const hob_cache* cache, size_t* bytes);

// Stores k and v of tokens [pos, pos + m), each (m, n_kv_heads, head_dim), pos + m <= capacity.
HOB_API hob_status hob_cache_append(const hob_cache* cache, size_t pos, size_t m, const float* k,
                                    const float* v);

// Attention with grouped query heads: row i (token pos + i) of head h sees the keys [0, pos + i] of
// KV head h / (n_heads / n_kv_heads):
//   out[i][h] = sum over t of p[t] * V[t],   p = softmax over t of (q[i][h] . K[t] * scale).
// With a window W a row sees the last W of those keys only, its own token included. With
// bidirectional, which excludes a window, every row sees the keys [0, pos + m). With a softcap C
// the scores s go into softmax as C * tanh(s / C).
typedef struct hob_attention_args {
  size_t struct_size;
  const hob_cache* cache;
  size_t m, n_heads;  // n_heads: a multiple of n_kv_heads
  size_t pos;         // tokens [0, pos + m) are in the cache
  float scale;        // 0 = 1 / sqrt(head_dim)
  const float* q;     // (m, n_heads, head_dim)
  float* out;         // (m, n_heads, head_dim)
  size_t window;      // 0 = none
  float softcap;      // 0 = none
  int bidirectional;  // 0 = causal
} hob_attention_args;

HOB_API hob_status hob_attention_workspace(const hob_attention_args* args,
                                           const hob_threads* threads, size_t* bytes);
HOB_API hob_status hob_attention(const hob_attention_args* args, void* workspace,
                                 size_t workspace_bytes, const hob_threads* threads);

// ---------------------------------------------------------------- rows

// out[i][j] = x[i][j] / sqrt(mean over j of x[i][j]^2 + eps) * weight[j]; (m, n). out may be x.
// Zhang and Sennrich, "Root Mean Square Layer Normalization", 2019.
HOB_API hob_status hob_rms_norm(const float* x, const float* weight, float eps, size_t m, size_t n,
                                float* out);

typedef enum hob_rope_style HOB_INT_ENUM {
  HOB_ROPE_INTERLEAVED = 0,  // pairs (x[2i], x[2i + 1]): llama in GGUF
  HOB_ROPE_HALVES = 1        // pairs (x[i], x[i + n_rot / 2]): GPT-NeoX, Qwen
} hob_rope_style;

// Angles of rotary position embedding: table[p][2 i] = cos, table[p][2 i + 1] = sin of
// (first + p) * freq_scale * base^(-2 i / n_rot) / (factors ? factors[i] : 1), i < n_rot / 2;
// (count, n_rot). Computed in double precision by hob's own routine, so equal on every machine. Su
// et al., "RoFormer", 2021.
HOB_API hob_status hob_rope_table(size_t first, size_t count, size_t n_rot, double base,
                                  double freq_scale, const float* factors, float* table);

// Rotates the first n_rot elements of every head of x (m, n_heads, head_dim) in place, row i by
// row i of the table (m, n_rot).
HOB_API hob_status hob_rope(hob_rope_style style, const float* table, size_t m, size_t n_heads,
                            size_t head_dim, size_t n_rot, float* x);

// out[i][j] = exp(x[i][j] - max) / sum over j of the same; (m, n). A row of -inf alone gives zeros.
// out may be x.
HOB_API hob_status hob_softmax(const float* x, size_t m, size_t n, float* out);

// out[i] = gate[i] / (1 + exp(-gate[i])) * up[i]; (count). out may be gate or up.
HOB_API hob_status hob_silu_mul(const float* gate, const float* up, size_t count, float* out);

// out[i] = gelu(gate[i]) * up[i], gelu(x) = x / 2 * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 x^3)));
// (count). out may be gate or up. Hendrycks and Gimpel, "Gaussian Error Linear Units", 2016.
HOB_API hob_status hob_gelu_mul(const float* gate, const float* up, size_t count, float* out);

// out[i] = a[i] + b[i]; (count). out may be a or b.
HOB_API hob_status hob_add(const float* a, const float* b, size_t count, float* out);

// index[i] = the smallest j with x[i][j] the largest of its row; NaN is never chosen unless the
// row has nothing else, which gives 0; (m, n), n >= 1.
HOB_API hob_status hob_argmax(const float* x, size_t m, size_t n, int32_t* index);

// The activation quantization of the block formats, for inspection: per block of 32 along k,
// codes[m][k], scales[m][k / 32]; k a multiple of 32.
HOB_API hob_status hob_quantize_activations(const float* x, size_t m, size_t k, int8_t* codes,
                                            float* scales);

#ifdef __cplusplus
}
#endif

#endif  // HOB_HOB_H_
