"""How much of everything the quickstart takes."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True)
class Plan:
    """How much of everything there is: the sizes at which a network is trained in minutes.

    Attributes:
        size: (height, width) in pixels of a network that is trained here, unless the user chooses.
        clusters: of its NetVLAD; of one that is assembled of photos alone there are 64.
        places: places of toytown to train on, unless the data set names a number.
        epochs, learning_rate: of the training by triplets.
        whitening: dimensions of the descriptor of a network that is trained here.
        whitened_epochs, whitened_learning_rate: of the training that follows, with the whitening.
        margin: of the triplet loss, on squared distances.
        sparsity: the share of all parameters that is pruned.
        tuning_images, tuning_epochs, tuning_learning_rate: how the compressed networks are pulled back to the float
            one, after pruning and after sharing.
    """

    size: tuple[int, int] = (96, 128)
    clusters: int = 32
    places: int = 150
    epochs: int = 5
    learning_rate: float = 3e-4
    whitening: int = 128
    whitened_epochs: int = 1
    whitened_learning_rate: float = 1e-4
    margin: float = 0.3
    sparsity: float = 0.5
    tuning_images: int = 200
    tuning_epochs: int = 3
    tuning_learning_rate: float = 1e-4
