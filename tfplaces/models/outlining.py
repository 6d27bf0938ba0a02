"""Models whose weights have shapes and no values: to look at, however large, without their memory."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import keras


def outline(build: Callable[..., keras.Model], *args, **options) -> keras.Model:
    """Calls what builds a model without making values for its weights.

    In a thread of its own: Keras lists the weights that have no values by thread, and would make them with those of the
    next model that is built by calling it.
    """

    def run() -> keras.Model:
        with keras.StatelessScope(initialize_variables=False):
            return build(*args, **options)

    with ThreadPoolExecutor(1) as thread:
        return thread.submit(run).result()
