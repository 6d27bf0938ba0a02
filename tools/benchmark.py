"""Measures tfplaces beside what else there is, in the same run: ratios hold on other machines, seconds do not.

tfplaces-benchmark --what=coding    the entropy coder beside gzip, zstd and constriction; clustering beside TF-MOT's
tfplaces-benchmark --what=network   VGG16 + NetVLAD64 + whitening 4096 pruned, shared, written and read
tfplaces-benchmark --what=whitening --model=model.keras --dataset=folder:a,folder:b    mAP by dimensions and power
tfplaces-benchmark --models=model.keras,model.tflite --threads=1,2    latency, memory and bytes of models

zstandard and constriction are optional: pip install "tfplaces[benchmark]".
"""

from __future__ import annotations

from collections.abc import Sequence

from absl import flags

from tfplaces.common.errors import UserError
from tfplaces.tools import entry

# Flags that only one measurement takes.
_OWN_FLAGS = {
    "threads": "--models", "input_size": "--models", "symbols": "--what=coding", "outputs": "--what=coding",
    "model": "--what=whitening", "dataset": "--what=whitening", "whitening_dataset": "--what=whitening",
    "dimensions": "--what=whitening",
}  # fmt: skip


def define_flags(values: flags.FlagValues) -> None:
    flags.DEFINE_enum("what", None, ("coding", "network", "whitening"), "What to measure.", flag_values=values)
    flags.DEFINE_string("models", None, "Models to measure beside the first: .keras, .places, .tflite and .tflpack "
                        "files, separated by commas.", flag_values=values)  # fmt: skip
    flags.DEFINE_string("threads", "1", "Of --models: numbers of threads, separated by commas.", flag_values=values)
    flags.DEFINE_string("input_size", None, "Of --models: HEIGHTxWIDTH in pixels, instead of each model's own.",
                        flag_values=values)  # fmt: skip
    flags.DEFINE_integer("symbols", 2**27, "Of --what=coding: weights of each distribution; by default as many as the "
                         "whitening of VGG16 has.", lower_bound=1000, flag_values=values)  # fmt: skip
    flags.DEFINE_integer("outputs", 128, "Of --what=coding: of the Dense layer of 32768 inputs that is clustered; 0: "
                         "none.", lower_bound=0, upper_bound=4096, flag_values=values)  # fmt: skip
    flags.DEFINE_string("model", None, "Of --what=whitening: a .keras or .places file of tfplaces, whose own "
                        "whitening, if any, does not count.", flag_values=values)  # fmt: skip
    flags.DEFINE_string("dataset", None, "Of --what=whitening: data sets to measure mAP on, separated by commas.",
                        flag_values=values)  # fmt: skip
    flags.DEFINE_string("whitening_dataset", None, "Of --what=whitening: database images to fit it on, separated by "
                        "commas; by default those of --dataset.", flag_values=values)  # fmt: skip
    flags.DEFINE_string("dimensions", "128,256,512,1024", "Of --what=whitening: numbers of dimensions, separated by "
                        "commas.", flag_values=values)  # fmt: skip
    flags.DEFINE_string("json", None, "Write the tables here as well.", flag_values=values)


def main(args: flags.FlagValues) -> None:
    if (args.what is None) == (args.models is None):
        raise UserError("give --models=FILES or --what=coding, --what=network or --what=whitening, one of them")
    what = "--models" if args.models is not None else f"--what={args.what}"
    for flag, owner in _OWN_FLAGS.items():
        if args[flag].present and owner != what:
            raise UserError(f"--{flag} goes with {owner}, not with {what}")
    if args.json:
        entry.check_output(args.json, args.overwrite)
    measure = {"--models": _models, "--what=coding": _coding, "--what=network": _network,
               "--what=whitening": _whitening}[what]  # fmt: skip
    result = measure(args)
    if args.json:
        from tfplaces.common.files import write_json

        write_json(args.json, {"what": args.what or "models", **result})


def _models(args: flags.FlagValues) -> dict:
    paths, input_size, threads = (
        args.models.split(","),
        entry.size(args.input_size),
        _numbers("threads", args.threads, 64),
    )
    for path in paths:
        entry.check_model(path, ".keras", ".places", ".tflite", ".tflpack")

    from tfplaces.benchmarks.models import measure_models

    rows = measure_models(paths, input_size, threads)
    print("ms: median of describing one image, of a full batch where the model's is fixed (input NxHxW);\n"
          "x: over the first model's, median of the rounds; memory: peak above\n"
          "the imported runtime, process: peak of all; packed: as .tflpack or .places. MB: 10^6 bytes\n")  # fmt: skip
    timed = [head for n in threads for head in (f"ms, {n} thread{'s' * (n > 1)}", "x")]
    _print_table(
        ["model", "input", *timed, "memory MB", "process MB", "file MB", "packed MB"],
        [
            [row["model"], _input(row),
             *(cell for found in row["latency"] for cell in (f"{found['ms']:.2f}", f"{found['ratio']:.2f}")),
             *([f"{row['memory'][key] / 1e6:.1f}" for key in ("above_runtime", "peak")] if row["memory"] else ["", ""]),
             f"{row['file_bytes'] / 1e6:.2f}",
             "" if row["packed_bytes"] is None else f"{row['packed_bytes'] / 1e6:.2f}"]
            for row in rows
        ],
    )  # fmt: skip
    return {"models": rows}


def _input(row: dict) -> str:
    """The size of the images that a model takes, and how many it takes in one call where that is more than one."""
    size, batch = "x".join(map(str, row["input_size"])), row["latency"][0]["batch"]
    return size if batch == 1 else f"{batch}x{size}"


def _numbers(flag: str, text: str, most: int) -> list[int]:
    parts = text.split(",")
    if not all(p.isascii() and p.isdigit() and 1 <= int(p) <= most for p in parts):
        raise UserError(f"--{flag}={text}: expected numbers from 1 to {most}, as in 1,2")
    return [int(p) for p in parts]


def _coding(args: flags.FlagValues) -> dict:
    from tfplaces.benchmarks.clustering import measure_clustering
    from tfplaces.benchmarks.coding import measure_coders, measure_small

    coders = measure_coders(args.symbols, args.seed)
    print("size: over the zero-order entropy; x: tfplaces' speed over this coder's; M/s: million symbols a second\n")
    _print_table(
        ["symbols", "coder", "entropy", "size", "encode M/s", "x", "decode M/s", "x"],
        [
            [row["symbols_of"], row["coder"], f"{row['entropy']:.3f}", f"{row['size']:.4f}",
             f"{row['encode'] / 1e6:.1f}", f"{row['encode_ratio']:.2f}", f"{row['decode'] / 1e6:.1f}",
             f"{row['decode_ratio']:.2f}"]
            if "size" in row else [row["symbols_of"], row["coder"], "not installed", *[""] * 5]
            for row in coders
        ],
    )  # fmt: skip
    small = measure_small(args.seed)
    print("\nsmall tensors, all side information included\n")
    _print_table(
        ["symbols", "count", "bytes", "over entropy", "over raw"],
        [
            [row["symbols_of"], f"{row['symbols']:,}", f"{row['bytes']:,}", f"{row['over_entropy']:.3f}",
             f"{row['over_raw']:.3f}"]
            for row in small
        ],
    )  # fmt: skip
    result = {"coders": coders, "small": small}
    if args.outputs:
        result["clustering"] = found = measure_clustering(args.outputs, args.seed)
        print(f"\nclustering of Dense 32768 x {args.outputs}, half of it pruned, 32 levels; a step is a batch of 16\n")
        _print_table(
            ["", "set-up s", "step s", "peak MB", "values", "zeros", "error"],
            [
                [name, f"{row['setup']:.2f}", f"{row['step']:.4f}", f"{row['peak'] / 1e6:.0f}", str(row["values"]),
                 f"{row['sparsity']:.3f}", f"{row['error']:.5f}"]
                for name, row in (("tfplaces", found["ours"]), ("TF-MOT", found["tfmot"]))
            ]
            + [["TF-MOT / tfplaces", "", f"{found['step_ratio']:.2f}", f"{found['peak_ratio']:.2f}", "", "", ""]],
        )  # fmt: skip
        print(f"\nTF-MOT's distances of all weights to all centroids: {found['tfmot_distances'] / 1e9:.2f} GB here, "
              f"{found['tfmot_distances_full'] / 1e9:.1f} GB for 32768 x 4096\n")  # fmt: skip
        ours = found["sizes"]["tfplaces"]
        sizes = sorted(found["sizes"].items(), key=lambda item: item[1])
        _print_table(["stored as", "bytes", "over tfplaces"], [[n, f"{s:,}", f"{s / ours:.3f}"] for n, s in sizes])
    return result


def _network(args: flags.FlagValues) -> dict:
    from tfplaces.benchmarks.network import measure_network

    rows = measure_network(seed=args.seed)
    print("seconds of each stage; peak: GB of memory in it above the process with its model\n")
    stages = list(rows[0]["seconds"])
    _print_table(
        ["bits", *(head for name in stages for head in (name, "peak")), "MB", "bits/parameter", "over entropy"],
        [
            [str(row["bits"]),
             *(cell for name in stages for cell in (f"{row['seconds'][name]:.1f}", f"{row['peak'][name] / 1e9:.2f}")),
             f"{row['bytes'] / 1e6:.2f}", f"{8 * row['bytes'] / row['parameters']:.3f}", f"{row['over_entropy']:.4f}"]
            for row in rows
        ],
    )  # fmt: skip
    return {"network": rows}


def _whitening(args: flags.FlagValues) -> dict:
    dimensions = _numbers("dimensions", args.dimensions, 65_536)
    if args.model is None or args.dataset is None:
        raise UserError("--what=whitening needs a --model and a --dataset to measure it on")
    entry.check_model(args.model, ".keras", ".places")

    from tfplaces import datasets

    sets = datasets.load_datasets(args.dataset)
    fitted_on = datasets.load_datasets(args.whitening_dataset, "train") if args.whitening_dataset else sets

    from tfplaces.benchmarks.whitening import measure_whitening
    from tfplaces.opening import load_place_net

    rows = measure_whitening(load_place_net(args.model), sets, [d.database for d in fitted_on], dimensions)
    print("mAP; a whitening divides by variances to the power; the first row is without one; gain: over that one,\n"
          "in the mean, with its 95 % interval by a paired bootstrap of the queries\n")  # fmt: skip
    _print_table(
        ["dimensions", "power", *(d.spec for d in sets), "mean", "gain", "interval"],
        [
            [str(row["dimensions"]), "" if row["power"] is None else str(row["power"]),
             *(f"{row['map'][d.spec]:.1f}" for d in sets), f"{row['mean']:.1f}",
             *(("", "") if row["gain"] is None else (
                 f"{row['gain']:.1f}", "{:.1f} to {:.1f}".format(*row["gain_interval"])))]
            for row in rows
        ],
    )  # fmt: skip
    return {"whitening": rows}


def _print_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Texts to the left, numbers to the right."""
    lines = [head, *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    left = [not any(row[column][:1].isdigit() for row in rows) for column in range(len(head))]
    left[0] = True
    for line in lines:
        cells = zip(line, widths, left, strict=True)
        print("  ".join(c.ljust(w) if is_left else c.rjust(w) for c, w, is_left in cells).rstrip(), flush=True)


def run(argv: list[str] | None = None) -> None:
    """Entry point of the console command."""
    entry.run(define_flags, main, argv)


if __name__ == "__main__":
    run()
