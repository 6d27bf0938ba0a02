"""A tiny data set of photos, and models of every kind on it, made once by the tools themselves."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from commands import command_of
from PIL import Image

from tfplaces.tools import entry

# Exit code, stdout, stderr.
Result = tuple[int, str, str]


@pytest.fixture(scope="session", autouse=True)
def _quick(converter_here: None) -> None:
    """Everything here converts."""


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six places of three photos; those of a place differ by noise. The first of each is the query."""
    folder = tmp_path_factory.mktemp("photos")
    for place in range(6):
        rng = np.random.default_rng(place)
        pattern = Image.fromarray(rng.integers(0, 256, (6, 8, 3), np.uint8)).resize((64, 48), Image.Resampling.BICUBIC)
        (folder / f"place{place}").mkdir()
        for k in range(3):
            noise = rng.normal(0, 12, (48, 64, 3))
            pixels = np.clip(np.asarray(pattern) + noise, 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / f"place{place}" / f"{k}.png")
    return folder


def run_tool(tool: str, *arguments: str | os.PathLike) -> int:
    """Runs a tool in this process, with stderr left as it is, and gives its exit code."""
    quiet = entry._quiet_native_logs
    entry._quiet_native_logs = lambda: None
    try:
        importlib.import_module(f"tfplaces.tools.{tool}").run([command_of(tool), *map(str, arguments)])
    except SystemExit as exit:
        return exit.code
    finally:
        entry._quiet_native_logs = quiet
    raise AssertionError("a tool exits")


@pytest.fixture
def run(capsys: pytest.CaptureFixture) -> Callable[..., Result]:
    def run(tool: str, *arguments: str | os.PathLike) -> Result:
        capsys.readouterr()
        code = run_tool(tool, *arguments)
        return (code, *capsys.readouterr())

    return run


@pytest.fixture(scope="session")
def made(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """The chain: the paths of each tool's result."""
    folder = tmp_path_factory.mktemp("made")
    paths = SimpleNamespace(
        keras=folder / "run" / "model.keras", places=folder / "m.places", tflite=folder / "m.tflite",
        tflpack=folder / "m.tflpack",
    )  # fmt: skip
    data = f"folder:{photos}"
    small = ["--backbone=squeezenet", "--cut=fire2", "--input_size=48x64", "--clusters=4", "--whitening=6"]
    codes = [
        run_tool("train", f"--dataset={data}", f"--output={folder}/run", "--epochs=0", *small),
        run_tool("compress", f"--model={paths.keras}", f"--output={paths.places}", "--sparsity=0.4", "--bits=5"),
        run_tool("convert", f"--model={paths.places}", f"--output={paths.tflite}", f"--calibration={data}"),
        run_tool("pack", f"--model={paths.tflite}", f"--output={paths.tflpack}"),
    ]
    # Otherwise every test that uses them would look for a file that is not there.
    assert codes == [0, 0, 0, 0], "a tool of the chain failed; what it printed stands with this"
    return paths


@pytest.fixture(scope="session")
def bad_models(made: SimpleNamespace, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of models that are none, or other ones."""
    import keras

    folder = tmp_path_factory.mktemp("bad")
    for ending in ("keras", "places", "tflite", "tflpack"):
        (folder / f"garbage.{ending}").write_bytes(b"TFL3TFL3 not a model" * 50)
        data = getattr(made, ending).read_bytes()
        (folder / f"truncated.{ending}").write_bytes(data[: len(data) // 2])
        (folder / f"empty.{ending}").write_bytes(b"")
    keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)]).save(folder / "dense.keras")
    keras.Sequential([keras.Input((48, 64, 3)), keras.layers.Conv2D(2, 3)]).save(folder / "conv.keras")
    (folder / "renamed.places").write_bytes(made.keras.read_bytes())
    (folder / "renamed.keras").write_bytes(made.places.read_bytes())
    (folder / "notes.txt").write_text("not a model")
    return folder


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty working directory."""
    monkeypatch.chdir(tmp_path)
    yield tmp_path
