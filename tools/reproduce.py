"""Makes each compressed row of the paper's results table on your data, and puts the figures beside the paper's.

Each row is made twice: once with the row's threshold, and once pruned by the share that the row reports.

tfplaces-reproduce --dataset=oxford5k:oxford,paris6k:paris --models=netvlad.keras --output=grid
tfplaces-reproduce --dataset=folder:photos --whitening_dataset=folder:more,folder:yet_more --output=grid

Without --models, networks of the paper's sizes are assembled on the data at hand: NetVLAD64 with its vocabulary, and a
whitening to 4096 dimensions, which takes more than 4096 images; the backbones stay untrained. For pretrained ones give
--models, which tfplaces-train makes with --backbone_weights. OUTPUT gets table.md, plot.png, results.json, the
assembled networks (about 300 and 600 MB) and the .places file of each row, all of which are kept. The same command
goes on where a run has stopped.
"""

from __future__ import annotations

from absl import flags

from tfplaces.common.errors import UserError
from tfplaces.tools import entry, flag_values


def define_flags(values: flags.FlagValues) -> None:
    string = flags.DEFINE_string
    string("dataset", None, "The data sets to evaluate on, separated by commas; the paper's are "
           "oxford5k:DIR,paris6k:DIR.", required=True, flag_values=values)  # fmt: skip
    string("output", None, "The folder for everything that is made.", required=True, flag_values=values)
    string("networks", None, "The networks to assemble: alexnet (Caffe's reference network, as in NetVLAD's AlexNet), "
           "vgg16; by default both.", flag_values=values)  # fmt: skip
    string("models", None, "Instead of assembled networks: .keras files of tfplaces, separated by commas, which are "
           "used as they are.", flag_values=values)  # fmt: skip
    string("whitening_dataset", None, "Data sets, separated by commas, whose database images the whitening of the "
           "assembled networks is fitted on, beside those of --dataset.", flag_values=values)  # fmt: skip
    string("input_size", None, "The size of the images that the assembled networks take, HEIGHTxWIDTH in pixels, "
           "instead of the paper's.", flag_values=values)  # fmt: skip
    flags.DEFINE_integer("epochs", 0, "How many epochs a network is fine-tuned towards the float one on the database "
                         "images, after pruning and again after sharing.", lower_bound=0,
                         flag_values=values)  # fmt: skip
    flags.DEFINE_float("learning_rate", 1e-4, "The learning rate of the Adam optimizer in fine-tuning.", lower_bound=0,
                       flag_values=values)  # fmt: skip


def main(args: flags.FlagValues) -> None:
    if args.models and (args.networks or args.whitening_dataset or args.input_size):
        raise UserError("--models are used as they are: leave out --networks, --whitening_dataset and --input_size")
    models, networks = (text.split(",") if text else [] for text in (args.models, args.networks))
    for path in models:
        entry.check_model(path, ".keras")
    entry.check_output_folder(args.output)
    input_size = flag_values.size(args.input_size)

    from tfplaces.datasets import split_specs
    from tfplaces.workflows.paper_grid import make_paper_grid

    text = make_paper_grid(
        split_specs(args.dataset), args.output, models=models, networks=networks,
        whitening_datasets=split_specs(args.whitening_dataset) if args.whitening_dataset else [],
        input_size=input_size, epochs=args.epochs, learning_rate=args.learning_rate, seed=args.seed,
        overwrite=args.overwrite,
    )  # fmt: skip
    print(text, end="")


def run(argv: list[str] | None = None) -> None:
    """Entry point of the console command."""
    entry.run(define_flags, main, argv)


if __name__ == "__main__":
    run()
