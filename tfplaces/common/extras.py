"""Which extra of the package brings a dependency that is not installed.

The plain install has what reads and packs models; LiteRT, TensorFlow and the rest come with extras, see `setup.cfg`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

# Name to import: name to show, and the extra that brings it.
_DEPENDENCIES = {
    "ai_edge_litert": ("LiteRT", "lite"),
    "ai_edge_quantizer": ("ai-edge-quantizer", "train"),
    "constriction": ("constriction", "benchmark"),
    "faiss": ("faiss-cpu", "benchmark"),
    "flatbuffers": ("flatbuffers", "train"),
    "h5py": ("h5py", "datasets"),
    "keras": ("TensorFlow", "train"),  # its backend here
    "matplotlib": ("matplotlib", "train"),
    "scipy": ("SciPy", "train"),
    "sklearn": ("scikit-learn", "train"),
    "tensorboard": ("TensorBoard", "tensorboard"),
    "tensorflow": ("TensorFlow", "train"),
    "tensorflow_model_optimization": ("TF-MOT", "train"),
    "tf_keras": ("tf_keras", "train"),
    "zstandard": ("zstandard", "benchmark"),
}


class MissingExtraError(ModuleNotFoundError):
    """A dependency is not installed that an extra of this package brings; the message says which."""


@contextlib.contextmanager
def needed_by(what: str) -> Iterator[None]:
    """Says in the message of a failed import what needs the module and which extra to install.

    Args:
        what: the tool or function, as in `X needs TensorFlow: pip install 'tfplaces[train]'`.

    Raises:
        MissingExtraError: a module could not be imported that an extra brings.
    """
    try:
        yield
    except MissingExtraError:  # raised further in, where more is known
        raise
    except ModuleNotFoundError as error:
        found = _DEPENDENCIES.get((error.name or "").partition(".")[0])
        if found is None:
            raise
        name, extra = found
        message = f"{what} needs {name}: pip install 'tfplaces[{extra}]'"
        raise MissingExtraError(message, name=error.name) from error
