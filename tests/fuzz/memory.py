"""Memory for one call of the native module, exactly as large as the call may touch.

It comes from malloc, so that AddressSanitizer sees the first byte that is read or written beyond
it. Python's own buffers would not do: they are pooled, or a byte longer than they say.
"""

import ctypes
import math
import random
import struct

_libc = ctypes.CDLL(None)
_libc.posix_memalign.argtypes = (
    ctypes.POINTER(ctypes.c_void_p),
    ctypes.c_size_t,
    ctypes.c_size_t,
)
_libc.free.argtypes = (ctypes.c_void_p,)

# Address, and number of elements, as the module takes them.
Buffer = tuple[int, int]
NOWHERE: Buffer = (0, 0)

ITEM = {"float32": 4, "float64": 8, "bfloat16": 2, "float16": 2}
FORMATS = {"float32": "f", "float64": "d", "float16": "e"}
EDGES = [0.0, -0.0, 1.0, -1.0, 1e-40, -6e4, math.inf, -math.inf, math.nan]


class Memory:
    """Buffers with random contents, which live until `free`.

    Attributes
    ----------
    target
        Where functions run that use them: None for the CPU, else a device and a stream.
    """

    def __init__(self, rng: random.Random, target: tuple[int, int] | None = None) -> None:
        self.rng = rng
        self.target = target
        self.addresses: list[int] = []

    def allocate(self, contents: bytes, item: int = 1) -> Buffer:
        """Copy the contents to a cache line of their own; they count in items of some bytes."""
        pointer = ctypes.c_void_p()
        failed = _libc.posix_memalign(ctypes.byref(pointer), 64, len(contents))
        address = pointer.value
        assert not failed, f"no memory for {len(contents)} bytes"
        assert address is not None
        self.addresses.append(address)
        ctypes.memmove(address, contents, len(contents))
        return address, len(contents) // item

    def array(self, count: int, dtype: str) -> Buffer:
        """Memory of `count` numbers: any bits at all, or mostly ordinary numbers."""
        if dtype not in FORMATS or self.rng.random() < 0.3:
            return self.allocate(self.rng.randbytes(count * ITEM[dtype]), ITEM[dtype])
        numbers = [self.rng.gauss(0, 1) for _ in range(min(count, 61))]
        if numbers and self.rng.random() < 0.3:
            numbers[self.rng.randrange(len(numbers))] = self.rng.choice(EDGES)
        repeated = numbers * (count // max(len(numbers), 1) + 1)
        packed = struct.pack(f"{count}{FORMATS[dtype]}", *repeated[:count])
        return self.allocate(packed, ITEM[dtype])

    def integers(self, numbers: list[int], bits: int = 64) -> Buffer:
        """Memory of signed integers of 8, 32 or 64 bits."""
        letter = {8: "b", 32: "i", 64: "q"}[bits]
        return self.allocate(struct.pack(f"{len(numbers)}{letter}", *numbers), bits // 8)

    def strided(
        self, sizes: list[int], dtype: str, shared: bool = False
    ) -> tuple[Buffer, list[int]]:
        """Memory and strides of an array: contiguous, permuted, with gaps or, if `shared`, with
        elements that share memory."""
        order = list(range(len(sizes)))
        if self.rng.random() < 0.4:
            self.rng.shuffle(order)
        strides = [0] * len(sizes)
        step = self.rng.choice([1, 1, 1, 2, 3])
        for axis in reversed(order):
            if shared and self.rng.random() < 0.1:
                continue
            strides[axis] = step
            step *= max(sizes[axis], 1)
        last = sum((size - 1) * stride for size, stride in zip(sizes, strides, strict=True))
        return self.array(0 if 0 in sizes else last + 1, dtype), strides

    def free(self) -> None:
        """Free all buffers."""
        for address in self.addresses:
            _libc.free(address)
        self.addresses.clear()
