/* The kernels from C: a matrix product whose result is known. */
#include <hob/hob.h>
#include <stdio.h>
#include <stdlib.h>

int main(void) {
  enum { kOutputs = 3, kInputs = 2 };
  const float weight[kOutputs][kInputs] = {{1, 2}, {3, 4}, {5, 6}};
  const float act[kInputs] = {10, 1};
  const float expected[kOutputs] = {12, 34, 56};
  float out[kOutputs] = {0};
  size_t packed_bytes = 0, workspace_bytes = 0;
  void *packed, *workspace = NULL;
  hob_matmul_args args = {.struct_size = sizeof(args)};

  if (hob_packed_bytes(HOB_FORMAT_F32, kOutputs, kInputs, &packed_bytes) != HOB_OK) goto failed;
  packed = aligned_alloc(64, (packed_bytes + 63) / 64 * 64);
  if (hob_pack(HOB_FORMAT_F32, weight, kOutputs, kInputs, 0, kOutputs, packed) != HOB_OK) goto failed;
  args.format = HOB_FORMAT_F32;
  args.m = 1;
  args.n = kOutputs;
  args.k = kInputs;
  args.act = act;
  args.packed = packed;
  args.out = out;
  if (hob_matmul_workspace(&args, &workspace_bytes) != HOB_OK) goto failed;
  if (workspace_bytes > 0) workspace = aligned_alloc(64, (workspace_bytes + 63) / 64 * 64);
  if (hob_matmul(&args, workspace, workspace_bytes, NULL) != HOB_OK) goto failed;
  free(workspace);
  free(packed);
  for (int i = 0; i < kOutputs; ++i) {
    if (out[i] != expected[i]) {
      fprintf(stderr, "out[%d] is %g, not %g\n", i, (double)out[i], (double)expected[i]);
      return 1;
    }
  }
  printf("hob %s on %s\n", hob_version(), hob_target());
  return 0;
failed:
  fprintf(stderr, "%s\n", hob_status_message());
  return 1;
}
