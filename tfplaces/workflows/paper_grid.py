"""Makes the rows of the paper's results table on one's own data, by their thresholds and by their shares pruned."""

from __future__ import annotations

import contextlib
import functools
import glob
import os
import shutil
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tfplaces.common.errors import UserError
from tfplaces.common.files import replacing, sha256, write_json, write_text
from tfplaces.common.progress import say_step
from tfplaces.datasets import CachedImages, Images, PlaceDataset, Subset, concatenate, load_dataset
from tfplaces.describers import Describer, describe_images
from tfplaces.evaluation import check_positives, score
from tfplaces.workflows.paper import BACKBONES, CLUSTERS, RESULTS, WHITENING, PaperRow
from tfplaces.workflows.paper_page import page, write_plot
from tfplaces.workflows.run_folder import clear, take_up

if TYPE_CHECKING:
    from tfplaces.models import PlaceNet

_STATE = "results.json"


def make_paper_grid(
    datasets: Sequence[str],
    output: str,
    *,
    models: Sequence[str] = (),
    networks: Sequence[str] = (),
    whitening_datasets: Sequence[str] = (),
    input_size: tuple[int, int] | None = None,
    epochs: int = 0,
    learning_rate: float = 1e-4,
    seed: int = 0,
    overwrite: bool = False,
) -> str:
    """Makes the `.places` file of each row, results.json, table.md and plot.png in a folder.

    Each row is kept as soon as it is measured, and the same call goes on where a run has stopped.

    Args:
        datasets: the specs of the data sets to evaluate on.
        output: the folder.
        models: `.keras` files of tfplaces; where there are none, networks of the paper's sizes are assembled on the
            data at hand: NetVLAD with its vocabulary and a whitening; their backbones stay untrained.
        networks: the keys of `BACKBONES` to assemble; by default all.
        whitening_datasets: the specs of data sets whose database images the whitening is fitted on as well.
        input_size: (height, width) in pixels of the assembled networks, instead of their own.
        epochs: how often to go through the database images to fine-tune towards the float network, after pruning and
            again after sharing; 0 means that there is no fine-tuning.
        learning_rate: Adam's step size in fine-tuning.
        seed: gives everything that is random.
        overwrite: whether to replace what an earlier run has made.

    Returns:
        the text of table.md.

    Raises:
        UserError: a network is unknown, two models have one name, a data set cannot be evaluated on, there are too
            few images for the whitening, or the folder holds something else.
    """
    run: dict[str, Any] = {"dataset": list(datasets)}
    if models:
        names = [_name(path) for path in models]
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise UserError(f"--models={','.join(models)}: two are called {twice!r}, and so would be their rows")
        run["models"] = {path: sha256(path) for path in models}
    else:
        if unknown := next((name for name in networks if name not in BACKBONES), None):
            raise UserError(f"--networks={','.join(networks)}: {unknown!r} is none of {', '.join(BACKBONES)}")
        run["networks"] = list(dict.fromkeys(networks or BACKBONES))
        run["whitening_dataset"] = list(whitening_datasets)
        run["input_size"] = input_size and list(input_size)
    run |= {"epochs": epochs, **({"learning_rate": learning_rate} if epochs else {}), "seed": seed}
    fresh = {"run": run, "networks": {}, "rows": []}
    results = {**fresh, **(take_up(output, _STATE, run, overwrite) or {})}

    labels = _labels(run["dataset"])
    sets = {label: load_dataset(spec, "test") for label, spec in zip(labels, datasets, strict=True)}
    for dataset in sets.values():
        check_positives(dataset)
    whitening: list[Images] = []
    if not models:
        more = [load_dataset(spec, "train") for spec in whitening_datasets if spec not in datasets]
        whitening = [dataset.database for dataset in (*sets.values(), *more)]
        count = sum(map(len, whitening))
        if count <= WHITENING:
            raise UserError(
                f"a whitening to {WHITENING} dimensions takes more than {WHITENING} database images, here are {count}: "
                "name more data sets with --whitening_dataset, or networks of your own with --models"
            )

    grid = _Grid(output, results, sets)
    for path in models:
        grid.open(path)
    if overwrite:
        _clear(output, models)
    grid.save()
    for name in run.get("networks", ()):
        grid.assemble(name, whitening)
    grid.measure()
    text = page(results, labels)
    write_text(os.path.join(output, "table.md"), text)
    write_plot(os.path.join(output, "plot.png"), results)
    return text


class _Grid:
    """The rows of a run; each is kept in results.json as soon as it is measured."""

    def __init__(self, output: str, results: dict[str, Any], sets: Mapping[str, PlaceDataset]):
        self._folder, self._results, self._sets, self._run = output, results, sets, results["run"]
        self._rows: dict[str, dict[str, Any]] = {row["name"]: row for row in results["rows"]}

    @functools.cached_property
    def _images(self) -> _AllImages:
        return _AllImages(self._sets)

    def assemble(self, name: str, whitening: Sequence[Images]) -> None:
        """Makes one of the paper's networks, unless the run has it already."""
        if name in self._results["networks"]:
            return
        from tfplaces.training import add_whitening, assemble

        say_step(f"assembling {name}")
        databases = [dataset.database for dataset in self._sets.values()]
        size, seed = self._run["input_size"], self._run["seed"]
        size = size and (size[0], size[1])
        model = assemble(BACKBONES[name], databases, clusters=CLUSTERS, input_size=size, seed=seed)
        model = add_whitening(model, WHITENING, whitening, folder=self._folder)
        path = os.path.join(self._folder, f"{name}.keras")
        with replacing(path) as temporary:
            model.save(temporary)
        self._add(name, path, model, sum(map(len, whitening)))
        self.save()

    def open(self, path: str) -> None:
        """Opens one of the user's networks and notes what it is."""
        if _name(path) not in self._results["networks"]:
            from tfplaces.opening import load_place_net

            self._add(_name(path), path, load_place_net(path), None)

    def _add(self, name: str, path: str, model: PlaceNet, whitening_images: int | None) -> None:
        net = model.config
        self._results["networks"][name] = {
            "file": path,
            "paper": "alexnet" if net["backbone"] in ("alexnet", "caffenet") else "vgg16",
            "place_net": net,
            "parameters": model.count_params(),
            "float32_mb": 4 * model.count_params() / 1e6,
            "whitening_images": whitening_images,
        }

    def save(self) -> None:
        """Writes results.json."""
        os.makedirs(self._folder, exist_ok=True)
        write_json(os.path.join(self._folder, _STATE), {**self._results, "rows": list(self._rows.values())})

    def measure(self) -> None:
        """Measures the rows that are not there yet."""
        plan = [(n, p, by) for n, net in self._results["networks"].items() for p, by in planned_rows(net["paper"])]
        for number, (network, paper, by) in enumerate(plan, 1):
            name = _row_name(network, paper, by)
            if name in self._rows:
                continue
            left = self._time_left([n for n, p, b in plan if _row_name(n, p, b) not in self._rows])
            say_step(f"row {number} of {len(plan)}: {name}{left}")
            started = time.monotonic()
            row = {"name": name, "network": network, "bits": paper.bits, "threshold": paper.threshold,
                   "pruned_by": by, "paper": vars(paper)}  # fmt: skip
            row |= self._row(row)
            self._rows[name] = {**row, "seconds": round(time.monotonic() - started, 1)}
            self.save()
        self._results["rows"] = [self._rows[_row_name(*row)] for row in plan]

    def _time_left(self, networks: Sequence[str]) -> str:
        """A text that estimates the time for rows of these networks; empty where no row tells how long they take."""
        seconds: dict[str, list[float]] = {}
        for row in self._rows.values():
            if row["pruned_by"]:
                seconds.setdefault(row["network"], []).append(row["seconds"])
        means = {network: sum(values) / len(values) for network, values in seconds.items()}
        if not means:
            return ""
        # A network that was not begun is taken to be as slow as the slowest.
        left = sum(means.get(network, max(means.values())) for network in networks)
        return f", about {left / 60:.0f} min left" if left >= 60 else f", about {left:.0f} s left"

    def _row(self, row: dict[str, Any]) -> dict[str, Any]:
        """The figures of a row, measured on its file."""
        from tfplaces.compression import EmptyKernelError
        from tfplaces.opening import load_describer

        net = self._results["networks"][row["network"]]
        sizes: Mapping[str, float | None]
        if row["pruned_by"]:
            path = os.path.join(self._folder, f"{row['name']}.places")
            try:
                sizes = self._compress(row, net["file"], path)
            except EmptyKernelError as error:
                return {"failure": str(error)}
        else:
            path = net["file"]
            sizes = {"pruned": 0.0, "paper_mb": net["float32_mb"], "file_mb": os.path.getsize(path) / 1e6,
                     "entropy_mb": None}  # fmt: skip
        scores = self._images.scores(load_describer(path))
        base = self._rows.get(_row_name(row["network"], None, None), {"map": scores})["map"]
        return {"file": path, **sizes, "map": scores, "drop": {label: base[label] - scores[label] for label in scores}}

    def _compress(self, row: dict[str, Any], source: str, path: str) -> dict[str, float]:
        """Makes the file of a row and returns its sizes."""
        import keras

        from tfplaces.compression import Distillation, Recipe, compress, places_statistics, save_places
        from tfplaces.opening import load_place_net
        from tfplaces.training import WorkDir

        keras.utils.set_random_seed(self._run["seed"])
        if row["pruned_by"] == "share":
            recipe = Recipe(bits=row["bits"], sparsity=row["paper"]["pruned"] / 100)
        else:
            recipe = Recipe(bits=row["bits"], threshold=row["threshold"])
        model = load_place_net(source)
        tune = work_dir = None
        if epochs := self._run["epochs"]:
            options = {"learning_rate": self._run["learning_rate"], "seed": self._run["seed"]}
            tune = Distillation(model, self._images.database, epochs=epochs, **options)
            work_dir = WorkDir(f"{path}.work")
        with work_dir or contextlib.nullcontext():
            save_places(path, compress(model, recipe, tune, work_dir=work_dir))
        total = places_statistics(path).total
        return {
            "pruned": total.pruned,
            "paper_mb": (1 - total.pruned / 100) * total.parameters * row["bits"] / 8 / 1e6,
            "file_mb": total.file_bytes / 1e6,
            "entropy_mb": total.entropy_bytes / 1e6,
        }


class _AllImages:
    """The images of all data sets, kept in memory once decoded, and described in one go."""

    def __init__(self, sets: Mapping[str, PlaceDataset]):
        self._sets = sets
        # The database images of all sets come first, then the queries of all sets.
        self._parts = [dataset.database for dataset in sets.values()] + [dataset.queries for dataset in sets.values()]
        self._all = CachedImages(concatenate(self._parts))

    @property
    def database(self) -> Images:
        """The database images, to fine-tune on."""
        return Subset(self._all, range(sum(map(len, self._parts[: len(self._sets)]))))

    def scores(self, describer: Describer) -> dict[str, float]:
        """The mAP of each data set by its label."""
        bounds = np.cumsum([len(part) for part in self._parts])[:-1]
        parts = np.split(describe_images(describer, self._all), bounds)
        database, queries = parts[: len(self._sets)], parts[len(self._sets) :]
        return {
            label: score(dataset, queries[k], database[k]).map for k, (label, dataset) in enumerate(self._sets.items())
        }


def planned_rows(paper: str) -> list[tuple[PaperRow, str | None]]:
    """The rows to make of a network, each with how it is pruned: by threshold or by share, or None for the base."""
    base, *rows = RESULTS[paper]
    return [(base, None), *((row, by) for row in rows for by in ("threshold", "share"))]


def _row_name(network: str, paper: PaperRow | None, by: str | None) -> str:
    """The name of a row and of its file."""
    if paper is None or by is None:
        return f"{network}-base"
    return f"{network}-{paper.bits}bit-{by}{paper.threshold if by == 'threshold' else paper.pruned}"


def _labels(specs: list[str]) -> list[str]:
    """Short names of data sets: the folder's name or the kind, or the whole specs where two names would be the same."""
    labels = []
    for spec in specs:
        kind, _, path = spec.partition("?")[0].partition(":")
        labels.append(os.path.basename(path.rstrip("/")) if kind == "folder" else kind)
    return labels if len(set(labels)) == len(labels) else specs


def _name(path: str) -> str:
    """The name of a model in its rows: that of the file, or of the folder where the file is called model.keras."""
    folder, name = os.path.split(os.path.abspath(path))
    return os.path.basename(folder) if name == "model.keras" else os.path.splitext(name)[0]


def _clear(output: str, models: Sequence[str]) -> None:
    """Removes what an earlier run has made, the page first, but no network that this run begins with."""
    for work_dir in glob.glob(os.path.join(glob.escape(output), "*-[58]bit-*.places.work")):
        shutil.rmtree(work_dir)
    assembled = [f"{name}.keras" for name in BACKBONES]
    clear(output, ["table.md", "plot.png", _STATE, "*-[58]bit-*.places", *assembled], keep=models)
