#!/usr/bin/env python3
"""hob compare-logits and hob perplexity from outside. Every number they print is computed again here,
in plain Python, from the logits.

    python3 tests/validation_test.py path/to/hob [names of tests...]

Only the Python standard library is used. What needs stories260K.gguf looks for it in the directory
models below HOB_TEST_DATA, or else beside the source tree, and says so if it is not there.
"""

import array
import json
import math
import os
import random
import signal
import statistics
import struct
import subprocess
import sys
import tempfile
import time
import unittest

HOB = "hob"
SOURCE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

TEXT = ("Once upon a time there was a small spirit who lived behind the stove. Every night it swept the "
        "floor, set a timer for the bread and turned off the lights in the hall. Nobody ever saw it. "
        "\"Who did that?\" asked the girl, and the spirit laughed. In the morning the kitchen was warm, "
        "the milk was where it belonged and the cat, who knew everything, said nothing at all.\n") * 3


def run(*args, stdin=b"", env=None):
    environment = {k: v for k, v in os.environ.items() if not k.startswith("HOB_")}
    environment.update(env or {})
    return subprocess.run([HOB, *map(str, args)], input=stdin, capture_output=True, timeout=300,
                          env=environment)


def stories():
    directory = os.environ.get("HOB_TEST_DATA", os.path.join(SOURCE, os.pardir, "shared"))
    return os.path.join(directory, "models", "stories260K.gguf")


# ---------------------------------------------------------------- the same numbers, in Python

def log_softmax(row):
    largest = max(row)
    log_sum = largest + math.log(math.fsum(math.exp(x - largest) for x in row))
    return [x - log_sum for x in row]


def divergence(p_row, q_row):
    log_p, log_q = log_softmax(p_row), log_softmax(q_row)
    return math.fsum(math.exp(p) * (p - q) for p, q in zip(log_p, log_q))


def quantile(values, share):
    """By counting: the values at both neighbours of the place, mixed."""
    values = sorted(values)
    place = share * (len(values) - 1)
    low, high = math.floor(place), math.ceil(place)
    return values[low] * (1 - (place - low)) + values[high] * (place - low)


def standard_error(values):
    return statistics.pstdev(values) / math.sqrt(len(values) - 1)


class Case(unittest.TestCase):
    def setUp(self):
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.directory = directory.name

    def path(self, name, data=None):
        path = os.path.join(self.directory, name)
        if data is not None:
            with open(path, "wb") as file:
                file.write(data)
        return path

    def read(self, name):
        with open(self.path(name), "rb") as file:
            return file.read()

    def rows(self, name, rows):
        return self.path(name, b"".join(struct.pack("<%df" % len(row), *row) for row in rows))

    def ok(self, *args, **options):
        result = run(*args, **options)
        self.assertEqual(result.returncode, 0, result.stderr)
        return result

    def json(self, *args, **options):
        def strict(name):
            raise ValueError(name + " is no JSON")

        return json.loads(self.ok(*args, "--json", **options).stdout, parse_constant=strict)

    def assert_fails(self, result, code, *parts):
        error = result.stderr.decode()
        self.assertEqual(result.returncode, code, error)
        self.assertEqual(result.stdout, b"")
        self.assertTrue(error.startswith("hob: error: "), error)
        self.assertEqual(error.count("\n"), 1, error)
        for part in parts:
            self.assertIn(part, error)

    def close(self, actual, expected, what=None, tolerance=1e-9):
        self.assertTrue(abs(actual - expected) <= tolerance * max(1e-3, abs(expected)),
                        (what, actual, expected))


class CompareLogits(Case):
    COLUMNS = 11

    def random_rows(self, seed, scale, count=40):
        numbers = random.Random(seed)
        rows = [[numbers.gauss(0, scale) for _ in range(self.COLUMNS)] for _ in range(count)]
        return [list(struct.unpack("<%df" % len(row), struct.pack("<%df" % len(row), *row)))
                for row in rows]

    def test_against_python(self):
        a = self.random_rows(1, 3)
        b = [[x + d for x, d in zip(row, noise)]
             for row, noise in zip(a, self.random_rows(2, 0.4))]
        b[7] = a[7]  # one row without a difference
        b = [list(struct.unpack("<11f", struct.pack("<11f", *row))) for row in b]
        result = self.json("compare-logits", self.rows("a", a), self.rows("b", b), "--vocab", 11)

        self.assertEqual((result["rows"], result["row_values"]), (40, 11))
        self.assertEqual((result["equal_rows"], result["rows_left_out"]), (1, 0))
        differences = [[abs(x - y) for x, y in zip(*pair)] for pair in zip(a, b)]
        self.close(result["difference"]["mean"], statistics.mean(sum(differences, [])))
        largest = max(max(row) for row in differences)
        self.close(result["difference"]["max"], largest)
        place = result["difference"]["max_at"]
        self.assertEqual(differences[place["row"]][place["column"]], largest)
        divergences = [divergence(p, q) for p, q in zip(a, b)]
        for key, values in (("kl_divergence", divergences),
                            ("row_difference", [max(row) for row in differences])):
            self.close(result[key]["mean"], statistics.mean(values), key)
            for name, share in (("median", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99_9", 0.999),
                                ("max", 1)):
                self.close(result[key][name], quantile(values, share), key + name)
        self.close(result["kl_divergence"]["standard_error"], standard_error(divergences))
        top = [p.index(max(p)) == q.index(max(q)) for p, q in zip(a, b)]
        self.assertTrue(0 < sum(top) < 40)
        self.close(result["same_top"], sum(top) / 40)

    def test_a_number_known_by_heart(self):
        # p = (1/2, 1/2), q = (3/4, 1/4): KL = ln(2 / sqrt(3)).
        a, b = self.rows("a", [[1, 1]]), self.rows("b", [[math.log(3), 0]])
        result = self.json("compare-logits", a, b, "--vocab", 2)
        self.close(result["kl_divergence"]["mean"], math.log(2 / math.sqrt(3)), tolerance=1e-6)
        self.assertEqual(result["same_top"], 1)  # on a tie the first
        # Large values must not overflow: the softmax of both is the same.
        a, b = self.rows("a", [[3e38, 1e38]]), self.rows("b", [[2e38, -2e38]])
        self.assertEqual(self.json("compare-logits", a, b, "--vocab", 2)["kl_divergence"]["max"], 0)

    def test_equal(self):
        a = self.rows("a", self.random_rows(3, 5))
        result = self.json("compare-logits", a, a, "--vocab", 11)
        self.assertEqual(result["equal_rows"], 40)
        self.assertEqual(result["difference"]["max"], 0)
        self.assertEqual((result["kl_divergence"]["max"], result["same_top"]), (0, 1))
        text = self.ok("compare-logits", a, a, "--vocab", 11).stdout.decode()
        self.assertRegex(text, r"equal, bit for bit +40\n")
        self.assertRegex(text, r"same top token +100\.000 %\n")

    def test_the_sign_of_zero_is_a_bit(self):
        result = self.json("compare-logits", self.rows("a", [[0.0]]), self.rows("b", [[-0.0]]))
        self.assertEqual((result["equal_rows"], result["difference"]["max"]), (0, 0))

    def test_without_vocabulary(self):
        a, b = self.rows("a", [[1, 2, 3]]), self.rows("b", [[1, 2, 5]])
        result = self.json("compare-logits", a, b)
        self.assertEqual((result["rows"], result["equal_rows"]), (3, 2))
        self.assertEqual(result["difference"]["max"], 2)
        self.assertNotIn("kl_divergence", result)
        text = self.ok("compare-logits", a, b).stdout.decode()
        self.assertRegex(text, r"values +3\n")
        self.assertNotIn("KL", text)

    def test_not_finite(self):
        rows = self.random_rows(4, 2, 5)
        broken = [list(row) for row in rows]
        broken[1][3], broken[3][0], broken[3][1] = math.nan, math.inf, -math.inf
        result = run("compare-logits", self.rows("a", rows), self.rows("b", broken), "--vocab", 11)
        self.assertEqual(result.returncode, 0)
        self.assertIn(b"first in row 1 at 3", result.stderr)
        self.assertRegex(result.stdout.decode(), r"NaN or infinite in A +0\n")
        self.assertRegex(result.stdout.decode(), r"NaN or infinite in B +3\n")
        numbers = self.json("compare-logits", self.path("a"), self.path("b"), "--vocab", 11)
        self.assertEqual((numbers["non_finite_a"], numbers["non_finite_b"]), (0, 3))
        self.assertEqual((numbers["rows_left_out"], numbers["equal_rows"]), (2, 3))
        self.assertEqual(numbers["first_non_finite"], {"row": 1, "column": 3})
        self.assertEqual((numbers["difference"]["max"], numbers["same_top"]), (0, 1))
        # Nothing left.
        path = self.rows("a", [[math.nan, 1]])
        numbers = self.json("compare-logits", path, path, "--vocab", 2)
        self.assertEqual(numbers["rows_left_out"], 1)
        self.assertEqual(numbers["equal_rows"], 1)
        for key in "difference", "kl_divergence", "row_difference", "same_top":
            self.assertIsNone(numbers[key])
        self.ok("compare-logits", path, path, "--vocab", 2)

    def test_errors(self):
        a, b = self.rows("a", [[1, 2, 3, 4]]), self.rows("b", [[1, 2, 3]])
        self.assert_fails(run("compare-logits", a, b), 1, "12 bytes, expected 16")
        self.assert_fails(run("compare-logits", a, a, "--vocab", 3), 1, "multiple of 12")
        self.assert_fails(run("compare-logits", a, self.path("none")), 1, "none")
        self.assert_fails(run("compare-logits", a, self.directory), 1, "regular file")
        self.assert_fails(run("compare-logits", self.path("e", b""), self.path("e")), 1, "empty")
        self.assert_fails(run("compare-logits", self.path("o", b"12345"), self.path("o")), 1,
                          "5 bytes, expected a multiple of 4")
        self.assert_fails(run("compare-logits", a), 2)
        self.assert_fails(run("compare-logits", a, a, "--vocab", 0), 2, "--vocab")


class Models(Case):
    """Perplexity of a model that each test makes or finds."""

    def make(self, format="f32", *args):
        path = self.path(format + ".gguf")
        self.ok("synth", "--shape", "tiny", "--format", format, "-o", path, *args)
        return path

    def model_args(self, model):
        return ["-m", model] if model else []

    def chunks(self, model, context):
        """The tokens of each chunk, cut as the documentation says."""
        def ids(text, *flags):
            out = self.ok("tokenize", *self.model_args(model), "--ids", *flags, stdin=text.encode())
            return [int(token) for token in out.stdout.split()]

        tokens, bos = ids(TEXT, "--no-special"), ids("")
        chunks = [tokens[i:i + context] for i in range(0, len(tokens) - context + 1, context)]
        return [bos + chunk[len(bos):] for chunk in chunks]

    def logits(self, model, tokens):
        self.ok("logits", *self.model_args(model), "--tokens", ",".join(map(str, tokens)), "-o",
                self.path("logits"))
        values = array.array("f", self.read("logits"))
        width = len(values) // len(tokens)
        return [values[i * width:(i + 1) * width].tolist() for i in range(len(tokens))]

    def scored(self, model, chunks):
        """(row, the token that came) of everything that counts."""
        for tokens in chunks:
            rows = self.logits(model, tokens)
            for i in range(len(tokens) // 2, len(tokens) - 1):
                yield rows[i], tokens[i + 1]

    def text_file(self):
        return self.path("text", TEXT.encode())

    def check_perplexity(self, model, context):
        chunks = self.chunks(model, context)
        losses = [-log_softmax(row)[token] for row, token in self.scored(model, chunks)]
        args = ["perplexity", *self.model_args(model), "-f", self.text_file(), "-c", context]
        result = self.json(*args)
        self.assertEqual((result["chunks"], result["context"]), (len(chunks), context))
        self.assertEqual(result["scored_tokens"], len(losses))
        value = math.exp(statistics.mean(losses))
        self.close(result["perplexity"]["value"], value)
        self.close(result["perplexity"]["standard_error"], value * standard_error(losses))
        text = self.ok(*args).stdout.decode()
        self.assertIn("%.5f +/- " % result["perplexity"]["value"], text)
        return value

    def check_divergence(self, base, model, context):
        """Against a base file and, which must give the same, against raw logits."""
        file, raw = self.path("base"), self.path("raw")
        # The cache of the base must be that of `hob logits`, which is how the model chooses.
        saved = self.ok("perplexity", *self.model_args(base), "-f", self.text_file(), "-c", context,
                        "--save-kl-base", file).stdout
        self.assertEqual(saved, self.ok("perplexity", *self.model_args(base), "-f",
                                        self.text_file(), "-c", context).stdout)
        chunks = self.chunks(base, context)
        with open(raw, "wb") as out:
            for tokens in chunks:
                self.logits(base, tokens)
                out.write(self.read("logits"))
        result = self.json("perplexity", *self.model_args(model), "--kl-base", file)
        self.assertEqual(result, self.json("perplexity", *self.model_args(model), "-f",
                                           self.text_file(), "-c", context, "--kl-base", raw))
        self.assertEqual(result, self.json("perplexity", *self.model_args(model), "-f",
                                           self.text_file(), "-c", context, "--kl-base", file))

        pairs = list(zip(self.scored(base, chunks), self.scored(model, chunks)))
        base_losses = [-log_softmax(p)[token] for (p, token), _ in pairs]
        losses = [-log_softmax(q)[token] for _, (q, token) in pairs]
        divergences = [divergence(p, q) for (p, _), (q, _) in pairs]
        shifts = [math.exp(-q) - math.exp(-p) for p, q in zip(base_losses, losses)]
        top = [p.index(max(p)) == q.index(max(q)) for (p, _), (q, _) in pairs]
        ratios = [q - p for p, q in zip(base_losses, losses)]

        def both(key, value, error):
            self.close(result[key]["value"], value, key)
            self.close(result[key]["standard_error"], error, key, 1e-6)

        n = len(losses)
        self.assertEqual(result["scored_tokens"], n)
        for key, values in ("perplexity", losses), ("base_perplexity", base_losses):
            value = math.exp(statistics.mean(values))
            both(key, value, value * standard_error(values))
        both("log_perplexity_ratio", statistics.mean(ratios), standard_error(ratios))
        value = math.exp(statistics.mean(ratios))
        both("perplexity_ratio", value, value * standard_error(ratios))
        share = sum(top) / n
        both("same_top", share, math.sqrt(share * (1 - share) / (n - 1)))
        squares = [x * x for x in shifts]
        value = math.sqrt(statistics.mean(squares))
        both("rms_probability_shift", value,
             standard_error(squares) / (2 * value) if value else 0)
        for key, values in ("kl_divergence", divergences), ("probability_shift", shifts):
            numbers = result[key]
            self.close(numbers["mean"], statistics.mean(values), key, 1e-7)
            self.close(numbers["standard_error"], standard_error(values), key, 1e-6)
            for name, share in (("min", 0), ("p1", .01), ("p5", .05), ("p10", .1), ("median", .5),
                                ("p90", .9), ("p95", .95), ("p99", .99), ("p99_9", .999),
                                ("max", 1)):
                self.close(numbers[name], quantile(values, share), key + name, 1e-7)
        mean, base_mean = statistics.mean(losses), statistics.mean(base_losses)
        covariance = statistics.mean([(q - mean) * (p - base_mean)
                                      for p, q in zip(base_losses, losses)])
        self.close(result["loss_correlation"],
                   covariance / statistics.pstdev(losses) / statistics.pstdev(base_losses))
        return result

    def check_same(self, model, context):
        """A model beside itself."""
        base = self.path("base")
        self.ok("perplexity", *self.model_args(model), "-f", self.text_file(), "-c", context,
                "--save-kl-base", base)
        result = self.json("perplexity", *self.model_args(model), "--kl-base", base)
        self.assertEqual(result["kl_divergence"]["max"], 0)
        self.assertEqual(result["probability_shift"]["max"], 0)
        self.assertEqual(result["same_top"], {"value": 1, "standard_error": 0})
        self.assertEqual(result["perplexity_ratio"], {"value": 1, "standard_error": 0})


class Random(Models):
    def test_perplexity(self):
        for context in 16, 33:
            self.check_perplexity(self.make(), context)

    def test_batch_threads_and_instruction_sets_do_not_matter(self):
        args = ["perplexity", "-m", self.make("q8_0"), "-f", self.text_file(), "-c", 24]
        expected = self.ok(*args).stdout
        for more in (["--batch", 1], ["--batch", 5], ["-t", 2], ["--batch", 24, "-t", 1]):
            self.assertEqual(self.ok(*args, *more).stdout, expected, more)
        for env in {"HOB_TARGET": "scalar"}, {"HOB_TARGET": "avx2"}:
            result = run(*args, env=env)
            if result.returncode == 0:  # avx2 is not everywhere
                self.assertEqual(result.stdout, expected, env)

    def test_divergence(self):
        base = self.make()
        other = self.path("q4.gguf")
        self.ok("quantize", base, other, "q4_0")
        result = self.check_divergence(base, other, 32)
        self.assertTrue(1e-5 < result["kl_divergence"]["median"] < 0.5)
        text = self.ok("perplexity", "-m", other, "--kl-base", self.path("base")).stdout.decode()
        self.assertRegex(text, r"KL divergence, mean +%.6f \+/- " % result["kl_divergence"]["mean"])
        self.assertRegex(text, r"same top token +%.3f " % (100 * result["same_top"]["value"]))

    def test_same(self):
        self.check_same(self.make(), 20)

    def test_fewer_chunks(self):
        model = self.make()
        args = ["perplexity", "-m", model, "-f", self.text_file(), "-c", 16]
        self.assertEqual(self.json(*args, "--chunks", 2)["chunks"], 2)
        self.assertEqual(self.json(*args, "--chunks", 2)["scored_tokens"], 2 * 7)
        everything = self.json(*args)
        self.assertEqual(self.json(*args, "--chunks", 10000), everything)
        tokens = self.ok("tokenize", "-m", model, "--ids", "--no-special", "-f", self.text_file())
        self.assertEqual(everything["chunks"], len(tokens.stdout.split()) // 16)

    def test_errors(self):
        model, text = self.make(), self.text_file()
        args = ["perplexity", "-m", model]
        self.assert_fails(run(*args, "-p", "too short", "-c", 64), 1, "expected at least one chunk")
        self.assert_fails(run(*args, "-f", text, "-c", 3), 2, "--context", "at least 4")
        self.assert_fails(run(*args, "-f", text, "-c", 10**6), 2, "expected at most the model's")
        self.assert_fails(run(*args, "-f", self.path("none")), 1, "none")
        self.assert_fails(run(*args, "-f", text, "--chunks", 0), 2, "--chunks")
        self.assert_fails(run(*args, "-f", text, "--kl-base", "x", "--save-kl-base", "y"), 2)
        self.assert_fails(run(*args, "-f", text, "--save-kl-base", "/no/such/dir/x"), 1, "/no/such")
        self.assert_fails(run(*args, "-f", text, "--kl-base", self.path("none")), 1, "none")

    def test_bad_base(self):
        model, text = self.make(), self.text_file()
        self.ok("perplexity", "-m", model, "-f", text, "-c", 16, "--save-kl-base",
                self.path("base"))
        good = self.read("base")

        def fails(data, *parts, more=()):
            path = self.path("bad", data)
            self.assert_fails(run("perplexity", "-m", model, "--kl-base", path, *more), 1, "bad",
                              *parts)

        def patched(at, data):
            return good[:at] + data + good[at + len(data):]

        fails(b"", "too short")
        fails(good[:39], "too short")
        fails(good[:-1], "bytes, expected")
        fails(good + bytes(4), "bytes, expected")
        fails(patched(8, b"\x02"), "version 2")
        fails(patched(12, b"\0\0\0\0"), "header")
        fails(patched(12, b"\xff\xff\xff\xff"), "header")
        fails(patched(16, b"\x07"), "header")
        fails(patched(20, b"\0\0\0\0"), "header")
        fails(patched(20, b"\xff\xff\xff\x7f"), "header")
        fails(patched(24, b"\0" * 8), "header")
        fails(patched(24, b"\xff" * 8), "bytes, expected")
        fails(patched(32, b"damaged!"), "checksum")
        fails(patched(44, b"\x01\x01"), "checksum")
        fails(good, "other tokens", more=["-p", TEXT[5:], "-c", 16])
        fails(good, "other tokens", more=["-f", text, "-c", 17])
        nan = struct.pack("<f", math.nan)
        path = self.path("bad", good[:-4] + nan)
        self.assert_fails(run("perplexity", "-m", model, "--kl-base", path), 1, "base's",
                          "not finite", "position 14", "token 511")
        path = self.path("raw", bytes(400))
        self.assert_fails(run("perplexity", "-m", model, "--kl-base", path, "-f", text, "-c", 16), 1,
                          "raw", "400 bytes, expected")
        # Without a terminal or a text, stdin is the text: an empty one.
        self.assert_fails(run("perplexity", "-m", model, "--kl-base", path), 1, "at least one chunk")
        self.assert_fails(run("perplexity", "-m", model, "--kl-base", self.path("base"), "-c", 8), 2,
                          "--context")
        self.assert_fails(run("perplexity", "-m", model, "--kl-base", self.path("base"), "--chunks",
                              1), 2, "--chunks")

    def test_base_of_another_vocabulary(self):
        if run("info").returncode != 0:
            self.skipTest("no default model in this build")
        self.ok("perplexity", "-m", self.make(), "-f", self.text_file(), "-c", 16, "--save-kl-base",
                self.path("base"))
        self.assert_fails(run("perplexity", "--kl-base", self.path("base")), 1,
                          "512 values, expected the model's")

    def test_no_half_base_is_left(self):
        path = self.path("base")
        if not os.path.exists("/dev/full"):
            self.skipTest("no /dev/full here")
        args = ["perplexity", "-m", self.make(), "-f", self.text_file(), "-c", "16", "--save-kl-base"]
        self.assert_fails(run(*args, "/dev/full"), 1, "/dev/full")
        process = subprocess.Popen([HOB, *args, path, "--batch", "1"], stdout=subprocess.PIPE,
                                   stderr=subprocess.PIPE)
        while process.poll() is None and not os.path.exists(path):
            time.sleep(0.001)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
        if process.returncode == 0:
            self.skipTest("it was done before it could be interrupted")
        self.assertEqual(process.returncode, 130)
        self.assertFalse(os.path.exists(path))


class DefaultModel(Models):
    def setUp(self):
        super().setUp()
        if run("info").returncode != 0:
            self.skipTest("no default model in this build")

    def test_perplexity(self):
        self.check_perplexity(None, 40)

    def test_same(self):
        self.check_same(None, 40)

    def test_quantized(self):
        source = os.path.join(SOURCE, "runtime", "default_model", "hob-home.gguf")
        other = self.path("q4.gguf")
        self.ok("quantize", source, other, "q4_0")
        self.check_divergence(None, other, 40)


class Stories(Models):
    def setUp(self):
        super().setUp()
        if not os.path.exists(stories()):
            self.skipTest("models/stories260K.gguf is not there: set HOB_TEST_DATA to the directory "
                          "with the reference data")

    def test_perplexity(self):
        value = self.check_perplexity(stories(), 128)
        # It was trained on texts like this one: far from the 512 of a model that knows nothing.
        self.assertTrue(value < 40, value)

    def test_quantized(self):
        other = self.path("q8.gguf")
        self.ok("quantize", stories(), other, "q8_0")
        result = self.check_divergence(stories(), other, 64)
        self.assertTrue(0 < result["kl_divergence"]["mean"] < 0.01)
        self.assertTrue(result["same_top"]["value"] > 0.9)


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    HOB = sys.argv.pop(1)
    unittest.main(verbosity=2)
