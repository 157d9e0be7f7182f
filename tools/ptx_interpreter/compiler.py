"""Compiles CUDA sources to PTX."""

import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from ptx_interpreter.errors import PtxError

sys.path.append(str(Path(__file__).resolve().parents[2]))

import build_native


def find_nvcc() -> str | None:
    """Return nvcc as the build of the module finds it, or None."""
    try:
        return build_native.find_cuda().nvcc
    except build_native.BuildError:
        return None


def compile_ptx(source: Path | str, architecture: str = "80", flags: Sequence[str] = ()) -> str:
    """Compile CUDA C++ to PTX.

    Parameters
    ----------
    source
        A file, or the text of one.
    architecture
        Compute capability without its point, such as "80".
    flags
        For nvcc.

    Returns
    -------
    ptx
        The text.

    Raises
    ------
    PtxError
        If nvcc was not found, or refuses the source.
    """
    try:
        nvcc = build_native.find_cuda().nvcc
    except build_native.BuildError as error:
        raise PtxError(str(error)) from error
    with tempfile.TemporaryDirectory() as folder:
        path = source
        if isinstance(source, str):
            path = Path(folder, "kernels.cu")
            path.write_text(source)
        output = Path(folder, "kernels.ptx")
        command = [nvcc, "-ptx", f"-arch=sm_{architecture}", "-std=c++17", *flags]
        finished = subprocess.run(
            [*command, str(path), "-o", str(output)], capture_output=True, text=True, check=False
        )
        if finished.returncode != 0:
            raise PtxError(f"{path}: nvcc failed\n{finished.stdout}{finished.stderr}")
        return output.read_text()
