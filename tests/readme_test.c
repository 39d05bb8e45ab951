// The samples of README.md, compiled and run, so that they stay true: what stands between the marks
// is what the README shows (tests/readme_test.cmake compares).
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// [kernels]
#include <hob/hob.h>

// out[m][n] = act[m][k] * weight[n][k]^T with the weights as 4-bit codes. Returns 0 or prints why
// not.
static int MatmulQ4(const float* act, const float* weight, size_t m, size_t n, size_t k,
                    float* out) {
  size_t packed_bytes = 0, workspace_bytes = 0;
  void *blocks = NULL, *packed = NULL, *workspace = NULL;
  hob_matmul_args args = {.struct_size = sizeof(args),
                          .format = HOB_FORMAT_Q4_0,
                          .m = m,
                          .n = n,
                          .k = k,
                          .act = act,
                          .out = out};

  // Once per weight: encode (or take the blocks of a GGUF file) and pack.
  hob_status status = hob_packed_bytes(HOB_FORMAT_Q4_0, n, k, &packed_bytes);
  if (status == HOB_OK) {
    blocks = malloc(n * k / 32 * 18);
    packed = aligned_alloc(64, (packed_bytes + 63) / 64 * 64);
    status = hob_quantize_rows(HOB_FORMAT_Q4_0, weight, n, k, blocks, NULL);
  }
  if (status == HOB_OK) status = hob_pack(HOB_FORMAT_Q4_0, blocks, n, k, 0, n, packed);

  // Once per shape: a workspace.
  if (status == HOB_OK) status = hob_matmul_workspace(&args, &workspace_bytes);
  if (status == HOB_OK) workspace = aligned_alloc(64, (workspace_bytes + 63) / 64 * 64);

  // As often as you like, from any thread with its own workspace and output.
  args.packed = packed;
  if (status == HOB_OK) status = hob_matmul(&args, workspace, workspace_bytes, NULL);

  if (status != HOB_OK) fprintf(stderr, "%s\n", hob_status_message());
  free(workspace), free(packed), free(blocks);
  return status != HOB_OK;
}
// [end]

// [model]
#include <hob/model.h>

// Answers one request with the embedded model. Returns 0 or prints why not.
static int Answer(const char* request) {
  hob_model* model = NULL;
  hob_session* session = NULL;
  int32_t tokens[256];
  size_t count = 0;
  char prompt[256];
  snprintf(prompt, sizeof(prompt), "%s\n", request);  // this model's prompt template

  hob_status status = hob_model_load_default(NULL, &model);
  if (status == HOB_OK) status = hob_session_create(model, NULL, &session);
  if (status == HOB_OK)
    status = hob_tokenize(model, prompt, strlen(prompt), 0, tokens, 256, &count);
  int end = 0;
  while (status == HOB_OK && !end) {
    const char* text = "";
    size_t bytes = 0;
    status = hob_session_eval(session, tokens, count, NULL);
    if (status == HOB_OK) status = hob_session_sample(session, &tokens[0]);
    if (status == HOB_OK) status = hob_token_is_end(model, tokens[0], &end);
    if (status == HOB_OK) status = hob_session_text(session, end ? -1 : tokens[0], &text, &bytes);
    if (status == HOB_OK) printf("%.*s", (int)bytes, text);
    count = 1;
  }
  if (status != HOB_OK) fprintf(stderr, "%s\n", hob_status_message());
  hob_session_free(session);
  hob_model_free(model);
  return status != HOB_OK;
}
// [end]

int main(void) {
  float act[64], weight[8 * 64], out[8];
  for (int i = 0; i < 64; ++i) act[i] = (float)(i % 5 - 2);
  for (int i = 0; i < 8 * 64; ++i) weight[i] = (float)(i % 16 - 8);  // exact in 4 bits
  if (MatmulQ4(act, weight, 1, 8, 64, out) != 0) return 1;
  for (int n = 0; n < 8; ++n) {
    float expected = 0.0f;
    for (int k = 0; k < 64; ++k) expected += act[k] * weight[n * 64 + k];
    // The activations are rounded to 8 bits: half a step of 2 / 127 on each of 64 products up to 8.
    const float bound = 64.0f * 8.0f / 127.0f;
    if (out[n] - expected > bound || expected - out[n] > bound) {
      fprintf(stderr, "output %d is %g, expected %g\n", n, (double)out[n], (double)expected);
      return 1;
    }
  }
  return Answer("set a timer for ten minutes");
}
