"""Weights from files and from Keras Applications: they arrive where they belong, or one line says why not."""

import importlib.util
import io
import json
import os
import warnings
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import keras
import numpy as np
import pytest

from tfplaces.common.errors import DataWarning, UserError
from tfplaces.models import BACKBONES, PlaceNet
from tfplaces.pretrained import load_backbone_weights, published_preprocessing
from tfplaces.pretrained.backbone_weights import application_arrays, set_backbone_weights
from tfplaces.pretrained.torch_backbones import TORCH_BACKBONES, backbone_arrays

RNG = np.random.default_rng(0)
pytestmark = pytest.mark.filterwarnings("ignore::tfplaces.common.errors.DataWarning")


def backbone_layers(model: PlaceNet) -> list[keras.layers.Layer]:
    return [layer for layer in model.layers if layer.weights and layer.name not in ("netvlad", "whitening")]


def random_arrays(model: PlaceNet) -> dict[str, np.ndarray]:
    """Float16 kernels and float32 biases, as in the published files."""
    arrays = {}
    for layer in backbone_layers(model):
        arrays[f"{layer.name}/kernel"] = (0.1 * RNG.normal(size=layer.kernel.shape)).astype(np.float16)
        arrays[f"{layer.name}/bias"] = RNG.normal(size=layer.bias.shape).astype(np.float32)
    return arrays


def features(model: PlaceNet, images: np.ndarray) -> np.ndarray:
    """The feature map, without the preprocessing."""
    after = keras.Model(model.get_layer("preprocessing").output, model.feature_layer.output)
    return np.asarray(after(images))


@pytest.fixture(scope="module")
def squeezenet() -> PlaceNet:
    return PlaceNet("squeezenet", clusters=2, cut="fire2")


@pytest.fixture
def arrays(squeezenet: PlaceNet) -> dict[str, np.ndarray]:
    return random_arrays(squeezenet)


def test_float16_arrays_arrive(squeezenet: PlaceNet, arrays: dict[str, np.ndarray], tmp_path: Path) -> None:
    netvlad = squeezenet.get_layer("netvlad").get_weights()
    np.savez(tmp_path / "w.npz", **arrays, another=np.zeros(3))
    load_backbone_weights(squeezenet, str(tmp_path / "w.npz"))
    for layer in backbone_layers(squeezenet):
        kernel = arrays[f"{layer.name}/kernel"].astype(np.float32)
        np.testing.assert_array_equal(layer.kernel, kernel[:, :, ::-1] if layer.name == "conv1" else kernel)
        np.testing.assert_array_equal(layer.bias, arrays[f"{layer.name}/bias"])
    for old, new in zip(netvlad, squeezenet.get_layer("netvlad").get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_none_changes_nothing(squeezenet: PlaceNet) -> None:
    before = squeezenet.get_weights()
    load_backbone_weights(squeezenet, "none")
    for old, new in zip(before, squeezenet.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


@pytest.mark.parametrize("backbone", ["squeezenet", "alexnet", "vgg16", "mobilenet_v1"])
def test_first_convolution_as_by_hand(backbone: str) -> None:
    """RGB in the model equals the published convention by hand: BGR minus its mean, or x / 127.5 − 1, times the kernel.

    The value of one output position, away from the border, summed over the kernel's window.
    """
    cut = {"squeezenet": "conv1", "alexnet": "conv1", "vgg16": "conv1_1", "mobilenet_v1": "conv1"}[backbone]
    model = PlaceNet(backbone, clusters=2, cut=cut)
    weights = random_arrays(model)
    set_backbone_weights(model, weights, "test")
    image = RNG.integers(0, 256, (1, 32, 32, 3)).astype(np.float32)
    by_hand = image[0].astype(np.float64)
    if backbone == "mobilenet_v1":
        by_hand = by_hand / 127.5 - 1
    else:
        bgr_mean = {"squeezenet": (104, 117, 123)}.get(backbone, (103.939, 116.779, 123.68))
        by_hand = by_hand[:, :, ::-1] - np.array(bgr_mean)
    kernel = weights[f"{cut}/kernel"].astype(np.float64)
    size, stride = len(kernel), model.get_layer(cut).strides[0]
    # Padding "same" puts the window of VGG16's output y at y − 1; MobileNet's stride 2 on an even size pads behind.
    start = {"vgg16": -1}.get(backbone, 0)
    y, x = 3, 4
    top, left = y * stride + start, x * stride + start
    window = by_hand[top : top + size, left : left + size]
    expected = np.einsum("hwi,hwio->o", window, kernel) + weights[f"{cut}/bias"]
    actual = np.asarray(keras.Model(model.inputs[0], model.get_layer(cut).output)(image))[0, y, x]
    np.testing.assert_allclose(actual, expected, rtol=1e-3, atol=2e-3 * np.abs(expected).max())


def test_int8_kernels_have_a_scale_per_output_channel() -> None:
    """int8 · scale of the channel, for a depthwise kernel `[h, w, channels, 1]` along its third axis."""
    model = PlaceNet("mobilenet_v1", clusters=2, cut="conv_pw_2_relu")
    weights = random_arrays(model)
    expected = {}
    for layer in backbone_layers(model):
        depthwise = isinstance(layer, keras.layers.DepthwiseConv2D)
        kernel = RNG.integers(-127, 128, layer.kernel.shape, np.int8)
        scale = RNG.uniform(0.001, 0.1, layer.kernel.shape[2 if depthwise else 3]).astype(np.float32)
        weights |= {f"{layer.name}/kernel": kernel, f"{layer.name}/scale": scale}
        expected[layer.name] = kernel * (scale.reshape(1, 1, -1, 1) if depthwise else scale)
    set_backbone_weights(model, weights, "test")
    for layer in backbone_layers(model):
        np.testing.assert_allclose(layer.kernel, expected[layer.name], rtol=1e-6)

    del weights["conv_dw_2/scale"]
    with pytest.raises(ValueError, match=r"^test: conv_dw_2/kernel is int8 and has no 'conv_dw_2/scale'"):
        set_backbone_weights(model, weights, "test")
    weights["conv_dw_2/scale"] = np.ones(3, np.float32)
    with pytest.raises(ValueError, match=r"^test: conv_dw_2/scale holds float32 \(3,\), expected .*\(64,\)"):
        set_backbone_weights(model, weights, "test")


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("fire2_squeeze1x1/bias", None, "no array 'fire2_squeeze1x1/bias'; is it for the backbone squeezenet"),
        ("conv1/kernel", np.zeros((3, 3, 3, 96), np.float16), r"conv1/kernel has shape \(3, 3, 3, 96\), expected \(7"),
        ("conv1/bias", np.full(96, np.nan, np.float32), "conv1/bias has values that are not finite"),
        ("conv1/bias", np.full(96, 1e300), "conv1/bias has values that are not finite"),
        ("conv1/bias", np.full(96, "a"), "conv1/bias holds <U1"),
        ("conv1/bias", np.full(96, None), "conv1/bias cannot be read .*Python objects, which are not unpickled"),
    ],
)
def test_bad_arrays(
    key: str, value: np.ndarray | None, message: str, squeezenet: PlaceNet, arrays: dict, tmp_path: Path
) -> None:
    path = tmp_path / "w.npz"
    arrays[key] = value
    np.savez(path, **{k: v for k, v in arrays.items() if v is not None})
    before = squeezenet.get_weights()
    with pytest.raises(ValueError, match=f"^{path}: {message}"):
        load_backbone_weights(squeezenet, str(path))
    for old, new in zip(before, squeezenet.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def save_truncated(path: Path) -> None:
    np.savez(path, a=np.zeros(999))
    path.write_bytes(path.read_bytes()[:2000])


def save_damaged(path: Path) -> None:
    """A compressed member with its first bytes overwritten: zlib, not numpy, complains."""
    np.savez_compressed(path, **{"conv1/kernel": np.arange(999)})
    data = bytearray(path.read_bytes())
    data[70:80] = b"\xff" * 10
    path.write_bytes(data)


def save_encrypted(path: Path) -> None:
    """A bit in the local header, and in the archive's list of its members, says so."""
    np.savez(path, **{"conv1/kernel": np.arange(999)})
    data = bytearray(path.read_bytes())
    for signature, offset in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        data[data.index(signature) + offset] |= 1
    path.write_bytes(data)


def save_twice(path: Path) -> None:
    np.savez(path, **{"conv1/kernel": np.arange(9)})
    with zipfile.ZipFile(path, "a") as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        archive.writestr("conv1/kernel.npy", b"another")


def save_larger_than_said(path: Path) -> None:
    """The header of a few bytes asks for 2 TB."""
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f4", "fortran_order": False, "shape": (10**6, 500_000)})
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("conv1/kernel.npy", header.getvalue() + bytes(400))


def test_what_is_left_out_and_turned_round_is_said(squeezenet: PlaceNet, arrays: dict, tmp_path: Path) -> None:
    extra = {f"fire9/{i}": np.zeros(3) for i in range(4)}
    np.savez(tmp_path / "w.npz", **arrays, **extra)
    with pytest.warns(DataWarning) as caught:
        load_backbone_weights(squeezenet, str(tmp_path / "w.npz"))
    assert [str(one.message).removeprefix(f"{tmp_path}/") for one in caught] == [
        f"w.npz: 4 of {len(arrays) + 4} arrays are left out, as this squeezenet has no layers for them: "
        "fire9/0, fire9/1, fire9/2, ...",
        "w.npz: conv1/kernel is taken as published, for BGR (blue first), and turned round to RGB",
    ]
    model = PlaceNet("mobilenet_v1", clusters=2, cut="conv_dw_1", input_size=(32, 32))
    np.savez(tmp_path / "rgb.npz", **random_arrays(model))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load_backbone_weights(model, str(tmp_path / "rgb.npz"))


def test_what_no_layer_wants_is_not_inflated(
    squeezenet: PlaceNet, arrays: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor what a layer wants in another shape."""
    from tfplaces.common.npz_file import NpzFile

    read, names = NpzFile.read, []
    monkeypatch.setattr(NpzFile, "read", lambda self, name: (names.append(name), read(self, name))[1])
    arrays["fire2_squeeze1x1/kernel"] = np.zeros((9, 9))
    np.savez_compressed(tmp_path / "w.npz", junk=np.zeros(10**7), **arrays)
    with pytest.raises(UserError, match=r"fire2_squeeze1x1/kernel has shape \(9, 9\)"):
        load_backbone_weights(squeezenet, str(tmp_path / "w.npz"))
    assert names == ["conv1/kernel", "conv1/bias"]


def test_a_file_in_the_order_of_fortran(squeezenet: PlaceNet, arrays: dict, tmp_path: Path) -> None:
    np.savez(tmp_path / "c.npz", **arrays)
    np.savez(tmp_path / "f.npz", **{name: np.asfortranarray(array) for name, array in arrays.items()})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        load_backbone_weights(squeezenet, str(tmp_path / "c.npz"))
        expected = squeezenet.get_weights()
        load_backbone_weights(squeezenet, str(tmp_path / "f.npz"))
    for one, other in zip(squeezenet.get_weights(), expected, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    ("save", "message"),
    [
        (lambda path: None, "no such file; backbone weights are none, imagenet, an .npz file or a file of "),
        (lambda path: path.mkdir(), "a folder, not a regular file"),
        (lambda path: os.mkfifo(path), "a FIFO, not a regular file"),
        (lambda path: path.write_text("hello"), r"no file of weights that is known; .*\.npz files"),
        (lambda path: path.write_bytes(b""), "it is empty; "),
        (lambda path: np.save(path.open("wb"), np.zeros(3)), "no file of weights that is known; "),
        (save_truncated, "not a zip archive that is whole"),
        (save_damaged, "conv1/kernel cannot be read"),
        (save_encrypted, "conv1/kernel cannot be read .*encrypted"),
        (save_twice, "the archive has two members called conv1/kernel"),
        (save_larger_than_said, "conv1/kernel cannot be read .*more than the archive holds of it"),
    ],
)
def test_bad_files(save: Callable[[Path], None], message: str, squeezenet: PlaceNet, tmp_path: Path) -> None:
    path = tmp_path / "w.npz"
    save(path)
    with pytest.raises(ValueError, match=f"^{path}: {message}"):
        load_backbone_weights(squeezenet, str(path))


def pytorch_tensors(backbone: str, cut: str, prefix: str = "") -> dict[str, np.ndarray]:
    """Random tensors under PyTorch's names, for the layers up to a cut."""
    wanted = {layer.name for layer in PlaceNet(backbone, cut=cut, clusters=1).backbone_layers}
    tensors = {}
    for convolution in TORCH_BACKBONES[backbone]():
        if convolution.layer not in wanted:
            continue
        tensors[f"{prefix}{convolution.name}.weight"] = RNG.normal(size=convolution.shape).astype(np.float16)
        channels = convolution.shape[0]
        if convolution.norm is None:
            tensors[f"{prefix}{convolution.name}.bias"] = RNG.normal(size=channels).astype(np.float32)
            continue
        for part in ("weight", "bias", "running_mean", "running_var"):
            tensors[f"{prefix}{convolution.norm}.{part}"] = RNG.uniform(0.5, 2, channels).astype(np.float32)
        tensors[f"{prefix}{convolution.norm}.num_batches_tracked"] = np.array(3)
    return tensors


def write_safetensors(path: Path, tensors: dict[str, np.ndarray]) -> None:
    header, data = {}, b""
    for name, array in tensors.items():
        dtype = {"float16": "F16", "float32": "F32", "int64": "I64"}[array.dtype.name]
        offsets = [len(data), len(data) + array.nbytes]
        header[name] = {"dtype": dtype, "shape": list(array.shape), "data_offsets": offsets}
        data += array.tobytes()
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)


@pytest.mark.parametrize("form", ["npz", "safetensors"])
@pytest.mark.parametrize(("backbone", "cut"), [("efficientnet_lite0", "block_1_project"), ("resnet18", "layer1")])
def test_files_of_pytorch(form: str, backbone: str, cut: str, tmp_path: Path) -> None:
    """Recognised by their content; what else is in the file is said."""
    tensors = pytorch_tensors(backbone, cut, "net.")
    path = tmp_path / "weights.bin"
    everything = {**tensors, "fc.weight": np.zeros((3, 5), np.float32)}
    if form == "npz":
        with open(path, "wb") as file:
            np.savez(file, **everything)
    else:
        write_safetensors(path, everything)
    model = PlaceNet(backbone, cut=cut, clusters=1)
    with pytest.warns(DataWarning) as caught:
        load_backbone_weights(model, str(path))
    assert [str(one.message) for one in caught] == [
        f"{path}: 1 of {len(everything)} arrays are left out, as this {backbone} has no layers for them: fc.weight"
    ]
    made = backbone_arrays(tensors, backbone, cut)
    for layer in backbone_layers(model):
        np.testing.assert_array_equal(layer.kernel, made.arrays[f"{layer.name}/kernel"])
        np.testing.assert_array_equal(layer.bias, made.arrays[f"{layer.name}/bias"])

    del everything["net.bn1.running_var" if backbone == "resnet18" else "net._bn0.running_var"]
    write_safetensors(path, everything)
    with pytest.raises(UserError, match=f"^{path}: no tensor 'net.*running_var', which {backbone} needs for its layer"):
        load_backbone_weights(model, str(path))


def test_vgg16_of_pytorch_needs_its_preprocessing(tmp_path: Path) -> None:
    """Its kernels take RGB, so nothing is turned round; the usual VGG16 is Caffe's, on another scale."""
    tensors = pytorch_tensors("vgg16", "conv1_2", "features.")
    path = str(tmp_path / "vgg16.safetensors")
    write_safetensors(tmp_path / "vgg16.safetensors", tensors)
    with pytest.raises(UserError, match=r"^.*vgg16\.safetensors: PyTorch's vgg16 takes other preprocessing"):
        load_backbone_weights(PlaceNet("vgg16", cut="conv1_2", clusters=1), path)
    preprocessing = published_preprocessing("vgg16", path)
    assert preprocessing == {key: getattr(BACKBONES["resnet18"], key) for key in ("scale", "offset")}
    model = PlaceNet("vgg16", cut="conv1_2", clusters=1, **preprocessing)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load_backbone_weights(model, path)
    kernel = tensors["features.0.weight"].astype(np.float32).transpose(2, 3, 1, 0)
    np.testing.assert_array_equal(model.get_layer("conv1_1").kernel, kernel)

    np.savez(tmp_path / "ours.npz", **random_arrays(model))
    assert published_preprocessing("vgg16", str(tmp_path / "ours.npz")) == {}
    assert published_preprocessing("vgg16", "imagenet") == published_preprocessing("resnet18", path) == {}


def randomised(application: keras.Model) -> keras.Model:
    """Batch norms with statistics that matter, and kernels that keep the signal of the image alive."""
    for layer in application.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            n = layer.gamma.shape[0]
            layer.set_weights(
                [RNG.uniform(0.5, 1.5, n), RNG.normal(size=n), 0.3 * RNG.normal(size=n), RNG.uniform(0.5, 2, n)]
            )
        elif layer.weights:
            height, width, channels, _ = layer.kernel.shape
            seen = height * width * (1 if isinstance(layer, keras.layers.DepthwiseConv2D) else channels)
            layer.kernel.assign(RNG.normal(size=layer.kernel.shape) * np.sqrt(2 / seen))
    return application


@pytest.mark.parametrize(
    ("application", "backbone", "output", "cut"),
    [
        ("MobileNet", "mobilenet_v1", "conv_pw_11_relu", "conv_pw_11_relu"),
        ("MobileNet", "mobilenet_v1", "conv_pw_11_bn", "conv_pw_11"),
        ("MobileNetV2", "mobilenet_v2", "block_13_expand_BN", "block_13_expand"),
        ("VGG16", "vgg16", "block5_conv3", "relu5_3"),
    ],
)
def test_keras_applications_give_the_same_features(application: str, backbone: str, output: str, cut: str) -> None:
    """The application's own layer, batch norm and all, against ours with the batch norm folded in.

    VGG16 takes BGR there and RGB here, so its image is reversed.
    """
    shape = (64, 96, 3)
    theirs = randomised(getattr(keras.applications, application)(include_top=False, weights=None, input_shape=shape))
    ours = PlaceNet(backbone, clusters=2, cut=cut)
    set_backbone_weights(ours, application_arrays(theirs), "test")
    images = RNG.normal(size=(2, *shape)).astype(np.float32)
    reference = keras.Model(theirs.inputs[0], theirs.get_layer(output).output)
    expected = np.asarray(reference(images[..., ::-1] if BACKBONES[backbone].bgr else images))
    # Features that come from the image, not from the biases alone.
    assert expected.std(axis=(0, 1, 2)).mean() > 0.1 * expected.std()
    np.testing.assert_allclose(features(ours, images), expected, atol=1e-4 * np.abs(expected).max())


def test_imagenet_asks_keras_applications(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the download replaced by random weights, so that there is no network in the tests."""
    asked = {}
    mobilenet = keras.applications.MobileNet
    application = mobilenet(include_top=False, weights=None, input_shape=(32, 32, 3))

    def stand_in(**options) -> keras.Model:
        asked.update(options)
        return application

    monkeypatch.setattr(keras.applications, "MobileNet", stand_in)
    model = PlaceNet("mobilenet_v1", clusters=2)
    load_backbone_weights(model, "imagenet")
    assert asked == {"include_top": False, "weights": "imagenet"}
    arrays: Mapping[str, np.ndarray] = application_arrays(application)
    np.testing.assert_array_equal(model.get_layer("conv_pw_3").kernel, arrays["conv_pw_3/kernel"])


@pytest.mark.parametrize("backbone", ["mobilenet_v1", "mobilenet_v2", "vgg16"])
def test_imagenet_offline(backbone: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """keras.utils.get_file raises a bare Exception when there is no network."""

    def offline(**options) -> None:
        raise Exception("URL fetch failure on https://storage.googleapis.com")

    for application in ("MobileNet", "MobileNetV2", "VGG16"):
        monkeypatch.setattr(keras.applications, application, offline)
    model = PlaceNet(backbone, clusters=2)
    with pytest.raises(ValueError, match=rf"ImageNet weights of {backbone} .*URL fetch failure.*give a file") as error:
        load_backbone_weights(model, "imagenet")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("backbone", "why"),
    [
        ("alexnet", ""),
        ("squeezenet", ""),
        ("resnet18", ""),
        ("resnet50", r" \(its ResNet50 .*first 1x1 convolution .*3x3 convolution\)"),
        ("efficientnet_lite0", r" \(its EfficientNetB0 has squeeze-and-excitation .*\)"),
    ],
)
def test_imagenet_of_what_keras_applications_has_not(backbone: str, why: str) -> None:
    """Keras's ResNet50 would fit in shape, and is another network: its strides are elsewhere."""
    with pytest.raises(ValueError, match=f"Keras Applications has no {backbone}{why}; it has mobilenet_v1, .* a file"):
        load_backbone_weights(PlaceNet(backbone, clusters=2), "imagenet")


@pytest.mark.parametrize(
    ("backbone", "file", "script", "output", "cut"),
    [
        ("mobilenet_v1", "mobilenet_v1_1.0_224_to_pw11.npz", "load_mobilenet_v1", "conv_pw_11_linear", "conv_pw_11"),
        ("mobilenet_v2", "mobilenet_v2_1.0_224.npz", "load_mobilenet_v2", "block_13_expand", "block_13_expand_relu"),
        ("squeezenet", "squeezenet_v1.0.npz", "load_squeezenet", "fire9", "fire9"),
    ],
)
def test_real_weights_give_the_features_of_their_loaders(
    backbone: str, file: str, script: str, output: str, cut: str, tfplaces_data: Path
) -> None:
    """The oracle is the loader published beside each file, with its own preprocessing."""
    folder = tfplaces_data / "weights"
    spec = importlib.util.spec_from_file_location(script, folder / f"{script}.py")
    loader = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loader)
    image = RNG.integers(0, 256, (1, 96, 128, 3), np.uint8)
    expected = np.asarray(loader.load_weights(loader.build((96, 128, 3), output))(loader.preprocess(image)))
    model = PlaceNet(backbone, clusters=2, cut=cut)
    load_backbone_weights(model, str(folder / file))
    actual = np.asarray(keras.Model(model.inputs[0], model.feature_layer.output)(image.astype(np.float32)))
    assert expected.std() > 1e-3
    np.testing.assert_allclose(actual, expected, atol=1e-4 * np.abs(expected).max())
