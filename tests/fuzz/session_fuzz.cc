// Any bytes as a saved session: refused, or restored and then as good as any other session. The
// first byte says whether the checksum and the model's fingerprint are made right, so that what
// lies behind these checks is reached, too.
#include <cstring>
#include <vector>

#include "hob/model.h"
#include "runtime/session_state.h"
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/micro_model.h"

namespace {

using hob::fuzz::Require;

constexpr int32_t kTokens[] = {1, 4, 5, 6, 10};

struct Host {
  hob_model* model = nullptr;
  hob_session* session = nullptr;
  std::vector<uint8_t> saved;      // after kTokens
  std::vector<float> next_logits;  // after kTokens and the token 7

  Host() {
    const std::vector<uint8_t> file = hob::fuzz::MicroModel(HOB_FORMAT_Q8_0);
    hob_session_options options = {};
    options.struct_size = sizeof(options);
    options.context = 48;
    Require(hob_model_load_memory(file.data(), file.size(), nullptr, &model) == HOB_OK, "a model");
    Require(hob_session_create(model, &options, &session) == HOB_OK, "a session");
    Require(hob_session_eval(session, kTokens, std::size(kTokens), nullptr) == HOB_OK, "a start");
    size_t bytes = 0;
    Require(hob_session_save_memory(session, nullptr, 0, &bytes) == HOB_OK, "a size");
    saved.resize(bytes);
    Require(hob_session_save_memory(session, saved.data(), bytes, &bytes) == HOB_OK, "a save");
    next_logits = Next();
  }

  // The logits after one more token, which is then taken back.
  std::vector<float> Next() const {
    const int32_t token = 7;
    const float* logits = nullptr;
    Require(hob_session_eval(session, &token, 1, nullptr) == HOB_OK, "a session goes on");
    Require(hob_session_logits(session, &logits) == HOB_OK, "logits after that");
    std::vector<float> copy(logits, logits + hob::fuzz::kMicroTokens);
    Require(hob_session_rewind(session, hob_session_position(session) - 1) == HOB_OK, "a rewind");
    return copy;
  }
};

// As the header of a state of this model would be, whatever it held.
void MakeRight(const Host& host, std::vector<uint8_t>* bytes) {
  hob::StateHeader header;
  if (bytes->size() < sizeof(header)) return;
  std::memcpy(&header, bytes->data(), sizeof(header));
  hob::StateHeader right;
  std::memcpy(&right, host.saved.data(), sizeof(right));
  header.model = right.model;
  std::memcpy(bytes->data(), &header, sizeof(header));
  header.checksum = hob::StateChecksum(*bytes);
  std::memcpy(bytes->data(), &header, sizeof(header));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const auto* host = new Host;
  hob::fuzz::Input input(data, size);
  const bool repair = input.Flag();
  std::vector<uint8_t> bytes = input.Bytes(input.rest().size());
  if (repair) MakeRight(*host, &bytes);

  const hob_status status = hob_session_restore_memory(host->session, bytes.data(), bytes.size());
  Require(status != HOB_ERROR_INTERNAL, "no internal error");
  if (status == HOB_OK) {
    if (hob_session_position(host->session) < 48) host->Next();
    const hob_status again =
        hob_session_restore_memory(host->session, host->saved.data(), host->saved.size());
    Require(again == HOB_OK, "a good state can always be restored");
  }
  // Refused or restored anew: the session is what it was.
  Require(hob_session_position(host->session) == std::size(kTokens), "the position is as before");
  const std::vector<float> next = host->Next();
  Require(std::memcmp(next.data(), host->next_logits.data(), next.size() * sizeof(float)) == 0,
          "the session goes on with the same bits");
  return 0;
}
