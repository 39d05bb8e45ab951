// The sampler: each filter alone, the order in which they run, odd logits, and the promise that a
// seed gives the same tokens on every machine.
#include "runtime/sampler.h"

#include <cmath>
#include <limits>
#include <map>
#include <vector>

#include "gtest/gtest.h"
#include "runtime/error.h"

namespace hob {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();
const float kNan = std::nanf("");

hob_sampler_options Options(float temperature, uint64_t seed = 1) {
  hob_sampler_options options = {};
  options.struct_size = sizeof(options);
  options.temperature = temperature;
  options.seed = seed;
  return options;
}

// How often each id comes out of `draws` draws.
std::map<int32_t, int> Count(const hob_sampler_options& options, const std::vector<float>& logits,
                             int draws = 20000, const std::vector<int32_t>& recent = {}) {
  Sampler sampler(options);
  std::map<int32_t, int> counts;
  for (int i = 0; i < draws; ++i) ++counts[sampler.Sample(logits, recent)];
  return counts;
}

std::vector<int32_t> Ids(const std::map<int32_t, int>& counts) {
  std::vector<int32_t> ids;
  for (const auto& [id, count] : counts) ids.push_back(id);
  return ids;
}

// Logits whose probabilities are 0.4 0.3 0.2 0.1 for the ids 1 3 0 2.
const std::vector<float> kFour = {std::log(0.2f), std::log(0.4f), std::log(0.1f), std::log(0.3f)};

TEST(Pcg32, GivesThePublishedNumbers) {
  Pcg32 random(42, 54);  // the demonstration program of the PCG library
  for (uint32_t expected :
       {0xa15c02b7u, 0x7b47f409u, 0xba1d3330u, 0x83d2f293u, 0xbfa4784bu, 0xcbed606eu}) {
    EXPECT_EQ(random.Next(), expected);
  }
}

TEST(Sampler, GreedyTakesTheLargestAndTheSmallerIdOnATie) {
  Sampler sampler;
  EXPECT_EQ(sampler.Sample(std::vector<float>{1, 5, 2, 5}, {}), 1);
  EXPECT_EQ(sampler.Sample(std::vector<float>{-3}, {}), 0);
  EXPECT_EQ(sampler.Sample(std::vector<float>{-kInf, -7, -7}, {}), 1);
}

TEST(Sampler, NeverChoosesNan) {
  EXPECT_EQ(Sampler().Sample(std::vector<float>{kNan, -1, kNan, 3, kNan}, {}), 3);
  EXPECT_EQ(Ids(Count(Options(1), {kNan, -1, kNan, 0, kNan}, 200)), (std::vector<int32_t>{1, 3}));
}

TEST(Sampler, TakesRowsWithoutAnyProbability) {
  for (float temperature : {0.0f, 1.0f}) {
    Sampler sampler(Options(temperature));
    EXPECT_EQ(sampler.Sample(std::vector<float>{kNan, kNan}, {}), 0);
    EXPECT_EQ(sampler.Sample(std::vector<float>{-kInf, -kInf}, {}), 0);
    EXPECT_EQ(sampler.Sample(std::vector<float>{kNan, -kInf}, {}), 1);
    EXPECT_EQ(sampler.Sample(std::vector<float>{0, kInf, 9}, {}), 1);
  }
}

TEST(Sampler, DrawsWithTheRightFrequencies) {
  const auto counts = Count(Options(1), kFour);
  // Four standard deviations of 20000 draws are below 0.014.
  EXPECT_NEAR(counts.at(1) / 20000.0, 0.4, 0.014);
  EXPECT_NEAR(counts.at(3) / 20000.0, 0.3, 0.014);
  EXPECT_NEAR(counts.at(0) / 20000.0, 0.2, 0.014);
  EXPECT_NEAR(counts.at(2) / 20000.0, 0.1, 0.014);
}

TEST(Sampler, TemperatureSharpensAndFlattens) {
  // At temperature 1/2 the probabilities are as 16 : 9 : 4 : 1.
  EXPECT_NEAR(Count(Options(0.5f), kFour).at(1) / 20000.0, 16.0 / 30, 0.015);
  EXPECT_NEAR(Count(Options(1000), kFour).at(2) / 20000.0, 0.25, 0.013);
  EXPECT_EQ(Ids(Count(Options(1e-30f), kFour, 100)), std::vector<int32_t>{1});
}

TEST(Sampler, TopK) {
  hob_sampler_options options = Options(1);
  options.top_k = 2;
  EXPECT_EQ(Ids(Count(options, kFour)), (std::vector<int32_t>{1, 3}));
  EXPECT_EQ(Ids(Count(options, {7, 7, 7, 7})), (std::vector<int32_t>{0, 1})) << "ties: smaller ids";
  options.top_k = 1;
  EXPECT_EQ(Ids(Count(options, kFour)), std::vector<int32_t>{1});
  options.top_k = 99;
  EXPECT_EQ(Ids(Count(options, kFour)).size(), 4u);
}

TEST(Sampler, TopP) {
  hob_sampler_options options = Options(1);
  options.top_p = 0.5f;
  EXPECT_EQ(Ids(Count(options, kFour)), (std::vector<int32_t>{1, 3}));
  options.top_p = 0.8f;
  EXPECT_EQ(Ids(Count(options, kFour)), (std::vector<int32_t>{0, 1, 3}));
  options.top_p = 0.01f;
  EXPECT_EQ(Ids(Count(options, kFour)), std::vector<int32_t>{1}) << "the best one always stays";
  options.top_p = 0.5f;  // beyond the first sorted piece
  EXPECT_EQ(Ids(Count(options, std::vector<float>(600, 0.0f), 6000)).back(), 299);
}

TEST(Sampler, MinP) {
  hob_sampler_options options = Options(1);
  options.min_p = 0.6f;  // 0.24
  EXPECT_EQ(Ids(Count(options, kFour)), (std::vector<int32_t>{1, 3}));
  options.min_p = 1;
  EXPECT_EQ(Ids(Count(options, kFour)), std::vector<int32_t>{1});
}

TEST(Sampler, FiltersJudgeBeforeTheTemperature) {
  hob_sampler_options options = Options(1000);
  options.top_p = 0.5f;
  EXPECT_EQ(Ids(Count(options, kFour)), (std::vector<int32_t>{1, 3}));
  options.top_p = 0;
  options.min_p = 0.6f;
  EXPECT_EQ(Ids(Count(options, kFour)), (std::vector<int32_t>{1, 3}));
}

TEST(Sampler, RepetitionPenalty) {
  hob_sampler_options options = Options(0);
  options.repetition_penalty = 2;
  Sampler sampler(options);
  const std::vector<float> logits = {3, 2, -1};
  EXPECT_EQ(sampler.Sample(logits, {}), 0);
  EXPECT_EQ(sampler.Sample(logits, std::vector<int32_t>{0}), 1);
  // Twice in the window is as good as once: 3 / 2 = 1.5 is above 1.
  EXPECT_EQ(sampler.Sample(logits, std::vector<int32_t>{0, 0, 0, 1}), 0);
  EXPECT_EQ(sampler.Sample(std::vector<float>{-1, -1.5f}, std::vector<int32_t>{0}), 1);
  EXPECT_EQ(sampler.Sample(logits, std::vector<int32_t>{-1, 99}), 0) << "no such tokens";

  options.penalty_window = 2;
  EXPECT_EQ(Sampler(options).Sample(logits, std::vector<int32_t>{0, 2, 2}), 0) << "0 is long ago";
  EXPECT_EQ(Sampler(options).Sample(logits, std::vector<int32_t>{2, 0, 2}), 1);
}

TEST(Sampler, TheSameSeedGivesTheSameTokens) {
  std::vector<float> logits;
  for (int i = 0; i < 500; ++i) logits.push_back(static_cast<float>((i * 37) % 101) / 16);
  hob_sampler_options options = Options(0.8f, 20240607);
  options.top_k = 40;
  options.top_p = 0.95f;
  options.min_p = 0.05f;
  Sampler sampler(options), again(options);
  std::vector<int32_t> tokens;
  for (int i = 0; i < 12; ++i) {
    tokens.push_back(sampler.Sample(logits, tokens));
    EXPECT_EQ(again.Sample(logits, {}), tokens.back());
  }
  // Made by this test on x86-64; every other machine has to agree.
  EXPECT_EQ(tokens,
            (std::vector<int32_t>{423, 483, 232, 382, 191, 8, 251, 191, 292, 434, 352, 232}));
}

TEST(Sampler, RefusesOptionsOutOfRange) {
  const auto refuses = [](auto change, const char* name) {
    hob_sampler_options options = Options(1);
    change(options);
    try {
      Sampler sampler(options);
      ADD_FAILURE() << name;
    } catch (const Error& error) {
      EXPECT_EQ(error.status(), HOB_ERROR_ARGUMENT);
      EXPECT_NE(std::string(error.what()).find(name), std::string::npos) << error.what();
    }
  };
  refuses([](auto& o) { o.temperature = -1; }, "temperature");
  refuses([](auto& o) { o.temperature = kNan; }, "temperature");
  refuses([](auto& o) { o.top_k = -1; }, "top_k");
  refuses([](auto& o) { o.top_p = 1.5f; }, "top_p");
  refuses([](auto& o) { o.min_p = -0.1f; }, "min_p");
  refuses([](auto& o) { o.repetition_penalty = kInf; }, "repetition_penalty");
}

}  // namespace
}  // namespace hob
