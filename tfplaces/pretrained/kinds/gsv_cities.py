"""Checkpoints of amaralibey/gsv-cities, MixVPR and OpenVPRLab: a ResNet and one of four aggregations.

The aggregations have the same names in all three; gsv-cities and MixVPR name the backbone alike.
"""

from __future__ import annotations

from tfplaces.common.errors import UserError
from tfplaces.pretrained.checkpoints import Checkpoint
from tfplaces.pretrained.kinds import heads
from tfplaces.pretrained.kinds.base import IMAGENET, Kind, Plan, Size, has
from tfplaces.pretrained.kinds.torch_networks import torch_backbone

_MIXVPR = "aggregator.mix.0.mix.0.weight"
_OTHERS = ("aggregator.channel_pool.weight", "aggregator.p", "aggregator.gem.p")
_LAB = ("backbone.unfrozen_layers.", "backbone.frozen_layers.")


def _in_lab(checkpoint: Checkpoint) -> bool:
    return any(name.startswith(_LAB) for name in checkpoint.tensors)


def is_mixvpr(checkpoint: Checkpoint) -> bool:
    return has(checkpoint, _MIXVPR) and not _in_lab(checkpoint)


def is_gsv_cities(checkpoint: Checkpoint) -> bool:
    return any(has(checkpoint, name) for name in _OTHERS) and not has(checkpoint, _MIXVPR) and not _in_lab(checkpoint)


def is_lab(checkpoint: Checkpoint) -> bool:
    return any(has(checkpoint, name) for name in (_MIXVPR, *_OTHERS)) and _in_lab(checkpoint)


def plan(checkpoint: Checkpoint, input_size: Size | None) -> Plan:
    backbone = torch_backbone(checkpoint, "backbone." if _in_lab(checkpoint) else "backbone.model.")
    size, notes = input_size or (320, 320), []
    if has(checkpoint, _MIXVPR):
        (options, weights), size = heads.mixvpr(
            checkpoint, "aggregator.", backbone.channels, backbone.stride, input_size
        )
        notes.append(f"MixVPR has weights for each place of the map: it takes images of {size[0]}x{size[1]} alone.")
    elif has(checkpoint, "aggregator.channel_pool.weight"):
        options, weights = heads.convap(checkpoint, "aggregator.", backbone.channels)
        notes.append("ConvAP's bins are taken to be 2x2, as in all published networks: the file does not say so.")
    elif has(checkpoint, "aggregator.gem.p"):
        options, weights = heads.gem(checkpoint, "aggregator.gem.p", backbone.channels, "aggregator.fc", l2_first=True)
    elif has(checkpoint, "aggregator.p"):
        options, weights = heads.gem(checkpoint, "aggregator.p", backbone.channels)
    else:
        raise UserError(f"{checkpoint.path}: its aggregation is none of MixVPR, ConvAP, GeM and CosPlace's")
    return Plan(
        {**backbone.arguments, **options, **IMAGENET, "norm": "torch", "input_size": size},
        {**backbone.weights, **weights},
        notes,
        resize="The source resizes bilinearly, as we do, but for a few files and demos, which are bicubic.",
    )


MIXVPR = Kind("amaralibey/MixVPR", is_mixvpr, plan)
GSV_CITIES = Kind("amaralibey/gsv-cities", is_gsv_cities, plan)
OPENVPRLAB = Kind("amaralibey/OpenVPRLab", is_lab, plan)
