// hob tokenize: how a model's vocabulary splits a text.
#include <cstdio>
#include <string>
#include <string_view>

#include "runtime/cli/common.h"

namespace hob::cli {
namespace {

struct TokenizeOptions {
  std::string model;
  TextOptions text;
  bool ids = false, no_bos = false, no_special = false;
};

// The bytes of a UTF-8 character by its first byte; 0 if none begins with it.
size_t CharacterBytes(unsigned char first) {
  if (first < 0x80) return 1;
  if (first >= 0xc2 && first < 0xe0) return 2;
  if (first >= 0xe0 && first < 0xf0) return 3;
  return first >= 0xf0 && first < 0xf5 ? 4 : 0;
}

bool IsWholeCharacter(std::string_view text, size_t bytes) {
  if (bytes == 0 || bytes > text.size()) return false;
  for (char c : text.substr(1, bytes - 1)) {
    if ((static_cast<unsigned char>(c) & 0xc0) != 0x80) return false;
  }
  return true;
}

// Printable on one line: control characters, backslashes and parts of characters as in C.
std::string Escape(std::string_view piece) {
  std::string escaped;
  while (!piece.empty()) {
    const auto first = static_cast<unsigned char>(piece.front());
    size_t bytes = CharacterBytes(first);
    if (first == '\n') {
      escaped += "\\n";
    } else if (first == '\t') {
      escaped += "\\t";
    } else if (first == '\\') {
      escaped += "\\\\";
    } else if (first < 0x20 || first == 0x7f || !IsWholeCharacter(piece, bytes)) {
      char code[8];
      std::snprintf(code, sizeof(code), "\\x%02x", first);
      escaped += code;
      bytes = 1;
    } else {
      escaped += piece.substr(0, bytes);
    }
    piece.remove_prefix(bytes);
  }
  return escaped;
}

void Tokenize(const TokenizeOptions& options) {
  const std::optional<std::string> text = ReadText(options.text);
  if (!text) throw UsageError("no text: give -p TEXT or -f FILE, or pipe it to stdin");
  const Model model = LoadModel(options.model, Threads(1), /*vocabulary_only=*/true);
  unsigned flags = 0;
  if (options.no_bos) flags |= HOB_TOKENIZE_NO_BOS;
  if (options.no_special) flags |= HOB_TOKENIZE_NO_SPECIAL;
  std::string out;
  for (int32_t token : model.Tokenize(*text, flags)) {
    if (options.ids) {
      out += (out.empty() ? "" : " ") + std::to_string(token);
    } else {
      out += std::to_string(token) + "\t" + Escape(model.TokenText(token)) + "\n";
    }
  }
  if (options.ids) out += "\n";
  Print(out);
}

}  // namespace

void AddTokenize(CLI::App& app, Action& action) {
  CLI::App* command = app.add_subcommand("tokenize", "Show how a text is split into tokens");
  auto options = std::make_shared<TokenizeOptions>();
  AddModelOption(*command, &options->model);
  AddTextOptions(*command, &options->text);
  command->add_flag("--ids", options->ids, "Only the ids, on one line");
  command->add_flag("--no-bos", options->no_bos, "Without the beginning-of-text token");
  command->add_flag("--no-special", options->no_special,
                    "Read the spelling of control tokens, such as <s>, as plain text");
  command->footer(
      "Prints a line for each token: its id, a tab, its bytes with \\n, \\t, \\\\ and \\xNN for "
      "what\n"
      "cannot be printed. Control tokens have no bytes. Text from -f or stdin is taken as it is,\n"
      "including a newline at its end. Works for models of any architecture.\n"
      "\n"
      "Examples:\n"
      "  hob tokenize -m model.gguf -p \"Hello world\"\n"
      "  hob tokenize -m model.gguf --ids --no-bos -f text.txt");
  command->callback([options, &action] { action = [options] { Tokenize(*options); }; });
}

}  // namespace hob::cli
