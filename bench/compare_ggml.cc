// hob's matmul and ggml's, in one process and in turns, so that neither has the cooler or the
// emptier machine. Both start from the same encoded weights and include the preparation of the
// activations. docs/benchmarks.md says how to build and run it.
//
// ggml is shown at its best: through its graph API with a thread pool of its own that stays alive,
// with the weights in whichever of its CPU buffers (repacked, AMX, plain) is the fastest.

#include <ggml-alloc.h>
#include <ggml-backend.h>
#include <ggml-cpu.h>
#include <ggml.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <memory>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "hob/hob.h"
#include "measure/ceilings.h"
#include "measure/team.h"

namespace hob::measure {
namespace {

struct Weight {
  size_t n, k;
};

struct Options {
  std::vector<std::string> formats = {"q4_0", "q8_0", "q4_k", "q6_k", "f16", "bf16"};
  std::vector<Weight> shapes = {{1536, 576}, {4864, 896}, {8192, 2048}};
  std::vector<size_t> rows = {1, 512};
  size_t threads = 1;
  int rounds = 15;
  double turn_seconds = 0.05;
  const char* target = nullptr;
};

struct Shape {
  size_t m, n, k;
};

[[noreturn]] void Fail(const std::string& message) {
  std::fprintf(stderr, "compare_ggml: %s\n", message.c_str());
  std::exit(1);
}

void Check(hob_status status) {
  if (status != HOB_OK) Fail(hob_status_message());
}

using Memory = std::unique_ptr<uint8_t, void (*)(uint8_t*)>;

Memory Allocate(size_t bytes) {
  auto* p = static_cast<uint8_t*>(std::aligned_alloc(64, (bytes + 63) / 64 * 64 + 64));
  if (p == nullptr) Fail("out of memory");
  return {p, [](uint8_t* q) { std::free(q); }};
}

// ---------------------------------------------------------------- the two sides

// One matmul that can be computed with any of `copies` copies of the same weights.
class Side {
 public:
  virtual ~Side() = default;
  virtual std::string name() const = 0;
  // out (m, n); the same place for every copy or not.
  virtual void Compute(size_t copy) = 0;
  virtual std::vector<float> Output(size_t copy) = 0;
  // Leaves the processor to the other side.
  virtual void Rest() = 0;
};

// Through the public interface, as a program would.
class HobSide : public Side {
 public:
  HobSide(hob_format format, const Shape& s, const std::vector<uint8_t>& blocks, const float* x,
          size_t copies, Team& team)
      : team_(team), out_(s.m * s.n) {
    args_.struct_size = sizeof args_;
    args_.format = format;
    args_.m = s.m;
    args_.n = s.n;
    args_.k = s.k;
    args_.act = x;
    args_.out = out_.data();
    Check(hob_packed_bytes(format, s.n, s.k, &packed_bytes_));
    packed_bytes_ = (packed_bytes_ + 63) / 64 * 64;
    packed_ = Allocate(copies * packed_bytes_);
    for (size_t i = 0; i < copies; ++i) {
      uint8_t* copy = packed_.get() + i * packed_bytes_;
      Check(hob_pack(format, blocks.data(), s.n, s.k, 0, s.n, copy));
    }
    Check(hob_matmul_workspace(&args_, &workspace_bytes_));
    workspace_ = Allocate(workspace_bytes_);
    threads_.struct_size = sizeof threads_;
    threads_.context = &team_;
    threads_.count = team_.threads();
    threads_.parallel_for = [](void* context, size_t n, void (*body)(void*, size_t),
                               void* argument) {
      std::atomic<size_t> next{0};
      static_cast<Team*>(context)->Run([&](size_t) {
        for (size_t i; (i = next++) < n;) body(argument, i);
      });
    };
  }

  std::string name() const override { return "hob"; }
  void Compute(size_t copy) override {
    args_.packed = packed_.get() + copy * packed_bytes_;
    Check(hob_matmul(&args_, workspace_.get(), workspace_bytes_,
                     team_.threads() == 1 ? nullptr : &threads_));
  }
  std::vector<float> Output(size_t) override { return out_; }
  void Rest() override {}  // its workers go to sleep by themselves

 private:
  Team& team_;
  std::vector<float> out_;
  hob_matmul_args args_ = {};
  hob_threads threads_ = {};
  size_t packed_bytes_ = 0, workspace_bytes_ = 0;
  Memory packed_{nullptr, nullptr}, workspace_{nullptr, nullptr};
};

// The CPU backend and its threads; one for the whole process.
class Ggml {
 public:
  explicit Ggml(size_t threads) : backend_(ggml_backend_cpu_init()) {
    // It tells of every weight that it repacks.
    ggml_log_set(
        [](ggml_log_level level, const char* text, void*) {
          if (level == GGML_LOG_LEVEL_WARN || level == GGML_LOG_LEVEL_ERROR) {
            std::fputs(text, stderr);
          }
        },
        nullptr);
    const auto count = static_cast<int>(threads);
    const ggml_threadpool_params params = ggml_threadpool_params_default(count);
    pool_ = ggml_threadpool_new(const_cast<ggml_threadpool_params*>(&params));
    if (backend_ == nullptr || pool_ == nullptr) Fail("ggml has no CPU backend");
    ggml_backend_cpu_set_n_threads(backend_, count);
    ggml_backend_cpu_set_threadpool(backend_, pool_);
    if (threads == 1) pool_ = nullptr;  // nobody to pause
  }

  ggml_backend_t backend() const { return backend_; }
  void Pause() const {
    if (pool_ != nullptr) ggml_threadpool_pause(pool_);  // the next graph resumes it
  }

  // Where weights can be: the plain buffer and those that rearrange them.
  std::vector<ggml_backend_buffer_type_t> WeightBuffers() const {
    std::vector<ggml_backend_buffer_type_t> types = {ggml_backend_cpu_buffer_type()};
    ggml_backend_dev_t device = ggml_backend_get_device(backend_);
    const auto more =
        reinterpret_cast<ggml_backend_dev_get_extra_bufts_t>(ggml_backend_reg_get_proc_address(
            ggml_backend_dev_backend_reg(device), "ggml_backend_dev_get_extra_bufts"));
    if (more != nullptr) {
      for (auto* type = more(device); type != nullptr && *type != nullptr; ++type) {
        types.push_back(*type);
      }
    }
    return types;
  }

  // What its build makes use of.
  std::string Features() const {
    const auto get = reinterpret_cast<ggml_backend_get_features_t>(
        ggml_backend_reg_get_proc_address(ggml_backend_cpu_reg(), "ggml_backend_get_features"));
    std::string features;
    if (get == nullptr) return features;
    for (auto* f = get(ggml_backend_cpu_reg()); f->name != nullptr; ++f) {
      if (std::strcmp(f->value, "0") == 0) continue;
      features += features.empty() ? "" : " ";
      features += f->name;
    }
    return features;
  }

 private:
  ggml_backend_t backend_;
  ggml_threadpool_t pool_;
};

class GgmlSide : public Side {
 public:
  // nullptr if such a buffer cannot hold weights of this type and shape.
  static std::unique_ptr<GgmlSide> Make(const Ggml& ggml, ggml_backend_buffer_type_t where,
                                        ggml_type type, const Shape& s,
                                        const std::vector<uint8_t>& blocks, const float* x,
                                        size_t copies) {
    std::unique_ptr<GgmlSide> side(new GgmlSide(ggml, where));
    return side->Fill(type, s, blocks, x, copies) ? std::move(side) : nullptr;
  }

  ~GgmlSide() override {
    ggml_backend_buffer_free(weight_buffer_);
    ggml_backend_buffer_free(buffer_);
    ggml_free(weights_);
    ggml_free(rest_);
  }

  std::string name() const override { return ggml_backend_buft_name(where_); }
  void Compute(size_t copy) override {
    if (ggml_backend_graph_compute(ggml_.backend(), graphs_[copy]) != GGML_STATUS_SUCCESS) {
      Fail("ggml could not compute a graph");
    }
  }
  std::vector<float> Output(size_t copy) override {
    ggml_tensor* out = ggml_graph_node(graphs_[copy], -1);
    std::vector<float> values(static_cast<size_t>(ggml_nelements(out)));
    ggml_backend_tensor_get(out, values.data(), 0, ggml_nbytes(out));
    return values;
  }
  void Rest() override { ggml_.Pause(); }

 private:
  GgmlSide(const Ggml& ggml, ggml_backend_buffer_type_t where) : ggml_(ggml), where_(where) {}

  bool Fill(ggml_type type, const Shape& s, const std::vector<uint8_t>& blocks, const float* x,
            size_t copies) {
    const auto context = [](size_t tensors, size_t graphs) {
      return ggml_init(
          {tensors * ggml_tensor_overhead() + graphs * ggml_graph_overhead_custom(kNodes, false),
           nullptr, true});
    };
    const auto m = static_cast<int64_t>(s.m), n = static_cast<int64_t>(s.n),
               k = static_cast<int64_t>(s.k);
    weights_ = context(copies, 0);
    rest_ = context(copies + 1, copies);
    ggml_tensor* act = ggml_new_tensor_2d(rest_, GGML_TYPE_F32, k, m);
    std::vector<ggml_tensor*> weights;
    for (size_t i = 0; i < copies; ++i) {
      weights.push_back(ggml_new_tensor_2d(weights_, type, k, n));
      graphs_.push_back(ggml_new_graph_custom(rest_, kNodes, false));
      ggml_build_forward_expand(graphs_.back(), ggml_mul_mat(rest_, weights.back(), act));
    }
    weight_buffer_ = ggml_backend_alloc_ctx_tensors_from_buft(weights_, where_);
    buffer_ = ggml_backend_alloc_ctx_tensors_from_buft(rest_, ggml_backend_cpu_buffer_type());
    if (weight_buffer_ == nullptr || buffer_ == nullptr) return false;
    ggml_backend_buffer_set_usage(weight_buffer_, GGML_BACKEND_BUFFER_USAGE_WEIGHTS);
    if (!ggml_backend_supports_op(ggml_.backend(), ggml_graph_node(graphs_[0], -1))) return false;
    ggml_backend_tensor_set(act, x, 0, ggml_nbytes(act));
    for (ggml_tensor* weight : weights) {
      ggml_backend_tensor_set(weight, blocks.data(), 0, blocks.size());
    }
    return true;
  }

  static constexpr size_t kNodes = 8;

  const Ggml& ggml_;
  ggml_backend_buffer_type_t where_;
  ggml_context *weights_ = nullptr, *rest_ = nullptr;
  ggml_backend_buffer_t weight_buffer_ = nullptr, buffer_ = nullptr;
  std::vector<ggml_cgraph*> graphs_;
};

// ---------------------------------------------------------------- measuring

double Quantile(std::vector<double> x, double q) {
  std::sort(x.begin(), x.end());
  const double at = q * static_cast<double>(x.size() - 1);
  const auto below = static_cast<size_t>(at);
  const size_t above = std::min(below + 1, x.size() - 1);
  return x[below] + (at - static_cast<double>(below)) * (x[above] - x[below]);
}

// One side, how many calls make a turn, and the seconds per call of each round.
struct Runner {
  Side* side;
  size_t copies;
  size_t calls = 1, next = 0;
  std::vector<double> seconds = {};

  void Call() {
    side->Compute(next);
    next = (next + 1) % copies;
  }
  double Turn(const Team& clock) {
    Call();  // wakes the threads
    const double start = clock.Now();
    for (size_t i = 0; i < calls; ++i) Call();
    const double taken = clock.Now() - start;
    side->Rest();
    // Time for the last worker to fall asleep.
    if (clock.threads() > 1) std::this_thread::sleep_for(std::chrono::milliseconds(5));
    return taken;
  }
};

// Bell-shaped enough, the same in every run.
std::vector<float> RandomValues(size_t n, uint32_t state) {
  std::vector<float> x(n);
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

// |a - b| / |b|, as vectors.
double Difference(const std::vector<float>& a, const std::vector<float>& b) {
  double difference = 0, size = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    const double d = static_cast<double>(a[i]) - static_cast<double>(b[i]);
    difference += d * d;
    size += static_cast<double>(b[i]) * static_cast<double>(b[i]);
  }
  return std::sqrt(difference / size);
}

// Both round activations, to 8 bits at the least: in blocks of 32 or 256, which is where they
// differ.
constexpr double kMostDifference = 0.02;

// Prints a row of the table; false if the results disagree.
bool Compare(const Options& options, const Ggml& ggml, const char* name, hob_format format,
             const Shape& s) {
  const auto type = static_cast<ggml_type>(format);  // both are the type ids of GGUF
  Team& team = Team::Of(options.threads);
  const std::vector<float> weight = RandomValues(s.n * s.k, 1), x = RandomValues(s.m * s.k, 2);
  std::vector<uint8_t> blocks(s.n * ggml_row_size(type, static_cast<int64_t>(s.k)));
  ggml_quantize_chunk(type, weight.data(), blocks.data(), 0, static_cast<int64_t>(s.n),
                      static_cast<int64_t>(s.k), nullptr);
  // One row of activations is a step of generation, which finds its weights in memory.
  const size_t copies = s.m > 1 ? 1 : BeyondCaches() / blocks.size() + 1;

  std::vector<std::unique_ptr<Side>> sides;
  sides.push_back(std::make_unique<HobSide>(format, s, blocks, x.data(), copies, team));
  for (ggml_backend_buffer_type_t where : ggml.WeightBuffers()) {
    auto side = GgmlSide::Make(ggml, where, type, s, blocks, x.data(), copies);
    if (side != nullptr) sides.push_back(std::move(side));
  }
  std::vector<Runner> runners;
  std::vector<std::vector<float>> outputs;
  for (const auto& side : sides) {
    side->Compute(0);
    outputs.push_back(side->Output(0));
    Runner runner = {side.get(), copies};
    while (runner.Turn(team) < options.turn_seconds) runner.calls *= 2;
    runners.push_back(std::move(runner));
  }
  for (int round = 0; round < options.rounds; ++round) {
    for (size_t i = 0; i < runners.size(); ++i) {
      // Back and forth, so that nobody always comes after the same one.
      Runner& runner = runners[round % 2 == 0 ? i : runners.size() - 1 - i];
      runner.seconds.push_back(runner.Turn(team) / static_cast<double>(runner.calls));
    }
  }

  const Runner& ours = runners[0];
  size_t best = 1;
  for (size_t i = 2; i < runners.size(); ++i) {
    if (Quantile(runners[i].seconds, 0.5) < Quantile(runners[best].seconds, 0.5)) best = i;
  }
  const Runner& theirs = runners[best];
  std::vector<double> ratios;
  for (size_t i = 0; i < ours.seconds.size(); ++i) {
    ratios.push_back(theirs.seconds[i] / ours.seconds[i]);
  }
  const double difference = Difference(outputs[0], outputs[best]);
  const double ops = 2e-9 * static_cast<double>(s.m) * static_cast<double>(s.n * s.k);
  const double a = Quantile(ours.seconds, 0.5), b = Quantile(theirs.seconds, 0.5);
  std::printf(
      "| %s | %zu | %zu x %zu | %.1f | %.1f | %.1f | %.1f | %s | %.2f | %.2f-%.2f | %.4f |\n", name,
      s.m, s.n, s.k, a * 1e6, b * 1e6, ops / a, ops / b, theirs.side->name().c_str(),
      Quantile(ratios, 0.5), Quantile(ratios, 0.25), Quantile(ratios, 0.75), difference);
  std::fflush(stdout);
  if (difference <= kMostDifference) return true;
  std::fprintf(stderr, "compare_ggml: %s, m = %zu, %zu x %zu: results differ\n", name, s.m, s.n,
               s.k);
  return false;
}

std::string CpuName() {
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line);) {
    const size_t colon = line.find(": ");
    if (line.rfind("model name", 0) == 0 && colon != std::string::npos) {
      return line.substr(colon + 2);
    }
  }
  return "unknown";
}

bool CompareAll(const Options& options) {
  Check(hob_target_set(options.target));
  const Ggml ggml(options.threads);
  std::printf("- CPU: %s\n- threads: %zu\n- hob %s, target %s\n- ggml %s (%s): %s\n",
              CpuName().c_str(), options.threads, hob_version(), hob_target(), ggml_version(),
              ggml_commit(), ggml.Features().c_str());
  std::printf("- %d rounds of turns of %.0f ms or more, medians; ratio: ggml's time / hob's\n\n",
              options.rounds, options.turn_seconds * 1e3);
  std::printf(
      "| format | m | n x k | hob us | ggml us | hob GOP/s | ggml GOP/s | ggml's buffer | ratio | "
      "middle half | difference |\n|---|--:|---|--:|--:|--:|--:|---|--:|--:|--:|\n");
  bool agree = true;
  for (const std::string& name : options.formats) {
    hob_format format = HOB_FORMAT_NONE;
    hob_format_info info = {};
    info.struct_size = sizeof info;
    if (hob_format_from_name(name.c_str(), &format) != HOB_OK) {
      std::fprintf(stderr, "compare_ggml: this hob has no %s\n", name.c_str());
      continue;
    }
    Check(hob_format_describe(format, &info));
    for (size_t m : options.rows) {
      for (const auto& [n, k] : options.shapes) {
        if (k % info.block_values != 0) continue;
        agree = Compare(options, ggml, info.name, format, {m, n, k}) && agree;
      }
    }
  }
  return agree;
}

// ---------------------------------------------------------------- command line

std::vector<std::string> Words(const std::string& text) {
  std::vector<std::string> words;
  std::istringstream stream(text);
  for (std::string word; std::getline(stream, word, ',');) words.push_back(word);
  return words;
}

constexpr char kUsage[] =
    "usage: compare_ggml [OPTION VALUE]...\n"
    "\n"
    "Measures hob's matmul and ggml's in turns and prints a Markdown table.\n"
    "\n"
    "  -t N              threads (1)\n"
    "  --target NAME     caps hob's instruction set\n"
    "  --formats A,B     (q4_0,q8_0,q4_k,q6_k,f16,bf16, as far as hob has them)\n"
    "  --m A,B           rows of activations (1,512); one row finds its weights in memory\n"
    "  --shapes A,B      n x k (1536x576,4864x896,8192x2048)\n"
    "  --rounds N        turns of each (15)\n"
    "  --turn SECONDS    least length of a turn (0.05)\n";

bool Parse(int argc, char** argv, Options& options) {
  for (int i = 1; i + 1 < argc; i += 2) {
    const std::string name = argv[i];
    const char* value = argv[i + 1];
    const auto number = std::strtoul(value, nullptr, 10);
    if (name == "-t" && number > 0) {
      options.threads = number;
    } else if (name == "--target") {
      options.target = value;
    } else if (name == "--formats") {
      options.formats = Words(value);
    } else if (name == "--m") {
      options.rows.clear();
      for (const std::string& word : Words(value)) {
        options.rows.push_back(std::strtoul(word.c_str(), nullptr, 10));
        if (options.rows.back() == 0) return false;
      }
    } else if (name == "--shapes") {
      options.shapes.clear();
      for (const std::string& word : Words(value)) {
        Weight w = {0, 0};
        if (std::sscanf(word.c_str(), "%zux%zu", &w.n, &w.k) != 2) return false;
        if (w.n == 0 || w.k == 0) return false;
        options.shapes.push_back(w);
      }
    } else if (name == "--rounds" && number > 0) {
      options.rounds = static_cast<int>(number);
    } else if (name == "--turn" && std::strtod(value, nullptr) > 0) {
      options.turn_seconds = std::strtod(value, nullptr);
    } else {
      return false;
    }
  }
  return argc % 2 == 1;
}

}  // namespace
}  // namespace hob::measure

int main(int argc, char** argv) {
  hob::measure::Options options;
  if (argc == 2 && std::string(argv[1]) == "--help") {
    std::fputs(hob::measure::kUsage, stdout);
    return 0;
  }
  if (!hob::measure::Parse(argc, argv, options)) {
    std::fputs(hob::measure::kUsage, stderr);
    return 2;
  }
  return hob::measure::CompareAll(options) ? 0 : 1;
}
