"""The program for Linux devices: the descriptors of `tools/evaluate.py`, without TensorFlow, and careless users."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tflite_files import tflite

import tfplaces
from tfplaces import coding
from tfplaces.datasets import ImageFiles
from tfplaces.describers import describe_images

pytestmark = pytest.mark.usefixtures("converter_here")
ROOT = Path(__file__).parents[2]
PROGRAM = ROOT / "deploy" / "linux" / "find_place.py"
KEPT_OUT = (
    "tensorflow",
    "keras",
    "sklearn",
    "matplotlib",
    "ai_edge_quantizer",
    "tensorflow_model_optimization",
)
# The program as it is, with what it may not use made impossible to import, and its descriptors saved.
SCRIPT = f"""
import importlib.util, sys
if {{hide}}:
    sys.modules.update(dict.fromkeys({KEPT_OUT!r}))
for name in {KEPT_OUT!r}:
    try:
        __import__(name)
    except ImportError:
        continue
    raise AssertionError(name)
import numpy as np
spec = importlib.util.spec_from_file_location("find_place", {str(PROGRAM)!r})
program = importlib.util.module_from_spec(spec)
spec.loader.exec_module(program)
model, folder = sys.argv[1:3]
np.save("descriptors.npy", program.describe_images(program.load_model(model), program.known_places(folder)))
sys.argv[:] = ["find_place.py", "--model", model, "--places", folder, *sys.argv[3:]]
sys.exit(program.main())
"""


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four places in sub-folders, of two photos each; one lies on its side and says so, one is grey."""
    folder = tmp_path_factory.mktemp("photos")
    for place in range(4):
        (folder / f"place{place}").mkdir()
        pattern = Image.fromarray(np.random.default_rng(place).integers(0, 256, (6, 8, 3), np.uint8))
        for k in range(2):
            image = pattern.resize((100 + 8 * k, 77), Image.Resampling.BICUBIC)
            exif = Image.Exif()
            if (place, k) == (1, 1):
                image = image.transpose(Image.Transpose.ROTATE_90)
                exif[0x0112] = 6
            if place == 2:
                image = image.convert("L")
            image.save(folder / f"place{place}" / f"{k}.jpg", exif=exif)
    (folder / "place0" / ".hidden.jpg").write_bytes(b"no image")
    (folder / "place0" / "notes.txt").write_text("no image")
    return folder


@pytest.fixture(scope="module")
def model(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A `.tflite` and, beside it, its `.tflpack`."""
    import keras

    from tfplaces.lite import convert
    from tfplaces.training import initialize_netvlad

    path = tmp_path_factory.mktemp("model") / "m.tflite"
    keras.utils.set_random_seed(0)
    net = tfplaces.PlaceNet("squeezenet", cut="fire2", clusters=4, input_size=(48, 64))
    images = tfplaces.load_dataset(f"folder:{photos}").database
    initialize_netvlad(net, [images], sharpness=1.0)
    convert(net, path, "mixed_int8", calibration=images)
    coding.pack(path, path.with_suffix(".tflpack"))
    return path


def check_same(python: str | os.PathLike, hide: bool, model: Path, photos: Path, folder: Path, **environment) -> None:
    """Runs the program in another environment and compares its descriptors with those of this one."""
    names = sorted(str(path.relative_to(photos)) for path in photos.rglob("[01].jpg"))
    expected = describe_images(tfplaces.load_describer(model), ImageFiles(str(photos), names))
    query = photos / "place1" / "1.jpg"
    for file in (model, model.with_suffix(".tflpack")):
        command = [python, "-c", SCRIPT.format(hide=hide), file, photos, query, photos / "place3" / "0.jpg"]
        done = subprocess.run(command, capture_output=True, text=True, cwd=folder, env={**os.environ, **environment})
        assert done.returncode == 0, done.stderr
        np.testing.assert_array_equal(np.load(folder / "descriptors.npy"), expected)
        lines = done.stdout.splitlines()
        assert lines[0] == str(query) and len(lines) == 8
        similarity = expected @ expected[names.index("place1/1.jpg")]
        assert lines[1] == "  1.0000  place1/1.jpg"
        assert lines[2] == f"  {np.sort(similarity)[-2]:.4f}  {names[np.argsort(similarity)[-2]]}"


def test_descriptors_without_tensorflow(model: Path, photos: Path, tmp_path: Path) -> None:
    check_same(sys.executable, True, model, photos, tmp_path, PYTHONPATH=str(ROOT))


# An index built and asked where nothing that it may not use can be imported.
INDEX_SCRIPT = f"""
import runpy, sys
sys.modules.update(dict.fromkeys({KEPT_OUT!r}))
from tfplaces import load_dataset, load_describer
from tfplaces.workflows.indexing import build_index
model, folder, index = sys.argv[1:4]
build_index(index, model, load_describer(model), load_dataset("folder:" + folder), "int8")
sys.argv[:] = ["find_place.py", "--model", model, "--index", index, *sys.argv[4:]]
runpy.run_path({str(PROGRAM)!r}, run_name="__main__")
"""


def test_an_index_without_tensorflow(model: Path, photos: Path, tmp_path: Path) -> None:
    """The first photo of a place is the query of `folder:`, so the places are the second ones."""
    query = photos / "place1" / "0.jpg"
    command = [sys.executable, "-c", INDEX_SCRIPT, model, photos, tmp_path / "a.index", query, photos / "place3/1.jpg"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == str(query) and lines[1].endswith("  place1/1.jpg") and len(lines) == 8
    assert lines[5] == "  1.0000  place3/1.jpg"
    # The same model, packed, and one that is another.
    other = tmp_path / "other.tflite"
    data = bytearray(model.read_bytes())
    position = data.index(b"TFLite Model Metadata") if b"TFLite Model Metadata" in data else data.index(b"descriptor")
    data[position] ^= 1
    other.write_bytes(data)
    for file, code, says in ((model.with_suffix(".tflpack"), 0, ""), (other, 2, "was made by another model")):
        command = [sys.executable, PROGRAM, f"--model={file}", f"--index={tmp_path / 'a.index'}", query]
        done = subprocess.run(command, capture_output=True, text=True, env=environment)
        assert done.returncode == code and says in done.stderr, done.stderr


@pytest.mark.slow
def test_descriptors_where_there_is_no_tensorflow(model: Path, photos: Path, tmp_path: Path) -> None:
    """In an environment of its own, with what deploy/linux/README.md says and nothing else."""
    source = tmp_path / "source"  # a copy: building leaves files behind
    for folder in ("tfplaces", "tools"):
        shutil.copytree(ROOT / folder, source / folder)
    for file in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / file, source)
    venv.create(tmp_path / "device", with_pip=True)
    python = tmp_path / "device" / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "--quiet", f"{source}[lite]"], check=True)
    check_same(python, False, model, photos, tmp_path, PYTHONPATH="")


def test_links_are_followed_and_what_is_left_out_is_said(model: Path, photos: Path, tmp_path: Path) -> None:
    known = tmp_path / "known"
    known.mkdir()
    (known / "linked").symlink_to(photos / "place1")
    shutil.copy(photos / "place0" / "0.jpg", known)
    (known / "a.cr2").write_bytes(b"no image")
    command = [sys.executable, PROGRAM, f"--model={model}", f"--places={known}", str(photos / "place1" / "0.jpg")]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert done.returncode == 0 and done.stdout.splitlines()[1] == "  1.0000  linked/0.jpg"
    assert f"find_place: {known}: left out: 1 .cr2 (a camera's raw image)" in done.stderr


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--places=none", "{photo}"], "none: no such folder"),
        (["--places={empty}", "{photo}"], "no images there (looked for .jpg"),
        (["none.jpg"], "none.jpg: no such image"),
        (["{photos}"], "{photos}: no such image"),
        (["{bad}/b.jpg"], "b.jpg: cannot be read as an image"),
        (["--places={bad}", "{photo}"], "b.jpg: cannot be read as an image"),
        (["--model=none.tflite", "{photo}"], "none.tflite: No such file"),
        (["--model=none.tflpack", "{photo}"], "none.tflpack: No such file"),
        (["--model={photo}", "{photo}"], "0.jpg: not a .tflite or .tflpack file"),
        (["--model={bad}/b.tflite", "{photo}"], "b.tflite: not a TFLite model"),
        (["--model={bad}/b.tflpack", "{photo}"], "b.tflpack: "),
        (
            ["--model={bad}/other.tflite", "{photo}"],
            "other.tflite: a TFLite model cut short or damaged: it has no input",
        ),
        (
            ["--model={bad}/other.tflpack", "{photo}"],
            "other.tflpack: a TFLite model cut short or damaged: it has no input",
        ),
        (["--matches=0", "{photo}"], "--matches"),
        (["--index=none.index", "{photo}"], "argument --index: not allowed with argument --places"),
        ([], "photo"),
    ],
)
def test_mistakes_are_one_line(arguments: list[str], message: str, model: Path, photos: Path, tmp_path: Path) -> None:
    bad, empty = tmp_path / "bad", tmp_path / "empty"
    bad.mkdir()
    empty.mkdir()
    for name in ("b.jpg", "b.tflite", "b.tflpack"):
        (bad / name).write_bytes(b"garbage " * 20)
    (bad / "other.tflite").write_bytes(tflite({"a": np.zeros((4, 4), np.float32)}))
    coding.pack(bad / "other.tflite", bad / "other.tflpack")
    values = {"photos": photos, "photo": photos / "place0" / "0.jpg", "bad": bad, "empty": empty}
    command = [sys.executable, PROGRAM, f"--model={model}", f"--places={photos}"]
    command += [argument.format(**values) for argument in arguments]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)})
    lines = [line for line in done.stderr.splitlines() if not line.startswith(("INFO:", "usage:", " "))]
    assert (done.returncode, done.stdout, len(lines)) == (2, "", 1), done.stderr
    assert message.format(**values) in lines[0] and "find_place" in lines[0]


def test_without_the_library_it_says_what_to_install(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-S", PROGRAM], capture_output=True, text=True, cwd=tmp_path,
                          env={"PATH": os.environ["PATH"]})  # fmt: skip
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and "pip install" in done.stderr
