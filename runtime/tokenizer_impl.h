// What the kinds of tokenizers share and nobody else needs: their factories and byte pair merging.
#ifndef HOB_RUNTIME_TOKENIZER_IMPL_H_
#define HOB_RUNTIME_TOKENIZER_IMPL_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <queue>
#include <vector>

#include "runtime/tokenizer.h"

namespace hob {

std::unique_ptr<Tokenizer> CreateSpmTokenizer(const Gguf& file);
std::unique_ptr<Tokenizer> CreateBpeTokenizer(const Gguf& file);

// A stretch of text on its way to becoming a token.
struct Symbol {
  size_t begin;  // in the text
  size_t bytes;  // 0 once it has become part of its left neighbour
  int32_t id;    // -1 = no token
};

// What becomes of two neighbours.
struct Merge {
  float priority;  // smaller is first
  int32_t id;
};

// Merges neighbouring symbols, always the pair of the smallest priority and of these the leftmost,
// until `find(left, right)`, which gives a std::optional<Merge>, finds none; then removes the
// symbols that are gone. A heap of candidates makes it n log n: candidates are not removed when one
// of their symbols changes, but recognized by the length of what they would give when their turn
// comes.
template <typename Find>
void MergeSymbols(std::vector<Symbol>* symbols, const Find& find) {
  struct Candidate {
    Merge merge;
    size_t left, right;
    size_t bytes;
    bool operator<(const Candidate& other) const {  // the heap's top is the largest
      if (merge.priority != other.merge.priority) return merge.priority > other.merge.priority;
      return left > other.left;
    }
  };
  std::vector<Symbol>& list = *symbols;
  const size_t count = list.size();
  // Neighbours by index; count = none.
  std::vector<size_t> previous(count), next(count);
  std::priority_queue<Candidate> candidates;
  const auto consider = [&](size_t left, size_t right) {
    if (left == count || right == count) return;
    const std::optional<Merge> merge = find(list[left], list[right]);
    if (merge) candidates.push({*merge, left, right, list[left].bytes + list[right].bytes});
  };
  for (size_t i = 0; i < count; ++i) {
    previous[i] = i == 0 ? count : i - 1;
    next[i] = i + 1;
  }
  for (size_t i = 0; i + 1 < count; ++i) consider(i, i + 1);

  while (!candidates.empty()) {
    const Candidate best = candidates.top();
    candidates.pop();
    Symbol& left = list[best.left];
    Symbol& right = list[best.right];
    // Symbols only grow or vanish, so an equal length means that both are what they were.
    if (left.bytes == 0 || right.bytes == 0 || left.bytes + right.bytes != best.bytes) continue;
    left.bytes = best.bytes;
    left.id = best.merge.id;
    right.bytes = 0;
    next[best.left] = next[best.right];
    if (next[best.left] != count) previous[next[best.left]] = best.left;
    consider(previous[best.left], best.left);
    consider(best.left, next[best.left]);
  }
  std::erase_if(list, [](const Symbol& symbol) { return symbol.bytes == 0; });
}

}  // namespace hob

#endif  // HOB_RUNTIME_TOKENIZER_IMPL_H_
