"""One look for all progress: on stderr, with an estimate, and only where a person is watching or it takes a while."""

from __future__ import annotations

import sys

import tqdm


def progress(total: int, label: str, unit: str) -> tqdm.tqdm:
    """A progress bar with an estimate of the time left; it appears after a second and goes when done.

    Where stderr is no terminal it prints a line every ten seconds.

    Args:
        total: number of steps.
        label: what is being done.
        unit: what is being counted, singular.
    """
    interval = 0.1 if sys.stderr.isatty() else 10.0
    return tqdm.tqdm(total=total, desc=label, unit=unit, delay=1.0, leave=False, mininterval=interval, file=sys.stderr)


def say_step(text: str) -> None:
    """Tells on stderr what begins."""
    print(f"* {text}", file=sys.stderr, flush=True)
