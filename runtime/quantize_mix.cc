// The tables, then what reads them. The rules, mixes and numbers of file types are those of
// llama.cpp (llama_tensor_get_type in its src/llama-quant.cpp), so that a mix is what its users
// know by that name; left out are the exceptions for the Falcon architecture and importance
// matrices.
#include "runtime/quantize_mix.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <optional>
#include <utility>

#include "runtime/error.h"
#include "runtime/unicode.h"

namespace hob {
namespace {

// ---------------------------------------------------------------- the tables

// What llama.cpp calls Q2_K is a mix too; here q2_k is the format alone and q2_k_m that mix.
constexpr Mix kMixes[] = {
    {"q2_k_m", 10, "q2_k"}, {"q3_k_s", 11, "q3_k"}, {"q3_k_m", 12, "q3_k"}, {"q3_k_l", 13, "q3_k"},
    {"q4_k_s", 14, "q4_k"}, {"q4_k_m", 15, "q4_k"}, {"q5_k_s", 16, "q5_k"}, {"q5_k_m", 17, "q5_k"},
};

// A tensor's part in the model, as far as rules tell them apart.
enum class Role {
  kOutput,           // the output matrix, or the embedding that serves as one
  kValue,            // attention values, alone or together with queries and keys
  kKey,              // attention keys
  kAttentionOutput,  //
  kDown,             // the feed-forward block's way back
  kOther
};

// When a rule holds: for some layers or for some models.
enum class When {
  kAlways,
  kFirst2,          // layers
  kFirst4,          //
  kFirstSixteenth,  // of all layers
  kFirstEighth,     //
  kMoreBits,        // the first and last eighth and every third layer between them
  kGrouped4,        // at least 4 query heads share keys and values, which then are few
  kEightExperts
};

struct Rule {
  std::string_view mix;  // "" = all
  Role role;
  When when;
  std::string_view format;
};

// The first rule that holds decides; none: the mix's base.
constexpr Rule kRules[] = {
    {"", Role::kOutput, When::kAlways, "q6_k"},

    {"", Role::kValue, When::kEightExperts, "q8_0"},
    {"q2_k_m", Role::kValue, When::kGrouped4, "q4_k"},
    {"q2_k_m", Role::kValue, When::kAlways, "q3_k"},
    {"q3_k_m", Role::kValue, When::kFirst2, "q5_k"},
    {"q3_k_m", Role::kValue, When::kAlways, "q4_k"},
    {"q3_k_l", Role::kValue, When::kAlways, "q5_k"},
    {"q4_k_s", Role::kValue, When::kFirst4, "q5_k"},
    {"q4_k_m", Role::kValue, When::kMoreBits, "q6_k"},
    {"q5_k_m", Role::kValue, When::kMoreBits, "q6_k"},

    {"", Role::kKey, When::kEightExperts, "q8_0"},

    {"q2_k_m", Role::kDown, When::kAlways, "q3_k"},
    {"q3_k_m", Role::kDown, When::kFirstSixteenth, "q5_k"},
    {"q3_k_m", Role::kDown, When::kAlways, "q4_k"},
    {"q3_k_l", Role::kDown, When::kAlways, "q5_k"},
    {"q4_k_s", Role::kDown, When::kFirstEighth, "q5_k"},
    {"q4_k_m", Role::kDown, When::kMoreBits, "q6_k"},
    {"q5_k_m", Role::kDown, When::kMoreBits, "q6_k"},

    {"q3_k_l", Role::kAttentionOutput, When::kEightExperts, "q3_k"},
    {"", Role::kAttentionOutput, When::kEightExperts, "q5_k"},
    {"q2_k_m", Role::kAttentionOutput, When::kAlways, "q3_k"},
    {"q3_k_m", Role::kAttentionOutput, When::kAlways, "q4_k"},
    {"q3_k_l", Role::kAttentionOutput, When::kAlways, "q5_k"},
};

// What stands in where rows do not fit blocks of 256. Anything else that does not fit becomes f16.
struct Fallback {
  std::string_view format, instead;
};
constexpr Fallback kFallbacks[] = {
    {"q2_k", "iq4_nl"}, {"q3_k", "iq4_nl"}, {"iq4_xs", "iq4_nl"}, {"q4_k", "q5_0"},
    {"q5_k", "q5_1"},   {"q6_k", "q8_0"},   {"tq1_0", "q4_0"},    {"tq2_0", "q4_0"},
};
constexpr std::string_view kLastFallback = "f16";

// Small or sensitive matrices that mixes leave alone: parts of their names.
constexpr std::string_view kUntouched[] = {"_norm.weight",
                                           "ffn_gate_inp.weight",
                                           "position_embd",
                                           "token_types",
                                           "ssm_conv1d",
                                           "shortconv.conv.weight",
                                           "attn_rel_b.weight",
                                           "altup",
                                           "laurel",
                                           "per_layer_model_proj",
                                           "time_mix_first",
                                           "time_mix_w0",
                                           "time_mix_w1",
                                           "time_mix_w2",
                                           "time_mix_v0",
                                           "time_mix_v1",
                                           "time_mix_v2",
                                           "time_mix_a0",
                                           "time_mix_a1",
                                           "time_mix_a2",
                                           "time_mix_g1",
                                           "time_mix_g2",
                                           "time_mix_decay_w1",
                                           "time_mix_decay_w2",
                                           "time_mix_lerp_fused"};

struct FileTypeRow {
  uint32_t tensor_type, file_type;
};
constexpr FileTypeRow kFileTypes[] = {
    {0, 0},    // f32
    {1, 1},    // f16
    {2, 2},    // q4_0
    {3, 3},    // q4_1
    {6, 8},    // q5_0
    {7, 9},    // q5_1
    {8, 7},    // q8_0
    {10, 10},  // q2_k
    {11, 12},  // q3_k
    {12, 15},  // q4_k
    {13, 17},  // q5_k
    {14, 18},  // q6_k
    {20, 25},  // iq4_nl
    {23, 30},  // iq4_xs
    {30, 32},  // bf16
    {34, 36},  // tq1_0
    {35, 37},  // tq2_0
    {39, 38},  // mxfp4
};
constexpr uint32_t kGuessFileType = 1024;  // readers then judge by the tensors

// ---------------------------------------------------------------- names

bool Contains(std::string_view text, std::string_view part) {
  return text.find(part) != std::string_view::npos;
}

const FormatRow* FindRow(std::string_view name) {
  const auto* row = std::ranges::find(kFormatRows, name, &FormatRow::name);
  return row == std::end(kFormatRows) ? nullptr : row;
}

std::string FormatNames() {
  std::string names;
  for (const FormatRow& row : kFormatRows)
    names += (names.empty() ? "" : " ") + std::string(row.name);
  return names;
}

const Fallback* FindFallback(std::string_view format) {
  const auto* row = std::ranges::find(kFallbacks, format, &Fallback::format);
  return row == std::end(kFallbacks) ? nullptr : row;
}

// Values in a block, also of formats that this build does not have: those that need a fallback have
// 256, and the others that rules name 32.
uint64_t BlockValues(std::string_view format) {
  if (const FormatRow* row = FindRow(format)) return row->block_values;
  return FindFallback(format) != nullptr ? 256 : 32;
}

// The layer of "blk.7.attn_v.weight"; nothing for a tensor outside the layers.
std::optional<uint32_t> LayerOf(std::string_view name) {
  constexpr std::string_view kPrefix = "blk.";
  if (!name.starts_with(kPrefix)) return std::nullopt;
  uint32_t layer = 0;
  const char* digits = name.data() + kPrefix.size();
  const auto [end, error] = std::from_chars(digits, name.data() + name.size(), layer);
  if (error != std::errc() || end == name.data() + name.size() || *end != '.') return std::nullopt;
  return layer;
}

Role RoleOf(std::string_view name, bool tied) {
  if (name == "output.weight") return Role::kOutput;
  if (name == "token_embd.weight" || name == "per_layer_token_embd.weight") {
    return tied ? Role::kOutput : Role::kOther;
  }
  for (const std::string_view part : {"attn_v.weight", "attn_qkv.weight", "attn_kv_b.weight"}) {
    if (Contains(name, part)) return Role::kValue;
  }
  if (Contains(name, "attn_k.weight")) return Role::kKey;
  if (Contains(name, "attn_output.weight")) return Role::kAttentionOutput;
  if (Contains(name, "ffn_down")) return Role::kDown;
  return Role::kOther;
}

// ---------------------------------------------------------------- reading the tables

// Vectors are small and sensitive, so they stay.
bool IsMatrix(const MixTensor& tensor) { return tensor.n_dims >= 2; }

bool IsMixed(const MixTensor& tensor) {
  return IsMatrix(tensor) && tensor.rows > 1 && tensor.name.ends_with("weight") &&
         std::ranges::none_of(kUntouched,
                              [&](std::string_view part) { return Contains(tensor.name, part); });
}

// Where a tensor stands among those of its role.
struct Place {
  uint32_t index, count;
};

bool Holds(When when, const MixModel& model, Place place) {
  const auto [i, n] = place;
  switch (when) {
    case When::kAlways:
      return true;
    case When::kFirst2:
      return i < 2;
    case When::kFirst4:
      return i < 4;
    case When::kFirstSixteenth:
      return i < n / 16;
    case When::kFirstEighth:
      return i < n / 8;
    case When::kMoreBits:
      return i < n / 8 || i >= 7 * n / 8 || (i - n / 8) % 3 == 2;
    case When::kGrouped4:
      return model.kv_heads != 0 && model.heads / model.kv_heads >= 4;
    case When::kEightExperts:
      return model.experts == 8;
  }
  return false;
}

// In models of this size with grouped heads, values are an eighth of the queries and worth more.
bool Is70B(const MixModel& model) {
  constexpr std::string_view kArchitectures[] = {"llama", "qwen2", "qwen2vl", "deci"};
  return model.layers == 80 && model.heads != model.kv_heads &&
         std::ranges::find(kArchitectures, model.architecture) != std::end(kArchitectures);
}

std::string_view ApplyRules(const Mix& mix, Role role, const MixModel& model, Place place) {
  std::string_view format = mix.base;
  for (const Rule& rule : kRules) {
    if (rule.role == role && (rule.mix.empty() || rule.mix == mix.name) &&
        Holds(rule.when, model, place)) {
      format = rule.format;
      break;
    }
  }
  if (role == Role::kValue && Is70B(model) && (format == "q3_k" || format == "q4_k")) {
    format = "q5_k";
  }
  return format;
}

TensorChoice Fit(std::string_view wanted, uint64_t row) {
  std::string_view format = wanted;
  if (const Fallback* fallback = FindFallback(format);
      fallback != nullptr && row % BlockValues(format) != 0) {
    format = fallback->instead;
  }
  if (row % BlockValues(format) != 0) format = kLastFallback;
  if (format == wanted) return {format, ""};
  return {format, "rows of " + std::to_string(row) + " do not fit " + std::string(wanted)};
}

// The places of tensors that rules about layers are for: in the order of the layers, which need not
// be that of the file.
std::vector<Place> FindPlaces(const MixModel& model, std::span<const MixTensor> tensors,
                              std::span<const Role> roles) {
  std::vector<Place> places(tensors.size(), Place{0, 0});
  for (const Role role : {Role::kValue, Role::kDown}) {
    std::vector<std::pair<uint32_t, size_t>> order;  // layer, tensor
    for (size_t i = 0; i < tensors.size(); ++i) {
      if (roles[i] == role && IsMixed(tensors[i])) {
        order.emplace_back(LayerOf(tensors[i].name).value_or(0), i);
      }
    }
    std::sort(order.begin(), order.end());
    for (size_t rank = 0; rank < order.size(); ++rank) {
      const auto [layer, i] = order[rank];
      const bool by_layer = role == Role::kDown && model.experts > 1;  // a layer may have several
      places[i] = {by_layer ? layer : static_cast<uint32_t>(rank),
                   role == Role::kDown ? model.layers : static_cast<uint32_t>(order.size())};
    }
  }
  return places;
}

std::vector<TensorChoice> ChooseMix(const Mix& mix, const MixModel& model,
                                    std::span<const MixTensor> tensors) {
  const bool tied = std::ranges::find(tensors, "output.weight", &MixTensor::name) == tensors.end();
  std::vector<Role> roles;
  for (const MixTensor& tensor : tensors) roles.push_back(RoleOf(tensor.name, tied));
  const std::vector<Place> places = FindPlaces(model, tensors, roles);

  std::vector<TensorChoice> choices(tensors.size());
  for (size_t i = 0; i < tensors.size(); ++i) {
    if (!IsMixed(tensors[i])) continue;
    choices[i] = Fit(ApplyRules(mix, roles[i], model, places[i]), tensors[i].row);
  }
  return choices;
}

// A count that some models give for each layer; then that of the first layer, as rules have it.
uint32_t ReadCount(const Gguf& file, const std::string& key, uint32_t fallback) {
  const GgufValue* value = file.Find(key);
  if (value == nullptr || value->type != GgufType::kArray) return file.GetU32(key, fallback);
  const std::vector<int32_t> counts = file.GetI32Array(key);
  return counts.empty() || counts[0] < 0 ? fallback : static_cast<uint32_t>(counts[0]);
}

}  // namespace

std::span<const Mix> Mixes() { return kMixes; }

QuantizeGoal ParseGoal(std::string_view what) {
  std::string name(what);
  for (char& c : name) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  if (const auto* mix = std::ranges::find(kMixes, name, &Mix::name); mix != std::end(kMixes)) {
    return {name, mix, mix->file_type};
  }
  if (const FormatRow* row = FindRow(name)) {
    const auto* type =
        std::ranges::find(kFileTypes, static_cast<uint32_t>(row->id), &FileTypeRow::tensor_type);
    return {name, nullptr, type == std::end(kFileTypes) ? kGuessFileType : type->file_type};
  }
  std::string known = FormatNames();
  for (const Mix& mix : kMixes) known += " " + std::string(mix.name);
  throw Error(HOB_ERROR_FORMAT,
              "format or mix " + Quoted(what) + " is not known; expected one of " + known);
}

MixModel ReadMixModel(const Gguf& file) {
  MixModel model;
  model.architecture = std::string(file.GetString("general.architecture", ""));
  const std::string prefix = model.architecture + ".";
  uint32_t layers = 0;
  for (const GgufTensor& tensor : file.tensors()) {
    if (const auto layer = LayerOf(tensor.name)) layers = std::max(layers, *layer + 1);
  }
  model.layers = file.GetU32(prefix + "block_count", layers);
  model.heads = ReadCount(file, prefix + "attention.head_count", 1);
  model.kv_heads = ReadCount(file, prefix + "attention.head_count_kv", model.heads);
  model.experts = file.GetU32(prefix + "expert_count", 0);
  return model;
}

std::vector<MixTensor> ReadMixTensors(const Gguf& file) {
  std::vector<MixTensor> tensors;
  for (const GgufTensor& tensor : file.tensors()) {
    tensors.push_back({tensor.name, tensor.n_dims, tensor.dims[0],
                       tensor.dims[0] == 0 ? 0 : tensor.elements / tensor.dims[0]});
  }
  return tensors;
}

std::vector<TensorChoice> ChooseFormats(const QuantizeGoal& goal, const MixModel& model,
                                        std::span<const MixTensor> tensors) {
  if (goal.mix != nullptr) return ChooseMix(*goal.mix, model, tensors);
  std::vector<TensorChoice> choices(tensors.size());
  for (size_t i = 0; i < tensors.size(); ++i) {
    if (IsMatrix(tensors[i])) choices[i] = Fit(goal.name, tensors[i].row);
  }
  return choices;
}

const Format& RequireFormat(const QuantizeGoal& goal, const MixTensor& tensor,
                            std::string_view format) {
  const FormatRow* row = FindRow(format);
  const Format* found = row == nullptr ? nullptr : FindFormat(row->id);
  if (found != nullptr) return *found;
  throw Error(HOB_ERROR_FORMAT, goal.name + " needs the format " + std::string(format) +
                                    " for the tensor " + Quoted(tensor.name) +
                                    ", which this build does not have; it has " + FormatNames());
}

}  // namespace hob
