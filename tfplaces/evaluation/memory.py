"""Memory of this process, on Linux. Not by getrusage: its peak is inherited from the parent and never goes down."""

from __future__ import annotations

import re


def resident() -> int:
    """Bytes in memory now."""
    return _status("VmRSS")


def peak() -> int:
    """The most bytes in memory since `reset_peak`."""
    return _status("VmHWM")


def reset_peak() -> int:
    """Forgets the peak so far. Returns the bytes in memory now."""
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")
    return resident()


def _status(key: str) -> int:
    with open("/proc/self/status") as file:
        found = re.search(rf"{key}:\s*(\d+) kB", file.read())
    if found is None:
        raise RuntimeError(f"/proc/self/status has no {key}")
    return 1024 * int(found[1])
