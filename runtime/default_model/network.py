"""The network: a small LLaMA-style decoder in PyTorch."""

import dataclasses
import math

import torch
import torch.nn as nn
import torch.nn.functional as F


@dataclasses.dataclass
class Config:
    vocabulary: int = 896
    width: int = 192
    layers: int = 4
    heads: int = 6
    kv_heads: int = 2
    head_width: int = 32
    feed_forward: int = 384
    context: int = 256
    epsilon: float = 1e-5
    rope_base: float = 10000.0


class RMSNorm(nn.Module):
    def __init__(self, width, epsilon):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.epsilon = epsilon

    def forward(self, x):
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.epsilon) * self.weight


def rope_table(config):
    """cos and sin for every position and pair, pairs interleaved."""
    exponent = torch.arange(0, config.head_width, 2).float() / config.head_width
    angles = torch.outer(torch.arange(config.context).float(), config.rope_base ** -exponent)
    return angles.cos(), angles.sin()


def rotate(x, cos, sin):
    """Rotates the pairs (x[2i], x[2i+1]); x is [batch, heads, time, head]."""
    even, odd = x[..., 0::2], x[..., 1::2]
    return torch.stack((even * cos - odd * sin, even * sin + odd * cos), dim=-1).flatten(-2)


class Block(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.c = c
        linear = lambda i, o: nn.Linear(i, o, bias=False)  # noqa: E731
        self.attn_norm = RMSNorm(c.width, c.epsilon)
        self.attn_q = linear(c.width, c.heads * c.head_width)
        self.attn_k = linear(c.width, c.kv_heads * c.head_width)
        self.attn_v = linear(c.width, c.kv_heads * c.head_width)
        self.attn_output = linear(c.heads * c.head_width, c.width)
        self.ffn_norm = RMSNorm(c.width, c.epsilon)
        self.ffn_gate = linear(c.width, c.feed_forward)
        self.ffn_up = linear(c.width, c.feed_forward)
        self.ffn_down = linear(c.feed_forward, c.width)

    def attention(self, x, cos, sin, mask, linear, past):
        c = self.c
        batch, time, _ = x.shape
        heads = lambda y, n: y.view(batch, time, n, c.head_width).transpose(1, 2)  # noqa: E731
        q = rotate(heads(linear(self.attn_q, x), c.heads), cos, sin)
        k = rotate(heads(linear(self.attn_k, x), c.kv_heads), cos, sin)
        v = heads(linear(self.attn_v, x), c.kv_heads)
        if past is not None:
            if past:
                k, v = torch.cat((past[0], k), 2), torch.cat((past[1], v), 2)
            past[:] = [k, v]
        # Query head h uses key/value head h / (heads per kv head).
        group = c.heads // c.kv_heads
        q = q.reshape(batch, c.kv_heads, group * time, c.head_width)
        scores = (q @ k.transpose(-1, -2)) / math.sqrt(c.head_width)
        scores = scores.view(batch, c.kv_heads, group, time, k.shape[2])
        if mask is not None:
            scores = scores + mask
        weights = scores.softmax(-1).view(batch, c.kv_heads, group * time, k.shape[2])
        mixed = (weights @ v).view(batch, c.heads, time, c.head_width)
        return linear(self.attn_output, mixed.transpose(1, 2).reshape(batch, time, -1))

    def mix(self, x, cos, sin, mask, linear, past=None):
        return x + self.attention(self.attn_norm(x), cos, sin, mask, linear, past)

    def feed_forward(self, x, linear):
        y = self.ffn_norm(x)
        y = F.silu(linear(self.ffn_gate, y)) * linear(self.ffn_up, y)
        return x + linear(self.ffn_down, y)


def plain_linear(layer, x):
    return F.linear(x, layer.weight)


class Network(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.config = config
        self.token_embd = nn.Embedding(config.vocabulary, config.width)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.output_norm = RMSNorm(config.width, config.epsilon)
        cos, sin = rope_table(config)
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)
        for name, parameter in self.named_parameters():
            if parameter.dim() > 1:
                # The last projection of each branch starts smaller, so that
                # the residual stream does not grow with depth.
                depth = math.sqrt(2 * config.layers) if ("attn_output" in name or "ffn_down" in name) else 1
                std = 0.04 if "token_embd" in name else 1 / math.sqrt(parameter.shape[1])
                nn.init.normal_(parameter, std=std / depth)

    def hidden(self, ids, linear=plain_linear, past=None, position=0, chosen=None):
        """Normalised output vectors; with `chosen` (a mask) only of those
        positions, which spares the last feed-forward for all others."""
        time = ids.shape[1]
        cos, sin = self.cos[position:position + time], self.sin[position:position + time]
        mask = None
        if time > 1:
            mask = torch.full((time, time), -1e9).triu(1)
        x = self.token_embd(ids)
        for i, block in enumerate(self.blocks):
            x = block.mix(x, cos, sin, mask, linear, None if past is None else past[i])
            if chosen is not None and i + 1 == len(self.blocks):
                x = x[chosen]
            x = block.feed_forward(x, linear)
        return self.output_norm(x)

    def logits(self, hidden, linear=plain_linear):
        return linear(self.token_embd, hidden)

    def loss(self, inputs, targets, weights):
        """Mean cross entropy over weighted positions; the output matrix is
        applied only where there is something to learn."""
        chosen = weights > 0
        hidden = self.hidden(inputs, chosen=chosen)
        losses = F.cross_entropy(self.logits(hidden), targets[chosen], reduction="none")
        return (losses * weights[chosen]).sum() / weights[chosen].sum()
