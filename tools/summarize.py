"""Prints a network layer by layer, with output shapes, parameters and multiply-adds. Of a .places file it prints how
many bytes each layer takes in it.

tfplaces-summarize --backbone=alexnet --clusters=64 --whitening=4096 --input_size=227x227
tfplaces-summarize --model=run/model.places
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

from absl import flags

from tfplaces.common.errors import UserError
from tfplaces.report import text_table
from tfplaces.tools import entry, flag_values


def define_flags(values: flags.FlagValues) -> None:
    flags.DEFINE_string(
        "model", None, "The .keras or .places file to describe, instead of naming a backbone.", flag_values=values
    )
    flags.DEFINE_string("backbone", None, f"The backbone of the network to describe: {flag_values.BACKBONES}.",
                        flag_values=values)  # fmt: skip
    flags.DEFINE_integer("clusters", 64, "The number of NetVLAD's clusters.", lower_bound=1, flag_values=values)
    flags.DEFINE_string("aggregation", "netvlad", "The aggregation of --backbone, written KIND[?key=value&...]: "
                        "netvlad (clusters), gem (linear, l2_first), mixvpr (channels, rows, depth) or convap "
                        "(channels, grid).", flag_values=values)  # fmt: skip
    flags.DEFINE_integer("whitening", 0, "The number of dimensions of the whitened descriptor; 0 means no whitening.",
                         lower_bound=0, flag_values=values)  # fmt: skip
    flags.DEFINE_string("input_size", None, "The size of the images in pixels, HEIGHTxWIDTH, instead of the network's "
                        "own.", flag_values=values)  # fmt: skip
    flags.DEFINE_string("json", None, "A file to write the figures to as well.", flag_values=values)


def main(args: flags.FlagValues) -> None:
    if bool(args.model) == bool(args.backbone):
        raise UserError("give --model=FILE or --backbone=NAME")
    if args.json:
        entry.check_output(args.json, args.overwrite)
    if args.model:
        entry.check_model(args.model, ".keras", ".places")
    input_size = flag_values.size(args.input_size)
    if args.model and args.model.lower().endswith(".places"):
        if input_size:
            raise UserError("--input_size changes nothing in a .places file: its layers are listed by their bytes")
        return _summarize_places(args.model, args.json)

    from tfplaces.common.files import write_json
    from tfplaces.models import PlaceNet
    from tfplaces.models.aggregations import parse_aggregation
    from tfplaces.models.summary import summarize
    from tfplaces.opening import load_place_net

    if args.model:
        model = load_place_net(args.model)
    else:
        made = parse_aggregation(flag_values.aggregation(args, "clusters"))
        model = PlaceNet(
            args.backbone, aggregation=made.kind, whitening=args.whitening, input_size=input_size, **made.options
        )
    rows = summarize(model, input_size)
    parameters = sum(row.parameters for row in rows)
    multiply_adds = sum(row.multiply_adds for row in rows)
    cells = [
        [row.name, row.kind, "x".join(map(str, row.output_shape)), f"{row.parameters:,}", f"{row.multiply_adds:,}"]
        for row in rows
    ]
    cells.append(["total", "", "", f"{parameters:,}", f"{multiply_adds:,}"])
    print(text_table(["layer", "kind", "output", "parameters", "multiply-adds"], cells))
    print(f"float32: {4 * parameters / 1e6:.1f} MB")
    for line in _origin(model.config):
        print(line)
    if args.json:
        layers = [dataclasses.asdict(row) for row in rows]
        write_json(args.json, {"layers": layers, "parameters": parameters, "multiply_adds": multiply_adds,
                               "float32_bytes": 4 * parameters})  # fmt: skip


def _summarize_places(path: str, json: str | None) -> None:
    from tfplaces.coding.places import aggregation_title
    from tfplaces.coding.statistics import places_statistics
    from tfplaces.common.files import write_json

    statistics = places_statistics(path)
    total, net = statistics.total, statistics.place_net
    head = ["layer", "parameters", "pruned %", "bits", "bits/parameter", "bytes", "entropy bytes", "file %"]
    cells = [
        [row.name, f"{row.parameters:,}", f"{row.pruned:.2f}", f"{row.bits:.2f}", f"{row.bits_per_parameter:.3f}",
         f"{row.file_bytes:,}", f"{row.entropy_bytes:,}", f"{row.share:.2f}"]
        for row in [*statistics.layers, total]
    ]  # fmt: skip
    print(text_table(head, cells))
    whitening = f", whitening to {net['whitening']}" if net["whitening"] else ""
    height, width = net["input_size"]
    print()
    print(f"network: {net['backbone']} up to {net['cut']}, {aggregation_title(net)}{whitening}, {height}x{width}")
    print(
        f"size:    {total.file_bytes / 1e6:.3f} MB, of which {statistics.container_bytes:,} bytes are header; "
        f"{4 * total.parameters / 1e6:.3f} MB as float32, ratio {statistics.ratio:.1f}"
    )
    made = [f"{_plain(key)} {_plain(value)}" for key, value in statistics.provenance.items() if value is not None]
    print(f"made by: {', '.join(made) or 'not known'}")
    for line in _origin(net):
        print(line)
    if json:
        write_json(json, statistics.to_json())


def _origin(config: Mapping[str, Any]) -> Iterator[str]:
    """Where a network comes from that others trained, a line for each thing that is known."""
    for key, text in config.get("source", {}).items():
        yield f"source:  {key} {_plain(text)}"


def _plain(value: object) -> str:
    """What stands in a stranger's file, as one line that a terminal cannot be commanded by."""
    text = value if isinstance(value, str) and value.isprintable() else repr(value)
    return text if len(text) <= 100 else text[:97] + "..."


def run(argv: list[str] | None = None) -> None:
    """Entry point of the console command."""
    entry.run(define_flags, main, argv)


if __name__ == "__main__":
    run()
