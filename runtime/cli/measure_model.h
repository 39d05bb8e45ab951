// What hob bench measures: how long a model takes to load, to read a prompt and to generate, and
// how near that comes to what the machine can do, which is measured beside every run
// (docs/measuring.md). Knows nothing of options and of output. Start with MeasureModel.
//
// The classes inside the library and those of hob.hpp have the same names; this is the side of the
// former, so neither header of theirs is included here.
#ifndef HOB_RUNTIME_CLI_MEASURE_MODEL_H_
#define HOB_RUNTIME_CLI_MEASURE_MODEL_H_

#include <cstddef>
#include <functional>
#include <map>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include "hob/hob.h"
#include "runtime/work.h"

namespace hob::cli {

// ---------------------------------------------------------------- what to measure

struct MeasurePlan {
  std::string path;  // of the model; "" = the built-in one
  // Tokens. Nothing: 512 and 128, or what fits in the context that the model was trained for.
  std::optional<size_t> prompt, generate;
  size_t depth = 0;  // generate once more with so many tokens in the cache; 0 = do not
  size_t runs = 5;
  bool profile = false;
  int cache_type = 0;                    // as in hob_session_options
  const hob_threads* threads = nullptr;  // nullptr = the calling thread
  std::function<void()> loaded = [] {};  // called when the file is not needed any more
  std::function<void(float done)> progress = [](float) {};
  bool (*cancelled)() = [] { return false; };  // asked now and then
};

// The plan does not fit the model.
class BadPlan : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// ---------------------------------------------------------------- what comes out

// The same measured several times, in the order of time.
struct Samples {
  std::vector<double> values;

  // All three: 0 of none.
  double Median() const;
  double Min() const;
  double Max() const;
};

// The same tokens evaluated in several runs, and what the machine could do meanwhile.
struct Speed {
  size_t tokens = 0;  // of a run
  size_t before = 0;  // tokens that were in the cache
  Work work;          // of a run

  Samples seconds;            // of each run
  Samples tokens_per_second;  // of each run

  // What binds: "int8_dot", "bf16_dot", "f32_fma" or "mixed" arithmetic, or reads from "l1", "l2",
  // "l3" or "memory". The machine's rate of it beside each run, operations or bytes per second, and
  // the least time at that rate divided by the time of the run. Empty on the scalar target, which
  // has no ceiling of arithmetic.
  std::string limit;
  Samples limit_rate, share;

  // Operations of matmuls, or bytes of weights and cache, of a run.
  double amount = 0;
};

// Where the time of some runs went, in seconds of all participants together.
struct TimeSpent {
  double whole = 0;                       // participants x time on the clock
  double sampling = 0;                    // by one participant
  std::map<std::string, double> kinds;    // by OpName
  std::map<std::string, double> matmuls;  // by output
  // What is left: waiting for other participants and for the next phase.
  double Waiting() const;
};

struct ModelMeasured {
  std::string name, architecture, cache_type;
  std::map<std::string, size_t> formats;  // matrices by format
  size_t parameters = 0;
  size_t weight_bytes = 0;       // packed, in memory
  size_t weights_per_token = 0;  // of the matmuls that run for a token with logits
  size_t context = 0, batch = 0;
  size_t participants = 0;

  Samples load_seconds;
  size_t peak_memory_bytes = 0;  // resident, of the whole process; 0 = unknown
  Speed prompt, generation;
  std::optional<Speed> deep_generation;
  std::optional<TimeSpent> prompt_time, generation_time, deep_generation_time;
};

// Throws BadPlan, and hob's Error, with HOB_ERROR_CANCELLED if `cancelled` says so.
ModelMeasured MeasureModel(const MeasurePlan& plan);

}  // namespace hob::cli

#endif  // HOB_RUNTIME_CLI_MEASURE_MODEL_H_
