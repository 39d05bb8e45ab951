// See llama.h. First the forward pass, then what is read from the file and how it is checked.
#include "runtime/llama.h"

#include <cmath>
#include <string>
#include <string_view>
#include <unordered_set>

#include "kernels/targets.h"
#include "runtime/error.h"

namespace hob {
namespace {

constexpr std::string_view kArchitecture = "llama";

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

// ---------------------------------------------------------------- the forward pass

// Shapes are rows x columns; a row is a token. x is the residual stream.
Graph BuildLlama(const LlamaConfig& config, const LlamaWeights& weights) {
  const float eps = config.rms_eps;
  HeadShape q_heads{.n_heads = config.heads,
                    .n_kv_heads = config.kv_heads,
                    .head_dim = config.head_dim,
                    .n_rot = config.n_rot,
                    .style = HOB_ROPE_INTERLEAVED};
  HeadShape kv_heads = q_heads;
  kv_heads.n_heads = config.kv_heads;

  Graph graph;
  TensorId x = graph.Embed("embedding", weights.embedding);  // batch x width
  for (size_t i = 0; i < config.layers; ++i) {
    const LlamaLayer& layer = weights.layers[i];
    const auto name = [&](std::string_view part) { return BlockName(i, part); };

    TensorId h = graph.RmsNorm(name("attn_norm"), x, layer.attention_norm, eps);
    TensorId q = graph.Matmul(name("q"), h, layer.q);        // batch x heads * head_dim
    TensorId k = graph.Matmul(name("k"), h, layer.k);        // batch x kv_heads * head_dim
    const TensorId v = graph.Matmul(name("v"), h, layer.v);  // the same
    q = graph.Rope(name("q_rope"), q, q_heads);
    k = graph.Rope(name("k_rope"), k, kv_heads);
    const TensorId cache = graph.Append(name("cache"), i, k, v, kv_heads);
    if (i + 1 == config.layers) {
      // From here on nothing flows between tokens: rows that nobody wants logits of can go.
      q = graph.OutputRows(q);
      x = graph.OutputRows(x);
    }
    h = graph.Attention(name("attn"), q, cache, q_heads);              // rows x heads * head_dim
    x = graph.Matmul(name("attn_out"), h, layer.attention_output, x);  // x + W h: rows x width

    h = graph.RmsNorm(name("ffn_norm"), x, layer.feed_forward_norm, eps);
    const TensorId gate = graph.Matmul(name("gate"), h, layer.gate);  // rows x feed_forward
    const TensorId up = graph.Matmul(name("up"), h, layer.up);        // the same
    h = graph.SiluMul(name("ffn"), gate, up);
    x = graph.Matmul(name("down"), h, layer.down, x);  // x + W h: rows x width
  }
  x = graph.RmsNorm("output_norm", x, weights.output_norm, eps);
  graph.Logits("logits", x, weights.output_matrix());  // output rows x vocabulary
  return graph;
}

std::vector<WeightMatrix*> LlamaMatrices(LlamaWeights& weights) {
  std::vector<WeightMatrix*> matrices = {&weights.embedding};
  for (LlamaLayer& layer : weights.layers) {
    matrices.insert(matrices.end(), {&layer.q, &layer.k, &layer.v, &layer.attention_output,
                                     &layer.gate, &layer.up, &layer.down});
  }
  if (!weights.tied) matrices.push_back(&weights.output);
  return matrices;
}

// ---------------------------------------------------------------- reading: dimensions

namespace {

std::string Key(std::string_view name) {
  return std::string(kArchitecture) + "." + std::string(name);
}

// A dimension of the model, from 1 to `most`.
size_t CheckRange(const Gguf& file, const std::string& key, uint64_t value, size_t most) {
  if (value >= 1 && value <= most) return static_cast<size_t>(value);
  file.Fail(HOB_ERROR_FILE, "key '" + key + "' is " + std::to_string(value) + ", expected 1 to " +
                                std::to_string(most));
}

size_t ReadSize(const Gguf& file, std::string_view name, size_t most) {
  const std::string key = Key(name);
  return CheckRange(file, key, file.GetU32(key), most);
}

size_t ReadSize(const Gguf& file, std::string_view name, size_t most, size_t fallback) {
  const std::string key = Key(name);
  return CheckRange(file, key, file.GetU32(key, static_cast<uint32_t>(fallback)), most);
}

// A finite number above `above`.
float CheckAbove(const Gguf& file, const std::string& what, float value, float above) {
  if (std::isfinite(value) && value > above) return value;
  file.Fail(HOB_ERROR_FILE, what + " is " + std::to_string(value) +
                                ", expected a finite number above " + std::to_string(above));
}

void CheckArchitecture(const Gguf& file) {
  const std::string_view architecture = file.GetString("general.architecture");
  if (architecture != kArchitecture) {
    file.Fail(HOB_ERROR_UNSUPPORTED, "architecture '" + std::string(architecture) +
                                         "' is not supported, expected '" +
                                         std::string(kArchitecture) + "'");
  }
  if (const uint32_t experts = file.GetU32(Key("expert_count"), 0); experts != 0) {
    file.Fail(HOB_ERROR_UNSUPPORTED, "a mixture of " + std::to_string(experts) +
                                         " experts is not supported, expected none");
  }
  if (!file.GetBool(Key("attention.causal"), true)) {
    file.Fail(HOB_ERROR_UNSUPPORTED, "attention that is not causal is not supported");
  }
}

// The tensors of a layer.
constexpr std::string_view kLayerParts[] = {
    "attn_norm.weight", "attn_q.weight",   "attn_k.weight", "attn_v.weight",  "attn_output.weight",
    "ffn_norm.weight",  "ffn_gate.weight", "ffn_up.weight", "ffn_down.weight"};

// A tensor that the forward pass above does not use, a bias for instance, would change the results:
// better none than wrong ones.
void CheckNoOtherTensors(const Gguf& file, const LlamaConfig& config) {
  std::unordered_set<std::string> known = {"token_embd.weight", "output_norm.weight",
                                           "output.weight", "rope_freqs.weight"};
  for (size_t i = 0; i < config.layers; ++i) {
    for (std::string_view part : kLayerParts) known.insert(BlockName(i, part));
  }
  for (const GgufTensor& tensor : file.tensors()) {
    if (known.count(std::string(tensor.name)) != 0) continue;
    file.Fail(HOB_ERROR_UNSUPPORTED, "tensor '" + std::string(tensor.name) +
                                         "' is not supported in a " + std::string(kArchitecture) +
                                         " model of " + std::to_string(config.layers) + " layers");
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

void ReadRope(const Gguf& file, LlamaConfig& config) {
  config.n_rot = ReadSize(file, "rope.dimension_count", config.head_dim, config.head_dim);
  if (config.n_rot % 2 != 0) {
    file.Fail(HOB_ERROR_FILE, "key '" + Key("rope.dimension_count") + "' is " +
                                  std::to_string(config.n_rot) + ", expected an even number");
  }
  config.rope_base = CheckAbove(file, "key '" + Key("rope.freq_base") + "'",
                                file.GetF32(Key("rope.freq_base"), 10000.0f), 0);

  // Positions divided by a factor ("linear"), or frequencies each by its own ("llama3").
  const std::string_view scaling = file.GetString(Key("rope.scaling.type"), "linear");
  if (scaling == "linear") {
    const float old_factor = file.GetF32(Key("rope.scale_linear"), 1.0f);
    const float factor = file.GetF32(Key("rope.scaling.factor"), old_factor);
    config.rope_freq_scale =
        1.0 / CheckAbove(file, "key '" + Key("rope.scaling.factor") + "'", factor, 0);
  } else if (scaling != "none" && scaling != "llama3") {
    file.Fail(HOB_ERROR_UNSUPPORTED, "RoPE scaling '" + std::string(scaling) +
                                         "' is not supported, expected 'none', 'linear' or "
                                         "'llama3'");
  }
  const std::string factors = "rope_freqs.weight";
  if (file.FindTensor(factors) != nullptr) {
    config.rope_factors = ReadVector(file, factors, config.n_rot / 2).values;
    for (float factor : config.rope_factors) {
      CheckAbove(file, "a value of tensor '" + factors + "'", factor, 0);
    }
  } else if (scaling == "llama3") {
    file.Fail(HOB_ERROR_FILE, "RoPE scaling 'llama3' needs the tensor '" + factors + "'");
  }
}

}  // namespace

LlamaConfig ReadLlamaConfig(const Gguf& file) {
  CheckArchitecture(file);
  LlamaConfig config;
  config.layers = ReadSize(file, "block_count", kMaxLayers);
  CheckNoOtherTensors(file, config);
  config.context = ReadSize(file, "context_length", kMaxContext);
  config.width = ReadSize(file, "embedding_length", kMaxWidth);
  config.feed_forward = ReadSize(file, "feed_forward_length", kMaxFeedForward);
  config.heads = ReadSize(file, "attention.head_count", kMaxHeads);
  config.kv_heads = ReadSize(file, "attention.head_count_kv", config.heads, config.heads);
  if (config.heads % config.kv_heads != 0) {
    file.Fail(HOB_ERROR_FILE, std::to_string(config.heads) + " attention heads cannot share " +
                                  std::to_string(config.kv_heads) + " KV heads evenly");
  }
  config.head_dim =
      ReadSize(file, "attention.key_length", kMaxHeadDim, config.width / config.heads);
  const size_t value_dim =
      ReadSize(file, "attention.value_length", kMaxHeadDim, config.width / config.heads);
  if (value_dim != config.head_dim) {
    file.Fail(HOB_ERROR_UNSUPPORTED,
              "values of length " + std::to_string(value_dim) + " beside keys of length " +
                  std::to_string(config.head_dim) + " are not supported, expected the same");
  }
  if (file.Find(Key("attention.key_length")) == nullptr && config.width % config.heads != 0) {
    file.Fail(HOB_ERROR_FILE, "embedding length " + std::to_string(config.width) +
                                  " is no multiple of the " + std::to_string(config.heads) +
                                  " attention heads");
  }
  config.rms_eps = CheckAbove(file, "key '" + Key("attention.layer_norm_rms_epsilon") + "'",
                              file.GetF32(Key("attention.layer_norm_rms_epsilon")), 0);
  ReadRope(file, config);
  const GgufTensor& embedding = file.GetTensor("token_embd.weight");
  config.vocabulary = CheckRange(file, "the second dimension of token_embd.weight",
                                 embedding.dims[1], kMaxVocabulary);
  return config;
}

// ---------------------------------------------------------------- reading: weights

LlamaWeights ReadLlamaWeights(const Gguf& file, const LlamaConfig& config) {
  // weight[n][k]; the file's dimensions are k x n.
  const auto matrix = [&](const std::string& name, size_t n, size_t k) {
    const GgufTensor& tensor = CheckedTensor(file, name, k, n);
    return WeightMatrix{name, FormatOf(tensor), n, k};
  };
  const size_t width = config.width;
  const size_t q_width = config.heads * config.head_dim;
  const size_t kv_width = config.kv_heads * config.head_dim;

  LlamaWeights weights;
  weights.embedding = matrix("token_embd.weight", config.vocabulary, width);
  for (size_t i = 0; i < config.layers; ++i) {
    const auto name = [&](std::string_view part) { return BlockName(i, part); };
    LlamaLayer layer;
    layer.attention_norm = ReadVector(file, name("attn_norm.weight"), width);
    layer.q = matrix(name("attn_q.weight"), q_width, width);
    layer.k = matrix(name("attn_k.weight"), kv_width, width);
    layer.v = matrix(name("attn_v.weight"), kv_width, width);
    layer.attention_output = matrix(name("attn_output.weight"), width, q_width);
    layer.feed_forward_norm = ReadVector(file, name("ffn_norm.weight"), width);
    layer.gate = matrix(name("ffn_gate.weight"), config.feed_forward, width);
    layer.up = matrix(name("ffn_up.weight"), config.feed_forward, width);
    layer.down = matrix(name("ffn_down.weight"), width, config.feed_forward);
    weights.layers.push_back(std::move(layer));
  }
  weights.output_norm = ReadVector(file, "output_norm.weight", width);
  weights.tied = file.FindTensor("output.weight") == nullptr;
  if (!weights.tied) weights.output = matrix("output.weight", config.vocabulary, width);
  return weights;
}

}  // namespace hob
