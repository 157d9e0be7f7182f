"""The contestants, and how the main process talks to their workers."""

import dataclasses
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.peers.scene import Scene

PEERS = Path(__file__).resolve().parent
ROOT = PEERS.parent.parent


@dataclasses.dataclass(frozen=True)
class Contestant:
    """A library, and a way of using it.

    Attributes
    ----------
    worker
        Module to run.
    environment
        Folder of its virtual environment; None for that of this process.
    """

    name: str
    worker: str
    environment: str | None = None
    arguments: tuple[str, ...] = ()
    variables: dict[str, str] = dataclasses.field(default_factory=dict)

    @property
    def python(self) -> Path:
        """The Python interpreter of its environment."""
        if self.environment is None:
            return Path(sys.executable)
        return PEERS / self.environment / "bin" / "python"


CONTESTANTS = (
    Contestant("fvfast", "fvfast_worker"),
    Contestant("fvfast_auto", "fvfast_worker", arguments=("--precision", "auto")),
    # The network alone: the rest of fvfast's step is overhead.
    Contestant("network", "network_worker"),
    Contestant("network_auto", "network_worker", arguments=("--precision", "auto")),
    Contestant("network_eager", "network_worker", arguments=("--eager",)),
    Contestant("fvfast_reference", "fvfast_worker", variables={"FVFAST_DISABLE_NATIVE": "1"}),
    Contestant("xplique", "xplique_worker", ".venv-xplique"),
    Contestant("dreamlens", "dreamlens_worker", ".venv-dreamlens"),
    Contestant("horama", "horama_worker", ".venv-horama"),
    Contestant("horama_frozen", "horama_worker", ".venv-horama", ("--frozen",)),
)


class Worker:
    """A contestant's process, which sleeps unless it is asked for steps.

    When the constructor returns, the process has taken its first step. Use it as a context manager.

    Attributes
    ----------
    versions
        Versions of the library, its framework and Python, and the seconds from the call of ``maco``
        to the end of its first step, as "first_step_seconds".
    """

    def __init__(self, contestant: Contestant, scene: Scene) -> None:
        self.name = contestant.name
        # Each worker gets an empty folder: Horama looks for a file in the working directory.
        self._folder = tempfile.TemporaryDirectory()
        self._log = (Path(self._folder.name) / "log").open("w+")
        self._process = subprocess.Popen(
            [
                contestant.python,
                "-m",
                f"benchmarks.peers.{contestant.worker}",
                *contestant.arguments,
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            cwd=self._folder.name,
            env={
                **os.environ,
                "PYTHONPATH": str(ROOT),
                "OMP_NUM_THREADS": str(scene.threads),
                "CUDA_VISIBLE_DEVICES": "",  # run on the CPU
                "TF_CPP_MIN_LOG_LEVEL": "2",
                **contestant.variables,
            },
        )
        try:
            self.versions = self._ask(scene.to_json())
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> "Worker":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def take_steps(self, steps: int, *, memory: bool = False) -> dict[str, float]:
        """Let the library take some steps; return the measurements, see `gate`."""
        return self._ask(json.dumps({"steps": steps, "memory": memory}))

    def close(self) -> None:
        """End the process."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        try:
            self._process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()
        self._log.close()
        self._folder.cleanup()

    def _ask(self, line: str) -> dict[str, Any]:
        requests, answers = self._process.stdin, self._process.stdout
        assert requests is not None
        assert answers is not None
        try:
            requests.write(line + "\n")
            requests.flush()
            answer = answers.readline()
        except BrokenPipeError:
            answer = ""
        if not answer:
            self._log.seek(0)
            raise RuntimeError(f"{self.name} ended:\n{self._log.read()[-4000:]}")
        return json.loads(answer)
