// Decoder-only transformers of the llama family: dimensions and weights as a GGUF file gives them,
// and the forward pass. What sets the architectures of the family apart is the table
// kArchitectures; start there and go on with BuildDecoder. Touvron et al., "LLaMA: Open and
// Efficient Foundation Language Models", 2023; Yang et al., "Qwen2 Technical Report", 2024, and
// "Qwen3 Technical Report", 2025.
#ifndef HOB_RUNTIME_DECODER_H_
#define HOB_RUNTIME_DECODER_H_

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "hob/hob.h"
#include "runtime/gguf.h"
#include "runtime/graph.h"

namespace hob {

// ---------------------------------------------------------------- the architectures

// What one architecture of the family has and another has not. All of them: RMSNorm before
// attention and before the feed-forward network, grouped heads, RoPE, SiLU(gate) * up.
struct Architecture {
  std::string_view name;  // general.architecture of a file, and what its keys begin with
  hob_rope_style rope;    // which elements of a head RoPE turns together
  bool qkv_bias;          // q, k and v have a bias: attn_q.bias, attn_k.bias, attn_v.bias
  bool qk_norm;           // RMSNorm of each head of q and k before RoPE: attn_q_norm.weight,
                          // attn_k_norm.weight
};

inline constexpr Architecture kArchitectures[] = {
    // The rows of attn_q and attn_k are permuted in llama files so that pairs lie side by side.
    {.name = "llama", .rope = HOB_ROPE_INTERLEAVED, .qkv_bias = false, .qk_norm = false},
    {.name = "qwen2", .rope = HOB_ROPE_HALVES, .qkv_bias = true, .qk_norm = false},
    {.name = "qwen3", .rope = HOB_ROPE_HALVES, .qkv_bias = false, .qk_norm = true},
};

// nullptr if there is none of that name.
const Architecture* FindArchitecture(std::string_view name);

// Of all of them, for messages: "llama, ...".
std::string ArchitectureNames();

// ---------------------------------------------------------------- dimensions

struct DecoderConfig {
  const Architecture* architecture = nullptr;  // one of kArchitectures
  size_t vocabulary = 0;                       // tokens
  size_t context = 0;                          // longest sequence in training
  size_t layers = 0;
  size_t width = 0;  // of the residual stream
  size_t feed_forward = 0;
  size_t heads = 0, kv_heads = 0;
  size_t head_dim = 0;  // often, but not always, width / heads
  float rms_eps = 0;
  size_t n_rot = 0;  // elements of a head that RoPE turns
  double rope_base = 0;
  double rope_freq_scale = 1;
  std::vector<float> rope_factors;  // (n_rot / 2), or empty
};

// Reads the dimensions, checks every one of them, and checks that the file holds no tensor that the
// architecture, as built here, does not use. Throws Error.
DecoderConfig ReadDecoderConfig(const Gguf& file);

// ---------------------------------------------------------------- weights

struct DecoderLayer {
  WeightVector attention_norm;          // (width)
  WeightMatrix q;                       // (heads * head_dim, width)
  WeightMatrix k, v;                    // (kv_heads * head_dim, width)
  WeightVector q_bias, k_bias, v_bias;  // (n of q, k, v); empty without qkv_bias
  WeightVector q_norm, k_norm;          // (head_dim); empty without qk_norm
  WeightMatrix attention_output;        // (width, heads * head_dim)
  WeightVector feed_forward_norm;       // (width)
  WeightMatrix gate, up;                // (feed_forward, width)
  WeightMatrix down;                    // (width, feed_forward)
};

struct DecoderWeights {
  WeightMatrix embedding;  // (vocabulary, width)
  std::vector<DecoderLayer> layers;
  WeightVector output_norm;  // (width)
  WeightMatrix output;       // (vocabulary, width); unused if tied
  bool tied = false;         // the embedding serves as output

  const WeightMatrix& output_matrix() const { return tied ? embedding : output; }
};

// Checks name, type and shape of every weight and reads the vectors. The matrices are left to be
// packed: see DecoderMatrices. Throws Error, naming the tensor, what was found and what is
// expected.
DecoderWeights ReadDecoderWeights(const Gguf& file, const DecoderConfig& config);

// All matrices, each once.
std::vector<WeightMatrix*> DecoderMatrices(DecoderWeights& weights);

// ---------------------------------------------------------------- the forward pass

// `weights` must outlive the graph.
Graph BuildDecoder(const DecoderConfig& config, const DecoderWeights& weights);

}  // namespace hob

#endif  // HOB_RUNTIME_DECODER_H_
