"""What weight sharing leaves of a kernel: levels, the index of each weight's level, and a scale per output channel."""

from __future__ import annotations

import dataclasses

import numpy as np

from tfplaces.coding.channels import ChannelAxis, channel_view, row_blocks

# Levels on the int8 grid are whole numbers from -127 to 127.
GRID_MAX = 127


@dataclasses.dataclass
class SharedKernel:
    """A kernel whose weights are levels[indices] · scales, in float32.

    Attributes:
        levels: float32 `[n]`, ascending, zero among them, n at most 256; on the int8 grid whole numbers −127 to 127.
        indices: uint8 of the kernel's shape.
        scales: float32 `[channels]`, positive.
        channel_axis: the axis of the kernel that scales go along, or the neighbouring axes that count them together.
    """

    levels: np.ndarray
    indices: np.ndarray
    scales: np.ndarray
    channel_axis: ChannelAxis

    @property
    def zero(self) -> int:
        """Index of the level that is zero."""
        return int(np.searchsorted(self.levels, 0.0))

    @property
    def on_int8_grid(self) -> bool:
        """Whether every weight is a whole number from −127 to 127 times its channel's scale."""
        return bool(np.all(np.abs(self.levels) <= GRID_MAX) and np.all(self.levels == np.round(self.levels)))

    def weights(self) -> np.ndarray:
        """The kernel, float32."""
        out = np.empty(self.indices.shape, np.float32)
        indices, view = channel_view(self.indices, self.channel_axis), channel_view(out, self.channel_axis)
        for rows in row_blocks(indices):
            np.multiply(self.levels[indices[rows]], self.scales[:, None], out=view[rows])
        return out
