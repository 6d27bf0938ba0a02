"""A TFLite model as a describer, run by LiteRT; needs no TensorFlow."""

from __future__ import annotations

import mmap
import os
import warnings
from typing import Any

import numpy as np
from ai_edge_litert.interpreter import Interpreter

from tfplaces import coding
from tfplaces.common.errors import UserError
from tfplaces.describers.base import check_images

# A batch of 64 images of 1024x1024.
_MAX_SIDE, _MAX_INPUT_VALUES = 8192, 64 * 3 * 2**20


class LiteRTDescriber:
    """Runs a `.tflite` or `.tflpack` from RGB images, 0 to 255, uint8 or float32, to descriptors, float32 or int8.

    Args:
        path: the model.
        input_size: (height, width) in pixels, of a model of resizable input; by default the model's own.
        threads: number of threads that the interpreter uses.

    Attributes:
        batch_size: images that the model describes in one call; a last call of fewer is filled with zeros.

    Raises:
        ValueError: not a readable TFLite model, not one from an image to a vector, or of another input size.
    """

    def __init__(self, path: str | os.PathLike, input_size: tuple[int, int] | None = None, threads: int = 1):
        name = self._path = os.fspath(path)
        self._interpreter = open_interpreter(name, threads)
        inputs, outputs = self._interpreter.get_input_details(), self._interpreter.get_output_details()
        if len(inputs) != 1 or len(outputs) != 1 or len(inputs[0]["shape"]) != 4 or inputs[0]["shape"][3] != 3:
            raise UserError(f"{name}: not a model from one RGB image to one descriptor")
        values = int(np.prod(inputs[0]["shape"], dtype=np.int64))
        if not 0 < values <= _MAX_INPUT_VALUES or max(inputs[0]["shape"]) > _MAX_SIDE:
            raise UserError(f"{name}: takes images of {inputs[0]['shape'].tolist()}, which nothing here can give it")
        height, width = (int(s) for s in inputs[0]["shape_signature"][1:3])
        if input_size is not None and (height, width) not in (tuple(input_size), (-1, -1)):
            raise UserError(
                f"{name}: takes images of {height}x{width} only, not {input_size[0]}x{input_size[1]}; convert it for "
                "that size"
            )
        if height == -1:
            batch, height, width = (int(s) for s in inputs[0]["shape"][:3])
            if input_size is None and (height, width) == (1, 1):
                raise UserError(f"{name}: takes images of any size; give one, as in --input_size=224x320")
            if input_size is not None:
                height, width = input_size
                self._interpreter.resize_tensor_input(inputs[0]["index"], (batch, height, width, 3))
        try:
            self._interpreter.allocate_tensors()
        except RuntimeError as error:
            raise UserError(f"{name}: cannot be run, it may be damaged ({error})") from None
        self._input, self._output = inputs[0], self._interpreter.get_output_details()[0]
        if self._input["dtype"] not in (np.uint8, np.float32) or self._output["dtype"] not in (np.float32, np.int8):
            raise UserError(
                f"{name}: takes {self._input['dtype'].__name__} and gives {self._output['dtype'].__name__}; expected "
                "uint8 or float32 images and float32 or int8 descriptors"
            )
        self.batch_size = int(inputs[0]["shape"][0])
        self.input_size = (height, width)
        self.descriptor_dim, rest = divmod(int(np.prod(self._output["shape"], dtype=np.int64)), self.batch_size)
        if rest or not self.descriptor_dim:
            raise UserError(f"{name}: gives no descriptor for each of the {self.batch_size} images that it takes")

    @property
    def precision(self) -> str:
        """The types of the numbers that the model has, as in `float32+int8`; those of sums and shapes do not count."""
        types = {np.dtype(tensor["dtype"]).name for tensor in self._interpreter.get_tensor_details()}
        return "+".join(sorted(name for name in types if name in ("float16", "float32", "int4", "int8", "int16")))

    def describe(self, images: np.ndarray) -> np.ndarray:
        """Describes images, uint8 `[n, height, width, 3]`, as many at once as the model takes.

        Returns:
            float32 `[n, descriptor_dim]`. Integers are dequantized and brought to unit length, which their rounding
            has taken from them; a descriptor of zeros stays one, for `evaluation` to refuse.

        Raises:
            UserError: the images are of another size or type, or LiteRT cannot run the model.
        """
        check_images(images, self.input_size)
        out = np.empty((len(images), self.descriptor_dim), np.float32)
        batch = np.zeros((self.batch_size, *self.input_size, 3), self._input["dtype"])
        scale, zero = self._output["quantization"]
        for start in range(0, len(images), self.batch_size):
            part = images[start : start + self.batch_size]
            batch[: len(part)] = part
            self._interpreter.set_tensor(self._input["index"], batch)
            try:
                self._interpreter.invoke()
            except RuntimeError as error:
                raise UserError(f"{self._path}: cannot be run, it may be damaged ({error})") from None
            found = self._interpreter.get_tensor(self._output["index"]).reshape(self.batch_size, -1)[: len(part)]
            out[start : start + len(part)] = found if scale == 0 else (found.astype(np.float32) - zero) * scale
        if self._output["dtype"] == np.int8:
            lengths = np.linalg.norm(out, axis=1, keepdims=True)
            np.divide(out, lengths, out=out, where=lengths > 0)
        return out


def open_interpreter(path: str, threads: int = 1, keep_tensors: bool = False) -> Interpreter:
    """A LiteRT interpreter of a `.tflite`, or of a `.tflpack` unpacked in memory; its tensors are not yet allocated.

    LiteRT gets no file that `coding.verify_tflite` refuses.

    Args:
        path: the model.
        threads: number of threads that the interpreter uses.
        keep_tensors: all activations can be read after a run, which takes memory.

    Raises:
        UserError: no such file, not a TFLite model, a damaged one, or one with operators that no network from an image
            to a vector has.
    """
    try:
        if path.lower().endswith(".tflpack"):
            model: dict[str, Any] = {"model_content": coding.unpack_bytes(path)}
            _verify(path, model["model_content"])
        else:
            with open(path, "rb") as file:
                # A map of no bytes is not possible, and a file of so few is no model.
                data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if os.path.getsize(path) else b""
            _verify(path, data)
            model = {"model_path": path}
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of that memory
            return Interpreter(**model, num_threads=threads, experimental_preserve_all_tensors=keep_tensors)
    except (ValueError, RuntimeError) as error:
        raise UserError(f"{path}: not a readable TFLite model ({error})") from None


def _verify(path: str, data: Any) -> None:
    try:
        coding.verify_tflite(data)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None


def operators(path: str | os.PathLike) -> dict[str, int]:
    """The operators of a `.tflite` and how often each occurs, most frequent first."""
    from collections import Counter

    names = [op["op_name"] for op in open_interpreter(os.fspath(path))._get_ops_details()]
    return dict(Counter(name for name in names if name != "DELEGATE").most_common())
