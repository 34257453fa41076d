#include "telemetry/allocator_figures.h"

#include <cstddef>

// As <mimalloc.h> declares it. Weak: programs are linked with mimalloc, tests and sanitized builds are not.
extern "C" [[gnu::weak]] void mi_process_info(std::size_t* elapsed_ms, std::size_t* user_ms, std::size_t* system_ms,
                                              std::size_t* resident, std::size_t* resident_peak, std::size_t* committed,
                                              std::size_t* committed_peak, std::size_t* page_faults);

namespace workmill::telemetry {

std::optional<AllocatorFigures> allocator_figures() {
  if (mi_process_info == nullptr) return std::nullopt;
  std::size_t elapsed = 0, user = 0, system = 0, resident = 0, resident_peak = 0, committed = 0, committed_peak = 0,
              page_faults = 0;
  mi_process_info(&elapsed, &user, &system, &resident, &resident_peak, &committed, &committed_peak, &page_faults);
  return AllocatorFigures{.resident_bytes = resident,
                          .resident_bytes_peak = resident_peak,
                          .committed_bytes = committed,
                          .committed_bytes_peak = committed_peak,
                          .page_faults = page_faults};
}

}  // namespace workmill::telemetry
