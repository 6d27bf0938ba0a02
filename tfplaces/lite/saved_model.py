"""Converts a SavedModel to a `.tflite` with metadata, in a process of its own.

python -m tfplaces.lite.saved_model SAVED_MODEL RESULT DESCRIPTION LICENCE INPUT [OUTPUT CALIBRATION]

DESCRIPTION and LICENCE go into the metadata; LICENCE may be empty. INPUT is uint8 or float32. With OUTPUT, float32 or
int8, and CALIBRATION, a .npy file of float32 batches `[n, batch, height, width, 3]`, it is computed in integers of 8
bits throughout; the SavedModel then takes float32. The process ends when its standard input does, which the process
that started it holds open while it lives.
"""

from __future__ import annotations

import os
import sys
import threading


def main(
    saved_model: str,
    result: str,
    description: str,
    licence: str,
    input_type: str,
    output_type: str = "",
    calibration: str = "",
) -> None:
    """Writes the `.tflite`: builtin operators only, the signature `serve`, the output a tensor named `descriptor`."""
    import numpy as np
    import tensorflow as tf

    from tfplaces.lite.metadata import with_metadata
    from tfplaces.lite.tflite_model import name_output

    converter = tf.lite.TFLiteConverter.from_saved_model(saved_model, signature_keys=["serve"])
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
    if calibration:
        batches = np.load(calibration)
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = lambda: ([batch] for batch in batches)
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = tf.as_dtype(input_type)
        converter.inference_output_type = tf.as_dtype(output_type)
    data = bytearray(converter.convert())
    name_output(data)
    with open(result, "wb") as file:
        file.write(
            with_metadata(bytes(data), description=description, float_input=input_type == "float32", licence=licence)
        )


def _end_with_parent() -> None:
    """Ends this process as soon as its standard input does, as it does when the parent is killed."""

    def wait() -> None:
        while os.read(0, 1):
            pass
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


if __name__ == "__main__":
    _end_with_parent()
    main(*sys.argv[1:])
