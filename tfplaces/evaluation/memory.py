"""Memory of this process, on Linux. Not by getrusage: its peak is inherited from the parent and never goes down."""

from __future__ import annotations

import contextlib
import re
import threading
from collections.abc import Iterator

# Seconds between two looks at the memory of this process.
_INTERVAL = 0.01


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


def anonymous() -> int:
    """Bytes in memory now, without what is mapped from files, which the system may drop."""
    return _status("RssAnon")


@contextlib.contextmanager
def peak_anonymous() -> Iterator[list[int]]:
    """Gives a list whose number, in the end, is the most bytes of `anonymous` since; they are looked at every 10 ms."""
    found, done = [anonymous()], threading.Event()

    def watch() -> None:
        while not done.wait(_INTERVAL):
            found[0] = max(found[0], anonymous())

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield found
    finally:
        done.set()
        thread.join()


def _status(key: str) -> int:
    with open("/proc/self/status") as file:
        found = re.search(rf"{key}:\s*(\d+) kB", file.read())
    if found is None:
        raise RuntimeError(f"/proc/self/status has no {key}")
    return 1024 * int(found[1])
