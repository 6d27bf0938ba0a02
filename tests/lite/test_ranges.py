"""The ranges of activations."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tfplaces.datasets import PlaceDataset
from tfplaces.lite.calibration import Batch
from tfplaces.lite.ranges import _narrowed, activation_ranges

SIZE = (48, 64)


def test_ranges_of_least_error() -> None:
    """Uniform values need all of their range; of a long tail 8 bits had better leave the end out."""
    rng = np.random.default_rng(0)

    def error(values, low, high):
        step = (high - low) / 255
        return np.mean(np.square(np.clip(np.round((values - low) / step), 0, 255) * step + low - values))

    for values, cut in (
        (rng.uniform(0, 3, 10**6), 0.99),
        (rng.exponential(1, 10**6), 0.9),
        (rng.laplace(0, 1, 10**6), 0.9),
    ):
        low, high = min(values.min(), 0.0), values.max()
        counts, _ = np.histogram(values, 2048, (low, high))
        ours = _narrowed(counts, low, high)
        assert low <= ours[0] <= 0 < ours[1] <= high
        assert (ours[1] < cut * high) == (cut < 0.95)
        assert (
            error(values, *ours) <= min(error(values, share * low, share * high) for share in (1, 0.8, 0.6, 0.4)) * 1.01
        )


def test_ranges_of_a_file(floats: Path, town: PlaceDataset) -> None:
    """Within what occurs, zero among it; of what ReLU gives from zero on."""
    batches = [Batch(town.database.read(i, SIZE)[None], 1) for i in range(4)]
    found = activation_ranges(floats, batches)
    assert all(low <= 0 <= high and high > low for low, high in found.values())
    relu = {name: found[name] for name in found if "relu" in name}
    assert len(relu) == 7 and all(low == 0 for low, _ in relu.values())
    assert found["Cast"][1] > 200 and found["Cast"][0] == 0
