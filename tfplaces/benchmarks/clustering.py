"""Measures the sparsity-preserving clustering of a Dense layer: TF-MOT's, which needs tf_keras, and ours beside it.

Both fine-tune the same pruned weights on the same batches. Times are of a training step, sizes are of the kernel.
"""

from __future__ import annotations

import gzip
import json
import sys
import time

import numpy as np

from tfplaces.benchmarks.fresh_process import in_fresh_process
from tfplaces.evaluation.memory import peak, reset_peak

INPUTS = 32768
BATCH, STEPS = 16, 5
LEVELS = 32


def slice_weights(outputs: int, seed: int) -> np.ndarray:
    """Float32 weights `[32768, outputs]` like a whitening's: Laplace-distributed, of RMS 0.01, half of them pruned."""
    weights = np.random.default_rng(seed).laplace(0, 0.01 / np.sqrt(2), (INPUTS, outputs)).astype(np.float32)
    weights[np.abs(weights) < np.median(np.abs(weights))] = 0
    return weights


def batch(outputs: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """A batch of float32 inputs `[16, 32768]` of unit length and targets `[16, outputs]`."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(BATCH, INPUTS)).astype(np.float32)
    return x / np.linalg.norm(x, axis=1, keepdims=True), rng.normal(size=(BATCH, outputs)).astype(np.float32)


def measure_clustering(outputs: int = 128, seed: int = 0) -> dict:
    """Clusters a Dense layer of 32768 inputs, half of whose weights are pruned, to 32 levels by both ways.

    Args:
        outputs: the number of the layer's outputs.
        seed: gives the weights and the batch.

    Returns:
        `ours` and `tfmot` hold, of either way, `setup` and `step` in seconds (the step is a median, without the first
        three), `peak` (the bytes of memory that training takes above what the process had before), `values` (the number
        of distinct weights), `sparsity` (the share of zeros) and `error` (the sum of the squared changes over that of
        the squared weights). `step_ratio` and `peak_ratio` are TF-MOT's over ours. `sizes` holds the bytes of the layer
        by the way it is stored. `tfmot_distances` and `tfmot_distances_full` are the bytes of TF-MOT's float32
        distances of all weights to all centroids, for this layer and for one of 4096 outputs.
    """
    ours, tfmot = (
        in_fresh_process(
            "tfplaces.benchmarks.clustering",
            [way, outputs, seed],
            f"clustering {INPUTS}x{outputs} with {way}",
            legacy_keras=way == "tfmot",
        )
        for way in ("ours", "tfmot")
    )
    sizes = ours.pop("sizes") | tfmot.pop("sizes")
    return {
        "outputs": outputs, "ours": ours, "tfmot": tfmot, "step_ratio": tfmot["step"] / ours["step"],
        "peak_ratio": tfmot["peak"] / ours["peak"], "sizes": sizes,
        "tfmot_distances": INPUTS * outputs * LEVELS * 4, "tfmot_distances_full": INPUTS * 4096 * LEVELS * 4,
    }  # fmt: skip


def _measure(way: str, outputs: int, seed: int) -> dict:
    weights, (x, y) = slice_weights(outputs, seed), batch(outputs, seed)
    setup, kernel, callbacks = (_tfmot if way == "tfmot" else _ours)(weights)
    before = reset_peak()
    started = time.perf_counter()
    model = setup()
    seconds = time.perf_counter() - started
    ends = []
    callback = callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs=None: ends.append(time.perf_counter()))
    batches = 3 + STEPS
    model.fit(np.tile(x, (batches, 1)), np.tile(y, (batches, 1)), BATCH, verbose=0, callbacks=[callback])
    most = peak() - before
    trained, sizes = kernel(model)
    return {"setup": seconds, "step": float(np.median(np.diff(ends)[-STEPS:])), "peak": most,
            "values": len(np.unique(trained)), "sparsity": float(np.mean(trained == 0)), "sizes": sizes,
            "error": float(np.sum(np.square(trained - weights)) / np.sum(np.square(weights)))}  # fmt: skip


def _tfmot(weights: np.ndarray) -> tuple:
    import tensorflow_model_optimization as tfmot
    import tf_keras
    from tensorflow_model_optimization.python.core.clustering.keras.experimental import cluster

    layer = tf_keras.Sequential([tf_keras.layers.Dense(weights.shape[1], input_shape=(INPUTS,))])
    layer.layers[0].set_weights([weights, np.zeros(weights.shape[1], np.float32)])

    def setup():
        init = tfmot.clustering.keras.CentroidInitialization.KMEANS_PLUS_PLUS
        model = cluster.cluster_weights(layer, LEVELS, init, preserve_sparsity=True)
        model.compile(tf_keras.optimizers.Adam(1e-5), "mse")
        return model

    def kernel(model):
        stripped = tfmot.clustering.keras.strip_clustering(model)
        trained = stripped.layers[0].get_weights()[0]
        sizes = {"TF-MOT, float32, gzip -9": len(gzip.compress(trained.tobytes(), 9))}
        return trained, sizes | _int8_sizes(stripped)

    return setup, kernel, tf_keras.callbacks


def _ours(weights: np.ndarray) -> tuple:
    import keras

    from tfplaces.coding import encode
    from tfplaces.compression.finetuning import SharedTraining
    from tfplaces.compression.recipe import share_model

    layer = keras.Sequential([keras.Input((INPUTS,)), keras.layers.Dense(weights.shape[1])])
    layer.layers[0].set_weights([weights, np.zeros(weights.shape[1], np.float32)])

    def setup():
        model = SharedTraining(layer, share_model(layer, LEVELS.bit_length() - 1))
        model.compile(keras.optimizers.Adam(1e-5), "mse")
        return model

    def kernel(model):
        (shared,) = model.settle().values()
        sizes = {"tfplaces": len(encode(shared.indices)) + shared.levels.nbytes + shared.scales.nbytes}
        return layer.layers[0].get_weights()[0], sizes

    return setup, kernel, keras.callbacks


def _int8_sizes(layer) -> dict[str, int]:
    """The bytes of a tf_keras model as an int8 TFLite file that the converter makes, as it is and compressed."""
    import tensorflow as tf

    converter = tf.lite.TFLiteConverter.from_keras_model(layer)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    data = converter.convert()
    sizes = {"TF-MOT, int8 TFLite": len(data), "TF-MOT, int8 TFLite, gzip -9": len(gzip.compress(data, 9))}
    try:
        import zstandard

        sizes["TF-MOT, int8 TFLite, zstd -19"] = len(zstandard.compress(data, 19))
    except ImportError:
        pass
    return sizes


if __name__ == "__main__":
    print(json.dumps(_measure(*json.loads(sys.argv[1]))))
