#!/usr/bin/env python3
"""Prints the longest loop of a function and what llvm-mca makes of it.

    bench/loop_mca.py FILE.s FUNCTION CPU... [--march aarch64] [--mattr +dotprod] [--quiet]

FILE.s is a compiler's assembly, FUNCTION a part of a mangled name. For each CPU: the cycles of one turn
if only its units limit it (Block RThroughput), and of a simulation with its latencies and buffers.
docs/matmul.md shows how it is used.
"""
import argparse
import re
import subprocess
import sys
import tempfile


def functions(path, part):
    """Yields (name, lines) of the functions whose name contains `part`."""
    name, lines = None, []
    with open(path, encoding="utf-8") as file:
        for line in file:
            label = re.match(r"(_Z\w+[\w.]*):", line)
            if label:
                name, lines = label[1], []
            elif name is not None and re.match(r"\s*\.(cfi_endproc|size)\b", line):
                if part in name:
                    yield name, lines
                name = None
            elif name is not None:
                lines.append(line.strip())


def longest_loop(lines):
    """The instructions between a local label and the last branch back to it."""
    labels, best = {}, []
    for i, line in enumerate(lines):
        label = re.match(r"(\.L\w+):", line)
        if label:
            labels[label[1]] = i
        branch = re.match(r"(?:b\.?\w+|cbn?z|tbn?z|j\w+)\s.*?(\.L\w+)$", line)
        if branch and branch[1] in labels and i - labels[branch[1]] > len(best):
            best = lines[labels[branch[1]] + 1 : i + 1]
    return [l for l in best if l and not re.match(r"(//|#|\.loc|\.cfi|\.arch|\.L)", l)]


def simulate(loop, cpu, options):
    turns = 200
    with tempfile.NamedTemporaryFile("w", suffix=".s") as file:
        file.write("\n".join(loop) + "\n")
        file.flush()
        command = [options.mca, f"-march={options.march}", f"-mcpu={cpu}", f"-iterations={turns}"]
        if options.mattr:
            command.append(f"-mattr={options.mattr}")
        result = subprocess.run(command + [file.name], capture_output=True, text=True, check=False)
    block = re.search(r"Block RThroughput: ([\d.]+)", result.stdout)
    cycles = re.search(r"Total Cycles: +(\d+)", result.stdout)
    if not block:
        return result.stderr.splitlines()[0] if result.stderr else "no result"
    return f"block {block[1]} cycles, simulated {int(cycles[1]) / turns:.1f}"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file")
    parser.add_argument("function")
    parser.add_argument("cpus", nargs="+")
    parser.add_argument("--march", default="aarch64")
    parser.add_argument("--mattr", default="")
    parser.add_argument("--mca", default="llvm-mca-19")
    parser.add_argument("--quiet", action="store_true", help="leave out the loop itself")
    options = parser.parse_args()
    found = False
    for name, lines in functions(options.file, options.function):
        loop = longest_loop(lines)
        if not loop:
            continue
        found = True
        dots = sum("dot" in line or "dpbusd" in line for line in loop)
        print(f"{name}: {len(loop)} instructions, {dots} of them dots")
        if not options.quiet:
            print("    " + "\n    ".join(loop))
        for cpu in options.cpus:
            print(f"  {cpu}: {simulate(loop, cpu, options)}")
    if not found:
        sys.exit(f"{options.file}: no function with a loop has '{options.function}' in its name")


if __name__ == "__main__":
    main()
