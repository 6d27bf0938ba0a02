"""What the tools read from the text of a flag: sizes of images, numbers, and numbers by layer."""

from __future__ import annotations

from typing import TypeVar

from absl import flags

from tfplaces.common.errors import UserError

Number = TypeVar("Number", int, float)

# The keys of `tfplaces.models.BACKBONES`, which a --help is too quick to import.
BACKBONES = "alexnet, caffenet, efficientnet_lite0, mobilenet_v1, mobilenet_v2, resnet18, resnet50, squeezenet or vgg16"


def size(text: str | None) -> tuple[int, int] | None:
    """Reads `HxW`, height and width in pixels.

    Raises:
        UserError: the text is something else, or a number is out of range.
    """
    if text is None:
        return None
    parts = text.lower().split("x")
    if len(parts) != 2 or not all(_is_number(part, 8192) for part in parts):
        raise UserError(f"--input_size={text}: expected HEIGHTxWIDTH in pixels, as in 224x320")
    return int(parts[0]), int(parts[1])


def numbers(flag: str, text: str, most: int) -> list[int]:
    """Reads whole numbers, separated by commas.

    Raises:
        UserError: a part of the text is no number from 1 to `most`.
    """
    parts = text.split(",")
    if not all(_is_number(part, most) for part in parts):
        raise UserError(f"--{flag}={text}: expected numbers from 1 to {most}, as in 1,2")
    return [int(part) for part in parts]


def by_layer(flag: str, text: str, kind: type[Number]) -> tuple[Number | None, dict[str, Number]]:
    """Reads `VALUE,GLOB=VALUE,...`: the value of all layers, None where there is none, and those of some.

    Raises:
        UserError: the text is something else, or a number is negative or infinite.
    """
    default: Number | None = None
    values: dict[str, Number] = {}
    for part in filter(None, text.split(",")):
        pattern, equals, value = part.rpartition("=")
        try:
            number = kind(value)
            if not 0 <= number < float("inf") or bool(equals) != bool(pattern) or (not equals and default is not None):
                raise ValueError
        except ValueError:
            raise UserError(f"--{flag}={text}: {part!r} is not GLOB=NUMBER, as in 'whitening=5,conv1*=8'") from None
        if equals:
            values[pattern] = number
        else:
            default = number
    return default, values


def _is_number(text: str, most: int) -> bool:
    return text.isascii() and text.isdigit() and 1 <= int(text) <= most


def aggregation(args: flags.FlagValues, *of_netvlad: str) -> str:
    """The spec that `--aggregation` gives, with the number of `--clusters` in it.

    Args:
        args: the flags.
        of_netvlad: the flags that only NetVLAD has a use for.

    Raises:
        UserError: such a flag is given with another aggregation, or the clusters are given twice.
    """
    spec = args.aggregation
    for name in of_netvlad:
        if args[name].present and spec.partition("?")[0] != "netvlad":
            raise UserError(f"--{name} goes with --aggregation=netvlad, not with {spec}")
    if args["clusters"].present and "?" in spec:
        raise UserError(f"--clusters={args.clusters} and --aggregation={spec}: give the clusters in one of them")
    return f"netvlad?clusters={args.clusters}" if spec == "netvlad" else spec
