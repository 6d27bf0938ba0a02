"""The folder in which an interrupted run finds what it had done."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tfplaces.common.errors import UserError
from tfplaces.common.files import WORKING, hold, is_held, sha256, write_json
from tfplaces.training.checkpoint import Checkpoint

# What says which run it is.
_RUN = "run.json"


class WorkDir:
    """A folder for the state of one run. Used in a `with`, it goes when the run succeeds, or fails with nothing kept.

    Args:
        path: the folder. It is made where it is missing, with those above it, which go with it when the run fails.
    """

    def __init__(self, path: str | os.PathLike):
        self.path = os.fspath(path)
        self._held: int | None = None
        self._made = list(_missing_above(self.path))
        os.makedirs(self.path, exist_ok=True)

    @classmethod
    def of_run(
        cls, path: str | os.PathLike, identity: Mapping[str, Any], files: Sequence[str | os.PathLike] = ()
    ) -> WorkDir:
        """The folder of a run, which finds in it what an interrupted one of the same had done.

        It is held until the end of the `with`, or of the process, so that no second run works in it.

        Args:
            path: the folder.
            identity: what the run is, plain JSON types.
            files: those that are worked on, which must not have changed in between.

        Raises:
            UserError: the folder holds another run, or something else, or another run is at work in it.
        """
        found_again = json.loads(json.dumps({**identity, "sha256": [sha256(file) for file in files]}))
        work_dir = cls(path)
        work_dir._held = hold(work_dir.path)
        if work_dir._held is None and is_held(work_dir.path):
            raise UserError(
                f"{work_dir.path}: another run is at work in this folder; wait for its end, or name another --output"
            )
        try:
            work_dir._take_up(found_again)
        except BaseException:
            work_dir._release()
            raise
        return work_dir

    def _take_up(self, identity: dict[str, Any]) -> None:
        run = self.file(_RUN)
        if self._kept():
            found = None
            with contextlib.suppress(OSError, ValueError), open(run, encoding="utf-8") as file:
                found = json.load(file)
            if not isinstance(found, dict):
                raise UserError(f"{self.path}: is not the state of a run; remove it, or name another folder")
            changed = sorted(key for key in identity.keys() | found.keys() if identity.get(key) != found.get(key))
            if changed:
                raise UserError(
                    f"{self.path}: holds the state of another run, with another {' and '.join(changed)}; remove it, or "
                    "name another folder"
                )
        write_json(run, identity)

    def _kept(self) -> list[str]:
        """What is in the folder but for what a killed run was writing."""
        return [name for name in os.listdir(self.path) if not name.startswith(WORKING)]

    def _release(self) -> None:
        if self._held is not None:
            os.close(self._held)
            self._held = None

    def __enter__(self) -> WorkDir:
        return self

    def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
        if error is None or self._kept() == [_RUN]:
            shutil.rmtree(self.path)
        self._release()
        if error is not None:
            for folder in self._made:
                with contextlib.suppress(OSError):  # there is something in it by now
                    os.rmdir(folder)

    def child(self, name: str) -> WorkDir:
        """A folder in it."""
        return WorkDir(os.path.join(self.path, name))

    def file(self, name: str) -> str:
        """Path of a file in it."""
        return os.path.join(self.path, name)

    def checkpoint(self, name: str) -> Checkpoint:
        """Where a fit keeps its state."""
        return Checkpoint(self.file(f"{name}.npz"))


def _missing_above(path: str) -> Iterator[str]:
    """The folders above a path that are not there, the lowest first."""
    above = os.path.dirname(os.path.abspath(path))
    while not os.path.exists(above):
        yield above
        above = os.path.dirname(above)
