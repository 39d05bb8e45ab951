// What the default model promises (runtime/default_model/MODEL_CARD.md), measured through the
// library on requests that it was not trained on: test.tsv, lines of a request, a tab and the
// expected JSON. HOB_TEST_QUICK=1 takes every tenth line.
#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <map>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "gtest/gtest.h"
#include "hob/hob.hpp"

namespace {

struct Case {
  std::string request, expected, answer;
};

struct Tally {
  size_t right = 0, all = 0;
  double share() const { return static_cast<double>(right) / static_cast<double>(all); }
};

std::vector<Case> ReadCases(size_t step) {
  std::ifstream file(HOB_SOURCE_DIR "/runtime/default_model/test.tsv");
  std::vector<Case> cases;
  std::string line;
  for (size_t number = 0; std::getline(file, line); ++number) {
    const size_t tab = line.find('\t');
    if (number % step != 0 || tab == std::string::npos) continue;
    cases.push_back({line.substr(0, tab), line.substr(tab + 1), ""});
  }
  return cases;
}

// "lights_set" of {"intent":"lights_set",...}
std::string Intent(const std::string& json) {
  const std::string key = "\"intent\":\"";
  const size_t begin = json.find(key);
  if (begin == std::string::npos) return "(none)";
  return json.substr(begin + key.size(), json.find('"', begin + key.size()) - begin - key.size());
}

// Every thread has a session of its own and claims cases.
void AnswerAll(const hob::Model& model, std::vector<Case>* cases) {
  constexpr size_t kLongestAnswer = 160;
  std::atomic<size_t> next{0};
  const auto work = [&] {
    hob::Session session(model);
    for (size_t i; (i = next++) < cases->size();) {
      Case& one = (*cases)[i];
      session.Rewind(0);
      session.Generate(model.Tokenize(model.ApplyTemplate(one.request)), kLongestAnswer,
                       [&](std::string_view text) {
                         one.answer += text;
                         return true;
                       });
    }
  };
  std::vector<std::thread> threads(std::clamp(std::thread::hardware_concurrency(), 1u, 8u));
  for (std::thread& thread : threads) thread = std::thread(work);
  for (std::thread& thread : threads) thread.join();
}

TEST(DefaultModel, AnswersRequestsItHasNotSeen) {
  std::optional<hob::Model> model;
  try {
    model.emplace(hob::Model::LoadDefault());
  } catch (const hob::StatusError& error) {
    ASSERT_EQ(error.status(), HOB_ERROR_UNSUPPORTED) << error.what();
    GTEST_SKIP() << error.what();
  }
  const char* quick = std::getenv("HOB_TEST_QUICK");
  const bool is_quick = quick != nullptr && std::string(quick) == "1";
  std::vector<Case> cases = ReadCases(is_quick ? 10 : 1);
  ASSERT_FALSE(cases.empty());
  AnswerAll(*model, &cases);

  std::map<std::string, Tally> intents;
  Tally in_scope, escalate;
  int shown = 0;
  for (const Case& one : cases) {
    const std::string intent = Intent(one.expected);
    const bool right = one.answer == one.expected;
    for (Tally* tally : {&intents[intent], intent == "escalate" ? &escalate : &in_scope}) {
      ++tally->all;
      tally->right += right;
    }
    if (!right && ++shown <= 20) {
      std::printf("wrong: %s\n  expected %s\n  answered %s\n", one.request.c_str(),
                  one.expected.c_str(), one.answer.c_str());
    }
  }
  for (const auto& [intent, tally] : intents) {
    std::printf("%-18s %4zu of %4zu  %5.1f %%\n", intent.c_str(), tally.right, tally.all,
                100 * tally.share());
  }
  std::printf("%-18s %4zu of %4zu  %5.1f %%\n", "(in scope)", in_scope.right, in_scope.all,
              100 * in_scope.share());
  // A tenth of the lines is too small a sample for the promise itself.
  const double least = is_quick ? 0.90 : 0.95;
  EXPECT_GE(in_scope.share(), least);
  EXPECT_GE(escalate.share(), least);
}

}  // namespace
