"""Training the later layers of a network alone."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from tfplaces.common.errors import UserError
from tfplaces.models import PlaceNet


@contextlib.contextmanager
def trained_from(model: PlaceNet, layer: str | None) -> Iterator[None]:
    """Within it the layers of the backbone before one stay as they are; afterwards all are trained that were before.

    Gradients are then computed down to that layer only. Compile within it.

    Args:
        model: the network.
        layer: name of a layer of the backbone, the first to be trained; of what comes after the backbone, for nothing
            of the backbone to be trained; None for all that is trained as it is.

    Raises:
        UserError: the network has no such layer, or it and those behind it have no weights.
    """
    names = [each.name for each in (*model.backbone_layers, *model.head_layers)]
    if layer is not None and layer not in names:
        raise UserError(f"layer {layer!r} to train from: {model.config['backbone']} has none of that name")
    before = [] if layer is None else names[: names.index(layer)]
    frozen = [each for name in before if (each := model.get_layer(name)).trainable]
    for each in frozen:
        each.trainable = False
    try:
        if not model.trainable_variables:
            raise UserError(f"layer {layer!r} to train from: neither it nor any layer after it has weights to train")
        yield
    finally:
        for each in frozen:
            each.trainable = True
