"""Short commands without the time that each would take to start.

Importing the libraries takes longer than cutting a small image into patches. While Snakemake runs, one process holds
them (`start`), and each command that is `SERVED` is a fork of it: a process of its own, with its own arguments,
environment, folder, output and exit status, that dies with the command that asked for it. Where no server answers, or
one of another installation, a command starts by itself.

`stedm` starts here, so that nothing is imported at the top that takes long, which `pathlib` and `typing` do.
"""

import json
import os
import socket
import struct
import sys
from collections.abc import Sequence

TYPE_CHECKING = False  # as type checkers read it
if TYPE_CHECKING:
    import subprocess
    from typing import NoReturn

SERVER = "STEDM_SERVER"
"""Environment variable: the server's socket. Where it is set but empty, Snakemake starts none."""
SERVED = (["patches", "extract"], ["phantom", "render"])
NUMBER = struct.Struct("!Q")
"""How messages say their length, and servers the exit status."""
REFUSED = 2**32
KILLED = 137
STREAMS = (0, 1, 2)
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
"""A process with threads cannot be forked."""


def main() -> int:
    """The `stedm` command."""
    path = os.environ.get(SERVER)
    if path and sys.argv[1:3] in SERVED:
        status = ask(path, sys.argv[1:])
        if status is not None:
            return status
    from stedm.cli import main

    return main()


def ask(path: str, arguments: Sequence[str]) -> int | None:
    """Have a server do a command; returns its exit status, None where no server does it."""
    request = {
        "module": __file__,
        "arguments": arguments,
        "folder": os.getcwd(),  # noqa: PTH109
        "environment": dict(os.environ),
    }
    data = json.dumps(request).encode()
    with socket.socket(socket.AF_UNIX) as connection:
        try:
            connection.connect(path)
            socket.send_fds(connection, [NUMBER.pack(len(data))], STREAMS)
            connection.sendall(data)
        except OSError:
            return None
        answer = connection.recv(NUMBER.size)
    if not answer:
        print(f"stedm {' '.join(arguments[:2])}: the process was killed; was there too little memory?", file=sys.stderr)
        return KILLED
    (status,) = NUMBER.unpack(answer)
    return None if status == REFUSED else status


def start() -> "subprocess.Popen[bytes]":
    """Start a server for the commands that this process starts from now on; it ends with this process, or when its
    standard input is closed."""
    import subprocess
    import tempfile
    from pathlib import Path

    path = str(Path(tempfile.mkdtemp(prefix="stedm-"), "socket"))  # in a folder that only we may enter
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen(128)
        server = subprocess.Popen(
            [sys.executable, "-m", "stedm.server", path, str(listener.fileno())],
            stdin=subprocess.PIPE,
            pass_fds=[listener.fileno()],
            env=os.environ | dict.fromkeys(THREADS, "1"),
            start_new_session=True,  # an interrupt from the keyboard reaches it through the commands, which end
        )
    os.environ[SERVER] = path
    return server


def serve(path: str, descriptor: int) -> None:
    """Fork for each command that asks, until the standard input ends."""
    import select
    import shutil
    import signal
    from pathlib import Path

    signal.signal(signal.SIGCHLD, reap)
    with socket.socket(fileno=descriptor) as listener:
        while sys.stdin not in select.select([listener, sys.stdin], [], [])[0]:
            connection, _ = listener.accept()
            load()
            if os.fork() == 0:
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                answer(connection)
            connection.close()
    shutil.rmtree(Path(path).parent, ignore_errors=True)


def reap(*_: object) -> None:
    """Wait for the forks that have ended."""
    while True:
        try:
            if os.waitpid(-1, os.WNOHANG)[0] == 0:
                return
        except ChildProcessError:
            return


def load() -> None:
    """Import what the commands need, also what they would import late, and build the parser: once, for all forks."""
    import gc

    if "stedm.cli" not in sys.modules:
        import multiprocessing.synchronize  # noqa: F401

        from PIL import Image

        import stedm.cli
        import stedm.models
        import stedm.phantom.files
        import stedm.slides.patches

        Image.preinit()
        stedm.cli.build_parser()
        gc.collect()
        gc.freeze()


def answer(connection: socket.socket) -> "NoReturn":
    """In a fork: do the command, with the streams of the one who asked, and end."""
    import threading

    head, descriptors, _, _ = socket.recv_fds(connection, NUMBER.size, len(STREAMS))
    (length,) = NUMBER.unpack(head)
    with connection.makefile("rb") as file:
        request = json.loads(file.read(length))
    if request["module"] != __file__:
        connection.sendall(NUMBER.pack(REFUSED))
        os._exit(0)
    for descriptor, stream in zip(descriptors, STREAMS, strict=True):
        os.dup2(descriptor, stream)
        os.close(descriptor)
    os.environ.clear()
    os.environ.update(request["environment"])
    os.chdir(request["folder"])
    threading.Thread(target=die_with, args=(connection,), daemon=True).start()
    status = run(request["arguments"])
    connection.sendall(NUMBER.pack(status))
    os._exit(0)


def die_with(connection: socket.socket) -> None:
    """End when the other side ends, which says nothing more."""
    connection.recv(1)
    os._exit(KILLED)


def run(arguments: Sequence[str]) -> int:
    """Exit status of a command, as Python would end with."""
    import traceback

    from stedm.cli import main

    try:
        status = main(arguments)
    except SystemExit as error:
        status = error.code if isinstance(error.code, int) else int(error.code is not None)
    except BaseException:
        traceback.print_exc()
        status = 1
    sys.stdout.flush()
    sys.stderr.flush()
    return status


if __name__ == "__main__":
    serve(sys.argv[1], int(sys.argv[2]))
