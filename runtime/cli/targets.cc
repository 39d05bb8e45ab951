// hob targets: which instruction sets this build can use here.
#include <cstdio>
#include <string>
#include <string_view>
#include <utility>

#include "runtime/cli/common.h"

namespace hob::cli {
namespace {

std::string_view Describe(std::string_view target) {
  constexpr std::pair<std::string_view, std::string_view> kTexts[] = {
      {"avx2", "x86 with AVX2 and FMA: Intel Haswell (2013), AMD Zen (2017)"},
      {"avx2_vnni", "the same and int8 dot products: Intel Alder Lake (2021)"},
      {"avx3", "x86 with AVX-512: Intel Skylake-X (2017)"},
      {"avx3_dl", "x86 with AVX-512 and int8 dot products: Intel Ice Lake (2019)"},
      {"avx3_zen4", "the same and bf16 dot products: AMD Zen 4 (2022)"},
      {"neon", "every 64-bit Arm"},
      {"neon_dot", "64-bit Arm with int8 dot products: Cortex-A76, Neoverse N1, Apple M1"},
      {"neon_bf16", "64-bit Arm with bf16 and int8 dot products: Apple M2, Neoverse V1 and N2"},
      {"sve", "64-bit Arm with SVE, vectors of any length"},
      {"sve_256", "64-bit Arm with SVE, vectors of 256 bits: AWS Graviton 3"},
      {"sve2", "64-bit Arm with SVE2, vectors of any length"},
      {"sve2_128", "64-bit Arm with SVE2, vectors of 128 bits: Neoverse V2 and N2, Graviton 4"},
      {"scalar", "every CPU: the reference, slow and right"},
  };
  for (const auto& [name, text] : kTexts) {
    if (name == target) return text;
  }
  return "";
}

void Targets() {
  const char* names[16];
  const size_t count = std::min(hob_targets(names, std::size(names)), std::size(names));
  std::string out;
  for (size_t i = 0; i < count; ++i) {
    const std::string_view name = names[i];
    out += name == hob_target() ? "* " : "  ";
    out.append(name).append(name.size() < 12 ? 12 - name.size() : 1, ' ');
    out.append(Describe(name)).append("\n");
  }
  Print(out);
}

}  // namespace

void AddTargets(CLI::App& app, Action& action) {
  CLI::App* command =
      app.add_subcommand("targets", "List the instruction sets that hob can use here");
  command->footer(
      "Best first; * is in use. All of them give the same bits. HOB_TARGET caps the choice:\n"
      "\n"
      "  HOB_TARGET=avx2 hob run -p \"turn on the lights\"");
  command->callback([&action] { action = Targets; });
}

}  // namespace hob::cli
