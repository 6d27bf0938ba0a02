"""Checkpoints of gmberton/deep-visual-geo-localization-benchmark: NetVLAD or GeM, with or without a linear layer.

Its GeM stands in a `Sequential`, whose numbers tell where local features are normalised: `aggregation.1.p` is an L2
before the pooling (the default), `aggregation.0.p` one after it or none; with a linear layer (`fc_output_dim`) all of
that is `aggregation.0`, and the layer `aggregation.1`.
"""

from __future__ import annotations

from tfplaces.common.errors import UserError
from tfplaces.pretrained.checkpoints import Checkpoint
from tfplaces.pretrained.kinds import heads
from tfplaces.pretrained.kinds.base import IMAGENET, Kind, Plan, Size, has
from tfplaces.pretrained.kinds.torch_networks import torch_backbone

_MARKS = ("conv.weight", "1.p", "0.p", "crn.accumulate.weight", "0.conv.weight", "0.1.p", "0.0.p")


def recognises(checkpoint: Checkpoint) -> bool:
    if not has(checkpoint, "backbone.0.weight") or has(checkpoint, "aggregation.3.weight"):
        return False
    return any(has(checkpoint, f"aggregation.{mark}") for mark in _MARKS)


def plan(checkpoint: Checkpoint, input_size: Size | None) -> Plan:
    if any(name.startswith(("aggregation.crn.", "aggregation.0.crn.")) for name in checkpoint.tensors):
        raise UserError(
            f"{checkpoint.path}: a CRN (aggregation.crn), which weighs NetVLAD's features, is not supported"
        )
    backbone = torch_backbone(checkpoint, "backbone.")
    linear = "aggregation.1" if has(checkpoint, "aggregation.1.weight") else ""
    within = "aggregation.0." if linear else "aggregation."
    notes = []
    if has(checkpoint, f"{within}centroids"):
        options, weights = heads.netvlad(checkpoint, within, backbone.channels)
        if linear:
            reduced, fc = heads.whitening(checkpoint, linear, options["clusters"] * backbone.channels)
            options, weights = {**options, **reduced}, {**weights, **fc}
    else:
        l2_first = has(checkpoint, f"{within}1.p")
        if linear and not l2_first:
            raise UserError(
                f"{checkpoint.path}: its names do not say whether the pooled vector is normalised before the linear "
                "layer (l2=after_pool or none); a linear layer after l2=before_pool is supported"
            )
        options, weights = heads.gem(
            checkpoint, f"{within}{1 if l2_first else 0}.p", backbone.channels, linear, l2_first
        )
        if not linear:
            notes.append("Descriptors are L2-normalised at the end; the source leaves them as they are unless l2 is "
                         "after_pool. Cosine similarities are the same.")  # fmt: skip
    return Plan(
        {**backbone.arguments, **options, **IMAGENET, "norm": "torch", "input_size": input_size or (480, 640)},
        {**backbone.weights, **weights},
        notes,
        resize="The source resizes the normalised tensor to 480x640, without antialiasing before torchvision 0.17.",
    )


KIND = Kind("gmberton/deep-visual-geo-localization-benchmark", recognises, plan)
