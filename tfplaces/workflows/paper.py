"""The results table of Saha, Varma, Jawahar, "Compressing Deep Neural Networks for Recognizing Places", ACPR 2017."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True)
class PaperRow:
    """A row of the table.

    Attributes:
        bits: the bits of a weight; 32 for the base model.
        threshold: weights whose magnitude is smaller are pruned.
        pruned: the percentage of the parameters that is pruned.
        drop_oxford: the points of mAP lost on Oxford Buildings.
        drop_paris: the points of mAP lost on Paris Buildings.
        mb: the memory in megabytes; for the base model, the size of the published MATLAB file.
    """

    bits: int
    threshold: float
    pruned: float
    drop_oxford: float
    drop_paris: float
    mb: float


# The backbones of its networks: NetVLAD's published AlexNet is Caffe's reference network.
BACKBONES = {"alexnet": "caffenet", "vgg16": "vgg16"}
CLUSTERS, WHITENING = 64, 4096

# The rows of each network, which has NetVLAD (K = 64) and a whitening (4096); the base model is the first.
RESULTS = {
    "alexnet": (
        PaperRow(32, 0.0, 0.0, 0.0, 0.0, 248.6),
        PaperRow(8, 0.001, 25.77, 0.0, 0.0, 41.4),
        PaperRow(8, 0.005, 48.44, 0.0, 0.0, 32.4),
        PaperRow(8, 0.01, 69.92, 2.1, 1.8, 20.0),
        PaperRow(8, 0.05, 85.77, 14.2, 13.3, 10.3),
        PaperRow(5, 0.005, 52.39, 2.9, 3.4, 19.5),
        PaperRow(5, 0.01, 74.95, 7.3, 6.7, 10.6),
    ),
    "vgg16": (
        PaperRow(32, 0.0, 0.0, 0.0, 0.0, 529.5),
        PaperRow(8, 0.001, 25.52, 0.0, 0.0, 89.6),
        PaperRow(8, 0.005, 51.77, 0.0, 0.0, 65.1),
        PaperRow(8, 0.01, 68.23, 2.0, 2.1, 40.5),
        PaperRow(8, 0.05, 84.68, 11.8, 14.1, 21.7),
        PaperRow(5, 0.005, 55.77, 2.2, 3.6, 42.1),
        PaperRow(5, 0.01, 75.66, 6.8, 5.6, 21.2),
    ),
}
