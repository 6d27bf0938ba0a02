"""The main job: a network is trained or assembled, compressed and converted, and its files are compared on a page."""

from __future__ import annotations

import dataclasses
import functools
import json
import os
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from tfplaces.common.files import sha256, write_json, write_text
from tfplaces.common.processors import usable_processors
from tfplaces.common.progress import say_step
from tfplaces.datasets import PlaceDataset, cached, load_dataset
from tfplaces.describers import describe_images
from tfplaces.evaluation import check_positives, drop_interval, score
from tfplaces.report.rows import Row
from tfplaces.report.tables import format_table
from tfplaces.version import __version__
from tfplaces.workflows.plan import Plan
from tfplaces.workflows.run_folder import clear, names_digest, take_up

# The file of each stage, and the .places file that says how much of it is pruned.
FILES = {
    "float32": ("model.keras", None),
    "8bit": ("8bit.places", "8bit.places"),
    "5bit": ("5bit.places", "5bit.places"),
    "tflite_float32": ("float32.tflite", None),
    "tflite_mixed_int8": ("mixed_int8.tflite", "8bit.places"),
}
# The page shows the retrievals of this stage.
_SHOWN = "tflite_mixed_int8"
_STATE = "run.json"
# Everything that a run writes. A run that replaces another removes it in this order before it begins.
_OUTPUTS = (
    _STATE, "report.html", "table.md", "results.json", "mixed_int8.json", "mixed_int8.tflite", "float32.json",
    "float32.tflite", "5bit.places", "8bit.places", "model.keras",
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Result:
    """The result of a run: the rows of its table, and facts that the reader should know, each a name and a value."""

    rows: list[Row]
    facts: list[tuple[str, str]]


def quickstart(
    dataset: str,
    output: str,
    *,
    backbone: str = "alexnet",
    backbone_weights: str = "none",
    input_size: tuple[int, int] | None = None,
    seed: int = 0,
    overwrite: bool = False,
    plan: Plan | None = None,
) -> Result:
    """Makes models, results.json, table.md and report.html in a folder, and goes on where the same run has stopped.

    A data set with a training split (toytown) is trained on. Of others the network is assembled: from the backbone's
    weights and the database images. In both cases the compressed networks are fine-tuned towards the float network on
    images without labels, so that their drop tells of compression alone and not of more training.

    Args:
        dataset: the spec of the data set to evaluate on.
        output: the folder.
        backbone: a key of `tfplaces.models.BACKBONES`.
        backbone_weights: none, imagenet or a file, as `load_backbone_weights` takes them.
        input_size: (height, width) of the images in pixels; by default the plan's where a network is trained, and
            the backbone's own where it is not.
        seed: gives everything that is random.
        overwrite: whether to replace what an earlier run has made.
        plan: the sizes of the network, its training and its compression; by default those of `Plan`.

    Raises:
        UserError: the data set cannot be evaluated on, or the folder holds something else.
    """
    plan = plan or Plan()
    judged = cached(load_dataset(dataset, "test"))
    check_positives(judged)
    run = {
        "dataset": dataset, "images": names_digest([judged.database, judged.queries]),
        "backbone": backbone, "backbone_weights": backbone_weights,
        "weights_sha256": sha256(backbone_weights) if os.path.isfile(backbone_weights) else None,
        "input_size": input_size, "seed": seed, "plan": dataclasses.asdict(plan), "version": __version__,
    }  # fmt: skip
    state = take_up(output, _STATE, run, overwrite) or {"run": run, "seconds": {}, "facts": {}}
    os.makedirs(output, exist_ok=True)
    if overwrite:
        clear(output, _OUTPUTS)
    job = _Job(output, state)
    job.save()

    from tfplaces.workflows.quickstart_stages import Stages

    stages = Stages(dataset, judged, plan, backbone, backbone_weights, input_size, seed)
    job.make("model.keras", lambda path: job.facts.update(stages.make_network(path)))
    for bits in (8, 5):
        job.make(f"{bits}bit.places", functools.partial(stages.compress, job.path("model.keras"), bits=bits))
    for name, source in (("float32", "model.keras"), ("mixed_int8", "8bit.places")):
        # The facts that stand beside a .tflite are written after it.
        job.make(f"{name}.json", functools.partial(stages.convert, job.path(source)))
    job.make("results.json", lambda path: write_json(path, [row.to_json() for row in _measure(job, judged)]))
    with open(job.path("results.json"), encoding="utf-8") as file:
        rows = [Row(**row) for row in json.load(file)]
    result = Result(rows, _facts(job, dataset, judged))
    job.make("table.md", lambda path: write_text(path, format_table(rows) + "\n"))
    job.make("report.html", lambda path: _write_page(path, job, dataset, judged, result))
    return result


class _Job:
    """The folder of a run, which knows which files are there and how long each took."""

    def __init__(self, output: str, state: dict[str, Any]):
        self._output, self._state = output, state

    @property
    def facts(self) -> dict[str, str]:
        """Facts that the stages tell the reader of the page; they are kept with the state."""
        return self._state["facts"]

    @property
    def seconds(self) -> float:
        """The seconds that all files together took."""
        return sum(self._state["seconds"].values())

    def path(self, name: str) -> str:
        """The path of a file in the folder."""
        return os.path.join(self._output, name)

    def make(self, name: str, write: Callable[[str], object]) -> None:
        """Calls the function that writes a file, which has to appear whole or not at all, unless the file is there."""
        if os.path.exists(self.path(name)):
            return
        started = time.monotonic()
        write(self.path(name))
        self._state["seconds"][name] = round(time.monotonic() - started, 1)
        self.save()

    def save(self) -> None:
        """Writes the state."""
        write_json(self.path(_STATE), self._state)


def _measure(job: _Job, judged: PlaceDataset) -> list[Row]:
    """Measures every file: accuracy, bytes and latency."""
    from tfplaces.coding import places_statistics
    from tfplaces.evaluation import measure_latency

    say_step("measuring accuracy and latency of the files")
    statistics = {name: places_statistics(job.path(name)).total for name in ("8bit.places", "5bit.places")}
    parameters = statistics["8bit.places"].parameters
    latencies = measure_latency([job.path(file) for file, _ in FILES.values()])
    rows: list[Row] = []
    base = None
    for (name, (file, compressed)), latency in zip(FILES.items(), latencies, strict=True):
        found = score(judged, *_describe(job, file, judged))
        size = os.path.getsize(job.path(file))
        base = base or found
        rows.append(
            Row(
                name=name,
                map=found.map,
                recall1=found.recall[1],
                drop=base.map - found.map,
                pruned=statistics[compressed].pruned if compressed else 0.0,
                bytes=size,
                ratio=4 * parameters / size,
                ms=latency.ms,
                drop_interval=drop_interval(base.average_precisions, found.average_precisions) if rows else None,
            )
        )
    return rows


def _describe(job: _Job, file: str, judged: PlaceDataset) -> tuple[np.ndarray, np.ndarray]:
    """The descriptors of the queries and of the database."""
    from tfplaces.opening import load_describer

    describer = load_describer(job.path(file), threads=usable_processors())
    return describe_images(describer, judged.queries), describe_images(describer, judged.database)


def _facts(job: _Job, dataset: str, judged: PlaceDataset) -> list[tuple[str, str]]:
    cosines = []
    for name in ("float32", "mixed_int8"):
        with open(job.path(f"{name}.json"), encoding="utf-8") as file:
            cosines.append(f"tflite_{name} {json.load(file)['checks'][0]['cosine']['mean']:.4f}")
    return [
        ("Network", job.facts["network"]),
        ("Data set", f"{dataset}: {len(judged.answerable())} queries, {len(judged.database)} database images"),
        ("Training", job.facts["training"]),
        ("Compression", job.facts["compression"]),
        ("Input", job.facts["input"]),
        ("Cosine to its Keras model", ", ".join(cosines)),
        ("Wall time", f"{int(job.seconds // 60)} min {int(job.seconds % 60)} s"),
    ]


def _write_page(path: str, job: _Job, dataset: str, judged: PlaceDataset, result: Result) -> None:
    from tfplaces.report import write_report
    from tfplaces.workflows.quickstart_stages import kernels_of
    from tfplaces.workflows.shown_queries import shown_queries

    before, after = (kernels_of(job.path(name)) for name in ("model.keras", "5bit.places"))
    largest = sorted(before, key=lambda name: -before[name].size)[:4]
    shown = [name for name in before if name in largest]
    retrievals, missed = shown_queries(judged, *_describe(job, FILES[_SHOWN][0], judged))
    write_report(
        path,
        title=f"tfplaces quickstart: {dataset}",
        facts=result.facts,
        rows=result.rows,
        weights_before={name: before[name] for name in shown},
        weights_after={name: after[name] for name in shown},
        retrievals=retrievals,
        missed=missed,
    )
