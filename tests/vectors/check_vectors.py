#!/usr/bin/env python3
"""Conformance vectors computed again by NumPy, after docs/numerics.md.

    python3 tests/vectors/check_vectors.py DIRECTORY [op...]

Nothing of hob is used: this is a second implementation of the definitions, which shows that the
document is enough. It covers every op; an op or a variant that it does not know is an error. Every
float32 operation of NumPy rounds once, as IEEE-754 says; a fused multiply-add is made of float64
operations, see fma(). The encoders are in encoders.py.
Exit codes: 0 all bits are right, 1 some are not, 77 NumPy is not installed.
"""

import hashlib
import json
import math
import os
import sys

try:
    import numpy as np
except ImportError:
    print("skipped: NumPy is not installed (Debian: python3-numpy)")
    sys.exit(77)

sys.dont_write_bytecode = True  # beside the source
from encoders import ENCODERS, FLOAT4, UNEVEN, encode as encode_rows, round_even  # noqa: E402

F32, F64 = np.float32, np.float64
TYPES = {"f32": "<f4", "f64": "<f8", "i32": "<i4", "u32": "<u4", "i8": "i1", "u8": "u1"}
INFINITY = F32(np.inf)


# ---------------------------------------------------------------- arithmetic

def bits(x):
    return np.asarray(x, F32).view(np.uint32)


def from_bits(b):
    return np.asarray(b, np.uint32).view(F32)


def to_odd(a, b):
    """a + b in float64, rounded to odd: what rounds to float32 from there has rounded once."""
    s = a + b
    v = s - a
    error = (a - (s - v)) + (b - v)  # exact (two-sum)
    even = (np.asarray(s).view(np.int64) & 1) == 0
    inexact = np.isfinite(s) & np.isfinite(error) & (error != 0) & even
    return np.where(inexact, np.nextafter(s, np.where(error > 0, np.inf, -np.inf)), s)


def fma64(a, b, c):
    """a * b + c of float32 numbers, exact or rounded to odd. The product is exact in float64."""
    product = np.asarray(a, F32).astype(F64) * np.asarray(b, F32).astype(F64)
    return to_odd(product, np.asarray(c, F32).astype(F64) + np.zeros_like(product))


def fma(a, b, c):
    return fma64(a, b, c).astype(F32)


def bf16(x):
    b = bits(x).astype(np.uint64)
    rounded = ((b + 0x7FFF + (b >> 16 & 1)) & 0xFFFF0000).astype(np.uint32)
    magnitude = (b & 0x7FFFFFFF)
    rounded = np.where(magnitude < 0x00800000, (b & 0x80000000).astype(np.uint32), rounded)
    return from_bits(np.where(magnitude > 0x7F800000, np.uint32(0x7FC00000), rounded))


def flushed(x):
    return np.where(np.abs(x) < F32(2.0**-126), np.copysign(F32(0), x), x).astype(F32)


def bf16_step(w, x, acc):
    exact = fma64(w, x, flushed(acc))
    # Tiny once rounded to 24 bits without a least exponent: below 2^-126 by more than half a unit
    # there (a tie rounds up, to even).
    tiny = np.abs(exact) < F64(2.0**-126 - 2.0**-151)
    return np.where(tiny, np.copysign(F32(0), exact), exact.astype(F32)).astype(F32)


def largest(x, axis=-1):
    return np.max(np.where(np.isnan(x), -INFINITY, x), axis=axis, initial=-INFINITY).astype(F32)


def power_of_2(n):
    return from_bits(((n.astype(np.int64) + 127) << 23).astype(np.uint32))


def horner(x, coefficients):
    p = np.full_like(x, F32(float.fromhex(coefficients[0])))
    for c in coefficients[1:]:
        p = fma(p, x, F32(float.fromhex(c)))
    return p


def exp(x):
    x = np.asarray(x, F32)
    nan = np.isnan(x)
    y = np.minimum(np.maximum(np.where(nan, F32(0), x), F32(-104)), F32(89)).astype(F32)
    shift = F32(1.5 * 2**23)
    n = fma(y, F32(float.fromhex("0x1.715476p+0")), shift) - shift
    r = fma(-n, F32(float.fromhex("0x1.62e430p-1")), y)
    r = fma(-n, F32(float.fromhex("-0x1.05c610p-29")), r)
    p = horner(r, ["0x1.6a244ap-10", "0x1.1239d4p-7", "0x1.5558f2p-5", "0x1.555492p-3",
                   "0x1.fffffcp-2", "0x1p0", "0x1p0"])
    half = np.floor(n / F32(2))
    return np.where(nan, x, (p * power_of_2(half)) * power_of_2(n - half)).astype(F32)


EXP2 = ["0x1.5bba0ep-10", "0x1.3cea88p-7", "0x1.c6b752p-5", "0x1.ebf9bcp-3", "0x1.62e42ap-1", "0x1p0"]
EXP2_FOR_BF16 = ["0x1.c2a218p-5", "0x1.f00c4cp-3", "0x1.62f5fap-1", "0x1p0"]


def exp2n(x, coefficients=EXP2):
    x = np.asarray(x, F32)
    nan = np.isnan(x)
    y = np.where(nan, F32(0), np.maximum(x, F32(-64))).astype(F32)
    n = round_even(y)
    result = np.where(n == F32(-64), F32(0), horner(y - n, coefficients) * power_of_2(n))
    return np.where(nan, x, result).astype(F32)


def tanh(x):
    x = np.asarray(x, F32)
    a = np.abs(x)
    large = F32(1) - F32(2) / (F32(1) + exp(F32(2) * np.minimum(a, F32(16))))
    z = x * x
    p = horner(z, ["-0x1.8f8de4p-8", "0x1.58048ep-6", "-0x1.b9258ap-5", "0x1.110e1cp-3",
                   "-0x1.555552p-2"])
    return np.copysign(np.where(a >= F32(0.625), large, fma(x, z * p, x)), x).astype(F32)


def partial_sums(terms, add):
    """16 partial sums of the last axis by add(partial, term), then +8, +4, +2, +1."""
    partial = np.zeros(16, F32)
    for j, term in enumerate(terms):
        partial[j % 16] = add(partial[j % 16], term)
    return sum16(partial)


def sum16(partial):
    s = partial.astype(F32)
    for half in (8, 4, 2, 1):
        s = s[..., :half] + s[..., half:2 * half]
    return s[..., 0]


# ---------------------------------------------------------------- blocks

def f16(raw):
    return np.ascontiguousarray(raw).view("<f2")[..., 0].astype(F32)


def unpack(raw, width, apart, count):
    """Codes of `width` bits: a byte holds, from its low bits up, codes that are `apart` apart."""
    i = np.arange(count)
    group = apart * (8 // width)
    data = raw[:, i // group * apart + i % apart].astype(np.int64)
    return data >> (i % group // apart * width) & ((1 << width) - 1)


def i8(raw):
    return np.ascontiguousarray(raw).view(np.int8).astype(np.int64)


def one_scale(d, count):
    return np.repeat(d[:, None], count, axis=1)


def six_bits(b):
    p = b[:, 4:16].astype(np.int64)
    low, high = p[:, 0:4], p[:, 4:8]
    scale = np.concatenate([low & 63, p[:, 8:12] & 15 | low >> 6 << 4], axis=1)
    least = np.concatenate([high & 63, p[:, 8:12] >> 4 | high >> 6 << 4], axis=1)
    return (f16(b[:, 0:2])[:, None] * scale.astype(F32),
            f16(b[:, 2:4])[:, None] * least.astype(F32))


def q2_k(b):
    return (f16(b[:, 80:82])[:, None] * (b[:, :16] & 15).astype(F32),
            f16(b[:, 82:84])[:, None] * (b[:, :16] >> 4).astype(F32), unpack(b[:, 16:80], 2, 32, 256))


def q3_k(b):
    scale = unpack(b[:, 96:104], 4, 8, 16) + 16 * unpack(b[:, 104:108], 2, 4, 16) - 32
    return (f16(b[:, 108:110])[:, None] * scale.astype(F32), None,
            unpack(b[:, 32:96], 2, 32, 256) + 4 * unpack(b[:, :32], 1, 32, 256) - 4)


def q4_k(b):
    return (*six_bits(b), unpack(b[:, 16:144], 4, 32, 256))


def q5_k(b):
    return (*six_bits(b), unpack(b[:, 48:176], 4, 32, 256) + 16 * unpack(b[:, 16:48], 1, 32, 256))


def q6_k(b):
    level = unpack(b[:, :128], 4, 64, 256) + 16 * unpack(b[:, 128:192], 2, 32, 256) - 32
    return f16(b[:, 208:210])[:, None] * i8(b[:, 192:208]).astype(F32), None, level


def iq4_xs(b):
    scale = unpack(b[:, 4:8], 4, 1, 8) + 16 * unpack(b[:, 2:4], 2, 1, 8) - 32
    return (f16(b[:, 0:2])[:, None] * scale.astype(F32), None, UNEVEN[unpack(b[:, 8:136], 4, 16, 256)])


def tq1_0(b):
    digits = []
    for first, size, count in ((0, 32, 5), (32, 16, 5), (48, 4, 4)):
        rest = b[:, first:first + size].astype(np.int64)
        for _ in range(count):
            digits.append(rest * 3 >> 8)
            rest = rest * 3 & 255
    return one_scale(f16(b[:, 52:54]), 8), None, np.concatenate(digits, axis=1) - 1


def mxfp4(b):
    return np.ldexp(F32(1), b[:, 0:1].astype(np.int32) - 128).astype(F32), None, FLOAT4[unpack(b[:, 1:], 4, 16, 32)]


# Format: values and bytes of a block, then scales, minima (or None) and levels of blocks.
BLOCKS = {
    "q4_0": (32, 18, lambda b: (one_scale(f16(b[:, :2]), 1), None, unpack(b[:, 2:], 4, 16, 32) - 8)),
    "q4_1": (32, 20, lambda b: (one_scale(f16(b[:, :2]), 1), one_scale(-f16(b[:, 2:4]), 1),
                                unpack(b[:, 4:], 4, 16, 32))),
    "q5_0": (32, 22, lambda b: (one_scale(f16(b[:, :2]), 1), None,
                                unpack(b[:, 6:], 4, 16, 32) + 16 * unpack(b[:, 2:6], 1, 1, 32) - 16)),
    "q5_1": (32, 24, lambda b: (one_scale(f16(b[:, :2]), 1), one_scale(-f16(b[:, 2:4]), 1),
                                unpack(b[:, 8:], 4, 16, 32) + 16 * unpack(b[:, 4:8], 1, 1, 32))),
    "q8_0": (32, 34, lambda b: (one_scale(f16(b[:, :2]), 1), None, i8(b[:, 2:]))),
    "q2_k": (256, 84, q2_k), "q3_k": (256, 110, q3_k), "q4_k": (256, 144, q4_k),
    "q5_k": (256, 176, q5_k), "q6_k": (256, 210, q6_k),
    "iq4_nl": (32, 18, lambda b: (one_scale(f16(b[:, :2]), 1), None, UNEVEN[unpack(b[:, 2:], 4, 16, 32)])),
    "iq4_xs": (256, 136, iq4_xs),
    "tq1_0": (256, 54, tq1_0),
    "tq2_0": (256, 66, lambda b: (one_scale(f16(b[:, 64:66]), 8), None, unpack(b, 2, 32, 256) - 1)),
    "mxfp4": (32, 17, mxfp4),
    "q1_0": (128, 18, lambda b: (one_scale(f16(b[:, :2]), 4), None, 2 * unpack(b[:, 2:], 1, 1, 128) - 1)),
}


def take_apart(variant, rows):
    """Scales and minima (n, k / sub), levels (n, k) of rows (n, bytes)."""
    values, size, read = BLOCKS[variant]
    scale, least, level = read(rows.reshape(-1, size))
    n = rows.shape[0]
    return (scale.reshape(n, -1), None if least is None else least.reshape(n, -1),
            level.reshape(n, -1))


def single_values(variant, rows):
    if variant == "f32":
        return np.ascontiguousarray(rows).view("<f4")
    halves = np.ascontiguousarray(rows).view("<u2")
    if variant == "f16":
        return halves.view("<f2").astype(F32)
    return from_bits(halves.astype(np.uint32) << 16)


def decode(variant, rows):
    if variant not in BLOCKS:
        return single_values(variant, rows)
    scale, least, level = take_apart(variant, rows)
    sub = level.shape[1] // scale.shape[1]
    value = np.repeat(scale, sub, axis=1) * level.astype(F32)
    return value if least is None else value - np.repeat(least, sub, axis=1)


# ---------------------------------------------------------------- ops

def dequantize(c, x):
    return [decode(c["variant"], x["weight"])]


def embed(c, x):
    rows = decode(c["variant"], x["weight"])[x["ids"]]
    return [flushed(rows) if c["variant"] == "bf16" else rows]


def encode(c, x):
    return [encode_rows(c["variant"], x["x"])]


def quantize(c, x):
    blocks = x["x"]
    magnitude = np.abs(blocks)
    broken = ~np.all(np.isfinite(blocks), axis=1)
    amax = np.max(np.where(np.isfinite(magnitude), magnitude, F32(0)), axis=1)
    inverse = F32(127) / amax
    usable = ~broken & (amax != 0) & np.isfinite(inverse)
    inverse = np.where(usable, inverse, F32(0)).astype(F32)
    # Products of two F32 are exact in F64.
    codes = np.rint(np.where(usable[:, None], blocks, F32(0)).astype(F64) * inverse[:, None])
    scale = np.where(broken, F32(np.nan), np.where(usable, amax / F32(127), F32(0))).astype(F32)
    codes = codes.astype(np.int64)
    return [codes.astype(np.int8), scale, codes.reshape(-1, 2, 16).sum(axis=2).astype(np.int32)]


def matmul_blocks(variant, act, weight):
    m, k = act.shape
    codes, q_scale, _ = quantize(None, {"x": act.reshape(-1, 32)})
    codes, q_scale = codes.reshape(m, k).astype(np.int64), q_scale.reshape(m, -1)
    scale, least, level = take_apart(variant, weight)
    sub = k // scale.shape[1]
    acc = np.zeros((m, weight.shape[0]), F32)
    for s in range(scale.shape[1]):
        part = slice(s * sub, (s + 1) * sub)
        d = q_scale[:, s * sub // 32][:, None]
        total = (codes[:, part] @ level[:, part].T).astype(F32)
        acc = fma(total, scale[:, s][None, :] * d, acc)
        if least is not None:
            code_sum = codes[:, part].sum(axis=1).astype(F32)[:, None]
            acc = fma(-least[:, s][None, :], d * code_sum, acc)
    return acc


def chain(weight, act, step):
    """acc[m][n], for k upward."""
    acc = np.zeros((act.shape[0], weight.shape[0]), F32)
    for k in range(act.shape[1]):
        acc = step(weight[None, :, k], act[:, k, None], acc)
    return acc


def silu_mul(c, x):
    gate, up = (x["gate"], x["up"]) if c is not None else x
    return [gate / (F32(1) + exp(-gate)) * up]


def gelu_mul(c, x):
    gate, up = x["gate"], x["up"]
    c1, c3 = F32(float.fromhex("-0x1.988454p+0")), F32(float.fromhex("-0x1.2444f2p-4"))
    return [gate / (F32(1) + exp(gate * fma(c3, gate * gate, c1))) * up]


def matmul(c, x):
    variant, act = c["variant"], x["act"]
    if variant in BLOCKS:
        acc = matmul_blocks(variant, act, x["weight"])
    elif variant == "bf16":
        acc = chain(flushed(single_values(variant, x["weight"])), bf16(act), bf16_step)
        if act.shape[1] % 2:
            acc = bf16_step(F32(0), F32(0), acc)
    else:
        acc = chain(single_values(variant, x["weight"]), act, fma)
    if "bias" in x:
        acc = acc + x["bias"][None, :]
    if "gate" in x:
        acc = silu_mul(None, (x["gate"], acc))[0]
    if "residual" in x:
        acc = x["residual"] + acc
    return [acc]


def to_bf16(c, x):
    high = bits(bf16(x["x"])) >> 16
    if len(high) % 2:
        high = np.append(high, np.uint32(0))
    return [(high[0::2] << 16 | high[1::2]).astype(np.uint32)]


def rms_norm(c, x):
    v = x["x"]
    mean = partial_sums(v, lambda p, t: fma(t, t, p)) / F32(len(v))
    inverse = F32(1) / np.sqrt(mean + F32(c["numbers"]["eps"]))
    return [v * inverse * x["weight"]]


def rope(c, x):
    n = c["numbers"]
    half = int(n["n_rot"]) // 2
    i = np.arange(half)
    a, b = (i, i + half) if c["variant"] == "halves" else (2 * i, 2 * i + 1)
    cos, sin = x["table"][0::2], x["table"][1::2]
    out = x["x"].copy()
    first, second = out[:, a].copy(), out[:, b].copy()
    out[:, a] = fma(first, cos, -(second * sin))
    out[:, b] = fma(second, cos, first * sin)
    return [out]


def log64(x):
    """Of a Python float, which is a binary64 number."""
    m, e = math.frexp(x)  # x = m 2^e, m in [1/2, 1)
    m, e = (m, e) if 2 * m > 1.4142135623730951 else (2 * m, e - 1)
    s = (m - 1) / (m + 1)
    total = 0.0
    for i in range(21, 1, -2):
        total = (total + 1 / i) * (s * s)
    return e * float.fromhex("0x1.62e42fefa39efp-1") + 2 * s * (1 + total)


def exp64(x):
    n = round64(x / float.fromhex("0x1.62e42fefa39efp-1"))
    r = (x - n * float.fromhex("0x1.62e42feep-1")) - n * float.fromhex("0x1.a39ef35793c76p-33")
    total = 1.0
    for i in range(15, 0, -1):
        total = 1 + total * r / i
    return math.ldexp(total, int(n))


def round64(x):
    return (x + 1.5 * 2.0**52) - 1.5 * 2.0**52


def cos_sin(a):
    """Of an array of float64."""
    n = round64(a / float.fromhex("0x1.921fb54442d18p+0"))
    r = a
    for part in ("0x1.921fb544p+0", "0x1.0b4611a6p-34", "0x1.3198a2e037073p-69"):
        r = r - n * float.fromhex(part)
    s, c = np.ones_like(a), np.ones_like(a)
    for i in range(18, 0, -2):
        s = 1 - s * (r * r) / (i * (i + 1))
        c = 1 - c * (r * r) / (i * (i - 1))
    s, turn = s * r, n.astype(np.int64) % 4
    return np.choose(turn, [c, -s, -c, s]), np.choose(turn, [s, c, -s, -c])


def rope_table(c, x):
    n = c["numbers"]
    pairs, log_base = int(n["n_rot"]) // 2, log64(n["base"])
    frequency = np.array([exp64(-2.0 * i / n["n_rot"] * log_base) * n["freq_scale"] for i in range(pairs)])
    if "factors" in x:
        frequency = frequency / x["factors"].astype(F64)
    position = n["first"] + np.arange(int(n["count"]), dtype=F64)
    table = np.stack(cos_sin(position[:, None] * frequency), axis=-1)
    return [table.reshape(len(position), -1).astype(F32)]


def softmax(c, x):
    v = x["x"]
    m = largest(v)
    e = exp(v - (F32(0) if m == -INFINITY else m))
    total = partial_sums(e, lambda p, t: p + t)
    return [e * (F32(0) if total == 0 else F32(1) / total)]


def add(c, x):
    return [x["a"] + x["b"]]


def argmax(c, x):
    v = x["x"]
    where = np.nonzero(v == largest(v))[0]
    return [np.array([where[0] if len(where) else 0], np.int32)]


LOG2E = F32(float.fromhex("0x1.715476p+0"))


def pair_chain(bf, values, factors, begin, acc):
    """acc (w) += the sum of values (t, w) * factors (t); begin: the place of the first in its pair."""
    if not bf:
        for v, f in zip(values, factors):
            acc = fma(v, f, acc)
        return acc
    if begin % 2:
        acc = bf16_step(F32(0), F32(0), acc)
    for v, f in zip(values, factors):
        acc = bf16_step(v, f, acc)
    if (begin + len(factors)) % 2:
        acc = bf16_step(F32(0), F32(0), acc)
    return acc


def shift_of(m):
    return F32(0) if m == -INFINITY else m


def attention_chunk(bf, q, keys, values, first, cap):
    """The largest score, 16 sums and out (head_dim) of the keys `first` and on."""
    s = pair_chain(bf, keys.T, q, 0, np.zeros(len(keys), F32))
    if cap:
        s = tanh(s) * (cap * LOG2E)
    top = largest(s)
    shift = shift_of(top)
    p = bf16(exp2n(s - shift, EXP2_FOR_BF16)) if bf else exp2n(s - shift)
    sums = np.zeros(16, F32)
    for i, weight in enumerate(p):
        sums[(first + i) % 16] += weight
    return top, sums, pair_chain(bf, values, p, first, np.zeros(len(q), F32))


def attention_row(bf, q, keys, values, begin, end, cap):
    top, sums, out = -INFINITY, np.zeros(16, F32), np.zeros(len(q), F32)
    for chunk in range(begin // 256 * 256, end, 256):
        first, last = max(chunk, begin), min(chunk + 256, end)
        found, found_sums, found_out = attention_chunk(bf, q, keys[first:last], values[first:last],
                                                       first, cap)
        new_top = np.maximum(top, found)
        a, b = exp2n(top - shift_of(new_top)), exp2n(found - shift_of(new_top))
        sums, out, top = fma(found_sums, b, sums * a), fma(found_out, b, out * a), new_top
    total = sum16(sums)
    return out * (F32(0) if total == 0 else F32(1) / total)


def through_q8(x):
    """bf16(scale * code) of heads x[..., head_dim], in blocks of 32 of which the last may be shorter."""
    dim = x.shape[-1]
    padded = np.zeros(x.shape[:-1] + (-(-dim // 32) * 32,), F32)
    padded[..., :dim] = x
    codes, scale, _ = quantize(None, {"x": padded.reshape(-1, 32)})
    return bf16(scale[:, None] * codes.astype(F32)).reshape(padded.shape)[..., :dim]


def attention(c, x):
    n, bf = c["numbers"], c["variant"] != "f32"
    cap, window, pos = F32(n["softcap"]), int(n["window"]), int(n["pos"])
    factor = F32(n["scale"]) / cap if cap else F32(n["scale"]) * LOG2E
    q, keys, values = x["q"] * factor, x["keys"], x["values"]
    if c["variant"] == "q8_0":
        keys, values = through_q8(keys), through_q8(values)
    if bf:
        q, keys, values = bf16(q), bf16(keys), bf16(values)
    m, heads, _ = q.shape
    group = heads // keys.shape[1]
    out = np.empty_like(q)
    for i in range(m):
        end = pos + m if n["bidirectional"] else pos + i + 1
        begin = end - window if 0 < window < end else 0
        for h in range(heads):
            out[i, h] = attention_row(bf, q[i, h], keys[:, h // group], values[:, h // group],
                                      begin, end, cap)
    return [out]


OPS = {"matmul": matmul, "dequantize": dequantize, "embed": embed, "quantize": quantize,
       "bf16": to_bf16, "rms_norm": rms_norm, "rope": rope, "softmax": softmax,
       "silu_mul": silu_mul, "gelu_mul": gelu_mul, "add": add, "argmax": argmax, "attention": attention,
       "encode": encode, "rope_table": rope_table}
# What is known of those that have variants.
VARIANTS = {**dict.fromkeys(("matmul", "dequantize", "embed", "encode"), tuple(ENCODERS)),
            "rope": ("interleaved", "halves"), "attention": ("f32", "bf16", "q8_0")}


# ---------------------------------------------------------------- files

class Vectors:
    def __init__(self, directory):
        with open(os.path.join(directory, "vectors.json"), encoding="utf-8") as file:
            self.index = json.load(file)
        if (self.index["format"], self.index["version"]) != ("hob-vectors", 1):
            raise ValueError("not vectors of version 1")
        self.data = {}
        for entry in self.index["files"]:
            with open(os.path.join(directory, entry["name"]), "rb") as file:
                data = file.read()
            if hashlib.sha256(data).hexdigest() != entry["sha256"]:
                raise ValueError(entry["name"] + ": SHA-256 does not match")
            self.data[entry["name"]] = data

    def array(self, entry):
        count = int(np.prod(entry["shape"]))
        flat = np.frombuffer(self.data[entry["file"]], TYPES[entry["type"]], count, entry["offset"])
        return flat.reshape(entry["shape"])


def different(got, want):
    if got.shape != want.shape or got.dtype != want.dtype:
        return "%s %s, expected %s %s" % (got.dtype, got.shape, want.dtype, want.shape)
    same = got == want
    if want.dtype == np.float32:
        same = (bits(got) == bits(want)) | (np.isnan(got) & np.isnan(want))
    if np.all(same):
        return None
    at = tuple(int(i) for i in np.argwhere(~same)[0])
    return "%d differ; %s is %r, expected %r" % (np.sum(~same), at, got[at], want[at])


def problems(op, case, vectors):
    if op not in OPS or case["variant"] not in VARIANTS.get(op, ("-",)):
        return ["no such op or variant here"]
    inputs = {entry["name"]: vectors.array(entry) for entry in case["inputs"]}
    found = []
    for got, entry in zip(OPS[op](case, inputs), case["outputs"], strict=True):
        want = vectors.array(entry)
        problem = different(np.asarray(got).reshape(want.shape), want)
        if problem:
            found.append(problem)
    return found


def main(directory, wanted):
    if not set(wanted) <= set(OPS):
        sys.exit("known ops: " + " ".join(OPS))
    vectors = Vectors(directory)
    count, wrong = {}, 0
    for case in vectors.index["cases"]:
        op, variant = case["op"], case["variant"]
        if wanted and op not in wanted:
            continue
        found = problems(op, case, vectors)
        for problem in found:
            print("%s %s, %s: %s" % (op, variant, case["name"], problem))
        wrong += bool(found)
        of_op = count.setdefault(op, {})
        of_op[variant] = of_op.get(variant, 0) + 1
    for op, variants in count.items():
        print("%-10s %4d cases:" % (op, sum(variants.values())),
              ", ".join("%s %d" % item for item in variants.items()))
    missing = [op for op in wanted or OPS if op not in count]
    if missing:
        print("no cases of", ", ".join(missing))
    print(sum(sum(variants.values()) for variants in count.values()), "cases,", wrong, "wrong")
    return 0 if count and not wrong else 1


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    with np.errstate(all="ignore"):
        sys.exit(main(sys.argv[1], sys.argv[2:]))
