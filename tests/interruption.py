"""A run that is broken off."""

from __future__ import annotations

import keras


class Interrupt(keras.callbacks.Callback):
    """Ctrl-C at a step, counted over all epochs and fits."""

    def __init__(self, step: int):
        super().__init__()
        self.left = iter(range(step - 1))  # no state that a resumed fit restores

    def on_train_batch_end(self, batch, logs=None):
        if next(self.left, None) is None:
            raise KeyboardInterrupt
