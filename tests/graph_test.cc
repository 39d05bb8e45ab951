// The graph's shape checks, its phases, and the plan of its arena: no two living tensors overlap.
#include "runtime/graph.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/aligned_buffer.h"
#include "runtime/decoder.h"
#include "runtime/error.h"

namespace hob {
namespace {

WeightMatrix Matrix(const std::string& name, size_t n, size_t k,
                    hob_format format = HOB_FORMAT_F32) {
  return {name, FindFormat(format), n, k};
}

WeightVector Vector(const std::string& name, size_t size) {
  return {name, std::vector<float>(size, 1.0f)};
}

// A model's weights without the data.
struct Decoder {
  DecoderConfig config;
  DecoderWeights weights;
};

Decoder MakeDecoder(std::string_view architecture, size_t layers, hob_format format) {
  Decoder decoder;
  decoder.config = {.architecture = FindArchitecture(architecture),
                    .vocabulary = 500,
                    .context = 256,
                    .layers = layers,
                    .width = 96,
                    .feed_forward = 256,
                    .heads = 6,
                    .kv_heads = 3,
                    .head_dim = 16,
                    .rms_eps = 1e-5f,
                    .n_rot = 16,
                    .rope_base = 1e4,
                    .rope_freq_scale = 1,
                    .rope_factors = {}};
  DecoderWeights& weights = decoder.weights;
  weights.embedding = Matrix("embedding", 500, 96, format);
  for (size_t i = 0; i < layers; ++i) {
    weights.layers.push_back({.attention_norm = Vector("attn_norm", 96),
                              .q = Matrix("q", 96, 96, format),
                              .k = Matrix("k", 48, 96, format),
                              .v = Matrix("v", 48, 96, format),
                              .q_bias = Vector("q_bias", 96),
                              .k_bias = Vector("k_bias", 48),
                              .v_bias = Vector("v_bias", 48),
                              .q_norm = Vector("q_norm", 16),
                              .k_norm = Vector("k_norm", 16),
                              .attention_output = Matrix("o", 96, 96, format),
                              .feed_forward_norm = Vector("ffn_norm", 96),
                              .gate = Matrix("gate", 256, 96, format),
                              .up = Matrix("up", 256, 96, format),
                              .down = Matrix("down", 96, 256, format)});
  }
  weights.output_norm = Vector("output_norm", 96);
  weights.tied = true;
  return decoder;
}

// What the tests need to know of a planned graph, found from its ops alone.
class Plan {
 public:
  explicit Plan(const Graph& graph) : graph_(graph), phase_of_(graph.ops().size()) {
    for (size_t p = 0; p < graph.phases().size(); ++p) {
      const Phase phase = graph.phases()[p];
      for (size_t i = phase.begin; i < phase.end; ++i) phase_of_[i] = p;
    }
    readers_.resize(graph.tensors().size());
    for (size_t i = 0; i < graph.ops().size(); ++i) {
      for (TensorId input : graph.ops()[i].inputs) readers_[Memory(input)].push_back(i);
    }
  }

  // The tensor whose memory a tensor is.
  TensorId Memory(TensorId id) const {
    const TensorId root = graph_.tensors()[id].root;
    return root == kNoTensor ? id : root;
  }

  // An op that others may do as part of their own, in their phase, may be done before its turn or
  // behind it.
  size_t FirstPhase(TensorId id) const {
    const size_t producer = graph_.tensors()[id].producer;
    const size_t absorber = graph_.ops()[producer].absorber;
    return absorber == kNoOp ? phase_of_[producer]
                             : std::min(phase_of_[producer], phase_of_[absorber]);
  }
  size_t LastPhaseOf(size_t op) const {
    const size_t absorber = graph_.ops()[op].absorber;
    return absorber == kNoOp ? phase_of_[op] : std::max(phase_of_[op], phase_of_[absorber]);
  }
  size_t LastPhase(TensorId id) const {
    size_t last = FirstPhase(id);
    for (size_t reader : readers_[id]) last = std::max(last, LastPhaseOf(reader));
    return last;
  }

  void ExpectDependenciesInOrder() const {
    for (size_t i = 0; i < graph_.ops().size(); ++i) {
      for (TensorId input : graph_.ops()[i].inputs) {
        EXPECT_LT(phase_of_[graph_.tensors()[input].producer], phase_of_[i]);
      }
    }
  }

  // `b` takes over the place of `a`: only its own op reads `a` in that phase, and none later.
  bool TakesOver(TensorId b, TensorId a) const {
    const Tensor& after = graph_.tensors()[b];
    if (after.in_place_of != a || after.offset != graph_.tensors()[a].offset) return false;
    return std::all_of(readers_[a].begin(), readers_[a].end(), [&](size_t reader) {
      return reader == after.producer || LastPhaseOf(reader) < FirstPhase(b);
    });
  }

  void ExpectNoOverlap() const {
    const std::vector<Tensor>& tensors = graph_.tensors();
    for (TensorId a = 0; a < tensors.size(); ++a) {
      EXPECT_LE(tensors[a].offset + tensors[a].bytes, graph_.arena_bytes());
      EXPECT_EQ(tensors[a].offset % kAlignment, 0u);
      for (TensorId b = a + 1; b < tensors.size(); ++b) {
        if (tensors[a].bytes == 0 || tensors[b].bytes == 0) continue;
        const bool same_time = FirstPhase(b) <= LastPhase(a) && FirstPhase(a) <= LastPhase(b);
        const bool same_place = tensors[a].offset < tensors[b].offset + tensors[b].bytes &&
                                tensors[b].offset < tensors[a].offset + tensors[a].bytes;
        if (same_time && same_place) {
          EXPECT_TRUE(TakesOver(b, a)) << tensors[a].name << " and " << tensors[b].name;
        }
      }
    }
  }

  size_t PhaseOf(const std::string& tensor) const {
    for (TensorId id = 0; id < graph_.tensors().size(); ++id) {
      if (graph_.tensors()[id].name == tensor) return FirstPhase(id);
    }
    ADD_FAILURE() << "no tensor " << tensor;
    return 0;
  }

 private:
  const Graph& graph_;
  std::vector<size_t> phase_of_;              // (ops)
  std::vector<std::vector<size_t>> readers_;  // (tensors): ops
};

TEST(GraphTest, ArenaOfAModel) {
  for (const Architecture& architecture : kArchitectures) {
    SCOPED_TRACE(architecture.name);
    for (hob_format format : {HOB_FORMAT_F32, HOB_FORMAT_BF16, HOB_FORMAT_Q8_0}) {
      const Decoder decoder = MakeDecoder(architecture.name, 4, format);
      Graph graph = BuildDecoder(decoder.config, decoder.weights);
      graph.Plan(64);
      const Plan plan(graph);
      plan.ExpectDependenciesInOrder();
      plan.ExpectNoOverlap();
      size_t sum = 0;
      for (const Tensor& tensor : graph.tensors()) sum += tensor.bytes;
      EXPECT_LT(graph.arena_bytes() * 4, sum);
    }
  }
}

TEST(GraphTest, ArenaDoesNotGrowWithLayers) {
  const Decoder shallow = MakeDecoder("llama", 2, HOB_FORMAT_Q8_0);
  const Decoder deep = MakeDecoder("llama", 12, HOB_FORMAT_Q8_0);
  Graph a = BuildDecoder(shallow.config, shallow.weights);
  Graph b = BuildDecoder(deep.config, deep.weights);
  a.Plan(32);
  b.Plan(32);
  EXPECT_EQ(a.arena_bytes(), b.arena_bytes());
}

TEST(GraphTest, IndependentOpsShareAPhase) {
  const Decoder decoder = MakeDecoder("qwen3", 2, HOB_FORMAT_Q8_0);
  Graph graph = BuildDecoder(decoder.config, decoder.weights);
  graph.Plan(8);
  const Plan plan(graph);
  EXPECT_EQ(plan.PhaseOf("blk.0.q"), plan.PhaseOf("blk.0.k"));
  EXPECT_EQ(plan.PhaseOf("blk.0.q"), plan.PhaseOf("blk.0.v"));
  EXPECT_EQ(plan.PhaseOf("blk.0.q_norm"), plan.PhaseOf("blk.0.k_norm"));
  EXPECT_LT(plan.PhaseOf("blk.0.q_norm"), plan.PhaseOf("blk.0.q_rope"));
  EXPECT_EQ(plan.PhaseOf("blk.0.q_rope"), plan.PhaseOf("blk.0.cache"));
  EXPECT_LT(plan.PhaseOf("blk.0.cache"), plan.PhaseOf("blk.0.attn"));
}

TEST(GraphTest, MatmulsShareTheirPreparedActivations) {
  const WeightMatrix embedding = Matrix("e", 100, 64), a = Matrix("a", 32, 64, HOB_FORMAT_Q8_0),
                     b = Matrix("b", 48, 64, HOB_FORMAT_Q4_0),
                     c = Matrix("c", 48, 64, HOB_FORMAT_BF16), d = Matrix("d", 48, 64);
  Graph graph;
  const TensorId x = graph.Embed("x", embedding);
  for (const WeightMatrix* weight : {&a, &b, &c, &d}) graph.Matmul(weight->name, x, *weight);
  const auto prepares = std::count_if(graph.ops().begin(), graph.ops().end(),
                                      [](const Op& op) { return op.kind == OpKind::kPrepare; });
  EXPECT_EQ(prepares, 2);  // one for both block formats, one for bf16, none for f32
}

// Norms and gated matmuls prepare what they make; what others make takes an op.
TEST(GraphTest, WhoeverMakesActivationsPreparesThem) {
  const Decoder decoder = MakeDecoder("llama", 3, HOB_FORMAT_Q8_0);
  const Graph graph = BuildDecoder(decoder.config, decoder.weights);
  size_t prepares = 0;
  for (const Op& op : graph.ops()) {
    const bool makes_activations = op.kind == OpKind::kRmsNorm || op.kind == OpKind::kGated;
    EXPECT_EQ(op.prepared.size(), makes_activations ? 1u : 0u) << OpName(op.kind);
    for (TensorId id : op.prepared) {
      EXPECT_EQ(graph.tensors()[id].cols, graph.tensors()[op.output].cols);
    }
    prepares += op.kind == OpKind::kPrepare;
  }
  EXPECT_EQ(prepares, 3u);  // of attention's output
}

TEST(GraphTest, InPlaceWhereNobodyReadsTheInputAnymore) {
  const WeightMatrix embedding = Matrix("e", 100, 64), weight = Matrix("w", 64, 64);
  const WeightVector norm = Vector("n", 64);
  Graph graph;
  const TensorId x = graph.Embed("x", embedding);
  const TensorId h = graph.RmsNorm("h", x, norm, 1e-5f);                 // x is still needed
  const TensorId sum = graph.Matmul("sum", h, weight, {.residual = x});  // the last use of x
  const TensorId twice = graph.Add("twice", sum, sum);                   // reads sum twice
  const TensorId last = graph.Add("last", twice, h);                     // may overwrite twice
  const WeightVector head = Vector("head", 16);
  const TensorId heads = graph.RmsNormHeads("heads", last, head, 1e-5f,
                                            {.n_heads = 4, .n_kv_heads = 4, .head_dim = 16});
  graph.Plan(4);
  EXPECT_EQ(graph.tensors()[heads].in_place_of, last);
  EXPECT_EQ(graph.tensors()[h].in_place_of, kNoTensor);
  EXPECT_EQ(graph.tensors()[sum].in_place_of, x);
  EXPECT_EQ(graph.tensors()[twice].in_place_of, kNoTensor);
  EXPECT_EQ(graph.tensors()[last].in_place_of, twice);
  Plan(graph).ExpectNoOverlap();
}

// A norm that each participant may make for itself in the next phase, where nobody then overwrites
// what it is made of; and those that none may, as more is read of them than that.
TEST(GraphTest, NormsThatTheNextMatmulsMakeThemselves) {
  const WeightMatrix embedding = Matrix("e", 100, 64), floats = Matrix("f", 64, 64),
                     blocks = Matrix("b", 64, 64, HOB_FORMAT_Q8_0);
  const WeightVector weight = Vector("n", 64);
  Graph graph;
  const auto norm = [&](const char* name, TensorId x) {
    return graph.RmsNorm(name, x, weight, 1e-5f);
  };
  const TensorId x = graph.Embed("x", embedding), own = norm("own", x);
  const TensorId sum = graph.Matmul("sum", own, blocks, {.residual = x});  // the last use of x
  const TensorId of_floats = norm("of floats", sum);
  const TensorId y = graph.Matmul("y", of_floats, floats), later = norm("later", y);
  const TensorId z = graph.Matmul("z", later, blocks), read = norm("read", z);
  graph.Add("end", graph.Matmul("last", read, blocks),
            graph.Add("two", graph.Matmul("late", later, blocks), read));
  graph.Plan(4);
  const auto absorber = [&](TensorId id) {
    return graph.ops()[graph.tensors()[id].producer].absorber;
  };
  EXPECT_EQ(absorber(own), graph.tensors()[sum].producer);
  EXPECT_EQ(graph.tensors()[sum].in_place_of, kNoTensor);
  for (TensorId id : {of_floats, later, read}) EXPECT_EQ(absorber(id), kNoOp);
  Plan(graph).ExpectNoOverlap();
}

// An op beside such a norm is the last to read their input, but not in time.
TEST(GraphTest, NormsOfTheNextPhaseKeepTheirInputFromTheirNeighbours) {
  const WeightMatrix embedding = Matrix("e", 100, 64),
                     blocks = Matrix("b", 64, 64, HOB_FORMAT_Q8_0);
  const WeightVector weight = Vector("n", 64);
  Graph graph;
  const TensorId x = graph.Embed("x", embedding), y = graph.Embed("y", embedding);
  const TensorId norm = graph.RmsNorm("norm", x, weight, 1e-5f);
  const TensorId sum = graph.Add("sum", x, y);
  const TensorId out = graph.Matmul("out", norm, blocks);
  graph.Add("end", out, sum);
  graph.Plan(4);
  ASSERT_EQ(graph.ops()[graph.tensors()[norm].producer].absorber, graph.tensors()[out].producer);
  EXPECT_EQ(graph.tensors()[sum].in_place_of, y);
  Plan(graph).ExpectNoOverlap();
}

TEST(GraphTest, OutputRowsKeepTheirRootAlive) {
  const WeightMatrix embedding = Matrix("e", 100, 64), weight = Matrix("w", 64, 64);
  Graph graph;
  const TensorId x = graph.Embed("x", embedding);
  TensorId h = graph.Matmul("h", x, weight);
  h = graph.Add("h2", h, h);
  const TensorId rows = graph.OutputRows(x), h_rows = graph.OutputRows(h);
  graph.Add("sum", rows, h_rows);
  graph.Plan(16);
  Plan(graph).ExpectNoOverlap();
}

// Runs `build` and expects an error that contains all of `parts`.
template <typename Build>
void ExpectError(Build build, const std::vector<std::string>& parts) {
  try {
    build();
    ADD_FAILURE() << "no error; expected one with '" << parts[0] << "'";
  } catch (const Error& error) {
    EXPECT_EQ(error.status(), HOB_ERROR_SHAPE);
    for (const std::string& part : parts) {
      EXPECT_NE(std::string(error.what()).find(part), std::string::npos) << error.what();
    }
  }
}

TEST(GraphTest, ShapeErrorsNameOpAndTensors) {
  const WeightMatrix embedding = Matrix("e", 100, 64), wide = Matrix("wide", 32, 96),
                     half = Matrix("half", 32, 64);
  const WeightVector norm = Vector("norm", 48);
  Graph graph;
  const TensorId x = graph.Embed("x", embedding), y = graph.Matmul("y", x, half);
  ExpectError([&] { graph.RmsNorm("h", x, norm, 1e-5f); },
              {"rms_norm 'h'", "'x' (batch rows x 64)", "48", "'norm'"});
  ExpectError([&] { graph.Matmul("q", x, wide); }, {"matmul 'q'", "'x'", "96", "'wide'"});
  ExpectError([&] { graph.Matmul("q", x, half, {.residual = x}); },
              {"matmul 'q'", "'x'", "32", "'half'"});
  ExpectError([&] { graph.Matmul("q", x, half, {.bias = &norm}); },
              {"matmul 'q'", "'norm' has 48 values", "expected 32", "'half'"});
  ExpectError([&] { graph.GatedMatmul("g", x, half, wide); },
              {"gated_matmul 'g'", "'x'", "96", "'wide'"});
  ExpectError([&] { graph.GatedMatmul("g", x, Matrix("other", 48, 64), half); },
              {"gated_matmul 'g'", "'other' has 48 outputs", "expected 32", "'half'"});
  ExpectError([&] { graph.Add("s", x, y); }, {"add 's'", "'x'", "'y'", "same shape"});
  ExpectError([&] { graph.Add("s", x, graph.OutputRows(x)); }, {"add 's'", "output rows"});
  ExpectError(
      [&] { graph.Matmul("q", graph.OutputRows(y), Matrix("sq", 32, 32), {.residual = y}); },
      {"matmul 'q'", "'y'", "rows"});
  const HeadShape heads{.n_heads = 3, .n_kv_heads = 2, .head_dim = 16, .n_rot = 16};
  ExpectError([&] { graph.Rope("r", x, heads); }, {"rope 'r'", "'x'", "3 heads of 16"});
  ExpectError([&] { graph.Append("c", 0, x, x, heads); }, {"append 'c'", "2 heads of 16"});
  const WeightVector head = Vector("head", 16);
  ExpectError([&] { graph.RmsNormHeads("n", x, head, 1e-5f, heads); },
              {"rms_norm 'n'", "'x' (batch rows x 64)", "48", "3 heads of 16"});
  const HeadShape four{.n_heads = 4, .n_kv_heads = 2, .head_dim = 16, .n_rot = 16};
  ExpectError([&] { graph.RmsNormHeads("n", x, norm, 1e-5f, four); },
              {"rms_norm 'n'", "'norm' has 48 values", "expected 16", "one head"});
  const HeadShape odd{.n_heads = 4, .n_kv_heads = 2, .head_dim = 16, .n_rot = 15};
  ExpectError([&] { graph.Rope("r", x, odd); }, {"rope 'r'", "15"});
  const HeadShape turned{.n_heads = 2, .n_kv_heads = 2, .head_dim = 16, .n_rot = 18};
  ExpectError([&] { graph.Append("c", 0, y, y, turned); }, {"append 'c'", "18", "2 heads of 16"});
  graph.Add("reader", y, y);
  ExpectError([&] { graph.Append("c", 0, y, y, {.n_kv_heads = 2, .head_dim = 16}); },
              {"append 'c'", "'y'", "overwrites"});
  ExpectError([&] { graph.Attention("a", x, y, odd); }, {"attention 'a'", "not a cache"});
  ExpectError([&] { graph.OutputRows(graph.OutputRows(x)); }, {"'x (output rows)'"});
}

}  // namespace
}  // namespace hob
