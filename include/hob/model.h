// hob: whole models. Loads a GGUF file, turns text into tokens, evaluates tokens, samples.
// The kernels under it are in hob.h, whose conventions hold here too.
//
//   hob_model_options options = {sizeof(options)};
//   hob_model* model;
//   if (hob_model_load("model.gguf", &options, &model) != HOB_OK) puts(hob_status_message());
//   hob_session* session;  hob_session_create(model, NULL, &session);
//   ... hob_tokenize, then hob_session_eval, hob_session_sample and hob_token_text in a loop ...
//   hob_session_free(session);  hob_model_free(model);
#ifndef HOB_MODEL_H_
#define HOB_MODEL_H_

#include "hob/hob.h"

#ifdef __cplusplus
extern "C" {
#endif

// A model: weights and tokenizer, immutable once loaded, so that any number of threads and sessions
// may use it at the same time. It must outlive its sessions.
typedef struct hob_model hob_model;

// One sequence: key/value cache, position, logits, sampler. Used by one thread at a time.
typedef struct hob_session hob_session;

// ---------------------------------------------------------------- models

typedef struct hob_model_options {
  size_t struct_size;
  const hob_threads* threads;  // used while loading; NULL = the calling thread
  // Called now and then with the share done, 0 to 1; a result other than 0 stops the load, which
  // then fails with HOB_ERROR_CANCELLED. May be NULL.
  int (*progress)(void* context, float done);
  void* progress_context;
  int vocabulary_only;  // other than 0: only the tokenizer, of any architecture; no session then
} hob_model_options;

// Loads a model from a GGUF file: architecture llama, qwen2 or qwen3. `options` may be NULL. The
// file may change or vanish afterwards. Errors: HOB_ERROR_IO (path), HOB_ERROR_FILE (damaged),
// HOB_ERROR_UNSUPPORTED (architecture, tokenizer or tensor type, by name), HOB_ERROR_SHAPE,
// HOB_ERROR_MEMORY, HOB_ERROR_CANCELLED.
HOB_API hob_status hob_model_load(const char* path, const hob_model_options* options,
                                  hob_model** model);

// The same from memory, which is read only during the call.
HOB_API hob_status hob_model_load_memory(const void* data, size_t bytes,
                                         const hob_model_options* options, hob_model** model);

// The model that is built into the library (runtime/default_model/MODEL_CARD.md): one short English
// request to a home assistant in, one line of JSON out. Fails with HOB_ERROR_UNSUPPORTED in a build
// without it.
HOB_API hob_status hob_model_load_default(const hob_model_options* options, hob_model** model);

HOB_API void hob_model_free(hob_model* model);  // NULL is fine

typedef struct hob_model_info {
  size_t struct_size;
  const char* name;          // general.name or ""; lives as long as the model
  const char* architecture;  // general.architecture
  size_t vocabulary;         // tokens
  size_t context;            // longest sequence it was trained for
  size_t layers, width, heads, kv_heads, head_dim, feed_forward;
  size_t parameters;    // weights, counted once where shared
  size_t weight_bytes;  // of the packed weights in memory
  int32_t bos, eos;     // -1 = none
  // Text around a prompt, "{prompt}" standing for it (GGUF key hob.prompt_template); NULL = none.
  const char* prompt_template;
} hob_model_info;

HOB_API hob_status hob_model_describe(const hob_model* model, hob_model_info* info);

// ---------------------------------------------------------------- text and tokens

enum {
  HOB_TOKENIZE_NO_BOS = 1,     // do not put the beginning-of-text token in front
  HOB_TOKENIZE_NO_SPECIAL = 2  // read the spelling of a control token as plain text
};

// Splits `text` (bytes, UTF-8; invalid bytes are kept as bytes) into tokens. Writes up to
// `capacity` ids and sets *count to how many there are, which may be more.
HOB_API hob_status hob_tokenize(const hob_model* model, const char* text, size_t bytes,
                                unsigned flags, int32_t* tokens, size_t capacity, size_t* count);

// The bytes of one token. Control tokens give "". *text lives as long as the model. A token may be
// a part of a UTF-8 character; hob_session_text puts the parts together.
HOB_API hob_status hob_token_text(const hob_model* model, int32_t token, const char** text,
                                  size_t* bytes);

// *end = 1 if the token ends a text (end of text, of turn or of message), else 0.
HOB_API hob_status hob_token_is_end(const hob_model* model, int32_t token, int* end);

// ---------------------------------------------------------------- sessions

typedef struct hob_session_options {
  size_t struct_size;
  // Tokens that fit in the cache; 0 = the model's, at most 4096. A large one costs address space;
  // memory is taken as the sequence grows.
  size_t context;
  size_t
      batch;  // most tokens evaluated together, for memory; 0 = 256. Results do not depend on it.
  // 0 = f32 for models with f32 weights, else bf16; otherwise 1 + a hob_cache_type.
  int cache_type;
  const hob_threads* threads;  // copied; NULL = the calling thread
  // Called as operations begin while evaluating, never twice at a time; a result other than 0 stops
  // it, the call fails with HOB_ERROR_CANCELLED and the session stays where it was. May be NULL;
  // must be callable from any of the threads.
  int (*cancel)(void* context);
  void* cancel_context;
} hob_session_options;

// `options` may be NULL.
HOB_API hob_status hob_session_create(const hob_model* model, const hob_session_options* options,
                                      hob_session** session);
HOB_API void hob_session_free(hob_session* session);  // NULL is fine

// Appends tokens to the sequence and computes the logits of the last of them, or of all:
// logits = NULL: only the last row, kept inside for hob_session_logits and hob_session_sample;
// otherwise row i, logits[i][vocabulary], is what the model says after tokens[i].
// Fails with HOB_ERROR_SHAPE, changing nothing, if the context is too short.
HOB_API hob_status hob_session_eval(hob_session* session, const int32_t* tokens, size_t count,
                                    float* logits);

// The logits after the last token, (vocabulary); valid until the next eval. Fails before the first.
HOB_API hob_status hob_session_logits(const hob_session* session, const float** logits);

// Number of tokens in the sequence.
HOB_API size_t hob_session_position(const hob_session* session);

// Forgets every token from `position` on; what is before stays cached. The logits are gone. Fails
// with HOB_ERROR_ARGUMENT, changing nothing, if the sequence is shorter. Going far back gives
// memory of the cache back to the system.
HOB_API hob_status hob_session_rewind(hob_session* session, size_t position);

// Rewinds to what the sequence and the `count` tokens at `tokens` have in common at their
// beginning, and sets *kept to its length: only tokens[*kept] and what follows remain to be
// evaluated. At least one always remains, since its logits are wanted: *kept < count. The bits of
// what follows are those of a new session that evaluates all of `tokens`. The logits are gone.
// Fails with HOB_ERROR_ARGUMENT, changing nothing, if `count` is 0 or a pointer is NULL.
//
//   hob_session_reuse(session, tokens, count, &kept);
//   hob_session_eval(session, tokens + kept, count - kept, NULL);
HOB_API hob_status hob_session_reuse(hob_session* session, const int32_t* tokens, size_t count,
                                     size_t* kept);

typedef struct hob_session_info {
  size_t struct_size;
  size_t context, batch;      // as chosen when the session was created
  hob_cache_type cache_type;  // the same
  size_t position;            // tokens in the sequence
  size_t cache_bytes;         // of the cache that they fill, in whole tiles of 64 tokens
  // Address space of the cache for the whole context. The system gives it memory as tokens come, so
  // what is in use is cache_bytes, rounded up to the system's pages for each KV head and layer.
  size_t cache_reserved_bytes;
  size_t work_bytes;  // everything else: activations, workspaces, angles, logits
} hob_session_info;

// Describes the session. Fails with HOB_ERROR_ARGUMENT on a NULL pointer or a wrong struct_size.
HOB_API hob_status hob_session_describe(const hob_session* session, hob_session_info* info);

// ---------------------------------------------------------------- saving sessions

// A saved session holds the tokens of the sequence, the logits after them if there are any, and the
// part of the cache that they fill. It does not hold the sampler (options and random generator) nor
// a text that is going out: set the sampler again, and text begins anew.
//
// It can be restored into any session of the same model with the same cache type and a context that
// is long enough, on any instruction set, with any threads and batch; it goes on with the same
// bits. What the model is, a fingerprint of its dimensions and all its weights decides. Computing
// it reads the weights once, at the first of these calls for a model.
//
// Saved sessions are checked to the last byte, by sizes, ranges and a checksum: one that is
// damaged, or made by somebody who wishes harm, is refused. The checksum does not tell who wrote
// it, so somebody who can change a saved session can make the model say anything.
//
// These calls allocate, and they take as long as it takes to move the bytes. Like the others, they
// may be made by one thread at a time for each session.

// Writes the session to a file: first to a new one beside it, which is then renamed, so that `path`
// is either what it was or complete. Fails with HOB_ERROR_IO, naming the path and the reason; the
// session stays as it is.
HOB_API hob_status hob_session_save(const hob_session* session, const char* path);

// Makes the session what it was when the file was written. Fails, and then leaves the session as it
// was, with HOB_ERROR_IO (path), HOB_ERROR_FILE (no saved session, or a damaged one),
// HOB_ERROR_UNSUPPORTED (of another version of hob or another byte order), HOB_ERROR_ARGUMENT (of
// another model or cache type), HOB_ERROR_SHAPE (longer than this session's context) or
// HOB_ERROR_MEMORY. No other process may shorten the file during the call.
HOB_API hob_status hob_session_restore(hob_session* session, const char* path);

// The same in memory of the caller. Sets *bytes to how many there are, and writes them if they fit
// into `capacity`. data = NULL with capacity 0 only asks; otherwise too little capacity fails with
// HOB_ERROR_ARGUMENT and writes nothing.
HOB_API hob_status hob_session_save_memory(const hob_session* session, void* data, size_t capacity,
                                           size_t* bytes);

// `data` needs no alignment and is only read during the call. Fails as hob_session_restore.
HOB_API hob_status hob_session_restore_memory(hob_session* session, const void* data, size_t bytes);

// ---------------------------------------------------------------- sampling

typedef struct hob_sampler_options {
  size_t struct_size;
  float temperature;         // 0 = greedy: the largest logit, the smaller id on a tie
  int top_k;                 // keep the k most probable tokens; 0 = all
  float top_p;               // keep the smallest set whose probabilities reach this; 0 or 1 = all
  float min_p;               // drop tokens less probable than min_p times the best; 0 = none
  float repetition_penalty;  // > 1 divides positive and multiplies negative logits of the last
                             // `penalty_window` tokens; 0 or 1 = off
  size_t penalty_window;     // 0 = 64
  uint64_t seed;             // the same seed gives the same text on every machine
} hob_sampler_options;

// Sets how this session samples and restarts its random generator. Without it: greedy.
HOB_API hob_status hob_session_sampler(hob_session* session, const hob_sampler_options* options);

// Chooses the next token from the last logits. It is not appended: pass it to hob_session_eval.
HOB_API hob_status hob_session_sample(hob_session* session, int32_t* token);

// The text of a token that goes out next, held back until its UTF-8 characters are whole, so what
// comes out is always valid UTF-8. *text lives until the session's next call. token = -1 ends the
// text: what is left comes out, a broken character as U+FFFD.
HOB_API hob_status hob_session_text(hob_session* session, int32_t token, const char** text,
                                    size_t* bytes);

// ---------------------------------------------------------------- files

// What becomes of one tensor of a file.
typedef struct hob_quantize_tensor {
  size_t struct_size;
  const char* name;
  const char* from;  // the format it had
  const char* to;    // the one it gets; equal if it is copied as it is
  const char* note;  // "", or why it gets another format than was asked for
  uint64_t values;
  // Only in `measured`: sums of squares of the source's values and of what the decoded ones differ
  // from them; sqrt(squared_error / squared_source); the same for the block where it is largest.
  // Blocks are those of the format, or 32 values of a row if it has none, counted from 0 on.
  double squared_source, squared_error;
  double relative_rms;
  uint64_t block_values;  // in a block
  uint64_t worst_block;
  double worst_relative_rms;
} hob_quantize_tensor;

typedef struct hob_quantize_options {
  size_t struct_size;
  const hob_threads* threads;
  int (*progress)(void* context, float done);  // as in hob_model_options
  void* progress_context;
  // Called for every tensor before its turn. May be NULL. What it is given lives during the call.
  void (*tensor)(void* context, const hob_quantize_tensor* tensor);
  void* tensor_context;  // for `measured`, too
  // Called for every tensor that was encoded, with its error. NULL: errors are not measured, which
  // saves decoding what was encoded.
  void (*measured)(void* context, const hob_quantize_tensor* tensor);
} hob_quantize_options;

// Writes the model `in_path` to `out_path` in another format. `format` is the name, in any letter
// case, of either
// - a format, which every matrix gets, or
// - a mix, such as "q4_k_m": one of several formats for each matrix, chosen as in llama.cpp by the
//   part it plays (docs/quantizing.md).
// Vectors stay as they are. Where rows do not fit the blocks of a format, a larger one takes its
// place. Byte layout: GGUF's. Fails with HOB_ERROR_FORMAT on an unknown name, and on a mix that
// needs a format which this build does not have.
HOB_API hob_status hob_quantize_file(const char* in_path, const char* out_path, const char* format,
                                     const hob_quantize_options* options);

// Lists the names of the mixes. Writes up to `capacity`, returns how many there are.
HOB_API size_t hob_mixes(const char** names, size_t capacity);

#ifdef __cplusplus
}
#endif

#endif  // HOB_MODEL_H_
