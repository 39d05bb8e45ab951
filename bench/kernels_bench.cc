// Benchmarks of every kernel on every instruction set, named
//
//   <kernel>/<variant>/<target>/<shape>/t<threads>     matmul/q4_0/avx3_dl/m512_n4864_k896/t1
//
// so that --benchmark_filter selects any slice. They are generated from the lists of formats and
// targets; each first checks a few outputs against the reference. docs/measuring.md explains the
// columns and how to compare two builds.

#include <benchmark/benchmark.h>

#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "bench/ceilings.h"
#include "kernels/attention.h"
#include "kernels/formats.h"
#include "kernels/matmul.h"
#include "kernels/reference.h"
#include "kernels/rows.h"
#include "kernels/targets.h"

namespace hob::bench {
namespace {

// ---------------------------------------------------------------- helpers

// Uninitialized memory on a cache line.
template <class T>
class Aligned {
 public:
  explicit Aligned(size_t count)
      : data_(static_cast<T*>(std::aligned_alloc(64, (count * sizeof(T) + 63) / 64 * 64 + 64))) {}
  T* get() const { return data_.get(); }

 private:
  struct Free {
    void operator()(T* p) const { std::free(p); }
  };
  std::unique_ptr<T, Free> data_;
};

// Bell-shaped enough, the same in every run.
std::vector<float> RandomValues(size_t n, uint32_t seed) {
  std::vector<float> x(n);
  uint32_t state = seed * 2654435761u + 1;
  for (float& value : x) {
    float sum = 0;
    for (int i = 0; i < 3; ++i) {
      state = state * 1664525u + 1013904223u;
      sum += static_cast<float>(state >> 8) * 0x1p-23f - 1.0f;
    }
    value = sum;
  }
  return x;
}

bool SameBits(const float* a, const float* b, size_t n) {
  return std::memcmp(a, b, n * sizeof *a) == 0;
}

// What one turn of a benchmark does, and what limits it.
struct Work {
  double ops = 0;             // 0: the kernel only moves data
  double ops_per_second = 0;  // the target's ceiling for such operations; 0: none
  double bytes = 0;           // read and written
  const Level* level = nullptr;
};

// Times `turn` and fills the columns.
template <class F>
void Measure(benchmark::State& state, const Work& work, F turn) {
  const double start = ThreadSeconds();
  for (auto _ : state) {
    turn();
    benchmark::ClobberMemory();
  }
  const double seconds = (ThreadSeconds() - start) / static_cast<double>(state.iterations());
  if (work.ops > 0) state.counters["GOP/s"] = work.ops / seconds * 1e-9;
  state.counters["GB/s"] = work.bytes / seconds * 1e-9;
  state.counters["share"] =
      FloorSeconds(work.ops, work.ops_per_second, work.bytes, *work.level) / seconds;
}

void Register(const std::string& name, std::function<void(benchmark::State&)> run) {
  benchmark::RegisterBenchmark(name.c_str(), std::move(run));
}

// The scalar reference is there to be right; time is spent on it only where it takes little.
constexpr double kMostScalarOps = 2e8;

// ---------------------------------------------------------------- ceilings

void RegisterCeilings() {
  for (size_t i = 0; i < kLevels; ++i) {
    static constexpr const char* kNames[kLevels] = {"l1", "l2", "l3", "memory"};
    Register(std::string("ceiling/read/") + kNames[i] + "/t1", [i](benchmark::State& state) {
      const double rate = LevelAt(i).read_rate;
      for (auto _ : state) {
      }
      state.counters["GB/s"] = rate * 1e-9;
    });
  }
  static constexpr std::pair<const char*, double Arithmetic::*> kKinds[] = {
      {"int8_dot", &Arithmetic::int8_dot},
      {"bf16_dot", &Arithmetic::bf16_dot},
      {"f32_fma", &Arithmetic::f32_fma}};
  for (Target target : SupportedTargets()) {
    if (target == kScalar) continue;
    for (const auto& [name, member] : kKinds) {
      Register(std::string("ceiling/") + name + "/" + TargetName(target) + "/t1",
               [target, member = member](benchmark::State& state) {
                 const double ops = ArithmeticOn(target).*member;
                 for (auto _ : state) {
                 }
                 state.counters["GOP/s"] = ops * 1e-9;
               });
    }
  }
}

// ---------------------------------------------------------------- matmul

// Weights of one format and size, kept for the benchmarks that follow: they come one target and
// batch after the other.
struct Weights {
  const Format* format = nullptr;
  size_t n = 0, k = 0;
  std::vector<uint8_t> rows;
  size_t packed_bytes = 0, copies = 0;
  Aligned<uint8_t> packed{0};

  static Weights& Of(const Format& format, size_t n, size_t k) {
    static Weights kept;
    if (kept.format != &format || kept.n != n || kept.k != k) kept = Weights(format, n, k);
    return kept;
  }

  // Enough copies, one behind the other, that going through them reads from memory.
  void CopyBeyondCaches() {
    const size_t wanted = (BeyondCaches() + packed_bytes - 1) / packed_bytes;
    if (copies >= wanted) return;
    Aligned<uint8_t> many(wanted * packed_bytes);
    for (size_t i = 0; i < wanted; ++i) {
      std::memcpy(many.get() + i * packed_bytes, packed.get(), packed_bytes);
    }
    packed = std::move(many);
    copies = wanted;
  }

 private:
  Weights() = default;
  Weights(const Format& f, size_t n_, size_t k_)
      : format(&f),
        n(n_),
        k(k_),
        rows(n_ * f.row_bytes(k_)),
        packed_bytes(f.packed_bytes(n_, k_)),
        copies(1),
        packed(packed_bytes) {
    // Speed does not depend on the values: some encoded rows, over and over.
    constexpr size_t kDistinct = 48;
    const std::vector<float> x = RandomValues(kDistinct * k, 1);
    const size_t row_bytes = f.row_bytes(k);
    for (size_t i = 0; i < n; ++i) {
      uint8_t* row = rows.data() + i * row_bytes;
      if (i < kDistinct) {
        f.encode(x.data() + i * k, k, row);
      } else {
        std::memcpy(row, row - kDistinct * row_bytes, row_bytes);
      }
    }
    PackRows(f, rows.data(), n, k, 0, n, packed.get());
  }
};

double CeilingOf(ActKind kind, const Arithmetic& arithmetic) {
  switch (kind) {
    case ActKind::kQ8:
      return arithmetic.int8_dot;
    case ActKind::kBF16:
      return arithmetic.bf16_dot;
    case ActKind::kF32:
      return arithmetic.f32_fma;
  }
  return 0;
}

// Rows 0 and m - 1, and outputs in the first, a middle and the last panel.
bool MatchesReference(const Format& format, const Weights& w, const float* x, size_t m,
                      const float* out) {
  for (size_t row : {size_t{0}, m - 1}) {
    for (size_t j : {size_t{0}, w.n / 2 + 5, w.n - 1}) {
      float want = 0;
      reference::Matmul(format, w.rows.data() + j * format.row_bytes(w.k), 1, w.k, x + row * w.k,
                        w.k, 1, nullptr, nullptr, &want, 1);
      if (!SameBits(&want, out + row * w.n + j, 1)) return false;
    }
  }
  return true;
}

void BenchMatmul(benchmark::State& state, const Format& format, Target target, size_t m, size_t n,
                 size_t k) {
  Weights& w = Weights::Of(format, n, k);
  // A batch of 1 is a step of generation: it finds its weights in memory.
  if (m == 1) w.CopyBeyondCaches();
  const std::vector<float> x = RandomValues(m * k, 2);
  const Aligned<uint8_t> act(ActivationBytes(format.act, m, k));
  CapTarget(TargetName(target));
  PrepareActivations(format.act, x.data(), k, m, k, 0, m, act.get());
  std::vector<float> out(m * n);
  const void* prepared = format.act == ActKind::kF32 ? static_cast<const void*>(x.data())
                                                     : static_cast<const void*>(act.get());
  MatmulTask task = {m, n, k, w.packed.get(), prepared, k, nullptr, nullptr, out.data(), n};
  const auto matmul = format.kernels(target).matmul;
  const size_t panels = (n + kPanel - 1) / kPanel;
  matmul(task, 0, panels);
  if (!MatchesReference(format, w, x.data(), m, out.data())) {
    state.SkipWithError("differs from the reference");
    return;
  }
  const size_t copies = m == 1 ? w.copies : 1;
  const double ops = 2.0 * static_cast<double>(m) * static_cast<double>(n) * static_cast<double>(k);
  const Work work = {ops, CeilingOf(format.act, ArithmeticOn(target)),
                     static_cast<double>(w.packed_bytes), &LevelOf(copies * w.packed_bytes)};
  size_t copy = 0;
  Measure(state, work, [&] {
    task.packed = w.packed.get() + copy * w.packed_bytes;
    matmul(task, 0, panels);
    if (++copy == copies) copy = 0;
  });
}

void RegisterMatmul() {
  for (const Format* format : Formats()) {
    for (const auto& [n, k] : {std::pair<size_t, size_t>{1536, 576}, {4864, 896}, {8192, 2048}}) {
      if (k % format->block_values != 0) continue;
      for (Target target : SupportedTargets()) {
        for (size_t m : {1, 8, 128, 512}) {
          if (target == kScalar && static_cast<double>(2 * m * n * k) > kMostScalarOps) continue;
          Register(std::string("matmul/") + format->name + "/" + TargetName(target) + "/m" +
                       std::to_string(m) + "_n" + std::to_string(n) + "_k" + std::to_string(k) +
                       "/t1",
                   [=, n = n, k = k](benchmark::State& state) {
                     BenchMatmul(state, *format, target, m, n, k);
                   });
        }
      }
    }
  }
}

// ---------------------------------------------------------------- attention

struct AttentionShape {
  size_t m, pos, n_heads, n_kv_heads, head_dim;

  size_t tokens() const { return pos + m; }
  // Pairs of a query and a key that it sees.
  double pairs() const {
    return static_cast<double>(m) * (static_cast<double>(pos) + (static_cast<double>(m) + 1) / 2);
  }
};

void BenchAttention(benchmark::State& state, hob_cache_type type, Target target,
                    const AttentionShape& s) {
  const size_t kv_width = s.n_kv_heads * s.head_dim, width = s.n_heads * s.head_dim;
  const std::vector<float> q = RandomValues(s.m * width, 3);
  const std::vector<float> k = RandomValues(s.tokens() * kv_width, 4);
  const std::vector<float> v = RandomValues(s.tokens() * kv_width, 5);
  const size_t bytes = CacheBytes(type, s.n_kv_heads, s.head_dim, s.tokens());
  const Aligned<uint8_t> keys(bytes), values(bytes), workspace(AttentionWorkspace(s.head_dim));
  std::vector<float> out(q.size());
  const float scale = 1.0f / std::sqrt(static_cast<float>(s.head_dim));
  const AttentionTask task = {
      {type, s.n_kv_heads, s.head_dim, s.tokens(), keys.get(), values.get()},
      s.m,
      s.n_heads,
      s.pos,
      scale,
      q.data(),
      out.data()};
  CapTarget(TargetName(target));
  Attention().append(task.cache, 0, s.tokens(), k.data(), v.data(), kv_width);
  const auto turn = [&] {
    for (size_t unit = 0; unit < AttentionUnits(task); ++unit) {
      AttentionUnit(task, unit, workspace.get());
    }
  };
  turn();
  // The last query of a prompt sees everything.
  std::vector<float> want(width);
  reference::Attention(type, q.data() + (s.m - 1) * width, k.data(), v.data(), 1, s.n_heads,
                       s.n_kv_heads, s.head_dim, s.tokens() - 1, scale, want.data());
  if (!SameBits(want.data(), out.data() + (s.m - 1) * width, width)) {
    state.SkipWithError("differs from the reference");
    return;
  }
  const Arithmetic& arithmetic = ArithmeticOn(target);
  const Work work = {s.pairs() * static_cast<double>(4 * width),
                     type == HOB_CACHE_BF16 ? arithmetic.bf16_dot : arithmetic.f32_fma,
                     static_cast<double>(2 * bytes), &LevelOf(2 * bytes)};
  Measure(state, work, turn);
}

void RegisterAttention() {
  static constexpr AttentionShape kShapes[] = {{512, 0, 9, 3, 64},   {512, 3584, 9, 3, 64},
                                               {1, 511, 9, 3, 64},   {1, 4095, 9, 3, 64},
                                               {512, 0, 32, 8, 128}, {1, 4095, 32, 8, 128}};
  for (hob_cache_type type : {HOB_CACHE_F32, HOB_CACHE_BF16}) {
    for (Target target : SupportedTargets()) {
      for (const AttentionShape& s : kShapes) {
        const double ops = s.pairs() * static_cast<double>(4 * s.n_heads * s.head_dim);
        if (target == kScalar && ops > kMostScalarOps) continue;
        Register(std::string("attention/") + (type == HOB_CACHE_F32 ? "f32" : "bf16") + "/" +
                     TargetName(target) + "/m" + std::to_string(s.m) + "_pos" +
                     std::to_string(s.pos) + "_h" + std::to_string(s.n_heads) + "_kv" +
                     std::to_string(s.n_kv_heads) + "_d" + std::to_string(s.head_dim) + "/t1",
                 [=](benchmark::State& state) { BenchAttention(state, type, target, s); });
      }
    }
  }
}

// ---------------------------------------------------------------- rows

// A row op under its name: run(kernels) does one row of n; it reads and writes `bytes`.
struct RowOp {
  const char* name;
  std::vector<size_t> sizes;
  size_t bytes_per_element;
  // in, more: n inputs each; out: n outputs.
  void (*run)(const RowKernels& kernels, const float* in, const float* more, size_t n, float* out);
};

const std::vector<RowOp>& RowOps() {
  constexpr size_t kFloat = sizeof(float);
  static const std::vector<RowOp> ops = {
      {"rms_norm",
       {576, 2048},
       3 * kFloat,
       [](const RowKernels& r, const float* in, const float* more, size_t n, float* out) {
         r.rms_norm(in, more, 1e-5f, n, out);
       }},
      {"softmax",
       {512, 49152},
       2 * kFloat,
       [](const RowKernels& r, const float* in, const float*, size_t n, float* out) {
         r.softmax(in, n, out);
       }},
      {"silu_mul",
       {1536, 8192},
       3 * kFloat,
       [](const RowKernels& r, const float* in, const float* more, size_t n, float* out) {
         r.silu_mul(in, more, n, out);
       }},
      {"add",
       {576, 2048},
       3 * kFloat,
       [](const RowKernels& r, const float* in, const float* more, size_t n, float* out) {
         r.add(in, more, n, out);
       }},
      {"argmax",
       {49152, 151936},
       kFloat,
       [](const RowKernels& r, const float* in, const float*, size_t n, float* out) {
         out[0] = static_cast<float>(r.argmax(in, n));
       }},
      // Heads of 64; `more` is the table. The rotation undoes nothing, so the row is copied first.
      {"rope_halves",
       {576, 2048},
       2 * kFloat,
       [](const RowKernels& r, const float* in, const float* more, size_t n, float* out) {
         std::memcpy(out, in, n * sizeof *in);
         r.rope(HOB_ROPE_HALVES, more, n / 64, 64, 64, out);
       }},
      {"rope_interleaved",
       {576, 2048},
       2 * kFloat,
       [](const RowKernels& r, const float* in, const float* more, size_t n, float* out) {
         std::memcpy(out, in, n * sizeof *in);
         r.rope(HOB_ROPE_INTERLEAVED, more, n / 64, 64, 64, out);
       }},
  };
  return ops;
}

void BenchRow(benchmark::State& state, const RowOp& op, Target target, size_t n) {
  const std::vector<float> in = RandomValues(n, 6), more = RandomValues(n, 7);
  std::vector<float> out(n), want(n);
  const RowKernels& kernels = RowsFor(target);
  op.run(kernels, in.data(), more.data(), n, out.data());
  op.run(RowsFor(kScalar), in.data(), more.data(), n, want.data());
  if (!SameBits(out.data(), want.data(), n)) {
    state.SkipWithError("differs from the reference");
    return;
  }
  const size_t bytes = n * op.bytes_per_element;
  const Work work = {0, 0, static_cast<double>(bytes), &LevelOf(bytes)};
  Measure(state, work, [&] { op.run(kernels, in.data(), more.data(), n, out.data()); });
}

// What the matmul does to its activations first.
void BenchActivations(benchmark::State& state, ActKind kind, Target target, size_t m, size_t k) {
  const std::vector<float> x = RandomValues(m * k, 8);
  const size_t prepared = ActivationBytes(kind, m, k);
  const Aligned<uint8_t> buffer(prepared), want(prepared);
  for (const auto& [use, out] : {std::pair{kScalar, want.get()}, {target, buffer.get()}}) {
    CapTarget(TargetName(use));
    PrepareActivations(kind, x.data(), k, m, k, 0, m, out);
  }
  if (std::memcmp(buffer.get(), want.get(), prepared) != 0) {
    state.SkipWithError("differs from the reference");
    return;
  }
  const size_t bytes = m * k * sizeof(float) + prepared;
  const Work work = {0, 0, static_cast<double>(bytes), &LevelOf(bytes)};
  Measure(state, work, [&] { PrepareActivations(kind, x.data(), k, m, k, 0, m, buffer.get()); });
}

void BenchDequantize(benchmark::State& state, const Format& format, Target target, size_t k) {
  const std::vector<float> x = RandomValues(k, 9);
  std::vector<uint8_t> blocks(format.row_bytes(k));
  format.encode(x.data(), k, blocks.data());
  std::vector<float> out(k), want(k);
  const auto dequantize = format.kernels(target).dequantize;
  dequantize(blocks.data(), k, out.data());
  format.kernels(kScalar).dequantize(blocks.data(), k, want.data());
  if (!SameBits(out.data(), want.data(), k)) {
    state.SkipWithError("differs from the reference");
    return;
  }
  const size_t bytes = blocks.size() + k * sizeof(float);
  const Work work = {0, 0, static_cast<double>(bytes), &LevelOf(bytes)};
  Measure(state, work, [&] { dequantize(blocks.data(), k, out.data()); });
}

void RegisterRows() {
  for (Target target : SupportedTargets()) {
    const std::string name = TargetName(target);
    for (const RowOp& op : RowOps()) {
      for (size_t n : op.sizes) {
        Register(std::string("rows/") + op.name + "/" + name + "/n" + std::to_string(n) + "/t1",
                 [&op, target, n](benchmark::State& state) { BenchRow(state, op, target, n); });
      }
    }
    for (const auto& [kind, label] : {std::pair{ActKind::kQ8, "q8"}, {ActKind::kBF16, "bf16"}}) {
      for (const auto& [m, k] : {std::pair<size_t, size_t>{1, 2048}, {128, 896}}) {
        Register(std::string("quantize_activations/") + label + "/" + name + "/m" +
                     std::to_string(m) + "_k" + std::to_string(k) + "/t1",
                 [kind = kind, target, m = m, k = k](benchmark::State& state) {
                   BenchActivations(state, kind, target, m, k);
                 });
      }
    }
  }
  for (const Format* format : Formats()) {
    for (Target target : SupportedTargets()) {
      for (size_t k : {2048, 65536}) {
        Register(std::string("dequantize/") + format->name + "/" + TargetName(target) + "/k" +
                     std::to_string(k) + "/t1",
                 [=](benchmark::State& state) { BenchDequantize(state, *format, target, k); });
      }
    }
  }
}

}  // namespace
}  // namespace hob::bench

int main(int argc, char** argv) {
  hob::bench::RegisterCeilings();
  hob::bench::RegisterMatmul();
  hob::bench::RegisterAttention();
  hob::bench::RegisterRows();
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
  benchmark::AddCustomContext("hob_version", hob_version());
  benchmark::RunSpecifiedBenchmarks();
  benchmark::Shutdown();
}
