// From top to bottom: the shapes, the vocabulary, the metadata, the weights, the file.
//
// A matrix is put together from a pool of pieces of rows, a thousand of them for each matrix, which
// alone are generated and encoded; which piece comes where is random. Pieces are whole blocks in
// every format that the rows fit, so the pieces can be put together after encoding, and a model of
// a billion weights takes seconds whatever its format costs to encode.
#include "runtime/synth.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>
#include <optional>
#include <span>
#include <utility>

#include "kernels/formats.h"
#include "runtime/decoder.h"
#include "runtime/encode.h"
#include "runtime/error.h"
#include "runtime/gguf.h"
#include "runtime/quantize_mix.h"
#include "runtime/unicode.h"

namespace hob {
namespace {

// ---------------------------------------------------------------- the shapes

// Tokens that stand for no text. Ids count from the first of them.
struct Specials {
  std::span<const std::string_view> names;
  bool first;               // before all other tokens, otherwise behind them
  size_t count;             // those without a name are called PREFIX<i>SUFFIX, i counting from...
  uint32_t filler_from;     // ... this
  bool filler_is_reserved;  // control tokens for later; otherwise ids that nothing ever has
  std::string_view filler_prefix, filler_suffix;
  uint32_t bos, eos, padding;
};

constexpr std::string_view kTinyNames[] = {"<|endoftext|>", "<|im_start|>", "<|im_end|>"};
constexpr std::string_view kSmolNames[] = {
    "<|endoftext|>",    "<|im_start|>",    "<|im_end|>",     "<repo_name>",    "<reponame>",
    "<file_sep>",       "<filename>",      "<gh_stars>",     "<issue_start>",  "<issue_comment>",
    "<issue_closed>",   "<jupyter_start>", "<jupyter_text>", "<jupyter_code>", "<jupyter_output>",
    "<jupyter_script>", "<empty_output>"};
constexpr std::string_view kQwen3Names[] = {"<|endoftext|>",
                                            "<|im_start|>",
                                            "<|im_end|>",
                                            "<|object_ref_start|>",
                                            "<|object_ref_end|>",
                                            "<|box_start|>",
                                            "<|box_end|>",
                                            "<|quad_start|>",
                                            "<|quad_end|>",
                                            "<|vision_start|>",
                                            "<|vision_end|>",
                                            "<|vision_pad|>",
                                            "<|image_pad|>",
                                            "<|video_pad|>",
                                            "<tool_call>",
                                            "</tool_call>",
                                            "<|fim_prefix|>",
                                            "<|fim_middle|>",
                                            "<|fim_suffix|>",
                                            "<|fim_pad|>",
                                            "<|repo_name|>",
                                            "<|file_sep|>",
                                            "<tool_response>",
                                            "</tool_response>",
                                            "<think>",
                                            "</think>"};
constexpr std::string_view kLlamaNames[] = {"<|begin_of_text|>",
                                            "<|end_of_text|>",
                                            "<|reserved_special_token_0|>",
                                            "<|reserved_special_token_1|>",
                                            "<|finetune_right_pad_id|>",
                                            "<|reserved_special_token_2|>",
                                            "<|start_header_id|>",
                                            "<|end_header_id|>",
                                            "<|eom_id|>",
                                            "<|eot_id|>",
                                            "<|python_tag|>"};

constexpr Specials kTinySpecials = {kTinyNames, true, 3, 0, false, "", "", 1, 2, 2};
constexpr Specials kSmolSpecials = {kSmolNames, true, 17, 0, false, "", "", 1, 2, 2};
constexpr Specials kQwen3Specials = {kQwen3Names, false, 293, 151669, false, "[PAD", "]", 0, 2, 0};
// Qwen2.5 has not the last four names.
constexpr Specials kQwen2Specials = {
    std::span(kQwen3Names).first(22), false, 293, 151665, false, "[PAD", "]", 0, 2, 0};
constexpr Specials kLlamaSpecials = {kLlamaNames, false, 256, 3, true, "<|reserved_special_token_",
                                     "|>",        0,     9,   4};

// Llama 3's stretching of its slow rotations, which files carry as the tensor rope_freqs.
struct RopeScaling {
  float factor, low_factor, high_factor, old_context;
};

struct Shape {
  std::string_view name, size_label, architecture;
  uint32_t layers, width, feed_forward, heads, kv_heads, head_dim, vocabulary, context;
  float rms_eps, rope_base;
  std::optional<RopeScaling> rope_scaling;
  std::string_view pre;  // tokenizer.ggml.pre
  bool add_bos;
  const Specials& specials;
};

// As in the config.json of the instruct models on huggingface.co that they are named after. The
// embedding is the output matrix, too, in all of them.
const Shape kShapes[] = {
    {"tiny", "2M", "llama", 2, 256, 512, 4, 2, 64, 512, 512, 1e-5F, 1e4F, std::nullopt, "smollm",
     false, kTinySpecials},
    {"tiny-qwen2", "2M", "qwen2", 2, 256, 512, 4, 2, 64, 512, 512, 1e-6F, 1e6F, std::nullopt,
     "qwen2", false, kTinySpecials},
    {"tiny-qwen3", "2M", "qwen3", 2, 256, 512, 4, 2, 128, 512, 512, 1e-6F, 1e6F, std::nullopt,
     "qwen2", false, kTinySpecials},
    {"smollm2-135m", "135M", "llama", 30, 576, 1536, 9, 3, 64, 49152, 8192, 1e-5F, 1e5F,
     std::nullopt, "smollm", false, kSmolSpecials},
    {"qwen2.5-0.5b", "0.5B", "qwen2", 24, 896, 4864, 14, 2, 64, 151936, 32768, 1e-6F, 1e6F,
     std::nullopt, "qwen2", false, kQwen2Specials},
    {"qwen3-0.6b", "0.6B", "qwen3", 28, 1024, 3072, 16, 8, 128, 151936, 40960, 1e-6F, 1e6F,
     std::nullopt, "qwen2", false, kQwen3Specials},
    {"llama-3.2-1b", "1B", "llama", 16, 2048, 8192, 32, 8, 64, 128256, 131072, 1e-5F, 5e5F,
     RopeScaling{32, 1, 4, 8192}, "llama-bpe", true, kLlamaSpecials},
};

const Shape& FindShape(std::string_view name) {
  const auto* shape = std::ranges::find(kShapes, name, &Shape::name);
  if (shape != std::end(kShapes)) return *shape;
  std::string known;
  for (const Shape& one : kShapes) known += " " + std::string(one.name);
  throw Error(HOB_ERROR_ARGUMENT,
              "shape " + Quoted(name) + " is not known; expected one of" + known);
}

// ---------------------------------------------------------------- the vocabulary

// Token types of GGUF.
constexpr int32_t kNormal = 1, kControl = 3, kUnused = 5;

struct Vocabulary {
  std::vector<std::string> tokens, merges;
  std::vector<int32_t> types;
};

// Byte-level BPE: the 256 bytes, spelled as printable characters, then what merges make of letters,
// shorter tokens first, until `count` are there.
class MergeList {
 public:
  MergeList(size_t count, Vocabulary* out) : count_(count), out_(out) {
    char32_t next = 0x100;
    std::vector<std::string> letters;
    for (char32_t byte = 0; byte < 256; ++byte) {
      const bool printable = (byte > 0x20 && byte < 0x7F) || (byte > 0xA0 && byte != 0xAD);
      std::string spelling;
      AppendUtf8(printable ? byte : next++, &spelling);
      if (byte >= 'a' && byte <= 'z') letters.push_back(spelling);
      if (byte == ' ') space_ = spelling;
      Add(spelling);
    }
    const std::vector<std::string> space = {space_};
    const auto pairs = Merge(letters, letters);
    Merge(space, letters);
    Merge(space, pairs);
    const auto triples = Merge(pairs, letters);
    Merge(space, triples);
    Merge(pairs, pairs);
  }

 private:
  void Add(const std::string& token) {
    out_->tokens.push_back(token);
    out_->types.push_back(kNormal);
    ++made_;
  }

  // Every left with every right, as far as there is room. All letters are the same length, so no
  // two merges give the same token.
  std::vector<std::string> Merge(const std::vector<std::string>& lefts,
                                 const std::vector<std::string>& rights) {
    std::vector<std::string> merged;
    for (const std::string& left : lefts) {
      for (const std::string& right : rights) {
        if (made_ == count_) return merged;
        out_->merges.push_back(left + " " + right);
        merged.push_back(left + right);
        Add(merged.back());
      }
    }
    return merged;
  }

  size_t count_, made_ = 0;
  Vocabulary* out_;
  std::string space_;
};

void AddSpecials(const Specials& specials, Vocabulary* out) {
  for (size_t i = 0; i < specials.count; ++i) {
    const bool named = i < specials.names.size();
    out->types.push_back(named || specials.filler_is_reserved ? kControl : kUnused);
    if (named) {
      out->tokens.emplace_back(specials.names[i]);
    } else {
      const size_t number = i - specials.names.size() + specials.filler_from;
      out->tokens.push_back(std::string(specials.filler_prefix) + std::to_string(number) +
                            std::string(specials.filler_suffix));
    }
  }
}

void SetVocabulary(const Shape& shape, GgufWriter* writer) {
  const Specials& specials = shape.specials;
  const size_t normal = shape.vocabulary - specials.count;
  Vocabulary vocabulary;
  if (specials.first) AddSpecials(specials, &vocabulary);
  MergeList(normal, &vocabulary);
  if (!specials.first) AddSpecials(specials, &vocabulary);
  const auto first = static_cast<uint32_t>(specials.first ? 0 : normal);

  writer->SetString("tokenizer.ggml.model", "gpt2");
  writer->SetString("tokenizer.ggml.pre", shape.pre);
  writer->SetStringArray("tokenizer.ggml.tokens", vocabulary.tokens);
  writer->SetI32Array("tokenizer.ggml.token_type", vocabulary.types);
  writer->SetStringArray("tokenizer.ggml.merges", vocabulary.merges);
  writer->SetU32("tokenizer.ggml.bos_token_id", first + specials.bos);
  writer->SetU32("tokenizer.ggml.eos_token_id", first + specials.eos);
  writer->SetU32("tokenizer.ggml.padding_token_id", first + specials.padding);
  writer->SetBool("tokenizer.ggml.add_bos_token", shape.add_bos);
}

// ---------------------------------------------------------------- the metadata

void SetMetadata(const Shape& shape, uint32_t file_type, GgufWriter* writer) {
  const auto key = [&](const char* name) { return std::string(shape.architecture) + "." + name; };
  writer->SetString("general.architecture", shape.architecture);
  writer->SetString("general.type", "model");
  writer->SetString("general.name", std::string(shape.name) + " with random weights");
  writer->SetString("general.size_label", shape.size_label);
  writer->SetU32("general.file_type", file_type);
  writer->SetU32("general.quantization_version", kQuantizationVersion);
  writer->SetU32(key("block_count"), shape.layers);
  writer->SetU32(key("context_length"), shape.context);
  writer->SetU32(key("embedding_length"), shape.width);
  writer->SetU32(key("feed_forward_length"), shape.feed_forward);
  writer->SetU32(key("attention.head_count"), shape.heads);
  writer->SetU32(key("attention.head_count_kv"), shape.kv_heads);
  writer->SetU32(key("attention.key_length"), shape.head_dim);
  writer->SetU32(key("attention.value_length"), shape.head_dim);
  writer->SetF32(key("attention.layer_norm_rms_epsilon"), shape.rms_eps);
  writer->SetF32(key("rope.freq_base"), shape.rope_base);
  writer->SetU32(key("rope.dimension_count"), shape.head_dim);
  writer->SetU32(key("vocab_size"), shape.vocabulary);
}

// ---------------------------------------------------------------- random numbers

// SplitMix64 (Steele, Lea, Flood: "Fast Splittable Pseudorandom Number Generators", 2014), as a
// function of the number's index, so that threads may begin anywhere.
uint64_t Random(uint64_t seed, uint64_t index) {
  uint64_t x = seed + (index + 1) * 0x9E3779B97F4A7C15U;
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9U;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBU;
  return x ^ (x >> 31);
}

// A seed for each tensor: FNV-1a of its name.
uint64_t SeedOf(uint64_t seed, std::string_view name) {
  uint64_t hash = 0xCBF29CE484222325U;
  for (const char c : name) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001B3U;
  return Random(seed, hash);
}

// Nearly normal: the sum of four uniform numbers of 16 bits, with mean 0 and the deviation `scale`.
// One rounding, in the product, and so the same on every machine.
void FillNormal(uint64_t seed, uint64_t first, float scale, std::span<float> out) {
  constexpr int kMean = 4 * 65535 / 2;
  constexpr float kDeviation = 37837.227F;  // sqrt(4 * (2^32 - 1) / 12)
  const float factor = scale / kDeviation;
  for (size_t i = 0; i < out.size(); ++i) {
    const uint64_t bits = Random(seed, first + i);
    const auto sum = static_cast<int>((bits & 0xFFFF) + ((bits >> 16) & 0xFFFF) +
                                      ((bits >> 32) & 0xFFFF) + (bits >> 48));
    out[i] = static_cast<float>(sum - kMean) * factor;
  }
}

// ---------------------------------------------------------------- the weights

struct SynthTensor {
  std::string name;
  std::vector<uint64_t> dims;
  float mean = 0, deviation = 0;   // of a vector
  std::vector<float> values = {};  // of a vector that is not random

  uint64_t rows() const { return dims.size() == 1 ? 1 : dims[1]; }
  uint64_t count() const { return dims[0] * rows(); }
};

std::vector<float> RopeFactors(const Shape& shape) {
  constexpr double kPi = 3.14159265358979323846;
  const RopeScaling& scaling = *shape.rope_scaling;
  // Wave i is 2 pi base^(i / n) tokens long. n is a power of two, so roots and products will do,
  // which unlike pow() are the same on every machine.
  const size_t n = shape.head_dim / 2;
  double root = shape.rope_base;
  for (size_t power = n; power > 1; power /= 2) root = std::sqrt(root);

  // Waves that fit the old context high_factor times stay; those that fit less than low_factor
  // times are stretched; between them it goes smoothly.
  std::vector<float> factors;
  double wave = 2 * kPi;
  for (size_t i = 0; i < n; ++i, wave *= root) {
    const double fits = scaling.old_context / wave;
    const double smooth = std::clamp(
        (fits - scaling.low_factor) / (scaling.high_factor - scaling.low_factor), 0.0, 1.0);
    factors.push_back(static_cast<float>(1 / ((1 - smooth) / scaling.factor + smooth)));
  }
  return factors;
}

std::vector<SynthTensor> ListTensors(const Shape& shape) {
  const Architecture& architecture = *FindArchitecture(shape.architecture);
  const uint64_t width = shape.width, feed_forward = shape.feed_forward;
  const uint64_t head_dim = shape.head_dim;
  const uint64_t q_width = shape.heads * head_dim, kv_width = shape.kv_heads * head_dim;
  std::vector<SynthTensor> tensors;
  const auto matrix = [&](const std::string& name, uint64_t row, uint64_t rows) {
    tensors.push_back({.name = name + ".weight", .dims = {row, rows}});
  };
  const auto norm = [&](const std::string& name, uint64_t size) {
    tensors.push_back(
        {.name = name + ".weight", .dims = {size}, .mean = 1.0F, .deviation = 0.125F});
  };
  // A matrix with the bias that some architectures have there.
  const auto projection = [&](const std::string& name, uint64_t rows) {
    matrix(name, width, rows);
    if (!architecture.qkv_bias) return;
    tensors.push_back({.name = name + ".bias", .dims = {rows}, .mean = 0.0F, .deviation = 0.125F});
  };

  matrix("token_embd", width, shape.vocabulary);
  if (shape.rope_scaling) {
    std::vector<float> factors = RopeFactors(shape);
    tensors.push_back(
        {.name = "rope_freqs.weight", .dims = {factors.size()}, .values = std::move(factors)});
  }
  for (uint32_t layer = 0; layer < shape.layers; ++layer) {
    const std::string block = "blk." + std::to_string(layer) + ".";
    norm(block + "attn_norm", width);
    projection(block + "attn_q", q_width);
    projection(block + "attn_k", kv_width);
    projection(block + "attn_v", kv_width);
    if (architecture.qk_norm) {
      norm(block + "attn_q_norm", head_dim);
      norm(block + "attn_k_norm", head_dim);
    }
    matrix(block + "attn_output", q_width, width);
    norm(block + "ffn_norm", width);
    matrix(block + "ffn_gate", width, feed_forward);
    matrix(block + "ffn_up", width, feed_forward);
    matrix(block + "ffn_down", feed_forward, width);
  }
  norm("output_norm", width);
  return tensors;
}

void WriteVector(const SynthTensor& tensor, uint64_t seed, const GgufWriter::Sink& sink) {
  std::vector<float> values = tensor.values;
  if (values.empty()) {
    values.resize(tensor.dims[0]);
    FillNormal(seed, 0, tensor.deviation, values);
    for (float& value : values) value += tensor.mean;
  }
  sink({reinterpret_cast<const uint8_t*>(values.data()), values.size() * sizeof(float)});
}

void WriteMatrix(const SynthTensor& tensor, const Format& format, uint64_t seed,
                 const hob_threads* threads, const GgufWriter::Sink& sink,
                 const std::function<void(uint64_t)>& advance) {
  constexpr size_t kPieces = 1024;
  constexpr size_t kPieceValues = 256;  // the largest block of any format
  const size_t k = tensor.dims[0], rows = tensor.rows();
  const size_t piece_values = std::gcd(k, kPieceValues);
  const float scale = 1.0F / std::sqrt(static_cast<float>(k));

  std::vector<uint8_t> pool;
  EncodeRows(
      {.to = format,
       .k = piece_values,
       .rows = kPieces,
       .source =
           [&](size_t piece, float* values) {
             FillNormal(seed, piece * piece_values, scale, {values, piece_values});
           },
       .threads = threads},
      [&](std::span<const uint8_t> bytes) { pool.insert(pool.end(), bytes.begin(), bytes.end()); },
      [](uint64_t) {});

  const size_t piece_bytes = format.row_bytes(piece_values), row_pieces = k / piece_values;
  const uint64_t order = Random(seed, ~uint64_t{0});  // another sequence than the values'
  const size_t slice = std::clamp<size_t>(kSliceValues / k, 1, rows);
  std::vector<uint8_t> bytes(slice * format.row_bytes(k));
  for (size_t begin = 0; begin < rows; begin += slice) {
    const size_t count = std::min(slice, rows - begin);
    ParallelFor(threads, std::min<size_t>(count, 64), [&](size_t part) {
      const size_t parts = std::min<size_t>(count, 64);
      const size_t from = part * count / parts * row_pieces;
      const size_t to = (part + 1) * count / parts * row_pieces;
      for (size_t i = from; i < to; ++i) {
        const size_t piece = Random(order, begin * row_pieces + i) % kPieces;
        std::memcpy(bytes.data() + i * piece_bytes, pool.data() + piece * piece_bytes, piece_bytes);
      }
    });
    sink(std::span(bytes).first(count * format.row_bytes(k)));
    advance(count * k);
  }
}

}  // namespace

// ---------------------------------------------------------------- the file

std::vector<std::string> SynthShapes() {
  std::vector<std::string> names;
  for (const Shape& shape : kShapes) names.emplace_back(shape.name);
  return names;
}

void Synthesize(std::string_view shape_name, std::string_view format, const std::string& path,
                const SynthOptions& options) {
  const Shape& shape = FindShape(shape_name);
  const QuantizeGoal goal = ParseGoal(format);
  RequireTarget();
  GgufWriter writer;
  SetMetadata(shape, goal.file_type, &writer);
  SetVocabulary(shape, &writer);

  const std::vector<SynthTensor> tensors = ListTensors(shape);
  std::vector<MixTensor> mix_tensors;
  uint64_t total = 0, done = 0;
  for (const SynthTensor& tensor : tensors) {
    mix_tensors.push_back(
        {tensor.name, static_cast<uint32_t>(tensor.dims.size()), tensor.dims[0], tensor.rows()});
    total += tensor.count();
  }
  const auto advance = [&](uint64_t values) {
    done += values;
    if (options.progress == nullptr) return;
    const auto share = static_cast<float>(static_cast<double>(done) / static_cast<double>(total));
    if (options.progress(options.progress_context, share) != 0) {
      throw Error(HOB_ERROR_CANCELLED, path + ": writing was cancelled");
    }
  };

  const std::vector<TensorChoice> choices = ChooseFormats(
      goal, {std::string(shape.architecture), shape.layers, shape.heads, shape.kv_heads, 0},
      mix_tensors);
  for (size_t i = 0; i < tensors.size(); ++i) {
    const SynthTensor& tensor = tensors[i];
    const uint64_t seed = SeedOf(options.seed, tensor.name);
    if (choices[i].format.empty()) {
      writer.AddTensor(tensor.name, HOB_FORMAT_F32, tensor.dims,
                       [=, &tensor, &advance](const GgufWriter::Sink& sink) {
                         WriteVector(tensor, seed, sink);
                         advance(tensor.count());
                       });
    } else {
      const Format& to = RequireFormat(goal, mix_tensors[i], choices[i].format);
      writer.AddTensor(tensor.name, to.id, tensor.dims,
                       [=, &tensor, &to, &options, &advance](const GgufWriter::Sink& sink) {
                         WriteMatrix(tensor, to, seed, options.threads, sink, advance);
                       });
    }
  }
  writer.WriteFile(path);
}

}  // namespace hob
