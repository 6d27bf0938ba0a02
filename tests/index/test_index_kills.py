"""Building an index, adding to it and removing from it, killed at any moment: the file is the old one or the new one.

Processes kill themselves from within, at a step of SQLite or when a file is opened, moved or removed.
"""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from pathlib import Path

import index_files
import numpy as np
import pytest

from tfplaces.index import open_index

PROGRAM = Path(index_files.__file__)
ACTIONS = ("build", "add", "remove")


def run(action: str, folder: Path, moment: int) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, PROGRAM, action, folder, str(moment)],
        capture_output=True, text=True, cwd=PROGRAM.parents[1], env={"PYTHONPATH": str(PROGRAM.parents[1])},
    )  # fmt: skip
    assert done.returncode in (0, -signal.SIGKILL), done.stderr
    return done.returncode, done.stdout


def prepare(folder: Path) -> None:
    """Photos 0 to 19; in the second folder 10 to 29, of which 12 is another picture."""
    for number in range(20):
        index_files.write_photo(folder / "first" / f"{number}.png", number)
    for number in range(10, 30):
        index_files.write_photo(folder / "second" / f"{number}.png", number + 1000 * (number == 12))
    index_files.write_model(folder)


def content(path: Path) -> tuple[list, bytes] | None:
    """Everything in an index; None where there is none."""
    if not path.exists():
        return None
    with open_index(path) as index:
        codes = np.concatenate([codes for _, codes in index.blocks()]).tobytes()
        return [*index.every_place(), *(index.thumbnail(row) for row in range(len(index)))], codes


def check(folder: Path, per_action: int) -> None:
    """Kills each action at random moments, looks at what is there, and runs it to its end."""
    rng = np.random.default_rng(0)
    prepare(folder)
    index, work = folder / "town.index", folder / "town.index.work"
    kills = 0
    for action in ACTIONS:
        old = content(index)
        kept = index.read_bytes() if old else None
        code, events = run(action, folder, 0)  # to its end, to see how much happens
        assert code == 0
        new = content(index)
        assert new is not None and new != old
        for moment in [*rng.integers(1, int(events) + 1, per_action - 1).tolist(), int(events)]:
            index.unlink()
            if kept:
                index.write_bytes(kept)
            killed = run(action, folder, moment)[0] == -signal.SIGKILL
            kills += killed
            found = content(index)
            assert found in (old, new)
            if found != new:  # the same command goes on
                assert run(action, folder, 0)[0] == 0
                assert content(index) == new
            shutil.rmtree(work, ignore_errors=True)
        assert not [path for path in folder.iterdir() if path.name.startswith("town.index-")]
    assert kills >= len(ACTIONS) * per_action - 2


def test_killed_once_each(tmp_path: Path) -> None:
    check(tmp_path, 1)


@pytest.mark.slow
def test_killed_at_many_moments(tmp_path: Path) -> None:
    check(tmp_path, 12)
