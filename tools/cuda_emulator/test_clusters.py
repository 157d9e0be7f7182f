"""Clusters and copies ahead: good kernels are right and clean, and every fault is found."""

import re

import pytest

from cuda_emulator.case_programs import EXCEPTION, ORDERS, RIGHT, WRONG, cases_of, run_program

GOOD = cases_of("good_clusters.cu")

# What is said in every order.
EXCEPTIONS = {
    "rank_beyond_the_cluster": "asks for the shared memory of block 4 of its cluster, which has 4",
    "maps_what_is_not_shared": "an address is not one of shared memory of this block",
    "arrives_twice": r"__cluster_barrier_arrive at .*:\d+: arrives at a barrier of the cluster "
    "again, before it has waited",
    "waits_without_arriving": r"__cluster_barrier_wait at .*:\d+: waits for a barrier of the "
    "cluster at which it has not arrived",
    "deadlock_of_a_cluster": r"deadlock: .*thread \(0, 0, 0\) of block \([26], 0, 0\) waits in "
    r"__syncwarp at .*fault_clusters.cu:\d+",
}
# What is said in some order; in others values may be wrong.
EXCEPTIONS_IN_SOME_ORDER = {
    "writes_to_a_block_that_has_ended": "another block has written to its shared memory after",
    "no_barrier_before_reading": "which may not have begun: a barrier of the cluster is missing",
}
WRONG_VALUES = {
    "barrier_before_writing",
    "barrier_of_the_block_alone",
    "no_barrier_at_the_end",
    "another_rank",
    "no_wait_for_copies",
    "waits_for_too_few_copies",
}
# The last one is right in every order, because no order lets clusters run at the same time.
RACES = ["barrier_before_writing", "barrier_of_the_block_alone", "race_between_clusters"]


def test_every_fault_has_a_test():
    tested = {*EXCEPTIONS, *EXCEPTIONS_IN_SOME_ORDER, *WRONG_VALUES, *RACES}
    assert tested == set(cases_of("fault_clusters.cu"))


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


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("case", EXCEPTIONS)
def test_a_fault_is_an_exception_in_every_order(library, case, order):
    status, message = library.run(case, order)
    assert status == EXCEPTION, message
    assert re.search(EXCEPTIONS[case], message)
    # Nothing of it is left.
    assert library.run("meets_in_two_halves", order)[0] == RIGHT


@pytest.mark.parametrize("case", EXCEPTIONS_IN_SOME_ORDER)
def test_a_fault_is_an_exception_in_some_order(library, case):
    results = [library.run(case, order) for order in ORDERS]
    assert EXCEPTION in {status for status, _ in results}
    assert any(re.search(EXCEPTIONS_IN_SOME_ORDER[case], message) for _, message in results)


@pytest.mark.parametrize("case", sorted(WRONG_VALUES))
def test_a_fault_makes_values_wrong_in_an_order(library, case):
    assert WRONG in {library.run(case, order)[0] for order in ORDERS}


@pytest.mark.parametrize("order", [0, 1])
@pytest.mark.parametrize("case", RACES)
def test_a_race_of_blocks_is_reported_whatever_the_values(programs, case, order):
    finished = run_program(programs, "thread", case, order)
    assert finished.returncode not in (RIGHT, WRONG, EXCEPTION)
    assert re.search(r"ThreadSanitizer: data race .*fault_clusters.cu:\d+", finished.stderr)


def test_memory_of_a_block_that_has_ended_is_freed(programs):
    finished = run_program(programs, "address", "writes_to_a_block_that_has_ended", order=0)
    report = r"heap-use-after-free .*writes_late_kernel"
    assert re.search(report, finished.stderr), finished.stdout + finished.stderr


def test_a_device_without_clusters_refuses_them(library):
    library.functions.cuda_emulator_set_capability(80)
    try:
        assert library.run("passes_on_to_the_next_block")[0] == WRONG
    finally:
        library.functions.cuda_emulator_set_capability(90)
    assert library.run("passes_on_to_the_next_block")[0] == RIGHT
