/* The C interface, used from C: that the headers are C, that results are right (against loops
 * written here), and that every failure has its status and a message that names what was wrong. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "hob/hob.h"
#include "hob/model.h"

static int failures = 0;

#define CHECK(condition)                                                                    \
  do {                                                                                      \
    if (!(condition)) {                                                                     \
      ++failures;                                                                           \
      printf("%s:%d: CHECK(%s) failed; last message: %s\n", __FILE__, __LINE__, #condition, \
             hob_status_message());                                                         \
    }                                                                                       \
  } while (0)

#define CHECK_OK(call) CHECK((call) == HOB_OK)

/* The call fails with the status, and its message contains `part`. */
#define CHECK_FAILS(call, status, part)                  \
  do {                                                   \
    CHECK((call) == (status));                           \
    CHECK(strstr(hob_status_message(), (part)) != NULL); \
  } while (0)

static void* allocated[16];
static size_t allocations;

/* 64-byte aligned memory that lives until FreeAll. */
static void* Allocate(size_t bytes) {
  void* memory = aligned_alloc(64, (bytes + 64) / 64 * 64);
  if (memory == NULL || allocations == 16) abort();
  allocated[allocations++] = memory;
  memset(memory, 0, (bytes + 64) / 64 * 64);
  return memory;
}

static void FreeAll(void) {
  while (allocations > 0) free(allocated[--allocations]);
}

/* Reproducible numbers in [-1, 1). */
static void Fill(float* x, size_t count, uint32_t seed) {
  for (size_t i = 0; i < count; ++i) {
    seed = seed * 1664525u + 1013904223u;
    x[i] = (float)(int32_t)seed / 2147483648.0f;
  }
}

static void TestTargets(void) {
  const char* names[16];
  const size_t count = hob_targets(names, 16);
  CHECK(count >= 1 && count <= 16);
  CHECK(strcmp(names[count - 1], "scalar") == 0);
  CHECK(hob_targets(NULL, 0) == count);
  CHECK(hob_target() != NULL);
  CHECK_OK(hob_target_set("scalar"));
  CHECK(strcmp(hob_target(), "scalar") == 0);
  CHECK_FAILS(hob_target_set("sse17"), HOB_ERROR_TARGET, "sse17");
  CHECK(strcmp(hob_target(), "scalar") == 0);
  CHECK_OK(hob_target_set(NULL));
  CHECK(strcmp(hob_target(), names[0]) == 0);
}

static void TestFormats(void) {
  hob_format formats[64];
  const size_t count = hob_formats(formats, 64);
  CHECK(count >= 5 && count <= 64);
  for (size_t i = 0; i < count; ++i) {
    hob_format_info info = {0};
    hob_format again = HOB_FORMAT_NONE;
    info.struct_size = sizeof(info);
    CHECK_OK(hob_format_describe(formats[i], &info));
    CHECK_OK(hob_format_from_name(info.name, &again));
    CHECK(again == formats[i]);
    CHECK(info.block_values > 0 && info.block_bytes > 0);
  }
  hob_format format;
  CHECK_OK(hob_format_from_name("Q4_0", &format));
  CHECK(format == HOB_FORMAT_Q4_0);
  CHECK_FAILS(hob_format_from_name("q9_9", &format), HOB_ERROR_FORMAT, "q9_9");
  CHECK(hob_format_from_name(NULL, &format) == HOB_ERROR_ARGUMENT);
  hob_format_info info = {sizeof(info), NULL, 0, 0};
  CHECK_FAILS(hob_format_describe((hob_format)77, &info), HOB_ERROR_FORMAT, "77");
  info.struct_size = 1;
  CHECK_FAILS(hob_format_describe(HOB_FORMAT_F32, &info), HOB_ERROR_ARGUMENT, "struct_size");
}

/* An f32 matmul is one chain of fused multiply-adds, so the comparison is exact. */
static void TestMatmul(void) {
  enum { kM = 3, kN = 21, kK = 40 };
  float act[kM * kK], weight[kN * kK], bias[kN], out[kM * kN];
  Fill(act, kM * kK, 1);
  Fill(weight, kN * kK, 2);
  Fill(bias, kN, 3);

  size_t bytes = 0;
  CHECK_OK(hob_packed_bytes(HOB_FORMAT_F32, kN, kK, &bytes));
  CHECK(bytes >= sizeof(weight));
  void* packed = Allocate(bytes);
  CHECK_OK(hob_pack(HOB_FORMAT_F32, weight, kN, kK, 0, 16, packed));
  CHECK_OK(hob_pack(HOB_FORMAT_F32, weight, kN, kK, 16, kN, packed));

  hob_matmul_args args = {0};
  args.struct_size = sizeof(args);
  args.format = HOB_FORMAT_F32;
  args.m = kM;
  args.n = kN;
  args.k = kK;
  args.act = act;
  args.packed = packed;
  args.bias = bias;
  args.out = out;
  CHECK_OK(hob_matmul_workspace(&args, &bytes));
  void* workspace = bytes == 0 ? NULL : Allocate(bytes);
  CHECK_OK(hob_matmul(&args, workspace, bytes, NULL));
  for (size_t m = 0; m < kM; ++m) {
    for (size_t n = 0; n < kN; ++n) {
      float chain = 0;
      double exact = bias[n];
      for (size_t k = 0; k < kK; ++k) {
        chain = fmaf(weight[n * kK + k], act[m * kK + k], chain);
        exact += (double)weight[n * kK + k] * act[m * kK + k];
      }
      CHECK(out[m * kN + n] == bias[n] + chain);
      CHECK(fabs(out[m * kN + n] - exact) < 1e-5);
    }
  }

  const int32_t ids[2] = {20, 4};
  float rows[2 * kK];
  CHECK_OK(hob_embed(HOB_FORMAT_F32, packed, kN, kK, ids, 2, rows, 0));
  CHECK(memcmp(rows, weight + 20 * kK, kK * sizeof(float)) == 0);
  CHECK(memcmp(rows + kK, weight + 4 * kK, kK * sizeof(float)) == 0);

  hob_matmul_args wrong = args;
  wrong.struct_size = 3;
  CHECK_FAILS(hob_matmul(&wrong, workspace, bytes, NULL), HOB_ERROR_ARGUMENT, "struct_size");
  wrong = args;
  wrong.act = NULL;
  CHECK_FAILS(hob_matmul(&wrong, workspace, bytes, NULL), HOB_ERROR_ARGUMENT, "act");
  wrong = args;
  wrong.out_stride = kN - 1;
  CHECK_FAILS(hob_matmul(&wrong, workspace, bytes, NULL), HOB_ERROR_SHAPE, "out_stride");
  wrong = args;
  wrong.format = (hob_format)99;
  CHECK_FAILS(hob_matmul(&wrong, workspace, bytes, NULL), HOB_ERROR_FORMAT, "99");
  CHECK(hob_matmul(NULL, workspace, bytes, NULL) == HOB_ERROR_ARGUMENT);
  CHECK_FAILS(hob_packed_bytes(HOB_FORMAT_Q8_0, kN, 33, &bytes), HOB_ERROR_SHAPE, "33");
  CHECK(hob_pack(HOB_FORMAT_F32, weight, kN, kK, 5, kN, packed) != HOB_OK);
}

static void TestQuantize(void) {
  enum { kK = 64 };
  float x[kK], back[kK];
  uint8_t blocks[kK / 32 * 34];
  Fill(x, kK, 4);
  CHECK_OK(hob_quantize_rows(HOB_FORMAT_Q8_0, x, 1, kK, blocks, NULL));
  CHECK_OK(hob_dequantize_rows(HOB_FORMAT_Q8_0, blocks, 1, kK, back, NULL));
  for (size_t i = 0; i < kK; ++i) CHECK(fabsf(x[i] - back[i]) < 0.005f);
  CHECK(hob_quantize_rows(HOB_FORMAT_Q8_0, x, 1, 48, blocks, NULL) == HOB_ERROR_SHAPE);
}

static void TestAttention(void) {
  enum { kTokens = 19, kHeads = 4, kKvHeads = 2, kDim = 8 };
  float q[kTokens * kHeads * kDim], k[kTokens * kKvHeads * kDim], v[kTokens * kKvHeads * kDim];
  float out[kTokens * kHeads * kDim];
  Fill(q, sizeof(q) / sizeof(*q), 5);
  Fill(k, sizeof(k) / sizeof(*k), 6);
  Fill(v, sizeof(v) / sizeof(*v), 7);

  hob_cache cache = {sizeof(cache), HOB_CACHE_F32, kKvHeads, kDim, kTokens, NULL, NULL};
  size_t bytes = 0;
  CHECK_OK(hob_cache_bytes(&cache, &bytes));
  cache.keys = Allocate(bytes);
  cache.values = Allocate(bytes);
  CHECK_OK(hob_cache_append(&cache, 0, kTokens, k, v));
  CHECK(hob_cache_append(&cache, kTokens, 1, k, v) == HOB_ERROR_SHAPE);

  hob_attention_args args = {0};
  args.struct_size = sizeof(args);
  args.cache = &cache;
  args.m = kTokens;
  args.n_heads = kHeads;
  args.q = q;
  args.out = out;
  CHECK_OK(hob_attention_workspace(&args, NULL, &bytes));
  void* workspace = bytes == 0 ? NULL : Allocate(bytes);
  CHECK_OK(hob_attention(&args, workspace, bytes, NULL));

  for (size_t i = 0; i < kTokens; ++i) {
    for (size_t h = 0; h < kHeads; ++h) {
      const size_t kv = h / (kHeads / kKvHeads);
      double sum = 0, expected[kDim] = {0};
      for (size_t t = 0; t <= i; ++t) {
        double score = 0;
        for (size_t d = 0; d < kDim; ++d) {
          score += (double)q[(i * kHeads + h) * kDim + d] * k[(t * kKvHeads + kv) * kDim + d];
        }
        const double p = exp(score / sqrt(kDim));
        sum += p;
        for (size_t d = 0; d < kDim; ++d) expected[d] += p * v[(t * kKvHeads + kv) * kDim + d];
      }
      for (size_t d = 0; d < kDim; ++d) {
        CHECK(fabs(out[(i * kHeads + h) * kDim + d] - expected[d] / sum) < 1e-5);
      }
    }
  }

  args.n_heads = 3; /* no multiple of 2 */
  CHECK_FAILS(hob_attention_workspace(&args, NULL, &bytes), HOB_ERROR_SHAPE, "3");
}

static int StopAtOnce(void* context, float done) {
  (void)done;
  ++*(int*)context;
  return 1;
}

static void TestModelErrors(void) {
  hob_model* model = NULL;
  CHECK_FAILS(hob_model_load("/no/such/file.gguf", NULL, &model), HOB_ERROR_IO, "/no/such/file");
  CHECK(hob_model_load(NULL, NULL, &model) == HOB_ERROR_ARGUMENT);
  CHECK(hob_model_load("x", NULL, NULL) == HOB_ERROR_ARGUMENT);
  CHECK(hob_model_load_memory("GGUX\3\0\0\0 no model at all", 26, NULL, &model) == HOB_ERROR_FILE);
  hob_model_options options = {0};
  CHECK_FAILS(hob_model_load("x", &options, &model), HOB_ERROR_ARGUMENT, "struct_size");
  CHECK(hob_quantize_file("/no/such/file.gguf", "/tmp/never", "q8_0", NULL) == HOB_ERROR_IO);
  CHECK(hob_quantize_file("x", "y", NULL, NULL) == HOB_ERROR_ARGUMENT);
  CHECK_FAILS(hob_quantize_file("x", "y", "q9_9", NULL), HOB_ERROR_FORMAT, "q9_9");
  const char* mixes[1] = {NULL};
  CHECK(hob_mixes(NULL, 0) > 1 && hob_mixes(mixes, 1) > 1 && mixes[0] != NULL);
  hob_model_free(NULL);
  hob_session_free(NULL);
}

/* What is kept of a session: a prefix, and all of it in memory. */
static void TestKeeping(hob_session* session, const int32_t* tokens, size_t count) {
  size_t kept = 0, bytes = 0;
  hob_session_info info = {0};
  CHECK_OK(hob_session_eval(session, tokens, count, NULL));
  CHECK_OK(hob_session_save_memory(session, NULL, 0, &bytes));
  void* state = Allocate(bytes);
  CHECK_OK(hob_session_save_memory(session, state, bytes, &bytes));
  CHECK_OK(hob_session_reuse(session, tokens, count, &kept));
  CHECK(kept == count - 1 && hob_session_position(session) == kept);
  CHECK_OK(hob_session_restore_memory(session, state, bytes));
  info.struct_size = sizeof(info);
  CHECK_OK(hob_session_describe(session, &info));
  CHECK(info.position == count && info.cache_bytes > 0 && info.cache_bytes < bytes);
  CHECK_FAILS(hob_session_restore_memory(session, state, bytes - 1), HOB_ERROR_FILE, "bytes");
  CHECK(hob_session_position(session) == count);
}

static void TestDefaultModel(void) {
  hob_model* model = NULL;
  const hob_status status = hob_model_load_default(NULL, &model);
  if (status == HOB_ERROR_UNSUPPORTED) {
    printf("no default model in this build: %s\n", hob_status_message());
    return;
  }
  CHECK(status == HOB_OK);
  if (status != HOB_OK) return;

  hob_model_info info = {0};
  info.struct_size = sizeof(info);
  CHECK_OK(hob_model_describe(model, &info));
  CHECK(info.vocabulary > 0 && info.context > 0 && info.layers > 0 && info.parameters > 0);

  char prompt[256] = "what time is it";
  if (info.prompt_template != NULL) {
    const char* place = strstr(info.prompt_template, "{prompt}");
    CHECK(place != NULL);
    snprintf(prompt, sizeof(prompt), "%.*swhat time is it%s", (int)(place - info.prompt_template),
             info.prompt_template, place + strlen("{prompt}"));
  }
  int32_t tokens[256];
  size_t count = 0;
  CHECK_OK(hob_tokenize(model, prompt, strlen(prompt), 0, tokens, 256, &count));
  CHECK(count > 0 && count <= 256);
  size_t needed = 0;
  CHECK_OK(hob_tokenize(model, prompt, strlen(prompt), 0, NULL, 0, &needed));
  CHECK(needed == count);

  hob_session* session = NULL;
  CHECK_OK(hob_session_create(model, NULL, &session));
  int32_t token = -1;
  CHECK(hob_session_sample(session, &token) != HOB_OK); /* no logits yet */
  CHECK_OK(hob_session_eval(session, tokens, count, NULL));
  CHECK(hob_session_position(session) == count);
  const int32_t bad = (int32_t)info.vocabulary;
  CHECK(hob_session_eval(session, &bad, 1, NULL) == HOB_ERROR_ARGUMENT);
  CHECK(hob_session_position(session) == count);

  char answer[1024] = "";
  for (int i = 0; i < 100; ++i) {
    const char* text = NULL;
    size_t bytes = 0;
    int end = 0;
    CHECK_OK(hob_session_sample(session, &token));
    CHECK_OK(hob_token_is_end(model, token, &end));
    CHECK_OK(hob_session_text(session, end ? -1 : token, &text, &bytes));
    if (strlen(answer) + bytes < sizeof(answer)) strncat(answer, text, bytes);
    if (end) break;
    CHECK_OK(hob_session_eval(session, &token, 1, NULL));
  }
  printf("what time is it -> %s\n", answer);
  CHECK(answer[0] == '{' && answer[strlen(answer) - 1] == '}');

  CHECK_OK(hob_session_rewind(session, 0));
  CHECK(hob_session_position(session) == 0);
  TestKeeping(session, tokens, count);
  hob_sampler_options sampler = {0};
  sampler.struct_size = sizeof(sampler);
  sampler.temperature = -1;
  CHECK_FAILS(hob_session_sampler(session, &sampler), HOB_ERROR_ARGUMENT, "temperature");
  hob_session_free(session);

  hob_session_options small = {0};
  small.struct_size = sizeof(small);
  small.context = 2;
  CHECK_OK(hob_session_create(model, &small, &session));
  const int32_t three[3] = {tokens[0], tokens[0], tokens[0]};
  CHECK(hob_session_eval(session, three, 3, NULL) == HOB_ERROR_SHAPE);
  CHECK(hob_session_position(session) == 0);
  hob_session_free(session);
  hob_model_free(model);

  int calls = 0;
  hob_model_options options = {0};
  options.struct_size = sizeof(options);
  options.progress = StopAtOnce;
  options.progress_context = &calls;
  CHECK(hob_model_load_default(&options, &model) == HOB_ERROR_CANCELLED);
  CHECK(calls >= 1);
}

int main(void) {
  CHECK(strcmp(hob_status_name(HOB_ERROR_SHAPE), "HOB_ERROR_SHAPE") == 0);
  CHECK(hob_status_name((hob_status)1234) != NULL);
  CHECK(strcmp(hob_status_message(), "") == 0); /* nothing has failed yet */
  CHECK(hob_version()[0] != '\0' && hob_packed_layout()[0] != '\0');
  TestTargets();
  TestFormats();
  TestMatmul();
  TestQuantize();
  TestAttention();
  TestModelErrors();
  TestDefaultModel();
  FreeAll();
  printf("%d checks failed\n", failures);
  return failures == 0 ? 0 : 1;
}
