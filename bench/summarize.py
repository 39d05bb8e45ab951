#!/usr/bin/env python3
"""Markdown tables from the JSON output of kernels_bench.

    kernels_bench --benchmark_repetitions=9 --benchmark_out=run.json --benchmark_out_format=json
    summarize.py run.json [more.json...]        (or from standard input)

Of the repetitions of a benchmark, in all files together, the median counts. Cells hold a rate and, in
brackets, the share of what the machine can do; docs/measuring.md explains both.
"""

import json
import re
import statistics
import sys

RATES = ("GOP/s", "Gvalues/s", "GB/s")


class Benchmark:
    """All repetitions of one benchmark."""

    def __init__(self, name):
        self.name = name
        parts = name.split("/")
        self.kernel, self.variant, self.threads = parts[0], parts[1], int(parts[-1][1:])
        # A read ceiling has the level of memory where others have the target.
        self.target = parts[2]
        self.shape = "/".join(parts[3:-1])
        self.dims = {key: int(value) for key, value in re.findall(r"([a-z]+)(\d+)", self.shape)}
        self.in_l2 = self.shape.endswith("_l2")
        self.runs = []

    def median(self, counter):
        values = [run[counter] for run in self.runs if counter in run]
        return statistics.median(values) if values else None

    def error(self):
        return next((run["error_message"] for run in self.runs if run.get("error_occurred")), None)

    def spread(self):
        """How far apart the repetitions are, as a part of their median."""
        for rate in RATES:
            values = [run[rate] for run in self.runs if rate in run]
            if values and statistics.median(values) > 0:
                return (max(values) - min(values)) / statistics.median(values)
        return 0.0

    def cell(self, rate):
        if self.error():
            return "error"
        value, share = self.median(rate), self.median("share")
        if value is None:
            return ""
        return number(value) if share is None else f"{number(value)} ({share * 100:.0f} %)"


def number(x):
    """Three digits that count."""
    for digits, least in ((0, 100), (1, 10)):
        if x >= least:
            return f"{x:.{digits}f}"
    return f"{x:.2f}"


def read(files):
    benchmarks, context = {}, {}
    for file in files:
        data = json.load(file)
        context = data.get("context", {})
        for run in data["benchmarks"]:
            if run.get("run_type") != "aggregate":
                name = run.get("run_name", run["name"])
                benchmarks.setdefault(name, Benchmark(name)).runs.append(run)
    return list(benchmarks.values()), context


def table(title, benchmarks, row, column, rate, corner):
    """Rows and columns in the order of the benchmarks: row(b) is a tuple of cells, column(b) a
    heading."""
    if not benchmarks:
        return
    cells = {(row(b), column(b)): b.cell(rate) for b in benchmarks}
    rows = list(dict.fromkeys(row(b) for b in benchmarks))
    columns = list(dict.fromkeys(column(b) for b in benchmarks))
    print(f"\n### {title}\n")
    print("| " + " | ".join([*corner, *columns]) + " |")
    print("|" + "---|" * len(corner) + "--:|" * len(columns))
    for r in rows:
        print("| " + " | ".join([*r, *(cells.get((r, c), "") for c in columns)]) + " |")


def threads_name(count):
    return "1 thread" if count == 1 else f"{count} threads"


def weight_shape(b):
    return f"{b.dims['n']} x {b.dims['k']}"


def print_context(benchmarks, context):
    runs = sorted({len(b.runs) for b in benchmarks})
    print(f"hob {context.get('hob_version', '?')}, {context.get('num_cpus', '?')} CPUs, caches: ", end="")
    caches = (f"L{c['level']} {c['type'].lower()} {c['size'] >> 10} KB" for c in context.get("caches", []))
    print(", ".join(caches) or "unknown")
    print(f"\nMedians of {' or '.join(map(str, runs))} repetition{'s' if runs[-1] > 1 else ''}.", end="")
    if runs[-1] > 1:
        spreads = [b.spread() for b in benchmarks]
        worst = max(benchmarks, key=Benchmark.spread)
        print(f" From the slowest to the fastest of them it is {statistics.median(spreads) * 100:.1f} %"
              f" for half of the benchmarks, at worst {worst.spread() * 100:.0f} % ({worst.name}).", end="")
    print()


def print_ceilings(benchmarks):
    ceilings = [b for b in benchmarks if b.kernel == "ceiling"]
    threads = lambda b: threads_name(b.threads)
    table("Ceilings: arithmetic, GOP/s", [b for b in ceilings if b.variant != "read"],
          lambda b: (b.target, b.variant), threads, "GOP/s", ["target", "step"])
    table("Ceilings: reads, GB/s", [b for b in ceilings if b.variant == "read"],
          lambda b: (b.target,), threads, "GB/s", ["from"])


def print_matmul(benchmarks):
    matmuls = [b for b in benchmarks if b.kernel == "matmul"]
    for target, threads in dict.fromkeys((b.target, b.threads) for b in matmuls):
        here = [b for b in matmuls if (b.target, b.threads) == (target, threads)]
        on = f"{target}, {threads_name(threads)}"
        table(f"Generation (matmul, m = 1): {on}, GB/s of weights", [b for b in here if b.dims["m"] == 1],
              lambda b: (b.variant,), lambda b: "in L2" if b.in_l2 else f"in memory, {weight_shape(b)}",
              "GB/s", ["format"])
        table(f"Prompts (matmul, m rows): {on}, GOP/s", [b for b in here if b.dims["m"] > 1],
              lambda b: (b.variant, weight_shape(b)), lambda b: f"m = {b.dims['m']}",
              "GOP/s", ["format", "n x k"])


def print_rest(benchmarks):
    def of(kernel):
        return [b for b in benchmarks if b.kernel == kernel]

    on = lambda b: b.target if b.threads == 1 else f"{b.target}, {b.threads} threads"
    table("Attention, GOP/s", of("attention"), lambda b: (b.variant, b.shape.replace("_", " ")), on,
          "GOP/s", ["cache", "shape"])
    table("Dequantization, Gvalues/s", of("dequantize"), lambda b: (b.variant, str(b.dims["k"])), on,
          "Gvalues/s", ["format", "k"])
    table("Preparation of activations, Gvalues/s", of("quantize_activations"),
          lambda b: (b.variant, f"{b.dims['m']} x {b.dims['k']}"), on, "Gvalues/s", ["to", "m x k"])
    table("Packing, Gvalues/s", of("pack"),
          lambda b: (b.variant, f"{b.dims['n']} x {b.dims['k']}"), lambda b: threads_name(b.threads),
          "Gvalues/s", ["format", "n x k"])
    table("Unpacking of one row, Gvalues/s", of("unpack"), lambda b: (b.variant, str(b.dims["k"])),
          lambda b: threads_name(b.threads), "Gvalues/s", ["format", "k"])
    table("Rows, Gvalues/s", of("rows"), lambda b: (b.variant, str(b.dims["n"])), on,
          "Gvalues/s", ["op", "n"])


def main():
    if any(arg in ("-h", "--help") for arg in sys.argv[1:]):
        print(__doc__)
        return 0
    files = [open(path, encoding="utf-8") for path in sys.argv[1:]] or [sys.stdin]
    benchmarks, context = read(files)
    if not benchmarks:
        sys.exit("summarize.py: no benchmarks in the input")
    print_context(benchmarks, context)
    print_ceilings(benchmarks)
    print_matmul(benchmarks)
    print_rest(benchmarks)
    errors = [b for b in benchmarks if b.error()]
    for b in errors:
        print(f"summarize.py: {b.name}: {b.error()}", file=sys.stderr)
    return 1 if errors else 0


if __name__ == "__main__":
    sys.exit(main())
