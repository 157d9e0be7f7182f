"""Programs and libraries of the test kernels, and how tests run a case of them."""

import ctypes
import re
from pathlib import Path

from cuda_emulator.build import ROOT
from cuda_emulator.sanitized import run_under

KERNELS = Path(__file__).resolve().parent / "kernels"
FOLDER = ROOT / "build/cuda_emulator_programs"
RIGHT, WRONG, EXCEPTION = 0, 1, 3  # of program.cu
ORDERS = [0, 1, 7, 8]  # ascending, descending, two random ones


def cases_of(file):
    """Return the names of the cases in a source."""
    return re.findall(r"^CASE\((\w+)\)", (KERNELS / file).read_text(), re.MULTILINE)


class Library:
    """All cases in one library, without a sanitizer."""

    def __init__(self, path):
        self.functions = ctypes.CDLL(str(path))
        self.functions.cuda_emulator_last_stream.restype = ctypes.c_ulonglong

    def run(self, case, order=0):
        """Exit status and message of one case."""
        message = ctypes.create_string_buffer(2000)
        self.functions.cuda_emulator_set_order(ctypes.c_ulonglong(order))
        status = self.functions.run_case(case.encode(), message, ctypes.c_size_t(2000))
        return status, message.value.decode()

    def statistics(self):
        """Return the counts since the library was loaded."""
        counts = (ctypes.c_ulonglong * 4)()
        self.functions.cuda_emulator_statistics(counts)
        return dict(zip(("threads", "launches", "switches", "barriers"), counts, strict=True))


def run_program(programs, sanitizer, case, order):
    """Run a case in a process of its own, under a sanitizer."""
    program = str(programs / sanitizer / "program")
    # Programs free what they allocate, so that leaks are looked for here.
    options = {"ASAN_OPTIONS": "detect_leaks=1"} if sanitizer == "address" else {}
    return run_under(sanitizer, [program, case, str(order)], preload=False, **options)
