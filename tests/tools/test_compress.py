"""The compress tool: what each flag does to the file, what is reported, careless uses, and a killed run."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import tfplaces
from tfplaces.compression import Compressed, load_compressed


@pytest.fixture
def compress(run, made, photos: Path, here: Path):
    """Compresses the tiny network into m.places, over what was there; fine-tunes where `tune` is set."""

    def compress(*options: str, tune: bool = False, code: int = 0) -> str:
        data = [f"--dataset=folder:{photos}"] if tune else []
        got, out, err = run("compress", f"--model={made.keras}", "--output=m.places", "--overwrite", *data, *options)
        assert got == code, err
        # What a fit that was begun says comes before.
        assert not code or err.splitlines()[-1].startswith("tfplaces-compress: "), err
        return err if code else out

    return compress


def opened() -> Compressed:
    return load_compressed("m.places")


def zeros(compressed: Compressed) -> dict[str, float]:
    """Share of zeros of each kernel by layer."""
    return {name.split("/")[0]: float(np.mean(s.weights() == 0)) for name, s in compressed.shared.items()}


def test_layers_bits_and_grid(compress) -> None:
    out = compress("--layers=*,!netvlad*", "--bits=4", "--bits_for=whitening=2,fire2*=3", "--grid=none")
    compressed = opened()
    levels = {name: len(shared.levels) for name, shared in compressed.shared.items()}
    assert levels["whitening/kernel"] <= 4 and max(n for name, n in levels.items() if name.startswith("fire2")) <= 8
    assert 8 < levels["conv1/kernel"] <= 16 and not any(name.startswith("netvlad") for name in levels)
    assert not any(shared.on_int8_grid for shared in compressed.shared.values())
    expected = {"bits": 4, "bits_for": {"whitening": 2, "fire2*": 3}, "layers": "*,!netvlad*", "grid": "none"}
    assert expected.items() <= compressed.provenance.items()
    assert out.startswith(f"m.places: {compressed.pruned:.2f} % of ")
    compress("--bits=4")
    assert all(shared.on_int8_grid for shared in opened().shared.values())


def test_shares_and_thresholds(compress, made) -> None:
    compress("--sparsity=0.4")
    assert opened().pruned == pytest.approx(40, abs=0.3) and len(set(zeros(opened()).values())) > 3
    compress("--sparsity=0.4", "--sparsity_scope=layer")
    assert all(share == pytest.approx(0.4, abs=0.01) for share in zeros(opened()).values())
    compress("--threshold=0.01", "--layers=whitening")
    weights = tfplaces.load_model(made.keras).get_layer("whitening").kernel.numpy()
    assert zeros(opened()) == {"whitening": pytest.approx(np.mean(np.abs(weights) < 0.01), abs=0.002)}


def test_json_holds_the_sizes_by_layer_and_in_all(compress, here: Path) -> None:
    compress("--sparsity=0.5", "--bits=5", "--json=sizes.json")
    sizes = json.loads((here / "sizes.json").read_text())
    for row in (sizes, *sizes["layers"]):
        assert {"pruned", "bits_per_parameter", "file_bytes", "entropy_bytes", "parameters"} <= set(row)
        assert row["bits_per_parameter"] == pytest.approx(8 * row["file_bytes"] / row["parameters"])
        assert 0 < row["entropy_bytes"] <= row["file_bytes"]
    assert sizes["file_bytes"] == (here / "m.places").stat().st_size
    assert sizes["pruned"] == pytest.approx(50, abs=0.3) and sizes["provenance"]["bits"] == 5
    assert {"conv1", "netvlad", "whitening"} <= {row["name"] for row in sizes["layers"]}


@pytest.mark.slow
def test_fine_tuning_and_its_flags(compress, here: Path) -> None:
    pytest.importorskip("tensorboard")
    compress(
        "--sparsity=0.3", "--schedule=polynomial", "--l1=1e-7,whitening=1e-5", "--refresh=1", "--bits=4",
        "--loss=distill", "--epochs=2", "--learning_rate=1e-3", "--tensorboard=log", "--work_dir=state", tune=True,
    )  # fmt: skip
    compressed = opened()
    assert compressed.pruned == pytest.approx(30, abs=0.5)
    expected = {"schedule": "polynomial", "l1": 1e-7, "l1_for": {"whitening": 1e-5}, "refresh": 1, "epochs": 2}
    assert expected.items() <= compressed.provenance.items() and compressed.provenance["loss"] == "distill"
    rms = np.sqrt(np.mean(compressed.shared["whitening/kernel"].weights() ** 2))
    assert rms == pytest.approx(0.01, rel=1e-4)
    assert len(os.listdir("log")) == 1 and sorted(os.listdir()) == ["log", "m.places"]
    compress("--threshold=0.02", "--l1=1e-4", "--margin=0.3", tune=True)
    assert opened().provenance["loss"] == "triplet" and sorted(os.listdir()) == ["log", "m.places"]
    compress("--bits=2", "--epochs=0", tune=True)
    assert "dataset" not in opened().provenance


def test_a_target(compress, monkeypatch: pytest.MonkeyPatch, here: Path) -> None:
    for name, value in {"TRIALS": 1, "OPTIONS": ((3, 0.0), (6, 0.0), (3, 0.8), (6, 0.8))}.items():
        monkeypatch.setattr(sys.modules["tfplaces.compression.smallest_file"], name, value)
    compress("--target_drop=100", "--loss=distill", "--layers=!conv1", tune=True)
    provenance = opened().provenance
    assert provenance["drop_first_half"] <= 100 and "drop_second_half" in provenance
    assert "conv1/kernel" not in opened().shared and os.listdir() == ["m.places"]


NEEDS_TUNING = "changes only fine-tuning: it needs --dataset, and --epochs above 0"
BY_RATE = ["--quantizer=rate_distortion"]
MISTAKES = {
    "both": (["--threshold=0.1", "--sparsity=0.1"], False, "give --threshold or --sparsity, not both"),
    "scope": (["--sparsity_scope=channel"], False, "--sparsity_scope=channel"),
    "negative threshold": (["--threshold=-1"], False, "--threshold=-1"),
    "threshold": (["--threshold=nan"], False, "threshold=nan"),
    "threshold text": (["--threshold=small"], False, "--threshold=small"),
    "everything": (["--threshold=100"], False, "leaves nothing of"),
    "everything, tuned": (["--threshold=100"], True, "leaves nothing of"),
    "layers": (["--layers=conv9*"], False, "no layer matches 'conv9*'; there are conv1, "),
    "layers, tuned": (["--layers=conv9*"], True, "no layer matches 'conv9*'"),
    "no layers": (["--layers=!*"], False, "leave nothing to compress"),
    "bits": (["--bits=1"], False, "--bits=1"),
    "bits_for number": (["--bits_for=whitening=9"], False, "bits=9: a whole number from 2 to 8"),
    "bits_for text": (["--bits_for=whitening"], False, "'whitening' is not GLOB=NUMBER"),
    "bits_for default": (["--bits_for=5"], False, "name the layers"),
    "bits_for glob": (["--bits_for=conv9=5"], False, "no layer matches 'conv9'"),
    "grid": (["--grid=int4"], False, "--grid=int4"),
    "l1 text": (["--l1=x"], True, "'x' is not GLOB=NUMBER"),
    "l1 twice": (["--l1=1e-6,2e-6"], True, "'2e-6' is not GLOB=NUMBER"),
    "l1 negative": (["--l1=-1"], True, "'-1' is not GLOB=NUMBER"),
    "l1 glob": (["--l1=conv9=1e-6"], True, "no layer matches 'conv9'"),
    "l1 untuned": (["--l1=1e-6"], False, f"--l1 {NEEDS_TUNING}"),
    "schedule untuned": (["--sparsity=0.1", "--schedule=polynomial"], False, f"--schedule {NEEDS_TUNING}"),
    "refresh untuned": (["--refresh=5", "--epochs=0"], True, f"--refresh {NEEDS_TUNING}"),
    "tensorboard untuned": (["--tensorboard=log"], False, f"--tensorboard {NEEDS_TUNING}"),
    "refresh": (["--refresh=-1"], True, "--refresh=-1"),
    "epochs": (["--epochs=-1"], True, "--epochs=-1"),
    "loss": (["--loss=mse"], True, "--loss=mse"),
    "diverged": (["--learning_rate=1e30", "--margin=4"], True, "training diverged in epoch 1: "),
    "validation": (["--val_dataset=folder:none"], True, "folder:none: no such folder"),
    "target by triplets": (["--target_drop=1"], True, "--loss=distill"),
    "target alone": (["--target_drop=1", "--loss=distill"], False, "needs a --dataset"),
    "target and share": (["--target_drop=1", "--loss=distill", "--sparsity=0.5"], True, "what --sparsity should be"),
    "target and bits": (["--target_drop=1", "--loss=distill", "--bits=5"], True, "what --bits should be"),
    "target text": (["--target_drop=x"], True, "--target_drop=x"),
    "rate alone": (["--rate=1"], False, "--rate and --quantizer=rate_distortion go together"),
    "no rate": (["--quantizer=rate_distortion"], True, "--rate and --quantizer=rate_distortion go together"),
    "rate without data": ([*BY_RATE, "--rate=1"], False, "needs a --dataset"),
    "rate of nothing": ([*BY_RATE, "--rate=0"], True, "rate=0.0: mean bits a parameter of the file, above 0"),
    "rate beyond": ([*BY_RATE, "--rate=17"], True, "rate=17.0: mean bits a parameter of the file, above 0"),
    "rate and share": ([*BY_RATE, "--rate=1", "--sparsity=0.5"], True, "neither prunes nor fine-tunes"),
    "rate and grid": ([*BY_RATE, "--rate=1", "--grid=none"], True, "leave the grid as it is"),
    "rate and tuning": ([*BY_RATE, "--rate=1", "--epochs=1"], True, "does not fine-tune"),
    "rate and target": ([*BY_RATE, "--rate=1", "--target_drop=1"], True, "what --quantizer should be"),
    "rate, few images": ([*BY_RATE, "--rate=1"], True, "database images: at least 100 are needed"),
    "quantizer": (["--quantizer=vector"], False, "--quantizer=vector"),
    "json": (["--json=none/sizes.json"], False, "none does not exist"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_careless_use_is_one_line_and_leaves_nothing(mistake: str, compress, here: Path) -> None:
    options, tune, message = MISTAKES[mistake]
    line = compress(*options, tune=tune, code=2)
    assert message in line and line.count("\n") == 1
    assert not any(here.iterdir())


def test_several_data_sets_need_no_labels(run, made, photos: Path, here: Path) -> None:
    flat = here / "flat"
    flat.mkdir()
    for place in range(3):
        os.link(photos / f"place{place}" / "0.png", flat / f"{place}.png")
    arguments = [f"--model={made.keras}", "--output=m.places", f"--dataset=folder:{photos},folder:{flat}"]
    code, _, err = run("compress", *arguments, "--loss=distill")
    assert code == 0, err
    assert opened().provenance["dataset"] == f"folder:{photos},folder:{flat}"
    code, _, err = run("compress", *arguments, "--overwrite")  # triplets take one
    assert code == 2 and len(err.splitlines()) == 1


def test_a_work_dir_of_another_run(compress, made, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Interrupted after an epoch, then called with another seed, other flags and another model."""
    from tfplaces.training import fitting

    save, saves = fitting.Checkpoint.save, []

    def interrupt(*arguments) -> None:
        save(*arguments)
        saves.append(arguments)
        raise KeyboardInterrupt

    flags = ["--bits=4", "--loss=distill", "--work_dir=state"]
    monkeypatch.setattr(fitting.Checkpoint, "save", interrupt)
    with pytest.raises(AssertionError, match="interrupted"):
        compress(*flags, tune=True)
    monkeypatch.setattr(fitting.Checkpoint, "save", save)
    assert len(saves) == 1 and sorted(os.listdir("state")) == ["run.json", "shared.npz"]
    for flag, value in (("seed", 1), ("bits", 3), ("epochs", 2), ("learning_rate", 0.01)):
        line = compress(*flags, f"--{flag}={value}", tune=True, code=2)
        changed = "recipe" if flag == "bits" else flag
        assert f"state: holds the state of another run, with another {changed}; remove it, or name another" in line
    before = made.keras.read_bytes()
    try:
        made.keras.write_bytes(before + b"\0")
        assert "holds the state of another run" in compress(*flags, tune=True, code=2)
    finally:
        made.keras.write_bytes(before)
    assert os.listdir() == ["state"]
    compress(*flags, tune=True)
    assert os.listdir() == ["m.places"]


# A test that looks from outside for the file may come too late on a busy machine, when all epochs are done.
KILLED_AFTER_AN_EPOCH = """
import os, signal
from tfplaces.tools import compress
from tfplaces.training.checkpoint import Checkpoint

save = Checkpoint.save

def save_and_die(self, *arguments, **options):
    save(self, *arguments, **options)
    if os.path.basename(self.path) == "{}.npz":
        os.kill(os.getpid(), signal.SIGKILL)

Checkpoint.save = save_and_die
compress.run()
"""


@pytest.mark.slow
@pytest.mark.parametrize("loss", ["distill", "triplet"])
def test_a_killed_run_goes_on_to_the_same_file(loss: str, made, photos: Path, here: Path) -> None:
    """SIGKILL by its own hand, as soon as the first, and then the second stage has kept an epoch."""
    arguments = [
        f"--model={made.keras}", f"--dataset=folder:{photos}", f"--loss={loss}", "--epochs=3", "--sparsity=0.3",
        "--bits=4", "--learning_rate=1e-3",
    ]  # fmt: skip
    command = [sys.executable, "-c", "from tfplaces.tools import compress; compress.run()", *arguments]
    subprocess.run([*command, "--output=whole.places"], check=True, timeout=300, capture_output=True)
    for stage in ("pruned", "shared"):
        killed = [sys.executable, "-c", KILLED_AFTER_AN_EPOCH.format(stage), *arguments, "--output=m.places"]
        assert subprocess.run(killed, timeout=300, capture_output=True).returncode == -signal.SIGKILL
        assert not (here / "m.places").exists() and (here / "m.places.work" / f"{stage}.npz").exists()
    process = subprocess.run([*command, "--output=m.places"], timeout=300, capture_output=True, text=True)
    assert process.returncode == 0 and "going on after epoch" in process.stderr
    assert (here / "m.places").read_bytes() == (here / "whole.places").read_bytes()
    assert sorted(os.listdir(here)) == ["m.places", "whole.places"]
