"""Measures tfplaces beside other programs in the same run: the ratios hold on other machines, the seconds do not.

tfplaces-benchmark --what=coding    the entropy coder beside gzip, zstd and constriction; clustering beside TF-MOT's
tfplaces-benchmark --what=network   VGG16 + NetVLAD64 + whitening 4096 pruned, shared, written and read
tfplaces-benchmark --what=search --rows=1000000   exact search over a file of descriptors, beside faiss-cpu
tfplaces-benchmark --what=whitening --model=model.keras --dataset=folder:a,folder:b    mAP by dimensions and power
tfplaces-benchmark --what=accuracy --models=model.keras --dataset=folder:a --json=accuracy.json   what compression costs
tfplaces-benchmark --what=cost --json=cost.json   latency, memory and bytes of four networks in each precision
tfplaces-benchmark --what=training --model=model.keras --dataset=utm:a   the training loop beside a plain Keras fit
tfplaces-benchmark --models=model.keras,model.tflite --threads=1,2    latency, memory and bytes of models

Measuring accuracy takes hours, cost a quarter of an hour; both keep what they have in JSON.work, where the same command
goes on. zstandard, constriction and faiss-cpu are optional and come with pip install "tfplaces[benchmark]".
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any

from absl import flags

from tfplaces.benchmarks.tables import format_result
from tfplaces.common.errors import UserError
from tfplaces.common.files import write_json
from tfplaces.tools import entry, flag_values


def define_flags(values: flags.FlagValues) -> None:
    def string(name: str, default: str | None, text: str) -> None:
        flags.DEFINE_string(name, default, text, flag_values=values)

    def integer(name: str, default: int, text: str, least: int, most: int | None = None) -> None:
        flags.DEFINE_integer(name, default, text, lower_bound=least, upper_bound=most, flag_values=values)

    flags.DEFINE_enum("what", None, sorted(MEASUREMENTS), "What to measure; it may be left out beside --models.",
                      flag_values=values)  # fmt: skip
    string("models", None, "With --what=models: the .keras, .places, .tflite and .tflpack files to measure, separated "
           "by commas; ratios are to the first. With --what=accuracy: the networks to compress.")  # fmt: skip
    string("threads", "1", "With --what=models: numbers of threads to measure with, separated by commas.")
    string("input_size", None, "With --what=models: the images' HEIGHTxWIDTH in pixels, instead of each model's own.")
    integer("symbols", 2**27, "With --what=coding: the number of weights of each distribution.", 1000)
    integer("outputs", 128, "With --what=coding: the number of outputs of the Dense layer of 32768 inputs that is "
            "clustered; 0 leaves this measurement out.", 0, 4096)  # fmt: skip
    string(
        "model",
        None,
        "With --what=training or whitening: a .keras or .places file. A whitening that it has is left out in "
        "the latter.",
    )
    string(
        "dataset",
        None,
        "With --what=accuracy or whitening: data sets to measure mAP on, separated by commas. With "
        "--what=training: the one to train on.",
    )
    string("whitening_dataset", None, "With --what=whitening: the data sets, separated by commas, whose database "
           "images it is fitted on. By default those of --dataset are taken.")  # fmt: skip
    string("dimensions", "128,256,512,1024", "With --what=whitening: numbers of dimensions, separated by commas.")
    integer("seeds", 1, "With --what=accuracy: how many seeds, from --seed on, to take the mean of.", 1, 100)
    integer("rows", 100_000, "With --what=search: the number of descriptors to search in; each takes 2 * --dim bytes "
            "of the disk.", 101)  # fmt: skip
    integer("dim", 4096, "With --what=search: the length of a descriptor.", 1, 2**20)
    integer("queries", 200, "With --what=search: the number of queries.", 1)
    string("json", None, "A file to write the figures to as well.")


def main(args: flags.FlagValues) -> None:
    if args.what is None and args.models is None:
        raise UserError(f"give --models=FILES to measure these, or --what, one of {', '.join(sorted(MEASUREMENTS))}")
    what = args.what or "models"
    measure, taken, needed = MEASUREMENTS[what]
    for flag in sorted({flag for _, flags_of, _ in MEASUREMENTS.values() for flag in flags_of}.difference(taken)):
        if args[flag].present:
            owners = [f"--what={name}" for name, (_, flags_of, _) in MEASUREMENTS.items() if flag in flags_of]
            raise UserError(f"--{flag} goes with {' and '.join(owners)}, not with --what={what}")
    if missing := [f"--{flag}" for flag in needed if args[flag].value is None]:
        raise UserError(f"--what={what} needs {' and '.join(missing)}, see --help")
    if args.json:
        entry.check_output(args.json, args.overwrite)
    paths = [path for text in (args.models, args.model) if text for path in text.split(",")]
    for path in paths:
        entry.check_model(path, ".keras", ".places", *((".tflite", ".tflpack") if what == "models" else ()))

    with ExitStack() as held:  # what a measurement keeps while it runs, until its result is written
        result = measure(args, paths, held)
        print(format_result(result))
        if args.json:
            write_json(args.json, {"what": what, **result})


def _models(args: flags.FlagValues, paths: list[str], _: ExitStack) -> dict[str, Any]:
    input_size, threads = flag_values.size(args.input_size), flag_values.numbers("threads", args.threads, 64)
    from tfplaces.benchmarks.models import measure_models

    return {"models": measure_models(paths, input_size, threads)}


def _accuracy(args: flags.FlagValues, paths: list[str], held: ExitStack) -> dict[str, Any]:
    from tfplaces import datasets

    sets = [datasets.cached(dataset) for dataset in datasets.load_datasets(args.dataset, "test")]
    from tfplaces.benchmarks.accuracy import measure_accuracy
    from tfplaces.training import WorkDir

    run = {"what": "accuracy", "models": paths, "dataset": args.dataset}
    work_dir = held.enter_context(WorkDir.of_run(f"{args.json}.work", run, paths))
    seeds = range(args.seed, args.seed + args.seeds)
    return {"accuracy": measure_accuracy(paths, sets, work_dir, seeds=seeds)}


def _cost(args: flags.FlagValues, _: list[str], held: ExitStack) -> dict[str, Any]:
    from tfplaces.benchmarks.cost import measure_cost
    from tfplaces.training import WorkDir

    work_dir = held.enter_context(WorkDir.of_run(f"{args.json}.work", {"what": "cost", "seed": args.seed}))
    return {"cost": measure_cost(work_dir.path, seed=args.seed)}


def _coding(args: flags.FlagValues, *_: Any) -> dict[str, Any]:
    from tfplaces.benchmarks.clustering import measure_clustering
    from tfplaces.benchmarks.coding import measure_coders, measure_small

    result: dict[str, Any] = {"coders": measure_coders(args.symbols, args.seed), "small": measure_small(args.seed)}
    return result | ({"clustering": measure_clustering(args.outputs, args.seed)} if args.outputs else {})


def _network(args: flags.FlagValues, *_: Any) -> dict[str, Any]:
    from tfplaces.benchmarks.network import measure_network

    return {"network": measure_network(seed=args.seed)}


def _search(args: flags.FlagValues, *_: Any) -> dict[str, Any]:
    from tfplaces.benchmarks.search import measure_search

    return {"search": measure_search(args.rows, args.dim, args.queries, args.seed)}


def _whitening(args: flags.FlagValues, paths: list[str], _: ExitStack) -> dict[str, Any]:
    dimensions = flag_values.numbers("dimensions", args.dimensions, 65_536)
    from tfplaces import datasets

    sets = datasets.load_datasets(args.dataset)
    fitted_on = datasets.load_datasets(args.whitening_dataset, "train") if args.whitening_dataset else sets
    from tfplaces.benchmarks.whitening import measure_whitening
    from tfplaces.opening import load_place_net

    fitted = [dataset.database for dataset in fitted_on]
    return {"whitening": measure_whitening(load_place_net(paths[0]), sets, fitted, dimensions)}


def _training(args: flags.FlagValues, paths: list[str], _: ExitStack) -> dict[str, Any]:
    from tfplaces.benchmarks.training import measure_training

    return {"training": measure_training(paths[0], args.dataset, seed=args.seed)}


# What --what names: how it is measured, the flags that only some measurements take, and those of them that it needs.
MEASUREMENTS: dict[str, tuple[Callable[..., dict[str, Any]], Sequence[str], Sequence[str]]] = {
    "accuracy": (_accuracy, ("models", "dataset", "seeds"), ("models", "dataset", "json")),
    "coding": (_coding, ("symbols", "outputs"), ()),
    "cost": (_cost, (), ("json",)),
    "models": (_models, ("models", "threads", "input_size"), ("models",)),
    "network": (_network, (), ()),
    "search": (_search, ("rows", "dim", "queries"), ()),
    "training": (_training, ("model", "dataset"), ("model", "dataset")),
    "whitening": (_whitening, ("model", "dataset", "whitening_dataset", "dimensions"), ("model", "dataset")),
}


def run(argv: list[str] | None = None) -> None:
    """Entry point of the console command."""
    entry.run(define_flags, main, argv)


if __name__ == "__main__":
    run()
