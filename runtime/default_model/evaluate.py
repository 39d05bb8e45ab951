#!/usr/bin/env python3
"""Exact-match evaluation of the default model.

    python3 runtime/default_model/evaluate.py --data runtime/default_model/test.tsv
    python3 runtime/default_model/evaluate.py --int8 --data ...     (as hob computes)
    python3 runtime/default_model/evaluate.py --checkpoint DIR/checkpoint.pt --data ...
    python3 runtime/default_model/evaluate.py "wake me at half past six"

A GGUF is read back from the file itself, so the scores are those of the
shipped bytes.  --int8 also rounds activations to 8 bits in blocks of 32.
"""

import argparse
import collections
import json
import os

import blas  # noqa: F401  (before PyTorch)
import torch

from export_gguf import read_gguf
from network import Config, Network, plain_linear
from tokenizer import Tokenizer

HERE = os.path.dirname(os.path.abspath(__file__))


def load_gguf(path):
    meta, tensors = read_gguf(path)
    key = lambda name: meta["llama." + name]  # noqa: E731
    config = Config(
        vocabulary=key("vocab_size"), width=key("embedding_length"), layers=key("block_count"),
        heads=key("attention.head_count"), kv_heads=key("attention.head_count_kv"),
        head_width=key("rope.dimension_count"), feed_forward=key("feed_forward_length"),
        context=key("context_length"), epsilon=key("attention.layer_norm_rms_epsilon"),
        rope_base=key("rope.freq_base"))
    network = Network(config)
    weights = {name.replace("blk.", "blocks."): torch.tensor(value) for name, value in tensors.items()}
    network.load_state_dict(weights)
    merges = [tuple(merge.split(" ")) for merge in meta["tokenizer.ggml.merges"]]
    return network, Tokenizer(meta["tokenizer.ggml.tokens"], merges)


def load_checkpoint(path):
    state = torch.load(path)
    network = Network(Config(**state["config"]))
    network.load_state_dict(state["weights"])
    return network, Tokenizer.from_dict(state["tokenizer"])


def int8_linear(layer, x):
    """Matrix product with activations rounded to int8 in blocks of 32."""
    blocks = x.reshape(*x.shape[:-1], -1, 32)
    scale = blocks.abs().amax(-1, keepdim=True) / 127
    rounded = torch.round(blocks / scale.clamp(min=1e-30))  # ties to even
    return plain_linear(layer, (rounded * scale).reshape(x.shape))


@torch.no_grad()
def answer_group(network, tokenizer, prompts, linear, limit=96):
    """Greedy answers for prompts of one length (so no padding is needed)."""
    ids = torch.tensor(prompts)
    past = [[] for _ in network.blocks]
    position, done = 0, torch.zeros(len(prompts), dtype=torch.bool)
    answers = [[] for _ in prompts]
    for _ in range(limit):
        hidden = network.hidden(ids, linear, past, position)[:, -1]
        position += ids.shape[1]
        chosen = network.logits(hidden, linear).argmax(-1)
        done |= chosen == tokenizer.eos
        if done.all():
            break
        for row, token in enumerate(chosen.tolist()):
            if not done[row]:
                answers[row].append(token)
        ids = chosen[:, None]
    return [tokenizer.decode(answer) for answer in answers]


def answer_all(network, tokenizer, requests, linear):
    groups = collections.defaultdict(list)
    for index, request in enumerate(requests):
        prompt = [tokenizer.bos] + tokenizer.encode(request + "\n")
        groups[len(prompt)].append((index, prompt))
    answers = [None] * len(requests)
    for group in groups.values():
        texts = answer_group(network, tokenizer, [prompt for _, prompt in group], linear)
        for (index, _), text in zip(group, texts):
            answers[index] = text
    return answers


def read_pairs(path):
    with open(path, encoding="utf-8") as lines:
        return [line.rstrip("\n").split("\t") for line in lines if line.strip()]


def report(pairs, answers, show_errors=0):
    """Prints exact match per intent; returns (in scope, escalation) shares."""
    right, total = collections.Counter(), collections.Counter()
    shown = 0
    for (request, expected), answer in zip(pairs, answers):
        intent = json.loads(expected)["intent"]
        total[intent] += 1
        right[intent] += answer == expected
        if answer != expected and shown < show_errors:
            shown += 1
            print(f"  {request}\n    want {expected}\n    got  {answer}")
    for intent in sorted(total):
        print(f"{intent:18s} {right[intent]:4d} / {total[intent]:4d}  {right[intent] / total[intent]:6.1%}")
    inside = [i for i in total if i != "escalate"]
    hits, count = sum(right[i] for i in inside), sum(total[i] for i in inside)
    if count:
        print(f"{'in scope':18s} {hits:4d} / {count:4d}  {hits / count:6.1%}")
    false_alarms = sum(1 for (_, expected), answer in zip(pairs, answers)
                       if "escalate" not in expected and answer == '{"intent":"escalate"}')
    print(f"in-scope requests escalated: {false_alarms}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("requests", nargs="*")
    parser.add_argument("--data")
    parser.add_argument("--model", default=os.path.join(HERE, "hob-home.gguf"))
    parser.add_argument("--checkpoint", help="float checkpoint instead of the GGUF")
    parser.add_argument("--int8", action="store_true")
    parser.add_argument("--errors", type=int, default=0, help="show this many wrong answers")
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    network, tokenizer = load_checkpoint(args.checkpoint) if args.checkpoint else load_gguf(args.model)
    linear = int8_linear if args.int8 else plain_linear
    if args.requests:
        for request, answer in zip(args.requests, answer_all(network, tokenizer, args.requests, linear)):
            print(f"{request}\t{answer}")
    if args.data:
        pairs = read_pairs(args.data)
        report(pairs, answer_all(network, tokenizer, [r for r, _ in pairs], linear), args.errors)


if __name__ == "__main__":
    main()
