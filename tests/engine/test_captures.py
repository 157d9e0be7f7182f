"""What CUDA and torch do where a capture fails, played by a stand-in that breaks as they do."""

import gc
import threading

import pytest
import torch
from engine.cuda_stand_in import GPU, CudaStandIn
from engine.passes_to_capture import square, views_of

from fvfast.engine.captures import CAPTURES
from fvfast.engine.graphs.cuda_graph import (
    EAGER_PASSES,
    GraphedPass,
)
from fvfast.engine.graphs.rehearsal import is_only_thread
from fvfast.engine.passes import Passes


@pytest.fixture(params=[(2, 11), (2, 14)], ids=["torch 2.11", "torch 2.14"])
def gpu(request):
    gpu = CudaStandIn(request.param)
    with gpu.installed():
        yield gpu


@pytest.fixture(params=["alone", "beside another thread"])
def threads(request):
    """The program's threads: waiting for the GPU may not be an error in the other one."""
    end = threading.Event()
    other = threading.Thread(target=end.wait)
    if request.param != "alone":
        other.start()
    assert is_only_thread() is (request.param == "alone")
    yield request.param
    end.set()
    if request.param != "alone":
        other.join()


def run_passes(run, count=EAGER_PASSES + 3):
    """Run passes, and check what they give against `square`."""
    for seed in range(count):
        views = views_of(seed)
        assert all(map(torch.equal, run(views), square(views)))


def assert_as_before(gpu, mode=0):
    assert gpu.stream is gpu.default_stream
    assert gpu.sync_mode == mode
    gpu.draw()
    assert gpu.graph is None


def out_of_memory_recovery(gpu):
    """Run a pass that runs out of memory once; return how often the cache was emptied."""
    before = gpu.emptied

    def network(views):
        if len(views) > 2:
            raise torch.OutOfMemoryError("no memory for 4 views")
        return [views.flatten(1)]

    passes = Passes(lambda _first, _last: lambda outputs: outputs[0].square().sum(1), "name")
    views = views_of(0)
    with pytest.warns(RuntimeWarning, match="going on with 2"):
        scores, gradient = passes.run(network, views, len(views))
    assert torch.equal(scores, square(views)[0])
    assert torch.equal(gradient, square(views)[1])
    return gpu.emptied - before


@pytest.mark.usefixtures("threads")
def test_passes_are_replayed(gpu):
    run = GraphedPass(lambda views: gpu.launch(square, views))
    run_passes(run)
    launched = len(gpu.modes)
    run_passes(run)
    assert len(gpu.modes) == launched
    assert run.status == "replayed from a CUDA graph"
    assert gpu.mode == "thread_local"
    assert len(gpu.graphs) == 1
    assert_as_before(gpu)
    assert out_of_memory_recovery(gpu) == 1


@pytest.mark.parametrize("mode", [0, 1])
def test_what_waits_is_not_captured(gpu, mode):
    gpu.sync_mode = mode

    def waits(views):
        results = gpu.launch(square, views)
        gpu.wait()
        return results

    run = GraphedPass(waits)
    run_passes(run)
    assert gpu.graphs == []
    assert gpu.emptied == 1  # of what the rehearsal left
    assert run.obstacle == "called a synchronizing CUDA operation"
    assert_as_before(gpu, mode)
    another = GraphedPass(lambda views: gpu.launch(square, views))
    run_passes(another)
    assert another.replay is not None
    assert out_of_memory_recovery(gpu) == 1


def test_the_rehearsal_is_in_order_with_other_streams(gpu):
    streams = []

    def noted(views):
        streams.append(gpu.stream)
        return gpu.launch(square, views)

    run_passes(GraphedPass(noted))
    inside = streams[EAGER_PASSES - 1]
    assert streams == [gpu.default_stream] * 2 + [inside, gpu.default_stream, inside]
    assert inside.device == GPU  # and not that of the first capture of the program
    assert inside.waited_for == [gpu.default_stream]
    assert gpu.default_stream.waited_for == [inside]
    run_passes(GraphedPass(noted))
    assert streams[-1] is inside


@pytest.mark.parametrize("how", ["an unseen wait", "no beginning"])
def test_a_failed_capture_is_the_last(gpu, threads, how):
    before = GraphedPass(lambda views: gpu.launch(square, views))
    run_passes(before)
    gpu.begin_fails = how == "no beginning"

    def waits(views):
        results = gpu.launch(square, views)
        gpu.wait(seen=False)
        return results

    def plain(views):
        return gpu.launch(square, views)

    run = GraphedPass(plain if gpu.begin_fails else waits)
    run_passes(run)
    assert len(gpu.graphs) == 2
    assert_as_before(gpu)
    assert gpu.modes.count(2) == (2 if threads == "alone" else 0)  # the two rehearsals
    gc.collect()
    assert gpu.graphs[1]() is not None  # the allocator may ask it

    gpu.begin_fails = False
    another, rehearsed = GraphedPass(plain), gpu.modes.count(2)
    run_passes(another)
    assert len(gpu.graphs) == 2
    assert gpu.modes.count(2) == rehearsed
    reason = "CUDA error: cudaStreamBeginCapture"
    if how == "an unseen wait":
        reason = "operation failed due to a previous error during capture"
    assert run.obstacle == reason
    assert another.obstacle == f"the capture of a CUDA graph failed in this process: {reason}"
    assert out_of_memory_recovery(gpu) == 0

    launched = len(gpu.modes)
    run_passes(before)
    assert len(gpu.modes) == launched  # what was captured before is still replayed


def test_a_capture_that_fails_meanwhile_in_another_thread(gpu):
    """After the rehearsal of this one."""

    def late(views):
        if gpu.stream is not gpu.default_stream:
            CAPTURES.failure = "of another thread"
        return gpu.launch(square, views)

    run = GraphedPass(late)
    run_passes(run)
    assert gpu.graphs == []
    assert run.obstacle == "of another thread"
    assert_as_before(gpu)


@pytest.mark.parametrize("error", [RuntimeError, torch.OutOfMemoryError, TypeError])
def test_what_fails_without_breaking_the_capture(gpu, error):
    """Too little memory for a graph, for example: torch ends the capture like any other."""

    def fails(views):
        if gpu.graph is not None:
            raise error("in the capture")
        return gpu.launch(square, views)

    run = GraphedPass(fails)
    if error is TypeError:
        with pytest.raises(TypeError, match="in the capture"):
            run_passes(run)
    else:
        run_passes(run)
        assert run.obstacle == "in the capture"
    assert CAPTURES.failure == ""
    assert_as_before(gpu)
    assert out_of_memory_recovery(gpu) == 1
    another = GraphedPass(lambda views: gpu.launch(square, views))
    run_passes(another)
    assert another.replay is not None


def test_a_replay_that_fails_is_run_as_it_is(gpu):
    run = GraphedPass(lambda views: gpu.launch(square, views))
    run_passes(run)
    gpu.replay_fails = True
    run_passes(run)
    assert run.replay is None
    assert "a replay failed: Offset increment" in run.status


@pytest.mark.usefixtures("threads")
def test_random_numbers_are_not_captured(gpu):
    def draws(views):
        gpu.draw()
        return gpu.launch(square, views)

    run = GraphedPass(draws)
    run_passes(run)
    assert gpu.graphs == []
    assert run.obstacle == "it draws random numbers"


@pytest.mark.parametrize("what", ["empty the cache", "rehearse"])
def test_other_threads_wait_for_the_end_of_a_capture(gpu, what):
    """One that runs out of memory; one whose work would be captured with the rest."""
    done = []

    def work():
        if what == "empty the cache":
            CAPTURES.empty_cache()
            done.append(what)
        else:
            with CAPTURES.on_stream(GPU):
                done.append(what)

    other = threading.Thread(target=work)
    seen = []

    def starts(views):
        if gpu.graph is not None:
            other.start()
            other.join(0.2)
            seen.extend(done)
        return gpu.launch(square, views)

    run = GraphedPass(starts)
    run_passes(run)
    other.join()
    assert seen == []
    assert done == [what]
    assert run.replay is not None


@pytest.mark.usefixtures("gpu")
def test_an_operation_that_waits_is_found_beside_another_thread(gpu, threads):
    def reads(views):
        results = gpu.launch(square, views)
        assert results[0].sum().item() > 0
        return results

    run = GraphedPass(reads)
    run_passes(run)
    if threads == "alone":
        assert run.replay is not None  # the stand-in sees its own waits alone
    else:
        assert gpu.graphs == []
        assert run.obstacle == "it waits for the GPU in aten._local_scalar_dense.default"
