"""Prints a network by layer: output shape, parameters and multiply-adds.

tfplaces-summarize --backbone=alexnet --clusters=64 --whitening=4096 --input_size=227x227
"""

from __future__ import annotations

import dataclasses

from absl import flags

from tfplaces.tools import entry


def define_flags(values: flags.FlagValues) -> None:
    flags.DEFINE_string("model", None, "A .keras or .places file, instead of a backbone.", flag_values=values)
    flags.DEFINE_string("backbone", None, "alexnet, caffenet, vgg16, mobilenet_v1, mobilenet_v2 or squeezenet.",
                        flag_values=values)  # fmt: skip
    flags.DEFINE_integer("clusters", 64, "Clusters of NetVLAD.", lower_bound=1, flag_values=values)
    flags.DEFINE_integer("whitening", 0, "Dimensions of the whitened descriptor; 0: no whitening.", lower_bound=0,
                         flag_values=values)  # fmt: skip
    flags.DEFINE_string("input_size", None, "HEIGHTxWIDTH in pixels, instead of the network's own.", flag_values=values)
    flags.DEFINE_string("json", None, "Write the table here as well.", flag_values=values)


def main(args: flags.FlagValues) -> None:
    if bool(args.model) == bool(args.backbone):
        raise ValueError("give --model=FILE or --backbone=NAME")
    if args.json:
        entry.check_output(args.json, args.overwrite)
    if args.model:
        entry.check_model(args.model, ".keras", ".places")
    input_size = entry.size(args.input_size)

    from tfplaces.files import write_json
    from tfplaces.models import PlaceNet
    from tfplaces.models.loading import load_place_net
    from tfplaces.models.summary import summarize

    if args.model:
        model = load_place_net(args.model)
    else:
        model = PlaceNet(args.backbone, clusters=args.clusters, whitening=args.whitening, input_size=input_size)
    rows = summarize(model, input_size)
    parameters = sum(row.parameters for row in rows)
    multiply_adds = sum(row.multiply_adds for row in rows)
    width = max(len(row.name) for row in rows)
    print(f"{'layer':<{width}}  {'kind':<26} {'output':>16} {'parameters':>13} {'multiply-adds':>15}")
    for row in rows:
        shape = "x".join(map(str, row.output_shape))
        print(f"{row.name:<{width}}  {row.kind:<26} {shape:>16} {row.parameters:>13,} {row.multiply_adds:>15,}")
    print(f"{'total':<{width}}  {'':<26} {'':>16} {parameters:>13,} {multiply_adds:>15,}")
    print(f"float32: {4 * parameters / 1e6:.1f} MB")
    if args.json:
        layers = [dataclasses.asdict(row) for row in rows]
        write_json(args.json, {"layers": layers, "parameters": parameters, "multiply_adds": multiply_adds,
                               "float32_bytes": 4 * parameters})  # fmt: skip


def run(argv: list[str] | None = None) -> None:
    """Entry point of the console command."""
    entry.run(define_flags, main, argv)


if __name__ == "__main__":
    run()
