"""Training the later layers of a network alone."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from tfplaces.common.errors import UserError
from tfplaces.models import BACKBONES, PlaceNet


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


def first_trained(model: PlaceNet, wanted: str | None = None, random: bool = False) -> str | None:
    """The layer to train a network from, for `trained_from`.

    Args:
        model: the network.
        wanted: the name of a layer of the backbone; `all` for the whole network, `head` for nothing of the backbone;
            None for what suits the backbone: its `train_from` in `tfplaces.models.BACKBONES`, or, where the features
            are cut off before that, the last third of its layers with weights.
        random: whether the backbone's weights are random, so that by default all are trained.

    Raises:
        UserError: the backbone has no such layer before the cut.
    """
    names = [layer.name for layer in model.backbone_layers]
    if wanted == "all" or (wanted is None and random):
        return None
    if wanted == "head":
        return model.head_layers[0].name
    if wanted is not None:
        if wanted not in names:
            raise UserError(
                f"layer {wanted!r} to train from: {model.config['backbone']} has none of that name up to "
                f"{model.config['cut']}; name one of its layers, or all, or head"
            )
        return wanted
    usual = BACKBONES[model.config["backbone"]].train_from
    weighted = [layer.name for layer in model.backbone_layers if layer.weights]
    return usual if usual in names else weighted[2 * len(weighted) // 3]
