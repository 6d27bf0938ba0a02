"""What is built and installed: the wheel holds all of the package, and its installs do what they say they do.

The environments are new ones, for which pip downloads packages.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import venv
import zipfile
from pathlib import Path
from types import SimpleNamespace

import keras
import numpy as np
import pytest

import tfplaces
from tfplaces.compression import Recipe, compress, load_compressed, save_places
from tfplaces.evaluation import evaluate
from tfplaces.lite import convert
from tfplaces.training import initialize_netvlad

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[1]
DATASET = "toytown?places=5"
# Prints a kernel's sum and its number of zeros, of all kernels of a .places file, and what was imported.
READ_PLACES = """
import json, sys
from tfplaces.coding import PlacesFile, places_statistics
with PlacesFile(sys.argv[1]) as file:
    kernels = {name: file.shared_kernel(name).weights() for name in file.axes}
found = {name: [float(kernel.sum(dtype="float64")), int((kernel == 0).sum())] for name, kernel in kernels.items()}
imported = {name.partition(".")[0] for name in sys.modules}
print(json.dumps([found, places_statistics(sys.argv[1]).total.pruned, sorted(imported)]))
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built by the command of BUILD.md in a copy of the sources, as building leaves files behind."""
    source = tmp_path_factory.mktemp("source")
    for folder in ("tfplaces", "tools"):
        shutil.copytree(ROOT / folder, source / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for file in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / file, source)
    run(sys.executable, "-m", "build", "--wheel", cwd=source)
    (path,) = (source / "dist").iterdir()
    assert path.name == f"tfplaces-{tfplaces.__version__}-py3-none-any.whl"
    return path


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """A tiny network as `.places` and as `.tflite`."""
    folder = tmp_path_factory.mktemp("models")
    keras.utils.set_random_seed(0)
    model = tfplaces.PlaceNet("squeezenet", cut="fire2", clusters=4, input_size=(48, 64))
    images = tfplaces.load_dataset(DATASET).database
    initialize_netvlad(model, [images])
    save_places(folder / "m.places", compress(model, Recipe(bits=4, sparsity=0.4)))
    convert(model, folder / "m.tflite", "mixed_int8", calibration=images)
    return SimpleNamespace(places=folder / "m.places", tflite=folder / "m.tflite")


def run(*command: object, cwd: Path | None = None) -> str:
    """Standard output of a program that sees nothing of this environment's packages."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, cwd=cwd, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def installed(what: str, folder: Path) -> Path:
    """The programs of a new environment that holds this and what it requires."""
    venv.create(folder, with_pip=True)
    programs = folder / "bin"
    run(programs / "python", "-m", "pip", "install", "--quiet", what)
    for name in ("tensorflow", "keras"):
        code = f"import importlib.util; print(importlib.util.find_spec({name!r}))"
        assert run(programs / "python", "-c", code) == "None\n"
    return programs


def test_the_wheel_holds_every_file_of_the_package(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if ".dist-info/" not in name}
    expected = {
        str(path.relative_to(folder.parent) if folder.name == "tfplaces" else Path("tfplaces", path.relative_to(ROOT)))
        for folder in (ROOT / "tfplaces", ROOT / "tools")
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert held == expected
    assert {"tfplaces/py.typed", "tfplaces/report/page.css", "tfplaces/report/page.html"} <= held


def test_a_plain_install_reads_places(wheel: Path, models: SimpleNamespace, tmp_path: Path) -> None:
    python = installed(str(wheel), tmp_path / "plain") / "python"
    found, pruned, imported = json.loads(run(python, "-c", READ_PLACES, models.places, cwd=tmp_path))
    expected = load_compressed(models.places)
    assert pruned == pytest.approx(expected.pruned)
    assert found.keys() == expected.shared.keys()
    for name, kernel in expected.shared.items():
        weights = kernel.weights()
        assert found[name] == [pytest.approx(float(weights.sum(dtype=np.float64))), np.count_nonzero(weights == 0)]
    # It needs numpy and nothing else.
    assert "numpy" in imported and not {"PIL", "absl", "tqdm"}.intersection(imported)


def test_with_lite_a_tflite_is_evaluated(wheel: Path, models: SimpleNamespace, tmp_path: Path) -> None:
    programs = installed(f"{wheel}[lite]", tmp_path / "lite")
    run(
        programs / "tfplaces-evaluate",
        f"--model={models.tflite}",
        f"--dataset={DATASET}",
        "--json=s.json",
        cwd=tmp_path,
    )
    scores = json.loads((tmp_path / "s.json").read_text())
    here = evaluate(tfplaces.load_describer(models.tflite), tfplaces.load_dataset(DATASET))
    assert scores["map"] == pytest.approx(here.map) and 0 < here.map < 100
    assert scores["queries"] == here.queries
