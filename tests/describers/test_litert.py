"""The LiteRT describer with an interpreter of known outputs; real files are tested beside the conversion."""

from __future__ import annotations

import numpy as np
import pytest

from tfplaces.describers import litert


class FakeInterpreter:
    """Gives for each image a row of two numbers, its red and green at the corner less 128; batches of two."""

    def __init__(self, dtype: type, quantization: tuple[float, int]):
        self._dtype, self._quantization = dtype, quantization

    def get_input_details(self) -> list[dict]:
        shape = np.array([2, 4, 6, 3])
        return [{"index": 0, "shape": shape, "shape_signature": shape, "dtype": np.uint8, "quantization": (0.0, 0)}]

    def get_output_details(self) -> list[dict]:
        return [{"index": 1, "shape": [2, 2], "dtype": self._dtype, "quantization": self._quantization}]

    def allocate_tensors(self) -> None: ...

    def invoke(self) -> None: ...

    def set_tensor(self, index: int, batch: np.ndarray) -> None:
        self._batch = batch.copy()

    def get_tensor(self, index: int) -> np.ndarray:
        return (self._batch[:, 0, 0, :2].astype(int) - 128).astype(self._dtype)


def images(*corners: tuple[int, int]) -> np.ndarray:
    found = np.zeros((len(corners), 4, 6, 3), np.uint8)
    found[:, 0, 0, :2] = corners
    return found


def describer(
    monkeypatch: pytest.MonkeyPatch, dtype: type, quantization: tuple[float, int] = (0.0, 0)
) -> litert.LiteRTDescriber:
    monkeypatch.setattr(litert, "open_interpreter", lambda *_: FakeInterpreter(dtype, quantization))
    return litert.LiteRTDescriber("model.tflite")


def test_integers_are_dequantized_and_brought_to_unit_length(monkeypatch: pytest.MonkeyPatch) -> None:
    """(4 − 1, 5 − 1) / 8 has length 5/8 and the direction (3, 4) / 5; the third image is alone in its batch."""
    found = describer(monkeypatch, np.int8, (1 / 8, 1))
    assert found.batch_size == 2
    x = images((132, 133), (129, 131), (132, 133))
    np.testing.assert_allclose(found.describe(x), [[0.6, 0.8], [0, 1], [0.6, 0.8]], rtol=1e-6)


def test_integers_that_say_zero_stay_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that whoever compares descriptors finds them out; and no warning of a division by 0."""
    assert (describer(monkeypatch, np.int8, (1 / 8, 1)).describe(images((129, 129))) == 0).all()


def test_floats_are_given_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    np.testing.assert_array_equal(describer(monkeypatch, np.float32).describe(images((131, 132))), [[3, 4]])
