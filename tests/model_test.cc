// Whole models through the C API. The oracle is a forward pass in scalar code (Reference below),
// made of kernels/reference.h on the file's own blocks: logits must match it bit for bit, whatever
// the batches, threads and instruction sets. A trained model checks that the oracle is right.
#include "hob/model.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <map>
#include <memory>
#include <new>
#include <random>
#include <sstream>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "kernels/reference.h"
#include "kernels/rows.h"
#include "runtime/gguf.h"
#include "tests/test_files.h"

// ---------------------------------------------------------------- counting allocations

namespace {
std::atomic<size_t> allocations{0};
}  // namespace

// Not inlined: GCC would see free() get memory from `new` and warn.
[[gnu::noinline]] void* operator new(size_t bytes) {
  ++allocations;
  void* memory = std::malloc(bytes == 0 ? 1 : bytes);
  if (memory == nullptr) throw std::bad_alloc();
  return memory;
}
[[gnu::noinline]] void operator delete(void* memory) noexcept { std::free(memory); }
[[gnu::noinline]] void operator delete(void* memory, size_t) noexcept { std::free(memory); }

namespace hob {
namespace {

using test::FindData;
using test::MissingData;

// ---------------------------------------------------------------- random models

struct Shape {
  std::string_view architecture = "llama";
  hob_format format = HOB_FORMAT_F32;
  bool mixed = false;  // matrices of several formats
  bool tied = false;
  size_t layers = 2, width = 64, feed_forward = 96, heads = 4, kv_heads = 2, head_dim = 16;
  size_t n_rot = 16;
  float rope_base = 10000.0f, rope_factor = 1.0f;
  bool rope_factors = false;  // a tensor rope_freqs.weight
  size_t vocabulary = 290;    // some more than the tokenizer has, and no multiple of 16
  size_t context = 96;

  // What the architectures have, said here again: the oracle does not ask the runtime.
  bool qkv_bias() const { return architecture == "qwen2"; }
  bool qk_norm() const { return architecture == "qwen3"; }
  hob_rope_style rope() const {
    return architecture == "llama" ? HOB_ROPE_INTERLEAVED : HOB_ROPE_HALVES;
  }
};

struct TestTensor {
  hob_format format;
  size_t n, k;                  // rows of k values
  std::vector<uint8_t> blocks;  // (n, row bytes)
};

// A model with random weights: as a GGUF file, and as tensors for the oracle.
class TestModel {
 public:
  explicit TestModel(const Shape& shape, uint32_t seed = 1) : shape_(shape), random_(seed) {
    const Shape& s = shape_;
    const size_t q_width = s.heads * s.head_dim, kv_width = s.kv_heads * s.head_dim;
    AddMatrix("token_embd.weight", s.vocabulary, s.width);
    for (size_t i = 0; i < s.layers; ++i) {
      const std::string block = "blk." + std::to_string(i) + ".";
      AddVector(block + "attn_norm.weight", s.width);
      AddMatrix(block + "attn_q.weight", q_width, s.width);
      AddMatrix(block + "attn_k.weight", kv_width, s.width);
      AddMatrix(block + "attn_v.weight", kv_width, s.width);
      if (s.qkv_bias()) {
        AddBias(block + "attn_q.bias", q_width);
        AddBias(block + "attn_k.bias", kv_width);
        AddBias(block + "attn_v.bias", kv_width);
      }
      if (s.qk_norm()) {
        AddVector(block + "attn_q_norm.weight", s.head_dim);
        AddVector(block + "attn_k_norm.weight", s.head_dim);
      }
      AddMatrix(block + "attn_output.weight", s.width, q_width);
      AddVector(block + "ffn_norm.weight", s.width);
      AddMatrix(block + "ffn_gate.weight", s.feed_forward, s.width);
      AddMatrix(block + "ffn_up.weight", s.feed_forward, s.width);
      AddMatrix(block + "ffn_down.weight", s.width, s.feed_forward);
    }
    AddVector("output_norm.weight", s.width);
    if (!s.tied) AddMatrix("output.weight", s.vocabulary, s.width);
    if (s.rope_factors) AddVector("rope_freqs.weight", s.n_rot / 2);
  }

  const Shape& shape() const { return shape_; }
  std::map<std::string, TestTensor>& tensors() { return tensors_; }
  const TestTensor& tensor(const std::string& name) const { return tensors_.at(name); }

  GgufWriter Writer() const {
    const Shape& s = shape_;
    GgufWriter writer;
    const auto key = [&](const char* name) { return std::string(s.architecture) + "." + name; };
    writer.SetString("general.architecture", s.architecture);
    writer.SetString("general.name", "test model");
    const auto set = [&](const char* name, size_t value) {
      writer.SetU32(key(name), static_cast<uint32_t>(value));
    };
    set("block_count", s.layers);
    set("context_length", s.context);
    set("embedding_length", s.width);
    set("feed_forward_length", s.feed_forward);
    set("attention.head_count", s.heads);
    set("attention.head_count_kv", s.kv_heads);
    if (s.heads * s.head_dim != s.width) {
      set("attention.key_length", s.head_dim);
      set("attention.value_length", s.head_dim);
    }
    if (s.n_rot != s.head_dim) set("rope.dimension_count", s.n_rot);
    writer.SetF32(key("attention.layer_norm_rms_epsilon"), kEps);
    writer.SetF32(key("rope.freq_base"), s.rope_base);
    if (s.rope_factor != 1.0f) {
      writer.SetString(key("rope.scaling.type"), "linear");
      writer.SetF32(key("rope.scaling.factor"), s.rope_factor);
    }
    test::AddSpmVocabulary(&writer);
    for (const auto& [name, tensor] : tensors_) {
      std::vector<uint64_t> dims = {tensor.k};
      if (tensor.n != 1) dims.push_back(tensor.n);
      writer.AddTensor(name, static_cast<uint32_t>(tensor.format), dims, tensor.blocks);
    }
    return writer;
  }
  std::vector<uint8_t> Bytes() const { return Writer().WriteBytes(); }

  static constexpr float kEps = 1e-5f;

 private:
  float Random() { return static_cast<float>(random_() >> 8) / 8388608.0f - 1.0f; }

  void AddMatrix(const std::string& name, size_t n, size_t k) {
    constexpr hob_format kMix[] = {HOB_FORMAT_Q8_0, HOB_FORMAT_F32, HOB_FORMAT_BF16,
                                   HOB_FORMAT_Q4_0, HOB_FORMAT_F16};
    const hob_format format = shape_.mixed ? kMix[tensors_.size() % 5] : shape_.format;
    Add(name, format, n, k, 2.0f / std::sqrt(static_cast<float>(k)), 0.0f);
  }
  void AddVector(const std::string& name, size_t size) {
    Add(name, HOB_FORMAT_F32, 1, size, 0.5f, 1.0f);
  }
  void AddBias(const std::string& name, size_t size) {
    Add(name, HOB_FORMAT_F32, 1, size, 0.5f, 0.0f);
  }
  void Add(const std::string& name, hob_format format, size_t n, size_t k, float spread,
           float center) {
    const Format& f = *FindFormat(format);
    TestTensor tensor{format, n, k, std::vector<uint8_t>(n * f.row_bytes(k))};
    std::vector<float> row(k);
    for (size_t i = 0; i < n; ++i) {
      for (float& value : row) value = center + spread * Random();
      f.encode(row.data(), k, tensor.blocks.data() + i * f.row_bytes(k));
    }
    tensors_[name] = std::move(tensor);
  }

  Shape shape_;
  std::mt19937 random_;
  std::map<std::string, TestTensor> tensors_;
};

// ---------------------------------------------------------------- the oracle

using Floats = std::vector<float>;

Floats Decode(const TestTensor& tensor, size_t row) {
  const Format& format = *FindFormat(tensor.format);
  Floats out(tensor.k);
  format.kernels(kScalar).dequantize(tensor.blocks.data() + row * format.row_bytes(tensor.k),
                                     tensor.k, out.data());
  return out;
}

// The forward pass over whole sequences, every tensor (rows, cols) in plain memory.
class Reference {
 public:
  explicit Reference(const TestModel& model) : model_(model), s_(model.shape()) {}

  // (tokens, vocabulary)
  Floats Logits(const std::vector<int32_t>& tokens, hob_cache_type cache) const {
    const size_t m = tokens.size();
    Floats x;
    for (int32_t token : tokens) {
      const Floats row = Decode(model_.tensor("token_embd.weight"), static_cast<size_t>(token));
      x.insert(x.end(), row.begin(), row.end());
    }
    Floats table(m * s_.n_rot);
    const Floats factors =
        s_.rope_factors ? Decode(model_.tensor("rope_freqs.weight"), 0) : Floats();
    RopeTable(0, m, s_.n_rot, s_.rope_base, 1.0 / s_.rope_factor,
              s_.rope_factors ? factors.data() : nullptr, table.data());

    for (size_t i = 0; i < s_.layers; ++i) {
      const std::string block = "blk." + std::to_string(i) + ".";
      Floats h = Norm(x, block + "attn_norm.weight");
      Floats q = Project(h, block + "attn_q");
      Floats k = Project(h, block + "attn_k");
      const Floats v = Project(h, block + "attn_v");
      if (s_.qk_norm()) {
        q = Norm(q, block + "attn_q_norm.weight");
        k = Norm(k, block + "attn_k_norm.weight");
      }
      for (size_t t = 0; t < m; ++t) {
        const float* angles = table.data() + t * s_.n_rot;
        reference::Rope(s_.rope(), angles, s_.heads, s_.head_dim, s_.n_rot,
                        q.data() + t * s_.heads * s_.head_dim);
        reference::Rope(s_.rope(), angles, s_.kv_heads, s_.head_dim, s_.n_rot,
                        k.data() + t * s_.kv_heads * s_.head_dim);
      }
      h.assign(q.size(), 0.0f);
      const float scale = 1.0f / std::sqrt(static_cast<float>(s_.head_dim));
      reference::Attention(cache, q.data(), k.data(), v.data(), m, s_.heads, s_.kv_heads,
                           s_.head_dim, 0, scale, h.data());
      x = Matmul(h, block + "attn_output.weight", &x);
      h = Norm(x, block + "ffn_norm.weight");
      const Floats gate = Matmul(h, block + "ffn_gate.weight");
      const Floats up = Matmul(h, block + "ffn_up.weight");
      h.resize(gate.size());
      reference::SiluMul(gate.data(), up.data(), gate.size(), h.data());
      x = Matmul(h, block + "ffn_down.weight", &x);
    }
    x = Norm(x, "output_norm.weight");
    return Matmul(x, s_.tied ? "token_embd.weight" : "output.weight");
  }

 private:
  // Of each part of x that is as long as the weight: a row, or a head.
  Floats Norm(const Floats& x, const std::string& name) const {
    const Floats weight = Decode(model_.tensor(name), 0);
    Floats out(x.size());
    for (size_t at = 0; at < x.size(); at += weight.size()) {
      reference::RmsNorm(x.data() + at, weight.data(), TestModel::kEps, weight.size(),
                         out.data() + at);
    }
    return out;
  }

  // With the bias that the architecture has for q, k and v, or none.
  Floats Project(const Floats& x, const std::string& name) const {
    const Floats bias = s_.qkv_bias() ? Decode(model_.tensor(name + ".bias"), 0) : Floats();
    return Matmul(x, name + ".weight", nullptr, s_.qkv_bias() ? bias.data() : nullptr);
  }

  Floats Matmul(const Floats& x, const std::string& name, const Floats* residual = nullptr,
                const float* bias = nullptr) const {
    const TestTensor& weight = model_.tensor(name);
    const size_t m = x.size() / weight.k;
    Floats out(m * weight.n);
    reference::Matmul(*FindFormat(weight.format), weight.blocks.data(), weight.n, weight.k,
                      x.data(), weight.k, m, bias, residual == nullptr ? nullptr : residual->data(),
                      out.data(), weight.n);
    return out;
  }

  const TestModel& model_;
  const Shape& s_;
};

// ---------------------------------------------------------------- the C API, owned

struct FreeModel {
  void operator()(hob_model* model) const { hob_model_free(model); }
};
struct FreeSession {
  void operator()(hob_session* session) const { hob_session_free(session); }
};
using ModelPtr = std::unique_ptr<hob_model, FreeModel>;
using SessionPtr = std::unique_ptr<hob_session, FreeSession>;

hob_model_options ModelOptions() {
  hob_model_options options{};
  options.struct_size = sizeof(options);
  return options;
}

hob_session_options SessionOptions(size_t batch = 0, const hob_threads* threads = nullptr,
                                   int cache_type = 0) {
  hob_session_options options{};
  options.struct_size = sizeof(options);
  options.batch = batch;
  options.threads = threads;
  options.cache_type = cache_type;
  return options;
}

ModelPtr Load(const std::vector<uint8_t>& bytes, const hob_model_options* options = nullptr) {
  hob_model* model = nullptr;
  EXPECT_EQ(hob_model_load_memory(bytes.data(), bytes.size(), options, &model), HOB_OK)
      << hob_status_message();
  return ModelPtr(model);
}

SessionPtr Create(const ModelPtr& model, const hob_session_options& options) {
  hob_session* session = nullptr;
  EXPECT_EQ(hob_session_create(model.get(), &options, &session), HOB_OK) << hob_status_message();
  return SessionPtr(session);
}

// A host that starts a thread for each body, one that runs the bodies in turn.
void RunOnThreads(void*, size_t n, void (*body)(void*, size_t), void* argument) {
  std::vector<std::thread> threads;
  for (size_t i = 0; i < n; ++i) threads.emplace_back(body, argument, i);
  for (std::thread& thread : threads) thread.join();
}
void RunInTurn(void*, size_t n, void (*body)(void*, size_t), void* argument) {
  for (size_t i = 0; i < n; ++i) body(argument, i);
}

// The names of the targets that this machine can run.
std::vector<const char*> Targets() {
  std::vector<const char*> names(hob_targets(nullptr, 0));
  hob_targets(names.data(), names.size());
  return names;
}

std::vector<int32_t> RandomTokens(size_t count, size_t vocabulary, uint32_t seed = 7) {
  std::mt19937 random(seed);
  std::vector<int32_t> tokens(count);
  for (int32_t& token : tokens) token = static_cast<int32_t>(random() % vocabulary);
  return tokens;
}

// All logits of the tokens, in a new session.
Floats Eval(const ModelPtr& model, const std::vector<int32_t>& tokens, size_t vocabulary,
            const hob_session_options& options) {
  const SessionPtr session = Create(model, options);
  Floats logits(tokens.size() * vocabulary);
  EXPECT_EQ(hob_session_eval(session.get(), tokens.data(), tokens.size(), logits.data()), HOB_OK)
      << hob_status_message();
  return logits;
}

Floats LastLogits(const SessionPtr& session, size_t vocabulary) {
  const float* logits = nullptr;
  if (hob_session_logits(session.get(), &logits) != HOB_OK) {
    ADD_FAILURE() << hob_status_message();
    return {};
  }
  return Floats(logits, logits + vocabulary);
}

// Bit for bit; says where they differ first.
void ExpectSameBits(const Floats& got, const Floats& expected, const std::string& what) {
  ASSERT_EQ(got.size(), expected.size()) << what;
  for (size_t i = 0; i < got.size(); ++i) {
    ASSERT_EQ(std::memcmp(&got[i], &expected[i], sizeof(float)), 0)
        << what << ": element " << i << " is " << got[i] << ", expected " << expected[i];
  }
}

// ---------------------------------------------------------------- bits

// A shape whose rows fit the format's blocks.
Shape ShapeFor(const Format& format, bool tied) {
  Shape shape{.format = format.id, .tied = tied};
  if (format.block_values > 32) {
    shape.layers = 1;
    shape.width = shape.feed_forward = format.block_values;
    shape.head_dim = shape.n_rot = format.block_values / shape.heads;
  }
  return shape;
}

// HOB_TEST_QUICK asks for less.
bool Quick() { return std::getenv("HOB_TEST_QUICK") != nullptr; }

TEST(ModelTest, EveryFormatMatchesTheReference) {
  const std::vector<int32_t> tokens = RandomTokens(21, 290);
  for (const Format* format : Formats()) {
    for (bool tied : {false, true}) {
      if (Quick() && tied) continue;
      const TestModel test(ShapeFor(*format, tied));
      const ModelPtr model = Load(test.Bytes());
      for (int type : {HOB_CACHE_F32, HOB_CACHE_BF16, HOB_CACHE_Q8_0}) {
        const std::string what =
            std::string(format->name) + (tied ? " tied" : "") + " cache " + std::to_string(type);
        ExpectSameBits(Eval(model, tokens, 290, SessionOptions(8, nullptr, 1 + type)),
                       Reference(test).Logits(tokens, static_cast<hob_cache_type>(type)), what);
      }
    }
  }
}

TEST(ModelTest, MixedFormatsMatchTheReference) {
  const TestModel test({.mixed = true, .layers = 3});
  const ModelPtr model = Load(test.Bytes());
  const std::vector<int32_t> tokens = RandomTokens(33, 290);
  const Floats expected = Reference(test).Logits(tokens, HOB_CACHE_BF16);
  for (size_t batch : {1, 33}) {
    ExpectSameBits(Eval(model, tokens, 290, SessionOptions(batch)), expected, "mixed");
  }
}

TEST(ModelTest, EveryShapeMatchesTheReference) {
  const Shape shapes[] = {
      {.heads = 4, .kv_heads = 4},
      {.heads = 4, .kv_heads = 1},
      {.heads = 1, .kv_heads = 1, .head_dim = 64, .n_rot = 64},
      {.layers = 1, .heads = 3, .kv_heads = 3, .head_dim = 24, .n_rot = 8},  // key_length given
      {.layers = 3,
       .width = 40,
       .feed_forward = 60,
       .heads = 2,
       .kv_heads = 1,
       .head_dim = 20,
       .n_rot = 20},
      {.rope_base = 500000.0f, .rope_factor = 4.0f},
      {.rope_factors = true},
      {.architecture = "qwen2", .mixed = true, .heads = 4, .kv_heads = 1},
      {.architecture = "qwen2", .n_rot = 8, .rope_base = 1e6f, .rope_factor = 4.0f},
      {.architecture = "qwen3", .mixed = true, .heads = 4, .kv_heads = 4},
      {.architecture = "qwen3",  // heads * head_dim below the width, and not a multiple of 16
       .layers = 1,
       .heads = 3,
       .kv_heads = 1,
       .head_dim = 20,
       .n_rot = 20,
       .rope_base = 1e6f},
  };
  const std::vector<int32_t> tokens = RandomTokens(40, 290);
  int number = 0;
  for (const Shape& shape : shapes) {
    const TestModel test(shape);
    ExpectSameBits(
        Eval(Load(test.Bytes()), tokens, 290, SessionOptions(0, nullptr, 1 + HOB_CACHE_F32)),
        Reference(test).Logits(tokens, HOB_CACHE_F32), "shape " + std::to_string(number++));
  }
}

// All that must not change bits, against the oracle.
void ExpectReferenceEverywhere(const TestModel& test, const std::string& what) {
  const ModelPtr model = Load(test.Bytes());
  const std::vector<int32_t> tokens = RandomTokens(23, 290);
  for (int type : {HOB_CACHE_F32, HOB_CACHE_BF16, HOB_CACHE_Q8_0}) {
    const Floats expected = Reference(test).Logits(tokens, static_cast<hob_cache_type>(type));
    for (const char* target : Targets()) {
      ASSERT_EQ(hob_target_set(target), HOB_OK);
      for (size_t count : {1, 2, 3}) {
        const hob_threads threads = {sizeof(hob_threads), nullptr, count, RunOnThreads};
        for (size_t batch : {1, 7, 23}) {
          ExpectSameBits(Eval(model, tokens, 290, SessionOptions(batch, &threads, 1 + type)),
                         expected,
                         what + " cache " + std::to_string(type) + " " + target + " threads " +
                             std::to_string(count) + " batch " + std::to_string(batch));
        }
      }
    }
    ASSERT_EQ(hob_target_set(nullptr), HOB_OK);
  }
}

TEST(ModelTest, EveryArchitectureMatchesTheReferenceEverywhere) {
  for (std::string_view architecture : {"llama", "qwen2", "qwen3"}) {
    for (hob_format format : {HOB_FORMAT_F32, HOB_FORMAT_Q8_0, HOB_FORMAT_Q4_0}) {
      if (Quick() && format != HOB_FORMAT_Q8_0) continue;
      // Heads that are neither width / heads long nor a multiple of 16.
      const TestModel test({.architecture = architecture,
                            .format = format,
                            .tied = format == HOB_FORMAT_Q8_0,
                            .head_dim = 24,
                            .n_rot = 24});
      ExpectReferenceEverywhere(test, std::string(architecture) + " " + FindFormat(format)->name);
    }
  }
}

// The oracle in turn: each part of an architecture that the others have not changes the logits.
TEST(ModelTest, ArchitecturesDiffer) {
  const std::vector<int32_t> tokens = RandomTokens(9, 290);
  std::vector<Floats> logits;
  for (std::string_view architecture : {"llama", "qwen2", "qwen3"}) {
    TestModel test({.architecture = architecture});
    logits.push_back(Eval(Load(test.Bytes()), tokens, 290, SessionOptions()));
    for (auto& [name, tensor] : test.tensors()) {
      const bool special = name.find("bias") != std::string::npos ||
                           name.find("q_norm") != std::string::npos ||
                           name.find("k_norm") != std::string::npos;
      if (!special) continue;
      const TestTensor kept = tensor;
      std::fill(tensor.blocks.begin(), tensor.blocks.end(), 0);
      EXPECT_NE(Eval(Load(test.Bytes()), tokens, 290, SessionOptions()), logits.back()) << name;
      tensor = kept;
    }
  }
  EXPECT_NE(logits[0], logits[1]);
  EXPECT_NE(logits[0], logits[2]);
}

TEST(ModelTest, BatchesThreadsAndTargetsDoNotChangeBits) {
  for (hob_format format : {HOB_FORMAT_F32, HOB_FORMAT_BF16, HOB_FORMAT_Q4_0}) {
    const TestModel test({.format = format});
    const ModelPtr model = Load(test.Bytes());
    const std::vector<int32_t> tokens = RandomTokens(45, 290);
    const Floats expected = Eval(model, tokens, 290, SessionOptions());
    for (size_t batch : {1, 3, 7, 45}) {
      ExpectSameBits(Eval(model, tokens, 290, SessionOptions(batch)), expected,
                     "batch " + std::to_string(batch));
    }
    for (size_t count : {1, 2, 3}) {
      const hob_threads threads = {sizeof(hob_threads), nullptr, count, RunOnThreads};
      for (size_t batch : {1, 16, 45}) {
        ExpectSameBits(Eval(model, tokens, 290, SessionOptions(batch, &threads)), expected,
                       std::to_string(count) + " threads, batch " + std::to_string(batch));
      }
    }
    for (const char* target : Targets()) {
      ASSERT_EQ(hob_target_set(target), HOB_OK);
      for (size_t batch : {1, 45}) {
        ExpectSameBits(Eval(model, tokens, 290, SessionOptions(batch)), expected, target);
      }
    }
    ASSERT_EQ(hob_target_set(nullptr), HOB_OK);
  }
}

// More keys than a chunk: threads divide them where rows are few.
TEST(ModelTest, LongContextsOverThreadsDoNotChangeBits) {
  const ModelPtr model = Load(TestModel({.format = HOB_FORMAT_Q8_0, .context = 600}).Bytes());
  const std::vector<int32_t> tokens = RandomTokens(560, 290);
  const auto options = [](size_t batch, const hob_threads* threads) {
    hob_session_options o = SessionOptions(batch, threads);
    o.context = 600;
    return o;
  };
  const Floats expected = Eval(model, tokens, 290, options(560, nullptr));
  for (size_t count : {2, 3}) {
    const hob_threads threads = {sizeof(hob_threads), nullptr, count, RunOnThreads};
    for (size_t batch : {2, 5, 200}) {
      ExpectSameBits(Eval(model, tokens, 290, options(batch, &threads)), expected,
                     std::to_string(count) + " threads, batch " + std::to_string(batch));
    }
  }
}

TEST(ModelTest, LoadingWithThreadsOrFromAFileChangesNothing) {
  const TestModel test({.format = HOB_FORMAT_Q8_0});
  const std::vector<uint8_t> bytes = test.Bytes();
  const std::vector<int32_t> tokens = RandomTokens(5, 290);
  const Floats expected = Eval(Load(bytes), tokens, 290, SessionOptions());

  hob_model_options options = ModelOptions();
  const hob_threads threads = {sizeof(hob_threads), nullptr, 3, RunOnThreads};
  options.threads = &threads;
  ExpectSameBits(Eval(Load(bytes, &options), tokens, 290, SessionOptions()), expected, "threads");

  ModelPtr model;
  {
    const test::TempDir directory;
    const std::string path = directory.File("model.gguf");
    test::WriteBytes(path, bytes);
    hob_model* loaded = nullptr;
    ASSERT_EQ(hob_model_load(path.c_str(), &options, &loaded), HOB_OK) << hob_status_message();
    model.reset(loaded);
  }  // the file is gone
  ExpectSameBits(Eval(model, tokens, 290, SessionOptions()), expected, "file");
}

// ---------------------------------------------------------------- sessions

TEST(ModelTest, OnlyTheLastLogitsAreTheSameLogits) {
  const TestModel test({.format = HOB_FORMAT_Q8_0});
  const ModelPtr model = Load(test.Bytes());
  const std::vector<int32_t> tokens = RandomTokens(30, 290);
  const Floats all = Eval(model, tokens, 290, SessionOptions());
  const Floats last(all.end() - 290, all.end());
  for (size_t batch : {1, 7, 30}) {
    const SessionPtr session = Create(model, SessionOptions(batch));
    ASSERT_EQ(hob_session_eval(session.get(), tokens.data(), 30, nullptr), HOB_OK);
    ExpectSameBits(LastLogits(session, 290), last, "last row, batch " + std::to_string(batch));
  }
  // After an eval with all logits, the last are there too.
  const SessionPtr session = Create(model, SessionOptions());
  Floats logits(all.size());
  ASSERT_EQ(hob_session_eval(session.get(), tokens.data(), 30, logits.data()), HOB_OK);
  ExpectSameBits(LastLogits(session, 290), last, "kept last row");
}

TEST(ModelTest, RewindAndEvalAgain) {
  const TestModel test({.format = HOB_FORMAT_BF16});
  const ModelPtr model = Load(test.Bytes());
  const std::vector<int32_t> tokens = RandomTokens(50, 290), other = RandomTokens(50, 290, 8);
  const Floats expected = Eval(model, tokens, 290, SessionOptions());
  const SessionPtr session = Create(model, SessionOptions(16));
  for (size_t keep : {0, 1, 17, 33, 49}) {
    ASSERT_EQ(hob_session_rewind(session.get(), 0), HOB_OK);
    ASSERT_EQ(hob_session_eval(session.get(), tokens.data(), keep == 0 ? 1 : keep, nullptr),
              HOB_OK);
    ASSERT_EQ(hob_session_eval(session.get(), other.data(), 20, nullptr), HOB_OK);
    ASSERT_EQ(hob_session_rewind(session.get(), keep), HOB_OK);
    EXPECT_EQ(hob_session_position(session.get()), keep);
    const float* logits;
    EXPECT_EQ(hob_session_logits(session.get(), &logits), HOB_ERROR_ARGUMENT);
    ASSERT_EQ(hob_session_eval(session.get(), tokens.data() + keep, 50 - keep, nullptr), HOB_OK);
    ExpectSameBits(LastLogits(session, 290), Floats(expected.end() - 290, expected.end()),
                   "kept " + std::to_string(keep));
  }
  EXPECT_EQ(hob_session_rewind(session.get(), 51), HOB_ERROR_ARGUMENT);
}

TEST(ModelTest, EvalChecksTokensAndContext) {
  const TestModel test({});
  const ModelPtr model = Load(test.Bytes());
  hob_session_options options = SessionOptions();
  options.context = 10;
  const SessionPtr session = Create(model, options);
  const std::vector<int32_t> tokens = RandomTokens(11, 290);
  ASSERT_EQ(hob_session_eval(session.get(), tokens.data(), 4, nullptr), HOB_OK);
  const Floats before = LastLogits(session, 290);
  for (int32_t bad : {-1, 290, INT32_MAX, INT32_MIN}) {
    const int32_t pair[] = {0, bad};
    EXPECT_EQ(hob_session_eval(session.get(), pair, 2, nullptr), HOB_ERROR_ARGUMENT);
    EXPECT_NE(std::string(hob_status_message()).find("tokens[1]"), std::string::npos);
  }
  EXPECT_EQ(hob_session_eval(session.get(), tokens.data(), 7, nullptr), HOB_ERROR_SHAPE);
  EXPECT_EQ(hob_session_eval(session.get(), tokens.data(), 0, nullptr), HOB_ERROR_ARGUMENT);
  EXPECT_EQ(hob_session_eval(session.get(), nullptr, 1, nullptr), HOB_ERROR_ARGUMENT);
  EXPECT_EQ(hob_session_eval(nullptr, tokens.data(), 1, nullptr), HOB_ERROR_ARGUMENT);
  EXPECT_EQ(hob_session_position(session.get()), 4u);
  ExpectSameBits(LastLogits(session, 290), before, "untouched");
  EXPECT_EQ(hob_session_eval(session.get(), tokens.data(), 6, nullptr), HOB_OK);  // just fits
}

struct Countdown {
  std::atomic<int> calls{0};
  int stop_after = 1 << 30;
  static int Call(void* self) {
    auto* countdown = static_cast<Countdown*>(self);
    return ++countdown->calls > countdown->stop_after ? 1 : 0;
  }
  static int Progress(void* self, float done) {
    EXPECT_GE(done, 0.0f);
    EXPECT_LE(done, 1.0f);
    return Call(self);
  }
};

TEST(ModelTest, CancelledEvalLeavesTheSessionWhereItWas) {
  const TestModel test({});
  const ModelPtr model = Load(test.Bytes());
  const std::vector<int32_t> tokens = RandomTokens(40, 290);
  const Floats expected = Eval(model, tokens, 290, SessionOptions());
  for (size_t count : {1, 3}) {
    const hob_threads threads = {sizeof(hob_threads), nullptr, count, RunOnThreads};
    Countdown countdown;
    hob_session_options options = SessionOptions(8, &threads);
    options.cancel = Countdown::Call;
    options.cancel_context = &countdown;
    const SessionPtr session = Create(model, options);
    // How often a whole call asks.
    ASSERT_EQ(hob_session_eval(session.get(), tokens.data() + 10, 30, nullptr), HOB_OK);
    const int last = countdown.calls - 1;
    ASSERT_GT(last, 40);
    ASSERT_EQ(hob_session_rewind(session.get(), 0), HOB_OK);

    ASSERT_EQ(hob_session_eval(session.get(), tokens.data(), 10, nullptr), HOB_OK);
    const Floats before = LastLogits(session, 290);
    for (int stop_after : {0, 1, 20, last}) {
      countdown.calls = 0;
      countdown.stop_after = stop_after;
      EXPECT_EQ(hob_session_eval(session.get(), tokens.data() + 10, 30, nullptr),
                HOB_ERROR_CANCELLED);
      EXPECT_EQ(countdown.calls, stop_after + 1);
      EXPECT_EQ(hob_session_position(session.get()), 10u);
      ExpectSameBits(LastLogits(session, 290), before, "after cancel");
    }
    countdown.stop_after = 1 << 30;
    ASSERT_EQ(hob_session_eval(session.get(), tokens.data() + 10, 30, nullptr), HOB_OK);
    ExpectSameBits(LastLogits(session, 290), Floats(expected.end() - 290, expected.end()),
                   "resumed");
  }
}

TEST(ModelTest, EvalDoesNotAllocate) {
  const TestModel test({.format = HOB_FORMAT_Q4_0});
  const ModelPtr model = Load(test.Bytes());
  const std::vector<int32_t> tokens = RandomTokens(40, 290);
  Floats logits(3 * 290);
  for (size_t count : {1, 3}) {
    const hob_threads threads = {sizeof(hob_threads), nullptr, count, RunInTurn};
    const SessionPtr session = Create(model, SessionOptions(16, &threads));
    int32_t token;
    ASSERT_EQ(hob_session_eval(session.get(), tokens.data(), 5, nullptr), HOB_OK);
    ASSERT_EQ(hob_session_sample(session.get(), &token), HOB_OK);
    const size_t before = allocations;
    hob_status status = HOB_OK;
    for (size_t i = 5; i < 10 && status == HOB_OK; ++i) {
      status = hob_session_eval(session.get(), &tokens[i], 1, nullptr);
      if (status == HOB_OK) status = hob_session_sample(session.get(), &token);
    }
    if (status == HOB_OK) status = hob_session_eval(session.get(), &tokens[10], 20, nullptr);
    if (status == HOB_OK) status = hob_session_eval(session.get(), &tokens[30], 3, logits.data());
    EXPECT_EQ(allocations - before, 0u);
    EXPECT_EQ(status, HOB_OK) << hob_status_message();
  }
}

TEST(ModelTest, SampleAndText) {
  const TestModel test({});
  const ModelPtr model = Load(test.Bytes());
  const SessionPtr session = Create(model, SessionOptions());
  int32_t token = -7;
  EXPECT_EQ(hob_session_sample(session.get(), &token), HOB_ERROR_ARGUMENT);

  int32_t ids[16];
  size_t count = 0;
  ASSERT_EQ(hob_tokenize(model.get(), "hello world", 11, 0, ids, 16, &count), HOB_OK);
  ASSERT_GE(count, 2u);
  ASSERT_LE(count, 16u);
  EXPECT_EQ(ids[0], 1);
  size_t short_count = 0;
  ASSERT_EQ(hob_tokenize(model.get(), "hello world", 11, 0, ids, 1, &short_count), HOB_OK);
  EXPECT_EQ(short_count, count);
  ASSERT_EQ(hob_tokenize(model.get(), "hello world", 11, HOB_TOKENIZE_NO_BOS, ids, 16, &count),
            HOB_OK);
  EXPECT_EQ(count + 1, short_count);

  std::string text;
  const char* piece;
  size_t bytes;
  for (size_t i = 0; i <= count; ++i) {
    ASSERT_EQ(hob_session_text(session.get(), i < count ? ids[i] : -1, &piece, &bytes), HOB_OK);
    text.append(piece, bytes);
  }
  EXPECT_EQ(text, "hello world");

  ASSERT_EQ(hob_session_eval(session.get(), ids, count, nullptr), HOB_OK);
  ASSERT_EQ(hob_session_sample(session.get(), &token), HOB_OK);
  const Floats logits = LastLogits(session, 290);
  int32_t largest = -1;
  ASSERT_EQ(hob_argmax(logits.data(), 1, logits.size(), &largest), HOB_OK);
  EXPECT_EQ(token, largest);  // greedy
  int end = -1;
  ASSERT_EQ(hob_token_is_end(model.get(), 2, &end), HOB_OK);
  EXPECT_EQ(end, 1);
}

TEST(ModelTest, SessionOptionsAreChecked) {
  const TestModel test({});
  const ModelPtr model = Load(test.Bytes());
  const auto create = [&](const hob_session_options& options) {
    hob_session* session = nullptr;
    const hob_status status = hob_session_create(model.get(), &options, &session);
    EXPECT_EQ(session == nullptr, status != HOB_OK);
    hob_session_free(session);
    return status;
  };
  EXPECT_EQ(create(SessionOptions()), HOB_OK);
  hob_session_options options = SessionOptions();
  options.context = 97;
  EXPECT_EQ(create(options), HOB_ERROR_SHAPE);
  options = SessionOptions();
  options.cache_type = 4;
  EXPECT_EQ(create(options), HOB_ERROR_ARGUMENT);
  options = SessionOptions();
  options.struct_size = 3;
  EXPECT_EQ(create(options), HOB_ERROR_ARGUMENT);
  hob_threads threads = {sizeof(hob_threads), nullptr, 0, RunInTurn};
  EXPECT_EQ(create(SessionOptions(0, &threads)), HOB_ERROR_ARGUMENT);
  threads = {sizeof(hob_threads), nullptr, 2, nullptr};
  EXPECT_EQ(create(SessionOptions(0, &threads)), HOB_ERROR_ARGUMENT);
  EXPECT_EQ(create(SessionOptions(1000000)), HOB_OK);  // no more than the context is made
  hob_session* session = nullptr;
  EXPECT_EQ(hob_session_create(nullptr, nullptr, &session), HOB_ERROR_ARGUMENT);
  EXPECT_EQ(hob_session_create(model.get(), nullptr, nullptr), HOB_ERROR_ARGUMENT);
  ASSERT_EQ(hob_session_create(model.get(), nullptr, &session), HOB_OK);
  hob_session_free(session);
  hob_session_free(nullptr);
  hob_model_free(nullptr);
}

// ---------------------------------------------------------------- models

TEST(ModelTest, Describe) {
  const TestModel test({.format = HOB_FORMAT_Q8_0, .tied = true, .rope_base = 5e5f});
  const ModelPtr model = Load(test.Bytes());
  hob_model_info info{};
  info.struct_size = sizeof(info);
  ASSERT_EQ(hob_model_describe(model.get(), &info), HOB_OK);
  EXPECT_EQ(info.struct_size, sizeof(info));
  EXPECT_STREQ(info.name, "test model");
  EXPECT_STREQ(info.architecture, "llama");
  EXPECT_EQ(info.vocabulary, 290u);
  EXPECT_EQ(info.context, 96u);
  EXPECT_EQ(info.layers, 2u);
  EXPECT_EQ(info.width, 64u);
  EXPECT_EQ(info.heads, 4u);
  EXPECT_EQ(info.kv_heads, 2u);
  EXPECT_EQ(info.head_dim, 16u);
  EXPECT_EQ(info.feed_forward, 96u);
  EXPECT_EQ(info.bos, 1);
  EXPECT_EQ(info.eos, 2);
  EXPECT_EQ(info.prompt_template, nullptr);
  const size_t layer = 2 * 64 + 2 * 64 * 64 + 2 * 32 * 64 + 3 * 96 * 64;
  EXPECT_EQ(info.parameters, 290u * 64 + 2 * layer + 64);
  EXPECT_GE(info.weight_bytes, (info.parameters - 5 * 64) * 34 / 32);
  EXPECT_LT(info.weight_bytes, info.parameters * 34 / 32 * 11 / 10);
}

TEST(ModelTest, HeadsNeedNotShareTheWidth) {
  const TestModel test({.architecture = "qwen3", .head_dim = 40, .n_rot = 40});
  const ModelPtr model = Load(test.Bytes());
  hob_model_info info{};
  info.struct_size = sizeof(info);
  ASSERT_EQ(hob_model_describe(model.get(), &info), HOB_OK);
  EXPECT_STREQ(info.architecture, "qwen3");
  EXPECT_EQ(info.width, 64u);
  EXPECT_EQ(info.heads, 4u);
  EXPECT_EQ(info.head_dim, 40u);
}

TEST(ModelTest, VocabularyOnly) {
  const TestModel test({});
  hob_model_options options = ModelOptions();
  options.vocabulary_only = 1;
  const ModelPtr model = Load(test.Bytes(), &options);
  hob_model_info info{};
  info.struct_size = sizeof(info);
  ASSERT_EQ(hob_model_describe(model.get(), &info), HOB_OK);
  EXPECT_EQ(info.vocabulary, 286u);
  EXPECT_EQ(info.layers, 0u);
  hob_session* session = nullptr;
  EXPECT_EQ(hob_session_create(model.get(), nullptr, &session), HOB_ERROR_UNSUPPORTED);
}

TEST(ModelTest, CancelledLoad) {
  const TestModel test({});
  const std::vector<uint8_t> bytes = test.Bytes();
  Countdown countdown;
  hob_model_options options = ModelOptions();
  options.progress = Countdown::Progress;
  options.progress_context = &countdown;
  Load(bytes, &options);
  const int calls = countdown.calls;
  EXPECT_GT(calls, 10);
  for (int stop_after : {0, 5, calls - 1}) {
    countdown.calls = 0;
    countdown.stop_after = stop_after;
    hob_model* model = nullptr;
    EXPECT_EQ(hob_model_load_memory(bytes.data(), bytes.size(), &options, &model),
              HOB_ERROR_CANCELLED);
    EXPECT_EQ(model, nullptr);
  }
}

// Loads and expects a failure that says all of `parts`.
void ExpectLoadError(const std::vector<uint8_t>& bytes, hob_status status,
                     const std::vector<std::string>& parts) {
  hob_model* model = nullptr;
  EXPECT_EQ(hob_model_load_memory(bytes.data(), bytes.size(), nullptr, &model), status)
      << hob_status_message();
  EXPECT_EQ(model, nullptr);
  hob_model_free(model);
  for (const std::string& part : parts) {
    EXPECT_NE(std::string(hob_status_message()).find(part), std::string::npos)
        << hob_status_message() << "\n  should say " << part;
  }
}

// A tensor of an architecture.
struct Case {
  std::string_view architecture;
  const char* tensor;
};

TEST(ModelTest, MissingTensorsAreNamed) {
  for (const auto& [architecture, name] :
       {Case{"llama", "token_embd.weight"}, Case{"llama", "output_norm.weight"},
        Case{"llama", "blk.1.attn_norm.weight"}, Case{"llama", "blk.0.attn_k.weight"},
        Case{"llama", "blk.1.ffn_down.weight"}, Case{"qwen2", "blk.0.attn_q.bias"},
        Case{"qwen2", "blk.1.attn_k.bias"}, Case{"qwen2", "blk.1.attn_v.bias"},
        Case{"qwen3", "blk.0.attn_q_norm.weight"}, Case{"qwen3", "blk.1.attn_k_norm.weight"}}) {
    TestModel test({.architecture = architecture});
    ASSERT_EQ(test.tensors().erase(name), 1u);
    ExpectLoadError(test.Bytes(), HOB_ERROR_FILE, {name});
  }
}

TEST(ModelTest, WrongShapesAreNamed) {
  // `tensor` replaced by one called `other`.
  const auto replace = [](const Case& one, const char* other,
                          const std::vector<std::string>& parts) {
    TestModel test({.architecture = one.architecture});
    test.tensors().at(one.tensor) = test.tensors().at(other);
    ExpectLoadError(test.Bytes(), HOB_ERROR_SHAPE, parts);
  };
  replace({"llama", "blk.1.attn_v.weight"}, "blk.1.ffn_up.weight",
          {"'blk.1.attn_v.weight'", "64 x 96", "expected 64 x 32"});
  replace({"llama", "output_norm.weight"}, "output.weight",
          {"'output_norm.weight'", "64 x 290", "expected 64"});
  replace({"qwen2", "blk.1.attn_k.bias"}, "blk.1.attn_q.bias",
          {"'blk.1.attn_k.bias'", "dimensions 64", "expected 32"});
  replace({"qwen2", "blk.0.attn_q.bias"}, "blk.0.attn_q.weight",
          {"'blk.0.attn_q.bias'", "64 x 64", "expected 64"});
  replace({"qwen3", "blk.0.attn_q_norm.weight"}, "blk.0.attn_norm.weight",
          {"'blk.0.attn_q_norm.weight'", "dimensions 64", "expected 16"});
  replace({"qwen3", "blk.1.attn_k_norm.weight"}, "blk.0.attn_norm.weight",
          {"'blk.1.attn_k_norm.weight'", "dimensions 64", "expected 16"});
  TestModel few({.vocabulary = 285});
  ExpectLoadError(few.Bytes(), HOB_ERROR_SHAPE, {"286 tokens", "285 rows"});
}

TEST(ModelTest, WhatTheModelDoesNotUseIsRefused) {
  for (const auto& [architecture, name] :
       {Case{"llama", "blk.0.attn_q.bias"}, Case{"llama", "blk.2.attn_norm.weight"},
        Case{"llama", "output.bias"}, Case{"llama", "blk.0.attn_q_norm.weight"},
        Case{"qwen2", "blk.0.attn_q_norm.weight"}, Case{"qwen2", "blk.0.attn_output.bias"},
        Case{"qwen2", "blk.2.attn_q.bias"}, Case{"qwen3", "blk.0.attn_k.bias"},
        Case{"qwen3", "blk.1.attn_v_norm.weight"}, Case{"qwen3", "cls.output.weight"}}) {
    TestModel test({.architecture = architecture});
    test.tensors()[name] = test.tensors()["output_norm.weight"];
    ExpectLoadError(test.Bytes(), HOB_ERROR_UNSUPPORTED, {name, std::string(architecture)});
  }
}

TEST(ModelTest, MetadataIsChecked) {
  const TestModel test({});
  const auto with = [&](auto change) {
    GgufWriter writer = test.Writer();
    change(writer);
    return writer.WriteBytes();
  };
  ExpectLoadError(with([](GgufWriter& w) { w.SetString("general.architecture", "foo"); }),
                  HOB_ERROR_UNSUPPORTED, {"'foo'", "llama, qwen2, qwen3"});
  // Keys are those of the architecture.
  ExpectLoadError(with([](GgufWriter& w) { w.SetString("general.architecture", "qwen2"); }),
                  HOB_ERROR_FILE, {"'qwen2.block_count'"});
  struct Value {
    const char* key;
    uint32_t value;
  };
  for (const auto& [key, value] :
       {Value{"llama.block_count", 0}, Value{"llama.block_count", 1025},
        Value{"llama.block_count", UINT32_MAX}, Value{"llama.context_length", 0},
        Value{"llama.context_length", UINT32_MAX}, Value{"llama.embedding_length", 0},
        Value{"llama.embedding_length", UINT32_MAX}, Value{"llama.feed_forward_length", 0},
        Value{"llama.attention.head_count", 0}, Value{"llama.attention.head_count", UINT32_MAX},
        Value{"llama.attention.head_count_kv", 0}, Value{"llama.attention.head_count_kv", 5},
        Value{"llama.rope.dimension_count", 0}, Value{"llama.rope.dimension_count", 7},
        Value{"llama.rope.dimension_count", 18}}) {
    ExpectLoadError(with([&](GgufWriter& w) { w.SetU32(key, value); }), HOB_ERROR_FILE,
                    {key, std::to_string(value)});
  }
  ExpectLoadError(with([](GgufWriter& w) { w.SetU32("llama.attention.head_count_kv", 3); }),
                  HOB_ERROR_FILE, {"4 attention heads", "3 KV heads"});
  ExpectLoadError(with([](GgufWriter& w) { w.SetU32("llama.attention.value_length", 8); }),
                  HOB_ERROR_UNSUPPORTED, {"length 8", "length 16"});
  ExpectLoadError(with([](GgufWriter& w) { w.SetU32("llama.expert_count", 8); }),
                  HOB_ERROR_UNSUPPORTED, {"8 experts"});
  ExpectLoadError(with([](GgufWriter& w) { w.SetString("llama.rope.scaling.type", "yarn"); }),
                  HOB_ERROR_UNSUPPORTED, {"'yarn'"});
  for (float value : {0.0f, -1.0f, NAN, INFINITY}) {
    for (const char* key : {"llama.rope.freq_base", "llama.attention.layer_norm_rms_epsilon",
                            "llama.rope.scaling.factor"}) {
      ExpectLoadError(with([&](GgufWriter& w) { w.SetF32(key, value); }), HOB_ERROR_FILE, {key});
    }
  }
}

TEST(ModelTest, NullPointers) {
  hob_model* model = nullptr;
  EXPECT_EQ(hob_model_load(nullptr, nullptr, &model), HOB_ERROR_ARGUMENT);
  EXPECT_EQ(hob_model_load("x", nullptr, nullptr), HOB_ERROR_ARGUMENT);
  EXPECT_EQ(hob_model_load_memory(nullptr, 4, nullptr, &model), HOB_ERROR_ARGUMENT);
  EXPECT_EQ(hob_model_load("/nonexistent/model.gguf", nullptr, &model), HOB_ERROR_IO);
  EXPECT_NE(std::string(hob_status_message()).find("/nonexistent/model.gguf"), std::string::npos);
  hob_model_options options{};
  EXPECT_EQ(hob_model_load("x", &options, &model), HOB_ERROR_ARGUMENT);  // struct_size 0
  EXPECT_EQ(hob_session_position(nullptr), 0u);
  size_t count;
  EXPECT_EQ(hob_tokenize(nullptr, "a", 1, 0, nullptr, 0, &count), HOB_ERROR_ARGUMENT);
}

// A damaged file is an error or a model that runs, never a crash: wrong bytes all over the
// metadata, some in the weights, and ends missing.
TEST(ModelTest, DamagedFiles) {
  const TestModel test({.layers = 1, .width = 32, .feed_forward = 32, .heads = 2, .kv_heads = 1});
  std::vector<uint8_t> bytes = test.Bytes();
  size_t head = bytes.size();
  const Gguf file = Gguf::FromMemory(bytes);
  for (const GgufTensor& tensor : file.tensors()) {
    head = std::min<size_t>(head, tensor.begin);
  }
  std::mt19937 random(5);
  for (size_t at = 0; at < bytes.size(); at += 1 + random() % (at < head ? 12 : 1500)) {
    const uint8_t kept = bytes[at];
    bytes[at] = static_cast<uint8_t>(random());
    hob_model* model = nullptr;
    if (hob_model_load_memory(bytes.data(), bytes.size(), nullptr, &model) == HOB_OK) {
      hob_session_options options = SessionOptions(4);
      hob_session* session = nullptr;
      if (hob_session_create(model, &options, &session) == HOB_OK) {
        const int32_t tokens[] = {1, 2, 3};
        hob_session_eval(session, tokens, 3, nullptr);
      }
      hob_session_free(session);
    }
    hob_model_free(model);
    bytes[at] = kept;
  }
  for (size_t size = 0; size < bytes.size(); size += 1 + bytes.size() / 97) {
    hob_model* model = nullptr;
    EXPECT_NE(hob_model_load_memory(bytes.data(), size, nullptr, &model), HOB_OK);
  }
}

// ---------------------------------------------------------------- a trained model

TEST(ModelTest, Stories260K) {
  const auto path = FindData("models/stories260K.gguf");
  const auto tokens_path = FindData("reference/stories260K/ref_greedy.tokens.txt");
  const auto logits_path = FindData("reference/stories260K/ref_greedy.logits.f32");
  if (!path || !tokens_path || !logits_path) GTEST_SKIP() << MissingData("models/stories260K.gguf");

  std::ifstream file(*tokens_path);
  std::vector<int32_t> tokens;
  for (int32_t token; file >> token;) tokens.push_back(token);
  const std::vector<uint8_t> bytes = test::ReadBytes(*logits_path);
  Floats expected(bytes.size() / sizeof(float));
  std::memcpy(expected.data(), bytes.data(), bytes.size());
  ASSERT_EQ(expected.size(), tokens.size() * 512);

  hob_model* loaded = nullptr;
  ASSERT_EQ(hob_model_load(path->c_str(), nullptr, &loaded), HOB_OK) << hob_status_message();
  const ModelPtr model(loaded);
  const Floats logits = Eval(model, tokens, 512, SessionOptions());
  float worst = 0;
  for (size_t i = 0; i < logits.size(); ++i) {
    worst = std::max(worst, std::fabs(logits[i] - expected[i]));
    ASSERT_FALSE(std::isnan(logits[i]));
  }
  EXPECT_LE(worst, 1e-3f);
  RecordProperty("worst_difference", std::to_string(worst));

  // Greedy generation goes the same way.
  const SessionPtr session = Create(model, SessionOptions());
  int32_t token = tokens[0];
  for (size_t i = 0; i + 1 < tokens.size(); ++i) {
    ASSERT_EQ(hob_session_eval(session.get(), &token, 1, nullptr), HOB_OK);
    ASSERT_EQ(hob_session_sample(session.get(), &token), HOB_OK);
    ASSERT_EQ(token, tokens[i + 1]) << "at " << i;
  }
}

}  // namespace
}  // namespace hob
