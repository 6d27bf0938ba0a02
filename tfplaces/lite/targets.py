"""What a `.tflite` is made for, and what each of these clients refuses, or computes wrongly without a word.

- `litert`: LiteRT on the CPU of phones and computers, which takes every file.
- `gpu`: the GPU delegates of MediaPipe and of LiteRT.js; the network is written anew for them, see `gpu_form`.
- `mediapipe`: the ImageEmbedder of MediaPipe Tasks, on the CPU.
- `web`: LiteRT.js, on the CPU by WebAssembly or whole on the GPU by WebGPU.
- `npu`: accelerators of integers only.

docs/delegates.md tells what was seen of each.
"""

from __future__ import annotations

from typing import Literal

from tfplaces.common.errors import UserError
from tfplaces.common.keras_private import flat_layers
from tfplaces.layers import LocalResponseNormalization
from tfplaces.lite import TARGETS
from tfplaces.lite.tflite_model import Operator, TFLiteModel
from tfplaces.models import PlaceNet

# All that MediaPipe's delegate and LiteRT.js on WebGPU were both seen to compute right.
_GPU_OPERATORS = {
    "ABS", "ADD", "CONCATENATION", "CONV_2D", "DEPTHWISE_CONV_2D", "DEQUANTIZE", "DIV",
    "FULLY_CONNECTED", "MAXIMUM", "MAX_POOL_2D", "MEAN", "MUL", "PACK", "PAD", "POW", "REDUCE_MAX", "RESHAPE", "RSQRT",
    "SOFTMAX", "STRIDED_SLICE", "SUM",
}  # fmt: skip
# Of more tensors MediaPipe joins some wrongly, without a word; 8 are known to be right, 64 to be wrong.
_MOST_JOINED = 8
# What LiteRT.js leaves to the CPU where the rest is on the GPU, which few browsers can do.
_NOT_ON_WEBGPU = {"L2_NORMALIZATION", "LOCAL_RESPONSE_NORMALIZATION", "LOG_SOFTMAX"}
# Precisions that LiteRT.js does not compute well, and why.
_NOT_FOR_WEB = {
    "float16": "without a GPU, LiteRT.js computes float16 five times slower than float32: take float32 or mixed_int8",
    "mixed_int4": "LiteRT.js crashes on WebGPU over weights of 4 bits: take mixed_int8",
    "full_int8": "WebGPU does not take full_int8's normalisations: take mixed_int8",
}


def float_input_of(target: str, float_input: bool | None) -> bool:
    """Whether images are float32: as it is wished, or else uint8 but for `gpu`."""
    return target == "gpu" if float_input is None else float_input


def check_target(
    model: PlaceNet,
    target: str,
    precision: str,
    *,
    input_size: tuple[int, int] | Literal["any"] | None = None,
    batch: int = 1,
    float_input: bool | None = None,
    int8_output: bool = False,
) -> None:
    """Refuses, before any work, a file that its target would not take; the arguments are those of `convert`.

    Raises:
        UserError: the message says what the target refuses, and what to give instead.
    """
    if target not in TARGETS:
        raise UserError(f"target={target}: one of {', '.join(TARGETS)}")
    if target == "litert":
        return
    if input_size == "any":
        raise UserError(f"target={target} takes images of one size: name it by input_size, or leave the model's own")
    if batch != 1 and target in ("gpu", "mediapipe"):
        raise UserError(f"target={target} takes one image at once: leave batch={batch} out")
    if int8_output and target != "npu":
        raise UserError(f"target={target} takes no int8 output: leave the descriptor float32")
    if target == "npu" and precision != "full_int8":
        raise UserError(f"target=npu computes in integers only, and {precision} does not: take full_int8")
    if target == "gpu":
        _check_gpu(model, precision, float_input)
    if target == "web":
        _check_web(model, precision)


def _check_gpu(model: PlaceNet, precision: str, float_input: bool | None) -> None:
    if precision not in ("float32", "float16"):
        raise UserError(f"target=gpu computes in float, and {precision} gains nothing there: take float16 or float32")
    if float_input is False:
        raise UserError("target=gpu takes float32 images, 0 to 255: a GPU does not convert uint8")
    if model.config["aggregation"] == "mixvpr":
        raise UserError(
            "target=gpu: MediaPipe computes MixVPR wrongly on the GPU, without a word; take web, for LiteRT.js, or "
            "litert"
        )


def _check_web(model: PlaceNet, precision: str) -> None:
    if precision in _NOT_FOR_WEB:
        raise UserError(f"target=web: {_NOT_FOR_WEB[precision]}")
    for layer in flat_layers(model):
        if isinstance(layer, LocalResponseNormalization):
            raise UserError(
                f"target=web: WebGPU does not take {layer.name} of {model.config['backbone']}, a local response "
                "normalisation: take gpu, which writes it anew"
            )


def check_file(data, target: str) -> None:
    """Refuses a finished file with an operator that its target does not take, or computes wrongly.

    Args:
        data: the file's bytes.
        target: one of `TARGETS`.

    Raises:
        RuntimeError: the message names the operator and what it computes.
    """
    lite = TFLiteModel(data)
    if target == "gpu":
        wrong = next((op for op in lite.operators() if not _is_for_gpus(lite, op)), None)
    elif target == "web":
        wrong = next((op for op in lite.operators() if op.name in _NOT_ON_WEBGPU), None)
    else:
        return
    if wrong is not None:
        raise RuntimeError(
            f"{wrong.name}, which computes {lite.name(wrong.outputs[0])}, is not for target={target}; take litert, and "
            "please report this"
        )


def _is_for_gpus(lite: TFLiteModel, operator: Operator) -> bool:
    shapes = [lite.shape(i) for i in (*operator.inputs, *operator.outputs)]
    if operator.name not in _GPU_OPERATORS or max(map(len, shapes)) > 4:
        return False
    if operator.name == "CONCATENATION" and len(operator.inputs) > _MOST_JOINED:
        return False
    # A first factor of one channel is spread over the others only if it is the second, or there is but one.
    channels = [shape[-1:] for shape in shapes[:2]]
    return not (operator.name == "MUL" and channels[0] == (1,) and channels[1] > (1,))
