"""Backbones alone in `.npz` files with the names of our layers: `LAYER/kernel`, `LAYER/bias`, perhaps `LAYER/scale`."""

from __future__ import annotations

import numpy as np

from tfplaces.common.errors import UserError
from tfplaces.models.backbones import BACKBONES
from tfplaces.models.place_net import PlaceNet
from tfplaces.pretrained.checkpoints import Checkpoint
from tfplaces.pretrained.kinds.base import Kind, Plan, Size, Weight, seen
from tfplaces.pretrained.kinds.torchvision import GEM, GEM_WEIGHTS, NOTE


def recognises(checkpoint: Checkpoint) -> bool:
    return any(f"{spec.first}/kernel" in checkpoint.tensors for spec in BACKBONES.values())


def plan(checkpoint: Checkpoint, input_size: Size | None) -> Plan:
    fitting = {name: layers for name in BACKBONES if (layers := _layers(checkpoint, name))}
    if not fitting:
        raise UserError(f"{checkpoint.path}: its arrays are those of no backbone that there is: {seen(checkpoint)}")
    if len(fitting) > 1:
        raise UserError(
            f"{checkpoint.path}: fits {' and '.join(fitting)}, whose arrays are alike; choose one with "
            f"tfplaces-train --backbone=NAME --backbone_weights={checkpoint.path}"
        )
    ((backbone, layers),) = fitting.items()
    spec = BACKBONES[backbone]
    weights = {}
    for layer, depthwise in layers.items():
        weights[f"{layer}/kernel"] = _kernel(checkpoint, layer, depthwise, spec.bgr and layer == spec.first)
        weights[f"{layer}/bias"] = Weight((f"{layer}/bias",), checkpoint.tensors[f"{layer}/bias"].read)
    notes = [NOTE.format(backbone=backbone, file=checkpoint.path)]
    if spec.bgr:
        notes.append(f"{spec.first}/kernel is taken as published, for BGR (blue first), and turned round to RGB.")
    arguments = {"backbone": backbone, "cut": spec.cut, **GEM, "input_size": input_size or spec.input_size}
    return Plan(arguments, {**weights, **GEM_WEIGHTS}, notes)


def _layers(checkpoint: Checkpoint, backbone: str) -> dict[str, bool]:
    """The backbone's layers, with whether they are depthwise; none where the file lacks one, or has another shape."""
    if f"{BACKBONES[backbone].first}/kernel" not in checkpoint.tensors:
        return {}
    layers = {}
    for layer in PlaceNet(backbone, aggregation="gem").backbone_layers:
        for variable in layer.weights:
            entry = checkpoint.tensors.get(f"{layer.name}/{variable.name}")
            if entry is None or tuple(entry.shape) != tuple(variable.shape):
                return {}
            layers[layer.name] = hasattr(layer, "depth_multiplier")
    return layers


def _kernel(checkpoint: Checkpoint, layer: str, depthwise: bool, reverse: bool) -> Weight:
    kernel, scale = f"{layer}/kernel", f"{layer}/scale"
    entry = checkpoint.tensors[kernel]
    sources: tuple[str, ...] = (kernel,)
    if entry.dtype == np.int8:
        channels = entry.shape[2 if depthwise else 3]
        if scale not in checkpoint.tensors or tuple(checkpoint.tensors[scale].shape) != (channels,):
            raise UserError(
                f"{checkpoint.path}: {kernel} is int8, and there is no {scale} of {channels} numbers beside it"
            )
        sources = (kernel, scale)

    def read() -> np.ndarray:
        value = entry.read()
        if len(sources) == 2:
            factor = checkpoint.tensors[scale].read()
            value = value * (factor[:, None] if depthwise else factor)
        return value[:, :, ::-1] if reverse else value

    return Weight(sources, read)


KIND = Kind("a backbone in an .npz file with the names of our layers", recognises, plan)
