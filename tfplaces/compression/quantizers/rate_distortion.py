"""Uniform levels with error feedback: what rounding one row of a kernel does wrong, the rows after it put right.

The output of a dense layer moves by Eᵀx for an error E of its kernel, in the mean square by tr(EᵀHE) with the second
moment H = E[x xᵀ] of its input. Rows are rounded in turn; each row's error goes to the rows not yet rounded, in the
least-squares sense, through the inverse of H (Optimal Brain Surgeon, Hassibi and Stork 1993; the Cholesky form is that
of GPTQ, Frantar et al. 2022). All channels have one step in units of their RMS, so one number sets rate and distortion.
"""

from __future__ import annotations

import math
import numbers

import numpy as np

from tfplaces.coding.channels import channel_rms
from tfplaces.coding.shared_kernel import GRID_MAX, SharedKernel
from tfplaces.common.errors import UserError

# Part of the mean of its diagonal that is added to the diagonal of a second moment: it comes from fewer images than
# would know every direction, and where it knows none, errors would be thought free.
DAMPING = 0.3
# Output channels worked on at a time: their errors, so many columns of float32, stay in the cache.
_CHANNELS = 256


def quantize(weights: np.ndarray, step: float, moments: np.ndarray) -> SharedKernel:
    """Rounds a kernel to whole multiples of a step, with error feedback.

    Args:
        weights: float32 `[inputs, channels]`.
        step: distance of neighbouring levels in units of the RMS of each output channel; above 0.
        moments: second moments of the input, float32 `[blocks, n, n]` with blocks · n inputs: the mean of x xᵀ for each
            run of n neighbouring inputs. Feedback stays within a run. Where they are diagonal there is none, and every
            weight goes to its nearest level.

    Returns:
        levels that are whole numbers from −127 to 127 (larger weights are cut there), and scales of step · RMS.

    Raises:
        UserError: weights or moments that are not finite, or a step that is not a positive finite number.
    """
    if isinstance(step, bool) or not isinstance(step, numbers.Real) or not 0 < step < math.inf:
        raise UserError(f"step={step!r}: a finite number above 0")
    if not np.all(np.isfinite(weights)):
        raise UserError("weights that are not finite (NaN or infinity) cannot be quantized")
    n = moments.shape[1]
    scales = np.maximum(step * channel_rms(weights[:, :, None]), np.finfo(np.float32).tiny).astype(np.float32)
    integers = np.empty(weights.shape, np.int8)
    for block, moment in enumerate(moments):
        rows = slice(block * n, (block + 1) * n)
        feedback = feedback_matrix(moment)
        for start in range(0, weights.shape[1], _CHANNELS):
            part = slice(start, start + _CHANNELS)
            integers[rows, part] = _round_in_turn(weights[rows, part] / scales[part], feedback)
    return _shared(integers, scales)


def feedback_matrix(moment: np.ndarray) -> np.ndarray:
    """What the error of each input's row adds to the target of each row after it, float32 `[n, n]`.

    Args:
        moment: the mean of x xᵀ, `[n, n]`; damped here.

    Returns:
        strictly upper triangular: U with unit diagonal, less the identity, where the inverse of the damped moment is
        Uᵀ D U with a diagonal D.

    Raises:
        UserError: the moment is not finite.
    """
    damped = moment.astype(np.float64)
    mean = float(np.mean(np.diagonal(damped)))
    if not np.all(np.isfinite(damped)):
        raise UserError("a second moment is not finite: the network's descriptors are not either")
    if mean <= 0:  # inputs that are always zero
        return np.zeros(moment.shape, np.float32)
    damped[np.diag_indices_from(damped)] += DAMPING * mean
    upper = np.linalg.cholesky(np.linalg.inv(damped)).T
    upper /= np.diagonal(upper)[:, None]
    return np.triu(upper, 1).astype(np.float32)


def _round_in_turn(targets: np.ndarray, feedback: np.ndarray) -> np.ndarray:
    """Whole numbers for targets `[n, channels]` in units of the step; later rows make up for the errors of a row."""
    errors, integers = np.zeros(targets.shape, np.float32), np.empty(targets.shape, np.int8)
    for row, target in enumerate(targets):
        aim = target - feedback[:row, row] @ errors[:row]
        rounded = np.clip(np.rint(aim), -GRID_MAX, GRID_MAX)
        errors[row], integers[row] = aim - rounded, rounded
    return integers


def _shared(integers: np.ndarray, scales: np.ndarray) -> SharedKernel:
    present = np.bincount(integers.reshape(-1).view(np.uint8), minlength=256) > 0
    present[0] = True  # zero is always a level
    levels = np.sort(np.flatnonzero(present).astype(np.uint8).view(np.int8))
    ranks = np.zeros(256, np.uint8)
    ranks[levels.view(np.uint8)] = np.arange(len(levels), dtype=np.uint8)
    return SharedKernel(levels.astype(np.float32), ranks[integers.view(np.uint8)], scales, 1)
