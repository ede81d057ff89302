"""Whether processes run."""

import psutil


def is_alive(process: psutil.Process) -> bool:
    """Whether a process runs. One that has ended may stay a zombie for as long as init pleases."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
