#pragma once
#include <cstddef>
#include <functional>
#include <iterator>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "workmill/batches.h"
#include "workmill/error.h"
#include "workmill/jobs.h"
#include "workmill/task.h"

// Lists that are fetched page by page, as they are asked for. What changes meanwhile may or may not be in them; what
// was there all the time is in them once. Lent by their client, which must be there while they are used.
namespace workmill::client {

namespace detail {
inline std::vector<Job>& items_of(JobPage& page) { return page.jobs; }
inline std::vector<QueueStats>& items_of(QueuePage& page) { return page.queues; }
inline std::vector<Batch>& items_of(BatchPage& page) { return page.batches; }
}  // namespace detail

// Client::jobs(), Client::queues() and Batches::all(): all of them, one after another. To be gone through once, on one
// thread.
//
//   for (auto const& job : client.jobs({.queue = "images"})) {
//     if (!job) return std::unexpected(job.error());  // A page was not to be had. It is the last.
//     show(*job);
//   }
template <class Page>
class Listing {
 public:
  using Item = typename std::remove_cvref_t<decltype(detail::items_of(std::declval<Page&>()))>::value_type;
  using Fetch = std::function<Result<Page>(std::string const& cursor)>;

  class Iterator {
   public:
    using iterator_concept = std::input_iterator_tag;
    using difference_type = std::ptrdiff_t;
    using value_type = Result<Item>;
    explicit Iterator(Listing& listing) : listing_(&listing) {}
    Result<Item>& operator*() const { return *listing_->current_; }
    Result<Item>* operator->() const { return &*listing_->current_; }
    Iterator& operator++() {
      listing_->advance();
      return *this;
    }
    void operator++(int) { listing_->advance(); }
    bool operator==(std::default_sentinel_t) const { return !listing_->current_; }

   private:
    Listing* listing_;
  };

  Listing(Fetch fetch, std::string cursor) : fetch_(std::move(fetch)), cursor_(std::move(cursor)) {}

  // Fetches the first page. Where some were taken before, it goes on behind them.
  Iterator begin() {
    advance();
    return Iterator{*this};
  }
  std::default_sentinel_t end() const { return {}; }

 private:
  void advance() {
    current_.reset();
    while (at_ == items_.size()) {  // A page may be empty, and not be the last.
      if (is_over_) return;
      auto page = fetch_(cursor_);
      if (!page) {
        is_over_ = true;
        current_.emplace(std::unexpected(std::move(page).error()));
        return;
      }
      items_ = std::move(detail::items_of(*page));
      at_ = 0;
      cursor_ = std::move(page->next);
      is_over_ = cursor_.empty();
    }
    current_.emplace(std::move(items_[at_++]));
  }

  Fetch fetch_;
  std::string cursor_;
  bool is_over_ = false;
  std::vector<Item> items_{};
  std::size_t at_ = 0;  // The next of them.
  std::optional<Result<Item>> current_{};
};

// AsyncClient::jobs(), AsyncClient::queues() and AsyncBatches::all(): a page after another.
//
//   auto pages = client.jobs({.queue = "images"});
//   while (!pages.is_over()) {
//     auto page = co_await pages.next();
//     if (!page) co_return std::unexpected(page.error());
//     for (Job const& job : page->jobs) show(job);
//   }
template <class Page>
class AsyncListing {
 public:
  using Fetch = std::function<Async<Page>(std::string const& cursor)>;

  AsyncListing(Fetch fetch, std::string cursor) : fetch_(std::move(fetch)), cursor_(std::move(cursor)) {}

  bool is_over() const { return is_over_; }  // There is no next one.
  // One at a time, and this must be there until it has answered. After an error the next one asks for the same page.
  Task<Result<Page>> next() {
    auto page = co_await fetch_(cursor_);
    if (page) {
      cursor_ = page->next;
      is_over_ = cursor_.empty();
    }
    co_return page;
  }

 private:
  Fetch fetch_;
  std::string cursor_;
  bool is_over_ = false;
};

}  // namespace workmill::client
