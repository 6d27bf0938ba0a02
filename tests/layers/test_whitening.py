"""PCAWhitening against scikit-learn's PCA; the sign of a component and the common scale are free."""

from pathlib import Path

import keras
import numpy as np
import pytest
from sklearn.decomposition import PCA

from tfplaces.layers import PCAWhitening, principal_components


def vectors(n: int, dim: int, seed: int = 0) -> np.ndarray:
    """Correlated vectors off the origin, with variances that are well apart."""
    rng = np.random.default_rng(seed)
    rotation = np.linalg.qr(rng.normal(size=(dim, dim)))[0]
    return (rng.normal(size=(n, dim)) * 0.8 ** np.arange(dim) @ rotation + rng.normal(size=dim)).astype(np.float32)


def fit(x: np.ndarray, units: int, power: float = 0.5) -> PCAWhitening:
    layer = PCAWhitening(units, power)
    layer.adapt(x)
    return layer


def assert_same_up_to_sign(actual: np.ndarray, expected: np.ndarray) -> None:
    actual, expected = np.asarray(actual), np.asarray(expected)
    signs = np.sign(np.sum(actual * expected, axis=0))
    np.testing.assert_allclose(actual, expected * signs, atol=2e-3 * np.abs(expected).max())


@pytest.mark.parametrize(("n", "dim"), [(300, 20), (21, 20), (20, 20), (40, 100)])
def test_equals_sklearn(n: int, dim: int) -> None:
    """Primal form where there are more samples than dimensions, dual form where not."""
    x = vectors(n, dim)
    layer = fit(x, 6)
    expected = PCA(6, whiten=True, svd_solver="full").fit(x).transform(x)
    actual = np.asarray(layer(x))
    assert_same_up_to_sign(actual / np.linalg.norm(actual), expected / np.linalg.norm(expected))
    np.testing.assert_allclose(actual.mean(axis=0), 0, atol=1e-3 * actual.std())


def test_kernel_has_the_fixed_rms() -> None:
    for x in (vectors(300, 20), 1000 * vectors(300, 20), vectors(15, 64)):
        kernel = fit(x, 5).kernel.numpy()
        assert np.sqrt(np.mean(np.square(kernel))) == pytest.approx(0.01, rel=1e-5)


def test_primal_and_dual_agree() -> None:
    """Every sample twice has the same principal components, but more samples than dimensions."""
    x = vectors(30, 30)
    dual, primal = fit(x, 8), fit(np.concatenate([x, x]), 8)
    assert_same_up_to_sign(primal.kernel, dual.kernel)
    assert_same_up_to_sign(primal.bias.numpy()[None], dual.bias.numpy()[None])


@pytest.mark.parametrize(("n", "dim"), [(50, 12), (12, 50)])
def test_streams_in_blocks_from_a_memory_map(n: int, dim: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    x = vectors(n, dim)
    expected = fit(x, 5)
    mapped = np.memmap(tmp_path / "vectors", np.float32, "w+", shape=x.shape)
    mapped[:] = x
    monkeypatch.setattr(principal_components, "_BLOCK", 7)
    actual = fit(mapped, 5)
    assert_same_up_to_sign(actual.kernel, expected.kernel)
    assert_same_up_to_sign(actual.bias.numpy()[None], expected.bias.numpy()[None])


def test_first_dimensions_are_the_shorter_whitening() -> None:
    """Components come in the order of their variance, so eight of them begin with the four of a shorter one."""
    x = vectors(100, 20)
    long, short = (np.asarray(fit(x, units).kernel) for units in (8, 4))
    assert_same_up_to_sign(long[:, :4] / np.linalg.norm(long[:, :4]), short / np.linalg.norm(short))


def test_as_many_dimensions_as_can_be_had() -> None:
    assert np.isfinite(fit(vectors(10, 30), 9).kernel.numpy()).all()
    assert np.isfinite(fit(vectors(31, 10), 10).kernel.numpy()).all()


@pytest.mark.parametrize("power", [0, 0.25, 0.5])
def test_power_of_the_variances(power: float) -> None:
    """Standard deviations σ of the principal components become σ^(1 − 2 power)."""
    x = vectors(300, 20)
    outputs = np.asarray(fit(x, 6, power)(x))
    expected = np.sqrt(PCA(6).fit(x).explained_variance_) ** (1 - 2 * power)
    actual = outputs.std(axis=0)
    np.testing.assert_allclose(actual / actual[0], expected / expected[0], rtol=1e-3)


def test_power_is_stored_and_was_a_half_before_it_was() -> None:
    config = PCAWhitening(4, 0.125).get_config()
    assert config["power"] == 0.125 and PCAWhitening.from_config(config).power == 0.125
    del config["power"]
    assert PCAWhitening.from_config(config).power == 0.5 and PCAWhitening(4).power == 0.25


@pytest.mark.parametrize("power", [-0.1, 0.51, float("nan")])
def test_power_out_of_range(power: float) -> None:
    with pytest.raises(ValueError, match=f"power={power} of a whitening: a number from 0 to 0.5"):
        PCAWhitening(4, power)


@pytest.mark.parametrize(
    ("x", "units", "message"),
    [
        (vectors(10, 30), 10, "10 vectors of 30 dimensions have at most 9 principal components, not 10"),
        (vectors(30, 5), 6, "30 vectors of 5 dimensions have at most 5 principal components, not 6"),
        (vectors(1, 5), 1, "at most 0"),
        (np.ones((3, 8), np.float32), 2, "3 vectors vary in 0 directions only"),
        (np.ones((30, 8), np.float32), 2, "30 vectors vary in 0 directions only"),
        (np.repeat(vectors(8, 30), 3, axis=0), 8, "24 vectors vary in 7 directions only: at most 7"),
    ],
)
def test_errors(x: np.ndarray, units: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PCAWhitening(units).adapt(x)


def test_other_dimensions_and_no_bias_are_refused() -> None:
    layer = PCAWhitening(2)
    layer(keras.Input((7,)))
    with pytest.raises(ValueError, match="vectors of 8 dimensions, the layer takes 7"):
        layer.adapt(vectors(20, 8))
    with pytest.raises(ValueError, match="use_bias=False"):
        PCAWhitening(2, use_bias=False).adapt(vectors(20, 8))
