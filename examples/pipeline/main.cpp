// Counts the words of all files in a folder, as a pipeline of durable jobs in one process: no server, no sockets.
//
//   pipeline JOBS_FOLDER TEXT_FOLDER [LEASE_SECONDS]
//
// Stage 1, `scan`, lists the folder and enqueues a job for each file; stage 2, `count`, counts the words of one file;
// the program adds up their results. Kill it at any time and start it again with the same arguments: what was done is
// not done again, what was not is.
//
// What was under way when it was killed is begun again when its lease is over: 60 seconds, or LEASE_SECONDS, after the
// last sign of life. While a job runs its lease is extended, at a third of it: a short one costs a little work.
#include <workmill/embedded.h>
#include <workmill/workmill.h>

#include <cctype>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <map>
#include <mutex>
#include <string>

using namespace workmill::client;
using namespace std::chrono_literals;

namespace {

using Counts = std::map<std::string, std::uint64_t>;

// Ids of ours, so that a stage which runs again enqueues nothing twice.
std::string count_id(std::filesystem::path const& file) { return "count:" + file.filename().string(); }

Result<std::vector<std::string>> scan(std::string const& folder, Client& client) {
  std::vector<NewJob> jobs;
  std::vector<std::string> ids;
  std::error_code error;
  for (auto const& entry : std::filesystem::directory_iterator{folder, error}) {
    if (!entry.is_regular_file()) continue;
    ids.push_back(count_id(entry.path()));
    jobs.push_back(make_job("count", entry.path().string(), {.queue = "count", .id = ids.back()}));
  }
  if (error) return user_error("no_such_folder", error.message());
  // One that is there already is answered as it is.
  if (auto const sent = client.enqueue_all(jobs); !sent) return std::unexpected(sent.error());
  return ids;
}

Result<Counts> count(std::string const& file, JobContext& context) {
  std::ifstream in{file};
  if (!in) return retry_later("not_readable", file, 1s);
  Counts counts;
  std::string word;
  for (char c = 0; in.get(c);) {
    if (context.cancelled()) return context.cancelled_error();
    if (std::isalpha(static_cast<unsigned char>(c)) != 0) {
      word.push_back(static_cast<char>(std::tolower(static_cast<unsigned char>(c))));
    } else if (!word.empty()) {
      ++counts[std::exchange(word, {})];
    }
  }
  if (!word.empty()) ++counts[word];
  return counts;
}

int complain(Error const& error) {
  std::cerr << describe(error) << '\n';
  return 1;
}

int run(std::string const& jobs_folder, std::string const& text_folder, Duration lease) {
  auto mill = Workmill::open(jobs_folder);
  if (!mill) return complain(mill.error());
  Client client = mill->client();

  std::mutex output;
  Worker worker = mill->worker({.queues = {"scan", "count"}, .concurrency = 4, .lease = lease});
  worker.on<std::string>("scan", [&](std::string const& folder) { return scan(folder, client); });
  worker.on<std::string>("count", [&](std::string const& file, JobContext& context) {
    auto counts = count(file, context);
    std::lock_guard const lock{output};
    std::cerr << "counted " << file << std::endl;
    return counts;
  });
  worker.start();

  if (auto const sent = client.enqueue("scan", text_folder, {.queue = "scan", .id = "scan", .keep_result = 24h});
      !sent) {
    return complain(sent.error());
  }
  auto const ids = client.result<std::vector<std::string>>("scan", 10min);
  if (!ids) return complain(ids.error());
  Counts total;
  for (std::string const& id : *ids) {
    auto const counts = client.result<Counts>(id, 10min);
    if (!counts) return complain(counts.error());
    for (auto const& [word, number] : *counts) total[word] += number;
  }
  for (auto const& [word, number] : total) std::cout << word << ' ' << number << '\n';
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  int const lease_seconds = argc == 4 ? std::atoi(argv[3]) : 60;
  if (argc < 3 || argc > 4 || lease_seconds < 1) {
    std::cerr << "usage: pipeline JOBS_FOLDER TEXT_FOLDER [LEASE_SECONDS]\n";
    return 2;
  }
  return run(argv[1], argv[2], std::chrono::seconds{lease_seconds});
}
