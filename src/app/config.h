#pragma once
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "base/time.h"
#include "log/log.h"
#include "model/batch.h"
#include "shard/shard_loop.h"
#include "telemetry/log.h"

// What a server can be told: defaults, over them a TOML file, over that the command line. A value.
namespace workmill::app {

struct Config {
  std::string data = "./workmill-data";
  std::string listen = "127.0.0.1:7330";  // As net::parse_address takes it.
  bool insecure = false;                  // Listen beyond loopback although nobody is asked who he is.
  std::string tokens_file{};              // Empty: "tokens" in the data folder, where there is one.
  std::string tls_certificate{};          // PEM; with tls_key: connections speak TLS. Empty: plain HTTP.
  std::string tls_key{};
  std::vector<std::string> cors_origins{};  // Whose web pages may read answers: "https://example.org".
  std::uint32_t io_threads = 1;             // 1: that thread turns the shard too. More: the shard gets its own.

  log::Durability durability = log::Durability::sync;
  Duration sync_interval{50};  // Under durability `interval`.
  std::uint64_t segment_bytes = std::uint64_t{64} << 20;
  std::uint64_t disk_reserve_bytes = std::uint64_t{256} << 20;
  std::uint64_t jobs_memory_bytes_max = 0;  // 0: none.
  shard::FlushBy flush_by = shard::FlushBy::adaptive;
  std::uint64_t verify_bytes_per_second = std::uint64_t{8} << 20;  // Of the log, read again in the background; 0: none.
  Duration verify_every = std::chrono::hours{1};                   // From pass to pass.

  std::uint32_t connections_max = 20'000;
  std::uint32_t connections_per_address_max = 16'000;
  std::uint32_t waiters_max = 65'536;                                // Long polls.
  std::uint32_t streams_max = 16'384;                                // Worker streams.
  std::uint64_t stream_window_bytes = std::uint64_t{1} << 20;        // On the way to one stream,
  std::uint64_t stream_window_bytes_all = std::uint64_t{256} << 20;  // and to all.
  Duration stream_ping = std::chrono::seconds{5};                    // A stream with jobs, so long quiet, is pinged,
  Duration stream_idle_ping = std::chrono::seconds{50};              // and one without:
  bool stream_direct = true;                                         // unless its worker shows that nobody is between.
  Duration stream_reconnect_within = std::chrono::seconds{5};        // For a stream's worker to come back.
  std::uint64_t body_bytes_max = std::uint64_t{12} << 20;  // A cached value of 8 MiB in base64, with room to spare.
  std::uint32_t header_bytes_max = 16 * 1024;
  std::uint32_t pipelined_max = 64;                             // Requests of one connection under way.
  std::uint64_t buffered_bytes_max = std::uint64_t{512} << 20;  // For input and output, each I/O thread.
  bool admission = true;                 // Refuses requests when more come than can be served in time.
  Duration admission_delay{1};           // From a request to its answer: so much is always fine.
  std::uint32_t in_flight_min = 64;      // So many are let in however slow the server is; for each I/O thread,
  std::uint32_t in_flight_max = 16'384;  // and never more than so many.
  Duration idle_timeout = std::chrono::minutes{5};
  Duration handshake_timeout = std::chrono::seconds{10};  // For a TLS handshake.
  std::uint32_t handshakes_max = 1'000;                   // TLS handshakes under way; for each I/O thread.
  Duration header_timeout = std::chrono::seconds{10};     // For the head of a request.
  Duration request_timeout = std::chrono::seconds{30};    // For the whole of a request to come in.
  Duration write_timeout = std::chrono::seconds{30};      // For a client to take its answer.
  std::uint64_t upload_rate_min = 240;                    // Bytes a second of a body; 0: any.
  std::uint64_t download_rate_min = 240;                  // Bytes a second of an answer; 0: any.
  Duration drain_timeout = std::chrono::seconds{20};

  std::uint64_t cache_memory_bytes = std::uint64_t{256} << 20;  // Of cached values, keys and entries.
  std::uint64_t cache_disk_bytes = std::uint64_t{2} << 30;      // Of their records in the log.
  std::vector<std::string> cache_volatile{};                    // Keys that begin with one of these are in memory only.
  double cache_jitter = 0.1;                                    // 0 to 0.5: of `fresh`, off by chance.

  std::uint32_t finished_kept = kFinishedBudgetDefault;         // Finished jobs kept in a queue.
  std::uint32_t idempotency_keys_max = 1'000'000;               // Remembered; beyond them the oldest go early.
  std::uint32_t batches_max = kBatchesMaxDefault;               // Beyond them those that are over go early.
  std::uint64_t batches_memory_max = kBatchesMemoryMaxDefault;  // Bytes of their callbacks and meta.
  Duration batch_keep = kBatchKeptDefault;                      // From when one is over.

  std::string otlp_endpoint;           // Where spans go: "http://localhost:4318"; empty: see app/tracing.h.
  std::string otlp_headers;            // "name=value,name2=value2", percent-encoded. Secrets.
  std::optional<double> trace_sample;  // 0 to 1, of the requests that come without a trace.

  telemetry::LogLevels log_level{};
  bool telemetry = true;               // Measure the stages of requests and jobs. Off: to see what that costs.
  std::string log_format = "auto";     // auto | text | json
  std::uint32_t log_repeats_max = 20;  // Lines of one message in ten seconds; 0: all.
};

// Reads `path` over `config`. bad_configuration, with file and line where toml11 knows them, for what is malformed, of
// the wrong type or out of range; unknown keys are refused by name. The keys: docs/reference/configuration.md.
// `lines`: on which of them each setting stands; null: nobody asks.
using SettingLines = std::map<std::string, std::size_t, std::less<>>;
Result<> read_config(std::string const& path, Config& config, SettingLines* lines = nullptr);

// What holds of the fields and between them. bad_configuration, with a message that begins with the name of a setting.
Result<> check_config(Config const& config);
// Such an error, with where the file has that setting, if it does.
Error with_place(Error error, std::string_view path, SettingLines const& lines);

// Whether the address may be listened on by a server that has tokens, or has none. bad_configuration.
enum class CallersAre : std::uint8_t { unknown, asked_for_tokens };
Result<> check_exposure(Config const& config, CallersAre callers);

// A setting, as the file names it, that two configurations have differently, with both values as the file has them.
struct Change {
  std::string_view setting;  // Lives for ever.
  std::string before, after;
};
// By name.
std::vector<Change> changes(Config const& before, Config const& after);
// Whether the file may have such a setting.
bool is_setting(std::string_view name);
// `name` is one.
void copy_setting(std::string_view name, Config const& from, Config& to);

// "64MiB", "8 MB", "1024": bytes, with the binary and decimal units of IEC 80000-13. bad_configuration otherwise.
Result<std::uint64_t> parse_bytes(std::string_view text);

// Names in the file and on the command line.
Result<log::Durability> parse_durability(std::string_view text);
Result<shard::FlushBy> parse_flush_by(std::string_view text);

}  // namespace workmill::app
