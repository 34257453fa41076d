#include "net/drain.h"

#include <utility>

#include "base/assert.h"

namespace workmill::net {

void Drain::begin(Duration patience, std::move_only_function<void(Drained)> on_done) {
  WM_ASSERT(!has_begun_);
  has_begun_ = true;
  scope_.refuse();
  deadline_.expires_after(patience);
  deadline_.async_wait([this](boost::system::error_code cancelled) {
    if (cancelled) return;
    how_ = Drained::cut_off;
    scope_.cancel();
  });
  scope_.when_empty([this, on_done = std::move(on_done)]() mutable {
    deadline_.cancel();
    on_done(how_);
  });
}

}  // namespace workmill::net
