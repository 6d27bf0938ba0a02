"""Converts a SavedModel to a float32 `.tflite` with metadata, in a process of its own.

python -m tfplaces.lite.saved_model SAVED_MODEL RESULT DESCRIPTION uint8|float32
"""

from __future__ import annotations

import sys

import tensorflow as tf

from tfplaces.lite.metadata import with_metadata


def main(saved_model: str, result: str, description: str, input_type: str) -> None:
    """Builtin operators only; the signature is `serve`."""
    converter = tf.lite.TFLiteConverter.from_saved_model(saved_model, signature_keys=["serve"])
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
    data = with_metadata(converter.convert(), description=description, float_input=input_type == "float32")
    with open(result, "wb") as file:
        file.write(data)


if __name__ == "__main__":
    main(*sys.argv[1:])
