"""Converts a .keras or .places model to TFLite for phones.

tfplaces-convert --model=model.places --output=model.tflite --calibration=folder:photos
"""

from __future__ import annotations

import os

from absl import flags

from tfplaces.lite import PRECISIONS
from tfplaces.tools import entry


def define_flags(values: flags.FlagValues) -> None:
    string = flags.DEFINE_string
    string("model", None, "A .keras or .places file.", required=True, flag_values=values)
    string("output", None, "The .tflite file to write.", required=True, flag_values=values)
    flags.DEFINE_enum("precision", "mixed_int8", PRECISIONS, "mixed_int8: int8 backbone, float NetVLAD, int8 weights "
                      "in the whitening.", flag_values=values)  # fmt: skip
    string("calibration", None, "Data set whose database images give mixed_int8 its ranges.", flag_values=values)
    string("input_size", None, "HEIGHTxWIDTH in pixels, instead of the model's own.", flag_values=values)


def main(args: flags.FlagValues) -> None:
    entry.check_output(args.output, args.overwrite)
    if not args.output.endswith(".tflite"):
        raise ValueError(f"--output={args.output}: a TFLite file is named .tflite")
    entry.check_model(args.model, ".keras", ".places")
    input_size = entry.size(args.input_size)
    if args.precision == "mixed_int8" and not args.calibration:
        raise ValueError("--precision=mixed_int8 needs --calibration=SPEC, images that show what the phone will see")

    from tfplaces.datasets import load_dataset

    calibration = load_dataset(args.calibration, "train").database if args.calibration else None

    from tfplaces.lite import convert, operators
    from tfplaces.models.loading import load_place_net

    model = load_place_net(args.model)
    convert(model, args.output, args.precision, calibration=calibration, input_size=input_size, seed=args.seed)
    names = ", ".join(f"{count} {name}" if count > 1 else name for name, count in operators(args.output).items())
    height, width = input_size or model.input_size
    print(f"{args.output}: {args.precision}, {height}x{width} RGB uint8 to {model.descriptor_dim}-D, "
          f"{os.path.getsize(args.output) / 1e6:.2f} MB")  # fmt: skip
    print(f"builtin operators: {names}")


def run(argv: list[str] | None = None) -> None:
    """Entry point of the console command."""
    entry.run(define_flags, main, argv)


if __name__ == "__main__":
    run()
