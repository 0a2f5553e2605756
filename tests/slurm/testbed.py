#!/usr/bin/env python3
"""A real SLURM on one machine: munge, MariaDB, slurmdbd, slurmctld, and a slurmd for each of three pretended nodes, two
of them with two pretended GPUs, on loopback, as root, without systemd.

    python tests/slurm/testbed.py install | start | status | kill-node gpu01 | start-node gpu01 | stop

`install` fetches the Debian packages. Everything lives under /tmp/stedm-slurm but the configuration, which must be in
/etc/slurm: Snakemake's jobstep executor strips SLURM_CONF from what it starts. The file of another cluster is never
touched. Daemons are stopped by the process id that each wrote, never by name.
"""

import contextlib
import os
import shutil
import signal
import socket
import string
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

PACKAGES = ["slurmctld", "slurmd", "slurm-client", "slurmdbd", "munge", "mariadb-server"]
NODES = ("gpu01", "gpu02", "cpu01")
ACCOUNT = "lab"
TEMPLATES = Path(__file__).parent / "etc"
ETC = Path("/etc/slurm")
ROOT = Path("/tmp/stedm-slurm")
RUN, LOG, STATE = ROOT / "run", ROOT / "log", ROOT / "state"
SOCKET = RUN / "mariadb/mariadb.sock"


def why_not() -> str | None:
    """What is missing to run the test bed here; None where nothing is."""
    if os.geteuid() != 0:
        return "the SLURM test bed runs as root only"
    if missing := missing_commands():
        return f"SLURM's test bed needs {', '.join(missing)}; on Debian `make test-slurm` installs them"
    configuration = ETC / "slurm.conf"
    if configuration.exists() and "testbed.py" not in configuration.read_text(encoding="utf-8"):
        return f"{configuration} is that of another cluster"
    return None


def missing_commands() -> list[str]:
    return [name for name in ("slurmctld", "slurmd", "slurmdbd", "munged", "mariadbd") if not shutil.which(name)]


def install() -> None:
    """Debian's packages, without starting their services; nothing where they are there."""
    if not missing_commands():
        return
    no_services = Path("/usr/sbin/policy-rc.d")
    if not no_services.exists():
        no_services.write_text("#!/bin/sh\nexit 101\n", encoding="utf-8")
        no_services.chmod(0o755)
    quiet = ["apt-get", "-qq", "-o", "Dpkg::Use-Pty=0"]
    subprocess.run([*quiet, "update"], check=True)
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    subprocess.run([*quiet, "install", "--yes", "--no-install-recommends", *PACKAGES], check=True, env=environment)


def start() -> None:
    """A fresh cluster; about ten seconds."""
    if (reason := why_not()) is not None:
        sys.exit(reason)
    if running():
        sys.exit(f"already running: {', '.join(running())}; stop it first")
    shutil.rmtree(ROOT, ignore_errors=True)
    for folder in (ROOT / "dev", RUN, LOG, STATE / "slurmctld", SOCKET.parent, STATE / "mariadb", ETC):
        folder.mkdir(parents=True, exist_ok=True)
    configure()
    start_munge()
    start_mariadb()
    start_slurmdbd()
    sacctmgr("add", "cluster", "testbed")
    daemon("slurmctld", "-c")
    wait_until(lambda: succeeds("scontrol", "ping"), "slurmctld")
    sacctmgr("add", "account", ACCOUNT, "Description=tests", "Organization=tests")
    sacctmgr("add", "user", "root", f"account={ACCOUNT}")
    for node in NODES:
        start_node(node)
    wait_until(lambda: all(state(node) == "idle" for node in NODES), "idle nodes")


def configure() -> None:
    for device in ("nvidia0", "nvidia1"):
        (ROOT / "dev" / device).symlink_to("/dev/null")
    for template in TEMPLATES.glob("*.conf"):
        text = string.Template(template.read_text(encoding="utf-8"))
        written = ETC / template.name
        written.write_text(text.substitute(root=ROOT, host=socket.gethostname().split(".")[0]), encoding="utf-8")
    (ETC / "slurmdbd.conf").chmod(0o600)  # slurmdbd refuses anything wider


def start_munge() -> None:
    key = STATE / "munge.key"
    key.write_bytes(os.urandom(128))
    key.chmod(0o400)  # munged refuses anything wider
    STATE.chmod(0o711)
    daemon(
        "munged",
        "--force",
        f"--key-file={key}",
        f"--socket={RUN / 'munge.sock'}",
        f"--pid-file={RUN / 'munged.pid'}",
        f"--log-file={LOG / 'munged.log'}",
        f"--seed-file={STATE / 'munged.seed'}",
    )
    wait_until(lambda: succeeds("munge", "-S", str(RUN / "munge.sock"), "-n"), "munged")


def start_mariadb() -> None:
    data = STATE / "mariadb"
    for folder in (data, SOCKET.parent):
        shutil.chown(folder, "mysql", "mysql")
    common = ["--no-defaults", "--user=mysql", f"--datadir={data}"]
    with (LOG / "mariadb.log").open("w") as log:
        setup = ["mariadb-install-db", *common, "--skip-test-db", "--auth-root-authentication-method=normal"]
        subprocess.run(setup, check=True, stdout=log, stderr=log)
        files = [f"--socket={SOCKET}", f"--pid-file={SOCKET.with_name('mariadbd.pid')}"]
        network = ["--bind-address=127.0.0.1", "--port=16806", "--skip-name-resolve"]
        subprocess.Popen(
            ["mariadbd", *common, *files, *network, "--innodb-lock-wait-timeout=900"],  # slurmdbd asks for the last
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    client = ["--no-defaults", f"--socket={SOCKET}"]
    wait_until(lambda: succeeds("mariadb-admin", *client, "ping"), "mariadbd")
    grant = (
        "CREATE DATABASE slurm_acct_db; CREATE USER 'slurm'@'127.0.0.1' IDENTIFIED BY 'slurm';"
        " GRANT ALL ON slurm_acct_db.* TO 'slurm'@'127.0.0.1'"
    )
    subprocess.run(["mariadb", *client, "-e", grant], check=True)


def start_slurmdbd() -> None:
    daemon("slurmdbd")
    wait_until(lambda: succeeds("sacctmgr", "-n", "list", "cluster"), "slurmdbd")


def start_slurmctld() -> None:
    """The controller again, with the jobs that it knew."""
    daemon("slurmctld")
    wait_until(lambda: succeeds("scontrol", "ping"), "slurmctld")


def start_node(node: str) -> None:
    (STATE / f"slurmd-{node}").mkdir(exist_ok=True)
    daemon("slurmd", "-N", node)


def kill_node(node: str) -> None:
    """Cut a node's power: its slurmd and all processes of its jobs end at once, without a word to the controller."""
    jobs = set(output("squeue", "-h", "-w", node, "-t", "R,CG", "-o", "%A").split())
    pid_file = RUN / f"slurmd-{node}.pid"
    os.kill(int(pid_file.read_text()), signal.SIGKILL)
    pid_file.unlink()
    for process in Path("/proc").glob("[0-9]*"):
        try:
            here = f"SLURMD_NODENAME={node}".encode() in (process / "environ").read_bytes().split(b"\0")
            title = (process / "cmdline").read_bytes()
        except OSError:  # it has ended
            continue
        if here or any(title.startswith(f"slurmstepd: [{job}.".encode()) for job in jobs):
            os.kill(int(process.name), signal.SIGKILL)


def stop() -> None:
    """All jobs, then all daemons. Without them SLURM's commands would wait: the configuration goes, too."""
    if "slurmctld" in running():
        subprocess.run(["scancel", "--user=root"], check=False)
        wait_until(lambda: not output("squeue", "-h"), "the end of all jobs")
    for name in (*(f"slurmd-{node}" for node in NODES), "slurmctld", "slurmdbd", "mariadbd", "munged"):
        stop_daemon(name)
    if why_not() is None:
        for template in TEMPLATES.glob("*.conf"):
            (ETC / template.name).unlink(missing_ok=True)


def stop_daemon(name: str) -> None:
    """End a daemon by the process id that it wrote; where it does not end within ten seconds, by force."""
    if (pid := running().get(name)) is None:
        return
    for number in (signal.SIGTERM, signal.SIGKILL):
        os.kill(pid, number)
        with contextlib.suppress(TimeoutError):
            return wait_until(lambda: not command_of(pid), f"the end of {name}", 10)


def running() -> dict[str, int]:
    """Process ids of the daemons that live, by name."""
    found = {}
    for pid_file in [*RUN.glob("*.pid"), *SOCKET.parent.glob("*.pid")]:
        with contextlib.suppress(OSError, ValueError):  # it is ending, or starting
            pid = int(pid_file.read_text())
            if pid_file.stem.partition("-")[0].encode() in command_of(pid):
                found[pid_file.stem] = pid
    return found


def command_of(pid: int) -> bytes:
    """The command line of a process; empty where it has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def state(node: str) -> str:
    return output("sinfo", "-h", "-n", node, "-o", "%T").split("\n")[0]


def daemon(*command: str) -> None:
    """Start what goes to the background by itself and writes its process id to a file."""
    with (LOG / "start.log").open("a") as log:
        subprocess.run(command, check=True, stdin=subprocess.DEVNULL, stdout=log, stderr=log)


def sacctmgr(*words: str) -> None:
    subprocess.run(["sacctmgr", "-i", *words], check=False, stdout=subprocess.DEVNULL)


def output(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def succeeds(*command: str) -> bool:
    return subprocess.run(command, check=False, capture_output=True).returncode == 0


def wait_until(condition: Callable[[], bool], what: str, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"waited {seconds} s for {what}; see {LOG}")
        time.sleep(0.2)


if __name__ == "__main__":
    commands = {"install": install, "start": start, "stop": stop, "kill-node": kill_node, "start-node": start_node}
    match sys.argv[1:]:
        case ["status"]:
            print(*(f"{name} {pid}" for name, pid in running().items()), sep="\n")
        case [command, *arguments] if command in commands:
            commands[command](*arguments)
        case _:
            sys.exit(__doc__)
