"""What comes after the backbone, written anew for integers of 8 bits throughout.

ConvAP needs nothing but the form of the L2 normalisation that has an operator. NetVLAD in its usual form loses most of
what it computes.

A tensor of 8 bits has one scale for all of it. In aᵀx − (Σa)c both terms are much larger than their difference, and
clusters that few features belong to are as small as one step, although the intra-normalisation makes them as important
as any. Here

    ln a, of softmax, and its largest value m_k over the features of each cluster
    e_ik = exp(ln a_ik − m_k): each cluster's weights reach 1, whatever its mass
    V = [e, diag(Σ_i e_ik)] · [x; −c]

so that the difference is formed in the product's 32-bit sums, and only the residual itself is rounded. The factor
exp(−m_k) of each V_k goes in the intra-normalisation. The L2 normalisation of the whole, whose components of about
1 / sqrt(dim) would be less than a step of TFLite's fixed 1/128, is left out: the length is that of the square root of
the number of clusters that have a residual; the whitening's bias is multiplied by sqrt(K) instead.
"""

from __future__ import annotations

from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf

from tfplaces.layers import L2Normalization
from tfplaces.models import PlaceNet

# Aggregations that stay in float, and why. On real images GeM lost 2 to 11 points of mAP: the powers of a map's
# features span many orders of magnitude, and one scale is for all of them.
FLOAT_AGGREGATIONS = {
    "gem": "its powers lose too much in integers of 8 bits",
    "mixvpr": "its layer normalisations have no integer form in TFLite",
}
# TFLite's LOG_SOFTMAX of 8 bits ends at −16; a cluster whose largest ln a is less than the second has a residual near
# 1e-6, where the L2 normalisation of the usual form gives way to zero.
_LEAST_LOG, _DEAD_LOG = -15.9, -14.5


def l2_normalize(x: tf.Tensor) -> tf.Tensor:
    """x / max(‖x‖, 1e-6) over the last axis, written so that the converter makes it one operator, L2_NORMALIZATION.

    That one has an integer form; the products and roots of `tfplaces.layers.l2_normalize` have none worth having.
    """
    return x / tf.sqrt(tf.maximum(tf.reduce_sum(tf.square(x), axis=-1, keepdims=True), 1e-12))


def integer_form(model: PlaceNet) -> Callable[[tf.Tensor], tf.Tensor]:
    """The function of a PlaceNet from images to descriptors, in the form that integers of 8 bits hold best.

    Takes float32 `[batch, height, width, 3]` of a known batch and gives float32 `[batch, descriptor_dim]`, whose
    length is 1, or for NetVLAD with no whitening near it. The aggregation may be none of `FLOAT_AGGREGATIONS`, and the
    network may have no layer without an integer form in TFLite, as a local response normalisation is.
    """
    return _netvlad(model) if model.aggregation.kind == "netvlad" else _layer_by_layer(model)


def _layer_by_layer(model: PlaceNet) -> Callable[[tf.Tensor], tf.Tensor]:
    backbone = keras.Model(model.inputs[0], model.feature_layer.output)

    def describe(image: tf.Tensor) -> tf.Tensor:
        x = backbone(image, training=False)
        for layer in model.head_layers:
            x = l2_normalize(x) if isinstance(layer, L2Normalization) else layer(x)
        return x

    return describe


def _netvlad(model: PlaceNet) -> Callable[[tf.Tensor], tf.Tensor]:
    backbone = keras.Model(model.inputs[0], model.feature_layer.output)
    netvlad = model.get_layer("netvlad")
    clusters, channels = netvlad.centroids.shape

    def aggregate(x: tf.Tensor) -> tf.Tensor:
        x = l2_normalize(x)
        logits = tf.nn.conv2d(x, netvlad.assignment.value, 1, "VALID")
        if netvlad.use_bias:
            logits += netvlad.bias.value
        batch = x.shape[0]
        x = tf.reshape(x, (batch, -1, channels))  # [batch, n, D]
        logs = tf.nn.log_softmax(tf.reshape(logits, (batch, -1, clusters)))
        logs = tf.transpose(tf.maximum(logs, _LEAST_LOG), (0, 2, 1))  # [batch, K, n]
        largest = tf.reduce_max(logs, axis=2, keepdims=True)
        alive = tf.minimum(tf.nn.relu(largest - _DEAD_LOG), 1.0)
        e = tf.exp(logs - largest) * alive
        masses = tf.reduce_sum(e, axis=2, keepdims=True) * np.eye(clusters, dtype=np.float32)[None]  # diagonal
        centroids = tf.tile(-netvlad.centroids.value[None], (batch, 1, 1))
        v = tf.matmul(tf.concat([e, masses], axis=2), tf.concat([x, centroids], axis=1))
        return tf.reshape(l2_normalize(v), (batch, clusters * channels))

    def describe(image: tf.Tensor) -> tf.Tensor:
        features = backbone(image, training=False)
        with tf.name_scope("netvlad"):  # as the checks by layer know it
            v = aggregate(features)
        if not model.config["whitening"]:
            return v * np.float32(clusters**-0.5)
        whitening = model.get_layer("whitening")
        with tf.name_scope("whitening"):
            y = tf.matmul(v, whitening.kernel.value) + whitening.bias.value * np.float32(clusters**0.5)
        with tf.name_scope("descriptor"):
            return l2_normalize(y)

    return describe
