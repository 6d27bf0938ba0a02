"""tfplaces: place recognition that fits in a phone.

`import tfplaces` is light; TensorFlow is imported when something that needs it is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from tfplaces.common.extras import needed_by
from tfplaces.version import __version__

if TYPE_CHECKING:
    from tfplaces import (
        coding,
        compression,
        datasets,
        describers,
        evaluation,
        index,
        layers,
        lite,
        losses,
        models,
        training,
    )
    from tfplaces.datasets import load_dataset
    from tfplaces.evaluation import evaluate
    from tfplaces.models import PlaceNet
    from tfplaces.opening import load_describer, load_model

_MODULES = (
    "coding", "compression", "datasets", "describers", "evaluation", "index", "layers", "lite", "losses", "models",
    "opening", "pretrained", "training",
)  # fmt: skip
_NAMES = {
    "PlaceNet": "models",
    "evaluate": "evaluation",
    "load_dataset": "datasets",
    "load_describer": "opening",
    "load_model": "opening",
}

__all__ = [
    "PlaceNet", "__version__", "coding", "compression", "datasets", "describers", "evaluate", "evaluation", "index",
    "layers", "lite", "load_dataset", "load_describer", "load_model", "losses", "models", "training",
]  # fmt: skip


def __getattr__(name: str):
    with needed_by(f"tfplaces.{name}"):
        if name in _MODULES:
            return importlib.import_module(f"tfplaces.{name}")
        if name in _NAMES:
            return getattr(importlib.import_module(f"tfplaces.{_NAMES[name]}"), name)
    raise AttributeError(f"module 'tfplaces' has no attribute {name!r}")


def __dir__():
    return sorted({*globals(), *_MODULES, *_NAMES})
