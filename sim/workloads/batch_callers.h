#pragma once
#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/rng.h"
#include "base/time.h"
#include "model/command.h"
#include "model/ids.h"
#include "model/reply.h"
#include "sim/checkers/model.h"

// Who uses batches: makes some, under ids of their own or without, puts jobs into them that others run, closes and
// forgets them; and retries, cancels and deletes jobs that are in them. They may aim at what the model knows.
namespace workmill::sim {

enum class BatchUse : std::uint8_t {
  make,
  repeat,  // The same request again, or another one under its id.
  fill,
  close,
  look,
  forget,
  retry,   // A job that is in one,
  cancel,  // likewise,
  remove,  // likewise.
  many,    // One of the three, of all jobs in one.
  list,    // These.
  page,    // Batches themselves: a page of their list, from its beginning or behind the one before.
};
inline constexpr std::size_t kBatchUses = 12;

struct BatchWorkload {
  std::uint32_t ids = 0;               // 0: nobody uses batches.
  std::uint32_t turns_permille = 100;  // Turns in which somebody does.
  std::array<std::uint32_t, kBatchUses> weights{120, 30, 350, 150, 120, 12, 90, 25, 25, 8, 15, 60};
  std::uint32_t queues = 1;
  std::uint64_t backlog = 100;      // Beyond so many unfinished jobs they put in no more.
  std::uint32_t batches = 12;       // Beyond so many batches they make none without an id.
  std::uint32_t unnamed = 250;      // In thousandths: how many are.
  std::uint32_t keep_result = 300;  // And how many jobs are kept for a short time only.
};

class BatchCallers {
 public:
  BatchCallers(BatchWorkload const& options, Rng chance) : options_(options), chance_(chance) {
    for (std::uint32_t const weight : options_.weights) weight_sum_ += weight;
  }

  bool empty() const { return options_.ids == 0; }
  bool uses_some() { return chance(options_.turns_permille); }
  std::uint64_t draw_count() { return 1 + below(3); }  // So many requests then.
  Command next(Model const& model);
  void answered(Reply const& reply);

 private:
  std::uint64_t below(std::uint64_t n) { return chance_.below(n); }
  bool chance(std::uint32_t permille) { return chance_.chance(permille); }
  Duration ms(std::uint64_t most) { return Duration{static_cast<Duration::rep>(below(most + 1))}; }
  BatchUse draw_use();
  std::string draw_id(Model const& model);
  std::string draw_open_id(Model const& model, bool with_jobs);
  std::optional<JobRef> draw_job(Model const& model, bool is_ended);
  MakeBatch make(Model const& model);
  ListBatches list();
  Bytes make_callback();
  Bytes make_job(std::string const& batch);

  BatchWorkload options_;
  Rng chance_;
  std::uint64_t weight_sum_ = 0;
  std::uint64_t serial_ = 0;
  std::optional<MakeBatch> last_;
  ListBatches listing_;
  std::optional<BatchNumber> next_page_;  // Of that.
};

}  // namespace workmill::sim
