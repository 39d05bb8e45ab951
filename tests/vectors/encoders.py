"""Blocks made of values: the encoders, as docs/numerics.md defines them (section Encoding).

check_vectors.py uses them for its op "encode". encode(variant, x) takes rows of float32 and returns
rows of bytes. Every function works on all blocks of a call at once, so what ends a search for one
block is a mask here. Arrays are float32 where nothing else is said: NumPy keeps it, and rounds once.
"""

from collections import namedtuple

import numpy as np

F32, F64 = np.float32, np.float64
MOST = F32(np.finfo(np.float32).max)
UNEVEN = np.array([-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113])
FLOAT4 = np.array([0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12])


# ---------------------------------------------------------------- terms

def round_even(x):
    return (x + F32(1.5 * 2**23)) - F32(1.5 * 2**23)


def near(x, low, high):
    return round_even(np.minimum(np.maximum(x, F32(low)), F32(high)))


def single(y):
    return np.clip(y, -F64(MOST), F64(MOST)).astype(F32)


def finite(x):
    return np.where(np.isnan(x), F32(0), np.clip(x, -MOST, MOST))


def to_f16(x):
    return np.clip(x, F32(-65504), F32(65504)).astype(np.float16).astype(F32)


def to_scale(x):
    rounded = to_f16(x)
    return np.where((rounded == 0) & (x != 0), np.copysign(F32(2.0**-24), x), rounded)


def inverse(s):
    return np.where(s != 0, F32(1) / s, F32(0))


def larger(a, b):
    """The one of larger magnitude, a if they are equal."""
    return np.where(np.abs(b) > np.abs(a), b, a)


def extreme(x):
    """Of the last axis."""
    result = np.zeros(x.shape[:-1], F32)
    for i in range(x.shape[-1]):
        result = larger(result, x[..., i])
    return result


def in_lanes(terms, count):
    """Sums of the last axis: element i to lane i mod count."""
    lanes = np.zeros(terms.shape[:-1] + (count,), terms.dtype)
    for i in range(0, terms.shape[-1], count):
        lanes = lanes + terms[..., i:i + count]
    return lanes


def in_order(terms):
    return in_lanes(terms, 1)[..., 0]


def sum8(terms):
    return in_order(in_lanes(terms, 8))


def sum4(terms):
    lanes = in_lanes(terms, 4)
    return (lanes[..., 0] + lanes[..., 1]) + (lanes[..., 2] + lanes[..., 3])


# ---------------------------------------------------------------- bytes

def pack(code, width, apart):
    """Codes of `width` bits (n, count) to bytes: the inverse of check_vectors.unpack."""
    byte = np.arange(code.shape[1] * width // 8)
    data = np.zeros((code.shape[0], len(byte)), np.int64)
    for i in range(8 // width):
        data |= (code[:, (byte // apart * (8 // width) + i) * apart + byte % apart]
                 & ((1 << width) - 1)) << i * width
    return data.astype(np.uint8)


def halves(x):
    """The bytes of float32 numbers that are f16 already."""
    return x.astype("<f2")[:, None].view(np.uint8)


def join(*parts):
    return np.concatenate([part.astype(np.uint8) for part in parts], axis=1)


# ---------------------------------------------------------------- single values

def f32(x):
    return x.astype("<f4").view(np.uint8)


def f16(x):
    raw = x.astype("<f2").view("<u2")
    sign = (x.view(np.uint32) >> 16 & 0x8000).astype("<u2")
    return np.where(np.isnan(x), sign | np.uint16(0x7E00), raw).astype("<u2").view(np.uint8)


def bf16(x):
    b = x.view(np.uint32).astype(np.int64)
    rounded = (b + 0x7FFF + (b >> 16 & 1)) >> 16
    return np.where(np.isnan(x), b >> 16 | 0x40, rounded).astype("<u2").view(np.uint8)


# ---------------------------------------------------------------- blocks with one scale

def search_scale(x, starts, level):
    top, x64 = extreme(x), x.astype(F64)
    best, most = np.zeros(len(x), F32), np.zeros(len(x), F64)
    for start in starts:
        wanted, going = top / F32(start), np.ones(len(x), bool)
        for _ in range(2):
            scale = to_scale(wanted)
            q = level(x * inverse(scale)[:, None]).astype(F64)
            d, xq, qq = scale.astype(F64), sum8(x64 * q), np.sum(q * q, axis=1)
            gain = d * (2 * xq - d * qq)
            better = going & (gain > most)
            most, best = np.where(better, gain, most), np.where(better, scale, best)
            going &= qq > 0
            wanted = single(np.where(going, xq / qq, 0))
    return best


def even_levels(x, starts, low, high):
    """The scale, and codes from 0 on."""
    x = finite(x)
    d = search_scale(x, starts, lambda v: near(v, low, high))
    return d, near(x * inverse(d)[:, None], low, high).astype(np.int64) - low


def q4_0(x):
    d, code = even_levels(x, (-8.5, -8, -7.5, -7, 7, 7.5), -8, 7)
    return join(halves(d), pack(code, 4, 16))


def q5_0(x):
    d, code = even_levels(x, (-16.5, -16, -15.5, -15, 15, 15.5), -16, 15)
    return join(halves(d), pack(code >> 4, 1, 1), pack(code, 4, 16))


def iq4_nl(x):
    x, middle = finite(x), ((UNEVEN[:-1] + UNEVEN[1:]) / 2).astype(F32)

    def code(v):
        return np.searchsorted(middle, v)  # how many are less

    d = search_scale(x, (-134, -127, -120, -113, 113, 120, 127), lambda v: UNEVEN[code(v)])
    return join(halves(d), pack(code(x * inverse(d)[:, None]), 4, 16))


def q8_0(x):
    amax = np.max(np.where(np.isnan(x), F32(0), np.abs(x)), axis=1)
    d = to_f16(amax / F32(127))
    v = x * inverse(d)[:, None]
    code = np.where(np.isnan(v), F32(0), near(v, -127, 127))
    return join(halves(d), code.astype(np.int8).view(np.uint8))


def ternary(x):
    """The scale, and codes 0 to 2."""
    x = finite(x)
    sums = np.cumsum(-np.sort(-np.abs(x), axis=1).astype(F64), axis=1)  # one after the other
    taken = np.arange(1, x.shape[1] + 1, dtype=F64)
    best = np.argmax(sums * sums / taken, axis=1)[:, None]  # the first of several
    d = to_scale(single((np.take_along_axis(sums, best, axis=1) / (best + 1))[:, 0]))
    return d, near(x * inverse(d)[:, None], -1, 1).astype(np.int64) + 1


def tq1_0(x):
    d, code = ternary(x)
    parts = []
    for first, size, count in ((0, 32, 5), (160, 16, 5), (240, 4, 4)):
        value = sum(code[:, first + j * size:first + (j + 1) * size] * 3**(4 - j) for j in range(count))
        parts.append((value * 256 + 242) // 243)
    return join(*parts, halves(d))


def tq2_0(x):
    d, code = ternary(x)
    return join(pack(code, 2, 32), halves(d))


def q1_0(x):
    x = finite(x)
    d = to_scale(single(in_order(np.abs(x).astype(F64)) / 128))
    return join(halves(d), pack((x >= 0).astype(np.int64), 1, 1))


def mxfp4(x):
    x = finite(x)
    first = np.maximum((np.abs(extreme(x)).view(np.uint32) >> 23).astype(np.int64) - 3, 0)
    middle = (FLOAT4[:7] + FLOAT4[1:8]) / 2
    x, least = x.astype(F64), np.full(len(x), np.inf)
    best_e, best = np.zeros(len(x), np.int64), np.zeros(x.shape, np.int64)
    for e in (first, first + 1, first + 2):
        d = np.ldexp(1.0, (e - 128).astype(np.int32))[:, None]
        code = np.searchsorted(middle, np.abs(x / d))  # how many are less
        code = np.where((x < 0) & (code != 0), code + 8, code)
        off = x - d * FLOAT4[code]
        error = in_order(off * off)
        better = (e <= 252) & (error < least)
        least, best_e = np.where(better, error, least), np.where(better, e, best_e)
        best = np.where(better[:, None], code, best)
    return join(best_e[:, None], pack(best, 4, 16))


# ---------------------------------------------------------------- scale and offset

def scale_and_offset(x, top):
    """d, m and codes 0 to top."""
    x = finite(x)
    x64, n = x.astype(F64), F64(x.shape[1])
    low, high = np.min(x, axis=1).astype(F64), np.max(x, axis=1).astype(F64)
    mean, reach = in_order(x64) / n, high - low
    best_d, best_m = np.zeros(len(x), F32), to_f16(single(mean))
    most = -(best_m - mean) * (best_m - mean) * n
    for cut in range(4):
        d = single(reach / (top + cut))
        m = single(low + 0.5 * (reach - d.astype(F64) * top))
        going = np.ones(len(x), bool)
        for _ in range(5):
            scale, offset = to_scale(d), to_f16(m)
            q = near((x - offset[:, None]) * inverse(scale)[:, None], 0, top).astype(F64)
            s, o = scale.astype(F64), offset - mean
            xq, sum_q, qq = sum8((x64 - mean[:, None]) * q), np.sum(q, axis=1), np.sum(q * q, axis=1)
            gain = s * (2 * xq - s * qq) - o * (2 * s * sum_q + o * n)
            better = going & (gain > most)
            most = np.where(better, gain, most)
            best_d, best_m = np.where(better, scale, best_d), np.where(better, offset, best_m)
            det = n * qq - sum_q * sum_q
            going &= det > 0
            d, m = single(n * xq / det), single(mean - sum_q * xq / det)
    code = near((x - best_m[:, None]) * inverse(best_d)[:, None], 0, top)
    return best_d, best_m, code.astype(np.int64)


def q4_1(x):
    d, m, code = scale_and_offset(x, 15)
    return join(halves(d), halves(m), pack(code, 4, 16))


def q5_1(x):
    d, m, code = scale_and_offset(x, 31)
    return join(halves(d), halves(m), pack(code >> 4, 1, 1), pack(code, 4, 16))


# ---------------------------------------------------------------- super-blocks

# sub: values that share a scale; low, high: levels; least, most: sub-scales. A format is signed (and
# has no minima) if `least` is below 0.
Kind = namedtuple("Kind", "sub low high least most uneven", defaults=(False,))
Line = namedtuple("Line", "scale min")  # value = scale * level - min; of sub-blocks (n, subs)
Fit = namedtuple("Fit", "scale min score")  # the best line so far, and its gain or its error
# What was chosen in a pass: d and dmin (n), sub-scales and minima (n, subs), levels (n, subs, sub).
Chosen = namedtuple("Chosen", "d dmin scale min level")


def code_of(kind, v):
    if not kind.uneven:
        return near(v, kind.low, kind.high).astype(np.int64) - kind.low
    twice = near(v * F32(2) + F32(255.5), 0, 482).astype(np.int64) - 256
    return np.searchsorted(UNEVEN[:-1] + UNEVEN[1:], twice, side="right")  # how many are not more


def levels(kind, x, inv, least):
    code = code_of(kind, (x + least[..., None]) * inv[..., None])
    return (UNEVEN[code] if kind.uneven else code + kind.low).astype(F32)


def error_of(x, level, line):
    e = line.scale[..., None] * level - line.min[..., None] - x
    return sum4(e * e)


def choose(condition, new, old):
    """Of two tuples of arrays; condition: of their first axes."""
    def where(a, b):
        return np.where(condition.reshape(condition.shape + (1,) * (b.ndim - condition.ndim)), a, b)
    return type(old)(*map(where, new, old))


def fit_scale(kind, x):
    top, zero = extreme(x), np.zeros(x.shape[:-1], F32)

    def attempt(best, inv):
        level = levels(kind, x, inv, zero)
        xl, ll = sum4(x * level), sum4(level * level)
        score = xl * (xl / ll)
        better = (top != 0) & (ll > 0) & (score > best.score)
        return choose(better, Fit(xl / ll, zero, score), best)

    best = Fit(zero, zero, zero)
    wide = F32(kind.high - kind.low)
    step = F32(0.1) if wide < 15 else wide / F32(150)
    for end in (F32(kind.low), F32(kind.high)):
        for i in range(-9, 10):
            best = attempt(best, (end + step * F32(i)) / top)
    for _ in range(2):
        best = attempt(best, inverse(best.scale))
    return Line(best.scale, zero)


def fit_line(kind, x):
    n, zero = F32(kind.sub), np.zeros(x.shape[:-1], F32)
    low, high, sum_x = np.minimum(np.min(x, axis=-1), F32(0)), np.max(x, axis=-1), sum4(x)

    def attempt(best, inv, least):
        level = levels(kind, x, inv, least)
        l, ll, xl = sum4(level), sum4(level * level), sum4(x * level)
        det = n * ll - l * l
        line = Line(xl / ll, zero)
        free = Line((n * xl - l * sum_x) / det, (l * xl - ll * sum_x) / det)
        line = choose((det > 0) & (free.min >= 0), free, line)
        error = error_of(x, level, line)
        better = (high > low) & (ll > 0) & (line.scale >= 0) & (error < best.score)
        return choose(better, Fit(*line, error), best)

    off = x - low[..., None]
    best = Fit(zero, -low, sum4(off * off))
    for i in range(-10, 11, 4):
        inv = (F32(kind.high) + F32(0.1) * F32(i)) / (high - low)
        for up in (F32(0), F32(-0.33), F32(0.33)):
            best = attempt(best, inv, up / inv - low)
    for _ in range(3):
        best = attempt(best, inverse(best.scale), best.min)
    return Line(best.scale, best.min)


def pick(kind, x, line, d, dmin):
    """The integers for d and dmin, and the error."""
    to_sub, to_min = inverse(d)[:, None], inverse(dmin)[:, None]
    zero = np.zeros(x.shape[:-1], F32)
    best, least = Chosen(d, dmin, zero, zero, np.zeros_like(x)), np.full(x.shape[:-1], F32(-1))
    middle = near(line.scale * to_sub, kind.least, kind.most)
    for s in (middle - 1, middle, middle + 1):
        scale, minima = d[:, None] * s, (zero,)
        if kind.least >= 0:
            level = levels(kind, x, inverse(scale), line.min)
            over = sum4(scale[..., None] * level - x)
            m = near(over / F32(kind.sub) * to_min, 0, kind.most)
            minima = (m - 1, m, m + 1)
        for m in minima:
            decoded = Line(scale, dmin[:, None] * m)
            level = levels(kind, x, inverse(scale), decoded.min)
            error = error_of(x, level, decoded)
            better = (s >= kind.least) & (s <= kind.most) & (m >= 0) & (m <= kind.most)
            better &= (least < 0) | (error < least)
            least = np.where(better, error, least)
            best = Chosen(d, dmin, np.where(better, s, best.scale), np.where(better, m, best.min),
                          np.where(better[..., None], level, best.level))
    return best, in_order(least)


def refit(kind, x, chosen, d, dmin):
    s, m, level = chosen.scale, chosen.min, chosen.level
    aa = in_order(s * s * sum4(level * level))
    ax = in_order(s * sum4(level * x))
    am, mm = in_order(s * m * sum4(level)), in_order(m * m * F32(kind.sub))
    mx = in_order(m * sum4(x))
    det = aa * mm - am * am
    both = (det > aa * mm * F32(2.0**-16)) & (kind.least >= 0)
    alone = ~both & (aa > 0) & (mm == 0)
    return (np.where(both, (ax * mm - am * mx) / det, np.where(alone, ax / aa, d)),
            np.where(both, (ax * am - aa * mx) / det, dmin))


def super_blocks(kind, x):
    """d and dmin as float32, sub-scales, sub-minima and codes as integers."""
    x = np.where(np.abs(x) > F32(2.0**-40), np.clip(x, F32(-(2.0**29)), F32(2.0**29)), F32(0))
    x = x.astype(F32).reshape(len(x), -1, kind.sub)
    line = fit_scale(kind, x) if kind.least < 0 else fit_line(kind, x)
    top_min = np.max(np.maximum(line.min, F32(0)), axis=1)
    d = extreme(line.scale) / F32(kind.least if kind.least < 0 else kind.most)
    dmin = top_min / F32(kind.most)
    best, error = pick(kind, x, line, to_scale(d), to_scale(dmin))
    d, dmin = refit(kind, x, best, d, dmin)
    again, error_again = pick(kind, x, line, to_scale(d), to_scale(dmin))
    best = choose(error_again < error, again, best)
    empty = np.all(x == 0, axis=(1, 2))
    best = choose(empty, Chosen(*(np.zeros_like(part) for part in best)), best)
    scale, least = best.d[:, None] * best.scale, best.dmin[:, None] * best.min
    code = code_of(kind, (x + least[..., None]) * inverse(scale)[..., None])
    return (best.d, best.dmin, best.scale.astype(np.int64), best.min.astype(np.int64),
            code.reshape(len(x), -1))


def q2_k(x):
    d, dmin, scale, least, code = super_blocks(Kind(16, 0, 3, 0, 15), x)
    return join(scale | least << 4, pack(code, 2, 32), halves(d), halves(dmin))


def q3_k(x):
    d, _, scale, _, code = super_blocks(Kind(16, -4, 3, -32, 31), x)
    scale += 32
    return join(pack(code >> 2, 1, 32), pack(code, 2, 32), pack(scale, 4, 8), pack(scale >> 4, 2, 4),
                halves(d))


def six_bits(scale, least):
    a, b, c, d = scale[:, :4], scale[:, 4:], least[:, :4], least[:, 4:]
    return join(a | b >> 4 << 6, c | d >> 4 << 6, b & 15 | (d & 15) << 4)


def q4_k(x):
    d, dmin, scale, least, code = super_blocks(Kind(32, 0, 15, 0, 63), x)
    return join(halves(d), halves(dmin), six_bits(scale, least), pack(code, 4, 32))


def q5_k(x):
    d, dmin, scale, least, code = super_blocks(Kind(32, 0, 31, 0, 63), x)
    return join(halves(d), halves(dmin), six_bits(scale, least), pack(code >> 4, 1, 32), pack(code, 4, 32))


def q6_k(x):
    d, _, scale, _, code = super_blocks(Kind(16, -32, 31, -128, 127), x)
    return join(pack(code, 4, 64), pack(code >> 4, 2, 32), scale & 255, halves(d))


def iq4_xs(x):
    d, _, scale, _, code = super_blocks(Kind(32, -128, 113, -32, 31, True), x)
    scale += 32
    return join(halves(d), pack(scale >> 4, 2, 1), pack(scale, 4, 1), pack(code, 4, 16))


# Format: values of a block, and its encoder.
ENCODERS = {"f32": (1, f32), "f16": (1, f16), "bf16": (1, bf16),
            "q4_0": (32, q4_0), "q4_1": (32, q4_1), "q5_0": (32, q5_0), "q5_1": (32, q5_1),
            "q8_0": (32, q8_0), "q2_k": (256, q2_k), "q3_k": (256, q3_k), "q4_k": (256, q4_k),
            "q5_k": (256, q5_k), "q6_k": (256, q6_k), "iq4_nl": (32, iq4_nl), "iq4_xs": (256, iq4_xs),
            "tq1_0": (256, tq1_0), "tq2_0": (256, tq2_0), "mxfp4": (32, mxfp4), "q1_0": (128, q1_0)}


def encode(variant, x):
    values, encoder = ENCODERS[variant]
    return encoder(np.ascontiguousarray(x, F32).reshape(-1, values)).reshape(len(x), -1)
