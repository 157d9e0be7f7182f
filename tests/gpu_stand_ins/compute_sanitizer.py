"""Stands in for compute-sanitizer: takes its options, runs a program, prints in its format."""

import subprocess
import sys

# Those that compute-sanitizer --help of 2025.3 lists and that are used; all take a value.
OPTIONS = ("--tool", "--print-limit", "--report-api-errors", "--kernel-regex")
SUMMARIES = {
    "memcheck": "ERROR SUMMARY: 0 errors",
    "racecheck": "RACECHECK SUMMARY: 0 hazards displayed (0 errors, 0 warnings)",
    "initcheck": "ERROR SUMMARY: 0 errors",
    "synccheck": "ERROR SUMMARY: 0 errors",
}


def main():
    arguments = sys.argv[1:]
    if arguments == ["--help"]:
        print("\n".join(f"  {option} arg" for option in OPTIONS))
        return 0
    options = {}
    while arguments and arguments[0].startswith("-"):
        option, value, *arguments = arguments
        if option not in OPTIONS:
            print(f"========= Error: unrecognized option '{option}'")
            return 1
        options[option] = value
    print("========= COMPUTE-SANITIZER", flush=True)
    status = subprocess.run(arguments, check=False).returncode
    print(f"========= {SUMMARIES[options['--tool']]}")
    return status


if __name__ == "__main__":
    sys.exit(main())
