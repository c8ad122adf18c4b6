"""How many cores this process may use."""

import os
from contextlib import suppress
from pathlib import Path

QUOTA = Path("/sys/fs/cgroup/cpu.max")
"""Linux' limit of a container: microseconds of processor time, or `max`, and the period in which it may use them
(docs.kernel.org/admin-guide/cgroup-v2.html)."""


def usable_cores() -> int:
    """Those that the system gives us, less where a container's quota is smaller; at least one."""
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    else:
        cores = os.cpu_count() or 1
    with suppress(OSError, ValueError):  # no quota
        most, period = QUOTA.read_text().split()
        cores = min(cores, int(most) // int(period))
    return max(cores, 1)
