// What the Python side reads, as JSON.
#pragma once

#include "machine.h"
#include "module.h"

namespace ptx {

string quoted(const string& text);
string statistics_of(const Machine& machine);
// What PTX says of a module's kernels.
string description_of(const Module& module);

}  // namespace ptx
