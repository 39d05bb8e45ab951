#!/usr/bin/env python3
"""Known bugs of this field, planted one at a time in a copy of the kernels: does the suite see each?

    python3 tests/mutants.py --check                    every pattern is found exactly once (a moment)
    python3 tests/mutants.py --run [NAME...]            build and test each mutant (long); exit code 1
                                                        if one survives
    python3 tests/mutants.py --table                    the list, as it is in docs/testing.md

`./dev mutants` is --run. The copy is built for one instruction set (AVX2, which has the most code of
its own) and a few formats, so that a mutant recompiles little. Options: --build DIR (default
build/mutants, kept for the next time), --cmake-args "...".
"""

import argparse
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections import namedtuple

SOURCE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
FORMATS = ("f32", "f16", "bf16", "q8_0", "q4_0", "q5_0", "q4_k", "q6_k")

# name: what is wrong; file, old text, new text; the test program and the tests that must fail.
Mutant = namedtuple("Mutant", "name what file old new test filter")

MUTANTS = [
    Mutant("rows-tail", "the elements behind the last whole vector are not added", "kernels/rows.cc",
           "if (j < n) hn::StoreN(hn::Add(LoadRest(a, n, j), LoadRest(b, n, j)), df, out + j, n - j);",
           "", "rows_test", "*RowsTest.Add/*"),
    Mutant("matmul-tail", "outputs that fill no vector are not stored", "kernels/matmul-inl.h",
           "hn::StoreN(c, df, task.out + at, count);", "", "matmul_test",
           "*MatmulTest.ShapesMatchTheReference*"),
    Mutant("odd-panel", "the partner of the last panel lies behind the weights",
           "kernels/matmul-inl.h", "panel + 1 < panel_end ? first + panel_bytes : first}",
           "first + panel_bytes}", "matmul_test", "*MatmulTest.*"),
    Mutant("nibbles", "the halves of a byte of codes are swapped", "kernels/dequantize-inl.h",
           "code = CodeQuad<F, kQuad % F::kQuads>(",
           "code = CodeQuad<F, (kQuad ^ (F::kWidth == 4 ? 4 : 0)) % F::kQuads>(", "matmul_test",
           "*MatmulTest.ShapesMatchTheReference*"),
    Mutant("zero-point", "the zero point is off by one", "kernels/matmul-inl.h",
           "hn::Set(DI32(), -kZeroPoint<F>)", "hn::Set(DI32(), 1 - kZeroPoint<F>)", "matmul_test",
           "*MatmulTest.ShapesMatchTheReference*"),
    Mutant("saturation", "16-bit sums of 5-bit codes may saturate", "kernels/isa-inl.h",
           ": F::kMaxLevel <= 31  ? 4", ": F::kMaxLevel <= 31  ? 8", "matmul_test", "*MatmulTest.*"),
    Mutant("f16-accumulator", "the accumulator is kept in f16", "kernels/tile-inl.h",
           "acc = hn::MulAdd(hn::ConvertTo(df, sum), scale, acc);",
           "acc = hn::PromoteTo(df, hn::DemoteTo(hn::Rebind<hwy::float16_t, DF32>(), "
           "hn::MulAdd(hn::ConvertTo(df, sum), scale, acc)));", "matmul_test",
           "*MatmulTest.ShapesMatchTheReference*"),
    Mutant("f16-scale", "the product of the scales is rounded to f16", "kernels/tile-inl.h",
           "const VF32 scale = hn::Mul(w_scale, x_scale);",
           "const VF32 scale = hn::PromoteTo(df, hn::DemoteTo(hn::Rebind<hwy::float16_t, DF32>(), "
           "hn::Mul(w_scale, x_scale)));", "matmul_test",
           "*MatmulTest.ShapesMatchTheReference*"),
    Mutant("minimum-sign", "the minimum is added instead of subtracted", "kernels/tile-inl.h",
           "acc = hn::NegMulAdd(w_min, ", "acc = hn::MulAdd(w_min, ", "matmul_test",
           "*MatmulTest.ShapesMatchTheReference*"),
    Mutant("unfused", "a product and a sum that round twice", "kernels/tile-inl.h",
           "static HWY_INLINE VF32 Step(VF32 acc, VF32 w, VF32 x) { return hn::MulAdd(w, x, acc); }",
           "static HWY_INLINE VF32 Step(VF32 acc, VF32 w, VF32 x) { return hn::Add(hn::Mul(w, x), "
           "acc); }", "matmul_test", "*MatmulTest.ShapesMatchTheReference*"),
    Mutant("residual-twice", "the residual is added twice", "kernels/matmul-inl.h",
           "if (task.residual != nullptr) c = hn::Add(load(task.residual + at), c);",
           "if (task.residual != nullptr) c = hn::Add(load(task.residual + at), "
           "hn::Add(load(task.residual + at), c));", "matmul_test", "*MatmulTest.BiasAndResidual*"),
    Mutant("last-step", "the last step stores without the residual", "kernels/tile-inl.h",
           "if (c.residual != nullptr) acc = hn::Add(hn::LoadU(df, c.residual + at), acc);", "",
           "matmul_test", "*MatmulTest.BiasAndResidual*"),
    Mutant("bias", "the bias is left out", "kernels/matmul-inl.h",
           "if (task.bias != nullptr) c = hn::Add(c, load(task.bias + n));", "", "matmul_test",
           "*MatmulTest.BiasAndResidual*"),
    Mutant("no-flush", "bf16 steps keep subnormal numbers", "kernels/isa-inl.h",
           "_mm_setcsr(saved_ | 0x8040)", "_mm_setcsr(saved_)", "matmul_test",
           "*MatmulTest.AwkwardDataMatchesTheReference*"),
    Mutant("mode-leak", "a kernel leaves the processor in flush-to-zero mode", "kernels/isa-inl.h",
           "HWY_INLINE ~BF16Scope() { _mm_setcsr(saved_); }", "HWY_INLINE ~BF16Scope() {}",
           "matmul_test", "*MatmulTest.ShapesMatchTheReference*"),
    Mutant("eps", "RMSNorm without its epsilon", "kernels/rows.cc",
           "hn::Add(hn::Set(df, mean), hn::Set(df, eps))", "hn::Set(df, mean)", "rows_test",
           "*RowsTest.RmsNorm/*"),
    Mutant("tree", "partial sums are added in another order", "kernels/rows.cc",
           "const auto low = hn::Add(hn::LoadU(d, s), hn::LoadU(d, s + 8));\n"
           "  const auto high = hn::Add(hn::LoadU(d, s + 4), hn::LoadU(d, s + 12));",
           "const auto low = hn::Add(hn::LoadU(d, s), hn::LoadU(d, s + 4));\n"
           "  const auto high = hn::Add(hn::LoadU(d, s + 8), hn::LoadU(d, s + 12));", "rows_test",
           "*RowsTest.RmsNorm/*"),
    Mutant("softmax-max", "softmax does not subtract the maximum", "kernels/rows.cc",
           "const VF32 shift = hn::Set(df, max == -HUGE_VALF ? 0.0f : max);",
           "const VF32 shift = hn::Set(df, 0.0f);", "rows_test",
           "*RowsTest.Softmax/*"),
    Mutant("argmax-tie", "of equal logits the last wins", "kernels/rows.cc", "if (most > max) {",
           "if (most >= max) {", "rows_test", "*RowsTest.Argmax*"),
    Mutant("rope-half", "RoPE pairs neighbours where halves are paired, and the reverse",
           "kernels/rows.cc", "if (style == HOB_ROPE_HALVES) {", "if (style != HOB_ROPE_HALVES) {",
           "rows_test", "*RowsTest.Rope/*"),
    Mutant("rope-sign", "RoPE turns the wrong way", "kernels/rows.cc",
           "hn::StoreU(hn::MulSub(x, c, hn::Mul(y, s)), df, a);",
           "hn::StoreU(hn::MulAdd(x, c, hn::Mul(y, s)), df, a);", "rows_test", "*RowsTest.Rope/*"),
    Mutant("causal-mask", "a query sees one token of its future", "kernels/attention.cc",
           "b.w.end[r] = keys.end;", "b.w.end[r] = std::min(keys.end + 1, task.pos + task.m);",
           "attention_test", "*AttentionTest.TheFutureIsInvisible*"),
    Mutant("causal-definition", "the same in the definition that kernels and reference share",
           "kernels/attention.h", "options.bidirectional ? pos + m : pos + i + 1;",
           "options.bidirectional || i + 1 == m ? pos + m : pos + i + 2;", "attention_test",
           "AttentionReferenceTest.*"),
    Mutant("window", "a window is one token too long", "kernels/attention.h",
           "return {cut ? end - options.window : 0, end};",
           "return {cut ? end - options.window - 1 : 0, end};", "attention_test",
           "*AttentionTest.ThePastBeyondTheWindowIsInvisible*"),
    Mutant("kv-head", "query heads look at the wrong KV head", "kernels/attention.cc",
           "const size_t offset = kv_head * layout.head;",
           "const size_t offset = (kv_head ^ 1) % cache.n_kv_heads * layout.head;",
           "attention_test", "*AttentionTest.HeadShapesMatchTheReference*"),
    Mutant("merge-order", "chunks of keys are merged in the order in which threads finish",
           "kernels/attention.cc",
           "MergeRow(b.SumsOf(chunk, r), factor, w.all_sums + r * kPanel, all_factor, kPanel);",
           "MergeRow(w.all_sums + r * kPanel, all_factor, b.SumsOf(chunk, r), factor, kPanel);\n"
           "std::memcpy(w.all_sums + r * kPanel, b.SumsOf(chunk, r), kPanel * sizeof(float));",
           "attention_test", "*AttentionTest.*"),
    Mutant("chunk-maximum", "a chunk's last tile does not count for its maximum",
           "kernels/attention.cc",
           "tile < span.End(chunk); ++tile) {\n    const float* scores",
           "tile + 1 < span.End(chunk); ++tile) {\n    const float* scores",
           "attention_test", "*AttentionTest.*"),
    Mutant("chunk-sums", "a chunk's sums begin anew with each tile", "kernels/attention.cc",
           "sum = WeighKeys<C>(scores, i, shift, sum);",
           "sum = WeighKeys<C>(scores, i, shift, hn::Zero(df));", "attention_test",
           "*AttentionTest.*"),
    Mutant("weight-limit", "weights far below the largest are not zero", "kernels/math-inl.h",
           "const VF32 min = hn::Set(df, kExp2Min);", "const VF32 min = hn::Set(df, kExp2Min + 2);",
           "attention_test", "*AttentionTest.*"),
    Mutant("acts-rest", "the last activations of a row stay behind", "kernels/matmul-inl.h",
           "if (rest > 0) hn::StoreN(", "if (rest > dx.MaxLanes()) hn::StoreN(", "matmul_test",
           "*MatmulTest.*"),
    Mutant("tile-start", "a tile's first step goes on from what the rows before left",
           "kernels/matmul-inl.h", "if (first) out.from = kZeros", "if (false) out.from = kZeros",
           "matmul_test", "*MatmulTest.*"),
    Mutant("added-flushed", "what is added to a bf16 sum is flushed like it",
           "kernels/tile-inl.h",
           "{  // what is added to the outputs has its subnormals\n"
           "    [[maybe_unused]] const typename E::Scope scope;",
           "[[maybe_unused]] const typename E::Scope scope;\n{", "matmul_test", "*MatmulTest.*"),
    Mutant("chunk-values", "a chunk's values go on from those of the one before",
           "kernels/attention.cc", "AddWholeValues(b, tile, together, tile == begin);",
           "AddWholeValues(b, tile, together, false);", "attention_test", "*AttentionTest.*"),
    Mutant("tiles-apart", "the values of tiles that lie apart are read as if they did not",
           "kernels/attention.cc",
           "tiles[n].lanes == tiles[0].lanes + n * b.layout.TileLanes()", "true", "attention_test",
           "*AttentionTest.SegmentsChangeNothing*"),
    Mutant("last-piece", "the last blocks that fill no vector are not quantized", "kernels/rows.cc",
           "HWY_MIN(layout.piece, layout.count - layout.piece - at)",
           "layout.count - layout.piece - at < layout.piece ? 0 : layout.piece", "rows_test",
           "*RowsTest.QuantizeQ8*"),
    Mutant("code-pieces", "what is left on top of the bytes is read from a bit lower",
           "kernels/dequantize-inl.h", "ShiftLoose<int{kPiece.to} - int{kPiece.from}>(v)",
           "ShiftLoose<int{kPiece.to} - int{kPiece.from} + 1>(v)", "matmul_test",
           "*MatmulTest.ShapesMatchTheReference*"),
    Mutant("padding", "what lies beside the head counts", "kernels/attention.cc",
           "const VF32 x = hn::Mul(hn::LoadN(df, q + d, head_dim - d), factor);\n"
           "  return hn::IfThenElseZero(hn::FirstN(df, head_dim - d), x);",
           "return hn::Mul(hn::LoadU(df, q + d), factor);", "attention_test",
           "*AttentionTest.AwkwardDataMatchesTheReference*"),
    Mutant("cache-scale", "the second token of a pair of a q8_0 cache has the scale of the first",
           "kernels/attention.cc", "hn::Set(DF32(), scales[blocks]);",
           "first_scale;", "attention_test",
           "*AttentionTest.Q8IsBF16OfWhatItHolds*"),
    Mutant("quantize-pair", "the last of four blocks takes the maximum of its neighbour",
           "kernels/rows.cc", "m3 = BlockMax(x + 3 * step);",
           "m3 = BlockMax(x + 2 * step);", "rows_test", "*RowsTest.QuantizeQ8*"),
    Mutant("region-early", "a phase opens before the one before it is complete",
           "runtime/region.cc", "while (due_[phase + 1] <= finished) ++phase;",
           "while (due_[phase + 1] <= finished + 1) ++phase;",
           "region_test", "RegionTest.*"),
    Mutant("region-chunk", "the first chunk of a phase runs twice", "runtime/region.cc",
           "const size_t chunk = owner + count * at_once();",
           "const size_t chunk = owner + (count - (count > 0)) * at_once();", "region_test",
           "RegionTest.AnyNumberOfParticipants"),
    Mutant("append-head", "attention appends every KV head's keys to the first one",
           "runtime/executor.cc", "AppendTokens(append, {begin, end}, share.kv_head, 1);",
           "AppendTokens(append, {begin, end}, 0, 1);", "model_test", "*"),
    Mutant("norm-stale", "a participant keeps the norm of the matmuls before",
           "runtime/executor.cc", "!= &norm) {", "== nullptr) {", "model_test", "*"),
    Mutant("norm-input", "what a norm is made of is overwritten where others still make theirs",
           "runtime/graph.cc", "return LastPhaseOf(consumer) >= phase_of_[i]; });",
           "return phase_of_[consumer] >= phase_of_[i]; });", "graph_test", "GraphTest.*"),
    Mutant("prepared-early", "what attention prepares lies where others still read",
           "runtime/graph.cc",
           "return absorber == kNoOp ? phase : std::min(phase, phase_of_[absorber]);",
           "return absorber == kNoOp ? phase : phase;", "graph_test", "GraphTest.*"),
]


def read(path):
    with open(path, encoding="utf-8") as file:
        return file.read()


def write(path, text):
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)


def check():
    """The mutants whose text is not there exactly once: a list of messages."""
    wrong = []
    for mutant in MUTANTS:
        count = read(os.path.join(SOURCE, mutant.file)).count(mutant.old)
        if count != 1:
            wrong.append(f"{mutant.name}: the text to change is {count} times in {mutant.file}, "
                         f"expected once: {mutant.old!r}")
        if mutant.old == mutant.new:
            wrong.append(f"{mutant.name}: changes nothing")
    names = [mutant.name for mutant in MUTANTS]
    wrong += [f"{name}: this name is used twice" for name in set(names) if names.count(name) > 1]
    return wrong


def table():
    lines = ["| mutant | what is wrong | in | must be seen by |", "|---|---|---|---|"]
    for m in MUTANTS:
        tests = m.filter.replace("*", "").strip("/.") or "all"
        lines.append(f"| {m.name} | {m.what} | {m.file} | {m.test}: {tests} |")
    return "\n".join(lines)


class Copy:
    """A copy of the source tree with fewer formats, and its build."""

    def __init__(self, directory, cmake_args):
        self.source, self.build = os.path.join(directory, "src"), os.path.join(directory, "build")
        self.sync()
        args = ["cmake", "-S", self.source, "-B", self.build, "-DCMAKE_BUILD_TYPE=Release",
                "-DHOB_TARGETS=avx2", "-DHOB_BUILD_BENCH=OFF", "-DHOB_BUILD_TOOLS=OFF",
                "-DHOB_INSTALL=OFF", "-DHOB_DEFAULT_MODEL=OFF",
                f"-DHOB_HIGHWAY_DIR={highway()}", "-DCMAKE_CXX_FLAGS_RELEASE=-O1"]
        if shutil.which("ninja"):
            args += ["-G", "Ninja"]
        if shutil.which("ccache") and "COMPILER_LAUNCHER" not in cmake_args:
            args.append("-DCMAKE_CXX_COMPILER_LAUNCHER=ccache")
        run(args + shlex.split(cmake_args), 600)

    def sync(self):
        """Copies what has changed and nothing else, so that little is compiled again."""
        files = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], cwd=SOURCE,
                               capture_output=True, text=True, check=True).stdout.split("\n")
        for name in filter(None, files):
            source, copy = os.path.join(SOURCE, name), os.path.join(self.source, name)
            if not os.path.isfile(source):
                continue
            with open(source, "rb") as file:
                data = file.read()
            if name == "include/hob/formats.def":
                data = fewer_formats(data.decode()).encode()
            if os.path.exists(copy):
                with open(copy, "rb") as file:
                    if file.read() == data:
                        continue
            os.makedirs(os.path.dirname(copy), exist_ok=True)
            with open(copy, "wb") as file:
                file.write(data)

    def compile(self, test):
        run(["cmake", "--build", self.build, "--target", test, "-j", os.environ.get("JOBS", "2")],
            3600)

    def passes(self, mutant):
        env = dict(os.environ, HOB_TEST_QUICK="1")
        program = os.path.join(self.build, "tests", mutant.test)
        try:
            result = subprocess.run([program, "--gtest_filter=" + mutant.filter, "--gtest_brief=1"],
                                    capture_output=True, text=True, timeout=180, env=env)
        except subprocess.TimeoutExpired:
            return False, "it hangs"
        if result.returncode == 0 and not re.search(r"\[  PASSED  \] [1-9]", result.stdout):
            sys.exit(f"{mutant.name}: no test is called {mutant.filter}")
        failed = re.search(r"\[  FAILED  \] ([^,\s]+)", result.stdout)
        return result.returncode == 0, failed.group(1) if failed else "it crashes"


def fewer_formats(text):
    def wanted(line):
        row = re.match(r"HOB_FORMAT\([^,]*, *([a-z0-9_]+),", line)
        return row is None or row.group(1) in FORMATS

    return "".join(line for line in text.splitlines(True) if wanted(line))


def highway():
    """Where the developer's own build has Highway, if it is not installed."""
    fetched = os.path.join(SOURCE, "build", "_deps", "highway")
    return os.environ.get("HOB_HIGHWAY_DIR") or (fetched if os.path.isdir(fetched) else "")


def run(command, timeout):
    result = subprocess.run(command, capture_output=True, text=True, timeout=timeout)
    if result.returncode != 0:
        raise RuntimeError(" ".join(command) + "\n" + result.stdout[-3000:] + result.stderr[-3000:])


def run_mutants(names, directory, cmake_args):
    mutants = [mutant for mutant in MUTANTS if not names or mutant.name in names]
    unknown = set(names) - {mutant.name for mutant in mutants}
    if unknown:
        sys.exit("there is no mutant called " + ", ".join(sorted(unknown)))
    copy = Copy(directory, cmake_args)
    tests = sorted({mutant.test for mutant in mutants})
    print("building the copy as it is:", ", ".join(tests), flush=True)
    for test in tests:
        copy.compile(test)
    for mutant in mutants:
        good, failed = copy.passes(mutant)
        if not good:
            sys.exit(f"{mutant.test} {mutant.filter} fails without a mutant: {failed}")
    survivors = []
    for mutant in mutants:
        path = os.path.join(copy.source, mutant.file)
        before, start = read(path), time.time()
        try:
            write(path, before.replace(mutant.old, mutant.new))
            copy.compile(mutant.test)
            alive, failed = copy.passes(mutant)
        finally:
            write(path, before)
        seconds = time.time() - start
        print(f"{mutant.name:18} {'SURVIVES' if alive else 'killed by ' + failed}  ({seconds:.0f} s)",
              flush=True)
        if alive:
            survivors.append(mutant.name)
    print(f"{len(mutants) - len(survivors)} of {len(mutants)} mutants killed")
    return 1 if survivors else 0


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--run", nargs="*", metavar="NAME")
    parser.add_argument("--table", action="store_true")
    parser.add_argument("--build", default=os.path.join(SOURCE, "build", "mutants"))
    parser.add_argument("--cmake-args", default="")
    options = parser.parse_args()
    wrong = check()
    if wrong:
        sys.exit("\n".join(wrong))
    if options.table:
        print(table())
    documented = read(os.path.join(SOURCE, "docs", "testing.md"))
    if options.check and table() not in documented:
        sys.exit("docs/testing.md has another table than tests/mutants.py --table")
    if options.run is not None:
        return run_mutants(options.run, options.build, options.cmake_args)
    if not options.table and not options.check:
        parser.print_usage()
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
