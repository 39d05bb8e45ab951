#!/usr/bin/env python3
"""Trains the embedded default model: tokenizer, network, GGUF.

    python3 runtime/default_model/train.py --out DIR [--minutes 40]

Needs PyTorch and NumPy (Debian: python3-torch).  Writes into DIR:
checkpoint.pt (continue with --resume) and hob-home.gguf.
"""

import argparse
import math
import os
import random
import time

import blas  # noqa: F401  (before PyTorch)
import torch

import generate
from export_gguf import write_gguf
from network import Config, Network
from tokenizer import Tokenizer, train_tokenizer


def encode_example(tokenizer, request, answer):
    """Token ids and the position where the answer starts."""
    prompt = [tokenizer.bos] + tokenizer.encode(request + "\n")
    return prompt + tokenizer.encode(answer) + [tokenizer.eos], len(prompt)


def batches(tokenizer, seed, tokens_per_batch):
    """Endless batches of fresh examples, sorted by length in a small pool so
    that little padding is needed."""
    rng = random.Random(seed)
    stream = generate.examples("train", seed)
    while True:
        pool = [encode_example(tokenizer, *next(stream)) for _ in range(4096)]
        pool.sort(key=lambda example: len(example[0]))
        groups, group = [], []
        for example in pool:
            if group and (len(group) + 1) * len(example[0]) > tokens_per_batch:
                groups.append(group)
                group = []
            group.append(example)
        groups.append(group)
        rng.shuffle(groups)
        for group in groups:
            yield to_tensors(group)


def to_tensors(group):
    """Inputs, targets and loss weights; only the answer is learned."""
    width = max(len(ids) for ids, _ in group) - 1
    inputs = torch.zeros(len(group), width, dtype=torch.long)
    targets = torch.zeros(len(group), width, dtype=torch.long)
    weights = torch.zeros(len(group), width)
    for row, (ids, start) in enumerate(group):
        n = len(ids) - 1
        inputs[row, :n] = torch.tensor(ids[:-1])
        targets[row, :n] = torch.tensor(ids[1:])
        weights[row, start - 1:n] = 1.0
    return inputs, targets, weights


def learning_rate(progress, peak, warm_up=0.02):
    if progress < warm_up:
        return peak * progress / warm_up
    rest = min(1.0, (progress - warm_up) / (1 - warm_up))
    return peak * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * rest)))


def save(folder, network, tokenizer):
    path = os.path.join(folder, "checkpoint.pt")
    torch.save({"config": network.config.__dict__, "weights": network.state_dict(),
                "tokenizer": tokenizer.to_dict()}, path + ".part")
    os.replace(path + ".part", path)
    write_gguf(os.path.join(folder, "hob-home.gguf"), network, tokenizer)


def prepare(args):
    """A new network and tokenizer, or those of a checkpoint."""
    if args.resume:
        state = torch.load(args.resume)
        network = Network(Config(**state["config"]))
        network.load_state_dict(state["weights"])
        return network, Tokenizer.from_dict(state["tokenizer"])
    stream = generate.examples("train", "tokenizer")
    text = [next(stream) for _ in range(40000)]
    tokenizer = train_tokenizer(text, args.vocabulary)
    return Network(Config(vocabulary=len(tokenizer.tokens))), tokenizer


def make_optimizer(network, rate):
    matrices = [p for p in network.parameters() if p.dim() > 1]
    norms = [p for p in network.parameters() if p.dim() == 1]
    return torch.optim.AdamW([{"params": matrices, "weight_decay": 0.05},
                              {"params": norms, "weight_decay": 0.0}],
                             lr=rate, betas=(0.9, 0.98), foreach=True)


def work(worker, args, network, tokenizer, start):
    """One training process.  The workers share the weights and update them
    without waiting for each other: on a machine that is busy otherwise,
    waiting costs far more than gradients that are one step old."""
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    optimizer = make_optimizer(network, args.rate)
    data = batches(tokenizer, f"{args.seed}-{args.data_seed}-{worker}", args.batch_tokens)
    step = seen = examples = 0
    running, last_save = None, time.time()
    while True:
        # Time, not a step count, drives the schedule: the machine may be shared.
        elapsed = time.time() - start
        progress = elapsed / (60 * args.minutes)
        if progress >= 1:
            break
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(progress, args.rate)
        inputs, targets, weights = next(data)
        loss = network.loss(inputs, targets, weights)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        step += 1
        seen += inputs.numel()
        examples += inputs.shape[0]
        running = loss.item() if running is None else 0.98 * running + 0.02 * loss.item()
        if step % 100 == 0:
            print(f"worker {worker} step {step} {elapsed:.0f}s examples {examples} "
                  f"loss {running:.4f} {seen / (elapsed - 60 * args.elapsed):.0f} tokens/s", flush=True)
        if worker == 0 and time.time() - last_save > args.save_seconds:
            last_save = time.time()
            save(args.out, network, tokenizer)
    print(f"worker {worker} done: {step} steps, {examples} examples, {seen} tokens", flush=True)


def train(args):
    os.makedirs(args.out, exist_ok=True)
    torch.manual_seed(args.seed)
    torch.set_num_threads(1)  # no thread pool may exist before the fork
    network, tokenizer = prepare(args)
    network.share_memory()
    print(f"{sum(p.numel() for p in network.parameters())} parameters, "
          f"{len(tokenizer.tokens)} tokens", flush=True)
    start = time.time() - 60 * args.elapsed
    workers = [torch.multiprocessing.get_context("fork").Process(
        target=work, args=(i, args, network, tokenizer, start)) for i in range(args.workers)]
    for process in workers:
        process.start()
    for process in workers:
        process.join()
    save(args.out, network, tokenizer)
    print(f"trained for {time.time() - start:.0f} s")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", required=True)
    parser.add_argument("--minutes", type=float, default=40)
    parser.add_argument("--rate", type=float, default=2e-3)
    parser.add_argument("--vocabulary", type=int, default=896)
    parser.add_argument("--batch-tokens", type=int, default=1280)
    parser.add_argument("--workers", type=int, default=2, help="processes of one thread each")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--data-seed", default="a", help="another stream of training data")
    parser.add_argument("--save-seconds", type=int, default=120)
    parser.add_argument("--elapsed", type=float, default=0, help="minutes of the schedule already done (with --resume)")
    parser.add_argument("--resume", help="checkpoint to continue from")
    train(parser.parse_args())


if __name__ == "__main__":
    main()
