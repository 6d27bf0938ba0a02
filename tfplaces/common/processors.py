"""How many threads are worth starting."""

from __future__ import annotations

import os


def usable_processors() -> int:
    """The number of processors that this process may run on, at least 1.

    It respects what `taskset`, a batch system or a container's cpuset allows; `os.cpu_count()` counts the machine's.
    """
    if hasattr(os, "sched_getaffinity"):  # Linux
        return max(1, len(os.sched_getaffinity(0)))
    return os.cpu_count() or 1
