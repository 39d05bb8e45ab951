// Quantizing files: which format the rules of a mix give each tensor, what happens where rows do
// not fit, what the error report says, and models made from nothing.
#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <map>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <tuple>
#include <vector>

#include "gtest/gtest.h"
#include "hob/model.h"
#include "runtime/encode.h"
#include "runtime/error.h"
#include "runtime/gguf.h"
#include "runtime/model.h"
#include "runtime/quantize_mix.h"
#include "runtime/synth.h"
#include "tests/test_files.h"

namespace hob {
namespace {

// ---------------------------------------------------------------- rules

// The matrices of a model of the llama kind, named as in files.
struct ModelShape {
  MixModel model;
  uint64_t width, feed_forward;
  bool tied = true;
};

const ModelShape kSmolLm{{"llama", 30, 9, 3, 0}, 576, 1536};
const ModelShape kLlama1B{{"llama", 16, 32, 8, 0}, 2048, 8192};
const ModelShape kLlama8B{{"llama", 32, 32, 8, 0}, 4096, 14336, false};
const ModelShape kLlama70B{{"llama", 80, 64, 8, 0}, 8192, 28672, false};
const ModelShape kMha{{"llama", 32, 32, 32, 0}, 4096, 11008, false};
const ModelShape kEightExperts{{"llama", 32, 32, 8, 8}, 4096, 14336, false};

// What the goal chooses, by name, for tensors in an order that is not that of the layers.
std::map<std::string, TensorChoice> Choose(const std::string& what, const ModelShape& shape) {
  std::vector<MixTensor> tensors;
  const uint64_t kv = shape.width / shape.model.heads * shape.model.kv_heads;
  std::vector<std::tuple<std::string, uint32_t, uint64_t, uint64_t>> all;
  for (uint32_t layer = shape.model.layers; layer-- > 0;) {
    const std::string block = "blk." + std::to_string(layer) + ".";
    all.emplace_back(block + "attn_norm.weight", 1, shape.width, 1);
    all.emplace_back(block + "attn_q.weight", 2, shape.width, shape.width);
    all.emplace_back(block + "attn_q.bias", 1, shape.width, 1);
    all.emplace_back(block + "attn_k.weight", 2, shape.width, kv);
    all.emplace_back(block + "attn_v.weight", 2, shape.width, kv);
    all.emplace_back(block + "attn_output.weight", 2, shape.width, shape.width);
    all.emplace_back(block + "ffn_gate_inp.weight", 2, shape.width, 8);
    all.emplace_back(block + "ffn_up.weight", 2, shape.width, shape.feed_forward);
    all.emplace_back(block + "ffn_down.weight", 2, shape.feed_forward, shape.width);
  }
  all.emplace_back("token_embd.weight", 2, shape.width, 1000);
  if (!shape.tied) all.emplace_back("output.weight", 2, shape.width, 1000);
  for (const auto& [name, n_dims, row, rows] : all) tensors.push_back({name, n_dims, row, rows});

  // Not ParseGoal, so that formats which this build does not have will do.
  QuantizeGoal goal{what, nullptr, 0};
  for (const Mix& mix : Mixes()) {
    if (mix.name == what) goal.mix = &mix;
  }
  const auto choices = ChooseFormats(goal, shape.model, tensors);
  std::map<std::string, TensorChoice> result;
  for (size_t i = 0; i < tensors.size(); ++i) {
    // The format of a plain goal is a view of the goal's name.
    const std::string_view format =
        choices[i].format == what ? std::string_view("(asked for)") : choices[i].format;
    result[std::string(tensors[i].name)] = {format, choices[i].note};
  }
  return result;
}

struct Expected {
  const char* mix;
  const ModelShape& shape;
  const char* tensor;
  const char* format;
};

// Types as llama.cpp gives them to models of these shapes.
TEST(Mix, GivesTensorsTheFormatsOfTheRules) {
  const Expected kExpected[] = {
      // The output matrix, and the embedding that is one.
      {"q4_k_m", kLlama1B, "token_embd.weight", "q6_k"},
      {"q4_k_m", kLlama8B, "token_embd.weight", "q4_k"},
      {"q4_k_m", kLlama8B, "output.weight", "q6_k"},
      {"q2_k_m", kLlama8B, "token_embd.weight", "q2_k"},
      {"q2_k_m", kLlama8B, "output.weight", "q6_k"},
      // The first and the last eighth of the layers and every third between them.
      {"q4_k_m", kLlama1B, "blk.0.attn_v.weight", "q6_k"},
      {"q4_k_m", kLlama1B, "blk.1.attn_v.weight", "q6_k"},
      {"q4_k_m", kLlama1B, "blk.2.attn_v.weight", "q4_k"},
      {"q4_k_m", kLlama1B, "blk.3.attn_v.weight", "q4_k"},
      {"q4_k_m", kLlama1B, "blk.4.attn_v.weight", "q6_k"},
      {"q4_k_m", kLlama1B, "blk.4.ffn_down.weight", "q6_k"},
      {"q4_k_m", kLlama1B, "blk.5.ffn_down.weight", "q4_k"},
      {"q4_k_m", kLlama1B, "blk.13.ffn_down.weight", "q6_k"},
      {"q4_k_m", kLlama1B, "blk.15.ffn_down.weight", "q6_k"},
      {"q5_k_m", kLlama1B, "blk.1.ffn_down.weight", "q6_k"},
      {"q5_k_m", kLlama1B, "blk.2.ffn_down.weight", "q5_k"},
      // The rest.
      {"q4_k_m", kLlama1B, "blk.0.attn_q.weight", "q4_k"},
      {"q4_k_m", kLlama1B, "blk.0.attn_output.weight", "q4_k"},
      {"q4_k_m", kLlama1B, "blk.0.ffn_up.weight", "q4_k"},
      {"q4_k_m", kLlama1B, "blk.0.attn_norm.weight", ""},
      {"q4_k_m", kLlama1B, "blk.0.attn_q.bias", ""},
      {"q4_k_m", kLlama1B, "blk.0.ffn_gate_inp.weight", ""},
      {"q5_k_s", kLlama1B, "blk.0.attn_v.weight", "q5_k"},
      {"q5_k_s", kLlama1B, "blk.0.ffn_down.weight", "q5_k"},
      {"q4_k_s", kLlama1B, "blk.3.attn_v.weight", "q5_k"},
      {"q4_k_s", kLlama1B, "blk.4.attn_v.weight", "q4_k"},
      {"q4_k_s", kLlama1B, "blk.1.ffn_down.weight", "q5_k"},
      {"q4_k_s", kLlama1B, "blk.2.ffn_down.weight", "q4_k"},
      {"q3_k_s", kLlama1B, "blk.0.attn_v.weight", "q3_k"},
      {"q3_k_s", kLlama1B, "blk.0.attn_output.weight", "q3_k"},
      {"q3_k_m", kLlama1B, "blk.1.attn_v.weight", "q5_k"},
      {"q3_k_m", kLlama1B, "blk.2.attn_v.weight", "q4_k"},
      {"q3_k_m", kLlama1B, "blk.0.ffn_down.weight", "q5_k"},
      {"q3_k_m", kLlama1B, "blk.1.ffn_down.weight", "q4_k"},
      {"q3_k_m", kLlama1B, "blk.9.attn_output.weight", "q4_k"},
      {"q3_k_m", kLlama1B, "blk.9.ffn_up.weight", "q3_k"},
      {"q3_k_l", kLlama1B, "blk.9.attn_v.weight", "q5_k"},
      {"q3_k_l", kLlama1B, "blk.9.ffn_down.weight", "q5_k"},
      {"q3_k_l", kLlama1B, "blk.9.attn_output.weight", "q5_k"},
      {"q2_k_m", kLlama8B, "blk.9.attn_v.weight", "q4_k"},
      {"q2_k_m", kMha, "blk.9.attn_v.weight", "q3_k"},
      {"q2_k_m", kMha, "blk.9.ffn_down.weight", "q3_k"},
      {"q2_k_m", kMha, "blk.9.attn_output.weight", "q3_k"},
      {"q2_k_m", kMha, "blk.9.attn_q.weight", "q2_k"},
      // Models with rules of their own.
      {"q4_k_m", kLlama70B, "blk.10.attn_v.weight", "q5_k"},
      {"q4_k_m", kLlama70B, "blk.9.attn_v.weight", "q6_k"},
      {"q4_k_m", kEightExperts, "blk.9.attn_v.weight", "q8_0"},
      {"q4_k_m", kEightExperts, "blk.9.attn_k.weight", "q8_0"},
      {"q4_k_m", kEightExperts, "blk.9.attn_output.weight", "q5_k"},
      {"q3_k_l", kEightExperts, "blk.9.attn_output.weight", "q3_k"},
      {"q5_k_m", kEightExperts, "blk.9.attn_output.weight", "q5_k"},
      {"q4_k_m", kEightExperts, "blk.3.ffn_down.weight", "q6_k"},
      {"q4_k_m", kEightExperts, "blk.4.ffn_down.weight", "q4_k"},
      // Rows of 576 are no multiple of 256, those of 1536 are.
      {"q4_k_m", kSmolLm, "token_embd.weight", "q8_0"},
      {"q4_k_m", kSmolLm, "blk.0.attn_q.weight", "q5_0"},
      {"q4_k_m", kSmolLm, "blk.0.attn_v.weight", "q8_0"},
      {"q4_k_m", kSmolLm, "blk.3.attn_v.weight", "q5_0"},
      {"q4_k_m", kSmolLm, "blk.3.ffn_down.weight", "q4_k"},
      {"q4_k_m", kSmolLm, "blk.5.ffn_down.weight", "q6_k"},
      {"q5_k_m", kSmolLm, "blk.0.attn_q.weight", "q5_1"},
      {"q3_k_m", kSmolLm, "blk.0.attn_q.weight", "iq4_nl"},
      {"q2_k_m", kSmolLm, "blk.0.attn_q.weight", "iq4_nl"},
      {"iq4_xs", kSmolLm, "blk.0.attn_q.weight", "iq4_nl"},
      {"tq1_0", kSmolLm, "blk.0.attn_q.weight", "q4_0"},
      // A plain format is for every matrix.
      {"q8_0", kSmolLm, "token_embd.weight", "(asked for)"},
      {"q6_k", kLlama1B, "token_embd.weight", "(asked for)"},
      {"q6_k", kSmolLm, "blk.0.attn_q.weight", "q8_0"},
      {"q8_0", kSmolLm, "blk.0.attn_norm.weight", ""},
  };
  for (const Expected& e : kExpected) {
    const auto choices = Choose(e.mix, e.shape);
    EXPECT_EQ(choices.at(e.tensor).format, e.format)
        << e.mix << " " << e.shape.model.layers << " layers, " << e.tensor;
  }
}

TEST(Mix, SaysWhyAnotherFormatTakesThePlace) {
  EXPECT_EQ(Choose("q4_k_m", kSmolLm).at("blk.0.attn_q.weight").note,
            "rows of 576 do not fit q4_k");
  EXPECT_EQ(Choose("q4_k_m", kSmolLm).at("blk.0.ffn_down.weight").note, "");
  EXPECT_EQ(Choose("q8_0", kSmolLm).at("blk.0.attn_q.weight").note, "");
  // Rows that fit no block at all.
  const std::vector<MixTensor> odd = {{"blk.0.ffn_down.weight", 2, 100, 7}};
  for (const char* mix : {"q4_k_m", "q2_k_m"}) {
    const TensorChoice choice = ChooseFormats(ParseGoal(mix), {"llama", 1, 1, 1, 0}, odd)[0];
    EXPECT_EQ(choice.format, "f16");
    EXPECT_TRUE(choice.note.starts_with("rows of 100 do not fit q")) << choice.note;
  }
  EXPECT_EQ(ChooseFormats(ParseGoal("q4_0"), {}, odd)[0].format, "f16");
}

TEST(Mix, GoalsHaveTheFileTypesOfTheFormat) {
  EXPECT_EQ(ParseGoal("q4_k_m").file_type, 15u);
  EXPECT_EQ(ParseGoal("Q4_K_S").file_type, 14u);
  EXPECT_EQ(ParseGoal("q3_k_l").file_type, 13u);
  EXPECT_EQ(ParseGoal("q5_k_m").file_type, 17u);
  EXPECT_EQ(ParseGoal("q8_0").file_type, 7u);
  EXPECT_EQ(ParseGoal("f16").file_type, 1u);
  EXPECT_EQ(ParseGoal("Q4_0").mix, nullptr);
  try {
    ParseGoal("q4_k_xl");
    FAIL() << "expected an error";
  } catch (const Error& error) {
    EXPECT_EQ(error.status(), HOB_ERROR_FORMAT);
    EXPECT_NE(std::string(error.what()).find("'q4_k_xl' is not known"), std::string::npos);
    EXPECT_NE(std::string(error.what()).find("q4_k_m"), std::string::npos);
  }
}

TEST(Mix, NamesAFormatThatIsMissing) {
  try {
    RequireFormat(ParseGoal("q4_k_m"), {"blk.0.attn_q.weight", 2, 256, 1}, "q9_x");
    FAIL() << "expected an error";
  } catch (const Error& error) {
    EXPECT_EQ(error.status(), HOB_ERROR_FORMAT);
    EXPECT_EQ(std::string(error.what()).find("q4_k_m needs the format q9_x for the tensor"), 0u)
        << error.what();
  }
}

// ---------------------------------------------------------------- errors

TEST(EncodingError, FindsTheWorstBlockWhereverItIs) {
  const Format& format = *FindFormat(HOB_FORMAT_Q8_0);
  std::vector<float> source(96, 1.0F), decoded(96, 1.0F);
  decoded[64] = 1.5F;  // in block 2 of its row
  EncodingError first(format), second(format);
  for (int i = 0; i < 2; ++i) first.AddRow(source.data(), source.data(), 96);
  EXPECT_EQ(first.worst(), 0);
  second.AddRow(source.data(), source.data(), 96);
  second.AddRow(source.data(), decoded.data(), 96);
  first.Append(second);
  EXPECT_EQ(first.values(), 4 * 96u);
  EXPECT_EQ(first.worst_block(), 3 * 3 + 2u);
  EXPECT_DOUBLE_EQ(first.worst(), std::sqrt(0.25 / 32));
  EXPECT_DOUBLE_EQ(first.squared_error(), 0.25);
  EXPECT_DOUBLE_EQ(first.squared_source(), 4 * 96.0);

  decoded[0] = NAN;  // never hides behind a number
  first.AddRow(source.data(), decoded.data(), 96);
  EXPECT_TRUE(std::isinf(first.worst()));
  EXPECT_EQ(first.worst_block(), 12u);
}

// What the callbacks were told.
struct Told {
  std::map<std::string, hob_quantize_tensor> measured;
  std::map<std::string, std::string> lines;
};

hob_status Quantize(const std::string& in, const std::string& out, const std::string& format,
                    Told* told) {
  hob_quantize_options options = {};
  options.struct_size = sizeof(options);
  options.tensor_context = told;
  options.tensor = [](void* context, const hob_quantize_tensor* tensor) {
    static_cast<Told*>(context)->lines[tensor->name] =
        std::string(tensor->from) + " " + tensor->to + " " + tensor->note;
  };
  options.measured = [](void* context, const hob_quantize_tensor* tensor) {
    static_cast<Told*>(context)->measured[tensor->name] = *tensor;
  };
  return hob_quantize_file(in.c_str(), out.c_str(), format.c_str(), &options);
}

TEST(QuantizeFile, MeasuresWhatTheFileLost) {
  const test::TempDir dir;
  const std::string in = dir.File("in.gguf"), out = dir.File("out.gguf");
  constexpr size_t k = 64, rows = 10;
  std::vector<float> values(k * rows);
  for (size_t i = 0; i < values.size(); ++i) values[i] = std::sin(static_cast<float>(i));
  std::vector<float> odd(30, 0.5F);
  GgufWriter writer;
  const auto bytes = [](const std::vector<float>& v) {
    return std::span(reinterpret_cast<const uint8_t*>(v.data()), v.size() * sizeof(float));
  };
  writer.AddTensor("even", HOB_FORMAT_F32, std::vector<uint64_t>{k, rows}, bytes(values));
  writer.AddTensor("odd", HOB_FORMAT_F32, std::vector<uint64_t>{10, 3}, bytes(odd));
  writer.AddTensor("vector", HOB_FORMAT_F32, std::vector<uint64_t>{30}, bytes(odd));
  writer.WriteFile(in);

  Told told;
  ASSERT_EQ(Quantize(in, out, "q4_0", &told), HOB_OK) << hob_status_message();
  EXPECT_EQ(told.lines["even"], "f32 q4_0 ");
  EXPECT_EQ(told.lines["odd"], "f32 f16 rows of 10 do not fit q4_0");
  EXPECT_EQ(told.lines["vector"], "f32 f32 ");
  ASSERT_EQ(told.measured.size(), 2u);
  EXPECT_EQ(told.measured["odd"].relative_rms, 0);

  // The same from the file itself.
  const Gguf file = Gguf::Open(out);
  std::vector<float> decoded(values.size());
  ASSERT_EQ(hob_dequantize_rows(HOB_FORMAT_Q4_0, file.Data(file.GetTensor("even")).data(), rows, k,
                                decoded.data(), nullptr),
            HOB_OK);
  double error = 0, source = 0, worst = 0;
  size_t worst_block = 0;
  for (size_t block = 0; block < values.size() / 32; ++block) {
    double block_error = 0, block_source = 0;
    for (size_t i = block * 32; i < block * 32 + 32; ++i) {
      block_error += std::pow(static_cast<double>(values[i]) - decoded[i], 2);
      block_source += std::pow(static_cast<double>(values[i]), 2);
    }
    error += block_error, source += block_source;
    if (block_error / block_source > worst) {
      worst = block_error / block_source;
      worst_block = block;
    }
  }
  const hob_quantize_tensor& even = told.measured["even"];
  EXPECT_EQ(even.values, values.size());
  EXPECT_EQ(even.block_values, 32u);
  EXPECT_NEAR(even.squared_error, error, 1e-12);
  EXPECT_NEAR(even.squared_source, source, 1e-9);
  EXPECT_NEAR(even.relative_rms, std::sqrt(error / source), 1e-12);
  EXPECT_EQ(even.worst_block, worst_block);
  EXPECT_NEAR(even.worst_relative_rms, std::sqrt(worst), 1e-12);
  EXPECT_GT(even.relative_rms, 0.01);
}

TEST(QuantizeFile, EveryFormatAndMixThatIsThere) {
  const test::TempDir dir;
  const std::string in = dir.File("in.gguf"), out = dir.File("out.gguf");
  const std::string again = dir.File("again.gguf");
  Synthesize("tiny", "f32", in, {.seed = 3});
  std::vector<std::string> goals;
  if (std::getenv("HOB_TEST_QUICK") != nullptr) {
    goals = {"f16", "q4_0", "q4_k_m"};  // encoding all of them takes minutes under an emulator
  } else {
    for (const Format* format : Formats()) goals.emplace_back(format->name);
    for (const Mix& mix : Mixes()) goals.emplace_back(mix.name);
  }
  for (const std::string& goal : goals) {
    SCOPED_TRACE(goal);
    Told told;
    if (Quantize(in, out, goal, &told) != HOB_OK) {
      // Only a mix may need what this build does not have.
      EXPECT_NE(ParseGoal(goal).mix, nullptr);
      EXPECT_NE(std::string(hob_status_message()).find("needs the format"), std::string::npos)
          << hob_status_message();
      continue;
    }
    for (const auto& [name, tensor] : told.measured) {
      EXPECT_LT(tensor.relative_rms, 1) << name;  // three values lose most of a normal weight
      EXPECT_GE(tensor.worst_relative_rms, tensor.relative_rms * 0.999) << name;
    }
    EXPECT_EQ(Gguf::Open(out).GetU32("general.file_type"), ParseGoal(goal).file_type);
    // Made so from the beginning, the file is the same.
    Synthesize("tiny", goal, again, {.seed = 3});
    EXPECT_TRUE(test::ReadBytes(out) == test::ReadBytes(again));
    // And any format can be read again.
    Told back;
    EXPECT_EQ(Quantize(out, again, "q8_0", &back), HOB_OK) << hob_status_message();
  }
}

// ---------------------------------------------------------------- models from nothing

TEST(Synth, TheSameSeedGivesTheSameFile) {
  const test::TempDir dir;
  const auto make = [&](uint64_t seed) {
    Synthesize("tiny", "q8_0", dir.File("out.gguf"), {.seed = seed});
    return test::ReadBytes(dir.File("out.gguf"));
  };
  const std::vector<uint8_t> first = make(1);
  EXPECT_TRUE(make(1) == first);
  EXPECT_FALSE(make(2) == first);
}

TEST(Synth, WeightsAreNearlyNormal) {
  const test::TempDir dir;
  Synthesize("tiny", "f32", dir.File("out.gguf"), {});
  const Gguf file = Gguf::Open(dir.File("out.gguf"));
  for (const GgufTensor& tensor : file.tensors()) {
    const auto* values = reinterpret_cast<const float*>(file.Data(tensor).data());
    double sum = 0, squares = 0;
    for (size_t i = 0; i < tensor.elements; ++i) {
      sum += values[i];
      squares += static_cast<double>(values[i]) * values[i];
    }
    const double n = static_cast<double>(tensor.elements);
    const bool matrix = tensor.n_dims == 2;
    const double deviation = matrix ? 1 / std::sqrt(tensor.dims[0]) : 0.125;
    EXPECT_NEAR(sum / n, matrix ? 0 : 1, deviation * 0.2) << tensor.name;
    EXPECT_NEAR(std::sqrt(squares / n - sum / n * sum / n), deviation, deviation * 0.15)
        << tensor.name;
  }
}

// On every machine. A new value is a change of what measurements are made with: changelog.
TEST(Synth, TheBitsAreFixed) {
  const test::TempDir dir;
  Synthesize("tiny", "f32", dir.File("out.gguf"), {});
  uint64_t hash = 0xCBF29CE484222325U;
  for (const uint8_t byte : test::ReadBytes(dir.File("out.gguf"))) {
    hash = (hash ^ byte) * 0x100000001B3U;
  }
  EXPECT_EQ(hash, 10499547792471179082U);
}

TEST(Synth, ShapesAreThoseOfTheRealModels) {
  const test::TempDir dir;
  std::map<std::string, uint64_t> expected = {
      {"tiny", 1312000}, {"tiny-qwen2", 1313024}, {"tiny-qwen3", 1705728}};
  if (std::getenv("HOB_TEST_QUICK") == nullptr) {
    expected["smollm2-135m"] = 134515008;  // as in the models' cards
    expected["qwen2.5-0.5b"] = 494032768;
    expected["qwen3-0.6b"] = 596049920;
    expected["llama-3.2-1b"] = 1235814400 + 32;  // and the factors of its rotations
  }
  for (const auto& [shape, parameters] : expected) {
    SCOPED_TRACE(shape);
    Synthesize(shape, "q4_0", dir.File("out.gguf"), {});
    const Gguf file = Gguf::Open(dir.File("out.gguf"));
    uint64_t sum = 0;
    for (const GgufTensor& tensor : file.tensors()) sum += tensor.elements;
    EXPECT_EQ(sum, parameters);
    const std::string architecture(file.GetString("general.architecture"));
    EXPECT_EQ(file.GetU32(architecture + ".vocab_size"),
              file.GetTensor("token_embd.weight").dims[1]);

    // The vocabulary: unique tokens, of which the tokenizer makes any text and back.
    const auto tokens = file.GetStringArray("tokenizer.ggml.tokens");
    EXPECT_EQ(tokens.size(), file.GetTensor("token_embd.weight").dims[1]);
    EXPECT_EQ(std::set<std::string_view>(tokens.begin(), tokens.end()).size(), tokens.size());
    hob_model_options options = {};
    options.struct_size = sizeof(options);
    options.vocabulary_only = 1;
    hob_model* model = nullptr;
    ASSERT_EQ(hob_model_load(dir.File("out.gguf").c_str(), &options, &model), HOB_OK)
        << hob_status_message();
    std::string text = "Hello there, it is 10:45!\n";
    for (int byte = 0; byte < 256; ++byte) text.push_back(static_cast<char>(byte));
    std::vector<int32_t> ids(text.size());
    size_t count = 0;
    ASSERT_EQ(hob_tokenize(model, text.data(), text.size(), HOB_TOKENIZE_NO_BOS, ids.data(),
                           ids.size(), &count),
              HOB_OK);
    ASSERT_LE(count, ids.size());
    std::string back;
    for (size_t i = 0; i < count; ++i) {
      const char* piece = nullptr;
      size_t bytes = 0;
      ASSERT_EQ(hob_token_text(model, ids[i], &piece, &bytes), HOB_OK);
      back.append(piece, bytes);
    }
    EXPECT_EQ(back, text);
    hob_model_free(model);
  }
}

TEST(Synth, ActivationsStayFinite) {
  const test::TempDir dir;
  for (const char* shape : {"tiny", "tiny-qwen2", "tiny-qwen3"}) {
    SCOPED_TRACE(shape);
    Synthesize(shape, "f32", dir.File("out.gguf"), {});
    hob_model* model = nullptr;
    ASSERT_EQ(hob_model_load(dir.File("out.gguf").c_str(), nullptr, &model), HOB_OK)
        << hob_status_message();
    hob_session* session = nullptr;
    ASSERT_EQ(hob_session_create(model, nullptr, &session), HOB_OK);
    std::vector<int32_t> tokens(64);
    for (size_t i = 0; i < tokens.size(); ++i) tokens[i] = static_cast<int32_t>(i * 7);
    ASSERT_EQ(hob_session_eval(session, tokens.data(), tokens.size(), nullptr), HOB_OK);
    const float* logits = nullptr;
    ASSERT_EQ(hob_session_logits(session, &logits), HOB_OK);
    double squares = 0;
    for (size_t i = 0; i < 512; ++i) squares += static_cast<double>(logits[i]) * logits[i];
    EXPECT_GT(std::sqrt(squares / 512), 0.3);
    EXPECT_LT(std::sqrt(squares / 512), 3);
    hob_session_free(session);
    hob_model_free(model);
  }
}

TEST(Synth, NamesWhatItDoesNotKnow) {
  const test::TempDir dir;
  for (const auto& [shape, format, part] :
       {std::tuple("huge", "q4_0", "'huge'"), std::tuple("tiny", "q9_9", "'q9_9'")}) {
    try {
      Synthesize(shape, format, dir.File("out.gguf"), {});
      FAIL() << "expected an error";
    } catch (const Error& error) {
      EXPECT_NE(std::string(error.what()).find(part), std::string::npos) << error.what();
    }
  }
}

}  // namespace
}  // namespace hob
