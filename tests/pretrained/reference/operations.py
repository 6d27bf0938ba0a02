"""Operations of networks in numpy, in float64, for one image: maps are `[channels, height, width]`, as in PyTorch."""

from __future__ import annotations

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

Arrays = dict[str, np.ndarray]


def conv(x: np.ndarray, kernel: np.ndarray, bias=None, stride: int = 1, pad=0, groups: int = 1) -> np.ndarray:
    """Correlation with a kernel `[out, in / groups, height, width]`; `pad` is one number, or (before, after)."""
    before, after = (pad, pad) if isinstance(pad, int) else pad
    x = np.pad(x, ((0, 0), (before, after), (before, after)))
    windows = sliding_window_view(x, kernel.shape[2:], axis=(1, 2))[:, ::stride, ::stride]  # [in, h, w, kh, kw]
    if groups == len(x) == len(kernel):
        y = np.einsum("chwkl,ckl->chw", windows, kernel[:, 0].astype(np.float64), optimize=True)
        return y if bias is None else y + bias.astype(np.float64)[:, None, None]
    inputs, outputs = len(x) // groups, len(kernel) // groups
    parts = [
        np.tensordot(
            kernel[g * outputs : (g + 1) * outputs].astype(np.float64),
            windows[g * inputs : (g + 1) * inputs],
            ((1, 2, 3), (0, 3, 4)),
        )
        for g in range(groups)
    ]
    y = np.concatenate(parts)
    return y if bias is None else y + bias.astype(np.float64)[:, None, None]


def batch_norm(x: np.ndarray, tensors: Arrays, name: str, epsilon: float) -> np.ndarray:
    mean, variance, weight, bias = (
        tensors[f"{name}.{part}"].astype(np.float64)[:, None, None]
        for part in ("running_mean", "running_var", "weight", "bias")
    )
    return (x - mean) / np.sqrt(variance + epsilon) * weight + bias


def relu(x: np.ndarray) -> np.ndarray:
    return np.maximum(x, 0)


def relu6(x: np.ndarray) -> np.ndarray:
    return np.clip(x, 0, 6)


def max_pool(x: np.ndarray, size: int, stride: int, pad: int = 0) -> np.ndarray:
    """Windows that reach over the edge behind are left out, as by PyTorch's default and MatConvNet without padding."""
    x = np.pad(x, ((0, 0), (pad, pad), (pad, pad)), constant_values=-np.inf)
    return sliding_window_view(x, (size, size), axis=(1, 2))[:, ::stride, ::stride].max(axis=(3, 4))


def torch_normalize(x: np.ndarray, axis: int) -> np.ndarray:
    """PyTorch's `normalize`: x / max(‖x‖, 1e-12)."""
    return x / np.maximum(np.sqrt(np.sum(x * x, axis=axis, keepdims=True)), 1e-12)


def matconvnet_normalize(x: np.ndarray, size: int, kappa: float, alpha: float, beta: float) -> np.ndarray:
    """MatConvNet's `vl_nnnormalize`: x / (κ + α Σ x²)^β, summed over `size` channels around each, of the first axis."""
    before, after = (size - 1) // 2, size - 1 - (size - 1) // 2
    totals = np.concatenate([np.zeros_like(x[:1]), np.cumsum(x * x, axis=0)])
    channel = np.arange(len(x))
    window = totals[np.minimum(channel + after + 1, len(x))] - totals[np.maximum(channel - before, 0)]
    return x / (kappa + alpha * window) ** beta


def softmax(x: np.ndarray, axis: int) -> np.ndarray:
    e = np.exp(x - x.max(axis=axis, keepdims=True))
    return e / e.sum(axis=axis, keepdims=True)


def layer_norm(x: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> np.ndarray:
    mean = x.mean(axis=-1, keepdims=True)
    variance = np.mean((x - mean) ** 2, axis=-1, keepdims=True)
    return (x - mean) / np.sqrt(variance + 1e-5) * weight + bias


def linear(x: np.ndarray, tensors: Arrays, name: str) -> np.ndarray:
    weight = tensors[f"{name}.weight"].astype(np.float64)
    return x @ weight.reshape(len(weight), -1).T + tensors[f"{name}.bias"].astype(np.float64)
