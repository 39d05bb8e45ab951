"""Writes the trained network as GGUF version 3 with q8_0 matrices."""

import struct

import numpy as np

from tokenizer import BOS, EOS

UINT32, FLOAT32, BOOL, STRING, ARRAY, INT32 = 4, 6, 7, 8, 9, 5
TYPE_F32, TYPE_Q8_0 = 0, 8
ALIGNMENT = 32
CHAT_TEMPLATE = "{% for message in messages %}{% if message['role'] == 'user' %}{{ message['content'] + '\\n' }}{% endif %}{% endfor %}"
DESCRIPTION = "One short English home request in, one line of JSON out; escalates everything else."


def quantize_q8_0(matrix):
    """Blocks of 32: a half-precision scale and 32 signed bytes."""
    blocks = matrix.astype(np.float32).reshape(-1, 32)
    scale = (np.abs(blocks).max(axis=1) / 127).astype(np.float32)
    inverse = np.divide(1.0, scale, out=np.zeros_like(scale), where=scale > 0)
    quants = np.rint(blocks * inverse[:, None]).clip(-127, 127).astype(np.int8)
    packed = np.zeros(len(blocks), dtype=[("d", "<f2"), ("q", "i1", 32)])
    packed["d"], packed["q"] = scale.astype(np.float16), quants
    return packed


def string(text):
    data = text.encode("utf-8")
    return struct.pack("<Q", len(data)) + data


def field(key, kind, value):
    head = string(key) + struct.pack("<I", kind)
    if kind == UINT32:
        return head + struct.pack("<I", value)
    if kind == FLOAT32:
        return head + struct.pack("<f", value)
    if kind == BOOL:
        return head + struct.pack("<?", value)
    if kind == STRING:
        return head + string(value)
    item_kind, items = value
    body = b"".join(string(x) if item_kind == STRING else struct.pack("<i", x) for x in items)
    return head + struct.pack("<IQ", item_kind, len(items)) + body


def metadata(c, tokenizer):
    llama = [("context_length", c.context), ("embedding_length", c.width), ("block_count", c.layers),
             ("feed_forward_length", c.feed_forward), ("attention.head_count", c.heads),
             ("attention.head_count_kv", c.kv_heads), ("rope.dimension_count", c.head_width),
             ("vocab_size", c.vocabulary)]
    kinds = [3 if token in (BOS, EOS) else 1 for token in tokenizer.tokens]
    return [
        field("general.architecture", STRING, "llama"),
        field("general.name", STRING, "hob-home"),
        field("general.license", STRING, "apache-2.0"),
        field("general.description", STRING, DESCRIPTION),
        field("general.file_type", UINT32, 7),
        field("general.quantization_version", UINT32, 2),
        field("general.alignment", UINT32, ALIGNMENT),
        *[field("llama." + key, UINT32, value) for key, value in llama],
        field("llama.attention.layer_norm_rms_epsilon", FLOAT32, c.epsilon),
        field("llama.rope.freq_base", FLOAT32, c.rope_base),
        field("tokenizer.ggml.model", STRING, "gpt2"),
        field("tokenizer.ggml.pre", STRING, "gpt-2"),
        field("tokenizer.ggml.tokens", ARRAY, (STRING, tokenizer.tokens)),
        field("tokenizer.ggml.token_type", ARRAY, (INT32, kinds)),
        field("tokenizer.ggml.merges", ARRAY, (STRING, [f"{a} {b}" for a, b in tokenizer.merges])),
        field("tokenizer.ggml.bos_token_id", UINT32, tokenizer.bos),
        field("tokenizer.ggml.eos_token_id", UINT32, tokenizer.eos),
        field("tokenizer.ggml.add_bos_token", BOOL, True),
        field("tokenizer.ggml.add_eos_token", BOOL, False),
        field("tokenizer.ggml.add_space_prefix", BOOL, False),
        field("tokenizer.chat_template", STRING, CHAT_TEMPLATE),
        field("hob.prompt_template", STRING, "{prompt}\n"),
    ]


def pad(length):
    return b"\0" * (-length % ALIGNMENT)


def write_gguf(path, network, tokenizer):
    infos, blobs, offset = [], [], 0
    for name, parameter in network.named_parameters():
        value = parameter.detach().cpu().numpy()
        name = name.replace("blocks.", "blk.")
        if value.ndim == 2:
            kind, data = TYPE_Q8_0, quantize_q8_0(value).tobytes()
        else:
            kind, data = TYPE_F32, value.astype("<f4").tobytes()
        shape = value.shape[::-1]  # innermost dimension first
        infos.append(string(name) + struct.pack("<I", len(shape)) +
                     b"".join(struct.pack("<Q", n) for n in shape) + struct.pack("<IQ", kind, offset))
        blobs.append(data + pad(len(data)))
        offset += len(blobs[-1])
    fields = metadata(network.config, tokenizer)
    head = b"GGUF" + struct.pack("<IQQ", 3, len(infos), len(fields)) + b"".join(fields) + b"".join(infos)
    with open(path, "wb") as out:
        out.write(head + pad(len(head)))
        out.writelines(blobs)


class Reader:
    """Just enough of a GGUF reader to evaluate the shipped file."""

    def __init__(self, data):
        self.data, self.at = data, 0

    def unpack(self, form):
        value = struct.unpack_from("<" + form, self.data, self.at)[0]
        self.at += struct.calcsize("<" + form)
        return value

    def string(self):
        length = self.unpack("Q")
        self.at += length
        return self.data[self.at - length:self.at].decode("utf-8")

    def value(self, kind):
        if kind == STRING:
            return self.string()
        if kind == ARRAY:
            item_kind = self.unpack("I")
            return [self.value(item_kind) for _ in range(self.unpack("Q"))]
        return self.unpack({UINT32: "I", INT32: "i", FLOAT32: "f", BOOL: "?"}[kind])


def read_tensor(data, start, shape, kind):
    count = int(np.prod(shape))
    if kind == TYPE_F32:
        return np.frombuffer(data, "<f4", count, start).reshape(shape)
    blocks = np.frombuffer(data, [("d", "<f2"), ("q", "i1", 32)], count // 32, start)
    return (blocks["d"].astype(np.float32)[:, None] * blocks["q"]).reshape(shape)


def read_gguf(path):
    """(metadata, tensors as float32 arrays)"""
    with open(path, "rb") as source:
        reader = Reader(source.read())
    reader.at = 4
    reader.unpack("I")
    tensor_count, field_count = reader.unpack("Q"), reader.unpack("Q")
    meta = {}
    for _ in range(field_count):
        key = reader.string()
        meta[key] = reader.value(reader.unpack("I"))
    infos = []
    for _ in range(tensor_count):
        name = reader.string()
        shape = [reader.unpack("Q") for _ in range(reader.unpack("I"))][::-1]
        infos.append((name, shape, reader.unpack("I"), reader.unpack("Q")))
    base = -(-reader.at // ALIGNMENT) * ALIGNMENT
    return meta, {name: read_tensor(reader.data, base + offset, shape, kind)
                  for name, shape, kind, offset in infos}
