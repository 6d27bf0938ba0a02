"""What compression costs in mAP on real photos: the rows of README's table, several seeds, mean and standard error.

    python tests/compression/benchmark_accuracy.py --models=a/model.keras,b/model.keras --output=accuracy.json \
        --datasets=folder:corridor,folder:amos_night,folder:ietower

Networks are fine-tuned towards the float network on the database images of the data sets, never on queries. Rows that
are in OUTPUT already are not computed again.
"""

import argparse
import gc
import json
import os
import tempfile

import keras
import numpy as np

from tfplaces import datasets
from tfplaces.common.files import write_json
from tfplaces.compression import Distillation, Recipe, compress, load_places, places_statistics, save_places
from tfplaces.describers.keras import KerasDescriber
from tfplaces.evaluation import evaluate
from tfplaces.opening import load_place_net

# Share of all parameters pruned, bits, and of which of the database images one is fine-tuned on: few levels take more.
ROWS = {
    "8 bits, 50 %": (0.50, 8, 3),
    "8 bits, 70 %": (0.70, 8, 3),
    "8 bits, 85 %": (0.85, 8, 3),
    "5 bits, 55 %": (0.55, 5, 1),
    "5 bits, 75 %": (0.75, 5, 1),
}
# First and depthwise layers, under 1 % of the parameters, keep 8 bits.
SENSITIVE = {"mobilenet_v1": ("conv1", "conv_dw_*"), "squeezenet": ("conv1",), "mobilenet_v2": ("Conv1", "*depthwise*")}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", required=True)
    parser.add_argument("--datasets", required=True)
    parser.add_argument("--output", required=True)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--learning_rate", type=float, default=1e-4)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rows", default=",".join(str(i) for i in range(len(ROWS))))
    args = parser.parse_args()
    sets = [datasets.cached(dataset) for dataset in datasets.load_datasets(args.datasets)]
    images = datasets.concatenate([dataset.database for dataset in sets])
    parts = {n: datasets.Subset(images, range(0, len(images), n)) for _, _, n in ROWS.values()}
    results = {}
    if os.path.exists(args.output):
        with open(args.output) as file:
            results = json.load(file)
    rows = [list(ROWS.items())[int(i)] for i in args.rows.split(",")]
    for path in args.models.split(","):
        model = load_place_net(path)
        weights = model.get_weights()
        found = results.setdefault(path, {"parameters": model.count_params()})
        if "float" not in found:
            found["float"] = [evaluate(KerasDescriber(model), dataset).map for dataset in sets]
            write_json(args.output, results)
        print(f"{path}: {model.count_params():,} parameters, mAP {np.round(found['float'], 2)}", flush=True)
        for seed in range(args.seeds):
            model.set_weights(weights)
            options = {"epochs": args.epochs, "learning_rate": args.learning_rate, "seed": seed}
            tunes = {every: Distillation(model, part, **options) for every, part in parts.items()}
            for row, (sparsity, bits, every) in rows:
                runs = found.setdefault(row, {})
                if str(seed) in runs:
                    continue
                keras.utils.set_random_seed(seed)
                model.set_weights(weights)
                kept = {pattern: 8 for pattern in SENSITIVE[model.config["backbone"]]}
                recipe = Recipe(bits=bits, bits_for=kept if bits < 8 else {}, sparsity=sparsity)
                with tempfile.TemporaryDirectory() as folder:
                    file = os.path.join(folder, "model.places")
                    save_places(file, compress(model, recipe, tunes[every]))
                    total = places_statistics(file).total
                    describer = KerasDescriber(load_places(file))
                    maps = [evaluate(describer, dataset).map for dataset in sets]
                drops = [a - b for a, b in zip(found["float"], maps, strict=True)]
                runs[str(seed)] = {"drops": drops, "pruned": total.pruned, "bytes": total.file_bytes}
                write_json(args.output, results)
                del describer
                gc.collect()
                print(f"{row}, seed {seed}: drop {np.mean(drops):.2f} {np.round(drops, 2)}", flush=True)
        for row, _ in rows:
            runs = list(found[row].values())
            drops = [np.mean(run["drops"]) for run in runs]
            error = np.std(drops, ddof=1) / np.sqrt(len(drops)) if len(drops) > 1 else float("nan")
            by_set = ", ".join(f"{drop:.2f}" for drop in np.mean([run["drops"] for run in runs], axis=0))
            size = runs[0]["bytes"]
            print(
                f"| {row} | {np.mean(drops):.2f} ± {error:.2f} | {by_set} | {8 * size / found['parameters']:.3f} | "
                f"{size / 1e6:.2f} |"
            )


if __name__ == "__main__":
    main()
