"""Scores a model on a data set by mean average precision and by recall at 1, 5 and 10.

tfplaces-evaluate --model=model.tflite --dataset=folder:photos --json=scores.json
"""

from __future__ import annotations

import os

from absl import flags

from tfplaces.tools import entry, flag_values


def define_flags(values: flags.FlagValues) -> None:
    flags.DEFINE_string(
        "model", None, "The .keras, .places, .tflite or .tflpack file to score.", required=True, flag_values=values
    )
    flags.DEFINE_string(
        "dataset", None, "The data set, written KIND[:PATH][?key=value].", required=True, flag_values=values
    )
    flags.DEFINE_string("json", None, "A file to write the scores to as well.", flag_values=values)
    flags.DEFINE_string(
        "input_size", None, "The images' size, HEIGHTxWIDTH in pixels, instead of the model's.", flag_values=values
    )


def main(args: flags.FlagValues) -> None:
    if args.json:
        entry.check_output(args.json, args.overwrite)
    entry.check_model(args.model, ".keras", ".places", ".tflite", ".tflpack")
    input_size = flag_values.size(args.input_size)

    from tfplaces.common.files import write_json
    from tfplaces.datasets import load_dataset

    dataset = load_dataset(args.dataset)

    from tfplaces.evaluation import evaluate
    from tfplaces.opening import load_describer, try_model

    try_model(args.model, input_size)
    describer = load_describer(args.model, input_size)
    result = evaluate(describer, dataset)
    model_bytes = os.path.getsize(args.model)
    scores = {**result.to_json(), "descriptor_dim": describer.descriptor_dim, "model_bytes": model_bytes}
    rows = [
        ("mAP", f"{result.map:.2f} ({result.protocol})"),
        *((f"recall@{n}", f"{recall:.2f}") for n, recall in result.recall.items()),
        ("queries", f"{result.queries} (and {result.skipped_queries} without positives, left out)"),
        ("database", f"{result.database}"),
        ("descriptor", f"{describer.descriptor_dim}-D at {'x'.join(map(str, describer.input_size))}"),
        ("model", f"{model_bytes / 1e6:.2f} MB"),
    ]
    rows += [("note", note) for note in result.notes]
    for name, value in rows:
        print(f"{name:<12}{value}")
    if args.json:
        write_json(args.json, scores)


def run(argv: list[str] | None = None) -> None:
    """Entry point of the console command."""
    entry.run(define_flags, main, argv)


if __name__ == "__main__":
    run()
