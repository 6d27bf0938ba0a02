"""Networks with another aggregation than NetVLAD, from training to what is printed of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.tools.conftest import Result
from tfplaces.opening import load_place_net

SMALL = ["--backbone=squeezenet", "--cut=fire2", "--input_size=48x64"]


@pytest.mark.parametrize(
    ("spec", "title"),
    [
        ("gem?linear=8", "GeM + linear 8"),
        ("mixvpr?channels=4&rows=2&depth=1", "MixVPR 4x2"),
        ("convap?channels=2", "ConvAP 2x2x2"),
    ],
)
def test_train_compress_and_summarize(
    spec: str, title: str, photos: Path, run: Callable[..., Result], here: Path
) -> None:
    data = f"--dataset=folder:{photos}"
    code, out, err = run("train", data, *SMALL, f"--aggregation={spec}", "--epochs=1", "--output=run")
    assert code == 0, err
    assert f"squeezenet + {title}" in out
    model = load_place_net("run/model.keras")
    assert model.descriptor_dim == 8 and model.aggregation.title == title
    code, out, err = run("compress", "--model=run/model.keras", "--output=m.places", "--sparsity=0.3", "--bits=6")
    assert code == 0, err
    code, out, err = run("summarize", "--model=m.places")
    assert code == 0 and f"network: squeezenet up to fire2, {title}, 48x64" in out, err
    code, out, err = run("summarize", *SMALL[:1], f"--aggregation={spec}")
    assert code == 0 and "global_norm" in out, err


def test_gem_needs_no_training_and_can_be_whitened(photos: Path, run: Callable[..., Result], here: Path) -> None:
    data = f"--dataset=folder:{photos}"
    code, out, err = run(
        "train", data, *SMALL, "--aggregation=gem", "--epochs=0", "--whitening=4", "--output=run"
    )  # fmt: skip
    assert code == 0 and "random" not in err, err
    assert "squeezenet + GeM + whitening 4" in out
    code, out, err = run("train", data, *SMALL, "--aggregation=gem?linear=4", "--epochs=0", "--output=linear")
    assert code == 0 and "the linear layers of GeM + linear 4 are random" in err


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--aggregation=vlad"], "aggregation 'vlad' is not known; there are convap, gem, mixvpr, netvlad"),
        (["--aggregation=gem?linear=x"], "gem?linear=x: linear=x is not a whole number"),
        (["--aggregation=gem", "--clusters=8"], "--clusters goes with --aggregation=netvlad, not with gem"),
        (["--aggregation=gem", "--sharpness=2"], "--sharpness goes with --aggregation=netvlad, not with gem"),
        (["--aggregation=netvlad?clusters=3", "--clusters=3"], "give the clusters in one of them"),
        # fire2 has 128 channels.
        (["--aggregation=gem", "--whitening=129", "--whitening_dataset=toytown?places=40"], "GeM has 128; lower"),
    ],
)
def test_mistakes(flags: list[str], message: str, photos: Path, run: Callable[..., Result], here: Path) -> None:
    code, _, err = run("train", f"--dataset=folder:{photos}", *SMALL, "--output=run", *flags)
    assert code == 2 and message in err and err.count("\n") == 1
