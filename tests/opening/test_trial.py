"""A model that crashes its process is an error in one line; what is opened in the process itself is not tried."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.tflite_files import network
from tfplaces.common.errors import UserError
from tfplaces.evaluation import cost
from tfplaces.opening import try_model


def test_a_sound_model_and_a_damaged_one(tmp_path: Path) -> None:
    path = tmp_path / "m.tflite"
    path.write_bytes(network())
    try_model(path)
    with pytest.raises(UserError, match=r"m\.tflite: takes images of 8x8 only"):
        try_model(path, (16, 16))
    path.write_bytes(network()[:900])
    with pytest.raises(UserError, match=r"m\.tflite: a TFLite model cut short or damaged"):
        try_model(path)


def test_a_crash_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    popen = subprocess.Popen
    crash = "import os; os.kill(os.getpid(), 11)"
    monkeypatch.setattr(cost.subprocess, "Popen", lambda command, **rest: popen([sys.executable, "-c", crash], **rest))
    with pytest.raises(UserError, match=r"m\.tflite: cannot be run: it ends the process by SIGSEGV") as error:
        try_model(tmp_path / "m.tflite")
    assert os.linesep not in str(error.value)


HUNGRY = """
import os
import numpy as np
from tfplaces.opening import serving

def load(path, input_size, threads):
    return np.ones(2 * os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"), np.uint8)

serving.load_describer = load
serving._serve("m.tflite", None, 1)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="memory is bounded on Linux only")
def test_more_memory_than_the_machine_has_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not even begun to be used."""
    popen = subprocess.Popen
    monkeypatch.setattr(cost.subprocess, "Popen", lambda command, **rest: popen([sys.executable, "-c", HUNGRY], **rest))
    with pytest.raises(UserError, match=r"m\.tflite: cannot be run: .*Unable to allocate.*"):
        try_model(tmp_path / "m.tflite")


def test_keras_models_are_not_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cost, "running", lambda *_: pytest.fail("a process was begun"))
    try_model("none.keras")
