"""Training tuples: their promises on data sets of every kind, what is remembered, and a run that goes on."""

from __future__ import annotations

import itertools

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.interruption import Interrupt
from tests.training.pixels import SIZE, Pixels, Reader
from tfplaces.common.errors import UserError
from tfplaces.datasets import GroundTruth, IndexLists, PlaceDataset
from tfplaces.describers import NonFiniteError
from tfplaces.layers import L2Normalization
from tfplaces.losses import TupleTripletLoss
from tfplaces.training import DivergedError, ModelTraining, NetVLADBatches, fit, netvlad_batches, train
from tfplaces.training.checkpoint import Checkpoint
from tfplaces.training.netvlad_batches import TupleMiner


def noise(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, *SIZE, 3), np.uint8)


def dataset_of(truth: GroundTruth, database: int, seed: int = 0) -> PlaceDataset:
    pixels = noise(database + len(truth.positives), seed)
    if truth.own_images is not None:
        pixels[database:] = pixels[truth.own_images]
    return PlaceDataset("x", Pixels(pixels[:database], "d"), Pixels(pixels[database:], "q"), truth)


def labelled(places: list[int], queries: list[int]) -> GroundTruth:
    return GroundTruth.of_labels(np.array(queries, np.int64), np.array(places, np.int64))


def located(count: int, queries: int, rng: np.random.Generator) -> GroundTruth:
    """Trained towards what is within 10 m, scored within 25 m, as Pittsburgh."""
    here, there = rng.uniform(0, 120, (queries, 2)), rng.uniform(0, 120, (count, 2))
    return GroundTruth(
        IndexLists.within(here, there, 25),
        training_positives=IndexLists.within(here, there, 10),
        query_positions=here,
        database_positions=there,
        radius=25,
    )


def among_itself(count: int, rng: np.random.Generator) -> GroundTruth:
    """One folder of photos: each is a query among the others."""
    here = rng.uniform(0, 150, (count, 2))
    return GroundTruth(
        IndexLists.within(here, here, 25),
        training_positives=IndexLists.within(here, here, 15),
        own_images=np.arange(count),
        query_positions=here,
        database_positions=here,
        radius=25,
    )


def lists(count: int, queries: int, rng: np.random.Generator) -> GroundTruth:
    """Positives, junk and what is never a negative, as lists and without any positions."""
    shown = [rng.choice(count, 6, replace=False) for _ in range(queries)]
    return GroundTruth(
        IndexLists.of([s[:2] for s in shown]),
        junk=IndexLists.of([s[2:4] for s in shown]),
        not_negatives=IndexLists.of([s[4:] for s in shown]),
    )


RNG = np.random.default_rng(5)
KINDS = {
    "positions": dataset_of(located(80, 40, RNG), 80),
    "one folder": dataset_of(among_itself(70, RNG), 70),
    "lists": dataset_of(lists(60, 25, RNG), 60),
    "labels": dataset_of(labelled(RNG.integers(0, 15, 70).tolist(), RNG.integers(0, 18, 20).tolist()), 70),
    "labels without queries": dataset_of(labelled(RNG.integers(0, 15, 70).tolist(), []), 70),
}


def descriptors_of(data: PlaceDataset) -> np.ndarray:
    return Reader().describe(np.concatenate([data.database.pixels, data.queries.pixels]))


def forbidden(data: PlaceDataset, anchor: int) -> set[int]:
    """What must never be a negative of an anchor, in the data set's own words."""
    count, labels = len(data.database), data.database_places
    images = set(data.truth.never_negative(anchor - count).tolist()) if anchor >= count else {anchor}
    if labels is not None:
        images |= set(np.flatnonzero(np.isin(labels, labels[sorted(images)])).tolist())
    return images


def anchors_of(data: PlaceDataset) -> list[int]:
    """Queries, then labelled database images, that have something to be drawn towards."""
    found = [len(data.database) + q for q in range(len(data.queries)) if len(data.truth.to_train(q))]
    if data.database_places is not None:
        labels = data.database_places.tolist()
        found += [k for k, label in enumerate(labels) if labels.count(label) > 1]
    return found


def towards(data: PlaceDataset, anchor: int) -> list[int]:
    count = len(data.database)
    if anchor >= count:
        return data.truth.to_train(anchor - count).tolist()
    assert data.database_places is not None
    return [k for k in np.flatnonzero(data.database_places == data.database_places[anchor]).tolist() if k != anchor]


def expected_tuple(
    data: PlaceDataset, x: np.ndarray, anchor: int, candidates: set[int], loss: TupleTripletLoss, wanted: int
) -> tuple[int, list[int], list[int]]:
    """The best positive, the hardest of the candidates and those of them that violate the margin, straightforwardly."""
    distance = np.square(x[anchor] - x).sum(1)
    if not loss.squared:
        distance = np.sqrt(distance)
    best = min(towards(data, anchor), key=lambda k: distance[k])
    hardest = sorted(candidates - forbidden(data, anchor), key=lambda k: distance[k])[:wanted]
    return best, hardest, [k for k in hardest if distance[k] < distance[best] + loss.margin]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("loss", [TupleTripletLoss(0.1), TupleTripletLoss(0.1**0.5, squared=False)])
def test_tuples_are_those_of_a_straightforward_search(kind: str, loss: TupleTripletLoss) -> None:
    """The whole database is sampled: the ten hardest of all images of other places."""
    data = KINDS[kind]
    x, anchors = descriptors_of(data), anchors_of(data)
    miner = TupleMiner(data, loss, sampled=10_000)
    assert len(miner) == len(anchors)
    mined = miner.mine(Reader(), np.arange(len(miner)), np.random.default_rng(0))
    found = {int(row[0]): row[1:] for part in mined for row in part}
    everything = set(range(len(data.database)))
    violating = set()
    for number, anchor in enumerate(anchors):
        best, hardest, bad = expected_tuple(data, x, anchor, everything, loss, 10)
        assert miner.remembered[number].tolist() == hardest + [-1] * (10 - len(hardest))
        negatives = bad or hardest
        assert found.pop(anchor).tolist() == [best, *negatives] + [-1] * (10 - len(negatives))
        violating |= {anchor} if bad else set()
    assert not found
    assert set(mined.violating[:, 0].tolist()) == violating and violating


@pytest.mark.parametrize("kind", KINDS)
def test_the_hardest_of_an_epoch_are_remembered_in_the_next(kind: str) -> None:
    """With a sample of five, what is hard is found bit by bit: the hardest of all the samples that have been drawn."""
    data, loss = KINDS[kind], TupleTripletLoss(0.1)
    x, anchors = descriptors_of(data), anchors_of(data)
    miner = TupleMiner(data, loss, negatives=3, sampled=5)
    rng, again = np.random.default_rng(1), np.random.default_rng(1)
    drawn: set[int] = set()
    for _ in range(6):
        miner.mine(Reader(), np.arange(len(miner)), rng)
        drawn |= set(again.choice(len(data.database), 5, replace=False, shuffle=False).tolist())
        for anchor in anchors:
            again.permutation(towards(data, anchor))
        for number, anchor in enumerate(anchors):
            _, hardest, _ = expected_tuple(data, x, anchor, drawn, loss, 3)
            assert miner.remembered[number].tolist() == hardest + [-1] * (3 - len(hardest))
    assert (miner.remembered >= 0).all()


@given(
    st.lists(st.integers(0, 6), min_size=2, max_size=25),
    st.lists(st.integers(0, 7), max_size=12),
    st.integers(1, 4),
    st.integers(1, 12),
    st.integers(0, 2**31),
)
def test_any_labels(places: list[int], queries: list[int], negatives: int, sampled: int, seed: int) -> None:
    data = dataset_of(labelled(places, queries), len(places))
    if not anchors_of(data):
        with pytest.raises(UserError, match="x: no query has a positive, there is nothing to train on"):
            TupleMiner(data, TupleTripletLoss())
        return
    miner = TupleMiner(data, TupleTripletLoss(), negatives=negatives, sampled=sampled)
    rng = np.random.default_rng(seed)
    for _ in range(2):
        mined = miner.mine(Reader(), rng.permutation(len(miner)), rng)
        for row in np.concatenate(mined).tolist():
            images = [k for k in row[2:] if k >= 0]
            assert row[1] in towards(data, row[0]) and images and not forbidden(data, row[0]) & set(images)
            assert len(set(images)) == len(images) and row[2:] == images + [-1] * (negatives - len(images))


def test_only_so_many_descriptors_are_held(monkeypatch: pytest.MonkeyPatch) -> None:
    """Queries described seven at a time give the tuples that they give at once; a photo is described once a time."""
    data, loss = KINDS["one folder"], TupleTripletLoss()
    at_once = TupleMiner(data, loss, sampled=1000)
    reader = Reader()
    expected = at_once.mine(reader, np.arange(len(at_once)), np.random.default_rng(0))
    assert reader.described == len(data.database)  # queries are database images, and so are all positives
    monkeypatch.setattr(netvlad_batches, "_MAX_HELD", 7 * 24)
    miner = TupleMiner(data, loss, sampled=1000)
    found = miner.mine(Reader(), np.arange(len(miner)), np.random.default_rng(0))
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    np.testing.assert_array_equal(miner.remembered, at_once.remembered)


def test_a_place_of_many_images_is_not_described_whole() -> None:
    """Of 150 positives, and a sample of two, 100 and the query are described."""
    data = dataset_of(labelled([0] * 150 + [1] * 50, [0]), 200)
    reader = Reader()
    miner = TupleMiner(data, TupleTripletLoss(), sampled=2)
    miner.mine(reader, np.array([0]), np.random.default_rng(0))
    assert 101 <= reader.described <= 103


# -- batches -----------------------------------------------------------------------------------------------------------


def network(dim: int = 6) -> keras.Model:
    keras.utils.set_random_seed(0)
    inputs = keras.Input((*SIZE, 3))
    x = keras.layers.Rescaling(1 / 128, -1)(inputs)
    model = keras.Model(inputs, L2Normalization()(keras.layers.Dense(dim)(keras.layers.Flatten()(x))))
    return model


def epoch(batches: NetVLADBatches, number: int) -> list[np.ndarray]:
    return list(itertools.islice(itertools.chain.from_iterable(batches.choose(number)), len(batches)))


@pytest.mark.parametrize("kind", KINDS)
def test_an_epoch_goes_through_the_queries_once(kind: str) -> None:
    data = KINDS[kind]
    batches = NetVLADBatches(network(), data, loss=TupleTripletLoss(2.0), sampled=20, refresh=12, negatives=5)
    found = epoch(batches, 0)
    assert len(found) == len(batches) == -(-len(anchors_of(data)) // 4)
    assert all(1 <= len(batch) <= 4 and batch.shape[1] == 7 and batch.dtype == np.int64 for batch in found)
    # A margin of 2 is violated by nearly everything.
    trained = [int(q) for batch in found for q in batch[:, 0]]
    assert sorted(trained) == sorted(anchors_of(data))


def test_the_order_depends_on_the_seed_and_the_epoch() -> None:
    data = KINDS["positions"]

    def run(seed: int, numbers: list[int]) -> list[list]:
        batches = NetVLADBatches(network(), data, sampled=20, refresh=12, seed=seed)
        return [[batch.tolist() for batch in epoch(batches, number)] for number in numbers]

    assert run(3, [0, 1]) == run(3, [0, 1])
    assert run(3, [0])[0] != run(3, [1])[0] != run(4, [1])[0]
    # What is remembered makes an epoch depend on the one before.
    assert run(3, [0, 1])[1] != run(3, [1])[0]


@pytest.mark.parametrize("number, blocks", [(0, 5), (4, 5), (5, 3), (10, 2), (15, 1), (500, 1)])
def test_refreshing_gets_rarer(number: int, blocks: int) -> None:
    """Of 36 queries 8 at a time, from epoch 5 on 16, from epoch 10 on 32, from epoch 15 on 64."""
    data = dataset_of(labelled([k // 2 for k in range(36)], []), 36)
    batches = NetVLADBatches(network(), data, refresh=8)
    assert len(list(batches.choose(number))) == blocks
    assert len(list(NetVLADBatches(network(), data, refresh=7, doubled_every=None).choose(number))) == 5


def test_queries_whose_negatives_violate_nothing_are_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    """Eight places of four images each, all the same but for those of place 0, which look like those of place 1."""
    pixels = np.repeat(noise(8, 1), 4, axis=0)
    pixels[:4] = pixels[4:8]
    data = PlaceDataset("x", Pixels(pixels, "d"), Pixels(pixels[:0], "q"), labelled([k // 4 for k in range(32)], []))
    batches = NetVLADBatches(network(24), data, loss=TupleTripletLoss(1e-3))
    found = epoch(batches, 0)
    assert len(found) == 8
    # Eight queries violate the margin, with the four images of the other place each: one for each batch.
    for batch in found:
        assert batch.shape == (1, 12) and batch[0, 0] < 8
        other = 4 if batch[0, 0] < 4 else 0
        assert sorted(batch[0, 2:6].tolist()) == list(range(other, other + 4)) and (batch[0, 6:] == -1).all()
    assert "epoch 1: 8 of 32 queries have a negative that violates the margin; the others" in capsys.readouterr().err


def test_batches_without_a_violating_query_have_others() -> None:
    """Eight places of four images each that all look alike: nothing violates, and yet there are eight batches."""
    pixels = np.repeat(noise(8, 1), 4, axis=0)
    data = PlaceDataset("x", Pixels(pixels, "d"), Pixels(pixels[:0], "q"), labelled([k // 4 for k in range(32)], []))
    found = epoch(NetVLADBatches(network(24), data, loss=TupleTripletLoss(1e-3)), 0)
    assert len(found) == 8 and all(batch.shape == (1, 12) and (batch >= 0).all() for batch in found)


def test_images_and_targets() -> None:
    data = KINDS["positions"]
    batches = NetVLADBatches(network(), data, sampled=20)
    batch = np.array([[80, 3, 5, -1, -1], [81, 4, 7, 6, -1]])
    targets = batches.targets(batch, np.empty(0))
    assert targets.tolist() == [[0, 0], [0, 1], [0, 2], [1, 0], [1, 1], [1, 2], [1, 2]]
    batches.start_epoch(0)
    images, targets = batches[0]
    first = batches._chosen[0]
    wanted = first[first >= 0]
    both = np.concatenate([data.database.pixels, data.queries.pixels])
    np.testing.assert_array_equal(images, both[wanted])
    assert len(targets) == len(images) and (targets[:, 1] == 0).sum() == len(first)
    batches.close()


@pytest.mark.parametrize("replicas, expected", [(1, 3), (2, 2), (4, 4), (8, 8)])
def test_each_of_many_devices_gets_an_image_of_a_small_batch(replicas: int, expected: int) -> None:
    """One tuple of three images; its loss stays what it is when some of them come twice."""
    batches = NetVLADBatches(network(), KINDS["lists"])
    batches.start_epoch(0)
    batches._chosen[0] = np.array([[60, 3, 5, -1]])
    batches.for_replicas(replicas)
    images, targets = batches[0]
    assert len(images) == len(targets) == expected
    if replicas > 2:
        x, loss = network()(images.astype(np.float32)), TupleTripletLoss(3.0)
        assert float(loss(targets, x)) == pytest.approx(float(loss(targets[:3], x[:3])), rel=1e-5) != 0
    batches.close()


def test_images_are_augmented_by_seed_epoch_and_step() -> None:
    def augmentation(images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        return np.full_like(images, rng.integers(256))

    batches = NetVLADBatches(network(), KINDS["positions"], sampled=20, augmentation=augmentation, seed=3)
    batches.start_epoch(1)
    assert (batches[1][0] == np.random.default_rng([3, 1, 1]).integers(256)).all()
    batches.close()


@pytest.mark.parametrize(
    "options, message",
    [
        ({"tuples": 0}, "tuples=0: at least 1"),
        ({"refresh": 0}, "refresh=0: at least 1"),
        ({"doubled_every": 0}, "doubled_every=0: at least 1"),
        ({"negatives": 0}, "negatives=0: at least 1"),
        ({"sampled": 0}, "sampled=0: at least 1"),
    ],
)
def test_numbers_out_of_range(options: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        NetVLADBatches(network(), KINDS["lists"], **options)


def test_nothing_to_tell_from() -> None:
    data = dataset_of(labelled([0, 0, 0], []), 3)
    with pytest.raises(UserError, match="x: its images show one place"):
        epoch(NetVLADBatches(network(), data), 0)


# -- training ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", [17, *(pytest.param(step, marks=pytest.mark.slow) for step in (1, 40))])
def test_an_interrupted_run_ends_as_if_it_had_not_been(step: int, tmp_path) -> None:
    """16 steps an epoch, of three epochs: interrupted in the first, the second and the third.

    The sample of five is so small that what is remembered decides what is trained on.
    """
    data = KINDS["positions"]

    def go(checkpoint: Checkpoint | None, callbacks=()) -> tuple[keras.Model, NetVLADBatches]:
        model = network()
        batches = NetVLADBatches(model, data, tuples=2, negatives=3, sampled=5, refresh=6, seed=1)
        train(
            model, batches, data, epochs=3, loss=batches.loss, learning_rate=0.01, callbacks=callbacks,
            checkpoint=checkpoint, keep_best=False,
        )  # fmt: skip
        return model, batches

    expected, whole = go(None)
    assert len(whole) == 16
    checkpoint = Checkpoint(tmp_path / "train.npz")
    with pytest.raises(KeyboardInterrupt):
        go(checkpoint, [Interrupt(step)])
    found, again = go(checkpoint)
    for ours, theirs in zip(found.get_weights(), expected.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    np.testing.assert_array_equal(again.state()["remembered"], whole.state()["remembered"])


def test_a_network_that_diverges_before_it_chooses_again() -> None:
    """After one step its descriptors are no numbers any more, and the next queries need them."""
    model, data = network(), KINDS["positions"]
    batches = NetVLADBatches(model, data, sampled=20, refresh=4)
    before = model.get_weights()
    with pytest.raises(DivergedError, match="training diverged in epoch 1: a descriptor is not finite any more; lower"):
        train(model, batches, data, epochs=2, loss=batches.loss, learning_rate=float("inf"))
    for ours, theirs in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_a_network_that_was_broken_before_is_not_said_to_diverge() -> None:
    model = network()
    model.set_weights([np.full_like(w, np.nan) for w in model.get_weights()])
    batches = NetVLADBatches(model, KINDS["positions"], sampled=20, refresh=4)
    training = ModelTraining(model)
    training.compile("sgd", batches.loss)
    with pytest.raises(NonFiniteError, match="mining: the descriptor of d"):
        fit(training, batches, 1)


def test_what_is_remembered_is_taken_up_by_another_object() -> None:
    data = KINDS["positions"]
    whole, other = (NetVLADBatches(network(), data, sampled=5, negatives=3) for _ in range(2))
    epoch(whole, 0)
    other.set_state({name: array.copy() for name, array in whole.state().items()})
    for ours, theirs in zip(epoch(other, 1), epoch(whole, 1), strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize(
    "state", [{}, {"remembered": np.zeros((3, 10), np.int32)}, {"remembered": np.full((25, 10), 60, np.int32)}]
)
def test_the_memory_of_other_batches_is_refused(state: dict, tmp_path) -> None:
    with pytest.raises(UserError, match=r"remembers no negatives|no image of the database"):
        NetVLADBatches(network(), KINDS["lists"]).set_state(state)


def test_a_checkpoint_of_other_queries_is_refused(tmp_path) -> None:
    checkpoint = Checkpoint(tmp_path / "train.npz")

    def go(data: PlaceDataset) -> None:
        model = network()
        batches = NetVLADBatches(model, data, sampled=5)
        train(model, batches, data, epochs=1, loss=batches.loss, checkpoint=checkpoint)

    go(KINDS["positions"])
    with pytest.raises(UserError, match=r"train.npz: not the state of this run .*; remove it to start anew"):
        go(KINDS["lists"])


def test_training_finds_what_tells_places_apart() -> None:
    """Twelve places, three images each: the first pixels say which, the others are noise."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (36, *SIZE, 3)).astype(np.uint8)
    pixels[:, 0, :2] = np.repeat(rng.integers(0, 256, (12, 2, 3)), 3, axis=0)
    data = PlaceDataset("x", Pixels(pixels, "d"), Pixels(pixels[:0], "q"), labelled([k // 3 for k in range(36)], []))
    model = network()
    batches = NetVLADBatches(model, data, loss=TupleTripletLoss(0.2))

    def loss() -> float:
        mined = TupleMiner(data, batches.loss).mine(batches._describer, np.arange(36), np.random.default_rng(0))
        return len(mined.violating)

    before = loss()
    model.compile(keras.optimizers.Adam(0.01), batches.loss)
    batches.start_epoch(0)
    model.fit(batches, epochs=30, verbose=0, callbacks=[batches.driver()], shuffle=False)
    assert loss() < 0.5 * before
