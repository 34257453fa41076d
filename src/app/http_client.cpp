#include "app/http_client.h"

#include <curl/curl.h>
#include <fmt/format.h>
#include <openssl/rand.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cstring>
#include <unordered_map>
#include <utility>

#include "base/assert.h"

namespace workmill::app {
namespace {

// More than any answer that we ask for: a thousand jobs of the largest size would be cut down by the server first.
constexpr std::size_t kReplyBytesMax = std::size_t{256} << 20;

struct CurlFree {
  void operator()(CURL* curl) const { curl_easy_cleanup(curl); }
  void operator()(curl_slist* list) const { curl_slist_free_all(list); }
};
using Easy = std::unique_ptr<CURL, CurlFree>;
using HeaderList = std::unique_ptr<curl_slist, CurlFree>;

// One request on its way: what libcurl points into, so it stays where it is.
struct Exchange {
  HttpRequest request;
  HttpReply reply;
  std::string url;
  HeaderList headers;
  std::array<char, CURL_ERROR_SIZE> message{};
};

std::size_t take_body(char* data, std::size_t size, std::size_t count, void* user) {
  auto& body = static_cast<Exchange*>(user)->reply.body;
  if (body.size() + size * count > kReplyBytesMax) return 0;  // Ends the transfer.
  body.append(data, size * count);
  return size * count;
}

void add_header(Exchange& exchange, std::string const& line) {
  auto* const list = curl_slist_append(exchange.headers.release(), line.c_str());
  WM_ASSERT(list != nullptr);
  exchange.headers.reset(list);
}

void prepare(CURL* curl, Exchange& exchange, ServerAddress const& address) {
  curl_easy_reset(curl);  // Keeps the connections.
  auto const& request = exchange.request;
  exchange.url = address.url + request.path;
  add_header(exchange, "Accept: application/json");
  add_header(exchange, "Expect:");  // libcurl would ask first before it sends a large body.
  bool const has_body = !request.body.empty() || request.method == "PUT";
  if (has_body) add_header(exchange, "Content-Type: " + request.content_type);
  if (!request.idempotency_key.empty()) add_header(exchange, "Idempotency-Key: " + request.idempotency_key);
  if (!request.traceparent.empty()) {
    add_header(exchange, "traceparent: " + request.traceparent);
    if (!request.tracestate.empty()) add_header(exchange, "tracestate: " + request.tracestate);
  }
  if (!address.token.empty()) add_header(exchange, "Authorization: Bearer " + address.token);

  curl_easy_setopt(curl, CURLOPT_URL, exchange.url.c_str());
  curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http,https");
  curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
  curl_easy_setopt(curl, CURLOPT_USERAGENT, "workmill/" WM_VERSION);
  curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT_MS, 5'000L);
  curl_easy_setopt(curl, CURLOPT_TIMEOUT_MS, static_cast<long>(request.timeout.count()));
  curl_easy_setopt(curl, CURLOPT_HTTPHEADER, exchange.headers.get());
  curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, take_body);
  curl_easy_setopt(curl, CURLOPT_WRITEDATA, &exchange);
  curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, exchange.message.data());
  curl_easy_setopt(curl, CURLOPT_PRIVATE, &exchange);
  if (!address.ca_file.empty()) curl_easy_setopt(curl, CURLOPT_CAINFO, address.ca_file.c_str());
  if (address.believe == Believe::anybody) {
    WM_ASSERT(address.token.empty());
    curl_easy_setopt(curl, CURLOPT_SSL_VERIFYPEER, 0L);
    curl_easy_setopt(curl, CURLOPT_SSL_VERIFYHOST, 0L);
  }
  // A proxy from the environment is for the world outside.
  if (is_loopback(address.url)) curl_easy_setopt(curl, CURLOPT_PROXY, "");
  if (request.method == "GET") return;
  if (has_body || request.method == "POST") {
    curl_easy_setopt(curl, CURLOPT_POSTFIELDSIZE_LARGE, static_cast<curl_off_t>(request.body.size()));
    curl_easy_setopt(curl, CURLOPT_POSTFIELDS, request.body.data());
  }
  curl_easy_setopt(curl, CURLOPT_CUSTOMREQUEST, request.method.c_str());
}

Error error_of_transfer(CURLcode code, CURL* curl, Exchange const& exchange) {
  std::string why = exchange.message.front() != '\0' ? exchange.message.data() : curl_easy_strerror(code);
  switch (code) {
    case CURLE_URL_MALFORMAT:
    case CURLE_SSL_CACERT_BADFILE:
    case CURLE_UNSUPPORTED_PROTOCOL: return {.code = ErrorCode::bad_configuration, .message = std::move(why)};
    case CURLE_COULDNT_RESOLVE_PROXY:
    case CURLE_COULDNT_RESOLVE_HOST:
    case CURLE_COULDNT_CONNECT:
    case CURLE_SSL_CONNECT_ERROR:
    case CURLE_PEER_FAILED_VERIFICATION: return {.code = ErrorCode::no_server, .message = std::move(why)};
    case CURLE_OPERATION_TIMEDOUT: {
      curl_off_t connected = 0;
      curl_easy_getinfo(curl, CURLINFO_PRETRANSFER_TIME_T, &connected);
      return {.code = connected == 0 ? ErrorCode::no_server : ErrorCode::outcome_unknown, .message = std::move(why)};
    }
    case CURLE_SEND_ERROR:
    case CURLE_RECV_ERROR:
    case CURLE_GOT_NOTHING:
    case CURLE_PARTIAL_FILE: return {.code = ErrorCode::outcome_unknown, .message = std::move(why)};
    default: return {.code = ErrorCode::protocol_error, .message = std::move(why)};
  }
}

Result<HttpReply> finish(CURLcode code, CURL* curl, Exchange& exchange) {
  if (code != CURLE_OK) return std::unexpected(error_of_transfer(code, curl, exchange));
  long status = 0;
  curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &status);
  exchange.reply.status = static_cast<int>(status);
  curl_off_t retry_after_s = 0;
  curl_easy_getinfo(curl, CURLINFO_RETRY_AFTER, &retry_after_s);
  curl_header* header = nullptr;
  if (curl_easy_header(curl, "Retry-After", 0, CURLH_HEADER, -1, &header) == CURLHE_OK) {
    exchange.reply.retry_after = std::chrono::seconds{std::max<curl_off_t>(retry_after_s, 0)};
  }
  auto const take = [&](char const* name, std::string& value) {
    if (curl_easy_header(curl, name, 0, CURLH_HEADER, -1, &header) == CURLHE_OK) value = header->value;
  };
  take("Content-Type", exchange.reply.content_type);
  take("ETag", exchange.reply.etag);
  take("Age", exchange.reply.age);
  take("Cache-Status", exchange.reply.cache_status);
  return std::move(exchange.reply);
}

std::optional<ErrorCode> parse_error_code(std::string_view text) {
  // The numbers are append only and lie in hundreds by kind.
  for (std::uint16_t number = 100; number < 500; ++number) {
    auto const code = static_cast<ErrorCode>(number);
    if (to_string(code) == text) return code;
  }
  return std::nullopt;
}

}  // namespace

bool is_loopback(std::string_view url) {
  auto host = url.substr(url.find("://") + 3);
  if (host == "[::1]" || host.starts_with("[::1]:")) return true;
  host = host.substr(0, host.find(':'));
  bool const is_number = host.find_first_not_of("0123456789.") == std::string_view::npos;
  return host == "localhost" || (is_number && host.starts_with("127."));
}

Result<std::string> normal_url(std::string_view text) {
  std::string url{text};
  if (!url.contains("://")) url.insert(0, "http://");
  while (url.ends_with('/')) url.pop_back();
  auto const bad = [text] {
    return fail(ErrorCode::bad_configuration,
                fmt::format("'{}' is no address of a server: write it like {}", text, kServerDefault));
  };
  if (!url.starts_with("http://") && !url.starts_with("https://")) return bad();
  auto const host = std::string_view{url}.substr(url.find("://") + 3);
  if (host.empty() || host.starts_with(':') || host.find_first_of("/?#@ \t\r\n") != std::string_view::npos)
    return bad();
  auto const* const bracket = std::find(host.begin(), host.end(), ']');
  auto const colon = host.find(':', bracket == host.end() ? 0 : static_cast<std::size_t>(bracket - host.begin()));
  if (colon != std::string_view::npos) {
    auto const port_text = host.substr(colon + 1);
    unsigned port = 0;
    auto const [stopped, error] = std::from_chars(port_text.data(), port_text.data() + port_text.size(), port);
    if (error != std::errc{} || stopped != port_text.data() + port_text.size() || port == 0 || port > 65'535)
      return bad();
  }
  return url;
}

std::string url_encoded(std::string_view text) {
  std::string out;
  for (char const c : text) {
    bool const plain = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '-' ||
                       c == '.' || c == '_' || c == '~';
    if (plain) {
      out.push_back(c);
    } else {
      out.append(fmt::format("%{:02X}", static_cast<unsigned char>(c)));
    }
  }
  return out;
}

Error error_of_problem(JsonValue const& problem) {
  auto const code_text = problem.string_at("code");
  auto const detail = problem.string_at("detail", problem.string_at("title"));
  std::string field{problem.string_at("field")};
  if (auto const code = parse_error_code(code_text)) {
    return {.code = *code, .message = std::string{detail}, .field = std::move(field)};
  }
  // A newer server may know codes that we do not; its class still says whether trying again makes sense.
  auto const code = problem.string_at("class") == "retryable" ? ErrorCode::overloaded : ErrorCode::protocol_error;
  return {.code = code, .message = fmt::format("{}: {}", code_text, detail), .field = std::move(field)};
}

Result<JsonDocument> read_reply(HttpReply const& reply) {
  auto document = parse_json(reply.body.empty() && reply.status == 204 ? std::string_view{"null"} : reply.body);
  bool const good = reply.status >= 200 && reply.status < 300;
  if (good && document) return document;
  if (!good && document && document->root().find("code") != nullptr) {
    return std::unexpected(error_of_problem(document->root()));
  }
  return fail(ErrorCode::protocol_error,
              fmt::format("the answer ({}) is not what a Workmill server says: is it one?", reply.status));
}

std::string make_idempotency_key() {
  std::array<unsigned char, 16> bytes{};
  WM_ASSERT(RAND_bytes(bytes.data(), static_cast<int>(bytes.size())) == 1);
  std::string key = "cli-";
  for (auto const byte : bytes) key.append(fmt::format("{:02x}", byte));
  return key;
}

void prepare_http() { WM_ASSERT(curl_global_init(CURL_GLOBAL_DEFAULT) == CURLE_OK); }

// ---- One at a time ----

struct HttpClient::State {
  ServerAddress address;
  Easy curl;
};

HttpClient::HttpClient(ServerAddress address) : state_(std::make_unique<State>()) {
  state_->address = std::move(address);
  state_->curl.reset(curl_easy_init());
  WM_ASSERT(state_->curl != nullptr);
}
HttpClient::HttpClient(HttpClient&&) noexcept = default;
HttpClient::~HttpClient() = default;

ServerAddress const& HttpClient::address() const { return state_->address; }

Result<HttpReply> HttpClient::send(HttpRequest const& request) {
  Exchange exchange;
  exchange.request = request;
  auto* const curl = state_->curl.get();
  prepare(curl, exchange, state_->address);
  return finish(curl_easy_perform(curl), curl, exchange);
}

Result<JsonDocument> HttpClient::call(HttpRequest const& request) {
  WM_TRY(auto const reply, send(request));
  return read_reply(reply);
}

// ---- Several at a time ----

struct HttpMulti::State {
  struct Transfer {
    Easy curl;
    std::unique_ptr<Exchange> exchange;
  };

  ServerAddress address;
  CURLM* multi = nullptr;
  std::uint64_t last_ticket = 0;
  std::unordered_map<std::uint64_t, Transfer> under_way;
  std::vector<Easy> idle;  // Handles for the next requests.

  void end(std::unordered_map<std::uint64_t, Transfer>::iterator transfer) {
    curl_multi_remove_handle(multi, transfer->second.curl.get());
    idle.push_back(std::move(transfer->second.curl));
    under_way.erase(transfer);
  }
};

HttpMulti::HttpMulti(ServerAddress address) : state_(std::make_unique<State>()) {
  state_->address = std::move(address);
  state_->multi = curl_multi_init();
  WM_ASSERT(state_->multi != nullptr);
}

HttpMulti::~HttpMulti() {
  while (!state_->under_way.empty()) state_->end(state_->under_way.begin());
  state_->idle.clear();
  curl_multi_cleanup(state_->multi);
}

HttpMulti::Ticket HttpMulti::start(HttpRequest request) {
  Easy curl;
  if (state_->idle.empty()) {
    curl.reset(curl_easy_init());
    WM_ASSERT(curl != nullptr);
  } else {
    curl = std::move(state_->idle.back());
    state_->idle.pop_back();
  }
  auto exchange = std::make_unique<Exchange>();
  exchange->request = std::move(request);
  prepare(curl.get(), *exchange, state_->address);
  WM_ASSERT(curl_multi_add_handle(state_->multi, curl.get()) == CURLM_OK);
  auto const ticket = ++state_->last_ticket;
  state_->under_way.emplace(ticket, State::Transfer{std::move(curl), std::move(exchange)});
  int running = 0;
  curl_multi_perform(state_->multi, &running);  // On its way before we wait for anything else.
  return Ticket{ticket};
}

void HttpMulti::abort(Ticket ticket) {
  auto const found = state_->under_way.find(std::to_underlying(ticket));
  if (found != state_->under_way.end()) state_->end(found);
}

std::vector<HttpMulti::Finished> HttpMulti::wait(std::span<pollfd> others, Duration timeout) {
  std::vector<Finished> finished;
  auto const collect = [&] {
    int running = 0;
    curl_multi_perform(state_->multi, &running);
    int left = 0;
    while (auto const* message = curl_multi_info_read(state_->multi, &left)) {
      if (message->msg != CURLMSG_DONE) continue;
      auto const code = message->data.result;
      auto const found = std::find_if(state_->under_way.begin(), state_->under_way.end(), [message](auto const& entry) {
        return entry.second.curl.get() == message->easy_handle;
      });
      WM_ASSERT(found != state_->under_way.end());
      auto& transfer = found->second;
      finished.push_back({Ticket{found->first}, finish(code, transfer.curl.get(), *transfer.exchange)});
      state_->end(found);
    }
  };

  collect();
  std::vector<curl_waitfd> waits;
  waits.reserve(others.size());
  for (auto const& other : others) waits.push_back({other.fd, other.events, 0});  // Its bits are those of poll().
  auto const timeout_ms = finished.empty() ? std::max<Duration::rep>(timeout.count(), 0) : 0;
  int ready = 0;
  curl_multi_poll(state_->multi, waits.data(), static_cast<unsigned>(waits.size()), static_cast<int>(timeout_ms),
                  &ready);
  // libcurl does not tell of hang-ups and errors on the others.
  for (auto& other : others) other.revents = 0;
  if (!others.empty()) poll(others.data(), others.size(), 0);
  collect();
  return finished;
}

}  // namespace workmill::app
