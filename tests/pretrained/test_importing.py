"""Published checkpoints become networks that give what their sources give.

The oracle is the package `reference` beside this file: the networks written a second time, in numpy, from their papers
and what is known of their files.
"""

from __future__ import annotations

import functools
import hashlib
from pathlib import Path

import keras
import numpy as np
import pytest
from reference.checkpoints import CASES, Case, images

from tfplaces.common.errors import UserError
from tfplaces.layers import NORMS
from tfplaces.models import PlaceNet
from tfplaces.opening import load_model
from tfplaces.pretrained.importing import import_network

# Of a descriptor of unit length; float32 against float64.
TOLERANCE = 1e-4


@functools.cache
def case(name: str) -> Case:
    return CASES[name]()


def stages(model: PlaceNet, batch: np.ndarray, names: list[str]) -> dict[str, np.ndarray]:
    """What some layers give, and the descriptor as `output`."""
    outputs = {name: model.get_layer(name).output for name in names}
    made = keras.Model(model.inputs[0], {**outputs, "output": model.output})(batch.astype(np.float32))
    return {name: np.asarray(value) for name, value in made.items()}


def as_ours(value: np.ndarray) -> np.ndarray:
    """Maps of the reference are `[channels, height, width]`."""
    return value.transpose(1, 2, 0) if value.ndim == 3 else value


@pytest.mark.parametrize("name", CASES)
def test_parity(name: str, tmp_path: Path) -> None:
    """Layer by layer, and the descriptor; every tensor of the file is used or said to be left out."""
    it = case(name)
    made = import_network(it.write(tmp_path), input_size=it.size)
    assert made.kind == it.kind
    batch = images(it.size)
    expected = [it.run(image) for image in batch]
    layers = [layer.name for layer in made.model.layers]
    names = [name for name in expected[0] if name in layers]
    assert len(names) >= 3
    for stage, values in stages(made.model, batch, names).items():
        wanted = np.stack([as_ours(one[stage]) for one in expected])
        scale = 1 if stage == "output" else np.abs(wanted).max()
        np.testing.assert_allclose(values, wanted, rtol=0, atol=TOLERANCE * scale, err_msg=stage)
    # The descriptors say something of the images, or any network would pass.
    assert np.linalg.norm(expected[0]["output"] - expected[1]["output"]) > 50 * TOLERANCE
    for text in it.left_out:
        assert any(text in line for line in made.left_out), text


with np.load(Path(__file__).parent / "reference" / "torch_descriptors.npz") as kept:
    TORCH = dict(kept)


@pytest.mark.parametrize("name", TORCH)
def test_the_oracle_gives_what_pytorch_gives(name: str) -> None:
    """The first 64 numbers of the descriptors by PyTorch 2.14.1, whose modules took the same files by `torch.load` and
    safetensors, and `load_state_dict(strict=True)`. The files' weights come from numpy's generator, by seed."""
    it = case(name)
    ours = np.stack([it.run(image)["output"][:64] for image in images(it.size)])
    np.testing.assert_allclose(ours, TORCH[name], rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", ["netvlad.mat", "pytorch-NetVlad", "deep-vg NetVLAD"])
def test_another_form_of_the_norms_is_another_network(name: str, tmp_path: Path) -> None:
    """Clusters that hardly any feature belongs to have residuals of 1e-6 and 1e-9, which the three forms of the L2
    normalisation treat differently: only the source's own gives the source's descriptor."""
    it = case(name)
    model = import_network(it.write(tmp_path), input_size=it.size).model
    assert model.config["norm"] == it.norm
    batch = images(it.size)
    expected = np.stack([it.run(image)["output"] for image in batch])
    for norm in NORMS:
        other = PlaceNet(**{**model.description, "norm": norm})
        other.set_weights(model.get_weights())
        error = np.abs(np.asarray(other(batch.astype(np.float32))) - expected).max()
        assert error < TOLERANCE if norm == it.norm else error > 30 * TOLERANCE, norm


def test_what_is_said_of_a_network(tmp_path: Path) -> None:
    """The layers with their sources, what is left out, and what goes with the model."""
    it = case("CosPlace ResNet18, training")
    path = it.write(tmp_path)
    made = import_network(path, licence="MIT, https://example.org")
    assert (made.kind, made.format, made.model.input_size) == ("cosplace", "PyTorch zip", (512, 512))
    rows = {row.layer: row for row in made.rows}
    assert list(rows) == [layer.name for layer in made.model.layers if layer.weights]
    assert sum(row.parameters for row in made.rows) == made.model.count_params()
    norm = [f"backbone.1.{part}" for part in ("weight", "bias", "running_mean", "running_var")]
    assert sorted(rows["conv1"].tensors) == sorted(["backbone.0.weight", *norm])
    assert rows["gem"].tensors == ("aggregation.1.p",)
    assert float(made.model.get_layer("gem").p[0]) == pytest.approx(2.7)
    assert made.left_out[0] == "20 tensors num_batches_tracked: batches that were counted in training"
    assert made.model.config["source"] == {
        "file": "checkpoint.pth",
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "kind": "cosplace",
        "licence": "MIT, https://example.org",
        "note": made.notes[-1],
    }
    made.model.save(tmp_path / "model.keras")
    assert load_model(tmp_path / "model.keras").config == made.model.config


def test_whitenings_have_the_scale_that_ours_have(tmp_path: Path) -> None:
    """So that a threshold of magnitude means the same in every network; the descriptor has no scale."""
    model = import_network(case("Patch-NetVLAD").write(tmp_path)).model
    kernel = model.get_layer("whitening").kernel.numpy()
    assert np.sqrt(np.mean(kernel**2)) == pytest.approx(0.01, rel=1e-4)
    assert model.config["whitening_power"] == 0.5


@pytest.mark.parametrize("licence", ["", "a\nb", "x" * 161])
def test_licences_are_short_and_printable(licence: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"licence .*: expected 1 to 160 printable characters"):
        import_network(tmp_path / "none.pth", licence=licence)


def test_parts_that_nothing_is_made_of_are_named_together(tmp_path: Path) -> None:
    """Layers behind the cut by their module, single tensors by their names."""
    left_out = import_network(case("torchvision ResNet18").write(tmp_path)).left_out
    assert left_out == [
        "20 tensors num_batches_tracked: batches that were counted in training",
        "layer4: 25 tensors, from layer4.0.conv1.weight on",
        "fc.weight [10, 512]",
        "fc.bias [10]",
    ]
