"""The proof that the parts of a `.tflite` that are to be computed in integers of 8 bits are."""

from __future__ import annotations

import re
from collections.abc import Collection

from tfplaces.lite.layer_names import layers_pattern
from tfplaces.lite.tflite_model import Operator, TFLiteModel
from tfplaces.models import PlaceNet

# Before the image is quantized: its type is changed, and its values are scaled and shifted.
_PREPROCESSING = {"CAST", "MUL", "ADD", "SUB"}
# From float to integers and back.
_CONVERSIONS = {"QUANTIZE", "DEQUANTIZE"}
# Of backbones, without an integer form in TFLite: AlexNet's local response normalisation stays float between the two.
_FLOAT_ONLY = {"LOCAL_RESPONSE_NORMALIZATION"}


def check_integer_operators(data, model: PlaceNet, precision: str) -> None:
    """Refuses a file with an operator in float where its precision has integers.

    In `mixed_int8` and `mixed_int4` that is every operator of the backbone, but for local response normalisations; in
    `full_int8` it is every operator.

    Args:
        data: the file's bytes.
        model: the network that it was made from.
        precision: that it was converted in; nothing is checked of those without calibrated activations.

    Raises:
        RuntimeError: an operator is in float; the message has its name and that of its output.
    """
    lite = TFLiteModel(data)
    if precision in ("mixed_int8", "mixed_int4"):
        wrong = _float_in_backbone(lite, model)
    elif precision == "full_int8":
        wrong = next((op for op in lite.operators() if not _is_integer(lite, op, {*lite.inputs, *lite.outputs})), None)
    else:
        return
    if wrong is not None:
        raise RuntimeError(
            f"{wrong.name}, which computes {lite.name(wrong.outputs[0])}, is not in integers of 8 bits, which "
            f"{precision} promises; please report this"
        )


def _float_in_backbone(lite: TFLiteModel, model: PlaceNet) -> Operator | None:
    """The first operator in float of those that lead from the image to the head, where only integers should be."""
    quantized = False
    for operator in _backbone(lite, model):
        quantized = quantized or operator.name == "QUANTIZE"
        if operator.name in _CONVERSIONS | _FLOAT_ONLY or (operator.name in _PREPROCESSING and not quantized):
            continue
        if not _is_integer(lite, operator):
            return operator
    return None


def _backbone(lite: TFLiteModel, model: PlaceNet) -> list[Operator]:
    """What leads from the image to the layers after the backbone, in order."""
    pattern = re.compile(layers_pattern(model.head_layers))
    operators = lite.operators()
    # The output's name is no layer's; that operator is the head's in any case.
    head = next((i for i, op in enumerate(operators) if pattern.search(lite.name(op.outputs[0]))), len(operators) - 1)
    needed, found = set(operators[head].inputs), []
    for operator in reversed(operators[:head]):
        if needed & set(operator.outputs):
            needed |= set(operator.inputs)
            found.append(operator)
    return found[::-1]


def _is_integer(lite: TFLiteModel, operator: Operator, ends: Collection[int] = ()) -> bool:
    """Whether an operator takes and gives int8 alone, its biases and shapes int32; tensors of ends may be anything."""
    for index in (*operator.inputs, *operator.outputs):
        allowed = {"INT8", "INT32"} if lite.is_constant(index) else {"INT8"}
        if index not in ends and lite.type_name(index) not in allowed:
            return False
    return True
