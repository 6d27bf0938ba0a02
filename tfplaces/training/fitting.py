"""One fit over all epochs, which goes on where it was interrupted and stops where it diverges."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence

import keras
import numpy as np

from tfplaces.common.errors import UserError
from tfplaces.describers import NonFiniteError
from tfplaces.training.backup import Backup
from tfplaces.training.batches import ImageBatches
from tfplaces.training.checkpoint import Checkpoint


class DivergedError(UserError):
    """Loss or weights have become infinite or no number."""


def fit(
    fitted: keras.Model,
    batches: ImageBatches,
    epochs: int,
    *,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    checkpoint: Checkpoint | None = None,
) -> None:
    """Fits a compiled model by one call of Keras's `fit`.

    The same call with the same seed gives the same weights on the same machine and number of CPU cores; sums are taken
    in another order on another number of cores. With a checkpoint that holds for a call that goes on where another was
    killed, too.

    Args:
        fitted: the model.
        batches: the data.
        epochs: how many epochs in all.
        callbacks: Keras callbacks. Of their state, what is plain survives an interruption, see `Backup`.
        checkpoint: where the state is kept after every epoch, and gone on from.

    Raises:
        DivergedError: loss or weights are not finite any more; the weights are then those of the last checkpoint, if
            there is one.
        UserError: the checkpoint is of another fit.
    """
    with fitted.distribute_strategy.scope():
        _fit(fitted, batches, epochs, callbacks, checkpoint)


def _fit(
    fitted: keras.Model,
    batches: ImageBatches,
    epochs: int,
    callbacks: Sequence[keras.callbacks.Callback],
    checkpoint: Checkpoint | None,
) -> None:
    """See `fit`; in the scope of the strategy that the model was made in, which restoring an optimizer needs."""
    done = 0
    stop = StopIfDiverged()
    given = [stop, *callbacks]
    every = [batches.driver(), *given]
    if checkpoint is not None:
        backup = Backup(checkpoint, given, batches)
        every.append(backup)
        found = backup.restore(fitted)
        if found is not None:
            if found["ended"]:
                return
            print(f"going on after epoch {found['epoch']} of {epochs}", file=sys.stderr)
            done = epochs if found["stopped"] else found["epoch"]
    replicas = fitted.distribute_strategy.num_replicas_in_sync
    batches.for_replicas(replicas)
    if replicas > 1:
        print(
            f"training on {replicas} devices, which share every batch; images beyond a multiple of {replicas} are left "
            "out of it",
            file=sys.stderr,
        )
    try:
        # With the weights that the epoch starts with: Keras looks at batches before any callback is called.
        batches.start_epoch(done)
        fitted.fit(
            batches,
            initial_epoch=done,
            epochs=epochs,
            shuffle=False,
            verbose=1 if sys.stderr.isatty() else 2,
            callbacks=every,
        )
    except (DivergedError, NonFiniteError) as error:
        if checkpoint is not None:
            checkpoint.restore(fitted)
        # Batches that the network chooses, and its judge, may meet what has become of it before a loss tells.
        if isinstance(error, NonFiniteError) and stop.begun:
            raise stop.error("a descriptor") from None
        raise
    finally:
        batches.close()


class StopIfDiverged(keras.callbacks.Callback):
    """Ends a fit whose loss, or a weight after an epoch, is infinite or no number; for anybody's `fit`.

    Attributes:
        begun: whether a step has been done.

    Raises:
        DivergedError: from `fit`.
    """

    def __init__(self) -> None:
        super().__init__()
        self._epoch = 0
        self.begun = False

    def on_epoch_begin(self, epoch, logs=None):
        self._epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        self.begun = True
        loss = (logs or {}).get("loss", 0.0)
        if not math.isfinite(loss):
            raise self.error("the loss")

    def on_epoch_end(self, epoch, logs=None):
        if not all(np.all(np.isfinite(weights)) for weights in self.model.get_weights()):
            raise self.error("a weight")

    def error(self, what: str) -> DivergedError:
        """The error, of the present epoch and learning rate."""
        rate = float(self.model.optimizer.learning_rate)
        return DivergedError(
            f"training diverged in epoch {self._epoch + 1}: {what} is not finite any more; lower the learning rate, "
            f"which is {rate:g}"
        )
