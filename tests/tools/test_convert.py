"""tools/convert.py: the check that travels with the file, rejection, and options."""

from __future__ import annotations

import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import keras
import pytest
import tensorflow as tf

from tfplaces.common.files import replacing
from tfplaces.describers import LiteRTDescriber


def test_verified(made, photos: Path, run, here: Path) -> None:
    data = f"folder:{photos}"
    code, out, err = run(
        "convert", f"--model={made.places}", "--output=a.tflite", f"--calibration={data}", f"--verify={data}",
        "--debug_layers", "--max_drop=50", "--descriptor_dim=4", "--input_size=any",
    )  # fmt: skip
    assert code == 0, err
    assert sorted(path.name for path in here.iterdir()) == ["a.json", "a.tflite"]
    report = json.loads((here / "a.json").read_text())
    assert report["file"] == "a.tflite" and report["precision"] == "mixed_int8"
    assert report["sha256"] == hashlib.sha256((here / "a.tflite").read_bytes()).hexdigest()
    assert report["output"]["shape"] == [1, 4] and report["input"]["shape"] == [1, "any", "any", 3]
    assert set(report["kernel_errors"].values()) == {0.0}
    (check,) = report["checks"]
    assert check["dataset"] == data and check["tflite"]["queries"] == 6 and check["drop"] == report["drop"] <= 50
    assert f"mAP {check['tflite']['map']:.2f}" in out and f"{len(report['kernel_errors'])} exactly as compressed" in out
    worst = report["worst_layers"][0]
    (line,) = [line.split() for line in out.splitlines() if line.startswith(f"{worst['layer']} ")]
    assert line[-1] == f"{100 * worst['added']:.2f}" and "what each adds" in out
    assert LiteRTDescriber(here / "a.tflite", (32, 48)).descriptor_dim == 4


def test_a_file_that_loses_too_much_is_rejected(made, photos: Path, run, here: Path) -> None:
    """No file loses less than -1000 points. What was there before stays."""
    (here / "a.tflite").write_bytes(b"before")
    (here / "a.json").write_text("{}")
    code, _, err = run(
        "convert", f"--model={made.keras}", "--output=a.tflite", f"--calibration=folder:{photos}",
        f"--verify=folder:{photos}", "--max_drop=-1000", "--overwrite",
    )  # fmt: skip
    assert code == 3
    assert "a.tflite.rejected: loses" in err and "more than max_drop=-1000; the layer that adds most error is" in err
    names = ["a.json", "a.tflite", "a.tflite.rejected", "a.tflite.rejected.json"]
    assert sorted(path.name for path in here.iterdir()) == names
    assert (here / "a.tflite").read_bytes() == b"before" and (here / "a.json").read_text() == "{}"
    report = json.loads((here / "a.tflite.rejected.json").read_text())
    assert report["sha256"] == hashlib.sha256((here / "a.tflite.rejected").read_bytes()).hexdigest()
    assert report["worst_layers"][0]["layer"] in err


@pytest.mark.slow
def test_full_int8_names_the_layer_that_hurts_or_is_forced(made, photos: Path, run, here: Path) -> None:
    data = f"folder:{photos}"
    arguments = ["convert", f"--model={made.places}", "--output=a.tflite", "--precision=full_int8", "--batch=2",
                 f"--calibration={data}", f"--verify={data}", "--max_drop=-1000"]  # fmt: skip
    code, _, err = run(*arguments, "--output_type=int8")
    assert code == 3 and re.search(r"the layer that adds most error is \w+ \(", err)
    report = json.loads((here / "a.tflite.rejected.json").read_text())
    assert report["input"]["type"] == "uint8" and report["output"]["type"] == "int8"
    assert {"netvlad", "whitening"} <= {layer["layer"] for layer in report["worst_layers"]}
    code, _, err = run(*arguments, "--force", "--overwrite")
    assert code == 0, err
    assert LiteRTDescriber(here / "a.tflite").descriptor_dim == 6


def test_a_float_file_is_rejected_too(made, photos: Path, run, here: Path) -> None:
    """It has no layers of integers to blame."""
    code, _, err = run(
        "convert", f"--model={made.keras}", "--output=a.tflite", "--precision=float32", f"--verify=folder:{photos}",
        "--max_drop=-1000",
    )  # fmt: skip
    assert code == 3 and err.endswith("more than max_drop=-1000; it has no layer of integers\n")
    assert sorted(path.name for path in here.iterdir()) == ["a.tflite.rejected", "a.tflite.rejected.json"]


def test_a_bare_model_is_shared_on_the_grid_first(made, photos: Path, run, here: Path) -> None:
    """And fine-tuned towards itself where that is asked for: the file holds the weights that came of it exactly."""
    code, _, err = run(
        "convert", f"--model={made.keras}", "--output=a.tflite", f"--calibration=folder:{photos}",
        f"--finetune=folder:{photos}", "--batch=3", "--input_type=float32", "--output_type=int8",
    )  # fmt: skip
    assert code == 0, err
    report = json.loads((here / "a.json").read_text())
    assert set(report["kernel_errors"].values()) == {0.0}
    assert report["input"] == {"type": "float32", "shape": [3, 48, 64, 3]}
    assert report["output"]["type"] == "int8" and "checks" not in report


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--output_type=int8", "--precision=float32"], "--output_type=int8 needs --calibration=SPEC"),
        (["--finetune=folder:no", "--precision=float16"], "--finetune is for a .keras file in a precision of integers"),
        (["--debug_layers", "--precision=float32"], "--debug_layers needs --verify=SPEC"),
        (["--calibration=folder:no"], "folder:no: no such folder"),
        (["--calibration={data}", "--verify=folder:no"], "folder:no: no such folder"),
        (["--precision=float32", "--descriptor_dim=99"], "descriptor_dim=99: the network has a whitening to 6"),
        (["--precision=float32", "--input_size=all"], "--input_size=all: expected HEIGHTxWIDTH in pixels"),
        (["--precision=float32", "--batch=0"], "--batch"),
        (
            ["--precision=full_int8", "--calibration={data}"],
            "give --verify=SPEC, which refuses such a file, or --force",
        ),
        (
            ["--precision=full_int8", "--calibration={data}", "--force", "--input_size=any"],
            "full_int8 is of one input size",
        ),
    ],
)
def test_bad_input_leaves_nothing(made, photos: Path, run, here: Path, arguments: list[str], message: str) -> None:
    arguments = [argument.format(data=f"folder:{photos}") for argument in arguments]
    code, out, err = run("convert", f"--model={made.keras}", "--output=a.tflite", *arguments)
    assert (code, out) == (2, "") and message in err and err.count("\n") == 1
    assert not any(here.iterdir())


@pytest.mark.parametrize("kill", [signal.SIGTERM, signal.SIGKILL])
def test_a_kill_leaves_nothing(made, here: Path, kill: signal.Signals) -> None:
    """While the TFLite converter runs in its own process, which goes as well. What no process can clean up after
    SIGKILL, the next run in the folder does."""
    command = [sys.executable, "-m", "tfplaces.tools.convert", f"--model={made.keras}", "--output=a.tflite"]
    with subprocess.Popen([*command, "--precision=float32"], stderr=subprocess.PIPE) as process:
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        while process.poll() is None and not (found := children.read_text().split()):
            time.sleep(0.01)
        process.send_signal(kill)
        process.wait(60)
    assert process.returncode == (143 if kill == signal.SIGTERM else -kill)
    while any(_is_running(child) for child in found):
        time.sleep(0.05)
    for left in here.iterdir():
        os.utime(left, (0, 0))
    with replacing(here / "next"):
        (name,) = {path.name for path in here.iterdir()}
        assert name.startswith(".writing-")
        (here / name / "next").touch()
    assert [path.name for path in here.iterdir()] == ["next"]


def _is_running(process: str) -> bool:
    try:
        return "saved_model" in Path(f"/proc/{process}/cmdline").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_a_rejected_file_is_not_replaced_unasked(made, photos: Path, run, here: Path) -> None:
    """Nor its report: --overwrite is for them as well."""
    arguments = [f"--model={made.keras}", "--output=a.tflite", "--precision=float32", f"--verify=folder:{photos}"]
    for name in ("a.tflite.rejected", "a.tflite.rejected.json"):
        (here / name).write_bytes(b"precious")
        code, out, err = run("convert", *arguments, "--max_drop=-1000")
        assert (code, out) == (2, "") and name in err and "--overwrite" in err and err.count("\n") == 1
        assert [path.name for path in here.iterdir()] == [name] and (here / name).read_bytes() == b"precious"
        (here / name).unlink()


def test_a_folder_whose_name_is_a_pattern(made, run, here: Path) -> None:
    """TensorFlow reads brackets and stars in paths as patterns."""
    folder = here / "a*[x] ?"
    folder.mkdir()
    code, _, err = run("convert", f"--model={made.keras}", f"--output={folder}/a.tflite", "--precision=float32")
    assert code == 0, err
    assert sorted(path.name for path in folder.iterdir()) == ["a.json", "a.tflite"]


def test_a_full_disk(made, here: Path, run, monkeypatch: pytest.MonkeyPatch) -> None:
    """As TensorFlow reports it."""

    def full(self, *_args, **_options):
        raise tf.errors.ResourceExhaustedError(None, None, "variables.tempstate1; No space left on device [Op:SaveV2]")

    monkeypatch.setattr(type(keras.export.ExportArchive()), "write_out", full)
    code, out, err = run("convert", f"--model={made.keras}", "--output=a.tflite", "--precision=float32")
    assert (code, out) == (2, "") and err.endswith(": No space left on device\n") and err.count("\n") == 1
    assert not any(here.iterdir())
