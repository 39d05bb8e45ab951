#!/usr/bin/env python3
"""The program from outside: what it prints where, its exit codes, and that the bits of the logits
depend on neither threads, batch nor instruction set.

    python3 tests/cli_test.py path/to/hob [names of tests...]

Only the Python standard library is used. Tests that evaluate use the default model and are skipped
in a build without it.
"""

import hashlib
import json
import os
import re
import signal
import struct
import subprocess
import sys
import tempfile
import time
import unittest

HOB = "hob"


def run(*args, stdin=b"", env=None, **options):
    """Runs hob; the result has returncode, stdout and stderr (bytes)."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("HOB_")}
    environment.update(env or {})
    return subprocess.run([HOB, *map(str, args)], input=stdin, capture_output=True,
                          env=environment, timeout=120, **options)


def has_default_model():
    return run("info").returncode == 0


def targets():
    lines = run("targets").stdout.decode().splitlines()
    return [line[2:].split()[0] for line in lines]


def tiny_vocabulary():
    """A GGUF file with a SentencePiece vocabulary and nothing else."""
    def text(s):
        return struct.pack("<Q", len(s)) + s

    def key(name, kind, value):
        return text(name.encode()) + struct.pack("<I", kind) + value

    def array(kind, values):
        return struct.pack("<IQ", kind, len(values)) + b"".join(values)

    pieces = [(b"<unk>", 2), (b"<s>", 3), (b"</s>", 3)]
    pieces += [(b"<0x%02X>" % byte, 6) for byte in range(256)]
    pieces += [(b"\xe2\x96\x81", 1), (b"a", 1), (b"b", 1), (b"ab", 1), (b"\xe2\x96\x81ab", 1)]
    scores = [0.0] * 259 + [-9.0, -8.0, -7.0, -1.0, -2.0]
    keys = [
        key("general.architecture", 8, text(b"nothing")),
        key("tokenizer.ggml.model", 8, text(b"llama")),
        key("tokenizer.ggml.tokens", 9, array(8, [text(p) for p, _ in pieces])),
        key("tokenizer.ggml.scores", 9, array(6, [struct.pack("<f", s) for s in scores])),
        key("tokenizer.ggml.token_type", 9, array(5, [struct.pack("<i", t) for _, t in pieces])),
        key("tokenizer.ggml.bos_token_id", 4, struct.pack("<I", 1)),
        key("tokenizer.ggml.eos_token_id", 4, struct.pack("<I", 2)),
    ]
    return b"GGUF" + struct.pack("<IQQ", 3, 0, len(keys)) + b"".join(keys)


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

    def assert_fails(self, result, code, *parts):
        """One line on stderr with the parts in it, and nothing on stdout."""
        error = result.stderr.decode()
        self.assertEqual(result.returncode, code, error)
        self.assertEqual(result.stdout, b"")
        self.assertTrue(error.startswith("hob: error: "), error)
        self.assertEqual(error.count("\n"), 1, error)
        for part in parts:
            self.assertIn(part, error)


class Usage(Case):
    def test_help(self):
        for args in ([], ["run"], ["logits"], ["tokenize"], ["info"], ["targets"], ["quantize"],
                     ["synth"], ["bench"], ["verify"], ["compare-logits"], ["perplexity"],
                     ["vectors"]):
            result = run(*args, "--help")
            self.assertEqual(result.returncode, 0, args)
            self.assertIn(b"hob " + (args[0].encode() if args else b"run"), result.stdout)
            self.assertEqual(result.stderr, b"")

    def test_version(self):
        result = run("--version")
        self.assertEqual(result.returncode, 0)
        self.assertRegex(result.stdout.decode(), r"^hob \d+\.\d+\.\d+\n.*\n.*scalar")

    def test_wrong_usage_names_the_argument(self):
        self.assert_fails(run(), 2, "hob --help")
        self.assert_fails(run("frobnicate"), 2)
        self.assert_fails(run("run", "--frob", "-p", "x"), 2, "--frob", "hob run --help")
        self.assert_fails(run("run", "-p", "x", "-n", "many"), 2, "many")
        self.assert_fails(run("run", "-p", "x", "-n", "-3"), 2, "--predict", "\"-3\"")
        self.assert_fails(run("run", "-p", "x", "-t", "0"), 2, "--threads")
        self.assert_fails(run("run", "-p", "x", "--top-p", "2"), 2, "--top-p")
        self.assert_fails(run("run", "-p", "x", "--cache-type", "f64"), 2, "f64")
        self.assert_fails(run("run", "-p", "x", "-f", "y"), 2)
        self.assert_fails(run("logits", "-p", "x"), 2, "--out")
        self.assert_fails(run("verify", "--op", "mul"), 2, "--op", "mul", "matmul")
        self.assert_fails(run("verify", "--format", "q9_9"), 2, "q9_9", "q4_k")
        self.assert_fails(run("verify", "--target", "sse"), 2, "sse", "scalar")
        self.assert_fails(run("verify", "--op", "add", "--format", "q4_k"), 2, "add", "--format")
        self.assert_fails(run("verify", "everything"), 2, "everything")
        self.assert_fails(run("quantize", "in", "out", "q9_9"), 2, "q9_9", "q4_k_m")
        self.assert_fails(run("quantize", "in", "out", "q8_0", "--reprot"), 2, "--reprot")
        synth = ["synth", "--shape", "tiny", "--format", "q8_0"]
        self.assert_fails(run(*synth), 2, "--out")
        self.assert_fails(run(*synth, "-o", "x", "--seed", "-1"), 2, "--seed")
        self.assert_fails(run(*synth, "-o", "x", "--seed", "y"), 2, "y")
        self.assert_fails(run("synth", "--shape", "huge", "--format", "q8_0", "-o", "x"), 2,
                          "huge", "smollm2-135m")
        self.assert_fails(run("synth", "--shape", "tiny", "--format", "q9", "-o", "x"), 2, "q9")

    def test_wrong_usage_of_bench(self):
        self.assert_fails(run("bench", "-m", "x.gguf", "--shape", "tiny"), 2, "--model", "--shape")
        self.assert_fails(run("bench", "--shape", "huge"), 2, "huge", "smollm2-135m")
        self.assert_fails(run("bench", "--shape", "tiny", "--format", "q9"), 2, "q9")
        self.assert_fails(run("bench", "--format", "q4_0"), 2, "--shape")
        self.assert_fails(run("bench", "-o", "xml"), 2, "xml")
        self.assert_fails(run("bench", "-p", "0"), 2, "--prompt-tokens")
        self.assert_fails(run("bench", "-n", "none"), 2, "none")
        self.assert_fails(run("bench", "-r", "0"), 2, "--runs")
        self.assert_fails(run("bench", "--context", "-1"), 2, "--context")
        self.assert_fails(run("bench", "-t", "0"), 2, "--threads")
        self.assert_fails(run("bench", "-m", "/no/such/file.gguf"), 1, "/no/such/file.gguf")

    def test_wrong_environment(self):
        self.assert_fails(run("targets", env={"HOB_TARGET": "sse17"}), 1, "HOB_TARGET", "sse17")
        self.assert_fails(run("run", "-p", "x", env={"HOB_NUM_THREADS": "few"}), 1,
                          "HOB_NUM_THREADS", "few")


class Files(Case):
    def test_files_that_are_no_models(self):
        self.assert_fails(run("info", "/no/such/file.gguf"), 1, "/no/such/file.gguf")
        self.assert_fails(run("run", "-m", "/no/such/file.gguf", "-p", "x"), 1, "/no/such")
        for data in (b"", b"GGUF", b"no model at all", tiny_vocabulary()[:3000]):
            path = self.path("bad.gguf", data)
            self.assert_fails(run("info", path), 1, "bad.gguf")
            self.assert_fails(run("run", "-m", path, "-p", "x"), 1, "bad.gguf")
            self.assert_fails(run("quantize", path, self.path("out.gguf"), "q8_0"), 1, "bad.gguf")
            self.assertFalse(os.path.exists(self.path("out.gguf")))

    def test_an_architecture_that_hob_does_not_run(self):
        path = self.path("tiny.gguf", tiny_vocabulary())
        self.assert_fails(run("run", "-m", path, "-p", "x"), 1, "nothing")

    def test_info(self):
        path = self.path("tiny.gguf", tiny_vocabulary())
        result = run("info", path)
        self.assertEqual(result.returncode, 0)
        self.assertIn(b"general.architecture", result.stdout)
        self.assertIn(b"nothing (hob runs llama, qwen2, qwen3)", result.stdout)
        info = json.loads(run("info", path, "--json", "--tensors").stdout)
        self.assertEqual(info["metadata"]["general.architecture"], "nothing")
        self.assertEqual(info["metadata"]["tokenizer.ggml.tokens"]["count"], 264)
        self.assertEqual(info["tensors"], [])


class Quantize(Case):
    def test_quantize(self):
        source = os.path.join(os.path.dirname(os.path.abspath(__file__)), os.pardir, "runtime",
                              "default_model", "hob-home.gguf")
        if not os.path.exists(source):
            self.skipTest("no default model")
        before = json.loads(run("info", source, "--json").stdout)
        outputs = []
        for threads in "1", "2":
            out = self.path("out.gguf")
            result = run("quantize", source, out, "F16", "-t", threads)
            self.assertEqual((result.returncode, result.stdout), (0, b""), result.stderr)
            self.assertEqual(result.stderr.count(b"\n"), sum(before["formats"].values()))
            outputs.append(self.read("out.gguf"))
        self.assertTrue(outputs[0] == outputs[1])
        after = json.loads(run("info", out, "--json").stdout)
        self.assertEqual(after["metadata"]["general.file_type"], 1)
        self.assertEqual(after["metadata"]["general.quantization_version"], 2)
        self.assertEqual(after["parameters"], before["parameters"])
        self.assertIn("f16", after["formats"])
        self.assertEqual(run("run", "-m", out, "-q", "--temp", "0", "-p", "hi").returncode, 0)


class Synth(Case):
    """Models from nothing, and what quantizing makes of them."""

    def synth(self, name, format, *args, shape="tiny"):
        path = self.path(name)
        result = run("synth", "--shape", shape, "--format", format, "-o", path, *args)
        self.assertEqual((result.returncode, result.stdout), (0, b""), result.stderr)
        self.assertEqual(result.stderr.count(b"\n"), 1, result.stderr)
        return path

    def info(self, path):
        return json.loads(run("info", path, "--json", "--tensors").stdout)

    def formats(self):
        lines = run("quantize", "--help").stdout.decode()
        formats, mixes = lines.split("Weight format: ")[1].split("; or a mix: ")
        return formats.split(), mixes.split("-")[0].split("Options")[0].split("OPTIONS")[0].split()

    def test_synth(self):
        path = self.synth("a.gguf", "q8_0")
        info = self.info(path)
        self.assertEqual(info["parameters"], 1312000)
        self.assertEqual(info["formats"], {"f32": 5, "q8_0": 15})
        self.assertEqual(info["metadata"]["general.file_type"], 7)
        self.assertEqual(info["metadata"]["tokenizer.ggml.tokens"]["count"], 512)
        self.synth("b.gguf", "Q8_0", "-t", "1", "--seed", "0")
        self.assertTrue(self.read("a.gguf") == self.read("b.gguf"))
        self.synth("b.gguf", "q8_0", "--seed", "1")
        self.assertFalse(self.read("a.gguf") == self.read("b.gguf"))
        result = run("run", "-q", "-m", path, "-p", "hello", "-n", "5", "--raw")
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assert_fails(run("synth", "--shape", "tiny", "--format", "f16", "-o",
                              "/no/such/dir/out"), 1, "/no/such")

    def test_architectures(self):
        tokens = ",".join(map(str, range(20, 60)))
        for shape, architecture in (("tiny", "llama"), ("tiny-qwen2", "qwen2"),
                                    ("tiny-qwen3", "qwen3")):
            path = self.synth("a.gguf", "q4_0", shape=shape)
            self.assertEqual(self.info(path)["metadata"]["general.architecture"], architecture)
            self.assertIn("architecture    %s\n" % architecture, run("info", path).stdout.decode())
            logits = []
            for batch in "1", "7", "40":
                result = run("logits", "-m", path, "--tokens", tokens, "--batch", batch, "-o",
                             self.path("logits"))
                self.assertEqual(result.returncode, 0, result.stderr)
                logits.append(self.read("logits"))
            self.assertEqual(len(logits[0]), 40 * 512 * 4)
            self.assertTrue(logits[0] == logits[1] == logits[2], shape)
            result = run("run", "-q", "-m", path, "-p", "hello", "-n", "5", "--raw")
            self.assertEqual(result.returncode, 0, result.stderr)

    def test_every_format_and_mix(self):
        source = self.synth("f32.gguf", "f32")
        out = self.path("out.gguf")
        formats, mixes = self.formats()
        self.assertIn("q4_0", formats)
        self.assertIn("q4_k_m", mixes)
        for name in formats:
            result = run("quantize", source, out, name)
            self.assertEqual((result.returncode, result.stdout), (0, b""), result.stderr)
            self.assertEqual(self.info(out)["formats"],
                             {"f32": 20} if name == "f32" else {"f32": 5, name: 15})
        types = {"q2_k_m": 10, "q3_k_s": 11, "q3_k_m": 12, "q3_k_l": 13, "q4_k_s": 14, "q4_k_m": 15,
                 "q5_k_s": 16, "q5_k_m": 17}
        self.assertEqual(set(mixes), set(types))
        for name in mixes:
            result = run("quantize", source, out, name)
            if {"q2_k", "q3_k", "q4_k", "q5_k", "q6_k"} <= set(formats):
                self.assertEqual(result.returncode, 0, result.stderr)
                info = self.info(out)
                self.assertEqual(info["metadata"]["general.file_type"], types[name])
                tensors = {tensor["name"]: tensor["format"] for tensor in info["tensors"]}
                self.assertEqual(tensors["token_embd.weight"], "q6_k")
                self.assertEqual(tensors["blk.0.attn_q.weight"], name[:4])
            else:
                self.assert_fails(result, 1, name + " needs the format", "_k")

    def test_rows_that_do_not_fit(self):
        def text(s):
            return struct.pack("<Q", len(s)) + s

        # Two rows of 10, then two of 32.
        head = b"GGUF" + struct.pack("<IQQ", 3, 2, 0)
        head += text(b"odd.weight") + struct.pack("<IQQIQ", 2, 10, 2, 0, 0)
        head += text(b"even.weight") + struct.pack("<IQQIQ", 2, 32, 2, 0, 96)
        head += bytes(-len(head) % 32)
        data = struct.pack("<20f", *range(20)) + bytes(16) + struct.pack("<64f", *range(64))
        out = self.path("out.gguf")
        result = run("quantize", self.path("in.gguf", head + data), out, "q4_0", "--report")
        self.assertEqual(result.returncode, 0, result.stderr)
        lines = result.stderr.decode().splitlines()
        self.assertRegex(lines[0], r"^hob: odd.weight +f32 -> f16 \(rows of 10 do not fit q4_0\)$")
        self.assertRegex(lines[1], r"^hob: even.weight +f32 -> q4_0$")
        self.assertEqual(self.info(out)["formats"], {"f16": 1, "q4_0": 1})
        rows = [line.split() for line in result.stdout.decode().splitlines()]
        self.assertEqual(rows[1][:4], ["odd.weight", "f16", "0.000000", "0"])

    def test_report(self):
        source = self.synth("f32.gguf", "f32")
        tables = []
        for threads in "1", "2":
            result = run("quantize", source, self.path("out.gguf"), "q8_0", "--report", "-t",
                         threads)
            self.assertEqual(result.returncode, 0, result.stderr)
            tables.append(result.stdout)
        self.assertEqual(tables[0], tables[1])
        rows = [line.split() for line in tables[0].decode().splitlines()]
        self.assertEqual(rows[0][0], "tensor")
        self.assertEqual(len(rows), 1 + 15 + 1)
        self.assertEqual(rows[-1][0], "total")
        for name, format, error, block, worst in rows[1:-1]:
            self.assertEqual(format, "q8_0", name)
            self.assertTrue(0.003 < float(error) < 0.007 < 2 * float(worst), name)
            self.assertTrue(int(block) < 512 * 256 // 32, name)
        self.assertTrue(0.003 < float(rows[-1][1]) < 0.007)

    def test_progress_on_a_terminal(self):
        if not hasattr(os, "openpty"):
            self.skipTest("no terminals here")
        # Long enough to need patience: slow with one thread, and cut short when it has been seen.
        master, terminal = os.openpty()
        process = subprocess.Popen([HOB, "synth", "--shape", "llama-3.2-1b", "--format", "f32", "-t",
                                    "1", "-o", self.path("big.gguf")], stdin=subprocess.DEVNULL,
                                   stdout=subprocess.PIPE, stderr=terminal)
        os.close(terminal)
        seen = b""
        try:
            while b" %" not in seen and len(seen) < 10000:
                seen += os.read(master, 1000)
        except OSError:
            pass  # the other side is closed
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
        os.close(master)
        self.assertRegex(seen.decode(), r"\rhob: writing \[#* *\] +\d+ %")
        self.assertEqual(process.returncode, 130)
        self.assertEqual(os.listdir(self.directory), [])


class Tokenize(Case):
    def tokenize(self, *args, stdin=b""):
        result = run("tokenize", "-m", self.path("tiny.gguf", tiny_vocabulary()), *args,
                     stdin=stdin)
        self.assertEqual((result.returncode, result.stderr), (0, b""))
        return result.stdout

    def test_ids(self):
        self.assertEqual(self.tokenize("-p", "abab", "--ids"), b"1 263 262\n")
        self.assertEqual(self.tokenize("-p", "abab", "--ids", "--no-bos"), b"263 262\n")
        self.assertEqual(self.tokenize("-p", "", "--ids", "--no-bos"), b"\n")
        self.assertEqual(self.tokenize("-p", "<s>", "--ids", "--no-bos"), b"1\n")
        self.assertNotEqual(self.tokenize("-p", "<s>", "--ids", "--no-bos", "--no-special"), b"1\n")

    def test_pieces(self):
        self.assertEqual(self.tokenize("-p", "ab\n\xff", "--no-bos").split(b"\n")[:2],
                         [b"263\t ab", b"13\t\\n"])

    def test_text_from_file_and_stdin(self):
        expected = self.tokenize("-p", "ab\n", "--ids")
        self.assertEqual(self.tokenize("-f", self.path("text", b"ab\n"), "--ids"), expected)
        self.assertEqual(self.tokenize("--ids", stdin=b"ab\n"), expected)


class Bench(Case):
    """What comes out and whether it fits together; not how fast anything is."""

    def bench(self, *args, env=None):
        runs = [] if "-r" in args else ["-r", "1"]
        result = run("bench", "-p", "8", "-n", "4", *runs, *args,
                     env={"TMPDIR": self.directory, **(env or {})})
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertEqual(os.listdir(self.directory), [])
        return result

    def json(self, *args, env=None):
        result = self.bench("--shape", "tiny", "-o", "json", *args, env=env)
        self.assertRegex(result.stderr.decode(), r"^hob: writing .*gguf, .* removed again\n$")
        return json.loads(result.stdout)

    def assert_samples(self, samples, runs):
        self.assertEqual(len(samples["samples"]), runs)
        for value in samples["samples"]:
            self.assertTrue(0 < value < float("inf"), samples)
        ordered = sorted(samples["samples"])
        self.assertEqual((samples["min"], samples["max"]), (ordered[0], ordered[-1]))
        middle = (ordered[(runs - 1) // 2] + ordered[runs // 2]) / 2
        self.assertAlmostEqual(samples["median"], middle, delta=1e-9 * middle)

    def assert_speed(self, speed, tokens, before, runs, limits):
        self.assertEqual((speed["tokens"], speed["tokens_before"]), (tokens, before))
        for name in "seconds", "tokens_per_second", "share":
            self.assert_samples(speed[name], runs)
        self.assert_samples(speed["limit"]["rate"], runs)
        self.assertIn(speed["limit"]["name"], limits)
        amount = (speed["matmul_operations"] if speed["limit"]["unit"] == "operations/s"
                  else speed["weight_bytes"] + speed["cache_bytes"])
        for i in range(runs):
            seconds = speed["seconds"]["samples"][i]
            self.assertAlmostEqual(speed["tokens_per_second"]["samples"][i] * seconds / tokens, 1)
            least = amount / speed["limit"]["rate"]["samples"][i]
            self.assertAlmostEqual(speed["share"]["samples"][i] * seconds / least, 1)

    def test_json(self):
        reads = {"l1", "l2", "l3", "memory"}
        for format, kind in ("q4_0", "int8_dot"), ("bf16", "bf16_dot"), ("f16", "f32_fma"):
            data = self.json("--format", format, "-r", "3", "-t", "1")
            self.assertRegex(data["versions"]["hob"], r"^\d+\.\d+\.\d+$")
            self.assertEqual(data["machine"]["target"], targets()[0])
            self.assertEqual(data["machine"]["threads"], 1)
            model = data["model"]
            self.assertEqual((model["shape"], model["format"], model["file"]), ("tiny", format, None))
            self.assertEqual(model["matrices"], {format: 15})
            # Every matrix of the shape, the embedding as output matrix.
            weights = 2 * (2 * 256 * 256 + 2 * 256 * 128 + 3 * 256 * 512) + 512 * 256
            self.assertEqual(model["weights_per_token"], weights)
            self.assert_samples(data["load"]["seconds"], 3)
            self.assert_speed(data["prompt"], 8, 0, 3, {kind})
            self.assert_speed(data["generation"], 4, 16, 3, reads)
            self.assertEqual(data["generation"]["matmul_operations"], 4 * 2 * weights)
            self.assertEqual(data["generation"]["weight_bytes"], 4 * model["packed_bytes"])
            self.assertGreater(data["peak_memory_bytes"], model["packed_bytes"])
            self.assertNotIn("deep_generation", data)
            self.assertNotIn("profile", data)

    def test_context_and_profile(self):
        for threads in "1", "2":
            data = self.json("--context", "300", "--profile", "-t", threads)
            self.assert_speed(data["deep_generation"], 4, 300, 1, {"l1", "l2", "l3", "memory"})
            # bf16 keys and values of 128 elements in 2 layers.
            for name, before in ("generation", 16), ("deep_generation", 300):
                tokens = sum(range(before + 1, before + 5))
                self.assertEqual(data[name]["cache_bytes"], 2 * 2 * 128 * 2 * tokens)
            self.assertEqual(set(data["profile"]), {"prompt", "generation", "deep_generation"})
            for name, spent in data["profile"].items():
                self.assertGreater(spent["seconds"], 0)
                ops = spent["ops"]
                for op in "embed", "rms_norm", "prepare", "matmul", "rope", "append", "attention":
                    self.assertGreater(ops[op], 0, name)
                self.assertEqual(ops["sampling"] > 0, name != "prompt")
                self.assertAlmostEqual(sum(ops.values()), 1, places=3)
                self.assertAlmostEqual(
                    sum(spent["matmuls"].values()), ops["matmul"] + ops["gated_matmul"]
                )
                self.assertTrue({"q", "ffn", "down", "logits"} <= set(spent["matmuls"]))

    def test_cache_type(self):
        data = self.json("--cache-type", "q8_0")
        self.assertEqual(data["model"]["cache_type"], "q8_0")
        # Heads of 64 elements, each with two scales.
        tokens = sum(range(17, 21))
        self.assertEqual(data["generation"]["cache_bytes"], 2 * 2 * 2 * (64 + 8) * tokens)

    def test_text(self):
        text = self.bench("--shape", "tiny", "--format", "q8_0").stdout.decode()
        self.assertIn("tiny with random weights", text)
        self.assertRegex(text, r"\nload +[\d.]+ ms +[\d.]+ \.\. [\d.]+\n")
        self.assertRegex(text, r"\nprompt, 8 tokens +[\d.]+ tok/s +.* % of [\d.]+ .?op/s int8 dots\n")
        self.assertRegex(text, r"\ngeneration, 4 tokens after 16 +[\d.]+ tok/s +.* % of .*B/s from ")
        self.assertNotIn("waiting", text)
        self.assertLess(max(map(len, text.splitlines())), 120)
        text = self.bench("--shape", "tiny", "--profile", "--context", "100").stdout.decode()
        self.assertRegex(text, r"\ntime of all threads +prompt +generation +after 100\n")
        self.assertRegex(text, r"\nwaiting +[\d.]+ % +[\d.]+ % +[\d.]+ %\n")

    def test_scalar_has_no_peak(self):
        data = self.json(env={"HOB_TARGET": "scalar"})
        self.assertEqual(data["machine"]["target"], "scalar")
        self.assertIsNone(data["prompt"]["share"])
        self.assert_samples(data["prompt"]["tokens_per_second"], 1)
        self.assert_speed(data["generation"], 4, 16, 1, {"l1", "l2", "l3", "memory"})

    def test_models(self):
        if has_default_model():
            data = json.loads(self.bench("-o", "json").stdout)
            self.assertEqual((data["model"]["file"], data["model"]["shape"]), (None, None))
        with tempfile.TemporaryDirectory() as directory:
            path = os.path.join(directory, "tiny.gguf")
            run("synth", "--shape", "tiny", "--format", "q8_0", "-o", path)
            data = json.loads(self.bench("-m", path, "-o", "json").stdout)
            self.assertEqual(data["model"]["file"], path)
            # Without -p and -n, whatever fits.
            result = run("bench", "-m", path, "-r", "1", "-o", "json", "--context", "500")
            data = json.loads(result.stdout)
            self.assertEqual((data["prompt"]["tokens"], data["generation"]["tokens"]), (512, 12))
            self.assert_fails(run("bench", "-m", path, "-p", "513"), 2, "513", "512")
            self.assert_fails(run("bench", "-m", path, "-n", "500"), 2, "500", "512")
            self.assert_fails(run("bench", "-m", path, "--context", "512"), 2, "512")

    def test_interrupted(self):
        for number in signal.SIGINT, signal.SIGTERM:
            # Once while it writes, once while it measures.
            for shape, args in ("smollm2-135m", ["--format", "f32"]), ("tiny", ["-r", "1000000"]):
                process = subprocess.Popen([HOB, "bench", "--shape", shape, *args],
                                           env={**os.environ, "TMPDIR": self.directory},
                                           stdout=subprocess.PIPE, stderr=subprocess.PIPE)
                process.stderr.readline()  # that it is going to write
                time.sleep(0.2)
                process.send_signal(number)
                out, error = process.communicate(timeout=60)
                self.assertEqual((process.returncode, out), (128 + number, b""), error)
                self.assertEqual(os.listdir(self.directory), [])


class Targets(Case):
    def test_list(self):
        result = run("targets")
        self.assertEqual((result.returncode, result.stderr), (0, b""))
        self.assertEqual(result.stdout.count(b"* "), 1)
        self.assertEqual(targets()[-1], "scalar")

    def test_cap(self):
        for name in targets():
            lines = run("targets", env={"HOB_TARGET": name}).stdout.decode().splitlines()
            self.assertIn("* " + name, " ".join(line for line in lines if line[0] == "*"))


class Verify(Case):
    def test_text(self):
        result = run("verify", "--op", "matmul", "--format", "q4_k", "--verbose")
        self.assertEqual(result.returncode, 0, result.stderr)
        head, row, _, digest = result.stdout.decode().splitlines()
        self.assertEqual(head.split()[-1 - len(targets()):], targets() + ["digest"])
        self.assertEqual(row.split()[:2], ["matmul", "q4_k"])
        self.assertEqual(row.split().count("same"), len(targets()))
        self.assertRegex(digest, "^digest  [0-9a-f]{64}$")

    def test_json(self):
        result = run("verify", "--format", "q6_k", "--json")
        self.assertEqual(result.returncode, 0, result.stderr)
        report = json.loads(result.stdout)
        self.assertTrue(report["ok"])
        self.assertEqual({line["op"] for line in report["lines"]},
                         {"matmul", "dequantize", "embed", "encode"})
        for line in report["lines"]:
            self.assertEqual(line["variant"], "q6_k")
            self.assertEqual(list(line["targets"]), targets())
            for target in line["targets"].values():
                self.assertEqual(target, {"different": 0, "digest": line["digest"]})
        matmul = report["lines"][0]
        self.assertEqual(matmul["checked"], matmul["outputs"])
        self.assertLess(matmul["worst"]["share_of_bound"], 1)

    def test_one_target_gives_the_same_digest(self):
        digests = {json.loads(run("verify", "--op", "softmax", "--json", *args).stdout)["digest"]
                   for args in ([], ["--target", "scalar"])}
        self.assertEqual(len(digests), 1)


class Vectors(Case):
    def test_export_and_check(self):
        directory = os.path.join(self.directory, "vectors")
        result = run("vectors", "export", directory)
        self.assertEqual((result.returncode, result.stdout), (0, b""), result.stderr)
        result = run("vectors", "check", directory, "--json")
        self.assertEqual(result.returncode, 0, result.stderr)
        report = json.loads(result.stdout)
        self.assertTrue(report["ok"])
        self.assertEqual(list(report["lines"][0]["targets"]), ["reference"] + targets())

    def test_damaged(self):
        directory = os.path.join(self.directory, "vectors")
        self.assert_fails(run("vectors", "check", directory), 1, directory)
        run("vectors", "export", directory)
        index, data = os.path.join(directory, "vectors.json"), os.path.join(directory, "add.bin")
        with open(data, "r+b") as file:
            file.write(b"x")
        self.assert_fails(run("vectors", "check", directory), 1, "add.bin", "SHA-256")
        run("vectors", "export", directory)
        with open(index, encoding="utf-8") as file:
            good = json.load(file)

        def check(change):
            bad = json.loads(json.dumps(good))
            change(bad)
            with open(index, "w", encoding="utf-8") as file:
                json.dump(bad, file)
            return run("vectors", "check", directory)

        def set_case(key, value):
            return lambda bad: bad["cases"][0].__setitem__(key, value)

        self.assert_fails(check(lambda bad: bad.__setitem__("version", 2)), 1, "version 1")
        self.assert_fails(check(lambda bad: bad.__setitem__("cases", [])), 1, "no cases")
        self.assert_fails(check(lambda bad: bad["files"][0].__setitem__("name", "../x")), 1, "../x")
        self.assert_fails(check(set_case("op", "mul")), 1, "mul")
        self.assert_fails(check(set_case("numbers", {"m": 1e18})), 1)
        self.assert_fails(check(set_case("numbers", {})), 1)
        self.assert_fails(check(set_case("inputs", [])), 1, "input")
        self.assert_fails(check(set_case("outputs", [])), 1, "outputs")
        offset = lambda bad: bad["cases"][0]["inputs"][0].__setitem__("offset", 2**60)
        self.assert_fails(check(offset), 1, "beyond")
        shape = lambda bad: bad["cases"][0]["inputs"][0].__setitem__("shape", [2**40, 2**40])
        self.assert_fails(check(shape), 1, "beyond")

    def test_a_wrong_bit_is_found(self):
        directory = os.path.join(self.directory, "vectors")
        run("vectors", "export", directory)
        index = os.path.join(directory, "vectors.json")
        with open(index, encoding="utf-8") as file:
            vectors = json.load(file)
        add = next(case for case in vectors["cases"] if case["op"] == "add")
        with open(os.path.join(directory, "add.bin"), "r+b") as file:
            file.seek(add["outputs"][0]["offset"])
            byte = file.read(1)
            file.seek(-1, os.SEEK_CUR)
            file.write(bytes([byte[0] ^ 1]))
            file.seek(0)
            digest = hashlib.sha256(file.read()).hexdigest()
        for entry in vectors["files"]:
            if entry["name"] == "add.bin":
                entry["sha256"] = digest
        with open(index, "w", encoding="utf-8") as file:
            json.dump(vectors, file)
        result = run("vectors", "check", directory)
        self.assertEqual(result.returncode, 1)
        self.assertIn(b"different: add - on reference", result.stdout)


class DefaultModel(Case):
    def setUp(self):
        super().setUp()
        if not has_default_model():
            self.skipTest("no default model in this build")

    def test_run(self):
        result = run("run", "-p", "turn off the kitchen lights")
        self.assertEqual(result.returncode, 0, result.stderr)
        answer = json.loads(result.stdout)
        self.assertEqual(answer["intent"], "lights_set")
        self.assertRegex(result.stderr.decode(), r"^hob: \d+ prompt tokens in .* tok/s.*\n$")

    def test_run_from_stdin_and_quietly(self):
        expected = run("run", "-q", "-p", "set a timer for ten minutes")
        self.assertEqual(expected.stderr, b"")
        result = run("run", "-q", stdin=b"set a timer for ten minutes\n")
        self.assertEqual(result.stdout, expected.stdout)

    def test_seed(self):
        # Hot and unfiltered, since the model is sure of its answers.
        args = ["run", "-q", "-p", "hello there", "--temp", "3", "--top-k", "0", "--top-p", "1",
                "--min-p", "0", "-n", "20"]
        first = run(*args, "--seed", "1").stdout
        self.assertEqual(run(*args, "--seed", "1", "-t", "2").stdout, first)
        others = {run(*args, "--seed", str(seed)).stdout for seed in range(2, 7)}
        self.assertNotEqual(others, {first})

    def test_prompt_cache(self):
        cache = self.path("cache")

        def answer(prompt, *args):
            result = run("run", "-p", prompt, *args)
            self.assertEqual(result.returncode, 0, result.stderr)
            return result.stdout, result.stderr.decode()

        def reused(stderr):
            found = re.match(r"hob: (\d+) prompt tokens from .*cache\n", stderr)
            return int(found[1]) if found else 0

        lights, radio = "turn off the kitchen lights", "turn off the radio"
        expected = {prompt: answer(prompt)[0] for prompt in (lights, radio)}
        out, stderr = answer(lights, "--prompt-cache", cache)
        self.assertEqual((out, reused(stderr)), (expected[lights], 0))
        first, written = self.read("cache"), os.stat(cache).st_ino
        # The same again: all but the last token. The file is right as it is.
        out, stderr = answer(lights, "--prompt-cache", cache, "-t", "1", "--batch", "1")
        self.assertEqual(out, expected[lights])
        whole = reused(stderr)
        self.assertGreater(whole, 3)
        self.assertEqual(os.stat(cache).st_ino, written)
        self.assertTrue(self.read("cache") == first)
        # Another prompt that begins alike; the file becomes its.
        out, stderr = answer(radio, "--prompt-cache", cache)
        self.assertEqual(out, expected[radio])
        self.assertTrue(0 < reused(stderr) < whole, stderr)
        self.assertFalse(self.read("cache") == first)
        out, stderr = answer(lights, "--prompt-cache", cache, "-q")
        self.assertEqual((out, stderr), (expected[lights], ""))
        self.assertTrue(self.read("cache") == first)
        self.assertEqual(os.listdir(self.directory), ["cache"])

        args = ["run", "-p", lights, "--prompt-cache", cache]
        self.assert_fails(run(*args, "--cache-type", "f32"), 1, "cache", "f32")
        self.assert_fails(run(*args, "-c", "5"), 1, "context of 5")
        self.path("cache", first[:-1])
        self.assert_fails(run(*args), 1, cache, "expected %d" % len(first))
        self.assert_fails(run("run", "-p", lights, "--prompt-cache", "/no/such/dir/cache"), 1,
                          "/no/such")

    def test_no_tokens(self):
        result = run("run", "-n", "0", "-p", "x")
        self.assertEqual((result.returncode, result.stdout), (0, b"\n"))

    def test_logits(self):
        tokens = list(range(1, 41))
        listed = ",".join(map(str, tokens))

        def logits(*args, env=None):
            result = run("logits", "--tokens", listed, "-o", self.path("out"), *args, env=env)
            self.assertEqual((result.returncode, result.stdout, result.stderr), (0, b"", b""))
            return self.read("out")

        expected = logits("-t", "1")
        size = len(expected)
        vocabulary = json.loads(run("info", "--json").stdout)
        vocabulary = vocabulary["metadata"]["tokenizer.ggml.tokens"]["count"]
        self.assertEqual(size, len(tokens) * vocabulary * 4)
        for args in (["-t", "2"], ["-t", "3", "--batch", "1"], ["--batch", "7"], ["--batch", "512"]):
            self.assertTrue(logits(*args) == expected, args)
        for name in targets():
            self.assertTrue(logits(env={"HOB_TARGET": name}) == expected, name)

        run("logits", "--tokens-file", self.path("ids", listed.replace(",", "\n").encode()),
            "-o", self.path("from_file"))
        self.assertTrue(self.read("from_file") == expected)

    def test_logits_errors(self):
        out = self.path("out")
        self.assert_fails(run("logits", "--tokens", "1,x", "-o", out), 2, "\"x\"")
        self.assert_fails(run("logits", "--tokens", "99999999", "-o", out), 1, "99999999")
        self.assertFalse(os.path.exists(out))
        self.assert_fails(run("logits", "--tokens", "1", "-o", "/no/such/dir/out"), 1, "/no/such")
        if os.path.exists("/dev/full"):
            self.assert_fails(run("logits", "--tokens", "1", "-o", "/dev/full"), 1, "/dev/full")

    def test_closed_pipe(self):
        reader, writer = os.pipe()
        os.close(reader)
        result = subprocess.run([HOB, "run", "-p", "hello"], stdout=writer, stdin=subprocess.DEVNULL,
                                stderr=subprocess.PIPE, timeout=60)
        os.close(writer)
        self.assertEqual(result.returncode, 1)
        self.assertEqual(result.stderr.count(b"\n"), 1, result.stderr)

    def test_interrupt(self):
        process = subprocess.Popen([HOB, "run", "--raw", "--temp", "9", "-n", "1000000"],
                                   stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                   stderr=subprocess.PIPE)
        time.sleep(0.5)  # it waits for its prompt, so this cannot come too late
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
        self.assertEqual(process.returncode, 130)


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    HOB = sys.argv.pop(1)
    unittest.main()
