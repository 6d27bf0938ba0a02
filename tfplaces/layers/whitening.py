"""PCA whitening of a chosen power, as a dense layer."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import ops

from tfplaces.common.errors import UserError
from tfplaces.layers.principal_components import PrincipalComponents, principal_components

DEFAULT_POWER = 0.25
# Unit variances: the usual rule, and what networks were whitened with before the power was an option.
FULL_POWER = 0.5
# A final L2 normalisation makes the scale of a whitening free. It is kept at this RMS of the kernel, about that of the
# published networks, so that one threshold of magnitude means the same in every network.
KERNEL_RMS = 0.01


@keras.saving.register_keras_serializable(package="tfplaces")
class PCAWhitening(keras.layers.Dense):
    """y = (x − μ) U λ^(−power), up to a common scale: kernel RMS 0.01 (with the bias scaled along).

    μ, U and λ are the mean and the leading eigenvectors and eigenvalues of the covariance of the vectors given to
    `adapt`; follow the layer with an L2 normalisation. A shorter descriptor is its first d dimensions, then L2 (Jégou
    and Chum, 2012). A power of 0.5 gives every output the same variance, which is whitening in the strict sense.
    Variances that few images estimate badly are then blown up, and places seen in another light are lost; a smaller
    power keeps part of the variances' order, and 0 all of it (a rotation and a cut).

    Input: `[batch, dim]`. Output: `[batch, units]`.

    Args:
        units: output dimensions.
        power: the power of the eigenvalues, 0 to 0.5, for the next `adapt`; of a fitted layer, the one that it was
            fitted with. Configurations saved before there was a choice mean 0.5.

    Raises:
        UserError: the power is out of range.
    """

    def __init__(self, units: int, power: float = DEFAULT_POWER, **kwargs: Any):
        super().__init__(units, **kwargs)
        check_power(power)
        self.power = float(power)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "power": self.power}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> PCAWhitening:
        return super().from_config({"power": FULL_POWER, **config})

    def adapt(self, vectors: np.ndarray) -> None:
        """Fits the whitening.

        Args:
            vectors: float16 or float32 `[n, dim]`; may be a memory map.

        Raises:
            UserError: vectors of another dimension, or that vary in fewer directions than the output has; a layer
                without bias, which holds the mean.
        """
        if self.built and vectors.shape[1] != self.kernel.shape[0]:
            raise UserError(
                f"PCAWhitening: vectors of {vectors.shape[1]} dimensions, the layer takes {self.kernel.shape[0]}"
            )
        self.set_components(principal_components(vectors, self.units))

    def set_components(self, components: PrincipalComponents) -> None:
        """Sets the kernel and the bias from principal components, as many as the output has dimensions.

        Raises:
            UserError: a layer without bias, which holds the mean.
        """
        if not self.use_bias:
            raise UserError("PCAWhitening: use_bias=False, but the bias is what subtracts the mean")
        if not self.built:
            self.build((None, len(components.mean)))
        kernel = components.directions * components.weights(self.power)
        kernel *= KERNEL_RMS / np.sqrt(np.mean(np.square(kernel)))
        self.kernel.assign(kernel)
        self.bias.assign(-(components.mean @ kernel))

    def rescale(self) -> None:
        """Brings the kernel, and the bias with it, to the RMS of 0.01 that training may have moved it from.

        Descriptors do not change, as an L2 normalisation follows.
        """
        size = self.kernel.shape[0] * self.kernel.shape[1]
        rms = ops.sqrt(ops.vdot(self.kernel, self.kernel) / size)
        factor = KERNEL_RMS / ops.maximum(rms, 1e-30)
        for weight in self.weights:
            weight.assign(weight * factor)


def check_power(power: float) -> None:
    """Raises UserError unless a number is a power that eigenvalues can be whitened with, 0 to 0.5."""
    if not 0 <= power <= FULL_POWER:
        raise UserError(f"power={power} of a whitening: a number from 0 to {FULL_POWER}")
