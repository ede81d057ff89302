"""Ends the processes that a killed run has left in its data directory."""

import os
import signal
import time
from contextlib import suppress

import psutil

from cli.embedded.child import kill_group
from cli.embedded.directory import ChildRecord, DataDirectory
from cli.signals import POLL_S

GRACE_S = 10.0
"""How long the processes may take to end; Postgres writes a checkpoint meanwhile."""
CLOCK_SLACK_S = 2.0
"""Start times are derived from the boot time, which shifts when the clock is adjusted."""


def end_leftovers(directory: DataDirectory) -> int:
    """End the processes that a killed run has left; return their number. The caller holds the lock.

    A process is ours if its pid and start time match the record. If it is gone but its process
    group is not, the group is ours: the kernel gives no new process the number of a group.
    """
    record = directory.read_record()
    if record is None:
        return 0
    groups = {child.pid for child in record.children if _leads_our_group(child)}
    found = len(_living(groups))
    # SIGINT has Postgres write a checkpoint and end. All others are killed at once.
    for signum in (signal.SIGINT, signal.SIGKILL):
        postgres = {c.pid for c in record.children if c.name == "postgres"} & groups
        for pid in groups - postgres:
            kill_group(pid, signal.SIGKILL)
        for pid in postgres:
            kill_group(pid, signum)
        deadline = time.monotonic() + GRACE_S
        while _living(groups) and time.monotonic() < deadline:
            time.sleep(POLL_S)
    directory.remove_record()
    return found


def _living(groups: set[int]) -> list[int]:
    """Return the pids in these process groups, without zombies."""
    pids = []
    for process in psutil.process_iter():
        with suppress(ProcessLookupError, PermissionError, psutil.NoSuchProcess):
            in_group = os.getpgid(process.pid) in groups
            if in_group and process.status() != psutil.STATUS_ZOMBIE:
                pids.append(process.pid)
    return pids


def _leads_our_group(child: ChildRecord) -> bool:
    if child.created_at < psutil.boot_time() - CLOCK_SLACK_S:
        return False  # it was started before the machine's last boot
    try:
        created_at = float(psutil.Process(child.pid).create_time())
    except psutil.NoSuchProcess:
        return True
    return abs(created_at - child.created_at) < CLOCK_SLACK_S
