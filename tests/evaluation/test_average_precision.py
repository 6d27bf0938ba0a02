"""Average precision and recall against a walk down the ranked list, and against all orders of what is tied."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tfplaces.evaluation.average_precision import PROTOCOLS, Groups, average_precision, group, recall


def walk(relevant: list[bool], protocol: str) -> float:
    """Average precision of a ranked list: the loop of Oxford's compute_ap.cpp, or the precision at each hit."""
    old_recall, old_precision, oxford, plain, hits = 0.0, 1.0, 0.0, [], 0
    for j, hit in enumerate(relevant):
        hits += hit
        recall_now, precision = hits / sum(relevant), hits / (j + 1)
        oxford += (recall_now - old_recall) * (old_precision + precision) / 2
        old_recall, old_precision = recall_now, precision
        plain += [precision] * hit
    return oxford if protocol in ("oxford", "revisited") else sum(plain) / len(plain)


def in_groups(scores: list[float], kinds: list[str]) -> Groups:
    values, kinds = np.array(scores, np.float32), np.array(kinds)
    return group(values, values[kinds == "positive"], values[kinds == "skipped"])


def at_ranks(ranks: list[int]) -> Groups:
    """Positives at these ranks of a list without ties."""
    length = max(ranks) + 3
    return in_groups(list(range(length, 0, -1)), ["positive" if j in ranks else "wrong" for j in range(length)])


@pytest.mark.parametrize("protocol", PROTOCOLS)
@given(ranks=st.sets(st.integers(0, 60), min_size=1, max_size=20))
def test_without_ties_it_is_a_walk_down_the_list(ranks: set[int], protocol: str) -> None:
    expected = walk([j in ranks for j in range(max(ranks) + 1)], protocol)
    assert average_precision(at_ranks(sorted(ranks)), protocol) == pytest.approx(expected, rel=1e-12)
    for n in (1, 5, 10):
        assert recall(at_ranks(sorted(ranks)), n) == (min(ranks) < n)


# Few values, so that most are tied; junk and own images lie inside the ties too.
tied_lists = st.lists(
    st.tuples(st.sampled_from([0.25, 0.5, 0.75]), st.sampled_from(["positive", "wrong", "wrong", "skipped"])),
    min_size=1,
    max_size=7,
).filter(lambda images: any(kind == "positive" for _, kind in images))


@settings(max_examples=60, deadline=None)
@given(tied_lists)
def test_with_ties_it_is_the_mean_over_all_orders(images: list[tuple[float, str]]) -> None:
    """Every permutation that sorts the scores, junk taken out; the figures of each by the walk."""
    lists = []
    for order in itertools.permutations(images):
        scores = [score for score, _ in order]
        if scores == sorted(scores, reverse=True):
            lists.append([kind == "positive" for _, kind in order if kind != "skipped"])
    found = in_groups([score for score, _ in images], [kind for _, kind in images])
    for protocol in PROTOCOLS:
        expected = np.mean([walk(relevant, protocol) for relevant in lists])
        assert average_precision(found, protocol) == pytest.approx(expected, rel=1e-9)
    for n in (1, 2, 3, 10):
        expected = np.mean([any(relevant[:n]) for relevant in lists])
        assert recall(found, n) == pytest.approx(expected, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize(
    ("ranks", "plain", "oxford"),
    [
        ([0], 1, 1),
        ([0, 1, 2], 1, 1),
        ([1], 1 / 2, 1 / 4),  # precision goes from 0 at rank 0 to 1/2
        ([0, 2], (1 + 2 / 3) / 2, (1 + (1 / 2 + 2 / 3) / 2) / 2),
        ([3], 1 / 4, 1 / 8),
    ],
)
def test_worked_values(ranks: list[int], plain: float, oxford: float) -> None:
    assert average_precision(at_ranks(ranks), "plain") == pytest.approx(plain)
    assert average_precision(at_ranks(ranks), "oxford") == pytest.approx(oxford)


def test_worked_values_of_ties() -> None:
    """One positive among three equal images is first, second or third: (1 + 1/2 + 1/3) / 3; by trapezoids
    (1 + 1/4 + 1/6) / 3; it is the first of them in one order of three.
    """
    found = in_groups([0.5, 0.5, 0.5, 0.2], ["wrong", "positive", "wrong", "wrong"])
    assert average_precision(found, "plain") == pytest.approx(11 / 18)
    assert average_precision(found, "oxford") == pytest.approx(17 / 36)
    assert [recall(found, n) for n in (1, 2, 3, 4)] == pytest.approx([1 / 3, 2 / 3, 1, 1])


def test_a_hundred_thousand_equal_images_cost_no_more_than_a_list() -> None:
    """Half of all images are positive and all are tied: the expected precision at each position is a half, nearly."""
    scores = np.zeros(100_000, np.float32)
    found = group(scores, scores[:50_000], scores[:0])
    assert average_precision(found, "plain") == pytest.approx(0.5, abs=1e-4)
    assert recall(found, 10) == pytest.approx(1 - 0.5**10, abs=1e-6)
