"""The main job: trains a network, compresses it, converts it for phones, and compares the stages.

tfplaces-quickstart --output=quickstart
tfplaces-quickstart --dataset=folder:photos --backbone=mobilenet_v1 --backbone_weights=imagenet --output=report

A data set with a training split (toytown) is trained on; a folder of photos is not: the network is assembled from the
backbone's weights and the database images, and compressed with fine-tuning towards the float network. OUTPUT gets
the models, results.json, table.md and report.html.
"""

from __future__ import annotations

import os
import sys
import time

from absl import flags

from tfplaces.common.errors import UserError
from tfplaces.common.processors import usable_processors
from tfplaces.tools import entry

# toytown, unless the user chooses: places to train and to fine-tune on, and a network that trains in minutes.
TRAIN_PLACES, TUNE_PLACES = 150, 75
TOYTOWN_SIZE, TOYTOWN_CLUSTERS = (96, 128), 32
EPOCHS, TUNE_EPOCHS = 3, 1
LEARNING_RATE, TUNE_LEARNING_RATE = 3e-4, 1e-4
MARGIN = 0.3
# Photos without a training split: compressed networks are pulled back to the float one on some database images.
DISTILL_IMAGES, DISTILL_EPOCHS, DISTILL_LEARNING_RATE = 200, 3, 1e-4
WHITENING = 128
SPARSITY = 0.5
SHEET_QUERIES, SHEET_MATCHES = 8, 5


def define_flags(values: flags.FlagValues) -> None:
    string = flags.DEFINE_string
    string("dataset", "toytown", "Data set, KIND[:PATH][?key=value].", flag_values=values)
    string("backbone", "alexnet", "alexnet, caffenet, vgg16, mobilenet_v1, mobilenet_v2 or squeezenet.",
           flag_values=values)  # fmt: skip
    string("backbone_weights", "none", "none (initialised), imagenet (Keras Applications) or an .npz file.",
           flag_values=values)  # fmt: skip
    string("input_size", None, "HEIGHTxWIDTH in pixels, instead of the backbone's own.", flag_values=values)
    string("output", None, "Folder for everything that is made.", required=True, flag_values=values)


def main(args: flags.FlagValues) -> None:
    started = time.monotonic()
    if os.path.isdir(args.output) and os.listdir(args.output) and not args.overwrite:
        raise UserError(f"{args.output}: is not empty; give --overwrite to replace what is in it, or another --output")
    input_size = entry.size(args.input_size)

    from tfplaces import datasets

    dataset = datasets.cached(datasets.load_dataset(args.dataset, "test"))
    trains = datasets.has_splits(args.dataset)

    from tfplaces.evaluation import check_positives

    check_positives(dataset)

    from tfplaces import report
    from tfplaces.common.files import write_json, write_text
    from tfplaces.compression import find_kernels
    from tfplaces.describers import describe_images
    from tfplaces.evaluation import score
    from tfplaces.evaluation.cost import measure_latency
    from tfplaces.opening import load_describer

    def output(name):
        return os.path.join(args.output, name)

    stages = _Stages(args, input_size or (TOYTOWN_SIZE if trains else None), dataset)
    model = stages.assemble(output("model.keras"))
    before = {k.name: k.variable.numpy() for k in find_kernels(model)}
    parameters, description = model.count_params(), stages.describe(model)
    compressed = {bits: stages.compress(output("model.keras"), output(f"{bits}bit.places"), bits) for bits in (8, 5)}
    after = {k.name: k.variable.numpy() for k in find_kernels(compressed[5].model)}
    checks = {
        "tflite_float32": stages.convert(model, {}, output("float32.tflite"), "float32"),
        "tflite_mixed_int8": stages.convert(
            compressed[8].model, compressed[8].shared, output("mixed_int8.tflite"), "mixed_int8"
        ),
    }

    files = {
        "float32": ("model.keras", 0.0),
        "8bit": ("8bit.places", compressed[8].pruned),
        "5bit": ("5bit.places", compressed[5].pruned),
        "tflite_float32": ("float32.tflite", 0.0),
        "tflite_mixed_int8": ("mixed_int8.tflite", compressed[8].pruned),
    }
    _step("measuring accuracy and latency of the files")
    latencies = measure_latency([output(file) for file, _ in files.values()])
    rows, descriptors = [], {}
    for (name, (file, pruned)), latency in zip(files.items(), latencies, strict=True):
        describer = load_describer(output(file), threads=usable_processors())
        queries = describe_images(describer, dataset.queries)
        database = describe_images(describer, dataset.database)
        descriptors[name] = queries, database
        scores = score(dataset, queries, database)
        size = os.path.getsize(output(file))
        rows.append(
            {
                "name": name,
                "map": scores.map,
                "recall1": scores.recall[1],
                "drop": (rows[0]["map"] if rows else scores.map) - scores.map,
                "pruned": pruned,
                "bytes": size,
                "ratio": 4 * parameters / size,
                "ms": latency.ms,
            }
        )
    seconds = time.monotonic() - started
    facts = [
        ("Network", f"{description}, {parameters:,} parameters"),
        ("Data set", f"{args.dataset}: {scores.queries} queries, {scores.database} database images"),
        ("Training", stages.training),
        ("Input", "x".join(map(str, model.input_size))),
        ("Cosine to its Keras model", ", ".join(f"{name} {check.cosine_mean:.4f}" for name, check in checks.items())),
        ("Wall time", f"{int(seconds // 60)} min {int(seconds % 60)} s"),
    ]
    table = report.format_table(rows)
    write_json(output("results.json"), rows)
    write_text(output("table.md"), table + "\n")
    shown = _largest(before)
    report.write_report(
        output("report.html"),
        title=f"tfplaces quickstart: {args.dataset}",
        facts=facts,
        rows=rows,
        weights_before={name: before[name] for name in shown},
        weights_after={name: after[name] for name in shown},
        retrievals=_retrievals(dataset, *descriptors["tflite_mixed_int8"]),
    )
    print(table)
    for name, value in facts:
        print(f"{name}: {value}")
    print(f"Open {output('report.html')}")


class _Stages:
    """The stages of the job, each with its file."""

    def __init__(self, args: flags.FlagValues, input_size: tuple[int, int] | None, dataset):
        import keras

        from tfplaces import datasets

        keras.utils.set_random_seed(args.seed)
        self.args, self.input_size, self.dataset = args, input_size, dataset
        self.train_sets = self.tune_sets = None
        self.training = "none; the compressed networks are fine-tuned towards the float one on database images"
        if datasets.has_splits(args.dataset):
            train, validation = (datasets.cached(d) for d in datasets.training_sets(args.dataset))
            tune = train
            if "?" not in args.dataset:
                train, tune = (
                    datasets.cached(datasets.load_dataset(f"{args.dataset}?places={places}", "train"))
                    for places in (TRAIN_PLACES, TUNE_PLACES)
                )
            self.train_sets, self.tune_sets = (train, validation), (tune, validation)

    def assemble(self, path: str):
        from tfplaces.common.files import replacing
        from tfplaces.layers.netvlad import DEFAULT_SHARPNESS, TRAINING_SHARPNESS
        from tfplaces.models import PlaceNet
        from tfplaces.pretrained import load_backbone_weights
        from tfplaces.training import add_whitening, initialize_netvlad

        _step("assembling the network")
        clusters = TOYTOWN_CLUSTERS if self.train_sets else 64
        model = PlaceNet(self.args.backbone, clusters=clusters, input_size=self.input_size)
        load_backbone_weights(model, self.args.backbone_weights)
        os.makedirs(self.args.output, exist_ok=True)
        images = self.train_sets[0].database if self.train_sets else self.dataset.database
        sharpness = TRAINING_SHARPNESS if self.train_sets else DEFAULT_SHARPNESS
        initialize_netvlad(model, [images], sharpness, self.args.seed)
        if self.train_sets:
            _step(f"training for {EPOCHS} epochs")
            history = self.train(model, self.train_sets, epochs=EPOCHS, learning_rate=LEARNING_RATE)
            self.training = f"{EPOCHS} epochs, validation mAP {history[0]:.1f} before, {max(history):.1f} after"
            # Not for a folder of photos: fitted on few images, a whitening does harm.
            if len(images) >= 2 * WHITENING:
                _step("fitting the whitening")
                model = add_whitening(model, WHITENING, [images])
            # As the compressed networks are, or their drop would tell of training and not of compression.
            self.train(model, self.tune_sets, epochs=TUNE_EPOCHS, learning_rate=TUNE_LEARNING_RATE)
        with replacing(path) as temporary:
            model.save(temporary)
        return model

    def train(self, model, sets, **options) -> list[float]:
        from tfplaces.training import train

        return train(model, *sets, margin=MARGIN, seed=self.args.seed, **options)

    def describe(self, model) -> str:
        whitening = f" + whitening {model.config['whitening']}" if model.config["whitening"] else ""
        return f"{self.args.backbone} + NetVLAD{model.config['clusters']}{whitening}"

    def compress(self, source: str, path: str, bits: int):
        import numpy as np

        from tfplaces import datasets
        from tfplaces.compression import Distillation, Recipe, compress, save_places
        from tfplaces.opening import load_model
        from tfplaces.training import TripletTuning

        _step(f"compressing to {bits} bits, {SPARSITY:.0%} of the parameters pruned")
        model = load_model(source)
        if self.tune_sets:
            tune = TripletTuning(
                model, *self.tune_sets, epochs=TUNE_EPOCHS, learning_rate=TUNE_LEARNING_RATE, margin=MARGIN,
                seed=self.args.seed,
            )  # fmt: skip
        else:
            known = self.dataset.database
            chosen = np.random.default_rng(self.args.seed).permutation(len(known))[:DISTILL_IMAGES]
            tune = Distillation(
                model, datasets.Subset(known, chosen), epochs=DISTILL_EPOCHS, learning_rate=DISTILL_LEARNING_RATE,
                seed=self.args.seed,
            )  # fmt: skip
        recipe = Recipe(bits=bits, bits_for=dict.fromkeys(_sensitive(model), 8), sparsity=SPARSITY)
        compressed = compress(model, recipe, tune)
        save_places(path, compressed)
        return compressed

    def convert(self, model, shared, path: str, precision: str):
        from tfplaces.common.files import write_json
        from tfplaces.lite import convert
        from tfplaces.lite.check import check, file_report

        _step(f"converting to TFLite, {precision}, and checking the file")
        images = self.train_sets[0].database if self.train_sets else self.dataset.database
        errors = convert(model, path, precision, shared=shared, calibration=images, seed=self.args.seed)
        checked = check(path, model, self.dataset)
        write_json(os.path.splitext(path)[0] + ".json", file_report(path, precision, errors, [checked]))
        return checked


def _sensitive(model) -> list[str]:
    """Kernels that keep 8 bits: where there are depthwise ones, these and the first, under 1 % of the parameters.

    Few levels hurt them most: at 5 bits amos_night lost 5 points of mAP, now it gains 1.
    """
    from tfplaces.compression import find_kernels

    kernels = find_kernels(model)
    depthwise = [k.name for k in kernels if len(k.variable.shape) == 4 and k.channel_axis == 2]
    return [kernels[0].name, *depthwise] if depthwise else []


def _step(text: str) -> None:
    print(f"* {text}", file=sys.stderr, flush=True)


def _largest(kernels: dict, count: int = 4) -> list[str]:
    """The names of the largest kernels, in the network's order."""
    largest = sorted(kernels, key=lambda name: -kernels[name].size)[:count]
    return [name for name in kernels if name in largest]


def _retrievals(dataset, queries, database):
    """Queries spread over the data set, with their best matches."""
    import numpy as np

    from tfplaces.evaluation.search import rank
    from tfplaces.report import Retrieval

    size = (120, 160)
    usable = dataset.answerable()
    chosen = [usable[k] for k in np.linspace(0, len(usable) - 1, min(SHEET_QUERIES, len(usable))).astype(int)]
    retrievals = []
    for q, order in zip(chosen, rank(queries[chosen], database), strict=True):
        best = order[~np.isin(order, dataset.ignored(q))][:SHEET_MATCHES]
        retrievals.append(
            Retrieval(
                dataset.queries.read(q, size),
                dataset.queries.names[q],
                [dataset.database.read(i, size) for i in best],
                np.isin(best, dataset.positives[q]).tolist(),
            )
        )
    return retrievals


def run(argv: list[str] | None = None) -> None:
    """Entry point of the console command."""
    entry.run(define_flags, main, argv)


if __name__ == "__main__":
    run()
