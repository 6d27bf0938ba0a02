"""The one place that imports TensorFlow Model Optimization, for its schedules: they need care beside Keras 3."""

from __future__ import annotations

import os
from types import ModuleType

_LEGACY = "TF_USE_LEGACY_KERAS"


def import_tfmot() -> ModuleType:
    """Imports `tensorflow_model_optimization` and leaves `tf.keras` and the environment as they were.

    Its schedules work without its wrappers: `import_tfmot().sparsity.keras.PolynomialDecay(...)(step)` gives
    (should_prune, sparsity), a bool and a float32 tensor.
    """
    import tensorflow as tf

    # TF-MOT sets the variable for itself. If tf.keras, which is lazy, came later, it would become tf_keras here and in
    # every child process.
    tf.keras.layers  # noqa: B018
    before = os.environ.get(_LEGACY)
    try:
        import tensorflow_model_optimization
    finally:
        os.environ.pop(_LEGACY, None)
        if before is not None:
            os.environ[_LEGACY] = before
    return tensorflow_model_optimization
