"""What compression does to a network while it is fitted, for TensorBoard."""

from __future__ import annotations

import keras
import numpy as np
import tensorflow as tf

from tfplaces.common.errors import UserError
from tfplaces.compression.finetuning import SharedTraining
from tfplaces.compression.kernels import find_kernels

# Kernels are looked through after this many steps; the loss is written after each.
_FREQUENCY = 25


class Monitor(keras.callbacks.Callback):
    """Writes loss, Σ|W|, sparsity and levels, in all and by kernel, for TensorBoard. For anybody's `fit`.

    Args:
        log_dir: folder for the event files.

    Raises:
        ValueError: TensorBoard is not installed.
    """

    def __init__(self, log_dir: str):
        super().__init__()
        try:
            import tensorboard  # noqa: F401
        except ImportError:
            raise UserError("TensorBoard is not installed: pip install tfplaces[tensorboard]") from None
        self._writer = tf.summary.create_file_writer(log_dir)
        self._step = 0

    def on_train_batch_end(self, batch, logs=None):
        with self._writer.as_default(self._step):
            for name, value in (logs or {}).items():
                tf.summary.scalar(f"fit/{name}", value)
            if self._step % _FREQUENCY == 0:
                self._write_kernels()
        self._step += 1

    def on_train_end(self, logs=None):
        self._writer.flush()

    def _write_kernels(self) -> None:
        kernels = find_kernels(getattr(self.model, "model", self.model))
        magnitudes, zeros = 0.0, 0
        for kernel in kernels:
            value = kernel.variable.value
            magnitude = float(tf.reduce_sum(tf.abs(value)))
            zero = kernel.size - int(tf.math.count_nonzero(value))
            tf.summary.scalar(f"l1/{kernel.name}", magnitude)
            tf.summary.scalar(f"sparsity/{kernel.name}", zero / kernel.size)
            magnitudes, zeros = magnitudes + magnitude, zeros + zero
        tf.summary.scalar("l1/all", magnitudes)
        tf.summary.scalar("sparsity/all", zeros / max(1, sum(kernel.size for kernel in kernels)))
        if isinstance(self.model, SharedTraining):
            for name, levels in self.model.levels().items():
                tf.summary.scalar(f"levels/{name}", len(np.unique(levels)))
                tf.summary.histogram(f"level values/{name}", levels)
