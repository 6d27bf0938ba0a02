"""TF-MOT beside Keras 3, in fresh processes: whoever comes first, `tf.keras` and the environment stay as they were."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tfplaces.compression.tfmot import import_tfmot

OURS = """
from tfplaces.compression.tfmot import import_tfmot
schedule = import_tfmot().sparsity.keras.PolynomialDecay(0.0, 0.5, begin_step=0, end_step=100, frequency=10)
assert float(schedule(100)[1]) == 0.5
"""
THEIRS = "import tensorflow as tf\ntf.keras.layers.Dense(1)\n"
REPORT = """
import os, tensorflow as tf
version = getattr(tf.keras, "__version__", None) or tf.keras.layers.Dense.__module__
print(version.split(".")[0], os.environ.get("TF_USE_LEGACY_KERAS"))
"""


# A whole compression, with a way to fine-tune that takes a few steps.
COMPRESS = """
import keras, numpy as np
from tfplaces.compression import Recipe, compress
model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(16), keras.layers.Dense(4)])
class Tuning:
    steps = 10
    def __init__(self):
        self.model = model
    def fit(self, fitted, callbacks, checkpoint, keep_best):
        fitted.compile("adam", "mse")
        x = np.ones((20, 8))
        fitted.fit(x, x[:, :4], batch_size=2, verbose=0, callbacks=list(callbacks))
assert 39 < compress(model, Recipe(sparsity=0.4, schedule="polynomial"), Tuning()).pruned < 45
"""


def run(code: str, **variables: str) -> str:
    environment = {name: value for name, value in os.environ.items() if name != "TF_USE_LEGACY_KERAS"}
    process = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env={**environment, **variables}
    )
    assert process.returncode == 0, process.stderr
    return process.stdout.strip()


@pytest.mark.parametrize(
    "code",
    [
        OURS + THEIRS,
        THEIRS + OURS,
        "import tfplaces.compression\n" + OURS,
        OURS + "import tfplaces.compression\n",
        COMPRESS,
    ],
    ids=["ours first", "tf.keras first", "library first", "library last", "a ramp"],
)
def test_keras_stays_keras_3(code: str) -> None:
    assert run(code + REPORT) == "3 None"


@pytest.mark.parametrize("code", [OURS + THEIRS, THEIRS + OURS])
def test_a_users_choice_of_legacy_keras_is_kept(code: str) -> None:
    assert run(code + REPORT, TF_USE_LEGACY_KERAS="1") == "tf_keras 1"
    assert run(code + REPORT, TF_USE_LEGACY_KERAS="0") == "3 0"


def test_the_library_imports_it_lazily() -> None:
    assert run("import sys, tfplaces.compression; print('tensorflow_model_optimization' in sys.modules)") == "False"


def test_schedules_work_alone() -> None:
    schedules = import_tfmot().sparsity.keras
    # final + (initial − final) (1 − (step − begin) / (end − begin))³ (Zhu and Gupta 2017, equation 1), every 10 steps.
    decay = schedules.PolynomialDecay(0.2, 0.8, begin_step=100, end_step=200, power=3, frequency=10)
    for step, due, sparsity in [(90, False, None), (100, True, 0.2), (150, True, 0.725), (155, False, None),
                                (200, True, 0.8), (210, False, None)]:  # fmt: skip
        should_prune, value = decay(step)
        assert bool(should_prune) == due, step
        assert sparsity is None or float(value) == pytest.approx(sparsity)
    constant = schedules.ConstantSparsity(0.6, begin_step=10, frequency=5)
    assert [bool(constant(step)[0]) for step in (5, 10, 12, 15)] == [False, True, False, True]
    assert float(constant(15)[1]) == pytest.approx(0.6)
