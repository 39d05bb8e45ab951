#!/usr/bin/env python3
"""Runs the hob command on damaged model files: it must refuse them politely, whatever they hold.

    hostile_cli_test.py HOB_BINARY GGUF... [--count 2000] [--seed 1]

Each case is a copy of one of the files with a piece of damage, most of it where the file's
structure is, which parse() finds: counts, lengths, types, dimensions, offsets, numbers. A case
fails unless the command
  - exits with 0 or 1 and by no signal, within 20 seconds and 1 GiB of memory,
  - with exit code 1, writes exactly one line, not empty, to stderr,
  - does not exit with 0 if parse() finds that the file cannot be well-formed. (The reverse is no
    failure: a well-formed file may still be no model.)
Failing files are kept and named. The last line is 'N passed, N failed'. Python 3.8, no packages.
"""

import argparse
import os
import random
import struct
import subprocess
import sys
import tempfile
import threading

TIMEOUT_SECONDS = 20
MEMORY_BYTES = 1 << 30

# Bytes of metadata types with a fixed size.
FIXED = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
BOOL, STRING, ARRAY = 7, 8, 9
# Tensor types whose size this script knows: values and bytes of a block.
FORMATS = {0: (1, 4), 1: (1, 2), 2: (32, 18), 8: (32, 34), 30: (1, 2)}

HOSTILE = [0, 1, 2, 3, 7, 8, 9, 12, 13, 31, 32, 33, 63, 64, 65, 255, 4096, 65535, 65536, 1 << 20,
           (1 << 31) - 1, 1 << 31, (1 << 32) - 1, 1 << 32, 1 << 40, 1 << 48, (1 << 61) - 1, 1 << 61,
           1 << 62, (1 << 63) - 1, 1 << 63, (1 << 64) - 4096, (1 << 64) - 32, (1 << 64) - 1]


class Malformed(Exception):
    pass


class Cursor:
    """Reads a file front to back and notes where which kind of number stands."""

    def __init__(self, data):
        self.data = data
        self.at = 0
        self.places = {}  # kind -> [(offset, bytes)]

    def take(self, size, kind=None):
        if size > len(self.data) - self.at:
            raise Malformed("ends at %d, too early" % len(self.data))
        if kind is not None:
            self.places.setdefault(kind, []).append((self.at, size))
        begin = self.at
        self.at += size
        return self.data[begin:self.at]

    def number(self, size, kind):
        return int.from_bytes(self.take(size, kind), "little")

    def name(self, limit):
        size = self.number(8, "name length")
        if not 1 <= size <= limit:
            raise Malformed("name of %d bytes" % size)
        return self.take(size, "name")


def parse_elements(cursor, kind, count):
    """Skips `count` values of one type; a scalar's or array's last value is what it returns."""
    if kind == STRING:
        if count > len(cursor.data):
            raise Malformed("%d strings" % count)
        for _ in range(count):
            cursor.take(cursor.number(8, "string length"))
        return None
    if kind not in FIXED:
        raise Malformed("type %d" % kind)
    raw = cursor.take(count * FIXED[kind], "value" if count == 1 else "array")
    if kind == BOOL and any(byte > 1 for byte in raw):
        raise Malformed("bool that is neither 0 nor 1")
    return raw[-FIXED[kind]:]


def parse_metadata(cursor, count):
    keys = set()
    alignment = 32
    for _ in range(count):
        key = cursor.name(65535)
        if key in keys:
            raise Malformed("key twice")
        keys.add(key)
        kind = cursor.number(4, "value type")
        if kind == ARRAY:
            element = cursor.number(4, "element type")
            parse_elements(cursor, element, cursor.number(8, "element count"))
            continue
        raw = parse_elements(cursor, kind, 1)
        if key == b"general.alignment":
            if raw is None:
                raise Malformed("alignment is a string")
            alignment = int.from_bytes(raw, "little")
            if not 8 <= alignment <= 1 << 20 or alignment & (alignment - 1):
                raise Malformed("alignment of %d" % alignment)
    return alignment


def parse_tensors(cursor, count, alignment):
    """Returns the tensors' (offset, bytes); a size that is not known counts as 1."""
    names = set()
    extents = []
    for _ in range(count):
        name = cursor.name(64)
        if name in names:
            raise Malformed("tensor twice")
        names.add(name)
        n_dims = cursor.number(4, "n_dims")
        if not 1 <= n_dims <= 4:
            raise Malformed("%d dimensions" % n_dims)
        dims = [cursor.number(8, "dimension") for _ in range(n_dims)]
        kind = cursor.number(4, "tensor type")
        offset = cursor.number(8, "offset")
        elements = 1
        for dim in dims:
            elements *= dim
        values, size = FORMATS.get(kind, (1, 0))
        if elements == 0 or elements >= 1 << 64 or dims[0] % values or offset % alignment:
            raise Malformed("dimensions %r at %d" % (dims, offset))
        extents.append((offset, max(1, elements // values * size)))
    return extents


def parse(data):
    """Returns the places of the structure and where it ends; raises Malformed."""
    cursor = Cursor(data)
    if cursor.take(4, "magic") != b"GGUF" or cursor.number(4, "version") not in (2, 3):
        raise Malformed("not GGUF 2 or 3")
    n_tensors = cursor.number(8, "count")
    n_values = cursor.number(8, "count")
    if max(n_tensors, n_values) > len(data):
        raise Malformed("counts %d, %d" % (n_tensors, n_values))
    alignment = parse_metadata(cursor, n_values)
    extents = sorted(parse_tensors(cursor, n_tensors, alignment))
    begin = -(-cursor.at // alignment) * alignment
    end = 0
    for offset, size in extents:
        if offset < end or begin + offset + size > len(data):
            raise Malformed("tensor data at %d" % offset)
        end = offset + size
    return cursor.places, cursor.at


def is_malformed(data):
    try:
        parse(data)
    except Malformed:
        return True
    return False


def damage(valid, places, structure_end, rng):
    """Returns a damaged copy and what was done to it."""
    data = bytearray(valid)
    what = rng.choice(["number", "number", "number", "number", "bit", "bit in structure",
                       "bit in structure", "truncate", "truncate in structure", "insert", "remove"])
    if what == "number":
        kind = rng.choice(sorted(places))
        offset, size = rng.choice(places[kind])
        old = int.from_bytes(data[offset:offset + min(size, 8)], "little")
        size = min(size, 8)
        new = rng.choice(HOSTILE + [old + 1, old - 1, old * 2, rng.getrandbits(64)])
        data[offset:offset + size] = (new % (1 << 8 * size)).to_bytes(size, "little")
        return bytes(data), "%s at %d: %d becomes %d" % (kind, offset, old, new)
    where = rng.randrange(structure_end if "structure" in what or what in ("insert", "remove")
                          else len(data))
    if what.startswith("bit"):
        for _ in range(rng.choice([1, 1, 4])):
            data[where] ^= 1 << rng.randrange(8)
    elif what.startswith("truncate"):
        del data[where:]
    elif what == "insert":
        data[where:where] = bytes(rng.getrandbits(8) for _ in range(rng.randrange(1, 40)))
    else:
        del data[where:where + rng.randrange(1, 40)]
    return bytes(data), "%s at %d" % (what, where)


def run(command):
    """Runs a command; returns its exit code (negative: signal), stderr, peak memory and whether it
    ran into the time limit. Peak memory starts at this script's own, which the system counts in."""
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                   stderr=errors)
        timed_out = threading.Event()

        def stop():
            timed_out.set()
            process.kill()

        timer = threading.Timer(TIMEOUT_SECONDS, stop)
        timer.start()
        _, status, usage = os.wait4(process.pid, 0)
        timer.cancel()
        code = -os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)
        process.returncode = code
        errors.seek(0)
        unit = 1 if sys.platform == "darwin" else 1024
        return code, errors.read(), usage.ru_maxrss * unit, timed_out.is_set()


def complaint(result, malformed):
    """What is wrong with how a command went, or None."""
    code, errors, memory, timed_out = result
    if timed_out:
        return "ran longer than %d s" % TIMEOUT_SECONDS
    if code < 0:
        return "was ended by signal %d" % -code
    if memory > MEMORY_BYTES:
        return "took %d MiB" % (memory >> 20)
    if code not in (0, 1):
        return "exit code %d" % code
    if code == 0:
        return "accepted a malformed file" if malformed else None
    lines = [line for line in errors.decode("utf-8", "replace").split("\n") if line.strip()]
    if len(lines) != 1:
        return "%d lines on stderr: %r" % (len(lines), errors[:400])
    return None


def commands(hob, path):
    return [[hob, "logits", "-m", path, "--tokens", "1,2,3", "-o", "/dev/null"],
            [hob, "info", path],
            [hob, "tokenize", "-m", path, "-p", "hello world"]]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("hob")
    parser.add_argument("gguf", nargs="+")
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()

    files = []
    for path in options.gguf:
        with open(path, "rb") as file:
            data = file.read()
        places, structure_end = parse(data)
        files.append((data, places, structure_end))
        result = run(commands(options.hob, path)[1])
        if result[0] != 0:
            sys.exit("the undamaged %s is refused: %s" % (path, result[1].decode(errors="replace")))

    passed = failed = accepted = 0
    kept = None  # made for the first failing file
    with tempfile.TemporaryDirectory(prefix="hob-hostile-") as directory:
        path = os.path.join(directory, "damaged.gguf")
        for i in range(options.count):
            rng = random.Random("%d:%d" % (options.seed, i))
            data, what = damage(*files[i % len(files)], rng)
            with open(path, "wb") as file:
                file.write(data)
            command = commands(options.hob, path)[i // 2 % 3]
            result = run(command)
            wrong = complaint(result, result[0] == 0 and is_malformed(data))
            if wrong is None:
                passed += 1
                accepted += result[0] == 0
                continue
            failed += 1
            kept = kept or tempfile.mkdtemp(prefix="hob-hostile-failed-")
            copy = os.path.join(kept, "case%d.gguf" % i)
            with open(copy, "wb") as file:
                file.write(data)
            print("case %d, hob %s, %s: %s; kept as %s" % (i, command[1], what, wrong, copy))
    print("%d damaged files were still well-formed and accepted, %d refused as they should be"
          % (accepted, passed - accepted))
    print("%d passed, %d failed" % (passed, failed))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
