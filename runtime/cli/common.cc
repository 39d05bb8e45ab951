// In the order of common.h.
#include "runtime/cli/common.h"

#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <functional>
#include <sstream>
#include <utility>
#include <vector>

namespace hob::cli {
namespace {

volatile sig_atomic_t g_interrupted = 0;

// A check that `good` says is right, and `expected` in words.
CLI::Validator NumberCheck(std::function<bool(double)> good, const std::string& expected) {
  return CLI::Validator(
      [good = std::move(good), expected](std::string& text) -> std::string {
        double value = 0;
        if (CLI::detail::lexical_cast(text, value) && good(value)) return "";
        return "\"" + text + "\" is not " + expected;
      },
      "");
}

std::string Short(double value) {
  std::ostringstream text;
  text << value;
  return text.str();
}

[[noreturn]] void FailIo(const std::string& what, int error) {
  throw std::runtime_error(what + ": " + std::strerror(error));
}

std::string ReadAll(std::FILE* file, const std::string& name) {
  std::string text;
  char buffer[1 << 16];
  while (const size_t bytes = std::fread(buffer, 1, sizeof(buffer), file)) {
    text.append(buffer, bytes);
  }
  if (std::ferror(file)) FailIo("cannot read " + name, errno);
  return text;
}

}  // namespace

// ---------------------------------------------------------------- failing and stopping

void CatchSignals() {
  struct sigaction action = {};
  action.sa_handler = [](int number) { g_interrupted = number; };
  action.sa_flags = static_cast<int>(SA_RESETHAND);
  for (const int number : {SIGINT, SIGTERM, SIGHUP}) {
    struct sigaction before = {};
    sigaction(number, nullptr, &before);
    // Somebody (nohup, for instance) has seen to it that it does nothing.
    if (before.sa_handler != SIG_IGN) sigaction(number, &action, nullptr);
  }
  signal(SIGPIPE, SIG_IGN);
}

int Interrupted() { return g_interrupted; }

// ---------------------------------------------------------------- input and output

void Print(std::string_view text) {
  if (std::fwrite(text.data(), 1, text.size(), stdout) != text.size() || std::fflush(stdout) != 0) {
    FailIo("cannot write to stdout", errno);
  }
}

std::string ReadFile(const std::string& path) {
  const std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(std::fopen(path.c_str(), "rb"),
                                                             std::fclose);
  if (file == nullptr) FailIo("cannot open " + path, errno);
  return ReadAll(file.get(), path);
}

std::string ReadStdin() { return ReadAll(stdin, "stdin"); }

OutputFile::OutputFile(const std::string& path)
    : path_(path), file_(std::fopen(path.c_str(), "wb")) {
  if (file_ == nullptr) Fail(errno);
}

OutputFile::~OutputFile() {
  if (file_ == nullptr) return;
  std::fclose(file_);
  struct stat status;
  if (stat(path_.c_str(), &status) == 0 && S_ISREG(status.st_mode)) std::remove(path_.c_str());
}

void OutputFile::Write(const void* data, size_t bytes) {
  if (std::fwrite(data, 1, bytes, file_) != bytes) Fail(errno);
}

void OutputFile::Close() {
  if (std::fflush(file_) != 0) Fail(errno);
  if (std::fclose(std::exchange(file_, nullptr)) != 0) Fail(errno);
}

void OutputFile::Fail(int error) const { FailIo("cannot write " + path_, error); }

Progress::Progress(std::string label)
    : label_(std::move(label)), terminal_(isatty(STDERR_FILENO) == 1) {}

Progress::~Progress() { Clear(); }

void Progress::Show(float done) {
  const int percent = static_cast<int>(100 * done);
  constexpr double kPatience = 0.3;  // seconds
  if (!terminal_ || percent == shown_ || watch_.Seconds() < kPatience) return;
  shown_ = percent;
  constexpr int kWidth = 30;
  const std::string bar(static_cast<size_t>(percent * kWidth / 100), '#');
  std::fprintf(stderr, "\r%s [%-*s] %3d %%", label_.c_str(), kWidth, bar.c_str(), percent);
}

void Progress::Clear() {
  if (shown_ < 0) return;
  std::fputs("\r\033[K", stderr);
  shown_ = -1;
}

int Progress::Callback(void* self, float done) {
  static_cast<Progress*>(self)->Show(done);
  return Interrupted() != 0 ? 1 : 0;
}

std::string Compiler() {
#if defined(__clang__)
  return "clang " __clang_version__;
#elif defined(__GNUC__)
  return "gcc " __VERSION__;
#else
  return "an unknown compiler";
#endif
}

// ---------------------------------------------------------------- options

CLI::Validator AtLeast(double least) {
  return NumberCheck([=](double value) { return value >= least; },
                     "a number from " + Short(least) + " up");
}

CLI::Validator Between(double least, double most) {
  return NumberCheck([=](double value) { return value >= least && value <= most; },
                     "a number from " + Short(least) + " to " + Short(most));
}

#if defined(HOB_HAVE_TBB)
struct Threads::Lent : TbbThreads {
  using TbbThreads::TbbThreads;
};
#else
struct Threads::Lent {
  explicit Lent(size_t) {}
  const hob_threads* get() const { return nullptr; }
  size_t count() const { return 1; }
};
#endif

Threads::Threads(size_t count) : lent_(std::make_shared<const Lent>(count)) {}
const hob_threads* Threads::get() const { return lent_->get(); }
size_t Threads::count() const { return lent_->count(); }

void AddThreadsOption(CLI::App& command, size_t* threads) {
  command
      .add_option("-t,--threads", *threads,
                  "Threads to use (default: HOB_NUM_THREADS, or the physical cores that this "
                  "process may use)")
      ->type_name("N")
      ->check(AtLeast(1));
}

CLI::Option* AddFormatOption(CLI::App& command, const std::string& name, std::string* format) {
  std::vector<hob_format> ids(hob_formats(nullptr, 0));
  hob_formats(ids.data(), ids.size());
  std::vector<std::string> names;
  for (const hob_format id : ids) {
    auto info = Zeroed<hob_format_info>();
    Check(hob_format_describe(id, &info));
    names.emplace_back(info.name);
  }
  std::vector<const char*> mixes(hob_mixes(nullptr, 0));
  hob_mixes(mixes.data(), mixes.size());
  const std::string help = "Weight format: " + CLI::detail::join(names, " ") +
                           "; or a mix: " + CLI::detail::join(mixes, " ");
  names.insert(names.end(), mixes.begin(), mixes.end());
  return command.add_option(name, *format, help)
      ->type_name("FORMAT")
      ->check(CLI::IsMember(names, CLI::ignore_case).description(""));  // the help has them
}

void AddModelOption(CLI::App& command, std::string* path) {
  command.add_option("-m,--model", *path, "Model, a GGUF file (default: the built-in model)")
      ->type_name("FILE");
}

Model LoadModel(const std::string& path, const Threads& threads, bool vocabulary_only) {
  Progress progress("hob: loading");
  const ModelOptions options = {.threads = threads.get(),
                                .progress = Progress::Callback,
                                .progress_context = &progress,
                                .vocabulary_only = vocabulary_only};
  return path.empty() ? Model::LoadDefault(options) : Model::Load(path, options);
}

void AddCacheTypeOption(CLI::App& command, std::string* type) {
  command
      .add_option("--cache-type", *type,
                  "How keys and values are kept: f32, bf16, q8_0, or auto, which is f32 for models "
                  "with f32 weights and bf16 for others")
      ->type_name("TYPE")
      ->check(CLI::IsMember({"auto", "f32", "bf16", "q8_0"}));
}

int CacheTypeOf(const std::string& type) {
  if (type == "f32") return 1 + HOB_CACHE_F32;
  if (type == "bf16") return 1 + HOB_CACHE_BF16;
  if (type == "q8_0") return 1 + HOB_CACHE_Q8_0;
  return 0;
}

void AddEvalOptions(CLI::App& command, EvalOptions* options) {
  AddThreadsOption(command, &options->threads);
  command
      .add_option("-c,--context", options->context,
                  "Tokens that fit in the cache (default: as many as this run can need)")
      ->type_name("N")
      ->check(AtLeast(1));
  command
      .add_option("--batch", options->batch,
                  "Most tokens evaluated together; changes memory and speed, never the result "
                  "(default: 256)")
      ->type_name("N")
      ->check(AtLeast(1));
  AddCacheTypeOption(command, &options->cache_type);
}

Session MakeSession(const Model& model, const EvalOptions& options, const Threads& threads) {
  return Session(model, {.context = options.context,
                         .batch = options.batch,
                         .cache_type = CacheTypeOf(options.cache_type),
                         .threads = threads.get(),
                         .cancel = [](void*) { return Interrupted() != 0 ? 1 : 0; }});
}

size_t RowsAtATime(size_t batch, size_t vocabulary) {
  constexpr size_t kMostValues = size_t{1} << 24;
  return std::clamp<size_t>(kMostValues / vocabulary, 1, batch == 0 ? 256 : batch);
}

void AddTextOptions(CLI::App& command, TextOptions* options) {
  CLI::Option* text =
      command.add_option("-p,--prompt", options->text, "The text")->type_name("TEXT");
  command.add_option("-f,--file", options->file, "Read the text from a file")
      ->type_name("FILE")
      ->excludes(text);
}

std::optional<std::string> ReadText(const TextOptions& options) {
  if (options.text) return options.text;
  if (!options.file.empty()) return ReadFile(options.file);
  if (isatty(STDIN_FILENO) == 1) return std::nullopt;
  return ReadStdin();
}

}  // namespace hob::cli
