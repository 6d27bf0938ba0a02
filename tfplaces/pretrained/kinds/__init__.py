"""Kinds of published checkpoints that can be imported.

To add one: a file here that tells how its files are recognised and what network of ours they make, and a line in
`KINDS`.
"""

from __future__ import annotations

from tfplaces.common.errors import UserError
from tfplaces.common.text import printable_name
from tfplaces.pretrained.checkpoints import Checkpoint
from tfplaces.pretrained.kinds import (
    cosplace,
    deep_vg,
    gsv_cities,
    netvlad_matconvnet,
    npz,
    openibl,
    patch_netvlad,
    pytorch_netvlad,
    torchvision,
)
from tfplaces.pretrained.kinds.base import Kind, Plan, Weight, seen

KINDS: dict[str, Kind] = {
    "cosplace": cosplace.KIND,
    "deep_vg": deep_vg.KIND,
    "gsv_cities": gsv_cities.GSV_CITIES,
    "mixvpr": gsv_cities.MIXVPR,
    "netvlad_matconvnet": netvlad_matconvnet.KIND,
    "npz": npz.KIND,
    "openibl": openibl.KIND,
    "openvprlab": gsv_cities.OPENVPRLAB,
    "patch_netvlad": patch_netvlad.KIND,
    "pytorch_netvlad": pytorch_netvlad.KIND,
    "torchvision": torchvision.KIND,
}

# Components of names that layers with attention have, in the transformers of this field.
_ATTENTION = {"attn", "self_attn", "self_attention", "attention", "cls_token", "class_token"}


def check_kind(name: str | None) -> None:
    """Raises UserError unless there is a kind of that name, or it is None."""
    if name is not None and name not in KINDS:
        raise UserError(f"kind {printable_name(name)[:40]!r} is not known; there are {', '.join(KINDS)}")


def find_kind(checkpoint: Checkpoint, name: str | None = None) -> str:
    """The kind of a checkpoint, a key of `KINDS`.

    Args:
        name: the kind that it is said to be; None to recognise it.

    Raises:
        UserError: it is of no kind or of several, not of the one that is said, or a transformer.
    """
    check_kind(name)
    for tensor in checkpoint.tensors:
        if _ATTENTION & set(tensor.split(".")):
            raise UserError(
                f"{checkpoint.path}: a network with attention ({printable_name(tensor)[:80]}), such as a vision "
                "transformer with SALAD, BoQ or MegaLoc, which is not supported; networks on VGG16, ResNet18, ResNet50 "
                "and EfficientNet-Lite0 are"
            )
    fitting = [kind for kind in KINDS if KINDS[kind].recognises(checkpoint)]
    if name in fitting:
        return name
    if name is not None:
        found = f"it looks like {' or '.join(fitting)}" if fitting else f"it holds {seen(checkpoint)}"
        raise UserError(f"{checkpoint.path}: not a checkpoint of the kind {name} ({KINDS[name].title}); {found}")
    if len(fitting) == 1:
        return fitting[0]
    found = f"may be {' or '.join(fitting)}: say which with --kind" if fitting else "is of no kind that is known"
    raise UserError(f"{checkpoint.path}: {found}; it holds {seen(checkpoint)}; the kinds are {', '.join(KINDS)}")


__all__ = ["KINDS", "Kind", "Plan", "Weight", "check_kind", "find_kind"]
