"""The benchmark tool at a size of seconds: what it prints and the sizes; speeds are not judged."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

from tfplaces.benchmarks import accuracy, coding, cost, network, search, training
from tfplaces.common.errors import UserError


def test_coding(run, here: Path) -> None:
    code, out, _ = run("benchmark", "--what=coding", "--symbols=2000000", "--outputs=0", "--json=b.json")
    assert code == 0
    result = json.loads((here / "b.json").read_text())
    assert [(row["symbols_of"], row["coder"]) for row in result["coders"]] == [
        (title, name) for title in coding.DISTRIBUTIONS for name in coding.CODERS
    ]
    ours = [row for row in result["coders"] if row["coder"] == "tfplaces"]
    assert all(1 <= row["size"] <= 1.005 and row["encode_ratio"] == row["decode_ratio"] == 1 for row in ours)
    # Of 0.9, 0.05 and 0.05: 0.9 log2(1 / 0.9) + 0.1 log2(20) bits.
    assert ours[1]["entropy"] == pytest.approx(0.569, abs=0.005)
    small = {row["symbols"]: row for row in result["small"] if "32 levels" in row["symbols_of"]}
    assert list(small) == list(coding.SMALL)
    assert small[10_000]["over_entropy"] < 1.03 and small[100_000]["over_entropy"] < 1.01
    for row in result["coders"]:
        (line,) = [line for line in out.splitlines() if line.startswith(row["symbols_of"]) and row["coder"] in line]
        assert (f"{row['size']:.4f}" if "size" in row else "not installed") in line


def test_a_coder_that_is_not_installed_is_said_to_be(run, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(symbols):
        raise ImportError

    monkeypatch.setitem(coding.CODERS, "constriction", missing)
    code, out, _ = run("benchmark", "--what=coding", "--symbols=1000", "--outputs=0")
    lines = [line for line in out.splitlines() if "constriction" in line]
    assert code == 0 and len(lines) == len(coding.DISTRIBUTIONS)
    assert all("not installed" in line for line in lines)


def test_a_coder_that_errs_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = lambda symbols: (symbols.size, lambda: symbols.tobytes(), lambda data: bytes(len(data)))  # noqa: E731
    monkeypatch.setitem(coding.CODERS, "gzip -9", wrong)
    with pytest.raises(RuntimeError, match="does not give back"):
        coding.measure_coders(1000)


def test_search(run, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """3000 descriptors of which some are equal: ours are those of float64; another search may order them otherwise."""
    result = run("benchmark", "--what=search", "--rows=3000", "--dim=32", "--queries=20", "--json=b.json")
    assert result[0] == 0, result[2]
    ours, theirs = json.loads((here / "b.json").read_text())["search"]
    assert (ours["search"], ours["same"], ours["difference"], ours["same_as_float64"]) == ("tfplaces", 1, 0, 1)
    assert ours["memory"] >= 0 and ours["seconds"] > 0 and ours["ratio"] == 1
    if "seconds" in theirs:
        assert theirs["same"] > 0.9 and theirs["difference"] < 1e-5

    def missing(*_):
        raise ImportError

    monkeypatch.setitem(search.SEARCHES, "faiss-cpu", missing)
    code, out, _ = run("benchmark", "--what=search", "--rows=3000", "--dim=32", "--queries=20")
    assert code == 0 and [line for line in out.splitlines() if "faiss-cpu" in line and "not installed" in line]


def test_network() -> None:
    """SqueezeNet with a whitening of 8: the stages, and a file near its entropy."""
    row = network._measure(5, 8, "squeezenet", 0)
    assert list(row["seconds"]) == list(row["peak"]) == ["prune", "share", "write", "read"]
    assert row["entropy_bytes"] < row["bytes"]
    # Small kernels and the header's lines.
    assert 1 < row["over_entropy"] < 1.05
    assert row["bytes"] * 8 / row["parameters"] < 5


def test_whitening(run, made, photos: Path, here: Path) -> None:
    code, out, err = run(
        "benchmark", "--what=whitening", f"--model={made.keras}", f"--dataset=folder:{photos}", "--dimensions=6,3",
        "--json=b.json",
    )  # fmt: skip
    assert code == 0, err
    rows = json.loads((here / "b.json").read_text())["whitening"]
    assert [row["dimensions"] for row in rows] == [4 * 128, *[6] * 5, *[3] * 5]
    lines = out.splitlines()[-11:]
    assert [line.split()[2 if k else 1] for k, line in enumerate(lines)] == [f"{row['mean']:.1f}" for row in rows]
    assert lines[1].endswith("{:.1f} to {:.1f}".format(*rows[1]["gain_interval"]))


def test_training(run, made, photos: Path, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Six places of three images each, as a batch has four of each: 24 images, of which some come twice."""
    monkeypatch.setattr(training, "AUGMENTATIONS", ("crop_jitter",))
    peaks = {"keras": 3_000_000, "tfplaces": 4_000_000}
    monkeypatch.setattr(training, "in_fresh_process", lambda module, arguments, what: peaks[arguments[0]])
    code, out, err = run(
        "benchmark", "--what=training", f"--model={made.keras}", f"--dataset=folder:{photos}", "--json=b.json"
    )
    assert code == 0, err
    rows = json.loads((here / "b.json").read_text())["training"]
    assert [(row["source"], row["images"]) for row in rows] == [("files", 24), ("kept", 24)]
    for row, line in zip(rows, out.splitlines()[-2:], strict=True):
        assert min(row["ratios"]) <= row["ratio"] <= max(row["ratios"]) and len(row["ratios"]) == 5
        speeds = [f"{row['images_per_second'][side]:.1f}" for side in ("keras", "tfplaces")]
        assert line.split()[:4] == ["crop_jitter", row["source"], *speeds] and line.split()[-2:] == ["3.00", "4.00"]


def test_models(run, made, here: Path) -> None:
    other = here / "other" / "m.tflite"
    other.parent.mkdir()
    other.write_bytes(made.tflite.read_bytes())
    models = [made.tflite, made.tflite, made.tflpack]
    code, out, _ = run("benchmark", f"--models={','.join(map(str, models))}", "--threads=2,1", "--json=b.json")
    assert code == 0
    result = json.loads((here / "b.json").read_text())
    rows = result["models"]
    assert result["what"] == "models" and [row["model"] for row in rows] == ["m.tflite", "m.tflite", "m.tflpack"]
    assert [row["file_bytes"] for row in rows] == [os.path.getsize(path) for path in models]
    # Packing is what the pack tool does.
    assert {row["packed_bytes"] for row in rows} == {os.path.getsize(made.tflpack)}
    table = [line for line in out.splitlines() if line.startswith("m.tfl")]
    for line, row in zip(table, rows, strict=True):
        assert row["input_size"] == [48, 64]
        assert [found["threads"] for found in row["latency"]] == [2, 1]
        assert all(found["rounds"] == 30 and found["ms"] > 0 for found in row["latency"])
        assert (row["memory"] is not None) == (sys.platform == "linux")
        cells = [f"{found[key]:.2f}" for found in row["latency"] for key in ("ms", "ratio")]
        if row["memory"]:
            cells += [f"{row['memory'][key] / 1e6:.1f}" for key in ("above_runtime", "peak")]
        cells += [f"{row[key] / 1e6:.2f}" for key in ("file_bytes", "packed_bytes")]
        assert line.split() == [row["model"], "48x64", *cells]
    assert [found["ratio"] for found in rows[0]["latency"]] == [1, 1]


def test_models_are_named_from_the_folder_that_holds_them(run, made, here: Path, monkeypatch) -> None:
    from tfplaces.benchmarks import models
    from tfplaces.evaluation.cost import Latency

    paths = [here / "float" / "m.tflite", here / "small" / "pack" / "m.tflpack"]
    for path in paths:
        path.parent.mkdir(parents=True)
        path.write_bytes(getattr(made, path.suffix[1:]).read_bytes())
    monkeypatch.setattr(models, "measure_memory", lambda path, size, threads: None)
    monkeypatch.setattr(models, "measure_latency", lambda paths, *_: [Latency(1.5, 1.0, 5, (48, 64)) for _ in paths])
    code, out, _ = run("benchmark", f"--models={paths[0]},{paths[1]}", "--json=b.json")
    assert code == 0
    rows = json.loads((here / "b.json").read_text())["models"]
    assert [row["model"] for row in rows] == ["float/m.tflite", "small/pack/m.tflpack"]
    # Elsewhere than on Linux memory is not known.
    assert [row["memory"] for row in rows] == [None, None]
    assert [len(line.split()) for line in out.splitlines()[-2:]] == [6, 6]
    assert str(here) not in out + (here / "b.json").read_text()


def test_mistakes_that_litert_finds_are_known_before_anything_is_measured(run, made, bad_models, monkeypatch) -> None:
    from tfplaces.benchmarks import models

    monkeypatch.setattr(models, "measure_memory", lambda *_: pytest.fail("too early"))
    for name in ("truncated.tflite", "garbage.tflpack"):
        code, out, err = run("benchmark", f"--models={made.keras},{bad_models}/{name}")
        assert (code, out, err.count("\n")) == (2, "", 1) and name in err


@pytest.mark.slow
def test_accuracy(run, made, photos: Path, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accuracy, "ROWS", {"4 bits, 40 %": (0.4, 4, 3)})
    spec = f"folder:{photos}"
    code, out, err = run(
        "benchmark", "--what=accuracy", f"--models={made.keras}", f"--dataset={spec}", "--json=b.json", "--seed=3",
    )  # fmt: skip
    assert code == 0, err
    result = json.loads((here / "b.json").read_text())
    base, row = result["accuracy"]
    assert result["what"] == "accuracy" and row["row"] == "4 bits, 40 %"
    assert row["drop"] == pytest.approx(base["map"][spec] - row["map"][spec]) and row["drop_error"] is None
    assert out.splitlines()[-1].split()[-1] == f"{8 * row['bytes'] / row['parameters']:.3f}"
    assert "4 bits, 40 % pruned, seed 3" in err
    # What it kept while it ran is gone.
    assert [path.name for path in here.iterdir()] == ["b.json"]


def test_cost_keeps_its_files_until_the_table_is_written(run, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def measure_cost(folder: str, seed: int) -> list[dict]:
        (Path(folder) / "model.keras").write_bytes(b"kept")
        if seed == 1:
            raise UserError("no space left")
        row = {"backbone": "vgg16", "precision": "keras", "latency": [{"ms": 5.0, "ratio": 1.0}], "memory": None}
        return [{**row, "file_bytes": 3_000_000}]

    monkeypatch.setattr(cost, "measure_cost", measure_cost)
    assert run("benchmark", "--what=cost", "--json=b.json", "--seed=1")[0] == 2
    assert (here / "b.json.work" / "model.keras").exists()
    code, _, err = run("benchmark", "--what=cost", "--json=b.json")
    assert code == 2 and "holds the state of another run, with another seed" in err
    code, out, _ = run("benchmark", "--what=cost", "--json=c.json")
    assert code == 0 and out.splitlines()[-1].split() == ["vgg16", "keras", "5.0", "1.00", "3.0"]
    assert not (here / "c.json.work").exists()


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="memory is measured on Linux only")
def test_models_of_every_kind(run, made, here: Path) -> None:
    paths = [made.keras, made.places, made.tflite]
    code, _, _ = run("benchmark", f"--models={','.join(map(str, paths))}", "--input_size=48x64", "--json=b.json")
    assert code == 0
    keras, places, tflite = json.loads((here / "b.json").read_text())["models"]
    assert [row["model"] for row in (keras, places, tflite)] == ["run/model.keras", "m.places", "m.tflite"]
    assert keras["packed_bytes"] is None and places["packed_bytes"] == places["file_bytes"]
    # TensorFlow is most of what a process takes; LiteRT needs none of it.
    for row in (keras, places):
        assert 0 < row["memory"]["above_runtime"] < 200e6 < row["memory"]["peak"]
    assert tflite["memory"]["peak"] < 200e6


@pytest.mark.slow
def test_clustering(run, here: Path) -> None:
    code, out, _ = run("benchmark", "--what=coding", "--symbols=1000", "--outputs=4", "--json=b.json")
    assert code == 0
    found = json.loads((here / "b.json").read_text())["clustering"]
    for name in ("ours", "tfmot"):
        assert found[name]["sparsity"] == pytest.approx(0.5, abs=0.001)
        assert 0 < found[name]["error"] < 0.01
    assert found["tfmot"]["values"] <= 32
    assert found["tfmot_distances"] == 32768 * 4 * 32 * 4
    sizes = found["sizes"]
    assert sizes["tfplaces"] < sizes["TF-MOT, int8 TFLite, gzip -9"] < sizes["TF-MOT, int8 TFLite"] < 4 * 32768 * 4
    assert "TF-MOT / tfplaces" in out
