// Calls of the C interface with arguments of all kinds: struct sizes, counts, shapes, NULL. A call
// must be refused, or be right about the memory it uses.
//
// Memory is the caller's promise, so a call is made in one of two ways: with buffers of exactly the
// size that the shape asks for (AddressSanitizer watches their borders), or, where no memory could
// ever be that large, with buffers of no use, and then it must be refused. What lies between is not
// called.
#include <algorithm>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "hob/hob.h"
#include "hob/model.h"
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/micro_model.h"

namespace {

using hob::fuzz::Input;
using hob::fuzz::Numbers;
using hob::fuzz::Require;

// Products that do not wrap: the sizes are what is fuzzed.
using Wide = unsigned __int128;
constexpr Wide kMost = 1 << 16;              // elements of a buffer
constexpr Wide kImpossible = Wide{1} << 60;  // bytes that no machine has

struct Free {
  void operator()(void* memory) const { std::free(memory); }
};

// Buffers for one call. Buffer() gives memory of exactly that size, NULL where the input says so.
class Memory {
 public:
  explicit Memory(Input* input) : input_(input) {}

  // Elements of `bytes` bytes each, 64-byte aligned, filled with small numbers.
  void* Buffer(Wide elements, size_t bytes, bool fill_floats = true) {
    if (elements * bytes >= kImpossible) {
      impossible_ = true;
      elements = 1;
    } else if (elements > kMost) {
      too_large_ = true;
      elements = 1;
    }
    const uint8_t kind = input_->Take<uint8_t>();
    const size_t offset = kind == 254 && bytes == 1 ? 1 : 0;  // bytes may lie anywhere
    const size_t size = std::max<size_t>(static_cast<size_t>(elements) * bytes, 1) + offset;
    // posix_memalign, since the size is to be exact.
    void* memory = nullptr;
    Require(posix_memalign(&memory, 64, size) == 0, "memory");
    held_.emplace_back(memory);
    std::memset(memory, 0, size);
    if (fill_floats && bytes == sizeof(float)) {
      Numbers numbers(size);
      for (size_t i = 0; i < size / bytes; ++i) {
        static_cast<float*>(memory)[i] =
            static_cast<float>(static_cast<int32_t>(numbers.Next() >> 32)) * 0x1p-30F;
      }
    }
    if (kind == 255) return nullptr;
    return static_cast<uint8_t*>(memory) + offset;
  }
  float* Floats(Wide elements) { return Aligned<float>(elements); }
  template <typename T>
  T* Aligned(Wide elements) {
    return static_cast<T*>(Buffer(elements, sizeof(T)));
  }

  bool may_call() const { return !too_large_; }
  // After the call that all buffers so far are for.
  void Check(hob_status status) const {
    CheckAny(status);
    Require(status != HOB_OK || !impossible_, "what no memory holds is refused");
  }
  // After one that only some are for.
  static void CheckAny(hob_status status) {
    Require(status >= HOB_OK && status < HOB_ERROR_INTERNAL, "a status that is documented");
    Require(status == HOB_OK || *hob_status_message() != '\0', "an error says what was wrong");
  }

 private:
  Input* input_;
  std::vector<std::unique_ptr<void, Free>> held_;
  bool too_large_ = false, impossible_ = false;
};

size_t StructSize(Input* input, size_t right) {
  const uint8_t kind = input->Take<uint8_t>();
  if (kind < 240) return right;
  if (kind < 248) return kind % 2 == 0 ? 0 : right - 1;
  return right + kind % 8;
}

hob_format AnyFormat(Input* input) {
  static const std::vector<hob_format> formats = [] {
    std::vector<hob_format> all(hob_formats(nullptr, 0));
    hob_formats(all.data(), all.size());
    return all;
  }();
  if (input->Take<uint8_t>() >= 250) return static_cast<hob_format>(input->Take<int32_t>());
  return formats[input->Below(formats.size())];
}

// Values of a block and bytes of it; 1 and 4 for what is no format.
hob_format_info Describe(hob_format format) {
  hob_format_info info = {};
  info.struct_size = sizeof(info);
  if (hob_format_describe(format, &info) != HOB_OK) info.block_values = 1, info.block_bytes = 4;
  return info;
}

void RunBackwards(void*, size_t n, void (*body)(void*, size_t), void* argument) {
  while (n-- > 0) body(argument, n);
}

// NULL, or threads that are right or wrong.
const hob_threads* AnyThreads(Input* input, hob_threads* threads) {
  const uint8_t kind = input->Take<uint8_t>();
  if (kind < 100) return nullptr;
  *threads = {StructSize(input, sizeof(hob_threads)), nullptr, 1 + input->Size(8), RunBackwards};
  if (kind > 250) threads->parallel_for = nullptr;
  if (kind == 250) threads->count = 0;
  return threads;
}

// A multiple of the block mostly.
size_t Depth(Input* input, const hob_format_info& info) {
  const size_t blocks = input->Size(info.block_values == 1 ? 100 : 512 / info.block_values);
  return input->Take<uint8_t>() < 250 ? blocks * info.block_values : blocks;
}

// ---------------------------------------------------------------- kernels

struct Weight {
  hob_format format;
  hob_format_info info;
  size_t n, k;

  explicit Weight(Input* input)
      : format(AnyFormat(input)),
        info(Describe(format)),
        n(input->Size(40)),
        k(Depth(input, info)) {}
  Wide file_bytes() const { return Wide{k} / info.block_values * info.block_bytes * n; }
};

void Rows(Input* input) {
  Memory memory(input);
  hob_threads threads;
  const Weight w(input);
  const bool encode = input->Flag();
  auto* values = memory.Floats(Wide{w.n} * w.k);
  void* blocks = memory.Buffer(w.file_bytes(), 1);
  const hob_threads* with = AnyThreads(input, &threads);
  if (!memory.may_call()) return;
  memory.Check(encode ? hob_quantize_rows(w.format, values, w.n, w.k, blocks, with)
                      : hob_dequantize_rows(w.format, blocks, w.n, w.k, values, with));
}

// Packed weights, or nothing if they cannot be.
void* Packed(Memory* memory, const Weight& w) {
  size_t bytes = 0;
  const hob_status status = hob_packed_bytes(w.format, w.n, w.k, &bytes);
  if (status != HOB_OK) return memory->Buffer(1, 1);
  Require(Wide{bytes} * 64 >= w.file_bytes(), "packed weights are not that much smaller");
  void* packed = memory->Buffer(bytes, 1);
  void* blocks = memory->Buffer(w.file_bytes(), 1);
  if (!memory->may_call()) return packed;
  // A packed weight that was refused is all zeros, which is as good.
  memory->CheckAny(hob_pack(w.format, blocks, w.n, w.k, 0, w.n, packed));
  return packed;
}

void PackRange(Input* input) {
  Memory memory(input);
  const Weight w(input);
  size_t bytes = 0;
  if (hob_packed_bytes(w.format, w.n, w.k, &bytes) != HOB_OK) bytes = 1;
  void* blocks = memory.Buffer(w.file_bytes(), 1);
  void* packed = memory.Buffer(bytes, 1);
  const size_t begin = input->Size(64), end = input->Size(64);
  if (!memory.may_call()) return;
  memory.Check(hob_pack(w.format, blocks, w.n, w.k, begin, end, packed));
}

void Embed(Input* input) {
  Memory memory(input);
  const Weight w(input);
  void* packed = Packed(&memory, w);
  const size_t m = input->Size(6), stride = input->Flag() ? 0 : input->Size(200);
  const Wide width = stride == 0 ? w.k : stride;
  auto* ids = memory.Aligned<int32_t>(m);
  for (size_t i = 0; ids != nullptr && m <= 6 && i < m; ++i) {
    ids[i] = static_cast<int32_t>(input->Size(40));
  }
  auto* out = memory.Floats(width * m);
  if (!memory.may_call()) return;
  memory.Check(hob_embed(w.format, packed, w.n, w.k, ids, m, out, stride));
}

void Matmul(Input* input) {
  Memory memory(input);
  const size_t count = 1 + input->Below(3);
  const size_t m = input->Size(9), stride = input->Flag() ? 0 : input->Size(200);
  // A group's structs lie struct_size apart, in the caller's own array.
  const size_t size = StructSize(input, sizeof(hob_matmul_args));
  const size_t step = std::max(size, sizeof(hob_matmul_args));
  auto* array = static_cast<uint8_t*>(std::calloc(count, step));
  const std::unique_ptr<void, Free> held(array);
  std::optional<Weight> first;
  float* act = nullptr;
  for (size_t i = 0; i < count; ++i) {
    Weight w(input);
    if (first && input->Take<uint8_t>() < 240) w.k = first->k;
    if (!first) {
      first = w;
      act = memory.Floats(Wide{stride == 0 ? w.k : stride} * m);
    }
    hob_matmul_args args = {};
    args.struct_size = i == 0 || input->Take<uint8_t>() < 240 ? size : sizeof(args);
    args.format = w.format;
    args.m = m;
    args.n = w.n;
    args.k = w.k;
    args.act = act;
    args.act_stride = stride;
    args.out_stride = input->Flag() ? 0 : input->Size(60);
    const Wide width = args.out_stride == 0 ? w.n : args.out_stride;
    args.packed = Packed(&memory, w);
    args.out = memory.Floats(width * m);
    if (input->Flag()) args.bias = memory.Floats(w.n);
    if (input->Flag()) args.residual = input->Flag() ? args.out : memory.Floats(width * m);
    if (input->Flag()) args.gate = memory.Floats(width * m);
    std::memcpy(array + i * step, &args, sizeof(args));
  }
  const auto* args = reinterpret_cast<const hob_matmul_args*>(array);
  size_t bytes = 0;
  const hob_status sized = hob_matmul_group_workspace(args, count, &bytes);
  if (!memory.may_call()) return;
  memory.Check(sized);
  void* workspace = memory.Buffer(sized == HOB_OK ? bytes : 1, 1);
  if (input->Take<uint8_t>() == 255 && bytes > 0) --bytes;
  hob_threads threads;
  const hob_threads* with = AnyThreads(input, &threads);
  if (!memory.may_call()) return;
  memory.Check(hob_matmul_group(args, count, workspace, bytes, with));
}

void Attention(Input* input) {
  Memory memory(input);
  hob_cache cache = {StructSize(input, sizeof(hob_cache)),
                     static_cast<hob_cache_type>(input->Size(3)),
                     input->Size(3),
                     input->Size(40),
                     input->Size(90),
                     nullptr,
                     nullptr};
  size_t bytes = 0;
  const hob_status sized = hob_cache_bytes(&cache, &bytes);
  const Wide width = Wide{cache.n_kv_heads} * cache.head_dim;
  if (sized == HOB_OK) {
    const size_t element = cache.type == HOB_CACHE_Q8_0 ? 1 : 2;
    Require(Wide{bytes} >= width * cache.capacity * element,
            "a cache is as large as what it holds");
  }
  cache.keys = memory.Buffer(sized == HOB_OK ? bytes : 1, 1);
  cache.values = memory.Buffer(sized == HOB_OK ? bytes : 1, 1);
  const size_t pos = input->Size(60), m = input->Size(30);
  auto* k = memory.Floats(width * m);
  auto* v = memory.Floats(width * m);
  if (!memory.may_call()) return;
  memory.Check(hob_cache_append(&cache, pos, m, k, v));

  hob_attention_args args = {};
  args.struct_size = StructSize(input, sizeof(args));
  args.cache = &cache;
  args.m = m;
  args.n_heads = input->Size(8);
  args.pos = pos;
  if (input->Flag()) args.scale = input->Take<float>();
  if (input->Flag()) args.window = input->Size(80);
  if (input->Flag()) args.softcap = input->Take<float>();
  args.bidirectional = input->Below(4) == 0;
  if (input->Take<uint8_t>() == 255) args.cache = nullptr;
  const Wide q = Wide{m} * args.n_heads * cache.head_dim;
  args.q = memory.Floats(q);
  args.out = memory.Floats(q);
  hob_threads threads;
  const hob_threads* with = AnyThreads(input, &threads);
  const hob_status planned = hob_attention_workspace(&args, with, &bytes);
  void* workspace = memory.Buffer(planned == HOB_OK ? bytes : 1, 1);
  if (!memory.may_call()) return;
  memory.Check(planned);
  memory.Check(hob_attention(&args, workspace, bytes, with));
}

void RowOps(Input* input) {
  Memory memory(input);
  const size_t op = input->Below(9), m = input->Size(5), n = input->Size(70);
  const Wide size = Wide{m} * n;
  switch (op) {
    case 0: {
      auto *x = memory.Floats(size), *w = memory.Floats(n), *out = memory.Floats(size);
      const float eps = input->Take<float>();
      if (memory.may_call()) memory.Check(hob_rms_norm(x, w, eps, m, n, out));
      break;
    }
    case 1: {
      auto *x = memory.Floats(size), *out = memory.Floats(size);
      if (memory.may_call()) memory.Check(hob_softmax(x, m, n, out));
      break;
    }
    case 2:
    case 3:
    case 7: {
      auto *a = memory.Floats(n), *b = memory.Floats(n), *out = memory.Floats(n);
      if (!memory.may_call() || Wide{n} * 4 >= kImpossible) return;  // a count has no check
      const auto kernel = op == 2 ? hob_silu_mul : op == 3 ? hob_add : hob_gelu_mul;
      memory.Check(kernel(a, b, n, out));
      break;
    }
    case 4: {
      auto* x = memory.Floats(size);
      auto* index = memory.Aligned<int32_t>(m);
      if (memory.may_call()) memory.Check(hob_argmax(x, m, n, index));
      break;
    }
    case 5: {
      const size_t heads = input->Size(4), n_rot = input->Size(70);
      auto *table = memory.Floats(Wide{m} * n_rot), *x = memory.Floats(Wide{m} * heads * n);
      const auto style = static_cast<hob_rope_style>(input->Size(2));
      if (memory.may_call()) memory.Check(hob_rope(style, table, m, heads, n, n_rot, x));
      break;
    }
    case 6: {
      const size_t first = input->Size(255);
      const double base = input->Flag() ? 1e4 : input->Take<double>();
      const double scale = input->Flag() ? 1 : input->Take<double>();
      auto* factors = input->Flag() ? nullptr : memory.Floats(n / 2);
      auto* table = memory.Floats(size);
      if (memory.may_call()) {
        memory.Check(hob_rope_table(first, m, n, base, scale, factors, table));
      }
      break;
    }
    default: {
      auto *x = memory.Floats(size), *scales = memory.Floats(Wide{m} * (n / 32));
      auto* codes = static_cast<int8_t*>(memory.Buffer(size, 1));
      if (memory.may_call()) memory.Check(hob_quantize_activations(x, m, n, codes, scales));
    }
  }
}

void Names(Input* input) {
  const std::vector<uint8_t> bytes = input->Bytes(300);
  const std::string name(bytes.begin(), bytes.end());
  hob_format format;
  const hob_status status = hob_format_from_name(name.c_str(), &format);
  Require(status == HOB_OK || status == HOB_ERROR_FORMAT, "a format or none");
  Require(hob_target_set(name.c_str()) == HOB_ERROR_TARGET || hob_target() != nullptr, "a target");
  Require(hob_target_set(nullptr) == HOB_OK, "no cap");
  Require(hob_status_name(static_cast<hob_status>(input->Take<int32_t>())) != nullptr, "a name");
}

// ---------------------------------------------------------------- runtime

void Session(Input* input) {
  static hob_model* const model = [] {
    const std::vector<uint8_t> file = hob::fuzz::MicroModel(HOB_FORMAT_Q4_0);
    hob_model* loaded = nullptr;
    Require(hob_model_load_memory(file.data(), file.size(), nullptr, &loaded) == HOB_OK, "a model");
    return loaded;
  }();
  const auto check = [](hob_status status) {
    Require(status >= HOB_OK && status < HOB_ERROR_INTERNAL, "a status that is documented");
    return status;
  };
  hob_threads threads;
  hob_session_options options = {};
  options.struct_size = StructSize(input, sizeof(options));
  options.context = input->Size(64);
  options.batch = input->Size(20);
  options.cache_type = static_cast<int>(input->Size(4));
  options.threads = AnyThreads(input, &threads);
  hob_session* session = nullptr;
  if (check(hob_session_create(model, &options, &session)) != HOB_OK) {
    Require(session == nullptr, "a session, or an error");
    return;
  }
  for (int steps = 0; !input->empty() && steps < 64; ++steps) {
    const size_t position = hob_session_position(session);
    switch (input->Below(9)) {
      case 0:
      case 1: {
        std::vector<int32_t> tokens(input->Below(20));
        for (int32_t& token : tokens) {
          token = static_cast<int32_t>(input->Take<int8_t>());
          if (token >= 0 && token < 120) token %= static_cast<int>(hob::fuzz::kMicroTokens);
        }
        std::vector<float> logits(tokens.size() * hob::fuzz::kMicroTokens);
        const bool rows = input->Flag();
        const hob_status status = check(hob_session_eval(session, tokens.data(), tokens.size(),
                                                         rows ? logits.data() : nullptr));
        Require(hob_session_position(session) == position + (status == HOB_OK ? tokens.size() : 0),
                "eval appends all or nothing");
        break;
      }
      case 2: {
        const size_t to = input->Size(64);
        const hob_status status = check(hob_session_rewind(session, to));
        Require((status == HOB_OK) == (to <= position), "one rewinds to what was");
        break;
      }
      case 3: {
        hob_sampler_options sampler = {};
        sampler.struct_size = StructSize(input, sizeof(sampler));
        sampler.temperature = input->Take<float>();
        sampler.top_k = input->Take<int32_t>();
        sampler.top_p = input->Take<float>();
        sampler.min_p = input->Take<float>();
        sampler.repetition_penalty = input->Take<float>();
        sampler.penalty_window = input->Size(64);
        sampler.seed = input->Take<uint8_t>();
        check(hob_session_sampler(session, &sampler));
        break;
      }
      case 4: {
        int32_t token = -1;
        if (check(hob_session_sample(session, &token)) == HOB_OK) {
          Require(token >= 0 && token < static_cast<int>(hob::fuzz::kMicroTokens), "a token");
        }
        break;
      }
      case 5: {
        const char* text = nullptr;
        size_t bytes = 0;
        const auto token = static_cast<int32_t>(input->Take<int8_t>());
        if (check(hob_session_text(session, token, &text, &bytes)) == HOB_OK) {
          Require(bytes == 0 || text != nullptr, "a text");
        }
        break;
      }
      case 6: {
        int32_t tokens[8];
        for (int32_t& token : tokens) token = static_cast<int32_t>(input->Below(12));
        size_t kept = 0;
        const size_t count = input->Below(9);
        if (check(hob_session_reuse(session, tokens, count, &kept)) == HOB_OK) {
          Require(kept < count && kept <= position, "something remains");
        }
        break;
      }
      case 7: {
        size_t bytes = 0;
        if (check(hob_session_save_memory(session, nullptr, 0, &bytes)) != HOB_OK) break;
        std::vector<uint8_t> saved(bytes);
        check(
            hob_session_save_memory(session, saved.data(), saved.size() - input->Below(2), &bytes));
        check(hob_session_restore_memory(session, saved.data(), saved.size()));
        Require(hob_session_position(session) == position, "the position is as before");
        break;
      }
      default: {
        int32_t ids[16];
        size_t count = 0;
        const std::vector<uint8_t> text = input->Bytes(input->Below(24));
        const size_t capacity = input->Below(17);
        const unsigned flags = input->Take<uint8_t>() % 5;
        check(hob_tokenize(model, reinterpret_cast<const char*>(text.data()), text.size(), flags,
                           capacity == 0 ? nullptr : ids, capacity, &count));
      }
    }
  }
  hob_session_free(session);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  Input input(data, size);
  constexpr void (*kCalls[])(Input*) = {Rows,      PackRange, Embed, Matmul,  Matmul,
                                        Attention, RowOps,    Names, Session, Session};
  kCalls[input.Below(std::size(kCalls))](&input);
  return 0;
}
