"""The error of the interpreter."""


class PtxError(RuntimeError):
    """A fault of a kernel or of its launch, or PTX that cannot be read.

    Of a kernel: access out of bounds, misaligned address, deadlock, unsupported instruction. The
    message names the kernel, the block, the thread and the line of the PTX.
    """
