"""Checkpoints of yxgeee/OpenIBL (SFRS): VGG16, NetVLAD and, in the published file, a PCA layer."""

from __future__ import annotations

from tfplaces.pretrained.checkpoints import Checkpoint
from tfplaces.pretrained.kinds import heads
from tfplaces.pretrained.kinds.base import Kind, Plan, Size, has
from tfplaces.pretrained.kinds.torch_networks import torch_backbone

# Of RGB 0 to 1; the standard deviation is 1/255, so that pixels are 0 to 255 minus 255 times this.
_MEAN = (0.48501960784313836, 0.4579568627450961, 0.4076039215686255)


def recognises(checkpoint: Checkpoint) -> bool:
    return has(checkpoint, "base_model.base.0.weight", "net_vlad.centroids")


def plan(checkpoint: Checkpoint, input_size: Size | None) -> Plan:
    backbone = torch_backbone(checkpoint, "base_model.base.")
    options, weights = heads.netvlad(checkpoint, "net_vlad.", backbone.channels)
    notes = []
    if has(checkpoint, "pca_layer.weight"):
        reduced, pca = heads.whitening(checkpoint, "pca_layer", options["clusters"] * backbone.channels)
        options, weights = {**options, **reduced}, {**weights, **pca}
    else:
        notes = ["The file has no PCA layer (in training it is kept apart, in a file pca_params_NAME.h5)."]
    return Plan(
        {
            **backbone.arguments, **options, "scale": 1.0, "offset": tuple(-255 * mean for mean in _MEAN),
            "norm": "torch", "input_size": input_size or (480, 640),
        },
        {**backbone.weights, **weights},
        notes,
        resize="The source resizes to 480x640 as we do, but queries of Tokyo 24/7 with their aspect ratio, to 640 on "
        "the shorter side.",
    )  # fmt: skip


KIND = Kind("yxgeee/OpenIBL", recognises, plan)
