"""What TensorBoard gets, read back by its own reader."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

from tfplaces.compression import Monitor, PrunedTraining, SharedTraining, find_kernels, monitor, prune_model, share


def model() -> keras.Model:
    keras.utils.set_random_seed(0)
    return keras.Sequential([keras.Input((4,)), keras.layers.Dense(6, name="a"), keras.layers.Dense(2, name="b")])


def read(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """The values of each tag by step, numbers of a histogram as its count."""
    event_accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    from tensorboard.util import tensor_util

    events = event_accumulator.EventAccumulator(str(folder), size_guidance={"tensors": 0})
    events.Reload()
    values = {}
    for tag in events.Tags()["tensors"]:
        arrays = [(e.step, tensor_util.make_ndarray(e.tensor_proto)) for e in events.Tensors(tag)]
        values[tag] = [(step, float(a) if a.ndim == 0 else float(a[:, 2].sum())) for step, a in arrays]
    return values


def test_events_of_pruning_and_of_sharing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(monitor, "_FREQUENCY", 3)
    net, callback = model(), Monitor(str(tmp_path))
    x, y = np.random.default_rng(0).normal(size=(16, 4)), np.ones((16, 2))
    prune_model(net, sparsity=0.25, scope="layer")
    sizes = [kernel.size for kernel in find_kernels(net)]
    fitted = PrunedTraining(net, 1e-3)
    fitted.compile("sgd", "mse")
    fitted.fit(x, y, batch_size=4, verbose=0, callbacks=[callback])
    magnitudes = [float(np.abs(k.variable.numpy()).sum()) for k in find_kernels(net)]
    shared = {k.name: share(k.variable.numpy(), k.channel_axis, 2) for k in find_kernels(net)}
    training = SharedTraining(net, shared)
    training.compile(keras.optimizers.SGD(0.0), "mse")
    loss = training.fit(x, y, batch_size=16, epochs=3, verbose=0, callbacks=[callback]).history["loss"][-1]
    values = read(tmp_path)
    a, b = shared
    assert {"fit/loss", f"l1/{a}", f"sparsity/{b}", "l1/all", "sparsity/all", f"levels/{a}"} <= set(values)
    # Steps 0 to 3 are of the first fit, 4 to 6 of the second.
    assert [step for step, _ in values["fit/loss"]] == list(range(7))
    assert values["fit/loss"][-1][1] == pytest.approx(loss, rel=1e-5)
    assert [step for step, _ in values["l1/all"]] == [0, 3, 6] and [s for s, _ in values[f"levels/{a}"]] == [6]
    assert values["l1/all"][1][1] == pytest.approx(sum(magnitudes), rel=1e-5)
    assert values[f"l1/{b}"][1][1] == pytest.approx(magnitudes[1], rel=1e-5)
    zeros = [round(0.25 * size) for size in sizes]
    assert values[f"sparsity/{a}"][1][1] == pytest.approx(zeros[0] / sizes[0])
    assert values["sparsity/all"][1][1] == pytest.approx(sum(zeros) / sum(sizes))
    assert values[f"levels/{a}"][0][1] == len(shared[a].levels) == values[f"level values/{a}"][0][1]


def test_in_anybodys_fit(tmp_path: Path) -> None:
    net = model()
    net.compile("sgd", "mse")
    net.fit(np.ones((4, 4)), np.ones((4, 2)), verbose=0, callbacks=[Monitor(str(tmp_path))])
    assert {"fit/loss", "l1/all", "sparsity/all"} <= set(read(tmp_path))


def test_without_tensorboard_it_says_what_to_install(tmp_path: Path) -> None:
    code = (
        "import sys\nsys.modules['tensorboard'] = None\nfrom tfplaces.compression import Monitor\n"
        "try: Monitor(sys.argv[1])\nexcept ValueError as error: print(error)"
    )
    process = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True)
    assert process.stdout == "TensorBoard is not installed: pip install tfplaces[tensorboard]\n", process.stderr[-2000:]
    assert not any(tmp_path.iterdir())
