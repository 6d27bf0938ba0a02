"""Makes a .keras model of a place-recognition network that others trained: NetVLAD, pytorch-NetVlad, OpenIBL,
Patch-NetVLAD, CosPlace, EigenPlaces, MixVPR, gsv-cities, OpenVPRLab, deep-visual-geo-localization-benchmark, or a
backbone of torchvision. Prints each layer and the tensors it was made of, and what was left out.

tfplaces-import --checkpoint=ResNet18_512_cosplace.pth --output=model.keras

Files of PyTorch, safetensors, MatConvNet and numpy are read without these programs, and nothing in them is executed.
"""

from __future__ import annotations

import os
from collections.abc import Iterable

from absl import flags

from tfplaces.common.errors import UserError
from tfplaces.report import text_table
from tfplaces.tools import entry, flag_values

# Of a module's tensors these are not named one by one.
_USUAL = ("weight", "bias", "running_mean", "running_var")


def define_flags(values: flags.FlagValues) -> None:
    string = flags.DEFINE_string
    string("checkpoint", None, "The file to import: .pth, .pt, .ckpt, .pth.tar, .safetensors, .mat or .npz.",
           required=True, flag_values=values)  # fmt: skip
    string("kind", None, "What the file is, instead of what it is recognised as: cosplace (EigenPlaces too), deep_vg, "
           "gsv_cities, mixvpr, netvlad_matconvnet, npz, openibl, openvprlab, patch_netvlad, pytorch_netvlad or "
           "torchvision.", flag_values=values)  # fmt: skip
    string("output", None, "The .keras file to write.", required=True, flag_values=values)
    string("input_size", None, "The size of the images in pixels, HEIGHTxWIDTH, instead of the one that the source "
           "trained at.", flag_values=values)  # fmt: skip
    string("licence", None, "The licence of the weights, a short text that goes with the model and with all that is "
           "made of it.", flag_values=values)  # fmt: skip


def main(args: flags.FlagValues) -> None:
    if not args.output.lower().endswith(".keras"):
        raise UserError(f"--output={args.output}: what is imported is named .keras")
    entry.check_output(args.output, args.overwrite)
    input_size = flag_values.size(args.input_size)
    if not os.path.isfile(args.checkpoint):
        raise UserError(f"{args.checkpoint}: no such file")

    from tfplaces.common.files import replacing
    from tfplaces.pretrained.importing import import_network
    from tfplaces.pretrained.kinds import KINDS

    made = import_network(args.checkpoint, args.kind, input_size, args.licence)
    print(f"{args.checkpoint}: {made.format}, {made.kind} ({KINDS[made.kind].title})")
    cells = [[row.layer, f"{row.parameters:,}", origin(row.tensors)] for row in made.rows]
    print(text_table(["layer", "parameters", "made of"], cells))
    for text in made.left_out:
        print(f"left out: {text}")
    for note in made.notes:
        print(f"note: {note}")
    with replacing(args.output) as temporary:
        made.model.save(temporary)
    height, width = made.model.input_size
    print(
        f"{args.output}: {made.model.config['backbone']} up to {made.model.config['cut']}, "
        f"{made.model.aggregation.title}, {made.model.descriptor_dim} dimensions, {height}x{width}, "
        f"{made.model.count_params():,} parameters, {os.path.getsize(args.output) / 1e6:.1f} MB"
    )


def origin(tensors: Iterable[str]) -> str:
    """The tensors that a layer was made of: modules where it is their usual weights."""
    shown = dict.fromkeys(
        module if module and last in _USUAL else name for name in tensors for module, _, last in [name.rpartition(".")]
    )
    return ", ".join(shown) or "nothing: a fixed value"


def run(argv: list[str] | None = None) -> None:
    """Entry point of the console command."""
    entry.run(define_flags, main, argv)


if __name__ == "__main__":
    run()
