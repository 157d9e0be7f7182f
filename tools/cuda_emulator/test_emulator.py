"""The emulator itself: good kernels are right and clean, and every deliberate fault is found."""

import ctypes
import re

import pytest

from cuda_emulator.case_programs import (
    EXCEPTION,
    ORDERS,
    RIGHT,
    WRONG,
    Library,
    cases_of,
    run_program,
)
from cuda_emulator.sanitized import run_pytest_under

GOOD = cases_of("good.cu")

# What the library without a sanitizer says: the exception, or None for wrong values in an order.
FAULTS = {
    "missing_barrier": None,
    "write_after_read": None,
    "divergent_barrier": r"threads of one block wait in different barriers: "
    r"__syncthreads at .*faults.cu:\d+, others in __syncthreads at .*faults.cu:\d+",
    "mask_lacks_caller": r"__shfl_xor_sync at .*faults.cu:\d+: "
    r"the mask 0x0000ffff lacks the calling lane \d+",
    "mask_names_absent_lanes": r"deadlock: thread \(0, 0, 0\) waits in __shfl_xor_sync at "
    r".*faults.cu:\d+; thread \(16, 0, 0\) waits in __syncthreads",
    "reads_absent_lane": None,
    "different_operations": r"lanes of one warp are in different operations .*"
    r"__shfl_(xor|down)_sync at .*, others in __shfl_(xor|down)_sync at .*faults.cu:\d+",
    "beyond_static_shared": "wrote beyond the end of an array in shared memory",
    "beyond_dynamic_shared": "wrote beyond the end of an array in shared memory",
    "uninitialized_shared": None,
    "left_in_shared": None,
    "deadlock": r"deadlock: thread \(0, 0, 0\) waits in __syncwarp at .*faults.cu:\d+; .*"
    r"thread \(2, 0, 0\) waits in __shfl_sync",
    "beyond_launch_bounds": "is launched with 64 threads, but __launch_bounds__ says 32",
    "too_much_shared": "needs 57344 bytes of shared memory, of which 40960 are dynamic, "
    "but may have only 49152",
    "launch_inside_a_kernel": "launches another kernel",
    "odd_width": "the width 12 is not a power of two",
    "trap": r"thread \(7, 0, 0\): __trap\(\)",
}
FAULTS_OF_MEMORY = {
    "beyond_static_shared": r"AddressSanitizer: heap-buffer-overflow .*beyond_static_shared_kernel",
    "beyond_dynamic_shared": r"AddressSanitizer: heap-buffer-overflow .*beyond_dynamic_shared_ker",
    "beyond_global": r"AddressSanitizer: heap-buffer-overflow .*beyond_global_kernel",
    "misaligned_vector": r"faults.cu:\d+:\d+: runtime error: .* misaligned address",
}
RACES = [
    "missing_barrier",
    "write_after_read",
    "missing_warp_sync",
    "race_between_blocks",
]


class Launch(ctypes.Structure):
    _fields_ = (
        ("kernel", ctypes.c_char_p),
        ("grid", ctypes.c_uint * 3),
        ("block", ctypes.c_uint * 3),
        ("shared_bytes", ctypes.c_ulonglong),
        ("arguments", ctypes.c_int),
        ("sizes", ctypes.POINTER(ctypes.c_ulonglong)),
        ("values", ctypes.POINTER(ctypes.c_void_p)),
        ("cluster", ctypes.c_uint * 3),
    )


HOOK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(Launch))


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("case", GOOD)
def test_a_good_kernel_is_right_in_every_order(library, case, order):
    assert library.run(case, order) == (RIGHT, "0 wrong values")


@pytest.mark.parametrize("sanitizer", ["address", "thread"])
@pytest.mark.parametrize("case", GOOD)
def test_a_good_kernel_is_clean(programs, case, sanitizer):
    finished = run_program(programs, sanitizer, case, order=7)
    assert finished.returncode == RIGHT, finished.stdout + finished.stderr
    assert finished.stderr == ""


def test_every_fault_has_a_test():
    assert {*FAULTS, *FAULTS_OF_MEMORY, *RACES} == set(cases_of("faults.cu"))


@pytest.mark.parametrize("case", [case for case, message in FAULTS.items() if message is None])
def test_a_fault_makes_values_wrong_in_an_order(library, case):
    assert WRONG in {library.run(case, order)[0] for order in ORDERS}


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("case", [case for case, message in FAULTS.items() if message])
def test_a_fault_is_an_exception_in_every_order(library, case, order):
    status, message = library.run(case, order)
    assert status == EXCEPTION, message
    assert re.search(FAULTS[case], message)
    assert re.match(r"kernel \w+\(float\*\), block \(0, 0, 0\)[,:] ", message)
    # Nothing of it is left: the next launch is as good as ever.
    assert library.run("transforms_by_stockham", order)[0] == RIGHT


@pytest.mark.parametrize("case", FAULTS_OF_MEMORY)
def test_a_fault_of_memory_is_reported(programs, case):
    finished = run_program(programs, "address", case, order=0)
    assert finished.returncode not in (RIGHT, EXCEPTION)
    assert re.search(FAULTS_OF_MEMORY[case], finished.stderr), finished.stderr
    assert "kernels/faults.cu" in finished.stderr


@pytest.mark.parametrize("order", [0, 1])
@pytest.mark.parametrize("case", RACES)
def test_a_race_is_reported_whatever_the_values(programs, case, order):
    finished = run_program(programs, "thread", case, order)
    assert finished.returncode not in (RIGHT, WRONG, EXCEPTION)
    assert re.search(rf"ThreadSanitizer: data race .*faults.cu:\d+ in {case}", finished.stderr)


def test_exceptions_leave_no_report(programs):
    for sanitizer in ("address", "thread"):
        finished = run_program(programs, sanitizer, "mask_names_absent_lanes", order=0)
        assert finished.returncode == EXCEPTION
        assert finished.stderr == ""


def test_statistics_count(library):
    before = library.statistics()
    library.run("transforms_by_stockham")  # 2 blocks of 64 threads, with a barrier before each of
    after = library.statistics()  # 7 passes and one at the end
    counted = {name: after[name] - before[name] for name in after}
    assert counted == {"threads": 128, "launches": 1, "switches": 2 * 64 * 9, "barriers": 16}


def test_the_order_of_threads_can_be_chosen(library):
    # What another thread has not yet written is NaN: how many there are tells the order.
    wrong = [library.run("write_after_read", order)[1] for order in (0, 1, 7, 8, 7)]
    assert wrong[0] == "1 wrong values"  # only the last thread reads what the first has changed
    assert wrong[1] == "63 wrong values"
    assert wrong[2] == wrong[4] != wrong[3]


@pytest.fixture
def hooked(library):
    yield lambda hook: library.functions.cuda_emulator_set_hook(hook)
    library.functions.cuda_emulator_set_hook(None)


def test_the_hook_sees_a_launch(library, hooked):
    seen = []

    @HOOK
    def hook(pointer):
        launch = pointer.contents
        values = [
            ctypes.string_at(launch.values[i], launch.sizes[i]) for i in range(launch.arguments)
        ]
        seen.append((launch.kernel, [*launch.grid], [*launch.block], launch.shared_bytes, values))
        return 0

    hooked(hook)
    assert library.run("reduces_by_shuffles")[0] == RIGHT
    assert library.run("transforms_by_stockham")[0] == RIGHT
    ((reduce, grid, block, shared, values), (stockham, *_, bytes_of_stockham, _)) = seen
    assert reduce == b"_Z13reduce_kernelPKfPfi"
    assert (grid, block, shared) == ([3, 1, 1], [128, 1, 1], 0)
    assert [len(value) for value in values] == [8, 8, 4]
    assert int.from_bytes(values[2], "little") == 3 * 128 - 5
    assert (stockham, bytes_of_stockham) == (b"_Z15stockham_kernelPK7double2PS_", 128 * 2 * 16)


def test_the_hook_can_take_the_place_of_the_emulator(library, hooked):
    @HOOK
    def hook(pointer):
        sums = ctypes.c_void_p.from_address(pointer.contents.values[1]).value
        ctypes.memset(sums, 0, 12)
        return 1

    hooked(hook)
    before = library.statistics()
    assert library.run("reduces_by_shuffles")[0] == WRONG
    after = library.statistics()
    assert after["threads"] == before["threads"]
    assert after["launches"] == before["launches"] + 1


def test_a_hook_that_fails_fails_the_launch(library, hooked):
    hook = HOOK(lambda _: 5)
    hooked(hook)
    status, message = library.run("reduces_by_shuffles")
    assert status == EXCEPTION
    assert "kernel reduce_kernel: the hook of the emulator failed: it returned 5" in message


def test_the_shared_memory_of_the_device_can_be_chosen(library):
    library.functions.cuda_emulator_set_shared_limit(ctypes.c_ulonglong(99 * 1024))
    try:
        assert library.run("launches_within_the_limits")[0] == WRONG
    finally:
        library.functions.cuda_emulator_set_shared_limit(ctypes.c_ulonglong(227 * 1024))
    assert library.run("launches_within_the_limits")[0] == RIGHT


def test_changes_of_the_device_are_remembered(library):
    calls = (ctypes.c_int * 8)()
    take = library.functions.cuda_emulator_take_device_calls
    take(calls, 8)
    assert library.run("has_one_device")[0] == RIGHT
    assert take(calls, 8) == 2
    assert calls[:2] == [0, 1]
    assert take(calls, 8) == 0
    assert library.functions.cuda_emulator_current_device() == 0


def test_two_libraries_share_nothing(library, programs, tmp_path):
    copy = tmp_path / "library.so"
    copy.write_bytes((programs / "plain/library.so").read_bytes())
    other = Library(copy)
    before = library.statistics()
    assert other.run("shares_functions_of_headers")[0] == RIGHT
    assert other.statistics()["launches"] == 1
    assert library.statistics() == before


SANITIZED = """
import ctypes

def test_case():
    library = ctypes.CDLL({library!r})
    message = ctypes.create_string_buffer(2000)
    assert library.run_case({case!r}, message, ctypes.c_size_t(2000)) == 0
"""


@pytest.mark.parametrize(
    ("sanitizer", "case", "report"),
    [
        pytest.param("address", "reduces_by_shuffles", None, marks=pytest.mark.thorough),
        ("address", "beyond_dynamic_shared", "AddressSanitizer: heap-buffer-overflow"),
        pytest.param(
            "address",
            "misaligned_vector",
            "runtime error: .* misaligned address",
            marks=pytest.mark.thorough,
        ),
        ("thread", "reduces_by_shuffles", None),
        ("thread", "missing_warp_sync", "ThreadSanitizer: data race"),
    ],
)
def test_pytest_runs_under_a_sanitizer(programs, tmp_path, sanitizer, case, report):
    file = tmp_path / "test_sanitized.py"
    library = str(programs / sanitizer / "library.so")
    file.write_text(SANITIZED.format(library=library, case=case.encode()))
    finished = run_pytest_under(sanitizer, [str(file)])
    if report is None:
        assert finished.returncode == 0, finished.stdout + finished.stderr
        assert "1 passed" in finished.stdout
    else:
        assert finished.returncode != 0
        assert re.search(report, finished.stderr), finished.stdout + finished.stderr
