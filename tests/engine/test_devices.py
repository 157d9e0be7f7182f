import warnings

import pytest
import torch

from fvfast.engine.devices import check_device

without_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")


@pytest.fixture
def two_gpus(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 1)


@pytest.fixture
def no_gpu(monkeypatch):
    """A torch that is built with CUDA but finds no GPU."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


@pytest.mark.parametrize("device", ["cpu", "meta", torch.device("cpu")])
def test_a_device_that_works_is_returned(device):
    assert check_device(device) == torch.device(device)


@pytest.mark.parametrize("device", [None, 1.5, True, ["cuda"]])
def test_what_is_no_device_is_a_type_error(device):
    with pytest.raises(TypeError, match="device must be a torch") as raised:
        check_device(device)
    assert repr(device) in str(raised.value)


@pytest.mark.parametrize("device", ["gpu", "cuda:-1", "cuda:x", ""])
def test_an_unknown_name_is_refused_with_names_that_exist(device):
    with pytest.raises(ValueError, match='such as "cpu", "cuda"') as raised:
        check_device(device)
    assert f"{device!r} cannot be used" in str(raised.value)


@without_gpu
@pytest.mark.parametrize("device", ["cuda", "cuda:3", torch.device("cuda"), 0])
def test_on_this_machine_without_a_gpu(monkeypatch, device):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    reason = "built without CUDA" if torch.version.cuda is None else "nvidia-smi"
    with pytest.raises(RuntimeError, match=reason) as raised:
        check_device(device)
    assert f"{str(device)!r} cannot be used" in str(raised.value)
    assert 'use device="cpu"' in str(raised.value)


@pytest.mark.usefixtures("no_gpu")
def test_a_torch_without_cuda(monkeypatch):
    monkeypatch.setattr(torch.version, "cuda", None)
    monkeypatch.setattr(torch.version, "hip", None)
    with pytest.raises(RuntimeError, match="is built without CUDA"):
        check_device("cuda")


@pytest.mark.usefixtures("no_gpu")
def test_a_missing_driver(monkeypatch):
    def init():
        raise RuntimeError("Found no NVIDIA driver on your system. Please check\nmore")

    monkeypatch.setattr(torch.cuda, "init", init)
    with pytest.raises(RuntimeError, match=r"no NVIDIA driver on your system\. Check with `nvidia"):
        check_device("cuda:0")


@pytest.mark.usefixtures("no_gpu")
@pytest.mark.parametrize("value", ["", "-1"])
def test_hidden_gpus(monkeypatch, value):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", value)
    with pytest.raises(RuntimeError, match=f"CUDA_VISIBLE_DEVICES='{value}' hides every GPU"):
        check_device("cuda")


@pytest.mark.usefixtures("two_gpus")
def test_a_gpu_without_a_number_is_the_current_one():
    assert check_device("cuda") == torch.device("cuda", 1)
    assert check_device("cuda:0") == torch.device("cuda", 0)
    assert check_device(1) == torch.device("cuda", 1)


@pytest.mark.usefixtures("two_gpus")
def test_an_index_beyond_the_gpus_says_how_many_there_are(monkeypatch):
    with pytest.raises(ValueError, match="'cuda:2' cannot be used: there are 2 GPUs, cuda:0 to 1"):
        check_device("cuda:2")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(ValueError, match="there is one GPU, cuda:0"):
        check_device("cuda:2")


def test_another_accelerator_that_is_not_there():
    if torch.xpu.is_available():
        pytest.skip("needs a machine without an Intel GPU")
    with pytest.raises(RuntimeError, match="'xpu' cannot be used: "):
        check_device("xpu")


@pytest.mark.usefixtures("no_gpu")
def test_a_driver_that_does_not_work_is_an_error_and_no_warning(monkeypatch):
    def is_available():
        warnings.warn("CUDA initialization: the driver is too old", stacklevel=1)
        return False

    monkeypatch.setattr(torch.cuda, "is_available", is_available)
    with pytest.raises(RuntimeError, match="cannot be used"):
        check_device("cuda")
