"""Byte-level BPE: training and encoding, standard library only.

Three choices serve a small model that must copy words it has never seen:

* No merge contains a digit, so every digit is its own token.
* Merges are learned inside words, without the space in front: a word is cut
  into the same pieces after a space and at the start of a JSON string, so
  copying is token by token.
* Only afterwards, frequent words get one more merge that joins the space.
"""

import collections
import functools
import re

# GPT-2's split pattern with the standard library's classes.
SPLIT = re.compile(r"'s|'t|'re|'ve|'m|'ll|'d| ?[^\W\d_]+| ?\d+| ?(?:[^\s\w]|_)+|\s+(?!\S)|\s+")


def byte_symbols():
    """GPT-2's printable stand-in for every byte."""
    kept = list(range(33, 127)) + list(range(161, 173)) + list(range(174, 256))
    table, extra = {}, 256
    for byte in range(256):
        if byte in kept:
            table[byte] = chr(byte)
        else:
            table[byte] = chr(extra)
            extra += 1
    return table


SYMBOLS = byte_symbols()
SPACE = SYMBOLS[32]
BOS, EOS = "<|begin|>", "<|end|>"


class Tokenizer:
    def __init__(self, tokens, merges):
        self.tokens, self.merges = tokens, merges
        self.ids = {token: i for i, token in enumerate(tokens)}
        self.ranks = {tuple(pair): rank for rank, pair in enumerate(merges)}
        self.bos, self.eos = self.ids[BOS], self.ids[EOS]
        self.bytes = {symbol: byte for byte, symbol in SYMBOLS.items()}
        self.encode_word = functools.lru_cache(maxsize=200000)(self.merge_word)

    def to_dict(self):
        return {"tokens": self.tokens, "merges": [list(pair) for pair in self.merges]}

    @staticmethod
    def from_dict(data):
        return Tokenizer(data["tokens"], [tuple(pair) for pair in data["merges"]])

    def merge_word(self, word):
        pieces = [SYMBOLS[byte] for byte in word.encode("utf-8")]
        while len(pieces) > 1:
            ranked = [(self.ranks.get(pair, 1 << 30), i) for i, pair in enumerate(zip(pieces, pieces[1:]))]
            rank, i = min(ranked)
            if rank == 1 << 30:
                break
            pieces[i:i + 2] = [pieces[i] + pieces[i + 1]]
        return tuple(self.ids[piece] for piece in pieces)

    def encode(self, text):
        ids = []
        for word in SPLIT.findall(text):
            ids.extend(self.encode_word(word))
        return ids

    def decode(self, ids):
        text = "".join(self.tokens[i] for i in ids if i not in (self.bos, self.eos))
        return bytes(self.bytes[symbol] for symbol in text).decode("utf-8", "replace")


def count_words(pairs):
    """How often each pre-token occurs, and how often with a space in front."""
    words, spaced = collections.Counter(), collections.Counter()
    for request, answer in pairs:
        for text in (request + "\n", answer):
            for word in SPLIT.findall(text):
                bare = word[1:] if word[0] == " " and len(word) > 1 else word
                if any(c.isdigit() for c in bare):
                    continue
                words[bare] += 1
                if bare is not word:
                    spaced[bare] += 1
    return words, spaced


def learn_merges(words, count):
    """Plain BPE over word counts; recounting is cheap at this size."""
    split = {word: [SYMBOLS[b] for b in word.encode("utf-8")] for word in words if len(word) > 1}
    merges = []
    while len(merges) < count:
        pairs = collections.Counter()
        for word, pieces in split.items():
            for pair in zip(pieces, pieces[1:]):
                pairs[pair] += words[word]
        # Ties are broken by the pair itself so that the result is stable.
        best = max(pairs, key=lambda pair: (pairs[pair], pair))
        merges.append(best)
        for pieces in split.values():
            i = 0
            while i + 1 < len(pieces):
                if (pieces[i], pieces[i + 1]) == best:
                    pieces[i:i + 2] = [best[0] + best[1]]
                i += 1
    return merges, split


def train_tokenizer(pairs, size):
    words, spaced = count_words(pairs)
    kept = collections.Counter({w: n for w, n in words.items() if n > 2})
    budget = size - 256 - 2
    with_space = budget // 4
    merges, split = learn_merges(kept, budget - with_space)
    whole = {pieces[0]: spaced[word] for word, pieces in split.items() if len(pieces) == 1}
    whole.update({SYMBOLS[ord(w)]: n for w, n in spaced.items() if len(w) == 1 and ord(w) < 128})
    frequent = sorted(whole, key=lambda token: (-whole[token], token))[:with_space]
    merges += [(SPACE, token) for token in frequent]
    tokens = [SYMBOLS[b] for b in range(256)] + [a + b for a, b in merges] + [BOS, EOS]
    return Tokenizer(tokens, merges)
