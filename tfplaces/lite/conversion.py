"""A conversion from beginning to end: the network is loaded, converted, checked, judged, and written with a report."""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from tfplaces.common.errors import UserError
from tfplaces.common.files import check_replaceable, write_json
from tfplaces.compression import Compressed, Distillation, Recipe, SharedKernel, compress
from tfplaces.datasets import Images, PlaceDataset, concatenate
from tfplaces.evaluation import check_positives
from tfplaces.lite.calibration import choose_images
from tfplaces.lite.check import Check, UnusableDescriptorError, check, check_usable, file_report
from tfplaces.lite.converter import convert
from tfplaces.lite.folders import converting_folder
from tfplaces.lite.layer_errors import LayerError, layer_errors
from tfplaces.lite.outputs import output_paths, report_path
from tfplaces.lite.requirements import check_requirements
from tfplaces.lite.targets import check_target
from tfplaces.models import PlaceNet


@dataclasses.dataclass(frozen=True)
class Conversion:
    """What came of a conversion.

    Attributes:
        path: path of the file that was written.
        rejected: why the file is not good enough, empty if it is; it is then named `OUTPUT.rejected`.
        report: what is known of the file, plain JSON types, as written beside it.
        layers: errors of the layers, the one that adds most first, where they were looked at.
    """

    path: str
    rejected: str
    report: dict[str, Any]
    layers: list[LayerError]


def run_conversion(
    load: Callable[[], PlaceNet | Compressed],
    output: str,
    precision: str = "mixed_int8",
    *,
    calibration: Sequence[Images] = (),
    finetune: Sequence[Images] = (),
    verify: Sequence[PlaceDataset] = (),
    max_drop: float = 1.0,
    force: bool = False,
    debug_layers: bool = False,
    input_size: tuple[int, int] | Literal["any"] | None = None,
    batch: int = 1,
    float_input: bool | None = None,
    int8_output: bool = False,
    descriptor_dim: int | None = None,
    target: str = "litert",
    seed: int = 0,
) -> Conversion:
    """Converts a network to a `.tflite`, checks and judges it, and writes it with its report.

    A network whose weights are not shared yet gets 8-bit weights on the int8 grid first, where the precision is one of
    integers. A file is rejected that loses more than `max_drop` on one of the data sets, or that describes one of
    their images, or of those for calibration, by a descriptor that is zero or not finite. The result is complete, or
    nothing is written.

    Args:
        load: opens the network. It is called once more where the network itself is changed, to compare with it.
        output: the `.tflite` file to make or replace. The report is put beside it as NAME.json.
        precision: see `convert`, as are the arguments that are not listed here.
        finetune: images that a network of new 8-bit weights is pulled towards the float one with.
        verify: data sets that the file is judged by, each on its own, beside the Keras model.
        max_drop: points of mAP that the file may lose on each of them.
        force: keep a file that loses more. One with descriptors that are zero or not finite is never kept.
        debug_layers: look at the errors of the layers whether the file is rejected or not.

    Raises:
        UserError: what cannot be converted, see `convert`; a data set that cannot be judged by; an output that cannot
            be replaced.
        OSError: the output's folder cannot be written to, or the disk is full.
    """
    if math.isnan(max_drop):
        raise UserError("max_drop is not a number: give the points of mAP that the file may lose")
    for dataset in verify:
        check_positives(dataset)
    for path in output_paths(output, bool(verify or calibration)):
        check_replaceable(path)
    options: dict[str, Any] = {
        "calibration": calibration, "input_size": input_size, "int8_output": int8_output,
        "descriptor_dim": descriptor_dim,
    }  # fmt: skip
    form: dict[str, Any] = {"target": target, "batch": batch, "float_input": float_input}
    with converting_folder(output) as folder:
        model, shared, is_changed = _loaded(load, precision, finetune, options, form, seed)
        path = os.path.join(folder, "model.tflite")
        errors = convert(model, path, precision, shared=shared, seed=seed, **options, **form)
        if verify and is_changed:
            model = _network(load())
        checks: list[Check] = []
        try:
            if sum(map(len, calibration)):
                check_usable(path, choose_images(calibration, 1, seed))
            checks += [check(path, model, dataset) for dataset in verify]
            rejected = "" if force else _loss(checks, max_drop)
            unusable = ""
        except UnusableDescriptorError as error:
            rejected = unusable = str(error)
            checks = []
        report = {**file_report(path, precision, errors, checks), "file": os.path.basename(output), "target": target}
        report["norm"] = "tflite" if target == "gpu" else model.config["norm"]
        layers = []
        if (rejected or debug_layers) and verify and not unusable:
            layers = layer_errors(path, model, verify[0], precision)
            report["worst_layers"] = [layer.to_json() for layer in layers]
        if unusable:
            report["unusable"] = unusable
        elif rejected:
            rejected += _blamed(layers)
        written = f"{output}.rejected" if rejected else output
        write_json(os.path.join(folder, "report.json"), report)
        os.replace(path, os.path.realpath(written))
        os.replace(os.path.join(folder, "report.json"), os.path.realpath(report_path(written)))
    return Conversion(written, rejected, report, layers)


def _network(loaded: PlaceNet | Compressed) -> PlaceNet:
    return loaded.model if isinstance(loaded, Compressed) else loaded


def _loaded(
    load: Callable[[], PlaceNet | Compressed],
    precision: str,
    finetune: Sequence[Images],
    options: Mapping[str, Any],
    form: Mapping[str, Any],
    seed: int,
) -> tuple[PlaceNet, Mapping[str, SharedKernel], bool]:
    """The network to convert, its sharing, and whether it is another than was loaded."""
    loaded = load()
    model = _network(loaded)
    check_requirements(model, precision, **options)
    of_target = {name: options[name] for name in ("input_size", "int8_output")}
    check_target(model, precision=precision, **of_target, **form)
    if isinstance(loaded, Compressed):
        return model, loaded.shared, False
    if "int" not in precision:
        return model, {}, False
    tune = None
    if finetune:
        tune = Distillation(model, concatenate(finetune), epochs=1, learning_rate=1e-4, seed=seed)
    return model, compress(model, Recipe(bits=8), tune).shared, True


def _loss(checks: Sequence[Check], max_drop: float) -> str:
    """One line that names the data set that loses most, if it loses too much; else empty."""
    worst = max(checks, key=lambda check: check.drop, default=None)
    if worst is None or worst.drop <= max_drop:
        return ""
    return f"loses {worst.drop:.2f} points of mAP on {worst.dataset}, more than max_drop={max_drop:g}"


def _blamed(layers: Sequence[LayerError]) -> str:
    if not layers:
        return "; it has no layer of integers"
    return f"; the layer that adds most error is {layers[0].layer} ({100 * layers[0].added:.1f} %)"
