#!/usr/bin/env python3
"""Measures what x86 instructions cost on this processor, alone and beside each other.

    bench/instruction_cost.py INSTRUCTION...

An instruction is written as the assembler wants it (AT&T), D being the number of the register that it
writes: 'vmulps %zmm30, %zmm31, %zmmD', 'vmovups %zmm30, (@)', where (@) is memory in L1. Eight of them,
D from 0 to 7, are a loop's body. It may be several, divided by semicolons. The table has cycles for one,
and for one of either where eight of one kind are followed by eight of another: as much as the dearer
where they use different units, the sum where the same. docs/matmul.md shows what follows for the
kernels. Needs g++.
"""
import argparse
import re
import subprocess
import sys
import tempfile

# The clock is that of a chain of additions, which takes a cycle for each whatever the frequency is (of
# two registers: a constant is added in passing by Intel's cores since Golden Cove); the shortest of some
# runs is the one that nobody disturbed.
FRAME = r"""
#include <x86intrin.h>
#include <cstdint>
#include <cstdio>
alignas(64) static char memory[4096];
template <class F>
static double Shortest(F body) {
  double best = 1e30;
  for (int i = 0; i < 15; ++i) {
    const uint64_t start = __rdtsc();
    body();
    const double taken = static_cast<double>(__rdtsc() - start);
    if (taken < best) best = taken;
  }
  return best;
}
int main() {
  constexpr uint64_t kTurns = 20000;
  const double tick = Shortest([] {
    uint64_t n = 10 * kTurns;
    asm volatile("1: .rept 16\n add %%rcx, %%rax\n .endr\n dec %0\n jnz 1b" : "+r"(n)::"rax", "rcx");
  }) / (160.0 * kTurns);
  CASES
}
"""
CASE = r"""std::printf("%%.2f\n", Shortest([] {
    uint64_t n = kTurns;
    asm volatile("1:\n .rept 4\n %s\n .endr\n dec %%0\n jnz 1b" : "+r"(n) : "r"(memory) : "memory", %s);
  }) / tick / (32.0 * kTurns));"""


def eight(instruction, first):
    body = []
    for i in range(8):
        line = instruction.replace("%", "%%").replace("(@)", f"{64 * i}(%1)")
        body.append(line.replace("mmD", f"mm{first + i}"))
    return r"\n ".join(body)


def label(instruction):
    """The name and what is written: a register of some width, or memory."""
    target = re.search(r"([xyz]mm)D$", instruction.split(";")[0].strip())
    return instruction.split()[0] + " " + (target[1] if target else "to memory")


def measure(blocks):
    registers = ", ".join(f'"xmm{i}"' for i in range(32))
    cases = "\n  ".join(CASE % (block, registers) for block in blocks)
    with tempfile.TemporaryDirectory() as folder:
        source, program = f"{folder}/cost.cc", f"{folder}/cost"
        with open(source, "w", encoding="utf-8") as file:
            file.write(FRAME.replace("CASES", cases))
        build = ["g++", "-std=c++17", "-O2", "-march=native", source, "-o", program]
        built = subprocess.run(build, capture_output=True, text=True, check=False)
        if built.returncode != 0:
            errors = sorted({re.sub(r"mm\d+", "mmD", e) for e in re.findall(r"rror: (.*)", built.stderr)})
            sys.exit("the assembler does not take all of this:\n" + "\n".join(errors))
        return subprocess.run([program], capture_output=True, text=True, check=True).stdout.split()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("instructions", nargs="+", metavar="INSTRUCTION")
    instructions = parser.parse_args().instructions
    blocks = [eight(i, 0) for i in instructions]
    for i in instructions:
        blocks += [eight(i, 0) + r"\n " + eight(beside, 8) for beside in instructions]
    cycles, n = measure(blocks), len(instructions)
    names = [label(i) for i in instructions]
    print("| cycles | alone | beside " + " | ".join(names) + " |")
    print("|---" + "|--:" * (n + 1) + "|")
    for i, name in enumerate(names):
        print(f"| {name} | " + " | ".join([cycles[i]] + cycles[n + n * i : n + n * i + n]) + " |")


if __name__ == "__main__":
    main()
