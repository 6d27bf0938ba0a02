"""The page and the plot of the paper's grid, which show our figures beside the paper's."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tfplaces.coding.places import aggregation_title
from tfplaces.report import markdown_table


def page(results: Mapping[str, Any], labels: Sequence[str]) -> str:
    """The page as Markdown: facts about the run, then a table for each network.

    Args:
        results: the results of a finished run, as `tfplaces.workflows.paper_grid` keeps them.
        labels: the short names of the data sets.
    """
    lines = ["# The grid of the paper", "", *(f"- {fact}" for fact in _facts(results["run"]))]
    for name, net in results["networks"].items():
        rows = [row for row in results["rows"] if row["network"] == name]
        size = "{}x{}".format(*net["place_net"]["input_size"])
        whitening = f" + whitening {net['place_net']['whitening']}" if net["place_net"]["whitening"] else ""
        fitted = f", fitted on {net['whitening_images']:,} images" if net["whitening_images"] else ""
        lines += [
            "", f"## {name}", "",
            f"{net['place_net']['backbone']} + {aggregation_title(net['place_net'])}{whitening}{fitted}; input {size}; "
            f"{net['parameters']:,} parameters, {net['float32_mb']:.1f} MB as float32; mAP "
            + ", ".join(f"{label} {rows[0]['map'][label]:.1f}" for label in labels)
            + f". Beside it the paper's {'AlexNet' if net['paper'] == 'alexnet' else 'VGG16'}.",
            "", markdown_table(_columns(rows, labels)),
        ]  # fmt: skip
        failures = [f"- {row['name']}: {row['failure']}" for row in rows if "failure" in row]
        lines += ["", "Rows that cannot be made:", "", *failures] if failures else []
    return "\n".join(lines) + "\n"


def write_plot(path: str, results: Mapping[str, Any]) -> None:
    """Writes a picture of sizes against drops, with a panel for each network and lines for the paper and both ways."""
    from tfplaces.report import write_drop_plot

    theirs = "the paper, its own MB"
    panels: dict[str, dict[str, dict[str, list[tuple[str, float, float]]]]] = {
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
    write_drop_plot(path, panels)


def _facts(run: Mapping[str, Any]) -> list[str]:
    """Facts that the reader should know of the run."""
    if "networks" in run:
        networks = (
            "Networks: assembled on the data at hand, as none were given. Their sizes are the paper's, but **their "
            "backbones are untrained** (random weights): how much mAP such a network loses says little about a trained "
            "one. AlexNet is Caffe's reference network, as in NetVLAD's published AlexNet."
        )
    else:
        networks = f"Networks: as given, {', '.join(run['models'])}."
    tuning = "none; weights are only pruned and shared, while the paper's networks were fine-tuned."
    if run["epochs"]:
        tuning = (
            f"{run['epochs']} epochs after pruning and as many after sharing, towards the float network on the "
            f"database images, with a learning rate of {run['learning_rate']:g}."
        )
    return [
        f"Data sets: {', '.join(run['dataset'])}; the paper's are Oxford and Paris Buildings.",
        networks,
        f"Fine-tuning: {tuning}",
        "Each row is pruned in two ways: by *threshold*, the paper's, so that the weights of smaller "
        "magnitude go; and by *share*, the paper's percentage of the weights, so that those go that are "
        "smallest relative to the RMS of their output channel. Columns in parentheses are the paper's own.",
        "drop is how many points of mAP are lost against the float network; a negative drop is a gain.",
        "paper_mb is the number of surviving weights × bits / 8, which is about how the paper counts. file_mb "
        "is the size of the whole file, from which the network can be read, so it includes where the zeros "
        "are; in the base row it is that of the .keras file. entropy_mb is the zero-order entropy of the "
        "weights, which is the least that coding each weight by itself can take; a smaller file makes use of "
        "a weight's neighbours. MB are 10^6 bytes.",
    ]


def _columns(rows: Sequence[Mapping[str, Any]], labels: Sequence[str]) -> list[list[str]]:
    """The columns of a network's table, each with its head first; a dash where a row has no such figure."""
    decimals = 1 if rows[0]["paper_mb"] >= 100 else 3

    def column(head: str, text: Callable[[Mapping[str, Any]], str]) -> list[str]:
        return [head, *map(text, rows)]

    def number(key: str, decimals: int) -> Callable[[Mapping[str, Any]], str]:
        return lambda row: "-" if row.get(key) is None else f"{row[key]:.{decimals}f}"

    def drop(label: str) -> Callable[[Mapping[str, Any]], str]:
        return lambda row: f"{round(row['drop'][label], 1) + 0.0:.1f}" if "drop" in row else "-"

    def paper(key: str, decimals: int) -> Callable[[Mapping[str, Any]], str]:
        return lambda row: f"{row['paper'][key]:.{decimals}f}"

    return [
        column("bits", lambda row: str(row["bits"])),
        column("threshold", lambda row: f"{row['threshold']:g}"),
        column("pruned by", lambda row: row["pruned_by"] or "-"),
        column("pruned %", number("pruned", 2)),
        column("(paper)", paper("pruned", 2)),
        *(column(f"drop {label}", drop(label)) for label in labels),
        column("(Oxford)", paper("drop_oxford", 1)),
        column("(Paris)", paper("drop_paris", 1)),
        *(column(key, number(key, decimals)) for key in ("paper_mb", "file_mb", "entropy_mb")),
        column("(paper MB)", paper("mb", 1)),
    ]
