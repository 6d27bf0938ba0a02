"""Converts a .keras or .places model to TFLite for phones.

tfplaces-convert --model=model.places --output=model.tflite --calibration=folder:photos --verify=folder:photos

The weights of a .places file on the int8 grid are in the .tflite exactly as they are; that is checked on every run.
With --verify the written file is run beside the Keras model. Where it loses more than --max_drop points of mAP on one
of the data sets, or describes an image by a descriptor that is zero or not finite, it is left as OUTPUT.rejected, with
exit code 3. What is known of the file is written beside it, as NAME.json. Commas separate several data sets.
"""

from __future__ import annotations

import sys

from absl import flags

from tfplaces.common.errors import UserError
from tfplaces.lite import PRECISIONS, STATIC, TARGETS
from tfplaces.lite.outputs import output_paths
from tfplaces.report.conversion import conversion_text
from tfplaces.tools import entry, flag_values

# Exit code: the file was made and is not good enough.
REJECTED = 3
# Layers that --debug_layers shows.
_SHOWN = 15


def define_flags(values: flags.FlagValues) -> None:
    def string(name, default, text, **options):
        flags.DEFINE_string(name, default, text, flag_values=values, **options)

    def choice(name, default, options, text):
        flags.DEFINE_enum(name, default, options, text, flag_values=values)

    string("model", None, "The .keras or .places file to convert.", required=True)
    string("output", None, "The .tflite file to write.", required=True)
    choice("precision", "mixed_int8", PRECISIONS, "How the file computes. mixed_int8: an int8 backbone, NetVLAD in "
           "float, int8 weights in the whitening; mixed_int4: int4 weights there; full_int8: integers throughout, for "
           "accelerators that take nothing else; dynamic_int8: int8 weights, with activations quantized on the fly; "
           "float16: weights of 16 bits.")  # fmt: skip
    choice("target", "litert", TARGETS, "What runs the file, which says what it may have: litert, LiteRT on the CPU; "
           "gpu, the GPU delegates of MediaPipe and LiteRT.js, for which the network is written anew; mediapipe, its "
           "ImageEmbedder on the CPU; web, LiteRT.js; npu, accelerators of integers only.")  # fmt: skip
    string("calibration", None, "The data sets whose database images tell the precisions of calibrated ranges, and an "
           "int8 output, how large activations get. Each gives as many images as the others.")  # fmt: skip
    string("finetune", None, "For a .keras file: the data sets on whose database images the network of 8-bit weights "
           "is first fine-tuned towards the float one.")  # fmt: skip
    string("input_size", None, "The size of the images, as HEIGHTxWIDTH in pixels, instead of the model's own; or any: "
           "whoever runs the file resizes its input.")  # fmt: skip
    flags.DEFINE_integer("batch", 1, "How many images the file describes at once.", lower_bound=1, upper_bound=1024,
                         flag_values=values)  # fmt: skip
    choice("input_type", None, ("uint8", "float32"), "The type of the image's values, which are 0 to 255; uint8 unless "
           "the target is gpu.")  # fmt: skip
    choice("output_type", "float32", ("float32", "int8"), "The type of the descriptor's values.")
    flags.DEFINE_integer("descriptor_dim", None, "How many of the whitening's dimensions to keep, the first ones; all "
                         "by default.", lower_bound=1, flag_values=values)  # fmt: skip
    string("verify", None, "The data sets to run the written file on, beside the Keras model.")
    flags.DEFINE_float("max_drop", 1.0, "How many points of mAP the file may lose on each data set of --verify.",
                       flag_values=values)  # fmt: skip
    flags.DEFINE_boolean("force", False, "Keep a file that loses more, or one of full_int8 that is not verified.",
                         flag_values=values)  # fmt: skip
    flags.DEFINE_boolean("debug_layers", False, "With --verify: print the layers that add most error.",
                         flag_values=values)  # fmt: skip


def main(args: flags.FlagValues) -> int | None:
    _check_flags(args)

    from tfplaces import datasets

    calibration, finetune = (
        [dataset.database for dataset in datasets.load_datasets(specs, "train")] if specs else []
        for specs in (args.calibration, args.finetune)
    )
    verify = datasets.load_datasets(args.verify, "val") if args.verify else []

    from tfplaces.compression import load_compressed
    from tfplaces.lite.conversion import run_conversion
    from tfplaces.opening import load_place_net

    is_places = args.model.lower().endswith(".places")
    made = run_conversion(
        lambda: load_compressed(args.model) if is_places else load_place_net(args.model),
        args.output, args.precision, calibration=calibration, finetune=finetune, verify=verify,
        max_drop=args.max_drop, force=args.force, debug_layers=args.debug_layers,
        input_size="any" if args.input_size == "any" else flag_values.size(args.input_size), batch=args.batch,
        float_input=None if args.input_type is None else args.input_type == "float32",
        int8_output=args.output_type == "int8",
        descriptor_dim=args.descriptor_dim, target=args.target, seed=args.seed,
    )  # fmt: skip
    print(conversion_text(args.output, made.report, made.layers[:_SHOWN] if args.debug_layers else []))
    if made.rejected:
        print(f"{made.path}: {made.rejected}", file=sys.stderr)
        return REJECTED
    return None


def _check_flags(args: flags.FlagValues) -> None:
    if not args.output.lower().endswith(".tflite"):
        raise UserError(f"--output={args.output}: a TFLite file is named .tflite")
    for path in output_paths(args.output, bool(args.verify or args.calibration)):
        entry.check_output(path, args.overwrite)
    entry.check_model(args.model, ".keras", ".places")
    if args.input_size != "any":
        flag_values.size(args.input_size)
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


def run(argv: list[str] | None = None) -> None:
    """Entry point of the console command."""
    entry.run(define_flags, main, argv)


if __name__ == "__main__":
    run()
