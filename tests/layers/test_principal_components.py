"""Principal components against NumPy's singular value decomposition and scikit-learn's PCA."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.decomposition import PCA

from tfplaces.layers import principal_components as module
from tfplaces.layers.principal_components import PrincipalComponents, principal_components


def vectors(n: int, dim: int, seed: int = 0, decay: float = 0.8) -> np.ndarray:
    """Correlated vectors off the origin, with variances that are well apart."""
    rng = np.random.default_rng(seed)
    rotation = np.linalg.qr(rng.normal(size=(dim, dim)))[0]
    return (rng.normal(size=(n, dim)) * decay ** np.arange(dim) @ rotation + rng.normal(size=dim)).astype(np.float32)


def assert_same(actual: PrincipalComponents, expected: PrincipalComponents, rtol: float = 1e-5) -> None:
    """The same but for the signs of the directions."""
    np.testing.assert_allclose(actual.mean, expected.mean, rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(actual.variances, expected.variances, rtol=rtol)
    cosines = np.abs(np.sum(actual.directions * expected.directions, axis=0))
    np.testing.assert_allclose(cosines, 1, atol=rtol)


@pytest.mark.parametrize(("n", "dim"), [(300, 20), (21, 20), (20, 20), (40, 100)])
def test_equals_sklearn(n: int, dim: int) -> None:
    """From the covariance where there are more vectors than dimensions, from the Gram matrix where not."""
    x = vectors(n, dim)
    pca = PCA(6, svd_solver="full").fit(x.astype(np.float64))
    expected = PrincipalComponents(pca.mean_, pca.components_.T.astype(np.float32), pca.explained_variance_)
    assert_same(principal_components(x, 6), expected)


@settings(max_examples=50, deadline=None)
@given(n=st.integers(2, 40), dim=st.integers(1, 40), seed=st.integers(0, 99))
def test_as_many_as_the_rank(n: int, dim: int, seed: int) -> None:
    """All of them can be had: orthonormal, descending, with the whole variance; one more is refused."""
    x = vectors(n, dim, seed, decay=0.95)
    rank = min(n - 1, dim)
    found = principal_components(x, rank)
    np.testing.assert_allclose(found.directions.T @ found.directions, np.eye(rank), atol=1e-4)
    assert np.all(np.diff(found.variances) <= 0) and found.variances[-1] > 0
    assert found.variances.sum() == pytest.approx(np.var(x.astype(np.float64), axis=0, ddof=1).sum(), rel=1e-6)
    with pytest.raises(ValueError, match=f"have at most {rank} principal components, not {rank + 1}"):
        principal_components(x, rank + 1)


@settings(max_examples=50, deadline=None)
@given(
    distinct=st.integers(1, 12),
    copies=st.integers(2, 9),
    dim=st.sampled_from([13, 40, 150]),
    seed=st.integers(0, 99),
    noise=st.sampled_from([0.0, 1e-7]),
)
def test_copies_add_no_directions(distinct: int, copies: int, dim: int, seed: int, noise: float) -> None:
    """Rank is of distinct vectors, in either form, also where copies differ by the rounding of float32.

    Copies of the same number of each vector have the same directions; the variances too, up to the n − 1 they are
    divided by.
    """
    rng = np.random.default_rng(seed)
    once = rng.normal(size=(distinct, dim))
    once /= np.linalg.norm(once, axis=1, keepdims=True)
    x = np.repeat(once, copies, axis=0) * (1 + noise * rng.normal(size=(distinct * copies, dim)))
    x = rng.permutation(x.astype(np.float32))
    with pytest.raises(ValueError, match=f"vary in {distinct - 1} directions only: .* not {distinct}; "):
        principal_components(x, distinct)
    if distinct > 1:
        found = principal_components(x, distinct - 1)
        expected = principal_components(once.astype(np.float32), distinct - 1).variances
        n = distinct * copies
        np.testing.assert_allclose(found.variances * (n - 1) / copies, expected * (distinct - 1), rtol=1e-4)


def test_says_how_many_can_be_had() -> None:
    """118 images, 82 of them twice, as the folder of a user who copied some."""
    x = np.repeat(vectors(118, 300, decay=0.99), [2] * 82 + [1] * 36, axis=0)
    message = "200 vectors vary in 117 directions only: at most 117 principal components, not 150; copies of an image"
    with pytest.raises(ValueError, match=message):
        principal_components(x, 150)
    assert len(principal_components(x, 117).variances) == 117


@pytest.mark.parametrize("n", [3, 30])
def test_vectors_that_are_all_alike(n: int) -> None:
    with pytest.raises(ValueError, match=f"{n} vectors vary in 0 directions only: at most 0 principal components"):
        principal_components(np.full((n, 8), 0.1, np.float32), 2)


@pytest.mark.parametrize("shape", [(30, 8), (8, 30)])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_vectors_that_are_not_finite(shape: tuple[int, int], value: float) -> None:
    x = vectors(*shape)
    x[3, 4] = value
    with pytest.raises(ValueError, match="not finite"):
        principal_components(x, 2)


@pytest.mark.parametrize("shape", [(300, 20), (40, 100)])
def test_a_mean_far_larger_than_what_varies(shape: tuple[int, int]) -> None:
    """Sums are of centred numbers and in float64: uncentred products in float32 would drown the variances."""
    x = (10 + 0.1 * vectors(*shape)).astype(np.float32)
    pca = PCA(6, svd_solver="full").fit(x.astype(np.float64))
    expected = PrincipalComponents(pca.mean_, pca.components_.T.astype(np.float32), pca.explained_variance_)
    assert_same(principal_components(x, 6), expected)


@pytest.mark.parametrize(("n", "dim"), [(50, 12), (12, 50)])
@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_reads_a_memory_map_in_blocks(
    n: int, dim: int, dtype: type, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    x = vectors(n, dim).astype(dtype)
    expected = principal_components(x.astype(np.float32), 5)
    mapped = np.memmap(tmp_path / "vectors", dtype, "w+", shape=x.shape)
    mapped[:] = x
    monkeypatch.setattr(module, "_BLOCK", 7)
    assert_same(principal_components(mapped, 5), expected)


@pytest.mark.parametrize(("n", "dim"), [(200, 120), (120, 200)])
def test_subspace_iteration_finds_the_leading_components(n: int, dim: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where neither form fits. Variances fall slowly; with 8 directions beside the 12 asked for, three rounds find them
    within a per cent."""
    x = vectors(n, dim, decay=0.95)
    exact = principal_components(x, 12)
    monkeypatch.setattr(module, "_MAX_SQUARE", 100)
    monkeypatch.setattr(module, "_OVERSAMPLING", 8)
    monkeypatch.setattr(module, "_BLOCK", 33)
    found = principal_components(x, 12)
    np.testing.assert_allclose(found.variances, exact.variances, rtol=0.01)
    np.testing.assert_allclose(found.directions.T @ found.directions, np.eye(12), atol=1e-5)
    # The spaces agree: the cosines of the angles between them.
    assert np.linalg.svd(found.directions[:, :8].T @ exact.directions, compute_uv=False).min() > 0.99
    assert_same(principal_components(x, 12), found, 1e-6)  # the same start again
    with pytest.raises(ValueError, match="vary in 59 directions only: at most 59 principal components, not 70"):
        principal_components(np.repeat(x[:60], 2, axis=0), 70)


@pytest.mark.parametrize(
    ("shape", "cap"),
    [((100, 60_000), 8192), ((60_000, 100), 8192), ((2000, 3000), 100)],
    ids=["dual", "primal", "neither"],
)
def test_memory_is_bounded(shape: tuple[int, int], cap: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The vectors, 24 MB, are never held: of 8 components the parts are below 1 MB, and blocks take a few."""
    mapped = np.memmap(tmp_path / "vectors", np.float32, "w+", shape=shape)
    mapped[:] = np.random.default_rng(0).standard_normal(shape, np.float32)
    monkeypatch.setattr(module, "_MAX_SQUARE", cap)
    monkeypatch.setattr(module, "_OVERSAMPLING", 8)
    monkeypatch.setattr(module, "_BLOCK", 64)
    principal_components(mapped[:, :50] if shape[1] == 60_000 else mapped[:50], 4)  # imports
    tracemalloc.start()
    try:
        principal_components(mapped, 8)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 7e6


def test_weights() -> None:
    """(λ / λ₁)^(−power): variances of 4 and 1 are both brought to one at a half, and to 2 and 1 at a quarter."""
    components = PrincipalComponents(np.zeros(3), np.eye(3, 2, dtype=np.float32), np.array([4.0, 1.0]))
    np.testing.assert_allclose(components.weights(0.5), [1, 2], rtol=1e-6)
    np.testing.assert_allclose(components.weights(0.25), [1, 2**0.5], rtol=1e-6)
    np.testing.assert_array_equal(components.weights(0), [1, 1])
