"""Runs of the console command, each a process of its own, without importing torch for each.

A server imports the package once and forks for every run; what a new process finds - its standard
streams, its arguments, the usual handlers of signals - is set up in the fork. ``Server`` is for the
tests, and this file, run as a program, is the server.
"""

import contextlib
import importlib
import io
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
from pathlib import Path

TESTS = Path(__file__).parent
STREAMS = ("stdin", "stdout", "stderr")


class Server:
    """Starts commands."""

    def __init__(self, folder):
        self.path = str(folder / "commands.socket")
        path = os.pathsep.join([str(TESTS.parent), str(TESTS)])
        # Small networks gain nothing from threads, which wait for each other on a busy machine.
        environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
        self.process = subprocess.Popen(
            [sys.executable, __file__, self.path],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment,
        )  # fmt: skip
        assert self.process.stdout.readline() == b"ready\n"

    def close(self):
        """End the server, which ends with its standard input."""
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()

    def start(self, *arguments, cwd, stdout=None, stderr=None, **settings):
        """Start ``fvfast ARGUMENTS`` with streams that are numbers of files, or None if closed.

        Settings are the ``encoding`` of the streams, the signals to be ``ignored``, and a
        ``witness``: a file that gets the name of a picture for each step that was taken.
        """
        given = [stream for stream in (stdout, stderr) if stream is not None]
        request = {
            "arguments": list(map(str, arguments)),
            "cwd": str(cwd),
            "closed": [number for number, stream in ((1, stdout), (2, stderr)) if stream is None],
            **settings,
        }
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(self.path)
        socket.send_fds(connection, [json.dumps(request).encode() + b"\n"], given)
        return Command(connection)

    def run(self, *arguments, cwd, **settings):
        """Run a command to its end; return its status and what it printed."""
        encoding = settings.get("encoding", "utf-8").partition(":")[0]
        with (
            (Path(cwd) / ".stdout").open("w+", encoding=encoding) as out,
            (Path(cwd) / ".stderr").open("w+", encoding=encoding) as err,
        ):
            streams = {"stdout": out.fileno(), "stderr": err.fileno(), **settings}
            command = self.start(*arguments, cwd=cwd, **streams)
            status = command.wait()
            out.seek(0)
            err.seek(0)
            return status, out.read(), err.read()


class Command:
    """A command that runs.

    Attributes
    ----------
    pid
        Its process.
    """

    def __init__(self, connection):
        self.file = connection.makefile("r")
        connection.close()
        self.pid = int(self.file.readline())
        self.status = None

    def send(self, number):
        """Send a signal, unless the process has ended."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def wait(self):
        """Return the exit status, negative if a signal ended it."""
        if self.status is None:
            self.status = int(self.file.readline())
            self.file.close()
        return self.status


def serve(path):
    """Fork for each connection, until standard input ends."""
    # Once for all runs: torch imports its compiler when a network is first inspected.
    for module in ("fvfast.cli.app", "torch._dynamo"):
        importlib.import_module(module)

    listening = socket.socket(socket.AF_UNIX)
    listening.bind(path)
    listening.listen(64)
    # Nobody waits for the processes that look after a run.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    waiting = selectors.DefaultSelector()
    waiting.register(listening, selectors.EVENT_READ)
    waiting.register(0, selectors.EVENT_READ)
    while True:
        for key, _ in waiting.select():
            if key.fileobj == 0:
                return
            connection, _ = listening.accept()
            if os.fork() == 0:
                listening.close()
                look_after(connection)
            connection.close()


def look_after(connection):
    """Run one command in a fork; report its process id and its exit status."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    data, files, _, _ = socket.recv_fds(connection, 2**16, 2)
    while not data.endswith(b"\n"):
        data += connection.recv(2**16)
    request = json.loads(data)
    child = os.fork()
    if child == 0:
        connection.close()
        become(request, files)
    for file in files:
        os.close(file)
    connection.sendall(f"{child}\n".encode())
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    with contextlib.suppress(OSError):
        connection.sendall(f"{status}\n".encode())
    os._exit(0)


def become(request, files):
    """Set up what a new process has, and run the command."""
    from fvfast.cli import app as cli
    from fvfast.cli import startup

    os.chdir(request["cwd"])
    numbers = iter(files)
    for number, name in enumerate(STREAMS):
        if number == 0:
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        elif number in request["closed"]:
            os.close(number)
            setattr(sys, name, None)
            continue
        else:
            os.dup2(next(numbers), number)
        encoding, _, errors = request.get("encoding", "utf-8:strict").partition(":")
        # Errors of standard error are never strict, whatever is asked for.
        errors = "backslashreplace" if name == "stderr" else errors or "strict"
        mode = "r" if number == 0 else "w"
        stream = io.FileIO(number, mode, closefd=False)
        buffer = io.BufferedReader(stream) if number == 0 else io.BufferedWriter(stream)
        setattr(sys, name, io.TextIOWrapper(buffer, encoding=encoding, errors=errors))
    for file in files:
        os.close(file)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        usual = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
        ignored = number in request.get("ignored", ())
        signal.signal(number, signal.SIG_IGN if ignored else usual)
    session = cli.Session()
    if "witness" in request:
        session = cli.Session(maco_batch=watched(session.maco_batch, request["witness"]))
    startup.open_closed_streams()
    startup.quit_on_interrupt()
    sys.argv = ["fvfast", *request["arguments"]]
    try:
        cli.app(obj=session)
    except SystemExit as leaving:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(leaving.code or 0)


def watched(usual, path):
    """Make a `maco_batch` that notes each step that is taken."""
    file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def maco_batch(objective, *, callback, **settings):
        def note(report):
            os.write(file, f"{report.names[0]}\n".encode())
            return callback(report)

        return usual(objective, callback=note, **settings)

    return maco_batch


if __name__ == "__main__":
    serve(sys.argv[1])
