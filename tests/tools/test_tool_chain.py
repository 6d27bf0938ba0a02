"""The tools one after the other on a tiny folder of photos, and what they write."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image

import tfplaces
from tfplaces import coding
from tfplaces.compression import load_compressed

KEYS = {
    "map", "protocol", "recall", "queries", "database", "skipped_queries", "descriptor_dim", "model_bytes",
    "notes", "map_at", "precision_at", "parts", "intervals",
}  # fmt: skip


def test_the_chain(made, photos: Path, run, here: Path) -> None:
    scores = {}
    for kind in ("keras", "places", "tflite", "tflpack"):
        model = getattr(made, kind)
        code, out, err = run("evaluate", f"--model={model}", f"--dataset=folder:{photos}", f"--json={kind}.json")
        assert code == 0, err
        scores[kind] = json.loads((here / f"{kind}.json").read_text())
        assert set(scores[kind]) == KEYS and set(scores[kind]["recall"]) == {"1", "5", "10", "20", "100"}
        figures = {k: v for k, v in scores[kind].items() if k not in ("map", "recall", "intervals")}
        assert figures == {
            "protocol": "plain", "queries": 6, "database": 12, "skipped_queries": 0, "descriptor_dim": 6,
            "model_bytes": model.stat().st_size, "notes": [], "map_at": {}, "precision_at": {}, "parts": {},
        }  # fmt: skip
        low, high = scores[kind]["intervals"]["figures"]["mAP"]
        assert scores[kind]["intervals"]["over"] == "queries" and 0 <= low <= scores[kind]["map"] <= high <= 100
        assert f"{scores[kind]['map']:.2f}" in out and "6-D at 48x64" in out
        # Photos of a place differ by noise only: even random features find them.
        assert scores[kind]["recall"]["1"] >= 80 and 75 <= scores[kind]["map"] <= 100
        assert scores[kind]["recall"]["1"] <= scores[kind]["recall"]["5"] <= scores[kind]["recall"]["10"] <= 100
    assert scores["keras"]["model_bytes"] > 3 * scores["places"]["model_bytes"]
    assert {**scores["tflpack"], "model_bytes": 0} == {**scores["tflite"], "model_bytes": 0}
    assert {p.name for p in here.iterdir()} == {"keras.json", "places.json", "tflite.json", "tflpack.json"}


def test_queries_one_by_one_and_two_models_side_by_side(made, photos: Path, run, here: Path) -> None:
    code, out, err = run("evaluate", f"--model={made.tflite}", f"--dataset=folder:{photos}", "--json=s.json",
                         "--per_query=q.csv", f"--compare={made.tflpack}")  # fmt: skip
    assert code == 0, err
    rows = (here / "q.csv").read_text().splitlines()
    assert rows[0].startswith("query,first_correct_rank,average_precision,top_match,") and len(rows) == 7
    assert rows[1].startswith("place0/0.png,1,100.0000,place0/")
    # A file and the same file packed: no difference, and no more than chance.
    compared = json.loads((here / "s.json").read_text())["compared"]
    assert compared["with"] == str(made.tflpack)
    assert compared["differences"]["mAP"] == {"points": 0, "interval": [0, 0]}
    assert "more than chance" in out and "yes" not in out
    code, out, err = run("evaluate", f"--model={made.tflite}", f"--dataset=folder:{photos}", "--per_query=q.csv")
    assert code == 2 and "q.csv: exists already" in err


def test_queries_by_one_model_and_database_by_another(made, photos: Path, run, here: Path) -> None:
    """The phone's file against the database of the network that it is of; and with another beside it."""
    code, out, err = run("evaluate", f"--model={made.tflite}", f"--database_model={made.keras}",
                         f"--dataset=folder:{photos}", "--json=s.json", f"--compare={made.tflpack}")  # fmt: skip
    assert code == 0, err
    scores = json.loads((here / "s.json").read_text())
    assert set(scores) == {*KEYS, "pairings", "compared"}
    pairings = scores["pairings"]
    assert pairings["agreement"] > 0.7 > pairings["chance"]  # pruned by 40 % and not tuned
    for key, path in (("model", made.tflite), ("database_model", made.keras)):
        assert run("evaluate", f"--model={path}", f"--dataset=folder:{photos}", "--json=a.json", "--overwrite")[0] == 0
        assert pairings[key]["path"] == str(path)
        assert pairings[key]["scores"]["map"] == json.loads((here / "a.json").read_text())["map"]
        points = pairings[key]["together_less_it"]["mAP"]["points"]
        assert points == pytest.approx(scores["map"] - pairings[key]["scores"]["map"], abs=1e-6)
    assert scores["compared"]["differences"]["mAP"] == {"points": 0, "interval": [0, 0]}
    lines = [line.split() for line in out.splitlines()]
    paths = {str(made.tflite), str(made.keras)}
    pairs = [tuple(line[:2]) for line in lines if len(line) > 4 and {line[0], line[1]} <= paths]
    assert pairs == [(str(made.tflite), str(made.keras)), *((str(p), str(p)) for p in (made.tflite, made.keras))]
    assert f"the two together less {made.keras} alone" in out and "hardly agree" not in out


def test_models_that_cannot_be_compared(made, photos: Path, run, here: Path) -> None:
    """Of other dimensions: refused. Of the same, but untaught: told."""
    from tfplaces.training import add_whitening

    images = [tfplaces.load_dataset(f"folder:{photos}").database]
    other = tfplaces.PlaceNet("squeezenet", clusters=4, input_size=(48, 64), cut="fire2")
    add_whitening(other, 4, images).save(here / "4.keras")
    model = tfplaces.load_model(made.keras)
    kernel = model.get_layer("whitening").kernel
    kernel.assign(np.roll(kernel, 1, axis=1))
    model.save(here / "6.keras")
    arguments = [f"--model={made.tflite}", f"--dataset=folder:{photos}"]
    code, out, err = run("evaluate", *arguments, "--database_model=4.keras")
    assert (code, out) == (2, "") and len(err.splitlines()) == 1 and "of 6 numbers and the database's of 4" in err
    code, out, err = run("evaluate", *arguments, "--database_model=6.keras")
    assert code == 0 and "the two models hardly agree" in out, out
    code, out, err = run("evaluate", *arguments, "--database_model=none.keras")
    assert code == 2 and "none.keras: no such model file" in err


def test_descriptors_for_other_programs(made, photos: Path, run, here: Path) -> None:
    """The array and hloc's file hold the same descriptors, and each query's pairs are of its place first."""
    data = f"--dataset=folder:{photos}"
    code, out, err = run("describe", f"--model={made.tflite}", data, "--output=x.npy")
    assert code == 0, err
    assert "x.npy: descriptors of 6 numbers, float32, of unit length: 12 of the database and 6 of the queries\n" in out
    rows = np.load(here / "x.npy", mmap_mode="r")
    names = [line.split(",") for line in (here / "x.names.csv").read_text().splitlines()[1:]]
    code, out, err = run("describe", f"--model={made.tflite}", data, "--output=x.h5", "--pairs=p.txt", "--nearest=2")
    assert code == 0 and f"image_dir for hloc: {photos}\n" in out and "p.txt: 12 pairs\n" in out, err
    with h5py.File(here / "x.h5") as file:
        for row, (_, _, name) in zip(rows, names, strict=True):
            np.testing.assert_array_equal(file[name]["global_descriptor"], row)
            assert file[name]["image_size"][()].tolist() == [64, 48]
    pairs = [line.split() for line in (here / "p.txt").read_text().splitlines()]
    assert np.mean([query.split("/")[0] == match.split("/")[0] for query, match in pairs[::2]]) >= 0.8
    assert sorted(path.name for path in here.iterdir()) == ["p.txt", "x.h5", "x.names.csv", "x.npy"]


def test_packing(made, run, here: Path) -> None:
    code, out, err = run("pack", f"--model={made.tflite}", "--output=a.tflpack")
    assert (code, err) == (0, "") and out.startswith("a.tflpack: 0.0") and out.endswith(" % of 0.05 MB\n")
    assert (here / "a.tflpack").read_bytes() == made.tflpack.read_bytes()
    assert 2 * made.tflpack.stat().st_size < made.tflite.stat().st_size
    code, out, err = run("pack", "--unpack", "--model=a.tflpack", "--output=a.tflite")
    assert (code, out, err) == (0, "a.tflite: 0.05 MB, SHA-256 as packed\n", "")
    assert (here / "a.tflite").read_bytes() == made.tflite.read_bytes()


def test_evaluating_on_buildings(made, photos: Path, run, here: Path) -> None:
    """Photos as Oxford Buildings: the second of each place is its query and a database image too, the third is ok."""
    for place in range(6):
        for k in range(3):
            Image.open(photos / f"place{place}" / f"{k}.png").save(here / f"place{place}_{k}.jpg", quality=95)
        for kind, text in {
            "query": f"oxc1_place{place}_1 2 2 62 46", "good": f"place{place}_1", "ok": f"place{place}_2",
            "junk": f"place{place}_0",
        }.items():  # fmt: skip
            (here / f"place{place}_{kind}.txt").write_text(text + "\n")
    for options in ("", "?receptive_field=0", "?protocol=full"):
        code, out, err = run("evaluate", f"--model={made.tflite}", f"--dataset=oxford5k:{here}{options}")
        assert code == 0, err
        assert "(oxford)" in out and "6 (and 0 without positives, left out)" in out
        # The query's own image and the ok one come first, and the latter alone counts for recall.
        mean, recall = (float(out.split(name)[1].split()[0]) for name in ("mAP", "recall@1"))
        assert recall >= 80 and 80 <= mean <= 100
    (here / "place3_ok.txt").unlink()
    code, out, err = run("evaluate", f"--model={made.tflite}", f"--dataset=oxford5k:{here}")
    assert code == 2 and out == "" and len(err.splitlines()) == 1 and "first: place3_ok.txt" in err


def test_what_the_chain_made(made, photos: Path) -> None:
    model = tfplaces.load_model(made.keras)
    assert isinstance(model, tfplaces.PlaceNet) and model.input_size == (48, 64) and model.descriptor_dim == 6
    compressed = load_compressed(made.places)
    assert compressed.pruned == pytest.approx(40, abs=0.3)
    assert max(len(shared.levels) for shared in compressed.shared.values()) <= 32
    assert {"bits": 5, "sparsity": 0.4}.items() <= compressed.provenance.items()
    image = np.asarray(tfplaces.datasets.load_image(photos / "place0" / "0.png", (48, 64)))[None]
    ours, theirs = (tfplaces.load_describer(p).describe(image)[0] for p in (made.places, made.tflite))
    assert ours @ theirs > 0.95


def test_training_and_fine_tuning(photos: Path, run, here: Path) -> None:
    data, size = f"--dataset=folder:{photos}", "--input_size=48x64"
    small = ["--backbone=squeezenet", "--cut=fire2", "--clusters=4", "--epochs=1", size, data]
    code, out, err = run("train", "--output=run", *small)
    assert code == 0 and "run/model.keras: squeezenet + NetVLAD4, " in out and "epoch 1/1: validation mAP" in err
    before = (here / "run" / "model.keras").stat().st_size
    for number, options in enumerate([["--l1=1e-6", "--threshold=0.01"], ["--loss=triplet", "--sparsity=0.2"]]):
        output = f"--output={number}.places"
        code, out, err = run("compress", "--model=run/model.keras", output, "--bits=4", data, *options)
        assert code == 0, err
        assert f"{number}.places: " in out and " bits per parameter, ratio " in out
        compressed = load_compressed(here / f"{number}.places")
        assert all(len(shared.levels) <= 16 for shared in compressed.shared.values())
        assert compressed.provenance["dataset"] == data.split("=")[1] and compressed.provenance["epochs"] == 1
        assert (here / f"{number}.places").stat().st_size < before / 4


def test_training_chooses_the_power_of_the_whitening(photos: Path, run, here: Path) -> None:
    """On the places that are held out, also where nothing is trained; nothing but the model is left in the folder."""
    small = [
        "--backbone=squeezenet",
        "--cut=fire2",
        "--input_size=48x64",
        "--clusters=4",
        "--whitening=6",
        "--epochs=0",
    ]
    code, out, err = run("train", "--output=run", f"--dataset=folder:{photos}", "--whitening_power=auto", *small)
    assert code == 0, err
    assert "whitening: mAP on " in out and [p.name for p in (here / "run").iterdir()] == ["model.keras"]
    power = tfplaces.load_model("run/model.keras").config["whitening_power"]
    assert f"; power {power} is taken" in out


def test_summarize(made, run, here: Path) -> None:
    code, out, _ = run("summarize", f"--model={made.keras}", "--json=table.json")
    table = json.loads((here / "table.json").read_text())
    parameters = tfplaces.load_model(made.keras).count_params()
    assert code == 0 and f"{parameters:,}" in out
    assert table["parameters"] == parameters and table["float32_bytes"] == 4 * parameters
    assert table["layers"][1]["name"] == "conv1" and table["layers"][1]["parameters"] == 7 * 7 * 3 * 96 + 96
    # A 7x7 convolution at stride 2 of 48x64 without padding: 21 x 29 positions; with: 24 x 32.
    assert table["layers"][1]["multiply_adds"] in {7 * 7 * 3 * 96 * n for n in (21 * 29, 24 * 32)}


def test_summarize_a_compressed_model(made, run, here: Path) -> None:
    code, out, err = run("summarize", f"--model={made.places}", "--json=table.json")
    assert code == 0, err
    table, lines = json.loads((here / "table.json").read_text()), out.splitlines()
    size, parameters = made.places.stat().st_size, tfplaces.load_model(made.keras).count_params()
    assert table["file_bytes"] == size and table["parameters"] == parameters
    assert table["ratio"] == pytest.approx(4 * parameters / size) and table["provenance"]["bits"] == 5
    assert lines[0].split()[:2] == ["layer", "parameters"] and lines[1].startswith("conv1 ")
    assert len({len(line) for line in lines[: 2 + len(table["layers"])]}) == 1  # aligned
    assert len(table["layers"]) == 6 and lines[7].split()[:2] == ["total", f"{parameters:,}"]
    assert f"{size / 1e6:.3f} MB" in out and "whitening to 6, 48x64" in out and "sparsity 0.4" in out
    code, _, err = run("summarize", f"--model={made.places}", "--input_size=64x64")
    assert code == 2 and "--input_size changes nothing in a .places file" in err


def test_summarize_prints_no_strangers_commands(made, run, here: Path) -> None:
    with coding.read(made.places, "places") as container:
        header, tensors = container.header, {name: container.tensor(name) for name in container.names}
    header["provenance"] = {"dataset": "\x1b[2J", "\x1b[8m": "\u202e", "note": "a" * 10**5, "list": ["\x9b", {"a": 1}]}
    coding.write(here / "a.places", "places", header, tensors)
    code, out, _ = run("summarize", "--model=a.places", "--json=a.json")
    assert code == 0 and out.replace("\n", "").isprintable() and len(out) < 5000
    assert json.loads((here / "a.json").read_text())["provenance"] == header["provenance"]


def test_overwrite_replaces(made, photos: Path, run, here: Path) -> None:
    arguments = [f"--model={made.tflite}", f"--dataset=folder:{photos}", "--json=scores.json"]
    (here / "scores.json").write_text("before")
    assert run("evaluate", *arguments, "--overwrite")[0] == 0
    assert json.loads((here / "scores.json").read_text())["database"] == 12


def test_a_process_of_its_own_is_quiet_and_needs_no_tensorflow_for_tflite(made, photos: Path, here: Path) -> None:
    """As installed: native logs are redirected, and what stderr has is the tool's."""
    code = (
        "import sys\nfrom tfplaces.tools import evaluate\n"
        "try: evaluate.run()\nfinally: print('tensorflow' in sys.modules, 'keras' in sys.modules)"
    )
    for model, status in ((made.tflite, 0), (made.places, 2)):
        arguments = [f"--model={model}", f"--dataset=folder:{photos}"]
        if status:
            arguments.append("--input_size=1x1")  # too small for the network, known only when it runs
        process = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, cwd=here)
        assert process.returncode == status, process.stderr
        assert process.stdout.splitlines()[-1] == ("True True" if status else "False False")
        assert len(process.stderr.splitlines()) == (1 if status else 0), process.stderr
    assert not any(here.iterdir())
