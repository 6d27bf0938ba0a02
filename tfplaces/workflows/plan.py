"""The sizes of the quickstart: of its network, its training and its compression."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True)
class Plan:
    """The sizes of a quickstart; by default those at which a network is trained in minutes.

    Attributes:
        size: (height, width) in pixels of the images that a trained network takes, unless the user chooses.
        clusters: the number of NetVLAD's clusters in a trained network; one that is only assembled has 64.
        places: the number of toytown's places to train on, unless the data set names one.
        epochs: how often to go through the training data before there is a whitening.
        learning_rate: Adam's step size in these epochs.
        whitening: the number of dimensions of a trained network's descriptor.
        whitened_epochs: how often to go through the training data once there is a whitening.
        whitened_learning_rate: Adam's step size in these epochs.
        margin: the margin of the triplet loss, on squared distances.
        sparsity: the share of all parameters that is pruned.
        tuning_images: the number of images that a compressed network is fine-tuned towards the float network on.
        tuning_epochs: how often to go through them after pruning, and again after sharing.
        tuning_learning_rate: Adam's step size in fine-tuning.
    """

    size: tuple[int, int] = (96, 128)
    clusters: int = 32
    places: int = 130
    epochs: int = 4
    learning_rate: float = 3e-4
    whitening: int = 128
    whitened_epochs: int = 1
    whitened_learning_rate: float = 1e-4
    margin: float = 0.3
    sparsity: float = 0.5
    tuning_images: int = 200
    tuning_epochs: int = 3
    tuning_learning_rate: float = 1e-4
