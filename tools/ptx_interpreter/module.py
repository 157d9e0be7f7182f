"""PTX modules, their kernels, and launches."""

import ctypes
import dataclasses
import json
import math
import re
import subprocess
import weakref
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from ptx_interpreter.errors import PtxError
from ptx_interpreter.library import Buffer, Launch, library

ASCENDING, DESCENDING = 0, 1
MOST_THREADS = 1024  # of a block
MOST_THREADS_Z = 64
MOST_BLOCKS_YZ = 65535
MOST_CLUSTER_BLOCKS = 8
FIRST_WITH_CLUSTERS = 90  # compute capability
# KiB of shared memory for one block, by compute capability.
SHARED_KIB = {
    75: 64,
    80: 163,
    86: 99,
    87: 163,
    89: 99,
    90: 227,
    100: 227,
    103: 227,
    120: 99,
    121: 99,
}
# Allocations of a GPU begin at multiples of this.
ALLOCATION = 256


@dataclasses.dataclass(frozen=True)
class Parameter:
    """A parameter of a kernel, as PTX declares it."""

    type: str
    size: int
    align: int
    offset: int
    is_array: bool  # a struct passed by value


@dataclasses.dataclass(frozen=True)
class Kernel:
    """What PTX says about a kernel.

    Attributes
    ----------
    name, demangled
        Its symbol, mangled and demangled.
    params
        Its parameters.
    static_shared, local_bytes
        Bytes of a block's static shared memory, and of a thread's local memory.
    registers
        Number of declared registers, by type. They are virtual: the assembler needs fewer.
    instructions
        Number of instructions in the text of the kernel and of the functions that it can reach.
    functions
        Number of functions that it calls and that were not inlined.
    maxntid, reqntid, minctas
        Its launch bounds; 0 where there is none.
    unsupported
        Instructions that are an error when executed, with their lines.
    """

    name: str
    demangled: str
    params: tuple[Parameter, ...]
    static_shared: int
    local_bytes: int
    registers: Mapping[str, int]
    instructions: int
    functions: int
    maxntid: int
    reqntid: list[int]
    minctas: int
    unsupported: list[str]


@dataclasses.dataclass(frozen=True)
class Memory:
    """Memory that a kernel may access, given by its address. Its owner keeps it alive."""

    address: int
    size: int
    offset: int = 0  # from the start of its allocation
    writable: bool = True


def _memory_of(value: Any, name: str) -> Memory | None:
    """Return the memory of an array or tensor, or None for anything else."""
    if isinstance(value, Memory):
        return value
    if isinstance(value, np.ndarray):
        if not value.flags.c_contiguous:
            raise PtxError(f"{name}: expected a contiguous array, got strides {value.strides}")
        root = value
        while isinstance(root.base, np.ndarray):
            root = root.base
        offset = value.ctypes.data - root.ctypes.data
        if not 0 <= offset <= root.nbytes:  # a view from the end of a reversed array
            offset = 0
        return Memory(value.ctypes.data, value.nbytes, offset % ALLOCATION, value.flags.writeable)
    if hasattr(value, "data_ptr"):
        if value.device.type != "cpu" or not value.is_contiguous():
            raise PtxError(
                f"{name}: expected a contiguous CPU tensor, got strides {value.stride()} on "
                f"{value.device}"
            )
        size = value.element_size()
        return Memory(
            value.data_ptr(), value.numel() * size, value.storage_offset() * size % ALLOCATION
        )
    return None


def _merged(named: Sequence[tuple[str, Memory]]) -> Iterator[tuple[str, Memory]]:
    """Merge views of the same array into one piece of memory."""
    last: tuple[str, Memory] | None = None
    for name, memory in sorted(named, key=lambda pair: (pair[1].address, -pair[1].size)):
        if last and memory.address < last[1].address + last[1].size:
            end = max(last[1].address + last[1].size, memory.address + memory.size)
            whole = dataclasses.replace(
                last[1],
                size=end - last[1].address,
                writable=last[1].writable or memory.writable,
            )
            last = (last[0], whole)
            continue
        if last:
            yield last
        last = (name, memory)
    if last:
        yield last


def _three(sizes: int | Sequence[int]) -> tuple[int, int, int]:
    x, y, z, *_ = (*(sizes if isinstance(sizes, Sequence) else (sizes,)), 1, 1)
    return int(x), int(y), int(z)


def _pack(value: Any, parameter: Parameter, name: str) -> bytes:
    """Return the bytes of an argument."""
    kind, size = parameter.type, parameter.size
    if value is None:
        return bytes(8)
    if isinstance(value, bytes | bytearray | ctypes.Structure):
        return bytes(value)
    if isinstance(value, np.generic):
        wanted = "f" if kind in ("f32", "f64") else "iub" if kind[0] in "us" else ""
        if not parameter.is_array and wanted and value.dtype.kind not in wanted:
            raise PtxError(f"{name}: a {value.dtype} for a .{kind} parameter")
        return value.tobytes()
    memory = _memory_of(value, name)
    if memory is not None:
        return memory.address.to_bytes(8, "little")
    if kind in ("f32", "f64"):
        return np.dtype(kind[0] + str(size)).type(value).tobytes()
    if isinstance(value, bool | int):
        return (int(value) % 2 ** (8 * size)).to_bytes(size, "little")
    raise PtxError(f"{name}: cannot pass {value!r} as .{kind}")


class Module:
    """The kernels and variables of one PTX text.

    Parameters
    ----------
    text
        PTX, as `compile_ptx` returns it.

    Attributes
    ----------
    target
        Such as "sm_80".
    kernels
        By their mangled names.

    Raises
    ------
    PtxError
        If the text is not PTX. An instruction that is not known is an error only when it is
        executed: see `Kernel.unsupported`.
    """

    def __init__(self, text: str) -> None:
        handle = library().ptx_load(text.encode())
        answer = library().ptx_answer().decode()
        if not handle:
            raise PtxError(answer)
        self._handle = handle
        weakref.finalize(self, library().ptx_free, handle)
        information = json.loads(answer)
        self.target: str = information["target"]
        self.kernels: dict[str, Kernel] = {}
        names = list(information["kernels"])
        demangled = subprocess.run(
            ["c++filt"], input="\n".join(names), capture_output=True, text=True, check=True
        ).stdout.splitlines()
        for name, clear in zip(names, demangled, strict=True):
            said = information["kernels"][name]
            parameters = tuple(Parameter(*parameter) for parameter in said.pop("params"))
            self.kernels[name] = Kernel(name, clear, parameters, **said)

    def find(self, name: str) -> Kernel:
        """Return the kernel of a mangled name, or the only one whose demangled name has the text.

        Raises
        ------
        PtxError
            If there is none, or several.
        """
        if name in self.kernels:
            return self.kernels[name]
        found = [kernel for kernel in self.kernels.values() if name in kernel.demangled]
        exact = [k for k in found if re.match(rf"(void )?{re.escape(name)}\(", k.demangled)]
        if len(exact or found) != 1:
            known = [kernel.demangled for kernel in found or self.kernels.values()]
            raise PtxError(f"{name!r} names {len(found)} kernels of {known}")
        return (exact or found)[0]

    def symbol(self, name: str, dtype: DTypeLike = np.uint8) -> NDArray[Any]:
        """Return a __device__ or __constant__ variable as an array: keep the module alive.

        Parameters
        ----------
        name
            Mangled, if the variable is not extern "C".
        dtype
            Of the array.

        Returns
        -------
        variable
            One-dimensional. Kernels read what is written to it.
        """
        size = ctypes.c_uint64()
        address = library().ptx_symbol(self._handle, name.encode(), ctypes.byref(size))
        if not address:
            raise PtxError(f"no variable {name!r}")
        return np.frombuffer((ctypes.c_uint8 * size.value).from_address(address), dtype)

    def launch(
        self,
        name: str,
        grid: int | Sequence[int],
        block: int | Sequence[int],
        shared_bytes: int = 0,
        args: Sequence[Any] = (),
        buffers: Mapping[str, Any] | Sequence[Any] = (),
        *,
        cluster: int | Sequence[int] = 1,
        order: int = ASCENDING,
        stats: bool = True,
        max_steps: int = 10**11,
    ) -> dict[str, Any]:
        """Run a kernel.

        Parameters
        ----------
        name
            See `find`.
        grid, block
            One to three sizes.
        shared_bytes
            Of dynamic shared memory.
        args
            numpy scalars; Python numbers, packed as the parameter's type; arrays and CPU tensors,
            passed by address; None, a null pointer; bytes and ctypes structures, by value.
        buffers
            Further memory that the kernel may access: arrays, tensors or `Memory`.
        cluster
            One to three sizes, in blocks: those of a cluster run at the same time.
        order
            Of threads between barriers, and of clusters: 0 ascending, 1 descending. A larger number
            is the seed of a random order, in which threads are also interrupted at random places.
        stats
            Whether accesses to memory are counted.
        max_steps
            More instructions than this are an error.

        Returns
        -------
        statistics
            See README.md.

        Raises
        ------
        PtxError
            If the launch is not valid, or the kernel makes an error.
        """
        kernel = self.find(name)
        grid, block, cluster = _three(grid), _three(block), _three(cluster)
        self._check(kernel, grid, block, shared_bytes, len(args))
        self._check_cluster(grid, cluster)
        parameters = bytearray(
            kernel.params[-1].offset + kernel.params[-1].size if kernel.params else 0
        )
        for k, (value, parameter) in enumerate(zip(args, kernel.params, strict=True)):
            raw = _pack(value, parameter, f"argument {k} of {kernel.demangled}")
            if len(raw) != parameter.size:
                raise PtxError(
                    f"argument {k} of {kernel.demangled} has {len(raw)} bytes, the kernel wants "
                    f"{parameter.size}"
                )
            parameters[parameter.offset : parameter.offset + parameter.size] = raw

        named = [(f"arg{k}", value) for k, value in enumerate(args)]
        if isinstance(buffers, Mapping):
            named += buffers.items()
        else:
            named += [(f"buffer{k}", buffer) for k, buffer in enumerate(buffers)]
        memories = [(label, _memory_of(value, label)) for label, value in named]
        merged = list(_merged([(label, m) for label, m in memories if m is not None and m.size]))
        table = (Buffer * len(merged))(
            *(
                Buffer(m.address, m.size, m.offset, m.writable, label.encode())
                for label, m in merged
            )
        )
        request = Launch(
            kernel=kernel.name.encode(),
            grid=grid,
            block=block,
            cluster=cluster,
            dynamic_shared=shared_bytes,
            order=order,
            statistics=stats,
            max_steps=max_steps,
            parameters=bytes(parameters),
            parameter_bytes=len(parameters),
            buffers=table,
            buffer_count=len(merged),
        )
        failed = library().ptx_launch(self._handle, ctypes.byref(request))
        answer = library().ptx_answer().decode()
        if failed:
            raise PtxError(answer)
        return json.loads(answer)

    def _check_cluster(self, grid: tuple[int, int, int], cluster: tuple[int, int, int]) -> None:
        blocks = math.prod(cluster)
        if blocks == 1:
            return
        if self._capability() < FIRST_WITH_CLUSTERS:
            raise PtxError(f"sm_{self._capability()} has no clusters, got clusters of {cluster}")
        if not 0 < blocks <= MOST_CLUSTER_BLOCKS:
            raise PtxError(f"a cluster has 1 to {MOST_CLUSTER_BLOCKS} blocks, got {cluster}")
        if any(size % part for size, part in zip(grid, cluster, strict=True)):
            raise PtxError(f"a grid of {grid} blocks has no whole number of clusters of {cluster}")

    def _capability(self) -> int:
        return int(re.findall(r"\d+", self.target)[0])

    def _check(
        self,
        kernel: Kernel,
        grid: tuple[int, int, int],
        block: tuple[int, int, int],
        shared_bytes: int,
        arguments: int,
    ) -> None:
        """Refuse launches that a GPU would refuse."""
        threads = math.prod(block)
        if (
            not 0 < threads <= MOST_THREADS
            or block[2] > MOST_THREADS_Z
            or min(grid) < 1
            or max(grid[1:]) > MOST_BLOCKS_YZ
        ):
            raise PtxError(f"invalid launch configuration {grid} x {block}")
        if (kernel.maxntid and threads > kernel.maxntid) or (
            kernel.reqntid[0] and list(block) != kernel.reqntid
        ):
            raise PtxError(f"block {block} breaks the launch bounds of {kernel.demangled}")
        capability = self._capability()
        limit = 1024 * SHARED_KIB.get(capability, 227)
        if kernel.static_shared + shared_bytes > limit:
            raise PtxError(
                f"{kernel.static_shared} + {shared_bytes} bytes of shared memory are too much for "
                f"sm_{capability}: at most {limit}"
            )
        if arguments != len(kernel.params):
            raise PtxError(
                f"{kernel.demangled} takes {len(kernel.params)} arguments, not {arguments}"
            )
