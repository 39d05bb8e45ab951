// Attention on every target against the reference, bit for bit: head sizes, grouped heads,
// positions on both sides of every tile and chunk border, all cache types, windows, soft caps, any
// division of the work; and the reference against double precision.
#include "kernels/attention.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>
#include <string>
#include <vector>

#include "kernels/reference.h"
#include "tests/kernel_test_util.h"

namespace hob {
namespace {

using test::Data;
using test::Filled;
using test::PageBuffer;
using test::Random;
using test::RunKernel;
using test::SameRow;

constexpr hob_cache_type kTypes[] = {HOB_CACHE_F32, HOB_CACHE_BF16, HOB_CACHE_Q8_0};

const char* Name(hob_cache_type type) {
  constexpr const char* kNames[] = {"f32", "bf16", "q8_0"};
  return kNames[type];
}

struct Shape {
  hob_cache_type type;
  size_t head_dim, n_kv_heads, group, pos, m;
  AttentionOptions options = {};

  size_t n_heads() const { return n_kv_heads * group; }
  size_t tokens() const { return pos + m; }
  size_t kv_width() const { return n_kv_heads * head_dim; }
  size_t q_width() const { return n_heads() * head_dim; }
  std::string Text() const {
    return std::string(Name(type)) + " head_dim " + std::to_string(head_dim) + " kv heads " +
           std::to_string(n_kv_heads) + " group " + std::to_string(group) + " pos " +
           std::to_string(pos) + " m " + std::to_string(m) + " window " +
           std::to_string(options.window) + " softcap " + std::to_string(options.softcap) +
           (options.bidirectional ? " bidirectional" : "");
  }
};

// Heads as a q8_0 cache makes attention see them.
std::vector<float> ThroughQ8(std::vector<float> x, size_t head_dim) {
  for (size_t at = 0; at < x.size(); at += head_dim) {
    reference::ThroughQ8(x.data() + at, head_dim, x.data() + at);
  }
  return x;
}

// Queries, keys and values, and the outputs by the reference.
struct Problem {
  Shape shape;
  float scale;
  std::vector<float> q, k, v;

  Problem(const Shape& s, Data data, Random& random)
      : shape(s),
        scale(1.0f / std::sqrt(static_cast<float>(s.head_dim))),
        q(Filled(data, random, s.m * s.q_width())),
        k(Filled(data, random, s.tokens() * s.kv_width())),
        v(Filled(data, random, s.tokens() * s.kv_width())) {}

  std::vector<float> Reference() const {
    std::vector<float> out(q.size());
    reference::Attention(shape.type, q.data(), k.data(), v.data(), shape.m, shape.n_heads(),
                         shape.n_kv_heads, shape.head_dim, shape.pos, scale, out.data(),
                         shape.options);
    return out;
  }
};

// A cache in buffers that end at inaccessible pages. It starts as garbage (NaN patterns): what was
// never appended must not be seen. Segments, if there are any, have a gap between their heads.
class Cache {
 public:
  Cache(const Shape& s, size_t capacity, size_t segment = 0)
      : head_bytes_(segment == 0 ? 0 : CachePrefixBytes(s.type, s.head_dim, segment) + kGap),
        segment_bytes_(s.n_kv_heads * head_bytes_),
        bytes_(segment == 0 ? CacheBytes(s.type, s.n_kv_heads, s.head_dim, capacity)
                            : (capacity + segment - 1) / segment * segment_bytes_ - kGap),
        keys_(bytes_, 64),
        values_(bytes_, 64),
        view_{s.type,         s.n_kv_heads, s.head_dim,     capacity,   keys_.data(),
              values_.data(), segment,      segment_bytes_, head_bytes_} {
    std::memset(keys_.data(), 0xff, bytes_);
    std::memset(values_.data(), 0xff, bytes_);
  }

  const CacheView& view() const { return view_; }

  // The keys of the first tokens of KV head `head`, then their values.
  std::vector<uint8_t> Bytes(size_t head, size_t tokens) const {
    const size_t count = CachePrefixBytes(view_.type, view_.head_dim, tokens);
    std::vector<uint8_t> bytes;
    for (const uint8_t* half : {keys_.data(), values_.data()}) {
      const uint8_t* begin = half + head * (bytes_ / view_.n_kv_heads);
      bytes.insert(bytes.end(), begin, begin + count);
    }
    return bytes;
  }

  // Appends tokens [begin, end) of the problem, its rows kept `extra` floats further apart.
  void Append(const AttentionKernels& kernels, const Problem& p, size_t begin, size_t end,
              size_t extra = 0) {
    const size_t width = p.shape.kv_width(), stride = width + extra, m = end - begin;
    PageBuffer<float> k((m - 1) * stride + width), v((m - 1) * stride + width);
    for (size_t i = 0; i < m; ++i) {
      std::copy_n(p.k.data() + (begin + i) * width, width, k.data() + i * stride);
      std::copy_n(p.v.data() + (begin + i) * width, width, v.data() + i * stride);
    }
    RunKernel([&] { kernels.append(view_, begin, m, k.data(), v.data(), stride); });
  }

 private:
  static constexpr size_t kGap = 192;

  size_t head_bytes_, segment_bytes_, bytes_;
  PageBuffer<uint8_t> keys_, values_;
  CacheView view_;
};

AttentionTask Task(const Problem& p, const Cache& cache, float* out) {
  return {cache.view(), p.shape.m, p.shape.n_heads(), p.shape.pos, p.scale,
          p.q.data(),   out,       p.shape.options};
}

// A workspace as bad as memory can be: every call gets NaN patterns.
class Workspace {
 public:
  explicit Workspace(size_t head_dim) : buffer_(AttentionWorkspace(head_dim), 64) {}
  void* Fresh() {
    std::memset(buffer_.data(), 0xff, buffer_.size());
    return buffer_.data();
  }

 private:
  PageBuffer<uint8_t> buffer_;
};

// All rows of all KV heads against ranges of `step` chunks, then merged.
void AttendInParts(const AttentionKernels& kernels, const AttentionTask& task, size_t step) {
  const size_t rows = task.m * task.group(), chunks = PartialLayout(task).chunks;
  const size_t bytes = AttentionPartialBytes(task.cache, rows, task.tokens());
  PageBuffer<uint8_t> buffer(bytes, 64);
  std::memset(buffer.data(), 0xff, bytes);
  auto* const partials = reinterpret_cast<float*>(buffer.data());
  Workspace workspace(task.cache.head_dim);
  for (size_t head = 0; head < task.cache.n_kv_heads; ++head) {
    // The last first: any order will do.
    for (size_t end = chunks; end > 0;) {
      const size_t begin = end > step ? end - step : 0;
      void* memory = workspace.Fresh();
      RunKernel([&] { kernels.attend_chunks(task, head, begin, end, memory, partials); });
      end = begin;
    }
    RunKernel([&] { kernels.merge_chunks(task, head, partials); });
  }
}

// All rows of all KV heads, `block` rows at a time.
void Attend(const AttentionKernels& kernels, const AttentionTask& task, size_t block = kRowBlock) {
  const size_t group = task.n_heads / task.cache.n_kv_heads, rows = task.m * group;
  Workspace workspace(task.cache.head_dim);
  for (size_t head = 0; head < task.cache.n_kv_heads; ++head) {
    for (size_t row = 0; row < rows; row += block) {
      void* memory = workspace.Fresh();
      RunKernel([&] { kernels.attend(task, head, row, std::min(row + block, rows), memory); });
    }
  }
}

class AttentionTest : public test::TargetTest {
 protected:
  const AttentionKernels& kernels() const { return AttentionFor(GetParam()); }

  void ExpectReference(const Problem& p, const std::vector<float>& want) {
    SCOPED_TRACE(p.shape.Text());
    Cache cache(p.shape, p.shape.tokens());
    cache.Append(kernels(), p, 0, p.shape.tokens());
    PageBuffer<float> out(p.q.size());
    Attend(kernels(), Task(p, cache, out.data()));
    EXPECT_TRUE(SameRow(out.data(), want.data(), want.size()));
    EXPECT_TRUE(out.FrontIntact());
  }
  void ExpectReference(const Shape& shape, Data data, Random& random) {
    const Problem p(shape, data, random);
    ExpectReference(p, p.Reference());
  }
};
INSTANTIATE_TEST_SUITE_P(Targets, AttentionTest, test::EveryTarget(), test::TargetParamName);

constexpr size_t kHeadDims[] = {1, 2, 8, 16, 33, 40, 64, 80, 96, 128};
constexpr size_t kPositions[] = {0, 1, 15, 16, 63, 64, 255, 256, 300};
constexpr size_t kQueries[] = {1, 2, 5, 17, 70};

TEST_P(AttentionTest, HeadShapesMatchTheReference) {
  Random random(401);
  for (hob_cache_type type : kTypes) {
    for (size_t head_dim : kHeadDims) {
      for (size_t group = 1; group <= 4; ++group) {
        if (test::Quick() && (head_dim > 64 || group != 1 + head_dim % 4)) continue;
        const size_t pos = kPositions[random.Below(test::Quick() ? 6 : 9)];
        const size_t m = kQueries[random.Below(4)];
        ExpectReference({type, head_dim, 1 + random.Below(3), group, pos, m}, Data::kNormal,
                        random);
      }
    }
  }
}

TEST_P(AttentionTest, PositionsMatchTheReference) {
  Random random(402);
  for (hob_cache_type type : kTypes) {
    for (size_t pos : kPositions) {
      for (size_t m : kQueries) {
        if (test::Quick() && (m > 5 || pos % 16 == 0)) continue;
        ExpectReference({type, 16, 1, 3, pos, m}, Data::kNormal, random);
      }
    }
  }
}

TEST_P(AttentionTest, LongContextsMatchTheReference) {
  if (test::Quick()) GTEST_SKIP();
  Random random(403);
  for (hob_cache_type type : kTypes) {
    ExpectReference({type, 8, 1, 1, 2047, 3}, Data::kNormal, random);
    ExpectReference({type, 12, 2, 2, 500, 600}, Data::kNormal, random);
  }
}

// Rows so few that several chunks go through the steps together: one more or less than as many.
TEST_P(AttentionTest, FewRowsMatchTheReference) {
  Random random(421);
  for (hob_cache_type type : kTypes) {
    for (size_t rows : {1, 2, 6, 7, 8, 9, 12, 13, 16, 17}) {
      if (test::Quick() && rows % 6 != 1) continue;
      const size_t group = rows % 3 == 0 ? 3 : 1, window = 300 + random.Below(900);
      const size_t pos = test::Quick() ? 600 : 1000 + random.Below(900), dim = 8 + random.Below(90);
      ExpectReference({type, dim, 1, group, pos, rows / group}, Data::kNormal, random);
      ExpectReference({type, 8, 2, group, pos, rows / group, {.window = window}}, Data::kNormal,
                      random);
    }
  }
}

// Wherever a cache is divided into segments, whole or in parts, by few rows or many.
TEST_P(AttentionTest, SegmentsChangeNothing) {
  Random random(422);
  for (hob_cache_type type : kTypes) {
    for (size_t segment : {64, 128, 320, 512}) {
      for (size_t m : {1, 9, 49}) {
        if (test::Quick() ? m == 49 || segment > 128 : m == 49 && segment != 128) continue;
        const size_t pos = segment + random.Below(400), dim = 8 + random.Below(90);
        const Problem p({type, dim, 2, 2, pos, m}, Data::kNormal, random);
        const std::vector<float> want = p.Reference();
        SCOPED_TRACE(p.shape.Text() + ", segments of " + std::to_string(segment));
        Cache cache(p.shape, p.shape.tokens(), segment);
        for (size_t begin = 0; begin < p.shape.tokens();) {
          const size_t end = std::min(p.shape.tokens(), begin + 1 + random.Below(150));
          cache.Append(kernels(), p, begin, end);
          begin = end;
        }
        std::vector<float> out(p.q.size());
        Attend(kernels(), Task(p, cache, out.data()));
        EXPECT_TRUE(SameRow(out.data(), want.data(), want.size()));
        if (m * p.shape.group > kSplitRows) continue;
        std::fill(out.begin(), out.end(), test::kNan);
        AttendInParts(kernels(), Task(p, cache, out.data()), 1 + random.Below(3));
        EXPECT_TRUE(SameRow(out.data(), want.data(), want.size()));
      }
    }
  }
}

TEST_P(AttentionTest, AwkwardDataMatchesTheReference) {
  Random random(404);
  for (hob_cache_type type : kTypes) {
    for (Data data : test::kAllData) {
      SCOPED_TRACE(test::Name(data));
      ExpectReference({type, 16, 2, 2, 60, 9}, data, random);
      ExpectReference({type, 33, 1, 1, 255, 3}, data, random);
      ExpectReference({type, 5, 1, 3, 0, 20}, data, random);
    }
  }
}

// Scores far apart: weights below the cut-off, rescaling between chunks.
TEST_P(AttentionTest, LargeScoresMatchTheReference) {
  Random random(405);
  for (hob_cache_type type : kTypes) {
    for (float factor : {3.0f, 20.0f, 1e4f, 1e18f}) {
      if (test::Quick() && factor != 20.0f) continue;
      Problem p({type, 16, 1, 2, 250, 12}, Data::kNormal, random);
      for (float& x : p.q) x *= factor;
      ExpectReference(p, p.Reference());
      // The largest score last, so that everything before is rescaled.
      for (size_t t = 0; t < p.shape.tokens(); ++t) {
        for (size_t d = 0; d < 16; ++d) {
          p.k[t * 16 + d] = 0.01f * static_cast<float>(t) * (d % 2 == 0 ? 1.0f : -0.5f);
        }
      }
      ExpectReference(p, p.Reference());
    }
  }
}

// A bad key or value at one token, in each of the places that tiles and chunks treat apart.
TEST_P(AttentionTest, OneBadTokenMatchesTheReference) {
  Random random(406);
  for (hob_cache_type type : kTypes) {
    for (float bad : {test::kNan, test::kInf, -test::kInf}) {
      for (size_t token : {0, 1, 63, 64, 130, 255, 256, 290, 299}) {
        if (test::Quick() && token != 63 && token != 255) continue;
        const Shape shape{type, 8, 1, 2, 290, 10};
        Problem keys(shape, Data::kNormal, random);
        keys.k[token * 8 + random.Below(8)] = bad;
        ExpectReference(keys, keys.Reference());
        Problem values(shape, Data::kNormal, random);
        values.v[token * 8 + random.Below(8)] = bad;
        ExpectReference(values, values.Reference());
      }
    }
  }
}

// A query must not see, not even multiplied by zero, the tokens after it.
TEST_P(AttentionTest, TheFutureIsInvisible) {
  Random random(407);
  for (hob_cache_type type : kTypes) {
    Problem p({type, 16, 1, 1, 250, 12}, Data::kNormal, random);
    const std::vector<float> want = p.Reference();
    for (size_t at = 4; at < 12; at += 3) {
      Problem poisoned = p;
      for (size_t i = (250 + at + 1) * 16; i < poisoned.k.size(); ++i) {
        poisoned.k[i] = poisoned.v[i] = test::kNan;
      }
      Cache cache(p.shape, p.shape.tokens() + 100);
      cache.Append(kernels(), poisoned, 0, p.shape.tokens());
      std::vector<float> out(p.q.size());
      Attend(kernels(), Task(poisoned, cache, out.data()));
      EXPECT_TRUE(SameRow(out.data(), want.data(), (at + 1) * 16)) << p.shape.Text();
    }
  }
}

TEST_P(AttentionTest, AppendingInPiecesIsAppendingAtOnce) {
  Random random(408);
  for (hob_cache_type type : kTypes) {
    for (size_t head_dim : {3, 16, 40}) {
      if (test::Quick() && head_dim != 3) continue;
      const Problem p({type, head_dim, 2, 2, 90, 7}, Data::kNormal, random);
      const std::vector<float> want = p.Reference();
      for (size_t most : {1, 2, 3, 20, 64}) {
        SCOPED_TRACE(p.shape.Text() + ", pieces of up to " + std::to_string(most));
        Cache cache(p.shape, 200);
        for (size_t begin = 0; begin < p.shape.tokens();) {
          const size_t end = std::min(p.shape.tokens(), begin + 1 + random.Below(most));
          cache.Append(kernels(), p, begin, end, random.Below(4));
          begin = end;
        }
        std::vector<float> out(p.q.size());
        Attend(kernels(), Task(p, cache, out.data()));
        EXPECT_TRUE(SameRow(out.data(), want.data(), want.size()));
      }
    }
  }
}

// Whatever was there before, however the tokens came, on every target: the scalar one's bytes.
TEST_P(AttentionTest, CachedBytesDependOnTheTokensAlone) {
  Random random(419);
  for (hob_cache_type type : kTypes) {
    for (size_t head_dim : {3, 8, 33, 40, 80, 96, 272}) {
      for (Data data : {Data::kNormal, Data::kSpecials}) {
        // The last tokens are zeros, up to the end of a tile.
        Problem p({type, head_dim, 2, 1, 56, 8}, data, random);
        std::fill(p.k.begin() + 41 * p.shape.kv_width(), p.k.end(), 0.0f);
        std::fill(p.v.begin() + 41 * p.shape.kv_width(), p.v.end(), 0.0f);
        SCOPED_TRACE(p.shape.Text());
        Cache want(p.shape, 64), cache(p.shape, 130);
        want.Append(AttentionFor(kScalar), p, 0, 64);
        cache.Append(kernels(), Problem(p.shape, Data::kSpecials, random), 0, 64);
        for (size_t begin = 0; begin < 64;) {
          const size_t end = std::min<size_t>(64, begin + 1 + random.Below(9));
          cache.Append(kernels(), p, begin, end, random.Below(4));
          begin = end;
        }
        for (size_t head : {0, 1}) EXPECT_EQ(cache.Bytes(head, 41), want.Bytes(head, 41));
      }
    }
  }
}

// A q8_0 cache is a bf16 cache that was given what the codes mean.
TEST_P(AttentionTest, Q8IsBF16OfWhatItHolds) {
  Random random(420);
  for (size_t head_dim : {1, 8, 31, 40, 64, 80, 96, 130}) {
    for (Data data : test::kAllData) {
      // Scales that are subnormal, and products that overflow in bf16.
      for (float factor : {1.0f, 4e-37f, 1e38f}) {
        if (test::Quick() && (head_dim > 64 || (factor != 1.0f && data != Data::kNormal))) continue;
        Problem p({HOB_CACHE_Q8_0, head_dim, 2, 2, 70, 3, {.window = 66}}, data, random);
        for (float& x : p.k) x *= factor;
        for (float& x : p.v) x *= factor;
        SCOPED_TRACE(p.shape.Text() + " " + test::Name(data) + " times " + std::to_string(factor));
        Problem held = p;
        held.shape.type = HOB_CACHE_BF16;
        held.k = ThroughQ8(p.k, head_dim);
        held.v = ThroughQ8(p.v, head_dim);
        ExpectReference(p, held.Reference());

        Cache cache(p.shape, p.shape.tokens());
        cache.Append(kernels(), p, 0, p.shape.tokens());
        std::vector<float> k, v;
        for (size_t t = 0; t < p.shape.tokens(); ++t) {
          for (size_t i = 0; i < p.shape.kv_width(); ++i) {
            k.push_back(CachedKey(cache.view(), i / head_dim, t, i % head_dim));
            v.push_back(CachedValue(cache.view(), i / head_dim, t, i % head_dim));
          }
        }
        EXPECT_TRUE(SameRow(k.data(), held.k.data(), k.size()));
        EXPECT_TRUE(SameRow(v.data(), held.v.data(), v.size()));
      }
    }
  }
}

// A conversation that is rewound writes over tokens.
TEST_P(AttentionTest, AppendingAgainReplacesTokens) {
  Random random(409);
  for (hob_cache_type type : kTypes) {
    const Problem p({type, 16, 2, 1, 70, 5}, Data::kNormal, random);
    const Problem other({type, 16, 2, 1, 120, 5}, Data::kSpecials, random);
    Cache cache(p.shape, 128);
    cache.Append(kernels(), other, 0, 125);
    cache.Append(kernels(), p, 0, 75);
    std::vector<float> out(p.q.size());
    Attend(kernels(), Task(p, cache, out.data()));
    EXPECT_TRUE(SameRow(out.data(), p.Reference().data(), out.size()));
  }
}

// All queries at once = one query at a time, as the tokens arrive = any blocks of rows.
TEST_P(AttentionTest, AnyDivisionOfTheWork) {
  Random random(410);
  for (hob_cache_type type : kTypes) {
    for (size_t pos : {0, 61, 250}) {
      if (test::Quick() && pos != 61) continue;
      const Problem p({type, 16, 2, 3, pos, 17}, Data::kNormal, random);
      const std::vector<float> want = p.Reference();
      SCOPED_TRACE(p.shape.Text());
      Cache cache(p.shape, p.shape.tokens());
      if (pos > 0) cache.Append(kernels(), p, 0, pos);
      std::vector<float> out(p.q.size());
      for (size_t i = 0; i < p.shape.m; ++i) {
        cache.Append(kernels(), p, pos + i, pos + i + 1);
        AttentionTask task = Task(p, cache, out.data() + i * p.shape.q_width());
        task.m = 1;
        task.pos = pos + i;
        task.q += i * p.shape.q_width();
        Attend(kernels(), task);
      }
      EXPECT_TRUE(SameRow(out.data(), want.data(), want.size())) << "one query at a time";
      for (size_t block : {1, 2, 5, 7, 31}) {
        std::fill(out.begin(), out.end(), test::kNan);
        Attend(kernels(), Task(p, cache, out.data()), block);
        EXPECT_TRUE(SameRow(out.data(), want.data(), want.size())) << "blocks of " << block;
      }
    }
  }
}

// However many take part, in whatever order they do their units.
TEST_P(AttentionTest, UnitsInAnyOrder) {
  Random random(411);
  const test::UseTarget active(GetParam());
  for (hob_cache_type type : kTypes) {
    for (const Shape& shape : {Shape{type, 33, 3, 3, 130, 40}, Shape{type, 20, 2, 3, 900, 2},
                               Shape{type, 16, 3, 1, 600, 9, {.window = 270}}}) {
      if (test::Quick() && shape.m == 40) continue;
      const Problem p(shape, Data::kNormal, random);
      const std::vector<float> want = p.Reference();
      Cache cache(p.shape, 1000);
      cache.Append(Attention(), p, 0, p.shape.tokens());
      for (size_t participants : {1, 2, 3, 64}) {
        SCOPED_TRACE(p.shape.Text() + ", participants " + std::to_string(participants));
        std::vector<float> out(p.q.size(), test::kNan);
        const AttentionTask task = Task(p, cache, out.data());
        const AttentionDivision division = DivideAttention(task, participants);
        const size_t rows = task.m * task.group();
        EXPECT_GE(division.row_block * division.row_blocks, rows);
        EXPECT_EQ(division.parts > 1, participants > 1 && rows <= kSplitRows);
        const size_t bytes = AttentionPartialBytes(cache.view(), rows, task.tokens());
        PageBuffer<uint8_t> partials(division.parts > 1 ? bytes : 0, 64);
        auto* const shared = reinterpret_cast<float*>(partials.data());
        std::vector<size_t> units(division.units);
        std::iota(units.begin(), units.end(), size_t{0});
        for (size_t i = units.size(); i > 1; --i) std::swap(units[i - 1], units[random.Below(i)]);
        Workspace workspace(p.shape.head_dim);
        for (size_t unit : units) {
          void* memory = workspace.Fresh();
          RunKernel([&] { AttentionUnit(task, division, unit, memory, shared); });
        }
        for (size_t head = 0; division.parts > 1 && head < p.shape.n_kv_heads; ++head) {
          AttentionMerge(task, head, shared);
        }
        EXPECT_TRUE(SameRow(out.data(), want.data(), want.size()));
      }
    }
  }
}

TEST_P(AttentionTest, KeysInParts) {
  Random random(414);
  for (hob_cache_type type : kTypes) {
    for (const Shape& shape :
         {Shape{type, 16, 2, 3, 700, 4}, Shape{type, 33, 1, 1, 1023, 2}, Shape{type, 8, 1, 4, 0, 3},
          Shape{type, 16, 1, 2, 800, 5, {.window = 300, .softcap = 10.0f}},
          Shape{type, 16, 1, 2, 600, 5, {.bidirectional = true}}}) {
      if (test::Quick() && shape.pos > 700) continue;
      const Problem p(shape, Data::kNormal, random);
      const std::vector<float> want = p.Reference();
      Cache cache(p.shape, p.shape.tokens());
      cache.Append(kernels(), p, 0, p.shape.tokens());
      for (size_t step : {1, 2, 100}) {
        SCOPED_TRACE(p.shape.Text() + ", chunks at a time " + std::to_string(step));
        std::vector<float> out(p.q.size(), test::kNan);
        AttendInParts(kernels(), Task(p, cache, out.data()), step);
        EXPECT_TRUE(SameRow(out.data(), want.data(), want.size()));
      }
    }
  }
}

// ---------------------------------------------------------------- options

TEST_P(AttentionTest, WindowsMatchTheReference) {
  Random random(415);
  for (hob_cache_type type : kTypes) {
    for (size_t window : {1, 2, 3, 15, 16, 33, 63, 64, 65, 127, 256, 300, 1000}) {
      for (const Shape& shape : {Shape{type, 16, 1, 3, 250, 40}, Shape{type, 33, 2, 1, 300, 9},
                                 Shape{type, 8, 1, 2, 0, 100}, Shape{type, 64, 1, 4, 511, 1}}) {
        if (test::Quick() && (window + shape.m) % 3 != 0) continue;
        Shape s = shape;
        s.options.window = window;
        ExpectReference(s, Data::kNormal, random);
      }
    }
  }
}

// What has left the window must not be seen, not even multiplied by zero.
TEST_P(AttentionTest, ThePastBeyondTheWindowIsInvisible) {
  Random random(416);
  for (hob_cache_type type : kTypes) {
    for (size_t window : {1, 10, 63, 64, 70, 129}) {
      const Shape shape{type, 16, 1, 2, 300, 20, {.window = window}};
      const Problem p(shape, Data::kNormal, random);
      const std::vector<float> want = p.Reference();
      for (size_t row : {0, 1, 5, 19}) {
        Problem poisoned = p;
        std::fill_n(poisoned.k.begin(), (300 + row + 1 - window) * 16, test::kNan);
        std::fill_n(poisoned.v.begin(), (300 + row + 1 - window) * 16, test::kNan);
        Cache cache(shape, shape.tokens());
        cache.Append(kernels(), poisoned, 0, shape.tokens());
        std::vector<float> out(p.q.size());
        Attend(kernels(), Task(poisoned, cache, out.data()));
        const size_t at = row * shape.q_width();
        EXPECT_TRUE(SameRow(out.data() + at, want.data() + at, want.size() - at))
            << shape.Text() << " row " << row;
      }
    }
  }
}

TEST_P(AttentionTest, SoftCapsMatchTheReference) {
  Random random(417);
  for (hob_cache_type type : kTypes) {
    for (float softcap : {0.5f, 5.0f, 50.0f, 1e30f}) {
      for (float factor : {1.0f, 30.0f}) {
        Problem p({type, 16, 2, 2, 100, 30, {.softcap = softcap}}, Data::kNormal, random);
        for (float& x : p.q) x *= factor;
        ExpectReference(p, p.Reference());
      }
      ExpectReference({type, 40, 1, 1, 70, 3, {.softcap = softcap}}, Data::kSpecials, random);
      ExpectReference({type, 8, 1, 3, 300, 7, {.window = 77, .softcap = softcap}}, Data::kNormal,
                      random);
    }
  }
}

TEST_P(AttentionTest, BidirectionalMatchesTheReference) {
  Random random(418);
  for (hob_cache_type type : kTypes) {
    for (size_t m : {1, 2, 15, 64, 65, 129, 300}) {
      if (test::Quick() && m > 70) continue;
      for (size_t pos : {0, 7}) {
        ExpectReference({type, 24, 1, 2, pos, m, {.bidirectional = true}}, Data::kNormal, random);
      }
    }
    // Every row sees the last token.
    const Shape shape{type, 8, 1, 1, 0, 5, {.bidirectional = true}};
    Problem p(shape, Data::kNormal, random);
    p.v[4 * 8] = test::kNan;
    const std::vector<float> out = p.Reference();
    for (size_t i = 0; i < 5; ++i) EXPECT_TRUE(std::isnan(out[i * 8]));
  }
}

// ---------------------------------------------------------------- the reference, in doubles

// With `u` the relative rounding of a stored or rounded element (what q8_0 holds is taken as given)
// and e that of f32: a score is off
// by d = (2 u + (head_dim + 3) e) * sum of |q k| * scale, so a weight by the factor e^(2 d) at most
// (itself and the sum), and by its own rounding u, the exp and the chains of sums.
TEST(AttentionReferenceTest, AgainstDouble) {
  Random random(412);
  for (hob_cache_type type : kTypes) {
    const double u = type == HOB_CACHE_F32 ? 0 : 0x1p-8, e = 0x1p-24;
    for (const Shape& s : {Shape{type, 16, 2, 2, 300, 5}, Shape{type, 64, 1, 3, 63, 20},
                           Shape{type, 1, 1, 1, 0, 3}, Shape{type, 33, 1, 1, 600, 2}}) {
      Problem p(s, Data::kNormal, random);
      const std::vector<float> got = p.Reference();
      if (type == HOB_CACHE_Q8_0) {
        p.k = ThroughQ8(p.k, s.head_dim);
        p.v = ThroughQ8(p.v, s.head_dim);
      }
      for (size_t i = 0; i < s.m; ++i) {
        for (size_t h = 0; h < s.n_heads(); ++h) {
          const size_t seen = s.pos + i + 1, kv = h / s.group;
          const float* q = p.q.data() + i * s.q_width() + h * s.head_dim;
          std::vector<double> weight(seen);
          double worst = 0, max = -1e300, sum = 0, lowest = 1e300;
          for (size_t t = 0; t < seen; ++t) {
            const float* k = p.k.data() + t * s.kv_width() + kv * s.head_dim;
            double dot = 0, magnitude = 0;
            for (size_t d = 0; d < s.head_dim; ++d) {
              const double term = static_cast<double>(q[d]) * static_cast<double>(k[d]);
              dot += term;
              magnitude += std::abs(term);
            }
            const double scale = static_cast<double>(p.scale);
            weight[t] = dot * scale;
            max = std::max(max, weight[t]);
            lowest = std::min(lowest, weight[t]);
            const double head_dim = static_cast<double>(s.head_dim);
            worst = std::max(worst, (2 * u + u * u + (head_dim + 3) * e) * magnitude * scale);
          }
          for (double& w : weight) sum += w = std::exp(w - max);
          const double shift = (max - lowest + 1) * 2 * e;  // rounding of the differences
          const double relative =
              std::exp(2 * worst + 2 * shift) *
                  (1 + 2 * u + u * u + 2 * (static_cast<double>(seen) + 8) * e) -
              1;
          for (size_t d = 0; d < s.head_dim; ++d) {
            double want = 0, magnitude = 0;
            for (size_t t = 0; t < seen; ++t) {
              const double v = static_cast<double>(p.v[t * s.kv_width() + kv * s.head_dim + d]);
              want += weight[t] / sum * v;
              magnitude += weight[t] / sum * std::abs(v);
            }
            EXPECT_LE(
                std::abs(static_cast<double>(got[i * s.q_width() + h * s.head_dim + d]) - want),
                relative * magnitude)
                << s.Text() << ", query " << i << " head " << h << " element " << d;
          }
        }
      }
    }
  }
}

// One visible token: its value itself, whatever the scores.
TEST(AttentionReferenceTest, OneTokenIsItsValue) {
  Random random(413);
  for (hob_cache_type type : kTypes) {
    const Problem p({type, 8, 1, 2, 0, 1}, Data::kNormal, random);
    const std::vector<float> got = p.Reference(), held = ThroughQ8(p.v, 8);
    for (size_t h = 0; h < 2; ++h) {
      for (size_t d = 0; d < 8; ++d) {
        const float bf16 = reference::RoundToBF16(p.v[d]);
        EXPECT_EQ(got[h * 8 + d], type == HOB_CACHE_F32    ? p.v[d]
                                  : type == HOB_CACHE_BF16 ? bf16
                                                           : held[d]);
      }
    }
  }
}

}  // namespace
}  // namespace hob
