"""Scores a model on a data set: mean average precision by the set's own protocol, and recall at 1, 5, 10, 20 and 100.

Each figure has its 95 % interval, by a bootstrap over the queries, or over sequences where the data set has them:

tfplaces-evaluate --model=model.tflite --dataset=folder:photos --json=scores.json

The figures of each query as a csv, with the first match and the metres to it; and how much another model differs:

tfplaces-evaluate --model=small.tflite --dataset=folder:photos --per_query=queries.csv --compare=model.keras

With a small model that was taught by a large one, the queries by the first and the database by the second:

tfplaces-evaluate --model=student.tflite --database_model=teacher.keras --dataset=folder:photos
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from absl import flags

from tfplaces.tools import entry, flag_values

if TYPE_CHECKING:
    from tfplaces.evaluation import Evaluation, Pairings

ENDINGS = (".keras", ".places", ".tflite", ".tflpack")


def define_flags(values: flags.FlagValues) -> None:
    def string(name: str, text: str, required: bool = False) -> None:
        flags.DEFINE_string(name, None, text, required=required, flag_values=values)

    string("model", "The .keras, .places, .tflite or .tflpack file to score.", required=True)
    string("dataset", "The data set, written KIND[:PATH][?key=value].", required=True)
    string("json", "A file to write the scores to as well.")
    string("per_query", "A .csv file to write the figures of each query to.")
    string("compare", "Another model, to say by how much --model differs from it and whether that is more than chance.")
    string("database_model", "The model that describes the database, where --model describes the queries alone; the "
           "figures of each alone stand beside. It has to give descriptors that are as long.")  # fmt: skip
    string("input_size", "The images' size, HEIGHTxWIDTH in pixels, instead of the model's; not for --database_model.")


def main(args: flags.FlagValues) -> None:
    for path in (args.json, args.per_query):
        if path:
            entry.check_output(path, args.overwrite)
    models = [path for path in (args.model, args.compare) if path]
    for path in (*models, *([args.database_model] if args.database_model else [])):
        entry.check_model(path, *ENDINGS)
    input_size = flag_values.size(args.input_size)

    from tfplaces.common.files import write_json
    from tfplaces.datasets import load_dataset

    dataset = load_dataset(args.dataset)

    from tfplaces.describers import Describer, describe_images
    from tfplaces.evaluation import check_dimensions, evaluate, evaluate_pairings, score, write_query_table
    from tfplaces.opening import load_describer, try_model

    for path in models:
        try_model(path, input_size)
    describers = [load_describer(path, input_size) for path in models]
    describer = describers[0]
    pairings = None
    if args.database_model:
        try_model(args.database_model)
        database_describer = load_describer(args.database_model)
        for each in describers:
            check_dimensions(each, database_describer)
        pairings = evaluate_pairings(describer, database_describer, dataset)

    def evaluated(each: Describer) -> Evaluation:
        if pairings is None:
            return evaluate(each, dataset)
        return score(dataset, describe_images(each, dataset.queries, "queries"), pairings.database)

    result = evaluated(describer) if pairings is None else pairings.together
    model_bytes = os.path.getsize(args.model)
    scores = {**result.to_json(), "descriptor_dim": describer.descriptor_dim, "model_bytes": model_bytes}
    intervals = result.intervals(args.seed)
    over = "queries" if result.sequences is None else "sequences"
    scores["intervals"] = intervals and {"level": 0.95, "over": over, "figures": intervals}
    rows = [
        *_figure_rows(result, intervals),
        ("queries", f"{result.queries} (and {result.skipped_queries} without positives, left out)"),
        ("database", f"{result.database}"),
        ("descriptor", f"{describer.descriptor_dim}-D at {'x'.join(map(str, describer.input_size))}"),
        ("model", f"{model_bytes / 1e6:.2f} MB"),
        *_database_rows(args.database_model, pairings),
        ("intervals", f"95 %, by a bootstrap over {over}" if intervals else f"none: there is one of the {over} only"),
        *(("note", note) for note in result.notes),
    ]
    print("\n".join(f"{name:<12}{value}" for name, value in rows))
    for by, parts in result.parts.items():
        print(f"\n{_parts_text(by, parts)}")
    if pairings is not None:
        scores["pairings"] = _show_pairings(args, pairings)
    if args.compare:
        differences = result.differences(evaluated(describers[1]), args.seed)
        print(f"\n{_differences_text(args.model, args.compare, differences)}")
        scores["compared"] = {"with": args.compare, "differences": _plain(differences)}
    if args.per_query:
        write_query_table(args.per_query, dataset, result.of_queries)
    if args.json:
        write_json(args.json, scores)


def _figure_rows(result: Evaluation, intervals: dict[str, tuple[float, float]] | None) -> list[tuple[str, str]]:
    rows = []
    for name, values in result.of_queries.figures.items():
        bounds = "" if intervals is None else f" [{intervals[name][0]:.2f}, {intervals[name][1]:.2f}]"
        protocol = f" ({result.protocol})" if name == "mAP" else ""
        rows.append((name, f"{values.mean():.2f}{protocol}{bounds}"))
    return rows


def _parts_text(by: str, parts: dict[str, dict[str, float]]) -> str:
    from tfplaces.report import text_table

    names = list(next(iter(parts.values())))
    return text_table(
        [by, *names],
        [
            [label, str(part["queries"]), *(f"{part[name]:.2f}" for name in names if name != "queries")]
            for label, part in parts.items()
        ],
    )


def _database_rows(path: str | None, pairings: Pairings | None) -> list[tuple[str, str]]:
    if path is None or pairings is None:
        return []
    alike = f"{pairings.agreement:.2f} for one image, {pairings.chance:.2f} for two"
    return [("described", f"the database by {path}, {os.path.getsize(path) / 1e6:.2f} MB"), ("cosines", alike)]


def _show_pairings(args: flags.FlagValues, pairings: Pairings) -> dict[str, Any]:
    """Prints the figures of the two models together and of each alone, and gives what the json file has of them."""
    from tfplaces.report import text_table

    rows = {
        "together": (args.model, args.database_model, pairings.together),
        "model": (args.model, args.model, pairings.first),
        "database_model": (args.database_model, args.database_model, pairings.second),
    }
    names = list(pairings.together.of_queries.figures)
    figures = [[f"{found.of_queries.figures[name].mean():.2f}" for name in names] for *_, found in rows.values()]
    table = [[*pair, *numbers] for (*pair, _), numbers in zip(rows.values(), figures, strict=True)]
    print(f"\n{text_table(['queries', 'database', *names], table)}")
    json_parts: dict[str, Any] = {"agreement": pairings.agreement, "chance": pairings.chance}
    for key, (_, _, alone) in list(rows.items())[1:]:
        differences = pairings.together.differences(alone, args.seed)
        path = getattr(args, key)
        print(f"\n{_differences_text('the two together', f'{path} alone', differences)}")
        json_parts[key] = {
            "path": path, "scores": alone.to_json(), "together_less_it": _plain(differences)
        }  # fmt: skip
    return json_parts


def _plain(differences: dict[str, tuple[float, Any]]) -> dict[str, Any]:
    return {name: {"points": points, "interval": interval} for name, (points, interval) in differences.items()}


def _differences_text(model: str, other: str, differences: dict[str, tuple[float, Any]]) -> str:
    from tfplaces.report import text_table

    def verdict(interval: tuple[float, float] | None) -> str:
        if interval is None:
            return "unknown"
        return "yes" if interval[0] > 0 or interval[1] < 0 else "no"

    table = text_table(
        ["figure", "difference", "95 % interval", "more than chance"],
        [
            [name, f"{d:+.2f}", "" if i is None else f"{i[0]:+.2f} to {i[1]:+.2f}", verdict(i)]
            for name, (d, i) in differences.items()
        ],
    )
    return f"{model} less {other}, in points, by a paired bootstrap:\n\n{table}"


def run(argv: list[str] | None = None) -> None:
    """Entry point of the console command."""
    entry.run(define_flags, main, argv)


if __name__ == "__main__":
    run()
