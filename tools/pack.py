"""Packs a .tflite for download, losslessly, or unpacks it: the same bytes, checked by their SHA-256.

tfplaces-pack --model=model.tflite --output=model.tflpack
tfplaces-pack --unpack --model=model.tflpack --output=model.tflite
"""

from __future__ import annotations

import os

from absl import flags

from tfplaces.common.errors import UserError
from tfplaces.tools import entry


def define_flags(values: flags.FlagValues) -> None:
    flags.DEFINE_string(
        "model", None, "The .tflite file to pack; with --unpack, a .tflpack file.", required=True, flag_values=values
    )
    flags.DEFINE_string(
        "output", None, "The .tflpack file to write; with --unpack, a .tflite file.", required=True, flag_values=values
    )
    flags.DEFINE_boolean(
        "unpack", False, "Unpack a .tflpack file to the .tflite that it was packed from.", flag_values=values
    )


def main(args: flags.FlagValues) -> None:
    source, target = (".tflpack", ".tflite") if args.unpack else (".tflite", ".tflpack")
    entry.check_output(args.output, args.overwrite)
    if not args.output.endswith(target):
        raise UserError(f"--output={args.output}: what is {'un' * args.unpack}packed is named {target}")
    entry.check_model(args.model, source)

    from tfplaces import coding
    from tfplaces.common.progress import progress

    with progress(os.path.getsize(args.model), "unpacking" if args.unpack else "packing", "byte") as bar:

        def report(done: int, of: int) -> None:
            bar.total = of
            bar.update(done - bar.n)

        (coding.unpack if args.unpack else coding.pack)(args.model, args.output, progress=report)
    before, after = os.path.getsize(args.model), os.path.getsize(args.output)
    change = "SHA-256 as packed" if args.unpack else f"{100 * after / before:.1f} % of {before / 1e6:.2f} MB"
    print(f"{args.output}: {after / 1e6:.2f} MB, {change}")


def run(argv: list[str] | None = None) -> None:
    """Entry point of the console command."""
    entry.run(define_flags, main, argv)


if __name__ == "__main__":
    run()
