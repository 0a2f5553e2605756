"""Short commands without the time that each would take to start.

Importing the libraries takes longer than cutting a small image into patches. While Snakemake runs, one process holds
them (`start`), and forks of it do the commands that are `SERVED`, each with its own arguments, environment, folder,
output and exit status. A fork does one command at a time, so that what kills it fails that command alone. It dies with
the command that asked for it, and otherwise goes on with the next. Where no server answers, or one of another
installation, a command starts by itself.

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
    import threading
    from typing import NoReturn

SERVER = "STEDM_SERVER"
"""Environment variable: the server's socket. Where it is set but empty, Snakemake starts none."""
SERVED = (["patches", "extract"], ["phantom", "render"])
NUMBER = struct.Struct("!Q")
"""How messages say their length, and servers the exit status."""
REFUSED = 2**32
KILLED = 137
DONE = b" "
"""What a fork says when it can do another command, and what it is sent with it."""
MOST_KB = 2**19
"""Memory, half a GB, after which a fork does no other command."""
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
    """Hand each command that asks to a fork that has nothing to do, or to a new one, until the standard input ends."""
    import contextlib
    import select
    import shutil
    import signal
    from pathlib import Path

    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for forks
    idle: dict[socket.socket, bool] = {}  # for each fork, whether it has nothing to do
    with socket.socket(fileno=descriptor) as listener:
        while sys.stdin not in (ready := select.select([listener, sys.stdin, *idle], [], [])[0]):
            for fork in idle.keys() & ready:
                idle[fork] = is_done(fork)
                if not idle[fork]:  # it has ended
                    del idle[fork]
            if listener in ready:
                connection, _ = listener.accept()
                with connection, contextlib.suppress(OSError):  # the fork was killed at this moment
                    fork = next((fork for fork in idle if idle[fork]), None) or new_fork(listener, connection, *idle)
                    idle[fork] = False
                    socket.send_fds(fork, [DONE], [connection.fileno()])
    shutil.rmtree(Path(path).parent, ignore_errors=True)


def is_done(fork: socket.socket) -> bool:
    """Has a fork from which there is something to read done its command? Else it has ended."""
    try:
        return bool(fork.recv(len(DONE)))
    except OSError:
        return False


def new_fork(*inherited: socket.socket) -> socket.socket:
    """Fork; returns the connection that commands are sent through, on which the fork says when it has done one.

    Args:
        inherited: what the fork must not keep open.
    """
    load()
    ours, theirs = socket.socketpair()
    if os.fork() == 0:
        for item in (ours, *inherited):
            item.close()
        work(theirs)
    theirs.close()
    return ours


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


def work(server: socket.socket) -> "NoReturn":
    """In a fork: do one command after the other, until the server ends or much memory has been needed."""
    import resource
    import signal

    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    try:
        while resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < MOST_KB:
            _, descriptors, _, _ = socket.recv_fds(server, len(DONE), 1)
            if not descriptors:
                break
            with socket.socket(fileno=descriptors[0]) as connection:
                answer(connection)
            server.sendall(DONE)
    except (OSError, struct.error):  # whoever asked has ended
        os._exit(KILLED)
    os._exit(0)


def answer(connection: socket.socket) -> None:
    """Do a command, with the streams of the one who asked."""
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
    done = threading.Event()
    watch = threading.Thread(target=die_with, args=(connection, done))
    watch.start()
    status = run(request["arguments"])
    done.set()
    nothing = os.open(os.devnull, os.O_RDWR)
    for stream in STREAMS:  # or who reads what the command writes would wait for more
        os.dup2(nothing, stream)
    os.close(nothing)
    connection.sendall(NUMBER.pack(status))
    connection.shutdown(socket.SHUT_RD)
    watch.join()


def die_with(connection: socket.socket, done: "threading.Event") -> None:
    """End when the other side, which says nothing more, ends before its command is done."""
    connection.recv(1)
    if not done.is_set():
        os._exit(KILLED)


def run(arguments: Sequence[str]) -> int:
    """Exit status of a command, as Python would end with."""
    import traceback
    import warnings

    from stedm.cli import main

    try:
        with warnings.catch_warnings():  # what was said of one slide is said of the next
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
