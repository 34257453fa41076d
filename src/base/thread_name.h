#pragma once
#include <string_view>

// What a thread is called where people look: in `top -H`, in a debugger, in our own figures. At most 15 bytes, the rest
// is cut. Where the system knows no names nothing happens.
namespace workmill {

void name_this_thread(std::string_view name);

}  // namespace workmill
