"""NetVLAD: a trainable vector of locally aggregated descriptors (Arandjelović et al., CVPR 2016)."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from tfplaces.common.errors import UserError
from tfplaces.layers.normalization import check_norm, l2_normalize, wide_dtype

# Factor on the published α for a network that is used as it is assembled; the published rule, where the second-nearest
# cluster still weighs 1 % of the nearest in the mean, is for one that will be trained. Both by measurement, see
# "Choices that were measured" in the README.
DEFAULT_SHARPNESS = 4.0
TRAINING_SHARPNESS = 1.0


@keras.saving.register_keras_serializable(package="tfplaces")
class NetVLAD(keras.layers.Layer):
    """Aggregates a map of local features into one vector.

    With x the L2-normalised local features and a = softmax(x · assignment) (equation 3 of the paper),

        V[k] = Σ_i a_k(x_i) · (x_i − c_k) = aᵀx − (Σ a) · c        (equation 4)

    each V[k] is L2-normalised (intra-normalisation) and so is the whole. The residual is never formed for single
    features: GPU delegates of phones stop at four dimensions.

    Input: `[batch, height, width, channels]`, whatever Keras's image data format is. Output:
    `[batch, clusters · channels]`, cluster-major (index = d + channels · k), of unit length. The layer computes and
    gives float32 under every dtype policy but float64: float16 holds neither the squares of large features nor those
    of the shortest residuals.

    Args:
        clusters: number of clusters, K.
        use_bias: a bias in the assignment, as MatConvNet's `layerVLADv2` has (2αc·x − α‖c‖²).
        norm: the form of its L2 normalisations, see `l2_normalize`.

    Raises:
        UserError: fewer than one cluster, no such form, or, when it is built, an unknown number of channels.
    """

    def __init__(self, clusters: int = 64, use_bias: bool = False, norm: str = "tflite", **kwargs: Any):
        super().__init__(**kwargs)
        check_norm(norm)
        if clusters < 1:
            raise UserError(f"NetVLAD: clusters={clusters}, must be at least 1")
        self.clusters = clusters
        self.use_bias = use_bias
        self.norm = norm
        self.autocast = False

    def build(self, input_shape):
        channels = input_shape[-1]
        if channels is None:
            raise UserError("NetVLAD: the number of channels of its input must be known")

        def weight(name, shape, initializer):
            # A mixed policy would round it to half precision on its way into `call`.
            return self.add_weight(name=name, shape=shape, initializer=initializer, autocast=False)

        self.assignment = weight("assignment", (1, 1, channels, self.clusters), "glorot_uniform")
        self.bias = weight("bias", (self.clusters,), "zeros") if self.use_bias else None
        self.centroids = weight("centroids", (self.clusters, channels), keras.initializers.RandomNormal(0.05))

    def call(self, inputs):
        channels = inputs.shape[-1]
        dtype = wide_dtype(self)
        assignment, centroids = ops.cast(self.assignment, dtype), ops.cast(self.centroids, dtype)
        x = l2_normalize(ops.cast(inputs, dtype), norm=self.norm)
        logits = ops.conv(x, assignment, padding="valid", data_format="channels_last")
        if self.use_bias:
            logits = logits + ops.cast(self.bias, dtype)
        batch = ops.shape(x)[0]
        a = ops.reshape(ops.softmax(logits, axis=-1), (batch, -1, self.clusters))  # [batch, n, K]
        x = ops.reshape(x, (batch, -1, channels))  # [batch, n, D]
        v = tf.matmul(a, x, transpose_a=True) + (-centroids) * ops.expand_dims(ops.sum(a, axis=1), -1)
        v = ops.reshape(l2_normalize(v, norm=self.norm), (batch, self.clusters * channels))
        return l2_normalize(v, norm=self.norm)

    def adapt(self, features: np.ndarray, sharpness: float = DEFAULT_SHARPNESS, seed: int = 0) -> None:
        """Sets centroids and assignment from local features, by k-means.

        The assignment is α · c / ‖c‖ with α = sharpness · −ln(0.01) / mean(top1 − top2), top1 and top2 being the two
        largest products of a feature with the normalised centroids (the published initialisation has sharpness 1).

        Args:
            features: float `[n, channels]`, local features as they enter the layer, n >= clusters.
            sharpness: factor on the published α; a larger one assigns harder.
            seed: seed of the k-means.

        Raises:
            UserError: too few features or the wrong number of channels.
        """
        from sklearn.cluster import KMeans

        if not self.built and features.ndim == 2:
            self.build((None, None, None, features.shape[1]))
        channels = self.centroids.shape[1]
        if features.ndim != 2 or features.shape[1] != channels:
            raise UserError(f"NetVLAD.adapt: features of shape {features.shape}, expected [n, {channels}]")
        if len(features) < self.clusters:
            raise UserError(f"NetVLAD.adapt: {len(features)} local features are too few for {self.clusters} clusters")
        x = features / np.sqrt(np.sum(np.square(features), axis=1, keepdims=True) + 1e-12)
        centroids = KMeans(self.clusters, n_init=1, random_state=seed).fit(x).cluster_centers_
        directions = centroids / np.maximum(np.linalg.norm(centroids, axis=1, keepdims=True), 1e-12)
        gap = 1.0
        if self.clusters > 1:
            products = np.partition(x @ directions.T, -2, axis=1)
            gap = float(np.mean(products[:, -1] - products[:, -2]))
        alpha = sharpness * -np.log(0.01) / max(gap, 1e-12)
        self.centroids.assign(centroids)
        self.assignment.assign((alpha * directions.T)[None, None])
        if self.bias is not None:
            self.bias.assign(np.zeros(self.clusters))

    def compute_output_spec(self, inputs):
        return keras.KerasTensor(self.compute_output_shape(inputs.shape), wide_dtype(self))

    def compute_output_shape(self, input_shape):
        return (input_shape[0], self.clusters * input_shape[-1])

    def get_config(self):
        return {**super().get_config(), "clusters": self.clusters, "use_bias": self.use_bias, "norm": self.norm}
