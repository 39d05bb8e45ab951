// The C++ wrapper, used as its readers will: a default model that answers, and errors that throw.
#include <cstdio>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "gtest/gtest.h"
#include "hob/hob.hpp"

namespace {

// Skips its tests in a build without the default model.
class Wrapper : public testing::Test {
 protected:
  void SetUp() override {
    try {
      model_.emplace(hob::Model::LoadDefault({.threads = threads_.get()}));
    } catch (const hob::StatusError& error) {
      ASSERT_EQ(error.status(), HOB_ERROR_UNSUPPORTED) << error.what();
      GTEST_SKIP() << error.what();
    }
  }

  hob::TbbThreads threads_{2};
  std::optional<hob::Model> model_;
};

std::string Generate(hob::Session& session, std::span<const int32_t> prompt, size_t limit) {
  std::string answer;
  session.Generate(prompt, limit, [&](std::string_view text) {
    answer += text;
    return true;
  });
  return answer;
}

TEST_F(Wrapper, GeneratesText) {
  EXPECT_EQ(threads_.count(), 2u);
  const std::vector<int32_t> prompt =
      model_->Tokenize(model_->ApplyTemplate("turn on the kitchen lights"));
  ASSERT_FALSE(prompt.empty());

  hob::Session session(*model_, {.threads = threads_.get()});
  const std::string answer = Generate(session, prompt, 200);
  EXPECT_EQ(answer.front(), '{') << answer;
  EXPECT_EQ(answer.back(), '}') << answer;

  // The same from the start, with the prompt's cache reused up to its last token.
  session.Rewind(prompt.size() - 1);
  EXPECT_EQ(session.Position(), prompt.size() - 1);
  EXPECT_EQ(Generate(session, std::span(prompt).last(1), 200), answer);

  // Stopped by the callback.
  session.Rewind(0);
  size_t calls = 0;
  EXPECT_EQ(session.Generate(prompt, 200, [&](std::string_view) { return ++calls < 3; }), 3u);
}

TEST_F(Wrapper, ReusesSavesAndRestores) {
  const std::vector<int32_t> lights = model_->Tokenize("turn on the kitchen lights\n");
  const std::vector<int32_t> other = model_->Tokenize("turn on the radio\n");
  hob::Session session(*model_, {.threads = threads_.get()});
  session.Eval(lights);
  EXPECT_EQ(session.Describe().position, lights.size());
  const std::vector<uint8_t> saved = session.SaveMemory();
  const std::string answer =
      Generate(session, std::span(lights).subspan(session.Reuse(lights)), 200);

  const size_t kept = session.Reuse(other);
  EXPECT_GE(kept, 1u);
  EXPECT_LT(kept, other.size());
  EXPECT_EQ(session.Position(), kept);

  hob::Session restored(*model_);
  restored.RestoreMemory(saved);
  EXPECT_EQ(restored.Position(), lights.size());
  EXPECT_EQ(Generate(restored, std::span(lights).subspan(restored.Reuse(lights)), 200), answer);

  const std::string path = testing::TempDir() + "hob_hpp_test_session";
  session.Rewind(0);
  session.Eval(lights);
  session.Save(path);
  restored.Restore(path);
  EXPECT_EQ(restored.SaveMemory(), saved);
  std::remove(path.c_str());
  EXPECT_THROW(restored.Restore(path), hob::StatusError);
}

TEST_F(Wrapper, TokenizesBackAndForth) {
  const hob::Model moved = std::move(*model_);
  std::string text;
  for (int32_t token : moved.Tokenize("set a timer", HOB_TOKENIZE_NO_BOS)) {
    text += moved.TokenText(token);
  }
  EXPECT_NE(text.find("timer"), std::string::npos) << text;
  const hob_model_info info = moved.Describe();
  EXPECT_TRUE(info.eos < 0 || moved.IsEnd(info.eos));
}

TEST(WrapperErrors, ThrowWithStatusAndMessage) {
  try {
    hob::Model::Load("/no/such/model.gguf");
    FAIL();
  } catch (const hob::StatusError& error) {
    EXPECT_EQ(error.status(), HOB_ERROR_IO);
    EXPECT_NE(std::string(error.what()).find("/no/such/model.gguf"), std::string::npos)
        << error.what();
  }
}

}  // namespace
