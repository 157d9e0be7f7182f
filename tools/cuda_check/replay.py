"""Runs the launches of the emulated module as the PTX into which nvcc compiles the same kernels.

The emulated module is the native module with its CUDA kernels compiled for the CPU. It calls a hook
before each launch; here the hook looks for the kernel in the compiled PTX, and the PTX interpreter
runs it on the same arguments, in the same memory:

    with Replay(module, "80") as replay, use_emulated(module):
        crops = random_crops(images, boxes, 224)
    replay.launches[0].statistics["load_sectors"]

A kernel may access only the memory of tensors that an operation of PyTorch took or returned within
the context, or that were passed to `Replay.watch`. Everything else is out of bounds.
"""

import ctypes
import dataclasses
import hashlib
import math
import os
import re
import tempfile
import types
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import ptx_interpreter
import torch
from ptx_interpreter.compiler import build_native
from ptx_interpreter.module import SHARED_KIB
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

ROOT = Path(__file__).resolve().parents[2]
CACHE = ROOT / "build" / "cuda_check" / "ptx"
PARALLEL = 2  # compilations at a time
# Of the emulator's device, unless it is told otherwise.
EMULATED_SHARED_KIB = 227
EMULATED_CAPABILITY = 90

# What the hook answers.
_EMULATE, _DONE, _FAILED = 0, 1, 2


class _Launch(ctypes.Structure):
    """EmulatorLaunch, as the emulator declares it."""

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


_Hook = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(_Launch))


@dataclasses.dataclass(frozen=True)
class LaunchRecord:
    """One launch that was replayed.

    Attributes
    ----------
    symbol, name
        The kernel's symbol, and its name without namespaces and parameters.
    grid, block, cluster, shared_bytes
        How it was launched.
    statistics
        The interpreter's counts: see its README.md.
    """

    symbol: str
    name: str
    grid: tuple[int, int, int]
    block: tuple[int, int, int]
    cluster: tuple[int, int, int]
    shared_bytes: int
    statistics: Mapping[str, Any]


def short_name(demangled: str) -> str:
    """Return a kernel's name without namespaces and parameters, but with template arguments."""
    name = demangled.removeprefix("void ").replace("fvfast::", "").replace("cuda::", "")
    depth = 0
    for k, letter in enumerate(name):
        depth += (letter == "<") - (letter == ">")
        if letter == "(" and depth == 0:
            return name[:k]
    return name


def ptx_of(source: Path, architecture: str) -> str:
    """Compile one CUDA source to PTX, as the build does, unless nothing has changed.

    Parameters
    ----------
    source
        A file.
    architecture
        Compute capability without its point, such as "80".

    Returns
    -------
    ptx
        The text.
    """
    flags = build_native.cuda_source_flags(source)
    nvcc = build_native.find_cuda().nvcc
    version = build_native.ask_nvcc(nvcc, "--version")
    digest = hashlib.sha256(repr([flags, version, architecture]).encode())
    for file in (source, *sorted((ROOT / "csrc").rglob("*.h"))):
        digest.update(file.read_bytes())
    path = CACHE / f"{source.stem}-sm_{architecture}-{digest.hexdigest()[:16]}.ptx"
    if not path.exists():
        text = ptx_interpreter.compile_ptx(source, architecture, flags)
        CACHE.mkdir(parents=True, exist_ok=True)
        # Atomically, because another process may read the file.
        handle, name = tempfile.mkstemp(dir=CACHE)
        with os.fdopen(handle, "w") as output:
            output.write(text)
        Path(name).replace(path)
    return path.read_text()


class _Kernels:
    """The kernels of some sources: all are compiled at once, each is parsed when it is launched."""

    def __init__(self, sources: Iterable[Path], architecture: str) -> None:
        self._sources = sorted(sources)
        with ThreadPoolExecutor(PARALLEL) as pool:
            self._texts = list(pool.map(lambda path: ptx_of(path, architecture), self._sources))
        self._modules: dict[int, ptx_interpreter.Module] = {}

    def module_of(self, symbol: str) -> ptx_interpreter.Module:
        """Return the module that defines a kernel.

        Raises
        ------
        ptx_interpreter.PtxError
            If there is none.
        """
        for k, text in enumerate(self._texts):
            if f".entry {symbol}(" not in text:
                continue
            if k not in self._modules:
                self._modules[k] = ptx_interpreter.Module(text)
            return self._modules[k]
        raise ptx_interpreter.PtxError(
            f"the PTX of {', '.join(path.name for path in self._sources)} has no kernel {symbol}: "
            "a kernel that is launched must have the same symbol whichever compiler made it, which "
            "those in unnamed namespaces and static ones have not"
        )


class _Storages(TorchDispatchMode):
    """The memory of the tensors that operations take and return, as long as it exists."""

    def __init__(self) -> None:
        super().__init__()
        # Weak: memory that was freed must be out of bounds.
        self._known: dict[int, tuple[StorageWeakRef, str]] = {}
        self._count = 0

    def note(self, tensor: torch.Tensor, name: str = "") -> None:
        """Remember the memory of a tensor, if it has any on the CPU."""
        if tensor.layout != torch.strided:
            return
        storage = tensor.untyped_storage()
        if storage.device.type != "cpu" or not storage.data_ptr():
            return
        reference = StorageWeakRef(storage)
        if name or reference.cdata not in self._known:
            self._known[reference.cdata] = (reference, name or f"storage{self._count}")
            self._count += 1

    def living(self) -> Iterator[tuple[str, torch.UntypedStorage]]:
        """Return the memory that has not been freed, and forget the rest."""
        for key, (reference, name) in list(self._known.items()):
            storage = torch.UntypedStorage._new_with_weak_ptr(reference.cdata)
            if storage is None:
                del self._known[key]
            else:
                yield name, storage

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        for leaf in tree_leaves((args, kwargs)):
            if isinstance(leaf, torch.Tensor):
                self.note(leaf)
        if func.namespace == "fvfast":
            # PyTorch switches the mode off within an operation; but ours allocate there what they
            # pass to a kernel.
            key = torch._C.DispatchKeySet(torch._C.DispatchKey.CPU)
            with self:
                result = func.redispatch(key, *args, **kwargs)
        else:
            result = func(*args, **kwargs)
        for leaf in tree_leaves(result):
            if isinstance(leaf, torch.Tensor):
                self.note(leaf)
        return result


class Replay:
    """A context in which the launches of an emulated module run as PTX.

    One context at a time may be active for a module.

    Parameters
    ----------
    module
        The emulated module, or the file of one.
    architecture
        Compute capability without its point, such as "80".
    sources
        CUDA sources with the kernels; default: all of csrc/cuda.
    order
        Of threads between barriers, and of blocks: 0 ascending, 1 descending; larger numbers are
        the seed of a random order, in which threads are also interrupted at random places.
    statistics
        Whether accesses to memory are counted.
    beside
        Count only: the writes of the PTX are undone, and the emulator runs the kernel.

    Attributes
    ----------
    capability
        Compute capability of the device, without its point.
    launches
        The launches that were replayed, in order.

    Raises
    ------
    ptx_interpreter.PtxError
        At the end of the context, if a kernel made an error or is not in the PTX. The launch itself
        also fails, with an exception of the emulator.
    """

    def __init__(
        self,
        module: types.ModuleType | Path | str,
        architecture: str = "80",
        *,
        sources: Iterable[Path] | None = None,
        order: int = 0,
        statistics: bool = True,
        beside: bool = False,
    ) -> None:
        path = module.__file__ if isinstance(module, types.ModuleType) else module
        # Loading the same file gives the library that Python has loaded, not a second one.
        self._library = ctypes.CDLL(str(path))
        self._library.cuda_emulator_set_hook.argtypes = (_Hook,)
        self._library.cuda_emulator_set_hook.restype = None
        self._kernels = _Kernels(
            (ROOT / "csrc" / "cuda").rglob("*.cu") if sources is None else sources, architecture
        )
        # The emulated device must have the architecture's limits.
        self.capability = int(re.sub(r"\D", "", architecture))
        self._shared_bytes = 1024 * SHARED_KIB.get(self.capability, EMULATED_SHARED_KIB)
        self._order = order
        self._statistics = statistics
        self._beside = beside
        self._storages = _Storages()
        self._hook = _Hook(self._answer)
        self._error: BaseException | None = None
        self.launches: list[LaunchRecord] = []

    def watch(self, tensor: torch.Tensor, name: str = "") -> torch.Tensor:
        """Let kernels access the memory of a tensor, as long as it exists.

        Parameters
        ----------
        tensor
            On the CPU.
        name
            Name in statistics and errors.

        Returns
        -------
        tensor
            The same.
        """
        if tensor.device.type != "cpu":
            raise ValueError(f"watch(): tensor: expected one on the CPU, got {tensor.device}")
        self._storages.note(tensor, name)
        return tensor

    def __enter__(self) -> "Replay":
        self._storages.__enter__()
        self._set_device(self.capability, self._shared_bytes)
        self._library.cuda_emulator_set_hook(self._hook)
        return self

    def __exit__(self, kind: Any, raised: BaseException | None, traceback: Any) -> None:
        self._library.cuda_emulator_set_hook(_Hook())
        self._set_device(EMULATED_CAPABILITY, 1024 * EMULATED_SHARED_KIB)
        self._storages.__exit__(kind, raised, traceback)
        error, self._error = self._error, None
        if error is not None:
            raise error from raised

    def _set_device(self, capability: int, size: int) -> None:
        self._library.cuda_emulator_set_capability(ctypes.c_int(capability))
        self._library.cuda_emulator_set_shared_limit(ctypes.c_ulonglong(size))

    def _answer(self, launch: Any) -> int:
        # Exceptions cannot pass through C: keep this one for the end of the context.
        if self._error is not None:
            return _FAILED
        try:
            self._run(launch.contents)
        except BaseException as error:  # noqa: BLE001
            self._error = error
            return _FAILED
        return _EMULATE if self._beside else _DONE

    def _run(self, launch: _Launch) -> None:
        symbol = (launch.kernel or b"").decode()
        module = self._kernels.module_of(symbol)
        kernel = module.kernels[symbol]
        arguments = [
            ctypes.string_at(launch.values[k], launch.sizes[k]) for k in range(launch.arguments)
        ]
        living = list(self._storages.living())
        before = [_bytes_of(storage).clone() for _, storage in living] if self._beside else []
        grid, block, cluster = tuple(launch.grid), tuple(launch.block), tuple(launch.cluster)
        statistics = module.launch(
            symbol,
            grid,
            block,
            launch.shared_bytes,
            arguments,
            {
                name: ptx_interpreter.Memory(storage.data_ptr(), storage.nbytes())
                for name, storage in _with_names(living)
            },
            cluster=cluster,
            order=self._order,
            stats=self._statistics,
        )
        for (_, storage), old in zip(living, before, strict=False):
            _bytes_of(storage).copy_(old)
        self.launches.append(
            LaunchRecord(
                symbol,
                short_name(kernel.demangled),
                grid,
                block,
                cluster,
                launch.shared_bytes,
                statistics,
            )
        )

    def totals(self) -> dict[str, "Totals"]:
        """Add up the launches of each kernel, in the order of their first launches."""
        totals: dict[str, Totals] = {}
        for launch in self.launches:
            total = totals.setdefault(launch.name, Totals())
            total += Totals.of(launch)
        return totals


def _with_names(
    living: list[tuple[str, torch.UntypedStorage]],
) -> Iterator[tuple[str, torch.UntypedStorage]]:
    """Make names unique, since several storages may have been watched under the same name."""
    seen: dict[str, int] = {}
    for name, storage in living:
        seen[name] = seen.get(name, 0) + 1
        yield (name if seen[name] == 1 else f"{name}#{seen[name]}"), storage


def _bytes_of(storage: torch.UntypedStorage) -> torch.Tensor:
    return torch.tensor([], dtype=torch.uint8).set_(storage)


@dataclasses.dataclass
class Totals:
    """The sum of several launches of one kernel."""

    launches: int = 0
    threads: int = 0
    instructions: int = 0
    bytes_read: int = 0
    bytes_written: int = 0
    sectors: int = 0  # that its warps asked for, each access on its own
    ideal_sectors: int = 0  # had the same bytes lain together
    wavefronts: int = 0
    conflicts: int = 0

    def __iadd__(self, other: "Totals") -> "Totals":
        for field in dataclasses.fields(self):
            setattr(self, field.name, getattr(self, field.name) + getattr(other, field.name))
        return self

    @classmethod
    def of(cls, launch: LaunchRecord) -> "Totals":
        """Return the totals of one launch."""
        statistics = launch.statistics

        def all_kinds(suffix: str) -> int:
            return sum(statistics[f"{kind}_{suffix}"] for kind in ("load", "store", "atomic"))

        return cls(
            launches=1,
            threads=math.prod(launch.grid) * math.prod(launch.block),
            instructions=statistics["instructions"],
            bytes_read=statistics["global_bytes_read"],
            bytes_written=statistics["global_bytes_written"],
            sectors=all_kinds("sectors"),
            ideal_sectors=all_kinds("sectors_ideal"),
            wavefronts=statistics["shared_wavefronts"],
            conflicts=statistics["bank_conflicts"],
        )

    @property
    def conflict_share(self) -> float:
        """The share of all wavefronts of shared memory that are due to bank conflicts."""
        return self.conflicts / self.wavefronts if self.wavefronts else 0.0
