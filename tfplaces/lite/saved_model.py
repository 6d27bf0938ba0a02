"""Converts a SavedModel to a `.tflite` with metadata, in a process of its own.

python -m tfplaces.lite.saved_model SAVED_MODEL RESULT DESCRIPTION INPUT [OUTPUT CALIBRATION]

INPUT is uint8 or float32. With OUTPUT, float32 or int8, and CALIBRATION, a .npy file of float32 batches
`[n, batch, height, width, 3]`, it is computed in integers of 8 bits throughout; the SavedModel then takes float32.
"""

from __future__ import annotations

import sys

import numpy as np
import tensorflow as tf

from tfplaces.lite.metadata import with_metadata


def main(saved_model: str, result: str, description: str, input_type: str, output_type="", calibration="") -> None:
    """Builtin operators only; the signature is `serve`."""
    converter = tf.lite.TFLiteConverter.from_saved_model(saved_model, signature_keys=["serve"])
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
    if calibration:
        batches = np.load(calibration)
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = lambda: ([batch] for batch in batches)
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = tf.as_dtype(input_type)
        converter.inference_output_type = tf.as_dtype(output_type)
    data = with_metadata(converter.convert(), description=description, float_input=input_type == "float32")
    with open(result, "wb") as file:
        file.write(data)


if __name__ == "__main__":
    main(*sys.argv[1:])
