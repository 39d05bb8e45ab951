// What the commands of the program share. A command is one file with one Add function: it declares
// its options on a CLI11 subcommand and sets `action` to what main() runs once parsing is done.
//
// Data goes to stdout through Print, everything else to stderr. Failures throw: std::exception ends
// the program with "hob: error: ..." and exit code 1, UsageError with exit code 2.
#ifndef HOB_RUNTIME_CLI_COMMON_H_
#define HOB_RUNTIME_CLI_COMMON_H_

#include <CLI/CLI.hpp>
#include <chrono>
#include <cstddef>
#include <functional>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>

#include "hob/hob.hpp"

namespace hob::cli {

inline constexpr int kExitOk = 0, kExitFailure = 1, kExitUsage = 2;
// What a shell reports for a program that a signal ended is this plus its number; 130 for Ctrl-C.
inline constexpr int kExitSignal = 128;

using Action = std::function<void()>;

void AddBench(CLI::App& app, Action& action);
void AddCompareLogits(CLI::App& app, Action& action);
void AddInfo(CLI::App& app, Action& action);
void AddLogits(CLI::App& app, Action& action);
void AddPerplexity(CLI::App& app, Action& action);
void AddQuantize(CLI::App& app, Action& action);
void AddRun(CLI::App& app, Action& action);
void AddSynth(CLI::App& app, Action& action);
void AddTargets(CLI::App& app, Action& action);
void AddTokenize(CLI::App& app, Action& action);
void AddVectors(CLI::App& app, Action& action);
void AddVerify(CLI::App& app, Action& action);

// ---------------------------------------------------------------- failing and stopping

// Options that are right one by one but not together.
class UsageError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// Ctrl-C was pressed, or the like, and the work has stopped.
class Interrupt : public std::exception {
 public:
  const char* what() const noexcept override { return "interrupted"; }
};

// From now on Ctrl-C, and being told to end or that the terminal is gone, set a flag, once; a
// second time ends the program as usual. Writing to a closed pipe becomes an error.
void CatchSignals();
// The signal that came, or 0.
int Interrupted();

// ---------------------------------------------------------------- input and output

// Writes to stdout and flushes; throws if that fails.
void Print(std::string_view text);

std::string ReadFile(const std::string& path);
std::string ReadStdin();

// Writes a file piece by piece; throws if that fails, at the latest in Close. A regular file that
// was not closed is removed again.
class OutputFile {
 public:
  explicit OutputFile(const std::string& path);
  ~OutputFile();
  OutputFile(const OutputFile&) = delete;
  OutputFile& operator=(const OutputFile&) = delete;

  void Write(const void* data, size_t bytes);
  void Close();

 private:
  [[noreturn]] void Fail(int error) const;

  std::string path_;
  std::FILE* file_;
};

// What the program was compiled by: "gcc 12.2.0".
std::string Compiler();

class Stopwatch {
 public:
  double Seconds() const {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
  }

 private:
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

// A line on stderr that shows how far the work is, if it takes long; nothing if stderr is no
// terminal.
class Progress {
 public:
  explicit Progress(std::string label);
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  void Show(float done);
  // Takes the line away, so that another one can be written.
  void Clear();
  // For the C interface; `self` is a Progress. Asks to stop when the program was interrupted.
  static int Callback(void* self, float done);

 private:
  std::string label_;
  bool terminal_;
  Stopwatch watch_;
  int shown_ = -1;  // percent
};

// ---------------------------------------------------------------- options

// Checks a number; unlike CLI11's own ranges, with a message that people can read.
CLI::Validator AtLeast(double least);
CLI::Validator Between(double least, double most);

// -t: threads of oneTBB where hob is built with it; otherwise the calling thread alone.
class Threads {
 public:
  explicit Threads(size_t count);
  const hob_threads* get() const;
  size_t count() const;

 private:
  struct Lent;
  std::shared_ptr<const Lent> lent_;
};
void AddThreadsOption(CLI::App& command, size_t* threads);

// A weight format or a mix, checked; `name` is "--format" or, as an argument, "format".
CLI::Option* AddFormatOption(CLI::App& command, const std::string& name, std::string* format);

// -m. Loads the embedded default model if `path` is "".
void AddModelOption(CLI::App& command, std::string* path);
Model LoadModel(const std::string& path, const Threads& threads, bool vocabulary_only = false);

// --cache-type, of which CacheTypeOf makes that of hob_session_options.
void AddCacheTypeOption(CLI::App& command, std::string* type);
int CacheTypeOf(const std::string& type);

// How to evaluate: -t, -c, --batch, --cache-type.
struct EvalOptions {
  size_t threads = 0, context = 0, batch = 0;
  std::string cache_type = "auto";
};
void AddEvalOptions(CLI::App& command, EvalOptions* options);
Session MakeSession(const Model& model, const EvalOptions& options, const Threads& threads);
// Rows of logits to hold at a time: as many as are evaluated together (`batch`, 0 = the default),
// unless that takes too much memory.
size_t RowsAtATime(size_t batch, size_t vocabulary);

// -p or -f.
struct TextOptions {
  std::optional<std::string> text;
  std::string file;
};
void AddTextOptions(CLI::App& command, TextOptions* options);
// The text, from stdin if neither option is given and stdin is no terminal; nothing if it is one.
std::optional<std::string> ReadText(const TextOptions& options);

}  // namespace hob::cli

#endif  // HOB_RUNTIME_CLI_COMMON_H_
