#pragma once
#include <CLI/App.hpp>
#include <CLI/Validators.hpp>
#include <string>

#include "base/time.h"
#include "model/ids.h"

// Checks of options that several commands have, so that a slip of the pen is told before anything is sent. For .cpp
// files of commands only: CLI11 is heavy. What they check is said by the option's type_name.
namespace workmill::app {

inline CLI::Validator is_duration() {
  return {[](std::string& text) {
            auto const duration = parse_duration(text);
            return duration ? std::string{} : duration.error().message;
          },
          ""};
}

inline CLI::Validator is_time() {
  return {[](std::string& text) {
            auto const time = parse_rfc3339(text);
            return time ? std::string{} : time.error().message;
          },
          ""};
}

inline CLI::Validator is_a_name() {
  return {[](std::string& text) {
            return is_name(text) ? std::string{} : "'" + text + "' is no name: 1 to 128 of A-Z a-z 0-9 . _ : -";
          },
          ""};
}

}  // namespace workmill::app
