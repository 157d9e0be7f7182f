// The program that runs one case: `program CASE ORDER`. As a library: run_case().
//
// Exit status: 0 all values are right, 1 some are wrong, 3 an exception, 2 no such case.
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>

#include "cases.h"

extern "C" int run_case(const char* name, char* message, size_t capacity) {
  const auto found = all_cases().find(name);
  if (found == all_cases().end()) return 2;
  try {
    const int wrong = found->second();
    snprintf(message, capacity, "%d wrong values", wrong);
    return wrong == 0 ? 0 : 1;
  } catch (const std::exception& error) {
    snprintf(message, capacity, "%s", error.what());
    return 3;
  }
}

int main(int count, char** arguments) {
  if (count != 3) return 2;
  cuda_emulator_set_order(strtoull(arguments[2], nullptr, 10));
  char message[1000] = "";
  const int status = run_case(arguments[1], message, sizeof message);
  puts(message);
  return status;
}
