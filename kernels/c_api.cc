// The C functions of hob.h: validate, then hand over. From hob_matmul the path goes on to matmul.cc
// (activations, panels), matmul-inl.h (loops) and tile-inl.h (registers).
// Tested by tests/kernel_c_api_test.cc and, from C, by tests/c_api_test.c.

#include <algorithm>
#include <cmath>
#include <cstdarg>
#include <cstdio>
#include <cstring>
#include <limits>

#include "hob/hob.h"
#include "kernels/attention.h"
#include "kernels/formats.h"
#include "kernels/matmul.h"
#include "kernels/rows.h"
#include "kernels/status.h"
#include "kernels/targets.h"

namespace hob {
namespace {

thread_local char last_message[512] = "";

}  // namespace

hob_status hob_internal_set_error(hob_status status, const char* format, ...) {
  va_list args;
  va_start(args, format);
  std::vsnprintf(last_message, sizeof(last_message), format, args);
  va_end(args);
  return status;
}

namespace {

// ---------------------------------------------------------------- checks
// Each returns HOB_OK or an error whose message names the argument. RETURN_IF_ERROR is the only
// macro: it spells `if (const hob_status s = ...; s != HOB_OK) return s;`.
#define RETURN_IF_ERROR(call) \
  if (const hob_status status_ = (call); status_ != HOB_OK) return status_

hob_status CheckPointer(const void* pointer, const char* name) {
  return pointer != nullptr ? HOB_OK : SetError(HOB_ERROR_ARGUMENT, "%s is NULL", name);
}

hob_status CheckAlignment(const void* pointer, const char* name) {
  const auto address = reinterpret_cast<uintptr_t>(pointer);
  if (address % 64 == 0) return HOB_OK;
  return SetError(HOB_ERROR_ARGUMENT, "%s is not 64-byte aligned (address mod 64 = %u)", name,
                  static_cast<unsigned>(address % 64));
}

// The first version of every struct is what this file knows; a caller with a newer, larger one is
// fine, a smaller one is a mistake.
hob_status CheckStruct(const void* pointer, const char* name, size_t expected) {
  RETURN_IF_ERROR(CheckPointer(pointer, name));
  size_t size;
  std::memcpy(&size, pointer, sizeof(size));
  if (size >= expected) return HOB_OK;
  return SetError(HOB_ERROR_ARGUMENT, "%s->struct_size is %zu, expected sizeof = %zu", name, size,
                  expected);
}

hob_status CheckPositive(size_t value, const char* name) {
  return value > 0 ? HOB_OK : SetError(HOB_ERROR_SHAPE, "%s is 0", name);
}

// a * b * element_bytes must fit in memory's address range.
hob_status CheckProduct(size_t a, size_t b, const char* what) {
  constexpr size_t kMax = std::numeric_limits<ptrdiff_t>::max() / 64;
  if (b == 0 || a <= kMax / b) return HOB_OK;
  return SetError(HOB_ERROR_SHAPE, "%s is too large: %zu x %zu", what, a, b);
}

size_t RoundUp(size_t value, size_t unit) { return (value + unit - 1) / unit * unit; }

hob_status CheckTarget() {
  if (ActiveTarget() >= 0) return HOB_OK;
  return SetError(HOB_ERROR_TARGET, "%s", BadTargetMessage());
}

hob_status CheckFormat(hob_format id, const Format** format) {
  *format = FindFormat(id);
  if (*format != nullptr) return HOB_OK;
  return SetError(HOB_ERROR_FORMAT, "format %d is not one that hob knows", static_cast<int>(id));
}

hob_status CheckWeight(hob_format id, size_t n, size_t k, const Format** format) {
  RETURN_IF_ERROR(CheckFormat(id, format));
  RETURN_IF_ERROR(CheckPositive(n, "n"));
  RETURN_IF_ERROR(CheckPositive(k, "k"));
  if (k % (*format)->block_values != 0) {
    return SetError(HOB_ERROR_SHAPE, "k = %zu is not a multiple of %s's block of %zu", k,
                    (*format)->name, (*format)->block_values);
  }
  return CheckProduct(n, k, "n x k");
}

hob_status CheckThreads(const hob_threads* threads) {
  if (threads == nullptr) return HOB_OK;
  RETURN_IF_ERROR(CheckStruct(threads, "threads", sizeof(hob_threads)));
  if (threads->parallel_for == nullptr) {
    return SetError(HOB_ERROR_ARGUMENT, "threads->parallel_for is NULL");
  }
  // More would overflow what is computed from it, such as the bytes of all their workspaces.
  constexpr size_t kMost = 1024;
  if (threads->count >= 1 && threads->count <= kMost) return HOB_OK;
  return SetError(HOB_ERROR_ARGUMENT, "threads->count is %zu, expected 1 to %zu", threads->count,
                  kMost);
}

// Of `rows` rows; 0 stands for their width.
hob_status CheckStride(size_t* stride, size_t rows, size_t width, const char* name) {
  if (*stride == 0) *stride = width;
  if (*stride >= width) return CheckProduct(rows, *stride, name);
  return SetError(HOB_ERROR_SHAPE, "%s = %zu is less than the row's %zu", name, *stride, width);
}

hob_status CheckWorkspace(const void* workspace, size_t bytes, size_t needed) {
  if (needed == 0) return HOB_OK;
  if (bytes < needed) {
    return SetError(HOB_ERROR_ARGUMENT, "workspace_bytes is %zu, %zu are needed", bytes, needed);
  }
  RETURN_IF_ERROR(CheckPointer(workspace, "workspace"));
  return CheckAlignment(workspace, "workspace");
}

// ---------------------------------------------------------------- threads

// Splits [0, n) into at most `parts` ranges and runs body(begin, end, part) for each, over the
// threads. Ranges depend on n and the number of threads only; bits never do.
template <class Body>
void ParallelRanges(const hob_threads* threads, size_t n, const Body& body) {
  const size_t parts = threads == nullptr ? 1 : std::min(n, threads->count);
  if (parts <= 1) {
    if (n > 0) body(0, n, 0);
    return;
  }
  struct Job {
    const Body& body;
    size_t n, parts;
  } job = {body, n, parts};
  threads->parallel_for(
      threads->context, parts,
      [](void* argument, size_t part) {
        const Job& j = *static_cast<const Job*>(argument);
        j.body(j.n * part / j.parts, j.n * (part + 1) / j.parts, part);
      },
      &job);
}

size_t Panels(size_t n) { return (n + kPanel - 1) / kPanel; }

// ---------------------------------------------------------------- matmul and attention

struct Matmul {
  const Format* format = nullptr;
  MatmulTask task;
};

hob_status PlanMatmul(const hob_matmul_args* args, Matmul* plan) {
  RETURN_IF_ERROR(CheckStruct(args, "args", sizeof(hob_matmul_args)));
  RETURN_IF_ERROR(CheckWeight(args->format, args->n, args->k, &plan->format));
  RETURN_IF_ERROR(CheckPositive(args->m, "m"));
  RETURN_IF_ERROR(CheckProduct(args->m, args->k, "m x k"));
  RETURN_IF_ERROR(CheckProduct(args->m, args->n, "m x n"));
  plan->task = {.m = args->m,
                .n = args->n,
                .k = args->k,
                .packed = static_cast<const uint8_t*>(args->packed),
                .act = args->act,
                .act_stride = args->act_stride,
                .bias = args->bias,
                .residual = args->residual,
                .out = args->out,
                .out_stride = args->out_stride,
                .gate = args->gate};
  RETURN_IF_ERROR(CheckStride(&plan->task.act_stride, args->m, args->k, "act_stride"));
  return CheckStride(&plan->task.out_stride, args->m, args->n, "out_stride");
}

// The i-th of a group: an array of the caller's, whose struct may be longer than ours.
const hob_matmul_args* MatmulAt(const hob_matmul_args* args, size_t i) {
  return reinterpret_cast<const hob_matmul_args*>(reinterpret_cast<const uint8_t*>(args) +
                                                  i * args->struct_size);
}

// Since struct_size is the way from one to the next, it must be that of a struct, and of all.
hob_status CheckSameStruct(const hob_matmul_args* args, size_t i) {
  if (args->struct_size % alignof(hob_matmul_args) != 0) {
    return SetError(HOB_ERROR_ARGUMENT, "args->struct_size is %zu, expected a multiple of %zu",
                    args->struct_size, alignof(hob_matmul_args));
  }
  if (MatmulAt(args, i)->struct_size == args->struct_size) return HOB_OK;
  return SetError(HOB_ERROR_ARGUMENT, "args[%zu].struct_size is %zu, expected that of args[0], %zu",
                  i, MatmulAt(args, i)->struct_size, args->struct_size);
}

// Where a group's prepared activations lie in the workspace: one part for each ActKind in use.
struct GroupActs {
  static constexpr ActKind kKinds[] = {ActKind::kQ8, ActKind::kBF16};
  size_t offset[2], bytes;
  bool used[2];
};

// Checks a group as far as its workspace depends on it.
hob_status PlanGroup(const hob_matmul_args* args, size_t count, GroupActs* acts) {
  *acts = {};
  RETURN_IF_ERROR(CheckPositive(count, "count"));
  RETURN_IF_ERROR(CheckPointer(args, "args"));
  for (size_t i = 0; i < count; ++i) {
    Matmul plan = {};
    if (i > 0) RETURN_IF_ERROR(CheckSameStruct(args, i));
    RETURN_IF_ERROR(PlanMatmul(MatmulAt(args, i), &plan));
    if (plan.task.m != args->m || plan.task.k != args->k || plan.task.act != args->act ||
        MatmulAt(args, i)->act_stride != args->act_stride) {
      return SetError(HOB_ERROR_SHAPE,
                      "args[%zu] is not of the same activations as args[0]: m, k, act and "
                      "act_stride must be equal",
                      i);
    }
    for (size_t kind = 0; kind < 2; ++kind) {
      acts->used[kind] |= plan.format->act == GroupActs::kKinds[kind];
    }
  }
  for (size_t kind = 0; kind < 2; ++kind) {
    if (!acts->used[kind]) continue;
    acts->offset[kind] = acts->bytes;
    acts->bytes += (ActivationBytes(GroupActs::kKinds[kind], args->m, args->k) + 63) / 64 * 64;
  }
  return HOB_OK;
}

// And as far as computing it does.
hob_status CheckGroup(const hob_matmul_args* args, size_t count) {
  for (size_t i = 0; i < count; ++i) {
    const hob_matmul_args* one = MatmulAt(args, i);
    RETURN_IF_ERROR(CheckPointer(one->act, "args->act"));
    RETURN_IF_ERROR(CheckPointer(one->packed, "args->packed"));
    RETURN_IF_ERROR(CheckAlignment(one->packed, "args->packed"));
    RETURN_IF_ERROR(CheckPointer(one->out, "args->out"));
  }
  return HOB_OK;
}

hob_status CheckCache(const hob_cache* cache, bool with_memory, CacheView* view) {
  RETURN_IF_ERROR(CheckStruct(cache, "cache", sizeof(hob_cache)));
  if (cache->type < HOB_CACHE_F32 || cache->type > HOB_CACHE_Q8_0) {
    return SetError(HOB_ERROR_ARGUMENT, "cache->type is %d, expected HOB_CACHE_F32, _BF16 or _Q8_0",
                    static_cast<int>(cache->type));
  }
  RETURN_IF_ERROR(CheckPositive(cache->n_kv_heads, "cache->n_kv_heads"));
  RETURN_IF_ERROR(CheckPositive(cache->head_dim, "cache->head_dim"));
  RETURN_IF_ERROR(CheckPositive(cache->capacity, "cache->capacity"));
  RETURN_IF_ERROR(CheckProduct(cache->n_kv_heads, cache->head_dim, "n_kv_heads x head_dim"));
  RETURN_IF_ERROR(CheckProduct(cache->n_kv_heads * cache->head_dim, cache->capacity, "the cache"));
  // And once more as it is laid out, with whole lanes and tiles (attention.h).
  const size_t heads = cache->n_kv_heads, width = RoundUp(cache->head_dim, kPanel);
  RETURN_IF_ERROR(CheckProduct(heads, width, "n_kv_heads x head_dim"));
  RETURN_IF_ERROR(CheckProduct(heads * width, RoundUp(cache->capacity, kKeyTile), "the cache"));
  if (with_memory) {
    RETURN_IF_ERROR(CheckPointer(cache->keys, "cache->keys"));
    RETURN_IF_ERROR(CheckPointer(cache->values, "cache->values"));
    RETURN_IF_ERROR(CheckAlignment(cache->keys, "cache->keys"));
    RETURN_IF_ERROR(CheckAlignment(cache->values, "cache->values"));
  }
  *view = {cache->type,     cache->n_kv_heads, cache->head_dim,
           cache->capacity, cache->keys,       cache->values};
  return HOB_OK;
}

hob_status CheckTokens(const CacheView& cache, size_t pos, size_t m) {
  if (m <= cache.capacity && pos <= cache.capacity - m) return HOB_OK;
  return SetError(HOB_ERROR_SHAPE, "pos + m = %zu + %zu tokens exceed the cache's capacity of %zu",
                  pos, m, cache.capacity);
}

hob_status PlanAttention(const hob_attention_args* args, bool with_memory, AttentionTask* task) {
  RETURN_IF_ERROR(CheckStruct(args, "args", sizeof(hob_attention_args)));
  RETURN_IF_ERROR(CheckCache(args->cache, with_memory, &task->cache));
  RETURN_IF_ERROR(CheckPositive(args->m, "m"));
  RETURN_IF_ERROR(CheckPositive(args->n_heads, "n_heads"));
  if (args->n_heads % task->cache.n_kv_heads != 0) {
    return SetError(HOB_ERROR_SHAPE, "n_heads = %zu is not a multiple of n_kv_heads = %zu",
                    args->n_heads, task->cache.n_kv_heads);
  }
  RETURN_IF_ERROR(CheckTokens(task->cache, args->pos, args->m));
  RETURN_IF_ERROR(CheckProduct(args->n_heads, task->cache.head_dim, "n_heads x head_dim"));
  RETURN_IF_ERROR(CheckProduct(args->n_heads * task->cache.head_dim, args->m, "q"));
  task->m = args->m;
  task->n_heads = args->n_heads;
  task->pos = args->pos;
  task->scale = args->scale != 0.0f ? args->scale
                                    : 1.0f / std::sqrt(static_cast<float>(task->cache.head_dim));
  task->q = args->q;
  task->out = args->out;
  if (!(args->softcap >= 0.0f && args->softcap <= std::numeric_limits<float>::max())) {
    return SetError(HOB_ERROR_ARGUMENT, "args->softcap is %g, expected 0 or a positive number",
                    static_cast<double>(args->softcap));
  }
  if (args->bidirectional != 0 && args->window != 0) {
    return SetError(HOB_ERROR_ARGUMENT,
                    "args->window is %zu with args->bidirectional: a window looks back only",
                    args->window);
  }
  task->options = {args->window, args->softcap, args->bidirectional != 0};
  return HOB_OK;
}

// The division for so many threads, and where in the workspace its partial results are.
struct DividedAttention {
  AttentionDivision division;
  size_t one;       // bytes for each thread
  size_t partials;  // offset
  size_t bytes;     // in total
};

DividedAttention Divide(const AttentionTask& task, const hob_threads* threads) {
  const size_t count = threads == nullptr ? 1 : threads->count;
  DividedAttention d;
  d.division = DivideAttention(task, count);
  d.one = AttentionWorkspace(task.cache.head_dim);
  d.partials = d.one * count;
  d.bytes = d.partials;
  if (d.division.parts > 1) {
    d.bytes += AttentionPartialBytes(task.cache, task.m * task.group(), task.tokens());
  }
  return d;
}

// What ops take that go element by element.
hob_status CheckElements(const float* a, const char* a_name, const float* b, const char* b_name,
                         const float* out) {
  RETURN_IF_ERROR(CheckTarget());
  RETURN_IF_ERROR(CheckPointer(a, a_name));
  RETURN_IF_ERROR(CheckPointer(b, b_name));
  return CheckPointer(out, "out");
}

hob_status CheckRows(const void* in, const char* in_name, const void* out, const char* out_name,
                     size_t m, size_t n) {
  RETURN_IF_ERROR(CheckTarget());
  RETURN_IF_ERROR(CheckPointer(in, in_name));
  RETURN_IF_ERROR(CheckPointer(out, out_name));
  RETURN_IF_ERROR(CheckPositive(n, "n"));
  return CheckProduct(std::max<size_t>(m, 1), n, "m x n");  // a row, even where there is none
}

}  // namespace
}  // namespace hob

using namespace hob;  // NOLINT: this file is the C side of namespace hob

// ---------------------------------------------------------------- status, targets, formats

const char* hob_status_name(hob_status status) {
  switch (status) {
    case HOB_OK:
      return "HOB_OK";
    case HOB_ERROR_ARGUMENT:
      return "HOB_ERROR_ARGUMENT";
    case HOB_ERROR_SHAPE:
      return "HOB_ERROR_SHAPE";
    case HOB_ERROR_FORMAT:
      return "HOB_ERROR_FORMAT";
    case HOB_ERROR_TARGET:
      return "HOB_ERROR_TARGET";
    case HOB_ERROR_MEMORY:
      return "HOB_ERROR_MEMORY";
    case HOB_ERROR_IO:
      return "HOB_ERROR_IO";
    case HOB_ERROR_FILE:
      return "HOB_ERROR_FILE";
    case HOB_ERROR_UNSUPPORTED:
      return "HOB_ERROR_UNSUPPORTED";
    case HOB_ERROR_CANCELLED:
      return "HOB_ERROR_CANCELLED";
    case HOB_ERROR_INTERNAL:
      return "HOB_ERROR_INTERNAL";
  }
  return "unknown hob_status";
}

const char* hob_status_message(void) { return last_message; }

#define HOB_STRING_(x) #x
#define HOB_STRING(x) HOB_STRING_(x)
const char* hob_version(void) {
  return HOB_STRING(HOB_VERSION_MAJOR) "." HOB_STRING(HOB_VERSION_MINOR) "." HOB_STRING(
      HOB_VERSION_PATCH);
}

size_t hob_targets(const char** names, size_t capacity) {
  const auto& targets = SupportedTargets();
  for (size_t i = 0; names != nullptr && i < std::min(capacity, targets.size()); ++i) {
    names[i] = TargetName(targets[i]);
  }
  return targets.size();
}

const char* hob_target(void) {
  const Target target = ActiveTarget();
  return target >= 0 ? TargetName(target) : nullptr;
}

hob_status hob_target_set(const char* name) {
  if (CapTarget(name)) return HOB_OK;
  return SetError(HOB_ERROR_TARGET, "target '%s' is not one of this build's: %s", name,
                  KnownTargetNames());
}

hob_status hob_format_describe(hob_format id, hob_format_info* info) {
  const Format* format = nullptr;
  RETURN_IF_ERROR(CheckStruct(info, "info", sizeof(hob_format_info)));
  RETURN_IF_ERROR(CheckFormat(id, &format));
  info->name = format->name;
  info->block_values = format->block_values;
  info->block_bytes = format->block_bytes;
  return HOB_OK;
}

size_t hob_formats(hob_format* formats, size_t capacity) {
  const auto all = Formats();
  for (size_t i = 0; formats != nullptr && i < std::min(capacity, all.size()); ++i) {
    formats[i] = all[i]->id;
  }
  return all.size();
}

hob_status hob_format_from_name(const char* name, hob_format* id) {
  RETURN_IF_ERROR(CheckPointer(name, "name"));
  RETURN_IF_ERROR(CheckPointer(id, "format"));
  char known[256] = "";
  for (const Format* format : Formats()) {
    size_t i = 0;
    while (format->name[i] != '\0' &&
           (name[i] == format->name[i] ||
            (name[i] >= 'A' && name[i] <= 'Z' && name[i] - 'A' + 'a' == format->name[i]))) {
      ++i;
    }
    if (format->name[i] == '\0' && name[i] == '\0') {
      *id = format->id;
      return HOB_OK;
    }
    const size_t used = std::strlen(known);
    std::snprintf(known + used, sizeof(known) - used, " %s", format->name);
  }
  return SetError(HOB_ERROR_FORMAT, "format '%s' is unknown; there are:%s", name, known);
}

hob_status hob_quantize_rows(hob_format id, const float* src, size_t rows, size_t k, void* dst,
                             const hob_threads* threads) {
  const Format* format = nullptr;
  if (rows == 0) return HOB_OK;
  RETURN_IF_ERROR(CheckWeight(id, rows, k, &format));
  RETURN_IF_ERROR(CheckPointer(src, "src"));
  RETURN_IF_ERROR(CheckPointer(dst, "dst"));
  RETURN_IF_ERROR(CheckThreads(threads));
  ParallelRanges(threads, rows, [=](size_t begin, size_t end, size_t) {
    for (size_t i = begin; i < end; ++i) {
      format->encode(src + i * k, k, static_cast<uint8_t*>(dst) + i * format->row_bytes(k));
    }
  });
  return HOB_OK;
}

hob_status hob_dequantize_rows(hob_format id, const void* src, size_t rows, size_t k, float* dst,
                               const hob_threads* threads) {
  const Format* format = nullptr;
  if (rows == 0) return HOB_OK;
  RETURN_IF_ERROR(CheckTarget());
  RETURN_IF_ERROR(CheckWeight(id, rows, k, &format));
  RETURN_IF_ERROR(CheckPointer(src, "src"));
  RETURN_IF_ERROR(CheckPointer(dst, "dst"));
  RETURN_IF_ERROR(CheckThreads(threads));
  const auto dequantize = format->kernels(ActiveTarget()).dequantize;
  ParallelRanges(threads, rows, [=](size_t begin, size_t end, size_t) {
    for (size_t i = begin; i < end; ++i) {
      dequantize(static_cast<const uint8_t*>(src) + i * format->row_bytes(k), k, dst + i * k);
    }
  });
  return HOB_OK;
}

// ---------------------------------------------------------------- packed weights

const char* hob_packed_layout(void) { return "hob-panel-1"; }

hob_status hob_packed_bytes(hob_format id, size_t n, size_t k, size_t* bytes) {
  const Format* format = nullptr;
  RETURN_IF_ERROR(CheckPointer(bytes, "bytes"));
  RETURN_IF_ERROR(CheckWeight(id, n, k, &format));
  *bytes = format->packed_bytes(n, k);
  return HOB_OK;
}

hob_status hob_pack(hob_format id, const void* rows, size_t n, size_t k, size_t n_begin,
                    size_t n_end, void* packed) {
  const Format* format = nullptr;
  RETURN_IF_ERROR(CheckWeight(id, n, k, &format));
  RETURN_IF_ERROR(CheckPointer(rows, "rows"));
  RETURN_IF_ERROR(CheckPointer(packed, "packed"));
  RETURN_IF_ERROR(CheckAlignment(packed, "packed"));
  if (n_begin > n_end || n_end > n || n_begin % kPanel != 0 ||
      (n_end % kPanel != 0 && n_end != n)) {
    return SetError(HOB_ERROR_SHAPE,
                    "rows [%zu, %zu) of %zu: expected multiples of %zu, or n at the end", n_begin,
                    n_end, n, kPanel);
  }
  PackRows(*format, static_cast<const uint8_t*>(rows), n, k, n_begin, n_end,
           static_cast<uint8_t*>(packed));
  return HOB_OK;
}

hob_status hob_embed(hob_format id, const void* packed, size_t n, size_t k, const int32_t* ids,
                     size_t m, float* out, size_t out_stride) {
  const Format* format = nullptr;
  RETURN_IF_ERROR(CheckWeight(id, n, k, &format));
  RETURN_IF_ERROR(CheckPointer(packed, "packed"));
  RETURN_IF_ERROR(CheckAlignment(packed, "packed"));
  RETURN_IF_ERROR(CheckPointer(ids, "ids"));
  RETURN_IF_ERROR(CheckPointer(out, "out"));
  RETURN_IF_ERROR(CheckStride(&out_stride, m, k, "out_stride"));
  for (size_t i = 0; i < m; ++i) {
    if (ids[i] < 0 || static_cast<size_t>(ids[i]) >= n) {
      return SetError(HOB_ERROR_ARGUMENT, "ids[%zu] = %d is not in [0, %zu)", i,
                      static_cast<int>(ids[i]), n);
    }
  }
  const size_t panel_bytes = format->panel_bytes(k);
  for (size_t i = 0; i < m; ++i) {
    const auto row = static_cast<size_t>(ids[i]);
    format->unpack(static_cast<const uint8_t*>(packed) + row / kPanel * panel_bytes, row % kPanel,
                   k, out + i * out_stride);
  }
  return HOB_OK;
}

// ---------------------------------------------------------------- matmul

hob_status hob_matmul_workspace(const hob_matmul_args* args, size_t* bytes) {
  return hob_matmul_group_workspace(args, 1, bytes);
}

hob_status hob_matmul_group_workspace(const hob_matmul_args* args, size_t count, size_t* bytes) {
  GroupActs acts;
  RETURN_IF_ERROR(CheckPointer(bytes, "bytes"));
  RETURN_IF_ERROR(PlanGroup(args, count, &acts));
  *bytes = acts.bytes;
  return HOB_OK;
}

hob_status hob_matmul(const hob_matmul_args* args, void* workspace, size_t workspace_bytes,
                      const hob_threads* threads) {
  return hob_matmul_group(args, 1, workspace, workspace_bytes, threads);
}

hob_status hob_matmul_group(const hob_matmul_args* args, size_t count, void* workspace,
                            size_t workspace_bytes, const hob_threads* threads) {
  GroupActs acts;
  RETURN_IF_ERROR(CheckTarget());
  RETURN_IF_ERROR(PlanGroup(args, count, &acts));
  RETURN_IF_ERROR(CheckGroup(args, count));
  RETURN_IF_ERROR(CheckWorkspace(workspace, workspace_bytes, acts.bytes));
  RETURN_IF_ERROR(CheckThreads(threads));
  auto* const prepared = static_cast<uint8_t*>(workspace);
  const size_t act_stride = args->act_stride == 0 ? args->k : args->act_stride;
  ParallelRanges(threads, acts.bytes == 0 ? 0 : args->m, [&](size_t begin, size_t end, size_t) {
    for (size_t kind = 0; kind < 2; ++kind) {
      if (!acts.used[kind]) continue;
      PrepareActivations(GroupActs::kKinds[kind], args->act, act_stride, args->m, args->k, begin,
                         end, prepared + acts.offset[kind]);
    }
  });
  // Every part takes its share of each matmul, one after the other; shares of equal n are equal, so
  // a gate made by the same part is there before it is used.
  const size_t parts = threads == nullptr ? 1 : threads->count;
  ParallelRanges(threads, parts, [&](size_t begin, size_t end, size_t) {
    for (size_t i = 0; i < count; ++i) {
      Matmul plan = {};
      PlanMatmul(MatmulAt(args, i), &plan);  // was checked above
      for (size_t kind = 0; kind < 2; ++kind) {
        if (plan.format->act == GroupActs::kKinds[kind]) {
          plan.task.act = prepared + acts.offset[kind];
        }
      }
      // In pairs, as tiles are.
      const size_t panels = Panels(plan.task.n), pairs = (panels + 1) / 2;
      MatmulPanels(*plan.format, plan.task, pairs * begin / parts * 2,
                   std::min(panels, pairs * end / parts * 2));
    }
  });
  return HOB_OK;
}

// ---------------------------------------------------------------- attention

hob_status hob_cache_bytes(const hob_cache* cache, size_t* bytes) {
  CacheView view = {};
  RETURN_IF_ERROR(CheckPointer(bytes, "bytes"));
  RETURN_IF_ERROR(CheckCache(cache, false, &view));
  *bytes = CacheBytes(view.type, view.n_kv_heads, view.head_dim, view.capacity);
  return HOB_OK;
}

hob_status hob_cache_append(const hob_cache* cache, size_t pos, size_t m, const float* k,
                            const float* v) {
  CacheView view = {};
  RETURN_IF_ERROR(CheckTarget());
  RETURN_IF_ERROR(CheckCache(cache, true, &view));
  RETURN_IF_ERROR(CheckTokens(view, pos, m));
  RETURN_IF_ERROR(CheckPointer(k, "k"));
  RETURN_IF_ERROR(CheckPointer(v, "v"));
  Attention().append(view, pos, m, k, v, view.n_kv_heads * view.head_dim);
  return HOB_OK;
}

hob_status hob_attention_workspace(const hob_attention_args* args, const hob_threads* threads,
                                   size_t* bytes) {
  AttentionTask task = {};
  RETURN_IF_ERROR(CheckPointer(bytes, "bytes"));
  RETURN_IF_ERROR(PlanAttention(args, false, &task));
  RETURN_IF_ERROR(CheckThreads(threads));
  RETURN_IF_ERROR(CheckProduct(AttentionWorkspace(task.cache.head_dim),
                               threads == nullptr ? 1 : threads->count, "the workspace"));
  *bytes = Divide(task, threads).bytes;
  return HOB_OK;
}

hob_status hob_attention(const hob_attention_args* args, void* workspace, size_t workspace_bytes,
                         const hob_threads* threads) {
  AttentionTask task = {};
  RETURN_IF_ERROR(CheckTarget());
  RETURN_IF_ERROR(PlanAttention(args, true, &task));
  RETURN_IF_ERROR(CheckPointer(args->q, "args->q"));
  RETURN_IF_ERROR(CheckPointer(args->out, "args->out"));
  RETURN_IF_ERROR(CheckThreads(threads));
  const DividedAttention d = Divide(task, threads);
  RETURN_IF_ERROR(CheckWorkspace(workspace, workspace_bytes, d.bytes));
  auto* const memory = static_cast<uint8_t*>(workspace);
  auto* const partials = reinterpret_cast<float*>(memory + d.partials);
  ParallelRanges(threads, d.division.units, [&](size_t begin, size_t end, size_t part) {
    for (size_t unit = begin; unit < end; ++unit) {
      AttentionUnit(task, d.division, unit, memory + part * d.one, partials);
    }
  });
  if (d.division.parts == 1) return HOB_OK;
  ParallelRanges(threads, task.cache.n_kv_heads, [&](size_t begin, size_t end, size_t) {
    for (size_t head = begin; head < end; ++head) AttentionMerge(task, head, partials);
  });
  return HOB_OK;
}

// ---------------------------------------------------------------- rows

hob_status hob_rms_norm(const float* x, const float* weight, float eps, size_t m, size_t n,
                        float* out) {
  RETURN_IF_ERROR(CheckRows(x, "x", out, "out", m, n));
  RETURN_IF_ERROR(CheckPointer(weight, "weight"));
  for (size_t i = 0; i < m; ++i) Rows().rms_norm(x + i * n, weight, eps, n, out + i * n);
  return HOB_OK;
}

hob_status hob_rope_table(size_t first, size_t count, size_t n_rot, double base, double freq_scale,
                          const float* factors, float* table) {
  RETURN_IF_ERROR(CheckPointer(table, "table"));
  if (n_rot == 0 || n_rot % 2 != 0) {
    return SetError(HOB_ERROR_SHAPE, "n_rot = %zu is not a positive even number", n_rot);
  }
  if (!(base >= 1.0 && base <= 1e30)) {
    return SetError(HOB_ERROR_ARGUMENT, "base = %g is not in [1, 1e30]", base);
  }
  // At least one row: factors are read even where there is none.
  RETURN_IF_ERROR(CheckProduct(std::max<size_t>(count, 1), n_rot, "count x n_rot"));
  double least_factor = 1.0;
  for (size_t i = 0; factors != nullptr && i < n_rot / 2; ++i) {
    if (!(factors[i] > 0.0f && factors[i] <= 1e30f)) {
      return SetError(HOB_ERROR_ARGUMENT, "factors[%zu] = %g is not in (0, 1e30]", i,
                      static_cast<double>(factors[i]));
    }
    least_factor = std::min(least_factor, static_cast<double>(factors[i]));
  }
  // The reduction of the angle is exact below this many quarter turns.
  const double angle = static_cast<double>(first) + static_cast<double>(count);
  if (!(freq_scale > 0.0 && angle * freq_scale / least_factor < 1.6e6)) {
    return SetError(HOB_ERROR_ARGUMENT,
                    "positions up to %.0f times freq_scale %g over the least factor %g: expected "
                    "angles in (0, 1.6e6)",
                    angle, freq_scale, least_factor);
  }
  RopeTable(first, count, n_rot, base, freq_scale, factors, table);
  return HOB_OK;
}

hob_status hob_rope(hob_rope_style style, const float* table, size_t m, size_t n_heads,
                    size_t head_dim, size_t n_rot, float* x) {
  RETURN_IF_ERROR(CheckRows(table, "table", x, "x", m, head_dim));
  if (style != HOB_ROPE_INTERLEAVED && style != HOB_ROPE_HALVES) {
    return SetError(HOB_ERROR_ARGUMENT, "style is %d, expected HOB_ROPE_INTERLEAVED or _HALVES",
                    static_cast<int>(style));
  }
  if (n_rot % 2 != 0 || n_rot > head_dim) {
    return SetError(HOB_ERROR_SHAPE, "n_rot = %zu: expected an even number up to head_dim = %zu",
                    n_rot, head_dim);
  }
  RETURN_IF_ERROR(CheckProduct(m, n_rot, "m x n_rot"));
  RETURN_IF_ERROR(CheckProduct(n_heads, head_dim, "n_heads x head_dim"));
  RETURN_IF_ERROR(CheckProduct(n_heads * head_dim, m, "x"));
  if (n_heads == 0 || n_rot == 0) return HOB_OK;  // nothing turns, however many rows there are
  for (size_t i = 0; i < m; ++i) {
    Rows().rope(style, table + i * n_rot, n_heads, head_dim, n_rot, x + i * n_heads * head_dim);
  }
  return HOB_OK;
}

hob_status hob_softmax(const float* x, size_t m, size_t n, float* out) {
  RETURN_IF_ERROR(CheckRows(x, "x", out, "out", m, n));
  for (size_t i = 0; i < m; ++i) Rows().softmax(x + i * n, n, out + i * n);
  return HOB_OK;
}

hob_status hob_silu_mul(const float* gate, const float* up, size_t count, float* out) {
  RETURN_IF_ERROR(CheckElements(gate, "gate", up, "up", out));
  Rows().silu_mul(gate, up, count, out);
  return HOB_OK;
}

hob_status hob_gelu_mul(const float* gate, const float* up, size_t count, float* out) {
  RETURN_IF_ERROR(CheckElements(gate, "gate", up, "up", out));
  Rows().gelu_mul(gate, up, count, out);
  return HOB_OK;
}

hob_status hob_add(const float* a, const float* b, size_t count, float* out) {
  RETURN_IF_ERROR(CheckElements(a, "a", b, "b", out));
  Rows().add(a, b, count, out);
  return HOB_OK;
}

hob_status hob_argmax(const float* x, size_t m, size_t n, int32_t* index) {
  RETURN_IF_ERROR(CheckRows(x, "x", index, "index", m, n));
  for (size_t i = 0; i < m; ++i) index[i] = static_cast<int32_t>(Rows().argmax(x + i * n, n));
  return HOB_OK;
}

hob_status hob_quantize_activations(const float* x, size_t m, size_t k, int8_t* codes,
                                    float* scales) {
  RETURN_IF_ERROR(CheckRows(x, "x", codes, "codes", m, k));
  RETURN_IF_ERROR(CheckPointer(scales, "scales"));
  if (k % kBlock != 0) {
    return SetError(HOB_ERROR_SHAPE, "k = %zu is not a multiple of %zu", k, kBlock);
  }
  // All rows are one sequence of blocks. Their sums are not asked for.
  constexpr size_t kAtOnce = 64;
  int32_t sums[2 * kAtOnce];
  const size_t blocks = m * (k / kBlock);
  for (size_t i = 0; i < blocks; i += kAtOnce) {
    Rows().quantize_q8(x + i * kBlock, std::min(kAtOnce, blocks - i), kBlock, codes + i * kBlock, 1,
                       scales + i, sums);
  }
  return HOB_OK;
}
