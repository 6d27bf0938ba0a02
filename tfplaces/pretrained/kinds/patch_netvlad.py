"""Checkpoints of QVPR/Patch-NetVLAD: VGG16, NetVLAD and a whitening; their global descriptors."""

from __future__ import annotations

from tfplaces.pretrained.checkpoints import Checkpoint
from tfplaces.pretrained.kinds import heads
from tfplaces.pretrained.kinds.base import IMAGENET, Kind, Plan, Size, has
from tfplaces.pretrained.kinds.torch_networks import torch_backbone


def recognises(checkpoint: Checkpoint) -> bool:
    return has(checkpoint, "encoder.0.weight", "pool.centroids", "WPCA.0.weight")


def plan(checkpoint: Checkpoint, input_size: Size | None) -> Plan:
    backbone = torch_backbone(checkpoint, "encoder.")
    options, weights = heads.netvlad(checkpoint, "pool.", backbone.channels)
    reduced, pca = heads.whitening(checkpoint, "WPCA.0", options["clusters"] * backbone.channels)
    return Plan(
        {
            **backbone.arguments, **options, **reduced, **IMAGENET,
            "norm": "torch", "input_size": input_size or (480, 640),
        },
        {**backbone.weights, **weights, **pca},
        notes=["The network gives Patch-NetVLAD's global descriptor; its patches are not part of it."],
    )  # fmt: skip


KIND = Kind("QVPR/Patch-NetVLAD", recognises, plan)
