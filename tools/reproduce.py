"""The paper's grid on your data: each of its rows at its threshold and at its share pruned, beside what it reports.

tfplaces-reproduce --dataset=oxford5k:oxford,paris6k:paris --models=netvlad.keras --output=grid
tfplaces-reproduce --dataset=folder:photos --whitening_dataset=folder:more,folder:yet_more --output=grid

Without --models, networks of the paper's sizes are assembled on the data at hand: NetVLAD64 with its vocabulary, and a
whitening to 4096 dimensions, which takes more than 4096 images; the backbones stay untrained. For pretrained ones give
--models, which tfplaces-train makes with --backbone_weights. OUTPUT gets table.md, plot.png, results.json, the
assembled networks (about 300 and 600 MB) and the .places file of each row, all of which are kept. The same command
goes on where a run has stopped.
"""

from __future__ import annotations

import contextlib
import glob
import json
import os
import shutil
import sys
import time
from typing import Any

from absl import flags

from tfplaces.common.errors import UserError
from tfplaces.common.files import replacing, sha256, write_json, write_text
from tfplaces.tools import entry
from tfplaces.workflows.paper import RESULTS, PaperRow

# NetVLAD's published AlexNet is Caffe's reference network.
BACKBONES = {"alexnet": "caffenet", "vgg16": "vgg16"}
CLUSTERS, WHITENING = 64, 4096


def define_flags(values: flags.FlagValues) -> None:
    string = flags.DEFINE_string
    string("dataset", None, "Data sets to evaluate on, comma-separated; the paper's are oxford5k:DIR,paris6k:DIR.",
           required=True, flag_values=values)  # fmt: skip
    string("output", None, "Folder for everything that is made.", required=True, flag_values=values)
    string("networks", None, "Networks to assemble: alexnet (Caffe's reference network, as in NetVLAD's AlexNet), "
           "vgg16; by default both.", flag_values=values)  # fmt: skip
    string("models", None, "Or .keras files of tfplaces, comma-separated: networks as they are.", flag_values=values)
    string("whitening_dataset", None, "More database images for the whitening of --networks, beside those of "
           "--dataset; several, comma-separated.", flag_values=values)  # fmt: skip
    string("input_size", None, "HEIGHTxWIDTH in pixels of --networks, instead of their own.", flag_values=values)
    flags.DEFINE_integer("epochs", 0, "Of fine-tuning towards the float network on the database images, after pruning "
                         "and again after sharing; 0: none.", lower_bound=0, flag_values=values)  # fmt: skip
    flags.DEFINE_float("learning_rate", 1e-4, "Of Adam.", lower_bound=0, flag_values=values)


def main(args: flags.FlagValues) -> None:
    run = _run(args)
    results = _open(args.output, run, args.overwrite)

    from tfplaces import datasets
    from tfplaces.evaluation import check_positives

    sets = dict(zip(_labels(run["dataset"]), datasets.load_datasets(args.dataset, "test"), strict=True))
    for dataset in sets.values():
        check_positives(dataset)
    if "networks" in run:
        known = set(run["dataset"])
        more = [datasets.load_dataset(spec, "train") for spec in run["whitening_dataset"] if spec not in known]
        whitening = [dataset.database for dataset in (*sets.values(), *more)]
        count = sum(map(len, whitening))
        if count <= WHITENING:
            raise UserError(
                f"a whitening to {WHITENING} dimensions takes more than {WHITENING} database images, here are {count}: "
                "name more data sets with --whitening_dataset, or networks of your own with --models"
            )

    grid = _Grid(args, results, sets)
    for path in run.get("models", ()):
        grid.open(path)
    if args.overwrite:
        for work_dir in glob.glob(os.path.join(glob.escape(args.output), "*.places.work")):
            shutil.rmtree(work_dir)
    grid.save()
    for name in run.get("networks", ()):
        grid.assemble(name, whitening)
    grid.measure()
    table = _table(results, list(sets))
    _write(args.output, results, table)
    print(table, end="")


def _run(args: flags.FlagValues) -> dict[str, Any]:
    """What the run is, plain JSON types: a state that is found has to agree with it."""
    if args.models and (args.networks or args.whitening_dataset or args.input_size):
        raise UserError("--models are used as they are: leave out --networks, --whitening_dataset and --input_size")
    run: dict[str, Any] = {"dataset": args.dataset.split(",")}
    if args.models:
        paths = args.models.split(",")
        for path in paths:
            entry.check_model(path, ".keras")
        names = [_name(path) for path in paths]
        if len(set(names)) < len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise UserError(f"--models={args.models}: two are called {twice!r}, and so would be their rows")
        run["models"] = {path: sha256(path) for path in paths}
    else:
        run["networks"] = list(dict.fromkeys((args.networks or ",".join(BACKBONES)).split(",")))
        unknown = [name for name in run["networks"] if name not in BACKBONES]
        if unknown:
            raise UserError(f"--networks={args.networks}: {unknown[0]!r} is none of {', '.join(BACKBONES)}")
        run["whitening_dataset"] = args.whitening_dataset.split(",") if args.whitening_dataset else []
        size = entry.size(args.input_size)
        run["input_size"] = size and list(size)
    run["epochs"] = args.epochs
    if args.epochs:
        run["learning_rate"] = args.learning_rate
    return {**run, "seed": args.seed}


def _open(output: str, run: dict[str, Any], overwrite: bool) -> dict[str, Any]:
    """The results of a run that was interrupted, or those of a new one.

    Raises:
        ValueError: the folder holds another run, or something else.
    """
    fresh = {"run": run, "networks": {}, "rows": []}
    if overwrite or not os.path.isdir(output) or not os.listdir(output):
        return fresh
    try:
        with open(os.path.join(output, "results.json"), encoding="utf-8") as file:
            results = json.load(file)
        found = {key: results[key] for key in fresh}["run"]
        changed = sorted(key for key in run.keys() | found.keys() if run.get(key) != found.get(key))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        changed = None
    remedy = "give --overwrite to start anew, or another --output"
    if changed is None:
        raise UserError(f"{output}: is not empty and holds no run of this tool; {remedy}")
    if changed:
        raise UserError(f"{output}: holds a run with another --{changed[0]}; {remedy}")
    return results


class _Grid:
    """The rows of a run; each is kept in results.json as soon as it is measured."""

    def __init__(self, args: flags.FlagValues, results: dict[str, Any], sets: dict):
        self.args, self.results, self.sets = args, results, sets
        self.rows = {row["name"]: row for row in results["rows"]}

    def output(self, name: str) -> str:
        return os.path.join(self.args.output, name)

    def assemble(self, name: str, whitening: list) -> None:
        """Makes one of the paper's networks, unless the run has it already."""
        if name in self.results["networks"]:
            return
        from tfplaces.training import add_whitening, assemble

        _step(f"assembling {name}")
        databases = [dataset.database for dataset in self.sets.values()]
        size = entry.size(self.args.input_size)
        model = assemble(BACKBONES[name], databases, clusters=CLUSTERS, input_size=size, seed=self.args.seed)
        model = add_whitening(model, WHITENING, whitening, folder=self.args.output)
        path = self.output(f"{name}.keras")
        with replacing(path) as temporary:
            model.save(temporary)
        self.add(name, path, model, sum(map(len, whitening)))
        self.save()

    def open(self, path: str) -> None:
        """Looks into one of the user's networks."""
        if _name(path) in self.results["networks"]:
            return
        from tfplaces.opening import load_place_net

        self.add(_name(path), path, load_place_net(path), None)

    def add(self, name: str, path: str, model, whitening_images: int | None) -> None:
        net = model.config
        self.results["networks"][name] = {
            "file": path,
            "paper": "alexnet" if net["backbone"] in ("alexnet", "caffenet") else "vgg16",
            "place_net": net,
            "parameters": model.count_params(),
            "float32_mb": 4 * model.count_params() / 1e6,
            "whitening_images": whitening_images,
        }

    def save(self) -> None:

        os.makedirs(self.args.output, exist_ok=True)
        write_json(self.output("results.json"), {**self.results, "rows": list(self.rows.values())})

    def measure(self) -> None:
        """Measures the rows that are not there yet."""
        plan = [(n, p, by) for n, net in self.results["networks"].items() for p, by in _plan(net["paper"])]
        images = {}
        for number, (network, paper, by) in enumerate(plan, 1):
            name = _row_name(network, paper, by)
            if name not in self.rows:
                if network not in images:
                    images = {network: _Images(self.sets)}
                left = self.time_left([n for n, p, b in plan if _row_name(n, p, b) not in self.rows])
                _step(f"row {number} of {len(plan)}: {name}{left}")
                started = time.monotonic()
                row = {"name": name, "network": network, "bits": paper.bits, "threshold": paper.threshold,
                       "pruned_by": by, "paper": vars(paper)}  # fmt: skip
                row |= self.row(row, images[network])
                self.rows[name] = {**row, "seconds": round(time.monotonic() - started, 1)}
                self.save()
        self.results["rows"] = [self.rows[_row_name(*row)] for row in plan]

    def time_left(self, networks: list[str]) -> str:
        """An estimate for rows of these networks from the rows that are there, or nothing."""
        seconds: dict[str, list[float]] = {}
        for row in self.rows.values():
            if row["pruned_by"]:
                seconds.setdefault(row["network"], []).append(row["seconds"])
        means = {network: sum(values) / len(values) for network, values in seconds.items()}
        if not means:
            return ""
        # Of a network that was not begun, as if it were like the slowest.
        left = sum(means.get(network, max(means.values())) for network in networks)
        return f", about {left / 60:.0f} min left" if left >= 60 else f", about {left:.0f} s left"

    def row(self, row: dict[str, Any], images: _Images) -> dict[str, Any]:
        """The figures of a row, measured on its file."""
        import keras

        from tfplaces.compression import EmptyKernelError
        from tfplaces.opening import load_describer

        keras.utils.set_random_seed(self.args.seed)
        net = self.results["networks"][row["network"]]
        if row["pruned_by"]:
            path = self.output(f"{row['name']}.places")
            try:
                sizes = self.compress(row, net, path, images)
            except EmptyKernelError as error:
                return {"failure": str(error)}
        else:
            path = net["file"]
            sizes = {"pruned": 0.0, "paper_mb": net["float32_mb"], "file_mb": os.path.getsize(path) / 1e6,
                     "entropy_mb": None}  # fmt: skip
        scores = images.scores(load_describer(path))
        base = self.rows.get(_row_name(row["network"], None, None), {"map": scores})["map"]
        return {"file": path, **sizes, "map": scores, "drop": {label: base[label] - scores[label] for label in scores}}

    def compress(self, row: dict[str, Any], net: dict[str, Any], path: str, images: _Images) -> dict[str, Any]:
        """Makes the file of a row; gives its sizes."""
        from tfplaces.compression import (
            Distillation,
            Recipe,
            compress,
            places_statistics,
            save_places,
        )
        from tfplaces.opening import load_place_net
        from tfplaces.training import WorkDir

        prune = {"threshold": row["threshold"]}
        if row["pruned_by"] == "share":
            prune = {"sparsity": row["paper"]["pruned"] / 100}
        model = load_place_net(net["file"])
        tune = work_dir = None
        if self.args.epochs:
            tune = Distillation(model, images.database, epochs=self.args.epochs,
                                learning_rate=self.args.learning_rate, seed=self.args.seed)  # fmt: skip
            work_dir = WorkDir(f"{path}.work")
        with work_dir or contextlib.nullcontext():
            save_places(path, compress(model, Recipe(bits=row["bits"], **prune), tune, work_dir=work_dir))
        total = places_statistics(path).total
        return {
            "pruned": total.pruned,
            "paper_mb": (1 - total.pruned / 100) * total.parameters * row["bits"] / 8 / 1e6,
            "file_mb": total.file_bytes / 1e6,
            "entropy_mb": total.entropy_bytes / 1e6,
        }


class _Images:
    """The images of all data sets, kept in memory once decoded, and described in one go."""

    def __init__(self, sets: dict):
        from tfplaces.datasets import CachedImages, concatenate

        self.sets = sets
        # Of all sets the database, then of all sets the queries.
        self.parts = [d.database for d in sets.values()] + [d.queries for d in sets.values()]
        self.all = CachedImages(concatenate(self.parts))

    @property
    def database(self):
        """The database images, to fine-tune on."""
        from tfplaces.datasets import Subset

        return Subset(self.all, range(sum(map(len, self.parts[: len(self.sets)]))))

    def scores(self, describer) -> dict[str, float]:
        """The mAP of each data set by its label."""
        import numpy as np

        from tfplaces.describers import describe_images
        from tfplaces.evaluation import score

        bounds = np.cumsum([len(part) for part in self.parts])[:-1]
        parts = np.split(describe_images(describer, self.all), bounds)
        database, queries = parts[: len(self.sets)], parts[len(self.sets) :]
        return {
            label: score(dataset, queries[k], database[k]).map for k, (label, dataset) in enumerate(self.sets.items())
        }


def _plan(paper: str) -> list[tuple[PaperRow, str | None]]:
    """The rows of a network: the paper's, and by what each is pruned; None for the base."""
    base, *rows = RESULTS[paper]
    return [(base, None), *((row, by) for row in rows for by in ("threshold", "share"))]


def _row_name(network: str, paper: PaperRow | None, by: str | None) -> str:
    """The name of a row and of its file."""
    if by is None:
        return f"{network}-base"
    return f"{network}-{paper.bits}bit-{by}{paper.threshold if by == 'threshold' else paper.pruned}"


def _labels(specs: list[str]) -> list[str]:
    """Short names of data sets: the folder's, or else the kind; the whole spec where those are not different."""
    labels = []
    for spec in specs:
        kind, _, path = spec.partition("?")[0].partition(":")
        labels.append(os.path.basename(path.rstrip("/")) if kind == "folder" else kind)
    return labels if len(set(labels)) == len(labels) else specs


def _name(path: str) -> str:
    """What the rows of a model are called: the file's name, or the folder's where tfplaces-train made it."""
    folder, name = os.path.split(os.path.abspath(path))
    return os.path.basename(folder) if name == "model.keras" else os.path.splitext(name)[0]


def _table(results: dict[str, Any], labels: list[str]) -> str:
    """The page: what the figures are of, and a table for each network."""
    from tfplaces.report import markdown_table

    lines = ["# The grid of the paper", "", *(f"- {fact}" for fact in _facts(results["run"]))]
    for name, net in results["networks"].items():
        rows = [row for row in results["rows"] if row["network"] == name]
        size = "{}x{}".format(*net["place_net"]["input_size"])
        whitening = f" + whitening {net['place_net']['whitening']}" if net["place_net"]["whitening"] else ""
        fitted = f", fitted on {net['whitening_images']:,} images" if net["whitening_images"] else ""
        lines += [
            "", f"## {name}", "",
            f"{net['place_net']['backbone']} + NetVLAD{net['place_net']['clusters']}{whitening}{fitted}; input {size}; "
            f"{net['parameters']:,} parameters, {net['float32_mb']:.1f} MB as float32; mAP "
            + ", ".join(f"{label} {rows[0]['map'][label]:.1f}" for label in labels)
            + f". Beside it the paper's {'AlexNet' if net['paper'] == 'alexnet' else 'VGG16'}.",
            "", markdown_table(_columns(rows, labels)),
        ]  # fmt: skip
        failures = [f"- {row['name']}: {row['failure']}" for row in rows if "failure" in row]
        lines += ["", "Rows that cannot be made:", "", *failures] if failures else []
    return "\n".join(lines) + "\n"


def _facts(run: dict[str, Any]) -> list[str]:
    if "networks" in run:
        networks = (
            "Networks: assembled on the data at hand, as none were given. Their sizes are the paper's, but **their "
            "backbones are untrained** (random weights): how much mAP such a network loses says little about a trained "
            "one. AlexNet is Caffe's reference network, as in NetVLAD's published AlexNet."
        )
    else:
        networks = f"Networks: as given, {', '.join(run['models'])}."
    tuning = "none, weights are only pruned and shared; the paper's networks were fine-tuned."
    if run["epochs"]:
        tuning = (
            f"{run['epochs']} epochs after pruning and after sharing, towards the float network on the database "
            f"images, learning rate {run['learning_rate']:g}."
        )
    return [
        f"Data sets: {', '.join(run['dataset'])}; the paper's are Oxford and Paris Buildings.",
        networks,
        f"Fine-tuning: {tuning}",
        "Pruned by: *threshold*, the paper's, on plain magnitudes; or *share*, the paper's percentage, the smallest "
        "first, relative to their output channel's RMS. Columns in parentheses are the paper's own.",
        "drop: points of mAP lost against the float network; negative is a gain.",
        "paper_mb: surviving weights × bits / 8, about as the paper counts. file_mb: the whole file, which decodes, "
        "positions of the zeros included; of the base row the .keras file. entropy_mb: the zero-order entropy of the "
        "weights, the least where each is coded for itself; a file below it has made use of their neighbours. MB are "
        "10^6 bytes.",
    ]


def _columns(rows: list[dict[str, Any]], labels: list[str]) -> list[list[str]]:
    decimals = 1 if rows[0]["paper_mb"] >= 100 else 3
    keys = ("paper_mb", "file_mb", "entropy_mb")

    def column(head: str, text) -> list[str]:
        return [head, *map(text, rows)]

    def number(row: dict, key: str, decimals: int) -> str:
        return "-" if row.get(key) is None else f"{row[key]:.{decimals}f}"

    def drop(label: str):
        return lambda row: f"{round(row['drop'][label], 1) + 0.0:.1f}" if "drop" in row else "-"

    def paper(key: str, decimals: int):
        return lambda row: f"{row['paper'][key]:.{decimals}f}"

    return [
        column("bits", lambda row: str(row["bits"])),
        column("threshold", lambda row: f"{row['threshold']:g}"),
        column("pruned by", lambda row: row["pruned_by"] or "-"),
        column("pruned %", lambda row: number(row, "pruned", 2)),
        column("(paper)", paper("pruned", 2)),
        *(column(f"drop {label}", drop(label)) for label in labels),
        column("(Oxford)", paper("drop_oxford", 1)),
        column("(Paris)", paper("drop_paris", 1)),
        *(column(key, lambda row, key=key: number(row, key, decimals)) for key in keys),
        column("(paper MB)", paper("mb", 1)),
    ]


def _write(output: str, results: dict[str, Any], table: str) -> None:
    """Writes the page and the plot."""
    from tfplaces.report import write_drop_plot

    write_text(os.path.join(output, "table.md"), table)
    theirs = "the paper, its own MB"
    panels = {
        name: {series: {"8 bits": [], "5 bits": []} for series in (theirs, "by threshold", "by share")}
        for name in results["networks"]
    }
    for row in results["rows"]:
        if row["pruned_by"]:
            paper, panel = row["paper"], panels[row["network"]]
            label, bits = f"{row['threshold']:g}", f"{row['bits']} bits"
            if row["pruned_by"] == "share":  # once for the two rows that stand beside it
                panel[theirs][bits].append((label, paper["mb"], (paper["drop_oxford"] + paper["drop_paris"]) / 2))
            if "drop" in row:
                drop = sum(row["drop"].values()) / len(row["drop"])
                panel[f"by {row['pruned_by']}"][bits].append((label, row["file_mb"], drop))
    write_drop_plot(os.path.join(output, "plot.png"), panels)


def _step(text: str) -> None:
    print(f"* {text}", file=sys.stderr, flush=True)


def run(argv: list[str] | None = None) -> None:
    """Entry point of the console command."""
    entry.run(define_flags, main, argv)


if __name__ == "__main__":
    run()
