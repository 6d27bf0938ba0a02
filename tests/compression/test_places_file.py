"""`.places` files: what is saved comes back, and a damaged or hostile file is a ValueError that costs little."""

from __future__ import annotations

import copy
import dataclasses
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

import tfplaces
from tfplaces import coding
from tfplaces.compression import Compressed, Recipe, SharedTraining, compress, load_compressed, load_places, save_places
from tfplaces.describers.keras import KerasDescriber
from tfplaces.models import PlaceNet, outline

FIRST = "conv1/kernel"


def test_weights_and_descriptors_are_identical(compressed: Compressed, places_file: Path) -> None:
    loaded = load_places(places_file)
    assert loaded.description == compressed.model.description
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
    provenance = {"tfplaces": tfplaces.__version__, "bits": 5, "sparsity": 0.5}
    assert provenance.items() <= header["provenance"].items()
    biases = {v.path for v in compressed.model.weights} - set(compressed.shared)
    assert names == biases | {f"{k}/{part}" for k in compressed.shared for part in ("levels", "indices", "scales")}
    # Half of the weights are zero, the others have 31 levels: 1 + 0.5 · log2(31) = 3.5 bits at most a weight; biases,
    # levels, scales and the header take the rest.
    assert places_file.stat().st_size < 5 / 8 * compressed.model.count_params()


def test_a_network_that_has_diverged_is_not_saved(compressed: Compressed, tmp_path: Path) -> None:
    model = PlaceNet.from_config(compressed.model.get_config())
    model.set_weights(compressed.model.get_weights())
    model.get_layer("conv1").bias.assign(np.full(96, np.nan))
    with pytest.raises(ValueError, match=r"a\.places: not written: conv1/bias is not finite"):
        save_places(tmp_path / "a.places", dataclasses.replace(compressed, model=model))
    broken = dataclasses.replace(compressed.shared[FIRST], scales=np.full(96, np.inf, np.float32))
    with pytest.raises(ValueError, match=r"a\.places: not written: conv1/kernel is not finite"):
        save_places(tmp_path / "a.places", dataclasses.replace(compressed, shared={FIRST: broken}))
    assert not any(tmp_path.iterdir())


def test_a_projection_is_shared_and_comes_back(tmp_path: Path) -> None:
    model = PlaceNet("alexnet", cut="pool1", projection=12, clusters=2, input_size=(48, 64))
    save_places(tmp_path / "a.places", compress(model, Recipe(bits=4)))
    loaded = load_compressed(tmp_path / "a.places")
    assert "projection/kernel" in loaded.shared and loaded.model.description == model.description
    np.testing.assert_array_equal(loaded.model.feature_layer.kernel, model.feature_layer.kernel)


@pytest.mark.parametrize("policy", ["float16", "bfloat16", "mixed_float16"])
def test_weights_of_half_precision_are_kept_exactly_as_float32(policy: str, tmp_path: Path) -> None:
    """The file describes images as before; precision and frozen layers are not in it."""
    model = PlaceNet("alexnet", cut="pool1", clusters=2, input_size=(48, 64), dtype=policy, frozen=["conv1"])
    save_places(tmp_path / "a.places", Compressed(model, {}, {}))
    loaded = load_places(tmp_path / "a.places")
    assert loaded.get_config() == {**model.description, "trainable": True, "dtype": "float32", "frozen": ()}
    for ours, theirs in zip(loaded.weights, model.weights, strict=True):
        np.testing.assert_array_equal(ours.numpy(), np.asarray(theirs.numpy(), np.float32))


def test_weights_of_float64_are_not_rounded_in_silence(tmp_path: Path) -> None:
    model = PlaceNet("alexnet", cut="pool1", clusters=2, input_size=(48, 64), dtype="float64")
    with pytest.raises(ValueError, match=r"a\.places: not written: conv1/kernel is float64"):
        save_places(tmp_path / "a.places", Compressed(model, {}, {}))


def test_other_models_are_not_saved(tmp_path: Path) -> None:
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    with pytest.raises(ValueError, match="holds a PlaceNet, not a Sequential"):
        save_places(tmp_path / "a.places", compress(model, Recipe()))
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
    "whitening power above": set_config(whitening_power=0.6),
    "whitening power negative": set_config(whitening_power=-0.1),
    "whitening power text": set_config(whitening_power="auto"),
    "whitening power null": set_config(whitening_power=None),
    "both huge": set_config(clusters=60_000, whitening=60_000),
    "padding": bomb,
    "backbone unknown": set_config(backbone="resnet"),
    "backbone other": set_config(backbone="vgg16", cut=None),
    "backbone list": set_config(backbone=["squeezenet"]),
    "cut unknown": set_config(cut="fire99"),
    "projection huge": set_config(projection=65_536),
    "projection negative": set_config(projection=-1),
    "projection text": set_config(projection="6"),
    "cut other": set_config(cut="fire9"),
    "cut number": set_config(cut=7),
    "input_size number": set_config(input_size=48),
    "input_size one": set_config(input_size=[48]),
    "input_size negative": set_config(input_size=[-48, 64]),
    "input_size text": set_config(input_size=["a", "b"]),
    "input_size lists": set_config(input_size=[[48], [64]]),
    "input_size huge": set_config(input_size=[48, 2**40]),
    "input_size of 67 million pixels": set_config(input_size=[8192, 8192]),
    "input_size floats": set_config(input_size=[48.0, 64.0]),
    "input_size tiny": set_config(input_size=[1, 1]),
    "input_size null": set_config(input_size=None),
    "scale text": set_config(scale="x"),
    "scale list": set_config(scale=[1]),
    "scale null": set_config(scale=None),
    "scale true": set_config(scale=True),
    "scale infinite as float32": set_config(scale=1e39),
    "offset infinite as float32": set_config(offset=[0.0, 0.0, -1e39]),
    "offset number": set_config(offset=3),
    "offset two": set_config(offset=[1.0, 2.0]),
    "offset many": set_config(offset=[1.0] * 100),
    "offset text": set_config(offset=["a", "b", "c"]),
    "name slash": set_config(name="a/b"),
    "name number": set_config(name=7),
    "name spaced": set_config(name="a b"),  # TensorFlow would refuse it when the network runs
    "name long": set_config(name="a" * 65),
    "name command": set_config(name="\x1b[2J"),
    "name null": set_config(name=None),
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
    "kernels long": set_kernel("\x1b" * 10**5, 0),
    "provenance list": set_header(provenance=[]),
    "provenance missing": lambda header, tensors: header.pop("provenance"),
    "backbone long": set_config(backbone="a" * 10**5),
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
    "levels half": set_tensor(f"{FIRST}/levels", lambda a: a.astype(np.float16)),
    "levels unsigned": set_tensor(f"{FIRST}/levels", lambda a: np.arange(len(a), dtype=np.uint8)),
    "weights infinite": lambda header, tensors: tensors.update(
        {f"{FIRST}/levels": tensors[f"{FIRST}/levels"] * np.float32(1e30),
         f"{FIRST}/scales": tensors[f"{FIRST}/scales"] * np.float32(1e30)}
    ),
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
    "a tensor more": lambda header, tensors: tensors.update(more=np.zeros(3, np.float32)),
    "shared and not shared": lambda header, tensors: tensors.update(
        {FIRST: np.zeros(tensors[f"{FIRST}/indices"].shape, np.float32)}
    ),
}  # fmt: skip


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
    assert str(error.value).isprintable() and len(str(error.value)) < 1500


def test_a_file_without_the_power_of_its_whitening_is_of_the_time_when_it_was_a_half(contents, tmp_path: Path) -> None:
    header, tensors = copy.deepcopy(contents)
    assert header["place_net"].pop("whitening_power") == 0.25
    coding.write(tmp_path / "old.places", "places", header, tensors)
    model = load_places(tmp_path / "old.places")
    assert model.config["whitening_power"] == model.get_layer("whitening").power == 0.5


def test_a_file_of_nothing_but_zeros_and_no_shared_kernels(contents, tmp_path: Path) -> None:
    """The format lets every kernel be stored as it is."""
    header, tensors = copy.deepcopy(contents)
    header["kernels"] = {}
    for name in contents[0]["kernels"]:
        tensors[name] = np.zeros(tensors[f"{name}/indices"].shape, np.float32)
        for part in ("levels", "indices", "scales"):
            del tensors[f"{name}/{part}"]
    coding.write(tmp_path / "plain.places", "places", header, tensors)
    loaded = load_compressed(tmp_path / "plain.places")
    zeros = sum(int(np.prod(tensors[name].shape)) for name in contents[0]["kernels"])
    assert loaded.shared == {} and loaded.pruned == 100 * zeros / loaded.model.count_params()


@pytest.mark.parametrize(
    "levels, stored",
    [
        ([-127, -3, 0, 127], "int8"),
        ([0], "int8"),
        ([-128, 0, 127], "float32"),
        ([-1, 0, 0.5], "float32"),
        ([-1, -0.0, 2], "float32"),
        ([0, 1e30], "float32"),
    ],
)
def test_levels_that_int8_holds_exactly_are_stored_so(compressed, tmp_path, levels, stored) -> None:
    levels = np.array(levels, np.float32)
    first = compressed.shared[FIRST]
    indices = (first.indices % len(levels)).astype(np.uint8)
    shared = dataclasses.replace(first, levels=levels, indices=indices)
    save_places(tmp_path / "a.places", dataclasses.replace(compressed, shared={**compressed.shared, FIRST: shared}))
    with coding.read(tmp_path / "a.places", "places") as container:
        assert container.dtype(f"{FIRST}/levels") == stored
    loaded = load_compressed(tmp_path / "a.places").shared[FIRST]
    assert loaded.levels.tobytes() == levels.tobytes() and loaded.levels.dtype == np.float32
    assert loaded.weights().tobytes() == shared.weights().tobytes()


def test_a_name_that_cannot_run_is_not_saved(tmp_path: Path) -> None:
    model = PlaceNet("alexnet", cut="conv1", clusters=2, input_size=(48, 64), name="my network")
    with pytest.raises(ValueError, match="name of its PlaceNet is not a name of 1 to 64 letters"):
        save_places(tmp_path / "a.places", compress(model, Recipe()))
    assert not any(tmp_path.iterdir())


def test_the_limit_counts_the_float_network_and_the_tensors(places_file: Path, compressed: Compressed) -> None:
    with coding.read(places_file, "places") as container:
        tensors = sum(container.shape(n) and container.tensor(n).nbytes for n in container.names)
    needed = 4 * compressed.model.count_params() + tensors
    assert load_places(places_file, max_bytes=needed).count_params() == compressed.model.count_params()
    for limit in (needed - 1, tensors):
        with pytest.raises(ValueError, match=f"takes {needed} bytes .*, more than max_bytes, {limit}; raise it"):
            load_places(places_file, max_bytes=limit)
    with pytest.raises(ValueError, match=r"model\.places: .*max_bytes"):
        load_places(places_file, max_bytes=tensors - 1)


def test_a_large_whitening_in_a_few_bytes_is_refused(contents, tmp_path: Path) -> None:
    """Equal indices are coded as a constant: 67 MB of them are two bytes of the file, and 268 MB as float32."""
    header, tensors = copy.deepcopy(contents)
    header["place_net"]["whitening"] = 65_536
    tensors["whitening/kernel/indices"] = np.zeros((1024, 65_536), np.uint8)
    tensors["whitening/kernel/scales"] = np.ones(65_536, np.float32)
    tensors["whitening/bias"] = np.zeros(65_536, np.float32)
    path = tmp_path / "hostile.places"
    coding.write(path, "places", header, tensors)
    del tensors
    assert path.stat().st_size < 10**6
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ValueError, match=r"hostile\.places: the network takes 33\d{7} bytes .*, more than max_bytes"):
        load_places(path, max_bytes=300_000_000)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000  # kB


def test_the_published_network_is_far_below_the_limit() -> None:
    parameters = outline(PlaceNet, "vgg16", clusters=64, whitening=4096).count_params()
    assert 5 * (4 + 1) * parameters < coding.MAX_BYTES


def test_training_goes_on(compressed: Compressed, places_file: Path, tmp_path: Path) -> None:
    """From the very weights and descriptors that were saved, and what comes out is shared and saved again."""
    loaded = load_compressed(places_file)
    images = np.random.default_rng(0).integers(0, 256, (4, 48, 64, 3)).astype(np.float32)
    np.testing.assert_array_equal(loaded.model.predict(images, verbose=0), compressed.model.predict(images, verbose=0))
    for variable, original in zip(loaded.model.weights, compressed.model.weights, strict=True):
        assert variable.trainable == original.trainable
        assert variable.numpy().tobytes() == original.numpy().tobytes()
        if variable.path in loaded.shared:
            assert loaded.shared[variable.path].weights().tobytes() == variable.numpy().tobytes()
    training = SharedTraining(loaded.model, loaded.shared)
    training.compile(keras.optimizers.Adam(1e-3), "mse")
    target = np.eye(6, dtype=np.float32)[[0, 1, 0, 1]]
    losses = training.fit(images, target, epochs=4, batch_size=4, verbose=0).history["loss"]
    assert losses[-1] < losses[0]
    tuned = Compressed(loaded.model, training.settle(), loaded.provenance)
    for variable in tuned.model.weights:
        if variable.path in tuned.shared:
            assert tuned.shared[variable.path].weights().tobytes() == variable.numpy().tobytes()
            assert np.all(variable.numpy()[compressed.shared[variable.path].weights() == 0] == 0)
    assert any(np.any(tuned.shared[n].levels != s.levels) for n, s in compressed.shared.items())
    save_places(tmp_path / "tuned.places", tuned)
    again = load_compressed(tmp_path / "tuned.places")
    for variable, original in zip(again.model.weights, tuned.model.weights, strict=True):
        assert variable.numpy().tobytes() == original.numpy().tobytes()
