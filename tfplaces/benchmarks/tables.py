"""The tables that `tfplaces-benchmark` prints, each below lines that say what its columns mean."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tfplaces.report import text_table
from tfplaces.report.rows import interval_text

Figures = Mapping[str, Any]


def format_result(result: Mapping[str, Any]) -> str:
    """All tables of a result, whose keys name the measurements."""
    tables: dict[str, Callable[[Any], str]] = {
        "models": models_text, "accuracy": accuracy_text, "cost": cost_text, "coders": coders_text,
        "small": small_text, "clustering": clustering_text, "network": network_text, "whitening": whitening_text,
        "search": search_text, "training": training_text,
    }  # fmt: skip
    return "\n\n".join(tables[name](figures) for name, figures in result.items())


def models_text(rows: Sequence[Figures]) -> str:
    """The table of what `tfplaces.benchmarks.models.measure_models` gives."""
    timed = [
        head
        for found in rows[0]["latency"]
        for head in (f"ms, {found['threads']} thread{'s' * (found['threads'] > 1)}", "x")
    ]
    table = text_table(
        ["model", "input", *timed, "memory MB", "process MB", "file MB", "packed MB"],
        [
            [
                row["model"],
                _input(row),
                *(cell for found in row["latency"] for cell in (f"{found['ms']:.2f}", f"{found['ratio']:.2f}")),
                *([_mb(row["memory"][key], 1) for key in ("above_runtime", "peak")] if row["memory"] else ["", ""]),
                _mb(row["file_bytes"]),
                "" if row["packed_bytes"] is None else _mb(row["packed_bytes"]),
            ]
            for row in rows
        ],
    )
    return _explained(
        "ms is the median time of an image; a model whose input is NxHxW describes a batch of N in one call, "
        "and the time is shared among them. x is the time over the first model's, the median of the rounds. "
        "Memory is the peak above that of the imported runtime, process is the peak of the whole process. "
        "Packed is the size as .tflpack or as .places. MB are 10^6 bytes.",
        table,
    )


def cost_text(rows: Sequence[Figures]) -> str:
    """The table of what `tfplaces.benchmarks.cost.measure_cost` gives."""
    table = text_table(
        ["backbone", "precision", "ms", "x", "memory MB", "file MB"],
        [
            [
                row["backbone"],
                row["precision"],
                f"{row['latency'][0]['ms']:.1f}",
                f"{row['latency'][0]['ratio']:.2f}",
                _mb(row["memory"]["above_runtime"], 0) if row["memory"] else "",
                _mb(row["file_bytes"], 1),
            ]
            for row in rows
        ],
    )
    return _explained(
        "ms is the median time to describe one image on one thread, x is that time over the same network's in "
        "Keras. Memory is the peak above that of the imported runtime. MB are 10^6 bytes.",
        table,
    )


def accuracy_text(rows: Sequence[Figures]) -> str:
    """The table of what `tfplaces.benchmarks.accuracy.measure_accuracy` gives."""
    specs = list(rows[0]["map"])
    table = text_table(
        ["model", "compressed to", "drop", "interval", "error", *specs, "MB", "bits/parameter"],
        [
            [
                row["model"],
                row["row"] or "mAP as float",
                *(
                    ["", "", "", *(f"{value:.1f}" for value in row["map"].values()), "", ""]
                    if row["row"] is None
                    else [
                        _points(row["drop"]),
                        interval_text(row["drop_interval"]),
                        "" if row["drop_error"] is None else f"{row['drop_error']:.2f}",
                        *(_points(value) for value in row["drops"].values()),
                        _mb(row["bytes"]),
                        f"{8 * row['bytes'] / row['parameters']:.3f}",
                    ]
                ),
            ]
            for row in rows
        ],
    )
    return _explained(
        "drop is how many points of mAP are lost against the float network, in the mean and on each data set; "
        "a negative drop is a gain. interval is the 95 % interval of the mean by a paired bootstrap of the "
        "queries, error is its standard error over the seeds.",
        table,
    )


def whitening_text(rows: Sequence[Figures]) -> str:
    """The table of what `tfplaces.benchmarks.whitening.measure_whitening` gives."""
    table = text_table(
        ["dimensions", "power", *rows[0]["map"], "mean", "gain", "interval"],
        [
            [
                str(row["dimensions"]),
                "" if row["power"] is None else str(row["power"]),
                *(f"{value:.1f}" for value in row["map"].values()),
                f"{row['mean']:.1f}",
                "" if row["gain"] is None else f"{row['gain']:.1f}",
                interval_text(row["gain_interval"]),
            ]
            for row in rows
        ],
    )
    return _explained(
        "The columns of the data sets are mAP. A whitening divides each dimension by its variance to the "
        "power; the first row has no whitening. gain is how much higher the mean is than in that row, "
        "interval is the 95 % interval of the gain by a paired bootstrap of the queries.",
        table,
    )


def network_text(rows: Sequence[Figures]) -> str:
    """The table of what `tfplaces.benchmarks.network.measure_network` gives."""
    stages = list(rows[0]["seconds"])
    table = text_table(
        ["bits", *(head for name in stages for head in (name, "peak")), "MB", "bits/parameter", "over entropy"],
        [
            [
                str(row["bits"]),
                *(cell for n in stages for cell in (f"{row['seconds'][n]:.1f}", f"{row['peak'][n] / 1e9:.2f}")),
                _mb(row["bytes"]),
                f"{8 * row['bytes'] / row['parameters']:.3f}",
                f"{row['over_entropy']:.4f}",
            ]
            for row in rows
        ],
    )
    return _explained(
        "The columns of the stages are seconds. peak is how many GB of memory the stage takes above those of "
        "the process with its model.",
        table,
    )


def training_text(rows: Sequence[Figures]) -> str:
    """The table of what `tfplaces.benchmarks.training.measure_training` gives."""
    table = text_table(
        ["augmentation", "images from", "Keras images/s", "images/s", "x", "x from to", "Keras MB", "MB"],
        [
            [
                row["augmentation"],
                row["source"],
                *(f"{row['images_per_second'][side]:.1f}" for side in ("keras", "tfplaces")),
                f"{row['ratio']:.2f}",
                f"{min(row['ratios']):.2f} {max(row['ratios']):.2f}",
                *(_mb(row["peak"][side]) for side in ("keras", "tfplaces")),
            ]
            for row in rows
        ],
    )
    return _explained(
        "Plain Keras fits batches that are in memory. The library makes the same batches while it trains: from image "
        "files, or from what its first epoch kept of them in memory. x is the speed over that of plain Keras, the "
        "median of the rounds, and the least and the most. MB is the peak of a process that trains so, 10^6 bytes.",
        table,
    )


def search_text(rows: Sequence[Figures]) -> str:
    """The table of what `tfplaces.benchmarks.search.measure_search` gives."""
    table = text_table(
        ["search", "seconds", "x", "memory MB", "process MB", "same %", "cosines within", "same as float64 %"],
        [
            [
                row["search"],
                f"{row['seconds']:.2f}",
                f"{row['ratio']:.2f}",
                _mb(row["memory"], 0),
                _mb(row["process_memory"], 0),
                f"{100 * row['same']:.2f}",
                f"{row['difference']:.1e}",
                f"{100 * row['same_as_float64']:.2f}",
            ]
            if "seconds" in row
            else [row["search"], "not installed", *[""] * 6]
            for row in rows
        ],
    )
    return _explained(
        "x is the time over that of tfplaces, the median of the rounds. Memory is anonymous: what is mapped from the "
        "file is left out; process is that of the whole process. same is the share of the images found that tfplaces "
        "finds at the same rank, and the cosines differ from its by no more than the next column says. The last column "
        "is the share that a plain sort of all cosines in float64 has at the same rank, for the first queries.",
        table,
    )


def coders_text(rows: Sequence[Figures]) -> str:
    """The table of what `tfplaces.benchmarks.coding.measure_coders` gives."""
    table = text_table(
        ["symbols", "coder", "entropy", "size", "encode M/s", "x", "decode M/s", "x"],
        [
            [
                row["symbols_of"],
                row["coder"],
                f"{row['entropy']:.3f}",
                f"{row['size']:.4f}",
                f"{row['encode'] / 1e6:.1f}",
                f"{row['encode_ratio']:.2f}",
                f"{row['decode'] / 1e6:.1f}",
                f"{row['decode_ratio']:.2f}",
            ]
            if "size" in row
            else [row["symbols_of"], row["coder"], "not installed", *[""] * 5]
            for row in rows
        ],
    )
    return _explained(
        "size is over the zero-order entropy. M/s are million symbols a second, x is the speed of tfplaces "
        "over this coder's.",
        table,
    )


def small_text(rows: Sequence[Figures]) -> str:
    """The table of what `tfplaces.benchmarks.coding.measure_small` gives."""
    table = text_table(
        ["symbols", "count", "bytes", "over entropy", "over raw"],
        [
            [
                row["symbols_of"],
                f"{row['symbols']:,}",
                f"{row['bytes']:,}",
                f"{row['over_entropy']:.3f}",
                f"{row['over_raw']:.3f}",
            ]
            for row in rows
        ],
    )
    return _explained(
        "These are small tensors, with all side information.",
        table,
    )


def clustering_text(found: Figures) -> str:
    """The table of what `tfplaces.benchmarks.clustering.measure_clustering` gives."""
    steps = text_table(
        ["", "set-up s", "step s", "peak MB", "values", "zeros", "error"],
        [
            [
                name,
                f"{row['setup']:.2f}",
                f"{row['step']:.4f}",
                _mb(row["peak"], 0),
                str(row["values"]),
                f"{row['sparsity']:.3f}",
                f"{row['error']:.5f}",
            ]
            for name, row in (("tfplaces", found["ours"]), ("TF-MOT", found["tfmot"]))
        ]
        + [["TF-MOT / tfplaces", "", f"{found['step_ratio']:.2f}", f"{found['peak_ratio']:.2f}", "", "", ""]],
    )
    ours = found["sizes"]["tfplaces"]
    sizes = text_table(
        ["stored as", "bytes", "over tfplaces"],
        [
            [name, f"{size:,}", f"{size / ours:.3f}"]
            for name, size in sorted(found["sizes"].items(), key=lambda item: item[1])
        ],
    )
    layer = _explained(
        f"A Dense layer of 32768 x {found['outputs']} weights, half of them pruned, is clustered to 32 levels. A step "
        "is a batch of 16.",
        steps,
    )
    stored = _explained(
        f"TF-MOT's distances of all weights to all centroids take {found['tfmot_distances'] / 1e9:.2f} GB here, and "
        f"would take {found['tfmot_distances_full'] / 1e9:.1f} GB for 32768 x 4096.",
        sizes,
    )
    return f"{layer}\n\n{stored}"


def _explained(explanation: str, table: str) -> str:
    """A table below the sentences that say what its columns mean."""
    return f"{textwrap.fill(explanation, 110)}\n\n{table}"


def _input(row: Figures) -> str:
    """The size of the images that a model takes, and how many it takes in one call where that is more than one."""
    size, batch = "x".join(map(str, row["input_size"])), row["latency"][0]["batch"]
    return size if batch == 1 else f"{batch}x{size}"


def _mb(count: float, decimals: int = 2) -> str:
    """Bytes as megabytes."""
    return f"{count / 1e6:.{decimals}f}"


def _points(value: float) -> str:
    """Points of mAP with one decimal, and no negative zero."""
    return f"{round(value, 1) + 0.0:.1f}"
