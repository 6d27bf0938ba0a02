"""`.places` files: what is saved comes back, and a damaged or hostile file is a ValueError that costs little."""

from __future__ import annotations

import copy
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

import tfplaces
from tfplaces import coding
from tfplaces.compression import Compressed, compress, load_compressed, load_places, save_places
from tfplaces.models.describer import KerasDescriber

FIRST = "conv1/kernel"


def test_weights_and_descriptors_are_identical(compressed: Compressed, places_file: Path) -> None:
    loaded = load_places(places_file)
    assert loaded.get_config() == compressed.model.get_config()
    for ours, theirs in zip(loaded.weights, compressed.model.weights, strict=True):
        assert ours.path == theirs.path
        np.testing.assert_array_equal(ours.numpy(), theirs.numpy())
    images = np.random.default_rng(0).integers(0, 256, (3, 48, 64, 3), np.uint8)
    ours, theirs = (KerasDescriber(model).describe(images) for model in (loaded, compressed.model))
    np.testing.assert_array_equal(ours, theirs)
    np.testing.assert_array_equal(
        KerasDescriber(tfplaces.load_model(places_file)).describe(images), KerasDescriber(loaded).describe(images)
    )


def test_the_sharing_comes_back_and_is_saved_alike(compressed: Compressed, places_file: Path, tmp_path: Path) -> None:
    loaded = load_compressed(places_file)
    assert loaded.shared.keys() == compressed.shared.keys() and loaded.pruned == compressed.pruned > 49
    for name, shared in loaded.shared.items():
        for field in ("levels", "indices", "scales", "channel_axis"):
            np.testing.assert_array_equal(getattr(shared, field), getattr(compressed.shared[name], field))
    assert save_places(tmp_path / "again.places", loaded) == places_file.stat().st_size
    assert (tmp_path / "again.places").read_bytes() == places_file.read_bytes()


def test_the_header_and_the_size(compressed: Compressed, places_file: Path) -> None:
    with coding.read(places_file, "places") as container:
        header, names = container.header, set(container.names)
    assert header["place_net"]["backbone"] == "squeezenet" and header["place_net"]["clusters"] == 4
    assert header["place_net"]["input_size"] == [48, 64] and header["place_net"]["whitening"] == 6
    assert header["kernels"] == {name: shared.channel_axis for name, shared in compressed.shared.items()}
    assert len(header["kernels"]) == 13 and header["kernels"][FIRST] == 3
    provenance = {"tfplaces": tfplaces.__version__, "bits": 5, "threshold": None, "sparsity": 0.5}
    assert provenance.items() <= header["provenance"].items()
    biases = {v.path for v in compressed.model.weights} - set(compressed.shared)
    assert names == biases | {f"{k}/{part}" for k in compressed.shared for part in ("levels", "indices", "scales")}
    # Half of the weights are zero, the others have 31 levels: 1 + 0.5 · log2(31) = 3.5 bits at most a weight; biases,
    # levels, scales and the header take the rest.
    assert places_file.stat().st_size < 5 / 8 * compressed.model.count_params()


def test_other_models_are_not_saved(tmp_path: Path) -> None:
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    with pytest.raises(ValueError, match="holds a PlaceNet, not a Sequential"):
        save_places(tmp_path / "a.places", compress(model))
    assert not any(tmp_path.iterdir())


def test_damaged_files(places_file: Path, tmp_path: Path) -> None:
    data, path = places_file.read_bytes(), tmp_path / "damaged.places"
    rng = np.random.default_rng(0)
    for size in {*range(64), *rng.integers(0, len(data), 60).tolist(), len(data) - 1}:
        path.write_bytes(data[:size])
        with pytest.raises(ValueError, match=r"damaged\.places"):
            load_places(path)
    for position in {*range(0, 300, 7), *rng.integers(0, len(data), 60).tolist()}:
        flipped = bytearray(data)
        flipped[position] ^= 1 << int(rng.integers(8))
        path.write_bytes(flipped)
        with pytest.raises(ValueError, match=r"damaged\.places"):
            load_places(path)


Change = Callable[[dict[str, Any], dict[str, np.ndarray]], None]


def set_config(**changes: Any) -> Change:
    return lambda header, tensors: header["place_net"].update(changes)


def set_header(**changes: Any) -> Change:
    return lambda header, tensors: header.update(changes)


def set_kernel(name: str, axis: Any) -> Change:
    return lambda header, tensors: header["kernels"].update({name: axis})


def set_tensor(name: str, change: Callable[[np.ndarray], np.ndarray]) -> Change:
    return lambda header, tensors: tensors.update({name: change(tensors[name])})


def drop(name: str) -> Change:
    return lambda header, tensors: tensors.pop(name)


def put(value: float, at: int = 0) -> Callable[[np.ndarray], np.ndarray]:
    def change(array: np.ndarray) -> np.ndarray:
        array.reshape(-1)[at] = value
        return array

    return change


def bomb(header: dict[str, Any], tensors: dict[str, np.ndarray]) -> None:
    """Zeros cost nothing in the file: 100 MB beside the network, which claims a whitening of 2 GB."""
    tensors["padding"] = np.zeros(10**8, np.uint8)
    header["place_net"].update(clusters=4096, whitening=512)


HOSTILE: dict[str, Change] = {
    "clusters huge": set_config(clusters=60_000),
    "clusters beyond all": set_config(clusters=2**40),
    "clusters zero": set_config(clusters=0),
    "clusters negative": set_config(clusters=-1),
    "clusters float": set_config(clusters=4.0),
    "clusters bool": set_config(clusters=True),
    "clusters null": set_config(clusters=None),
    "clusters others": set_config(clusters=5),
    "whitening huge": set_config(whitening=65_536),
    "whitening beyond all": set_config(whitening=2**63),
    "whitening text": set_config(whitening="6"),
    "whitening none": set_config(whitening=0),
    "both huge": set_config(clusters=60_000, whitening=60_000),
    "padding": bomb,
    "backbone unknown": set_config(backbone="resnet"),
    "backbone other": set_config(backbone="vgg16", cut=None),
    "backbone list": set_config(backbone=["squeezenet"]),
    "cut unknown": set_config(cut="fire99"),
    "cut other": set_config(cut="fire9"),
    "cut number": set_config(cut=7),
    "input_size number": set_config(input_size=48),
    "input_size one": set_config(input_size=[48]),
    "input_size negative": set_config(input_size=[-48, 64]),
    "input_size text": set_config(input_size=["a", "b"]),
    "input_size lists": set_config(input_size=[[48], [64]]),
    "scale text": set_config(scale="x"),
    "scale list": set_config(scale=[1]),
    "offset number": set_config(offset=3),
    "offset two": set_config(offset=[1.0, 2.0]),
    "offset many": set_config(offset=[1.0] * 100),
    "offset text": set_config(offset=["a", "b", "c"]),
    "name slash": set_config(name="a/b"),
    "name number": set_config(name=7),
    "name list": set_config(name=[1]),
    "bias extra": set_config(assignment_bias=True),
    "unknown key": set_config(inputs=3),
    "dtype": set_config(dtype={"class_name": "Lambda", "config": {}}),
    "config list": set_header(place_net=[]),
    "config missing": lambda header, tensors: header.pop("place_net"),
    "backbone missing": lambda header, tensors: header["place_net"].pop("backbone"),
    "kernels list": set_header(kernels=[FIRST]),
    "kernels missing": lambda header, tensors: header.pop("kernels"),
    "kernels bias": set_kernel("conv1/bias", 0),
    "kernels unknown": set_kernel("nothing/kernel", 0),
    "kernel not shared": lambda header, tensors: header["kernels"].pop(FIRST),
    "axis beyond": set_kernel(FIRST, 4),
    "axis negative": set_kernel(FIRST, -1),
    "axis other": set_kernel(FIRST, 0),
    "axis text": set_kernel(FIRST, "3"),
    "axis bool": set_kernel(FIRST, True),
    "axis null": set_kernel(FIRST, None),
    "axis list": set_kernel(FIRST, [3]),
    "index beyond": set_tensor(f"{FIRST}/indices", put(255)),
    "levels NaN": set_tensor(f"{FIRST}/levels", put(np.nan)),
    "levels infinite": set_tensor(f"{FIRST}/levels", put(np.inf, -1)),
    "levels descending": set_tensor(f"{FIRST}/levels", lambda a: a[::-1].copy()),
    "levels without zero": set_tensor(f"{FIRST}/levels", lambda a: a + np.float32(100)),
    "levels two-dimensional": set_tensor(f"{FIRST}/levels", lambda a: a[:, None]),
    "levels none": set_tensor(f"{FIRST}/levels", lambda a: a[:0]),
    "levels many": set_tensor(f"{FIRST}/levels", lambda a: np.linspace(-128, 128, 257, dtype=np.float32)),
    "levels integers": set_tensor(f"{FIRST}/levels", lambda a: a.astype(np.int8)),
    "indices shape": set_tensor(f"{FIRST}/indices", lambda a: a.reshape(-1)),
    "indices type": set_tensor(f"{FIRST}/indices", lambda a: a.astype(np.int8)),
    "scales shape": set_tensor(f"{FIRST}/scales", lambda a: a[:-1]),
    "scales NaN": set_tensor(f"{FIRST}/scales", put(np.nan)),
    "bias NaN": set_tensor("conv1/bias", put(np.nan)),
    "bias shape": set_tensor("conv1/bias", lambda a: a[:, None]),
    "bias half": set_tensor("conv1/bias", lambda a: a.astype(np.float16)),
    "no levels": drop(f"{FIRST}/levels"),
    "no indices": drop(f"{FIRST}/indices"),
    "no scales": drop(f"{FIRST}/scales"),
    "no bias": drop("conv1/bias"),
}


@pytest.fixture(scope="module")
def contents(places_file: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    with coding.read(places_file, "places") as container:
        return container.header, {name: container.tensor(name) for name in container.names}


@pytest.mark.parametrize("lie", HOSTILE)
def test_hostile_files(contents, lie: str, tmp_path: Path) -> None:
    header, tensors = copy.deepcopy(contents)
    HOSTILE[lie](header, tensors)
    path = tmp_path / "hostile.places"
    coding.write(path, "places", header, tensors)
    del tensors
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ValueError, match=r"hostile\.places") as error:
        load_places(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # kB
    assert "\n" not in str(error.value) and len(str(error.value)) < 1500


def test_a_file_of_nothing_but_zeros_and_no_shared_kernels(contents, tmp_path: Path) -> None:
    """The format lets every kernel be stored as it is."""
    header, tensors = copy.deepcopy(contents)
    header["kernels"] = {}
    for name in contents[0]["kernels"]:
        tensors[name] = np.zeros(tensors[f"{name}/indices"].shape, np.float32)
    coding.write(tmp_path / "plain.places", "places", header, tensors)
    loaded = load_compressed(tmp_path / "plain.places")
    assert loaded.shared == {} and loaded.pruned == 0
