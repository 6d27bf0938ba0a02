"""A TFLite model as a describer, run by LiteRT; needs no TensorFlow."""

from __future__ import annotations

import os

import numpy as np
from ai_edge_litert.interpreter import Interpreter

from tfplaces.describers import check_images


class LiteRTDescriber:
    """Runs a `.tflite` from RGB images, 0 to 255, uint8 or float32, to descriptors.

    Args:
        path: the model.
        input_size: (height, width) in pixels; needed for a model of resizable input, otherwise its own.
        threads: of the interpreter.

    Raises:
        ValueError: not a readable TFLite model, not one from an image to a vector, or of another input size.
    """

    def __init__(self, path: str | os.PathLike, input_size: tuple[int, int] | None = None, threads: int = 1):
        name = os.fspath(path)
        self._interpreter = open_interpreter(name, threads)
        inputs, outputs = self._interpreter.get_input_details(), self._interpreter.get_output_details()
        if len(inputs) != 1 or len(outputs) != 1 or len(inputs[0]["shape"]) != 4 or inputs[0]["shape"][3] != 3:
            raise ValueError(f"{name}: not a model from one RGB image to one descriptor")
        height, width = (int(s) for s in inputs[0]["shape_signature"][1:3])
        if input_size is not None and (height, width) not in (tuple(input_size), (-1, -1)):
            raise ValueError(
                f"{name}: takes images of {height}x{width} only, not {input_size[0]}x{input_size[1]}; convert it for "
                "that size"
            )
        if height == -1:
            if input_size is None:
                raise ValueError(f"{name}: takes images of any size; give one, as in --input_size=224x320")
            self._interpreter.resize_tensor_input(inputs[0]["index"], (1, *input_size, 3))
            height, width = input_size
        try:
            self._interpreter.allocate_tensors()
        except RuntimeError as error:
            raise ValueError(f"{name}: cannot be run, it may be damaged ({error})") from None
        self._input, self._output = inputs[0], outputs[0]
        if self._input["dtype"] not in (np.uint8, np.float32) or self._output["dtype"] != np.float32:
            raise ValueError(
                f"{name}: takes {self._input['dtype'].__name__} and gives {self._output['dtype'].__name__}; expected "
                "uint8 or float32 images and float32 descriptors"
            )
        self.input_size = (height, width)
        self.descriptor_dim = int(np.prod(outputs[0]["shape"]))

    def describe(self, images: np.ndarray) -> np.ndarray:
        """Describes images, uint8 `[n, height, width, 3]`, one by one, as float32 `[n, descriptor_dim]`."""
        check_images(images, self.input_size)
        out = np.empty((len(images), self.descriptor_dim), np.float32)
        for k, image in enumerate(images):
            self._interpreter.set_tensor(self._input["index"], image[None].astype(self._input["dtype"]))
            self._interpreter.invoke()
            out[k] = self._interpreter.get_tensor(self._output["index"]).reshape(-1)
        return out


def open_interpreter(path: str, threads: int = 1) -> Interpreter:
    """A LiteRT interpreter of a `.tflite`, its tensors not yet allocated.

    Raises:
        ValueError: no such file, or not a TFLite model.
    """
    try:
        with open(path, "rb") as file:
            head = file.read(8)
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror}") from None
    if head[4:8] != b"TFL3":
        raise ValueError(f"{path}: not a TFLite model")
    try:
        return Interpreter(path, num_threads=threads)
    except (ValueError, RuntimeError) as error:
        raise ValueError(f"{path}: not a readable TFLite model ({error})") from None


def operators(path: str | os.PathLike) -> dict[str, int]:
    """The operators of a `.tflite` and how often each occurs, most frequent first."""
    from collections import Counter

    names = [op["op_name"] for op in open_interpreter(os.fspath(path))._get_ops_details()]
    return dict(Counter(name for name in names if name != "DELEGATE").most_common())
