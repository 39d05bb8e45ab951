// Benchmarks of every kernel on every instruction set, named
//
//   <kernel>/<variant>/<target>/<shape>/t<threads>     matmul/q4_0/avx3_dl/m512_n4864_k896/t1
//
// so that --benchmark_filter selects any slice. They are generated from the lists of formats and
// targets, for one thread and for as many as there are CPUs; each first checks a few outputs
// against the reference. docs/measuring.md explains the columns and how to compare two builds,
// bench/summarize.py makes tables of the output.

#include <benchmark/benchmark.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <new>
#include <string>
#include <utility>
#include <vector>

#include "kernels/attention.h"
#include "kernels/formats.h"
#include "kernels/matmul.h"
#include "kernels/reference.h"
#include "kernels/rows.h"
#include "kernels/targets.h"
#include "measure/ceilings.h"
#include "measure/machine.h"
#include "measure/team.h"

namespace hob::measure {
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

// For vectors that begin on a cache line, as the arena of a graph does.
template <class T>
struct OnCacheLine {
  using value_type = T;
  OnCacheLine() = default;
  template <class U>
  explicit OnCacheLine(const OnCacheLine<U>&) {}
  static T* allocate(size_t n) {
    return static_cast<T*>(::operator new (n * sizeof(T), std::align_val_t{64}));
  }
  static void deallocate(T* p, size_t) { ::operator delete (p, std::align_val_t{64}); }
  bool operator==(const OnCacheLine&) const = default;
};
using Floats = std::vector<float, OnCacheLine<float>>;

// Bell-shaped enough, the same in every run.
Floats RandomValues(size_t n, uint32_t seed) {
  Floats x(n);
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
  double ops = 0;  // 0: the kernel only moves data
  Target target = kScalar;
  double Arithmetic::*kind = nullptr;  // which ceiling such operations have
  double bytes = 0;                    // read and written
  size_t level = 0;                    // where the data are
  double values = 0;                   // 0: not what the kernel is measured in
};

// The least time that the work can take at this moment.
double FloorSecondsNow(const Work& work, const Team& team) {
  const double ops = work.kind == nullptr || work.target == kScalar
                         ? 0
                         : ArithmeticNow(work.target, work.kind, team.threads());
  return FloorSeconds(work.ops, ops, work.bytes, ReadRateNow(work.level, team.threads()));
}

// Times `turn`, which the team does, and fills the columns. Clocks drift, and whoever shares the
// core comes and goes, so the ceilings are measured again after every 20 ms of turns, and the share
// is the median over these pieces, each against the mean of the ceilings before and after it.
template <class F>
void Measure(benchmark::State& state, const Work& work, const Team& team, F turn) {
  constexpr double kPieceSeconds = 0.02;
  std::vector<double> shares;
  double total = 0, piece = 0, turns = 0;
  double before = FloorSecondsNow(work, team);
  const auto end_piece = [&] {
    const double after = FloorSecondsNow(work, team);
    shares.push_back((before + after) / 2 * turns / piece);
    total += piece;
    before = after;
    piece = turns = 0;
  };
  // The clock of a thread is a system call: it takes as long as the smallest turns, and what comes
  // after it finds the core cold. So many turns are timed at once (docs/measuring.md).
  constexpr double kTimedSeconds = 200e-6;
  size_t batch = 0;
  const double warm_up = team.Now();
  do {
    turn();
    ++batch;  // at least one, even if the system takes the processor away between two looks
  } while (team.Now() - warm_up < kTimedSeconds);
  for (auto _ : state) {
    const double start = team.Now();
    for (size_t i = 0; i < batch; ++i) {
      turn();
      benchmark::ClobberMemory();
    }
    piece += team.Now() - start;
    turns += static_cast<double>(batch);
    if (piece >= kPieceSeconds) {
      state.PauseTiming();
      end_piece();
      state.ResumeTiming();
    }
  }
  if (turns > 0) end_piece();
  const double seconds =
      total / static_cast<double>(state.iterations() * static_cast<int64_t>(batch));
  if (work.ops > 0) state.counters["GOP/s"] = work.ops / seconds * 1e-9;
  if (work.values > 0) state.counters["Gvalues/s"] = work.values / seconds * 1e-9;
  state.counters["GB/s"] = work.bytes / seconds * 1e-9;
  std::nth_element(shares.begin(), shares.begin() + static_cast<std::ptrdiff_t>(shares.size() / 2),
                   shares.end());
  state.counters["share"] = shares[shares.size() / 2];
}

void Register(const std::string& name, std::function<void(benchmark::State&)> run) {
  benchmark::RegisterBenchmark(name.c_str(), std::move(run));
}

// The scalar reference is there to be right; time is spent on it only where it takes little.
constexpr double kMostScalarOps = 2e8;

bool IsWorthwhile(Target target, size_t threads, double ops) {
  return target != kScalar || (threads == 1 && ops <= kMostScalarOps);
}

std::string ThreadsName(size_t threads) { return "/t" + std::to_string(threads); }

// ---------------------------------------------------------------- ceilings

// The ceiling is found once; the benchmark shows it.
void RegisterCeiling(const std::string& name, const char* unit, std::function<double()> rate) {
  Register(name, [unit, rate = std::move(rate)](benchmark::State& state) {
    const double per_second = rate();
    for (auto _ : state) {
    }
    state.counters[unit] = per_second * 1e-9;
  });
}

void RegisterCeilings() {
  static constexpr std::pair<const char*, double Arithmetic::*> kKinds[] = {
      {"int8_dot", &Arithmetic::int8_dot},
      {"bf16_dot", &Arithmetic::bf16_dot},
      {"f32_fma", &Arithmetic::f32_fma}};
  for (size_t threads : ThreadCounts()) {
    for (size_t level = 0; level < kLevels; ++level) {
      RegisterCeiling(std::string("ceiling/read/") + LevelName(level) + ThreadsName(threads),
                      "GB/s", [=] { return ReadRateOf(level, threads); });
    }
    for (Target target : SupportedTargets()) {
      if (target == kScalar) continue;
      for (const auto& [label, member] : kKinds) {
        RegisterCeiling(
            std::string("ceiling/") + label + "/" + TargetName(target) + ThreadsName(threads),
            "GOP/s", [=, member = member] { return ArithmeticOn(target, threads).*member; });
      }
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
  size_t stride = 0;     // bytes from copy to copy
  LargePages packed{1};  // as the runtime's

  static Weights& Of(const Format& format, size_t n, size_t k) {
    static Weights kept;
    if (kept.format != &format || kept.n != n || kept.k != k) kept = Weights(format, n, k);
    return kept;
  }

  // Enough copies, one behind the other, that going through them reads from memory.
  void CopyBeyondCaches() {
    const size_t wanted = (BeyondCaches() + stride - 1) / stride;
    if (copies >= wanted) return;
    LargePages many(wanted * stride);
    for (size_t i = 0; i < wanted; ++i) {
      std::memcpy(many.get() + i * stride, packed.get(), packed_bytes);
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
        stride((packed_bytes + 63) / 64 * 64),
        packed(packed_bytes) {
    // Speed does not depend on the values: some encoded rows, over and over.
    constexpr size_t kDistinct = 48;
    const Floats x = RandomValues(kDistinct * k, 1);
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

double Arithmetic::*CeilingOf(ActKind kind) {
  switch (kind) {
    case ActKind::kQ8:
      return &Arithmetic::int8_dot;
    case ActKind::kBF16:
      return &Arithmetic::bf16_dot;
    case ActKind::kF32:
      return &Arithmetic::f32_fma;
  }
  return nullptr;
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

struct MatmulShape {
  size_t m, n, k;
  bool in_l2 = false;  // the weights are; else those of m = 1 come from memory

  double ops() const {
    return 2.0 * static_cast<double>(m) * static_cast<double>(n) * static_cast<double>(k);
  }
  std::string name() const {
    return "m" + std::to_string(m) + "_n" + std::to_string(n) + "_k" + std::to_string(k) +
           (in_l2 ? "_l2" : "");
  }
};

// One matmul as hob_matmul does it: the rows of activations are prepared, then the panels follow.
// Panels go in pairs, which is what the kernels take together.
class Matmul {
 public:
  Matmul(const Format& format, Target target, const MatmulShape& shape, Team& team)
      : format_(format),
        team_(team),
        x_(RandomValues(shape.m * shape.k, 2)),
        act_(ActivationBytes(format.act, shape.m, shape.k)),
        out_(shape.m * shape.n),
        matmul_(format.kernels(target).matmul) {
    const void* act = format.act == ActKind::kF32 ? static_cast<const void*>(x_.data())
                                                  : static_cast<const void*>(act_.get());
    task_ = {.m = shape.m,
             .n = shape.n,
             .k = shape.k,
             .packed = nullptr,
             .act = act,
             .act_stride = shape.k,
             .bias = nullptr,
             .residual = nullptr,
             .out = out_.data(),
             .out_stride = shape.n};
    CapTarget(TargetName(target));
  }

  void operator()(const uint8_t* packed) {
    task_.packed = packed;
    const auto prepare = [&](size_t begin, size_t end) {
      PrepareActivations(format_.act, x_.data(), task_.k, task_.m, task_.k, begin, end, act_.get());
    };
    if (task_.m == 1) {
      prepare(0, 1);  // nothing to share out
    } else if (format_.act != ActKind::kF32) {
      team_.Split(task_.m, 1, prepare);
    }
    team_.Split((task_.n + kPanel - 1) / kPanel, 2,
                [&](size_t begin, size_t end) { matmul_(task_, begin, end); });
  }

  const float* x() const { return x_.data(); }
  const float* out() const { return out_.data(); }

 private:
  const Format& format_;
  Team& team_;
  const Floats x_;
  const Aligned<uint8_t> act_;
  Floats out_;
  void (*matmul_)(const MatmulTask& task, size_t panel_begin, size_t panel_end);
  MatmulTask task_;
};

void BenchMatmul(benchmark::State& state, const Format& format, Target target,
                 const MatmulShape& shape, size_t threads) {
  Weights& w = Weights::Of(format, shape.n, shape.k);
  const bool in_memory = shape.m == 1 && !shape.in_l2;
  if (in_memory) w.CopyBeyondCaches();
  Team& team = Team::Of(threads);
  Matmul matmul(format, target, shape, team);
  matmul(w.packed.get());
  if (!MatchesReference(format, w, matmul.x(), shape.m, matmul.out())) {
    state.SkipWithError("differs from the reference");
    return;
  }
  const size_t copies = in_memory ? w.copies : 1;
  const Work work = {
      .ops = shape.ops(),
      .target = target,
      .kind = CeilingOf(format.act),
      .bytes = static_cast<double>(w.packed_bytes),
      .level = LevelOf(copies * w.packed_bytes, threads),
  };
  size_t copy = 0;
  Measure(state, work, team, [&] {
    matmul(w.packed.get() + copy * w.stride);
    if (++copy == copies) copy = 0;
  });
}

// A matrix of which each thread's part, packed, fills about half of its L2 cache.
MatmulShape ShapeInL2(const Format& format, size_t threads) {
  constexpr size_t kWide = 1024, kOutputs = 2 * kPanel;
  const size_t pair_bytes = format.packed_bytes(kOutputs, kWide);
  const size_t pairs = threads * std::max<size_t>(1, L2Bytes() / 2 / pair_bytes);
  return {.m = 1, .n = pairs * kOutputs, .k = kWide, .in_l2 = true};
}

void RegisterMatmul() {
  const auto add = [](const Format& format, const MatmulShape& shape, size_t threads) {
    if (shape.k % format.block_values != 0) return;
    for (Target target : SupportedTargets()) {
      if (!IsWorthwhile(target, threads, shape.ops())) continue;
      Register(std::string("matmul/") + format.name + "/" + TargetName(target) + "/" +
                   shape.name() + ThreadsName(threads),
               [=, &format](benchmark::State& state) {
                 BenchMatmul(state, format, target, shape, threads);
               });
    }
  };
  for (const Format* format : Formats()) {
    for (const auto& [n, k] : {std::pair<size_t, size_t>{1536, 576}, {4864, 896}, {8192, 2048}}) {
      for (size_t m : {1, 2, 4, 8, 128, 512}) {
        for (size_t threads : ThreadCounts()) add(*format, {m, n, k}, threads);
      }
    }
    for (size_t threads : ThreadCounts()) add(*format, ShapeInL2(*format, threads), threads);
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
                    const AttentionShape& s, size_t threads) {
  const size_t kv_width = s.n_kv_heads * s.head_dim, width = s.n_heads * s.head_dim;
  const Floats q = RandomValues(s.m * width, 3);
  const Floats k = RandomValues(s.tokens() * kv_width, 4);
  const Floats v = RandomValues(s.tokens() * kv_width, 5);
  const size_t bytes = hob::CacheBytes(type, s.n_kv_heads, s.head_dim, s.tokens());
  // A workspace for each thread, on cache lines of its own.
  const size_t workspace_bytes = (AttentionWorkspace(s.head_dim) + 63) / 64 * 64;
  const LargePages keys(bytes), values(bytes);  // as the runtime's
  const Aligned<uint8_t> workspace(threads * workspace_bytes);
  Floats out(q.size());
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
  Team& team = Team::Of(threads);
  const AttentionDivision division = DivideAttention(task, threads);
  const Aligned<float> partials(
      division.parts == 1
          ? 0
          : AttentionPartialBytes(task.cache, s.m * task.group(), s.tokens()) / sizeof(float));
  std::vector<std::atomic<size_t>> parts_done(s.n_kv_heads);
  const auto turn = [&] {
    // Late rows see more keys, so a thread takes the next unit when it is through with one. Whoever
    // is through with the last part of a KV head merges them.
    std::atomic<size_t> next{0};
    team.Run([&](size_t thread) {
      for (size_t unit; (unit = next++) < division.units;) {
        AttentionUnit(task, division, unit, workspace.get() + thread * workspace_bytes,
                      partials.get());
        if (division.parts == 1) continue;
        const size_t head = ShareOf(task, division, unit).kv_head;
        if (++parts_done[head] < division.parts) continue;
        parts_done[head] = 0;
        AttentionMerge(task, head, partials.get());
      }
    });
  };
  turn();
  // The last query of a prompt sees everything.
  Floats want(width);
  reference::Attention(type, q.data() + (s.m - 1) * width, k.data(), v.data(), 1, s.n_heads,
                       s.n_kv_heads, s.head_dim, s.tokens() - 1, scale, want.data());
  if (!SameBits(want.data(), out.data() + (s.m - 1) * width, width)) {
    state.SkipWithError("differs from the reference");
    return;
  }
  const Work work = {
      .ops = s.pairs() * static_cast<double>(4 * width),
      .target = target,
      .kind = type == HOB_CACHE_F32 ? &Arithmetic::f32_fma : &Arithmetic::bf16_dot,
      .bytes = static_cast<double>(2 * bytes),
      .level = LevelOf(2 * bytes, threads),
  };
  Measure(state, work, team, turn);
}

void RegisterAttention() {
  static constexpr AttentionShape kShapes[] = {
      {512, 0, 9, 3, 64},   {512, 3584, 9, 3, 64}, {1, 511, 9, 3, 64},
      {1, 4095, 9, 3, 64},  {512, 0, 32, 8, 64},   {512, 3584, 32, 8, 64},
      {512, 0, 32, 8, 128}, {1, 4095, 32, 8, 64},  {1, 4095, 32, 8, 128}};
  static constexpr const char* kTypes[] = {"f32", "bf16", "q8_0"};  // by hob_cache_type
  for (hob_cache_type type : {HOB_CACHE_F32, HOB_CACHE_BF16, HOB_CACHE_Q8_0}) {
    for (Target target : SupportedTargets()) {
      for (const AttentionShape& s : kShapes) {
        for (size_t threads : ThreadCounts()) {
          const double ops = s.pairs() * static_cast<double>(4 * s.n_heads * s.head_dim);
          if (!IsWorthwhile(target, threads, ops)) continue;
          Register(
              std::string("attention/") + kTypes[type] + "/" + TargetName(target) + "/m" +
                  std::to_string(s.m) + "_pos" + std::to_string(s.pos) + "_h" +
                  std::to_string(s.n_heads) + "_kv" + std::to_string(s.n_kv_heads) + "_d" +
                  std::to_string(s.head_dim) + ThreadsName(threads),
              [=](benchmark::State& state) { BenchAttention(state, type, target, s, threads); });
        }
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
       {576, 2048, 49152},
       2 * kFloat,
       [](const RowKernels& r, const float* in, const float*, size_t n, float* out) {
         r.softmax(in, n, out);
       }},
      {"silu_mul",
       {576, 2048, 8192},
       3 * kFloat,
       [](const RowKernels& r, const float* in, const float* more, size_t n, float* out) {
         r.silu_mul(in, more, n, out);
       }},
      {"gelu_mul",
       {576, 2048, 8192},
       3 * kFloat,
       [](const RowKernels& r, const float* in, const float* more, size_t n, float* out) {
         r.gelu_mul(in, more, n, out);
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

// Of an op that makes `values` values, reading and writing so many bytes, which stay in a cache.
template <class F>
void MeasureRows(benchmark::State& state, size_t values, size_t bytes, const Team& team, F turn) {
  const Work work = {.ops = 0,
                     .bytes = static_cast<double>(bytes),
                     .level = LevelOf(bytes, team.threads()),
                     .values = static_cast<double>(values)};
  Measure(state, work, team, turn);
}

void BenchRow(benchmark::State& state, const RowOp& op, Target target, size_t n) {
  // Three rows, each a quarter of a page of 4 KB further on in its page than the one before: cores
  // take a load for one of what was just stored where the low 12 bits of their addresses agree, and
  // whether they do would be the allocator's choice.
  constexpr size_t kPage = 4096 / sizeof(float);
  const size_t apart = (n + kPage - 1) / kPage * kPage + kPage / 4;
  Floats rows = RandomValues(3 * apart, 6);
  const float *in = rows.data(), *more = in + apart;
  float* out = rows.data() + 2 * apart;
  std::fill_n(out, n, 0.0f);
  Floats want(n);
  const RowKernels& kernels = RowsFor(target);
  op.run(kernels, in, more, n, out);
  op.run(RowsFor(kScalar), in, more, n, want.data());
  if (!SameBits(out, want.data(), n)) {
    state.SkipWithError("differs from the reference");
    return;
  }
  MeasureRows(state, n, n * op.bytes_per_element, Team::Of(1),
              [&] { op.run(kernels, in, more, n, out); });
}

// What the matmul does to its activations first.
void BenchActivations(benchmark::State& state, ActKind kind, Target target, size_t m, size_t k,
                      size_t threads) {
  const Floats x = RandomValues(m * k, 8);
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
  Team& team = Team::Of(threads);
  MeasureRows(state, m * k, m * k * sizeof(float) + prepared, team, [&] {
    team.Split(m, 1, [&](size_t begin, size_t end) {
      PrepareActivations(kind, x.data(), k, m, k, begin, end, buffer.get());
    });
  });
}

void BenchDequantize(benchmark::State& state, const Format& format, Target target, size_t k) {
  const Floats x = RandomValues(k, 9);
  std::vector<uint8_t> blocks(format.row_bytes(k));
  format.encode(x.data(), k, blocks.data());
  Floats out(k), want(k);
  const auto dequantize = format.kernels(target).dequantize;
  dequantize(blocks.data(), k, out.data());
  format.kernels(kScalar).dequantize(blocks.data(), k, want.data());
  if (!SameBits(out.data(), want.data(), k)) {
    state.SkipWithError("differs from the reference");
    return;
  }
  MeasureRows(state, k, blocks.size() + k * sizeof(float), Team::Of(1),
              [&] { dequantize(blocks.data(), k, out.data()); });
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
        for (size_t threads : ThreadCounts()) {
          if (threads > 1 && (m == 1 || target == kScalar)) continue;
          Register(std::string("quantize_activations/") + label + "/" + name + "/m" +
                       std::to_string(m) + "_k" + std::to_string(k) + ThreadsName(threads),
                   [=, kind = kind, m = m, k = k](benchmark::State& state) {
                     BenchActivations(state, kind, target, m, k, threads);
                   });
        }
      }
    }
  }
  for (const Format* format : Formats()) {
    for (Target target : SupportedTargets()) {
      for (size_t k : {2048, 65536}) {
        if (k % format->block_values != 0) continue;
        Register(std::string("dequantize/") + format->name + "/" + TargetName(target) + "/k" +
                     std::to_string(k) + "/t1",
                 [=](benchmark::State& state) { BenchDequantize(state, *format, target, k); });
      }
    }
  }
}

// ---------------------------------------------------------------- packing

// What loading a model does to its weights; values count, and the bytes are those of the file and
// of the panels.
void BenchPack(benchmark::State& state, const Format& format, size_t n, size_t k, size_t threads) {
  Weights& w = Weights::Of(format, n, k);
  Team& team = Team::Of(threads);
  const Aligned<uint8_t> packed(w.packed_bytes);
  const auto turn = [&] {
    team.Split((n + kPanel - 1) / kPanel, 1, [&](size_t begin, size_t end) {
      PackRows(format, w.rows.data(), n, k, begin * kPanel, end * kPanel, packed.get());
    });
  };
  turn();
  Floats got(k), want(k);
  format.unpack(packed.get() + (n - 1) / kPanel * format.panel_bytes(k), (n - 1) % kPanel, k,
                got.data());
  format.kernels(kScalar).dequantize(w.rows.data() + (n - 1) * format.row_bytes(k), k, want.data());
  if (!SameBits(got.data(), want.data(), k)) {
    state.SkipWithError("differs from the reference");
    return;
  }
  MeasureRows(state, n * k, w.rows.size() + w.packed_bytes, team, turn);
}

// An embedding lookup: one row out of its panel.
void BenchUnpack(benchmark::State& state, const Format& format, size_t k) {
  Weights& w = Weights::Of(format, kPanel, k);
  Floats out(k);
  size_t lane = 0;
  MeasureRows(state, k, w.packed_bytes + k * sizeof(float), Team::Of(1), [&] {
    format.unpack(w.packed.get(), lane, k, out.data());
    lane = (lane + 1) % kPanel;
  });
}

void RegisterPacking() {
  constexpr size_t kOutputs = 512, kWide = 2048;
  for (const Format* format : Formats()) {
    for (size_t threads : ThreadCounts()) {
      Register(
          std::string("pack/") + format->name + "/scalar/n512_k2048" + ThreadsName(threads),
          [=](benchmark::State& state) { BenchPack(state, *format, kOutputs, kWide, threads); });
    }
    Register(std::string("unpack/") + format->name + "/scalar/k2048/t1",
             [=](benchmark::State& state) { BenchUnpack(state, *format, kWide); });
  }
}

}  // namespace
}  // namespace hob::measure

int main(int argc, char** argv) {
  hob::measure::RegisterCeilings();
  hob::measure::RegisterMatmul();
  hob::measure::RegisterAttention();
  hob::measure::RegisterRows();
  hob::measure::RegisterPacking();
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
  benchmark::AddCustomContext("hob_version", hob_version());
  benchmark::AddCustomContext("threads", std::to_string(hob::measure::CpuCount()));
  benchmark::RunSpecifiedBenchmarks();
  benchmark::Shutdown();
}
