#include "telemetry/span.h"

namespace workmill::telemetry {

Span messaging_span(std::string_view operation_name, std::string_view operation_type, std::string_view queue,
                    SpanKind kind) {
  Span span;
  span.name = operation_name;
  if (!queue.empty()) span.name.append(" ").append(queue);
  span.kind = kind;
  span.add(attribute::kSystem, "workmill");
  span.add(attribute::kOperationName, operation_name);
  span.add(attribute::kOperationType, operation_type);
  if (!queue.empty()) span.add(attribute::kDestination, queue);
  return span;
}

}  // namespace workmill::telemetry
