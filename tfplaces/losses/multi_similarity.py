"""The multi-similarity loss and its miner (Wang et al., CVPR 2019), which place batches are trained with."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import ops

from tfplaces.losses.batch_loss import BatchLoss


@keras.saving.register_keras_serializable(package="tfplaces")
class MultiSimilarityMiner:
    """Chooses the pairs of a batch that are worth training on.

    A positive of an anchor is kept if its similarity − ε is below the largest similarity of the anchor's negatives, and
    a negative if its similarity + ε is above the smallest similarity of the anchor's positives (Wang et al., equations
    11 and 12). An anchor without positives keeps no negatives, and one without negatives keeps no positives.

    Args:
        epsilon: ε, on cosines.
    """

    def __init__(self, epsilon: float = 0.1):
        self.epsilon = float(epsilon)

    def __call__(self, similarities: Any, positives: Any, negatives: Any) -> tuple[Any, Any]:
        """Chooses pairs.

        Args:
            similarities: cosines of all anchors with all images, `[anchors, images]`.
            positives: which pairs show one place, an image and itself not among them, bool `[anchors, images]`.
            negatives: which pairs show two places, bool `[anchors, images]`.

        Returns:
            the positives and the negatives that are kept, bool `[anchors, images]` each.
        """
        hardest_negative = ops.max(ops.where(negatives, similarities, -np.inf), axis=1, keepdims=True)
        hardest_positive = ops.min(ops.where(positives, similarities, np.inf), axis=1, keepdims=True)
        return (
            ops.logical_and(positives, similarities - self.epsilon < hardest_negative),
            ops.logical_and(negatives, similarities + self.epsilon > hardest_positive),
        )

    def get_config(self) -> dict[str, Any]:
        return {"epsilon": self.epsilon}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> MultiSimilarityMiner:
        return cls(**config)


DEFAULT_MINER = MultiSimilarityMiner()


@keras.saving.register_keras_serializable(package="tfplaces")
class MultiSimilarityLoss(BatchLoss):
    """The multi-similarity loss (Wang et al., CVPR 2019, equation 15), the mean over the images of the batch.

    With s the cosine of an anchor with another image and λ the base, an anchor's loss is

        1/α · log(1 + Σ_positives exp(−α (s − λ))) + 1/β · log(1 + Σ_negatives exp(β (s − λ)))

    over the pairs that the miner keeps; a side without any is 0. The defaults are those of GSV-Cities (Ali-bey et al.,
    Neurocomputing 2022). Descriptors of any length are compared by their cosine, in float32 or wider, as exp(β) is
    beyond float16. An image and itself are no pair. On several replicas pairs are made of all their images, see
    `BatchLoss`; where an optimizer accumulates gradients over several batches, of those of one batch only.

    Args:
        alpha: α, how much the hardest positives count more than the others, above 0.
        beta: β, the same of negatives, above 0.
        base: λ, the similarity about which pairs are weighed.
        miner: takes similarities, positives and negatives as `MultiSimilarityMiner` does; None keeps all pairs.
    """

    def __init__(
        self,
        alpha: float = 1.0,
        beta: float = 50.0,
        base: float = 0.0,
        miner: MultiSimilarityMiner | None = DEFAULT_MINER,
        name: str = "multi_similarity_loss",
        **kwargs: Any,
    ):
        super().__init__(name=name, **kwargs)
        self.alpha, self.beta, self.base = float(alpha), float(beta), float(base)
        self.miner = miner

    def of_batch(self, labels: Any, descriptors: Any) -> Any:
        labels = ops.reshape(labels, (-1,))
        dtype = keras.backend.result_type(descriptors.dtype, "float32")
        descriptors = ops.normalize(ops.cast(descriptors, dtype), axis=-1)
        similarities = ops.matmul(descriptors, ops.transpose(descriptors))
        same = ops.equal(labels[:, None], labels[None, :])
        positives = ops.logical_and(same, ops.logical_not(ops.eye(ops.shape(labels)[0], dtype="bool")))
        negatives = ops.logical_not(same)
        if self.miner is not None:
            positives, negatives = self.miner(ops.stop_gradient(similarities), positives, negatives)
        centred = similarities - self.base
        return _soft_sum(-self.alpha * centred, positives) / self.alpha + (
            _soft_sum(self.beta * centred, negatives) / self.beta
        )

    def get_config(self) -> dict[str, Any]:
        miner = keras.saving.serialize_keras_object(self.miner)
        return {**super().get_config(), "alpha": self.alpha, "beta": self.beta, "base": self.base, "miner": miner}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> MultiSimilarityLoss:
        return cls(**{**config, "miner": keras.saving.deserialize_keras_object(config["miner"])})


def _soft_sum(exponents: Any, kept: Any) -> Any:
    """log(1 + Σ exp(x)) over the x of each row that are kept, without overflow: `[rows]`."""
    kept_exponents = ops.where(kept, exponents, -np.inf)
    return ops.logsumexp(ops.pad(kept_exponents, [[0, 0], [1, 0]], constant_values=0.0), axis=1)
