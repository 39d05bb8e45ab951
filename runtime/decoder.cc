// See decoder.h. First the forward pass, then what is read from the file and how it is checked.
#include "runtime/decoder.h"

#include <algorithm>
#include <cmath>
#include <iterator>
#include <string>
#include <string_view>
#include <unordered_set>
#include <utility>

#include "kernels/targets.h"
#include "runtime/error.h"

namespace hob {
namespace {

// What a file may ask for; far above any model that runs on a device.
constexpr size_t kMaxLayers = 1024;
constexpr size_t kMaxWidth = size_t{1} << 17;
constexpr size_t kMaxFeedForward = size_t{1} << 20;
constexpr size_t kMaxHeads = 4096;
constexpr size_t kMaxHeadDim = 4096;
constexpr size_t kMaxVocabulary = size_t{1} << 24;
constexpr size_t kMaxContext = size_t{1} << 26;

std::string BlockName(size_t layer, std::string_view part) {
  return "blk." + std::to_string(layer) + "." + std::string(part);
}

}  // namespace

const Architecture* FindArchitecture(std::string_view name) {
  const auto* found = std::ranges::find(kArchitectures, name, &Architecture::name);
  return found == std::end(kArchitectures) ? nullptr : found;
}

std::string ArchitectureNames() {
  std::string names;
  for (const Architecture& architecture : kArchitectures) {
    names += (names.empty() ? "" : ", ") + std::string(architecture.name);
  }
  return names;
}

// ---------------------------------------------------------------- the forward pass

// Shapes are rows x columns; a row is a token. x is the residual stream.
Graph BuildDecoder(const DecoderConfig& config, const DecoderWeights& weights) {
  const Architecture& architecture = *config.architecture;
  const float eps = config.rms_eps;
  HeadShape q_heads{.n_heads = config.heads,
                    .n_kv_heads = config.kv_heads,
                    .head_dim = config.head_dim,
                    .n_rot = config.n_rot,
                    .style = architecture.rope};
  HeadShape kv_heads = q_heads;
  kv_heads.n_heads = config.kv_heads;
  const auto with_bias = [&](const WeightVector& bias) {
    return Epilogue{.bias = architecture.qkv_bias ? &bias : nullptr};
  };

  Graph graph;
  TensorId x = graph.Embed("embedding", weights.embedding);  // batch x width
  for (size_t i = 0; i < config.layers; ++i) {
    const DecoderLayer& layer = weights.layers[i];
    const auto name = [&](std::string_view part) { return BlockName(i, part); };

    TensorId h = graph.RmsNorm(name("attn_norm"), x, layer.attention_norm, eps);
    // q: batch x heads * head_dim; k and v: batch x kv_heads * head_dim
    TensorId q = graph.Matmul(name("q"), h, layer.q, with_bias(layer.q_bias));
    TensorId k = graph.Matmul(name("k"), h, layer.k, with_bias(layer.k_bias));
    const TensorId v = graph.Matmul(name("v"), h, layer.v, with_bias(layer.v_bias));
    if (architecture.qk_norm) {
      q = graph.RmsNormHeads(name("q_norm"), q, layer.q_norm, eps, q_heads);
      k = graph.RmsNormHeads(name("k_norm"), k, layer.k_norm, eps, kv_heads);
    }
    q = graph.Rope(name("q_rope"), q, q_heads);
    const TensorId cache = graph.Append(name("cache"), i, k, v, kv_heads);
    if (i + 1 == config.layers) {
      // From here on nothing flows between tokens: rows that nobody wants logits of can go.
      q = graph.OutputRows(q);
      x = graph.OutputRows(x);
    }
    h = graph.Attention(name("attn"), q, cache, q_heads);  // rows x heads * head_dim
    // x + W h: rows x width
    x = graph.Matmul(name("attn_out"), h, layer.attention_output, {.residual = x});

    h = graph.RmsNorm(name("ffn_norm"), x, layer.feed_forward_norm, eps);
    h = graph.GatedMatmul(name("ffn"), h, layer.gate, layer.up);     // rows x feed_forward
    x = graph.Matmul(name("down"), h, layer.down, {.residual = x});  // x + W h
  }
  x = graph.RmsNorm("output_norm", x, weights.output_norm, eps);
  graph.Logits("logits", x, weights.output_matrix());  // output rows x vocabulary
  return graph;
}

std::vector<WeightMatrix*> DecoderMatrices(DecoderWeights& weights) {
  std::vector<WeightMatrix*> matrices = {&weights.embedding};
  for (DecoderLayer& layer : weights.layers) {
    matrices.insert(matrices.end(), {&layer.q, &layer.k, &layer.v, &layer.attention_output,
                                     &layer.gate, &layer.up, &layer.down});
  }
  if (!weights.tied) matrices.push_back(&weights.output);
  return matrices;
}

// ---------------------------------------------------------------- reading: dimensions

namespace {

const Architecture& ReadArchitecture(const Gguf& file) {
  const std::string_view name = file.GetString("general.architecture");
  const Architecture* found = FindArchitecture(name);
  if (found != nullptr) return *found;
  file.Fail(HOB_ERROR_UNSUPPORTED, "architecture '" + std::string(name) +
                                       "' is not supported, expected one of " +
                                       ArchitectureNames());
}

// The keys of an architecture, their values checked. Names are without the architecture's.
class Keys {
 public:
  Keys(const Gguf& file, const Architecture& architecture)
      : file_(file), architecture_(architecture.name) {}

  std::string Name(std::string_view name) const {
    return std::string(architecture_) + "." + std::string(name);
  }
  bool Has(std::string_view name) const { return file_.Find(Name(name)) != nullptr; }

  // A dimension, from 1 to `most`.
  size_t Size(std::string_view name, size_t most) const {
    return CheckRange("key '" + Name(name) + "'", file_.GetU32(Name(name)), most);
  }
  size_t Size(std::string_view name, size_t most, size_t fallback) const {
    const uint32_t value = file_.GetU32(Name(name), static_cast<uint32_t>(fallback));
    return CheckRange("key '" + Name(name) + "'", value, most);
  }
  size_t CheckRange(const std::string& what, uint64_t value, size_t most) const {
    if (value >= 1 && value <= most) return static_cast<size_t>(value);
    file_.Fail(HOB_ERROR_FILE,
               what + " is " + std::to_string(value) + ", expected 1 to " + std::to_string(most));
  }

  // A finite number above 0.
  float Positive(std::string_view name) const {
    return CheckPositive("key '" + Name(name) + "'", file_.GetF32(Name(name)));
  }
  float Positive(std::string_view name, float fallback) const {
    return CheckPositive("key '" + Name(name) + "'", file_.GetF32(Name(name), fallback));
  }
  float CheckPositive(const std::string& what, float value) const {
    if (std::isfinite(value) && value > 0) return value;
    file_.Fail(HOB_ERROR_FILE,
               what + " is " + std::to_string(value) + ", expected a finite number above 0");
  }

 private:
  const Gguf& file_;
  std::string_view architecture_;
};

void CheckSupported(const Gguf& file, const Keys& keys) {
  if (const uint32_t experts = file.GetU32(keys.Name("expert_count"), 0); experts != 0) {
    file.Fail(HOB_ERROR_UNSUPPORTED, "a mixture of " + std::to_string(experts) +
                                         " experts is not supported, expected none");
  }
  if (!file.GetBool(keys.Name("attention.causal"), true)) {
    file.Fail(HOB_ERROR_UNSUPPORTED, "attention that is not causal is not supported");
  }
}

// The tensors of a layer. ReadDecoderWeights reads each of them.
struct LayerTensor {
  std::string_view name;
  bool Architecture::*only_with = nullptr;  // nullptr: every architecture has it
};
constexpr LayerTensor kLayerTensors[] = {
    {"attn_norm.weight"},
    {"attn_q.weight"},
    {"attn_q.bias", &Architecture::qkv_bias},
    {"attn_k.weight"},
    {"attn_k.bias", &Architecture::qkv_bias},
    {"attn_v.weight"},
    {"attn_v.bias", &Architecture::qkv_bias},
    {"attn_q_norm.weight", &Architecture::qk_norm},
    {"attn_k_norm.weight", &Architecture::qk_norm},
    {"attn_output.weight"},
    {"ffn_norm.weight"},
    {"ffn_gate.weight"},
    {"ffn_up.weight"},
    {"ffn_down.weight"},
};

// A tensor that the forward pass above does not use, another bias for instance, would change the
// results: better none than wrong ones.
void CheckNoOtherTensors(const Gguf& file, const DecoderConfig& config) {
  const Architecture& architecture = *config.architecture;
  std::unordered_set<std::string> known = {"token_embd.weight", "output_norm.weight",
                                           "output.weight", "rope_freqs.weight"};
  for (size_t i = 0; i < config.layers; ++i) {
    for (const LayerTensor& tensor : kLayerTensors) {
      if (tensor.only_with == nullptr || architecture.*tensor.only_with) {
        known.insert(BlockName(i, tensor.name));
      }
    }
  }
  for (const GgufTensor& tensor : file.tensors()) {
    if (known.count(std::string(tensor.name)) != 0) continue;
    file.Fail(HOB_ERROR_UNSUPPORTED, "tensor '" + std::string(tensor.name) +
                                         "' is not supported in a " +
                                         std::string(architecture.name) + " model of " +
                                         std::to_string(config.layers) + " layers");
  }
}

std::string Dims(const GgufTensor& tensor) {
  std::string text;
  for (uint32_t d = 0; d < tensor.n_dims; ++d) {
    text += (d == 0 ? "" : " x ") + std::to_string(tensor.dims[d]);
  }
  return text;
}

const GgufTensor& CheckedTensor(const Gguf& file, const std::string& name, size_t row,
                                size_t rows) {
  const GgufTensor& tensor = file.GetTensor(name);
  if (tensor.dims != std::array<uint64_t, 4>{row, rows, 1, 1}) {
    const std::string expected =
        std::to_string(row) + (rows == 1 ? "" : " x " + std::to_string(rows));
    file.Fail(HOB_ERROR_SHAPE, "tensor '" + name + "' has the dimensions " + Dims(tensor) +
                                   ", expected " + expected);
  }
  if (!tensor.bytes) {  // a type that hob does not know
    file.Fail(HOB_ERROR_UNSUPPORTED, "tensor '" + name + "' has the type " +
                                         TensorTypeName(tensor.type) + ", which is not supported");
  }
  return tensor;
}

// Of a tensor that CheckedTensor has found good.
const Format* FormatOf(const GgufTensor& tensor) {
  return FindFormat(static_cast<hob_format>(tensor.type));
}

WeightVector ReadVector(const Gguf& file, const std::string& name, size_t size) {
  const GgufTensor& tensor = CheckedTensor(file, name, size, 1);
  WeightVector vector{name, std::vector<float>(size)};
  FormatOf(tensor)->kernels(kScalar).dequantize(file.Data(tensor).data(), size,
                                                vector.values.data());
  return vector;
}

void ReadHeads(const Gguf& file, const Keys& keys, DecoderConfig& config) {
  config.heads = keys.Size("attention.head_count", kMaxHeads);
  config.kv_heads = keys.Size("attention.head_count_kv", config.heads, config.heads);
  if (config.heads % config.kv_heads != 0) {
    file.Fail(HOB_ERROR_FILE, std::to_string(config.heads) + " attention heads cannot share " +
                                  std::to_string(config.kv_heads) + " KV heads evenly");
  }
  const size_t fallback = config.width / config.heads;
  config.head_dim = keys.Size("attention.key_length", kMaxHeadDim, fallback);
  const size_t value_dim = keys.Size("attention.value_length", kMaxHeadDim, fallback);
  if (value_dim != config.head_dim) {
    file.Fail(HOB_ERROR_UNSUPPORTED,
              "values of length " + std::to_string(value_dim) + " beside keys of length " +
                  std::to_string(config.head_dim) + " are not supported, expected the same");
  }
  if (!keys.Has("attention.key_length") && config.width % config.heads != 0) {
    file.Fail(HOB_ERROR_FILE, "embedding length " + std::to_string(config.width) +
                                  " is no multiple of the " + std::to_string(config.heads) +
                                  " attention heads");
  }
}

void ReadRope(const Gguf& file, const Keys& keys, DecoderConfig& config) {
  config.n_rot = keys.Size("rope.dimension_count", config.head_dim, config.head_dim);
  if (config.n_rot % 2 != 0) {
    file.Fail(HOB_ERROR_FILE, "key '" + keys.Name("rope.dimension_count") + "' is " +
                                  std::to_string(config.n_rot) + ", expected an even number");
  }
  config.rope_base = keys.Positive("rope.freq_base", 10000.0f);

  // Positions divided by a factor ("linear"), or frequencies each by its own ("llama3").
  const std::string_view scaling = file.GetString(keys.Name("rope.scaling.type"), "linear");
  if (scaling == "linear") {
    const float old_factor = file.GetF32(keys.Name("rope.scale_linear"), 1.0f);
    config.rope_freq_scale = 1.0 / keys.Positive("rope.scaling.factor", old_factor);
  } else if (scaling != "none" && scaling != "llama3") {
    file.Fail(HOB_ERROR_UNSUPPORTED, "RoPE scaling '" + std::string(scaling) +
                                         "' is not supported, expected 'none', 'linear' or "
                                         "'llama3'");
  }
  const std::string factors = "rope_freqs.weight";
  if (file.FindTensor(factors) != nullptr) {
    config.rope_factors = ReadVector(file, factors, config.n_rot / 2).values;
    for (float factor : config.rope_factors) {
      keys.CheckPositive("a value of tensor '" + factors + "'", factor);
    }
  } else if (scaling == "llama3") {
    file.Fail(HOB_ERROR_FILE, "RoPE scaling 'llama3' needs the tensor '" + factors + "'");
  }
}

}  // namespace

DecoderConfig ReadDecoderConfig(const Gguf& file) {
  DecoderConfig config;
  config.architecture = &ReadArchitecture(file);
  const Keys keys(file, *config.architecture);
  CheckSupported(file, keys);
  config.layers = keys.Size("block_count", kMaxLayers);
  CheckNoOtherTensors(file, config);
  config.context = keys.Size("context_length", kMaxContext);
  config.width = keys.Size("embedding_length", kMaxWidth);
  config.feed_forward = keys.Size("feed_forward_length", kMaxFeedForward);
  ReadHeads(file, keys, config);
  config.rms_eps = keys.Positive("attention.layer_norm_rms_epsilon");
  ReadRope(file, keys, config);
  const GgufTensor& embedding = file.GetTensor("token_embd.weight");
  config.vocabulary = keys.CheckRange("the second dimension of token_embd.weight",
                                      embedding.dims[1], kMaxVocabulary);
  return config;
}

// ---------------------------------------------------------------- reading: weights

DecoderWeights ReadDecoderWeights(const Gguf& file, const DecoderConfig& config) {
  // weight[n][k]; the file's dimensions are k x n.
  const auto matrix = [&](const std::string& name, size_t n, size_t k) {
    const GgufTensor& tensor = CheckedTensor(file, name, k, n);
    return WeightMatrix{name, FormatOf(tensor), n, k};
  };
  const auto vector = [&](const std::string& name, size_t size) {
    return ReadVector(file, name, size);
  };
  const Architecture& architecture = *config.architecture;
  const size_t width = config.width;
  const size_t q_width = config.heads * config.head_dim;
  const size_t kv_width = config.kv_heads * config.head_dim;

  DecoderWeights weights;
  weights.embedding = matrix("token_embd.weight", config.vocabulary, width);
  for (size_t i = 0; i < config.layers; ++i) {
    const auto name = [&](std::string_view part) { return BlockName(i, part); };
    DecoderLayer layer;
    layer.attention_norm = vector(name("attn_norm.weight"), width);
    layer.q = matrix(name("attn_q.weight"), q_width, width);
    layer.k = matrix(name("attn_k.weight"), kv_width, width);
    layer.v = matrix(name("attn_v.weight"), kv_width, width);
    if (architecture.qkv_bias) {
      layer.q_bias = vector(name("attn_q.bias"), q_width);
      layer.k_bias = vector(name("attn_k.bias"), kv_width);
      layer.v_bias = vector(name("attn_v.bias"), kv_width);
    }
    if (architecture.qk_norm) {
      layer.q_norm = vector(name("attn_q_norm.weight"), config.head_dim);
      layer.k_norm = vector(name("attn_k_norm.weight"), config.head_dim);
    }
    layer.attention_output = matrix(name("attn_output.weight"), width, q_width);
    layer.feed_forward_norm = vector(name("ffn_norm.weight"), width);
    layer.gate = matrix(name("ffn_gate.weight"), config.feed_forward, width);
    layer.up = matrix(name("ffn_up.weight"), config.feed_forward, width);
    layer.down = matrix(name("ffn_down.weight"), width, config.feed_forward);
    weights.layers.push_back(std::move(layer));
  }
  weights.output_norm = vector("output_norm.weight", width);
  weights.tied = file.FindTensor("output.weight") == nullptr;
  if (!weights.tied) weights.output = matrix("output.weight", config.vocabulary, width);
  return weights;
}

}  // namespace hob
