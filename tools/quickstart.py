"""The main job: trains a network, compresses it, converts it for phones, and compares the stages.

tfplaces-quickstart --output=quickstart
tfplaces-quickstart --dataset=folder:photos --backbone=mobilenet_v1 --backbone_weights=imagenet --output=report

A data set with a training split (toytown) is trained on; a folder of photos is not: the network is assembled from the
backbone's weights and the database images. The compressed networks are fine-tuned towards the float network, without
labels. OUTPUT gets the models, results.json, table.md and report.html. The same command goes on where a run has
stopped.
"""

from __future__ import annotations

import os

from absl import flags

from tfplaces.tools import entry, flag_values


def define_flags(values: flags.FlagValues) -> None:
    string = flags.DEFINE_string
    string("dataset", "toytown", "The data set, written KIND[:PATH][?key=value].", flag_values=values)
    string("backbone", "alexnet", f"The backbone: {flag_values.BACKBONES}.", flag_values=values)
    string("backbone_weights", "none", "The weights that the backbone starts from: none (random), imagenet (of Keras "
           "Applications), an .npz file, or a file of PyTorch.", flag_values=values)  # fmt: skip
    string("input_size", None, "The size of the images in pixels, HEIGHTxWIDTH, instead of the backbone's own.",
           flag_values=values)  # fmt: skip
    string("output", None, "The folder for everything that is made.", required=True, flag_values=values)


def main(args: flags.FlagValues) -> None:
    input_size = flag_values.size(args.input_size)

    from tfplaces.report import format_table
    from tfplaces.workflows.quickstart import quickstart

    result = quickstart(
        args.dataset, args.output, backbone=args.backbone, backbone_weights=args.backbone_weights,
        input_size=input_size, seed=args.seed, overwrite=args.overwrite,
    )  # fmt: skip
    print(format_table(result.rows))
    for name, value in result.facts:
        print(f"{name}: {value}")
    print(f"Open {os.path.join(args.output, 'report.html')}")


def run(argv: list[str] | None = None) -> None:
    """Entry point of the console command."""
    entry.run(define_flags, main, argv)


if __name__ == "__main__":
    run()
