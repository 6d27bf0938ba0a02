"""Converts a .keras or .places model to TFLite for phones.

tfplaces-convert --model=model.places --output=model.tflite --calibration=folder:photos --verify=folder:photos

The weights of a .places file on the int8 grid are in the .tflite exactly as they are; that is checked on every run.
With --verify the written file is run beside the Keras model; where it loses more than --max_drop points of mAP it is
left as OUTPUT.rejected, with exit code 3. What is known of the file is written beside it, as NAME.json. Data sets may
be several, comma-separated.
"""

from __future__ import annotations

import dataclasses
import os
import sys
import tempfile

from absl import flags

from tfplaces.common.errors import UserError
from tfplaces.lite import PRECISIONS, STATIC
from tfplaces.tools import entry

# Exit code: the file was made and is not good enough.
REJECTED = 3
# Layers that --debug_layers shows.
_SHOWN = 15


def define_flags(values: flags.FlagValues) -> None:
    def string(name, default, text, **options):
        flags.DEFINE_string(name, default, text, flag_values=values, **options)

    def choice(name, default, options, text):
        flags.DEFINE_enum(name, default, options, text, flag_values=values)

    string("model", None, "A .keras or .places file.", required=True)
    string("output", None, "The .tflite file to write.", required=True)
    choice("precision", "mixed_int8", PRECISIONS, "mixed_int8: int8 backbone, float NetVLAD, int8 weights in the "
           "whitening; mixed_int4: int4 weights there; full_int8: integers throughout, for accelerators that take "
           "nothing else.")  # fmt: skip
    string("calibration", None, "Data set whose database images give the mixed precisions and an int8 output their "
           "ranges.")  # fmt: skip
    string("finetune", None, "Of a .keras file: data set on whose database images the network of 8-bit weights is "
           "fine-tuned towards the float one first.")  # fmt: skip
    string("input_size", None, "HEIGHTxWIDTH in pixels, instead of the model's own, or any: resized by its user.")
    flags.DEFINE_integer("batch", 1, "Images at once.", lower_bound=1, upper_bound=1024, flag_values=values)
    choice("input_type", "uint8", ("uint8", "float32"), "Of the image's values, 0 to 255.")
    choice("output_type", "float32", ("float32", "int8"), "Of the descriptor's.")
    flags.DEFINE_integer("descriptor_dim", None, "Keep only so many dimensions of the whitening, the first.",
                         lower_bound=1, flag_values=values)  # fmt: skip
    string("verify", None, "Data set to run the written file on beside the Keras model.")
    flags.DEFINE_float("max_drop", 1.0, "Points of mAP that it may lose.", flag_values=values)
    flags.DEFINE_boolean("force", False, "Keep a file that loses more, or full_int8 that is not verified.",
                         flag_values=values)  # fmt: skip
    flags.DEFINE_boolean("debug_layers", False, "With --verify: print the layers that add most error.",
                         flag_values=values)  # fmt: skip


def main(args: flags.FlagValues) -> int | None:
    if not args.output.endswith(".tflite"):
        raise UserError(f"--output={args.output}: a TFLite file is named .tflite")
    report = os.path.splitext(args.output)[0] + ".json"
    for path in (args.output, report):
        entry.check_output(path, args.overwrite)
    entry.check_model(args.model, ".keras", ".places")
    resizable = args.input_size == "any"
    input_size = None if resizable else entry.size(args.input_size)
    for what, needs in ((args.precision, args.precision in STATIC), ("int8", args.output_type == "int8")):
        if needs and not args.calibration:
            flag = "output_type" if what == "int8" else "precision"
            raise UserError(f"--{flag}={what} needs --calibration=SPEC, images that show what the phone will see")
    if args.finetune and (not args.model.lower().endswith(".keras") or "int" not in args.precision):
        raise UserError("--finetune is for a .keras file in a precision of integers; compress.py makes .places files")
    if args.precision == "full_int8" and not args.verify and not args.force:
        raise UserError(
            "--precision=full_int8 loses accuracy on some networks: give --verify=SPEC, which refuses such a file, or "
            "--force"
        )
    if args.debug_layers and not args.verify:
        raise UserError("--debug_layers needs --verify=SPEC, images to look at the layers with")

    from tfplaces import datasets

    calibration, tuning = (
        datasets.concatenate([d.database for d in datasets.load_datasets(specs, "train")]) if specs else None
        for specs in (args.calibration, args.finetune)
    )
    judges = datasets.load_datasets(args.verify, "val") if args.verify else []
    if judges:
        from tfplaces.evaluation import check_positives

        for dataset in judges:
            check_positives(dataset)

    from tfplaces.common.files import write_json
    from tfplaces.lite import convert
    from tfplaces.lite.check import check, file_report, layer_errors
    from tfplaces.opening import load_place_net

    model, shared = _load(args, tuning)
    parent, name = os.path.split(os.path.abspath(args.output))
    with tempfile.TemporaryDirectory(dir=parent, prefix=".converting-") as folder:
        path = os.path.join(folder, name)
        errors = convert(
            model, path, args.precision, shared=shared, calibration=calibration,
            input_size="any" if resizable else input_size, batch=args.batch,
            float_input=args.input_type == "float32", int8_output=args.output_type == "int8",
            descriptor_dim=args.descriptor_dim, seed=args.seed,
        )  # fmt: skip
        if judges and args.model.lower().endswith(".keras"):
            model = load_place_net(args.model)  # the float one, to compare with
        checks = [check(path, model, dataset) for dataset in judges]
        facts = file_report(path, args.precision, errors, checks)
        rejected = bool(checks) and facts["drop"] > args.max_drop and not args.force
        layers = layer_errors(path, model, judges[0], args.precision) if rejected or args.debug_layers else []
        _print(args.output, facts, layers[:_SHOWN] if args.debug_layers else [])
        if layers:
            facts["worst_layers"] = [dataclasses.asdict(layer) for layer in layers]
        output = f"{args.output}.rejected" if rejected else args.output
        os.replace(path, output)
        write_json(f"{output}.json" if rejected else report, facts)
    if rejected:
        worst = "; it has no layer of integers"
        if layers:
            worst = f"; the layer that adds most error is {layers[0].layer} ({100 * layers[0].added:.1f} %)"
        print(
            f"{output}: loses {facts['drop']:.2f} points of mAP, more than --max_drop={args.max_drop:g}{worst}",
            file=sys.stderr,
        )
        return REJECTED
    return None


def _load(args: flags.FlagValues, tuning):
    """The Keras model to convert, and its sharing."""
    from tfplaces.compression import Distillation, Recipe, compress, load_compressed
    from tfplaces.opening import load_place_net

    if args.model.lower().endswith(".places"):
        compressed = load_compressed(args.model)
        return compressed.model, compressed.shared
    model = load_place_net(args.model)
    if "int" not in args.precision:
        return model, {}
    options = {"epochs": 1, "learning_rate": 1e-4, "seed": args.seed}
    tune = None if tuning is None else Distillation(model, tuning, **options)
    return model, compress(model, Recipe(bits=8), tune).shared


def _print(path: str, facts: dict, layers: list) -> None:
    shapes = {end: "x".join(map(str, facts[end]["shape"])) for end in ("input", "output")}
    print(f"{path}: {facts['precision']}, {shapes['input']} {facts['input']['type']} to {shapes['output']} "
          f"{facts['output']['type']}, {facts['bytes'] / 1e6:.2f} MB")  # fmt: skip
    names = (f"{count} {name}" if count > 1 else name for name, count in facts["operators"].items())
    print(f"builtin operators: {', '.join(names)}")
    kernels = facts["kernel_errors"]
    errors = {name: error for name, error in kernels.items() if error}
    print(f"kernels: {len(kernels) - len(errors)} of {len(kernels)} exactly as compressed")
    for name, error in errors.items():
        print(f"  {name} is off by {100 * error:.3g} %")
    for check in facts.get("checks", ()):
        cosine = check["cosine"]
        print(f"{check['dataset']}: drop {check['drop']:.2f}, cosine {cosine['mean']:.5f}, least {cosine['min']:.5f}")
        for name, scores in (("Keras", check["keras"]), ("TFLite", check["tflite"])):
            recall = ", ".join(f"R@{n} {value:.2f}" for n, value in scores["recall"].items())
            print(f"  {name:6} mAP {scores['map']:.2f}, {recall}")
    if "checks" in facts:
        times, memory = facts["latency_ms"], facts["memory_bytes"]
        costs = [f"{times['1']:.1f} ms an image", f"{times['2']:.1f} ms with 2 threads"]
        if memory is not None:
            costs.append(f"{memory / 1e6:.1f} MB of memory above LiteRT's own")
        print(f"drop {facts['drop']:.2f} points of mAP; {', '.join(costs)}")
    if layers:
        print("error of the layers' outputs, and what each adds, % of the output:")
    for layer in layers:
        print(f"  {layer.layer:24} {layer.operator:20} {100 * layer.error:6.2f} {100 * layer.added:6.2f}")


def run(argv: list[str] | None = None) -> None:
    """Entry point of the console command."""
    entry.run(define_flags, main, argv)


if __name__ == "__main__":
    run()
