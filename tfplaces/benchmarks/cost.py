"""What networks cost on a CPU, with Keras and in the precisions of phones: README's table.

    python tests/lite/benchmark_cost.py --output=cost

NetVLAD64 and a whitening; backbones and whitening have random weights, as latency, memory and size before packing do
not depend on them. Files that are in OUTPUT already are not made again.
"""

import argparse
import os

import keras

from tfplaces import datasets
from tfplaces.benchmarks.models import measure_models
from tfplaces.common.files import write_json
from tfplaces.lite import convert
from tfplaces.models import PlaceNet
from tfplaces.training import initialize_netvlad

# Dimensions of the whitening: the paper's networks have 4096.
WHITENING = {"alexnet": 4096, "vgg16": 4096, "mobilenet_v1": 1024, "mobilenet_v2": 1024}
PRECISIONS = ("float32", "dynamic_int8", "mixed_int8", "mixed_int4")


def make(backbone, folder, images):
    """Paths of the network as .keras and in each precision."""
    paths = {name: os.path.join(folder, backbone, f"{name}.tflite") for name in PRECISIONS}
    paths = {"keras": os.path.join(folder, backbone, "model.keras")} | paths
    if missing := [name for name, path in paths.items() if not os.path.exists(path)]:
        os.makedirs(os.path.join(folder, backbone), exist_ok=True)
        keras.utils.set_random_seed(0)
        model = PlaceNet(backbone, whitening=WHITENING[backbone], input_size=(224, 224))
        initialize_netvlad(model, [images])
        for name in missing:
            if name == "keras":
                model.save(paths[name])
            else:
                convert(model, paths[name], name, calibration=images)
    return paths


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", required=True)
    parser.add_argument("--backbones", default=",".join(WHITENING))
    args = parser.parse_args()
    images = datasets.load_dataset("toytown?places=10").database
    found = {}
    for backbone in args.backbones.split(","):
        paths = make(backbone, args.output, images)
        rows = measure_models(list(paths.values()))
        found[backbone] = dict(zip(paths, rows, strict=True))
        write_json(os.path.join(args.output, "cost.json"), found)
        floats = found[backbone]["float32"]
        for name, row in found[backbone].items():
            (latency,), used = row["latency"], row["memory"]["above_runtime"]
            ratio, share = latency["ms"] / floats["latency"][0]["ms"], used / floats["memory"]["above_runtime"]
            print(
                f"| {backbone} | {name} | {latency['ms']:.1f} | {ratio:.2f} | {used / 1e6:.0f} | {share:.2f} | "
                f"{row['file_bytes'] / 1e6:.1f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
