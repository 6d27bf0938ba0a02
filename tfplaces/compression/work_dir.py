"""The folder in which an interrupted run finds what it had done."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Mapping
from typing import Any

from tfplaces.common.errors import UserError
from tfplaces.common.files import sha256, write_json
from tfplaces.training.fitting import Checkpoint

# What says which run it is.
_RUN = "run.json"


class WorkDir:
    """A folder for the state of one run. Used in a `with`, it goes when the run succeeds, or fails with nothing kept.

    Args:
        path: the folder; made where missing.
    """

    def __init__(self, path: str | os.PathLike):
        self.path = os.fspath(path)
        os.makedirs(self.path, exist_ok=True)

    @classmethod
    def of_run(cls, path: str | os.PathLike, identity: Mapping[str, Any], model: str | os.PathLike) -> WorkDir:
        """The folder of a run, which finds in it what an interrupted one of the same had done.

        Args:
            path: the folder.
            identity: what the run is, plain JSON types.
            model: the file that is worked on, which must not have changed in between.

        Raises:
            ValueError: the folder holds another run, or something else.
        """
        path = os.fspath(path)
        identity = json.loads(json.dumps({**identity, "sha256": sha256(model)}))
        run = os.path.join(path, _RUN)
        if os.path.isdir(path) and os.listdir(path):
            found = None
            with contextlib.suppress(OSError, ValueError), open(run, encoding="utf-8") as file:
                found = json.load(file)
            if found != identity:
                raise UserError(
                    f"{path}: holds the state of another run, or something else; remove it, or name another --work_dir"
                )
        work_dir = cls(path)
        write_json(run, identity)
        return work_dir

    def __enter__(self) -> WorkDir:
        return self

    def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
        if error is None or os.listdir(self.path) == [_RUN]:
            shutil.rmtree(self.path)

    def child(self, name: str) -> WorkDir:
        """A folder in it."""
        return WorkDir(os.path.join(self.path, name))

    def file(self, name: str) -> str:
        """Path of a file in it."""
        return os.path.join(self.path, name)

    def checkpoint(self, name: str) -> Checkpoint:
        """Where a fit keeps its state."""
        return Checkpoint(self.file(f"{name}.npz"))
