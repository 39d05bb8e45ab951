// The llama architecture: its dimensions and weights as a GGUF file gives them, and its forward
// pass. Start with BuildLlama. Another architecture is another file like this one.
// Touvron et al., "LLaMA: Open and Efficient Foundation Language Models", 2023.
#ifndef HOB_RUNTIME_LLAMA_H_
#define HOB_RUNTIME_LLAMA_H_

#include <cstddef>
#include <vector>

#include "runtime/gguf.h"
#include "runtime/graph.h"

namespace hob {

struct LlamaConfig {
  size_t vocabulary = 0;  // tokens
  size_t context = 0;     // longest sequence in training
  size_t layers = 0;
  size_t width = 0;  // of the residual stream
  size_t feed_forward = 0;
  size_t heads = 0, kv_heads = 0, head_dim = 0;
  float rms_eps = 0;
  size_t n_rot = 0;  // elements of a head that RoPE turns
  double rope_base = 0;
  double rope_freq_scale = 1;
  std::vector<float> rope_factors;  // (n_rot / 2), or empty
};

// Reads the dimensions, checks every one of them, and checks that the file holds no tensor that the
// architecture, as built here, does not use. Throws Error.
LlamaConfig ReadLlamaConfig(const Gguf& file);

struct LlamaLayer {
  WeightVector attention_norm;     // (width)
  WeightMatrix q;                  // (heads * head_dim, width)
  WeightMatrix k, v;               // (kv_heads * head_dim, width)
  WeightMatrix attention_output;   // (width, heads * head_dim)
  WeightVector feed_forward_norm;  // (width)
  WeightMatrix gate, up;           // (feed_forward, width)
  WeightMatrix down;               // (width, feed_forward)
};

struct LlamaWeights {
  WeightMatrix embedding;  // (vocabulary, width)
  std::vector<LlamaLayer> layers;
  WeightVector output_norm;  // (width)
  WeightMatrix output;       // (vocabulary, width); unused if tied
  bool tied = false;         // the embedding serves as output

  const WeightMatrix& output_matrix() const { return tied ? embedding : output; }
};

// Checks name, type and shape of every weight and reads the vectors. The matrices are left to be
// packed: see LlamaMatrices. Throws Error, naming the tensor, what was found and what is expected.
LlamaWeights ReadLlamaWeights(const Gguf& file, const LlamaConfig& config);

// All matrices, each once.
std::vector<WeightMatrix*> LlamaMatrices(LlamaWeights& weights);

// The forward pass. `weights` must outlive the graph.
Graph BuildLlama(const LlamaConfig& config, const LlamaWeights& weights);

}  // namespace hob

#endif  // HOB_RUNTIME_LLAMA_H_
