"""Miniatures of Oxford and Paris Buildings, unpacked as people have them, and what can be wrong with them."""

import itertools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tfplaces.common.errors import DataWarning
from tfplaces.datasets import (
    GroundTruth,
    Images,
    IndexLists,
    PlaceDataset,
    cached,
    hold_out,
    load_dataset,
    load_image,
    take_queries,
    training_sets,
)
from tfplaces.evaluation import score
from tfplaces.training.mining import PairMiner

pytestmark = pytest.mark.filterwarnings("ignore::tfplaces.common.errors.DataWarning")
HEIGHT, WIDTH = 30, 40
OXFORD = [f"all_souls_{k:06d}" for k in range(4)] + [f"radcliffe_camera_{k:06d}" for k in range(4)]
# Query: image, box, good, ok, junk, by the numbers of the images.
TRUTH = {
    "all_souls_1": (0, (10, 8, 20, 16), [0, 1], [2], [3]),
    "radcliffe_camera_1": (4, (5, 5, 30, 25), [4], [5, 6], []),
}


def write_images(folder: Path, names: list[str]) -> None:
    """Noise, each different."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        pixels = np.random.default_rng(sum(name.encode())).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{name}.jpg", quality=95)


def write_truth(folder: Path, names: list[str], prefix: str, truth: dict = TRUTH) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for query, (image, box, *lists) in truth.items():
        (folder / f"{query}_query.txt").write_text(f"{prefix}{names[image]} {' '.join(map(str, box))}\n")
        for kind, numbers in zip(("good", "ok", "junk"), lists, strict=True):
            (folder / f"{query}_{kind}.txt").write_text("".join(f"{names[k]}\n" for k in numbers))


@pytest.fixture
def oxford(tmp_path: Path) -> Path:
    """Both archives unpacked beside each other."""
    write_images(tmp_path / "jpg", OXFORD)
    write_truth(tmp_path / "gt_files_170407", OXFORD, "oxc1_")
    return tmp_path


def lists(rows: list[np.ndarray]) -> list[list[int]]:
    assert all(row.dtype == np.int64 for row in rows)
    return [row.tolist() for row in rows]


@pytest.mark.parametrize(
    ("images", "truth"),
    [("jpg", "gt_files_170407"), (".", "."), (".", "gt"), ("images/oxbuild_images", "."), ("a/b/c", "a/b/gt")],
)
def test_oxford_wherever_it_is_unpacked(images: str, truth: str, tmp_path: Path) -> None:
    write_images(tmp_path / images, OXFORD)
    write_truth(tmp_path / truth, OXFORD, "oxc1_")
    (tmp_path / "readme.txt").write_text("hello")
    (tmp_path / images / "._all_souls_000000.jpg").write_text("not an image")
    dataset = load_dataset(f"oxford5k:{tmp_path}")
    root = "" if images == "." else images + "/"
    assert dataset.database.names == [f"{root}{name}.jpg" for name in OXFORD]
    assert dataset.queries.names == [f"{root}{OXFORD[0]}.jpg", f"{root}{OXFORD[4]}.jpg"]
    assert lists(dataset.positives) == [[0, 1, 2], [4, 5, 6]]
    assert lists(dataset.junk) == [[3], []]
    assert dataset.own_images.tolist() == [0, 4]
    assert [dataset.others(q).tolist() for q in (0, 1)] == [[1, 2], [5, 6]]
    assert [dataset.ignored(q).tolist() for q in (0, 1)] == [[0, 3], [4]]
    assert (dataset.protocol, dataset.database_places) == ("oxford", None)
    expected = load_image(tmp_path / images / f"{OXFORD[1]}.jpg", (9, 7))
    np.testing.assert_array_equal(dataset.database.read(1, (9, 7)), expected)


def test_oxford_through_links(oxford: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    for part in ("jpg", "gt_files_170407"):
        (elsewhere / part).symlink_to(oxford / part)
    assert load_dataset(f"oxford5k:{elsewhere}").database.names == load_dataset(f"oxford5k:{oxford}").database.names


def test_paris(tmp_path: Path) -> None:
    """Sub-folders by landmark; what is known to be corrupt is left out, there or not, named or not."""
    names = [f"paris_{place}_{k:06d}" for place in ("defense", "louvre") for k in range(4)]
    for place in ("defense", "louvre"):
        write_images(tmp_path / "paris" / place, [name for name in names if place in name])
    (tmp_path / "paris/louvre/paris_louvre_000136.jpg").write_text("<title>302 Found</title>")
    gt = tmp_path / "paris_120310"
    write_truth(gt, names, "")
    for kind, corrupt in (("ok", "paris_louvre_000136"), ("junk", "paris_pompidou_000640")):
        with open(gt / f"all_souls_1_{kind}.txt", "a") as file:
            file.write(f"{corrupt}\n")
    dataset = load_dataset(f"paris6k:{tmp_path}")
    assert dataset.database.names == [f"paris/{name.split('_')[1]}/{name}.jpg" for name in names]
    assert lists(dataset.positives) == [[0, 1, 2], [4, 5, 6]]
    assert lists(dataset.junk) == [[3], []]
    assert [dataset.database.read(k, (4, 4)).shape for k in range(8)] == [(4, 4, 3)] * 8


def test_the_counts_are_noted_beside_the_published_ones(oxford: Path) -> None:
    with pytest.warns(DataWarning, match="2 of 55 queries and 8 of 5,063 database images"):
        load_dataset(f"oxford5k:{oxford}")


def test_the_real_ground_truth(tfplaces_data: Path, tmp_path: Path) -> None:
    """55 queries; the images that it names are made here, as small as they can be for the boxes."""
    folder = tfplaces_data / "importers" / "oxford_gt"
    truth = {file.name: file.read_text() for file in folder.glob("*.txt")}
    names = {line for name, text in truth.items() if "_query" not in name for line in text.split()}
    names |= {text.split()[0].removeprefix("oxc1_") for name, text in truth.items() if "_query" in name}
    for name, text in truth.items():
        (tmp_path / name).write_text(text)
    first, *others = sorted(names)
    Image.new("L", (1024, 1024)).save(tmp_path / f"{first}.jpg")
    for name in others:
        (tmp_path / f"{name}.jpg").symlink_to(tmp_path / f"{first}.jpg")
    dataset = load_dataset(f"oxford5k:{tmp_path}")
    assert len(dataset.queries) == 55
    assert len(dataset.answerable()) == 55


def test_the_corrupt_images_of_paris() -> None:
    from tfplaces.datasets.oxford_paris import PARIS_CORRUPT

    assert len(PARIS_CORRUPT) == 6412 - 6392


@pytest.mark.parametrize(
    ("box", "options", "rows", "columns"),
    [
        # Pixels are counted from 1 and the last is part of the box.
        ((10, 8, 20, 16), "receptive_field=0", (7, 16), (9, 20)),
        ((10, 8, 20, 16), "receptive_field=6", (4, 19), (6, 23)),
        ((10, 8, 20, 16), "protocol=crop&receptive_field=16", (0, 24), (1, 28)),
        ((10, 8, 20, 16), "receptive_field=5", (5, 19), (7, 23)),  # 5.5, 18.5, 7.5 and 22.5, halves up
        ((10.4, 8.6, 20.4, 16.6), "receptive_field=0", (8, 17), (9, 20)),
        ((-3, 0, 99.5, 7), "receptive_field=2", (0, 8), (0, WIDTH)),
        ((10, 8, 20, 16), "", (0, HEIGHT), (0, WIDTH)),  # 98 pixels more on each side
        ((10, 8, 20, 16), "protocol=full", (0, HEIGHT), (0, WIDTH)),
    ],
)
def test_the_part_of_the_image_that_is_the_query(
    box: tuple[float, ...], options: str, rows: tuple[int, int], columns: tuple[int, int], oxford: Path
) -> None:
    write_truth(oxford / "gt_files_170407", OXFORD, "oxc1_", {"all_souls_1": (0, box, [0, 1], [2], [3])})
    dataset = load_dataset(f"oxford5k:{oxford}" + ("?" if options else "") + options)
    whole = load_image(oxford / "jpg" / f"{OXFORD[0]}.jpg")
    expected = whole[slice(*rows), slice(*columns)]
    np.testing.assert_array_equal(dataset.queries.read(0, expected.shape[:2]), expected)
    resized = Image.fromarray(expected).resize((24, 16), Image.Resampling.BILINEAR)  # too large for a decoding at 1/2
    np.testing.assert_array_equal(dataset.queries.read(0, (16, 24)), resized)


def test_the_box_is_of_the_stored_pixels(oxford: Path) -> None:
    """An image on its side is cropped as annotated, then turned."""
    path = oxford / "jpg" / f"{OXFORD[0]}.jpg"
    stored = load_image(path)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(stored).save(path, quality=95, exif=exif)
    stored = np.asarray(Image.open(path))
    query = load_dataset(f"oxford5k:{oxford}?receptive_field=0").queries.read(0, (11, 9))
    np.testing.assert_array_equal(query, np.rot90(stored[7:16, 9:20], -1))


def compute_ap(positive: set[str], junk: set[str], ranked: list[str]) -> float:
    """compute_ap.cpp, line by line."""
    old_recall, old_precision, ap = 0.0, 1.0, 0.0
    intersect_size = j = 0
    for name in ranked:
        if name in junk:
            continue
        if name in positive:
            intersect_size += 1
        recall = intersect_size / len(positive)
        precision = intersect_size / (j + 1.0)
        ap += (recall - old_recall) * ((old_precision + precision) / 2.0)
        old_recall, old_precision = recall, precision
        j += 1
    return ap


class Names(Images):
    """Images that are never read."""

    def __init__(self, names: list[str]):
        self.names = names

    def read(self, index: int, size: tuple[int, int]) -> np.ndarray:
        raise AssertionError


@given(
    st.permutations(range(12)),
    st.lists(st.sampled_from(["positive", "junk", "negative"]), min_size=12, max_size=12),
    st.integers(-1, 11),
)
def test_scores_are_those_of_compute_ap_and_of_a_list_without_junk(
    order: list[int], kinds: list[str], own: int
) -> None:
    """For any ranking; the query's own image may be positive, junk, negative or not there."""
    of = {kind: {k for k in range(12) if kinds[k] == kind} for kind in kinds}
    positive, junk = of.get("positive", set()), of.get("junk", set())
    truth = GroundTruth(IndexLists.of([list(positive)]), junk=IndexLists.of([list(junk)]), own_images=np.array([own]))
    dataset = PlaceDataset("mine", Names([""] * 12), Names([""]), truth, protocol="oxford")
    similarity = np.zeros((1, 12), np.float32)
    similarity[0, order] = np.linspace(1, 0, 12)
    if not positive - {own}:
        with pytest.raises(ValueError, match="no query has a positive"):
            score(dataset, similarity, np.eye(12, dtype=np.float32))
        return
    result = score(dataset, similarity, np.eye(12, dtype=np.float32))
    assert result.map == pytest.approx(100 * compute_ap(positive, junk, order))
    shown = [k for k in order if k not in junk and k != own]
    assert result.recall == {n: 100.0 * any(k in positive for k in shown[:n]) for n in (1, 5, 10, 20, 100)}


def test_worked_value(oxford: Path) -> None:
    """Ranked: junk, the query itself, a negative, a positive, …: AP counts the second, recall neither of the two."""
    dataset = load_dataset(f"oxford5k:{oxford}")
    queries = np.zeros((2, 8), np.float32)
    queries[0, [3, 0, 7, 1, 2]] = [0.9, 0.8, 0.7, 0.6, 0.5]
    queries[1, [4, 5, 6]] = [0.9, 0.8, 0.7]
    result = score(dataset, queries, np.eye(8, dtype=np.float32))
    # Positives at ranks 0, 2 and 3 of the list without junk.
    first = ((1 + 1) / 2 + (1 / 2 + 2 / 3) / 2 + (2 / 3 + 3 / 4) / 2) / 3
    assert result.map == pytest.approx(100 * (first + 1) / 2)
    assert result.recall == {1: 50, 5: 100, 10: 100, 20: 100, 100: 100}
    assert (result.queries, result.database, result.skipped_queries) == (2, 8, 0)


def test_a_query_without_positives_is_left_out(oxford: Path) -> None:
    """So is one whose only positive is its own image: there is nothing to be found."""
    gt = oxford / "gt_files_170407"
    write_truth(
        gt, OXFORD, "oxc1_", {"empty_1": (7, (1, 1, 9, 9), [], [], [0]), "own_1": (7, (1, 1, 9, 9), [7], [], [])}
    )
    dataset = load_dataset(f"oxford5k:{oxford}")
    assert lists(dataset.positives) == [[0, 1, 2], [], [7], [4, 5, 6]]
    assert dataset.answerable() == [0, 3]
    result = score(dataset, np.eye(8, dtype=np.float32)[[0, 7, 7, 4]], np.eye(8, dtype=np.float32))
    assert (result.queries, result.skipped_queries) == (2, 2)


def test_some_queries_keep_their_junk_and_their_own_images(oxford: Path) -> None:
    dataset = cached(load_dataset(f"oxford5k:{oxford}?receptive_field=0"))
    second = take_queries(dataset, np.array([1]))
    assert (second.spec, second.protocol, second.database) == (dataset.spec, "oxford", dataset.database)
    assert second.queries.names == [dataset.queries.names[1]]
    assert (lists(second.positives), lists(second.junk), second.own_images.tolist()) == ([[4, 5, 6]], [[]], [4])
    np.testing.assert_array_equal(second.queries.read(0, (8, 8)), dataset.queries.read(1, (8, 8)))
    train, val = hold_out(dataset)
    assert (lists(train.junk), lists(val.junk)) == ([[]], [[3]])
    assert (train.own_images.tolist(), val.own_images.tolist()) == ([1], [0])
    swapped = take_queries(dataset, [1, 0])
    queries = np.random.default_rng(0).random((2, 8), np.float32)
    database = np.eye(8, dtype=np.float32)
    assert score(swapped, queries[::-1], database) == score(dataset, queries, database)
    assert len(take_queries(dataset, []).queries) == 0


def test_training_takes_junk_and_own_images_for_neither_right_nor_wrong() -> None:
    """Eight queries in pairs: junk of the first of a pair is positive of the second, own images are in the database."""
    rng = np.random.default_rng(0)

    class Noise(Images):
        def __init__(self, count: int):
            self.names = [str(k) for k in range(count)]

        def read(self, index: int, size: tuple[int, int]) -> np.ndarray:
            return rng.integers(0, 256, (*size, 3), np.uint8)

    class Describer:
        input_size, descriptor_dim = (1, 2), 6

        def describe(self, images: np.ndarray) -> np.ndarray:
            return images.reshape(len(images), -1).astype(np.float32)

    own = np.arange(0, 32, 4)
    positives = [np.array([k, k + 1, k + 2]) for k in own]
    junk = [np.array([k + 3, (k + 5) if q % 2 == 0 else (k - 1)]) for q, k in enumerate(own)]
    truth = GroundTruth(IndexLists.of(positives), junk=IndexLists.of(junk), own_images=own)
    dataset = PlaceDataset("mine", Noise(32), Noise(8), truth, protocol="oxford")
    miner = PairMiner(dataset, 8)
    seen = 0
    for _ in range(20):
        for batch in itertools.chain.from_iterable(miner.epoch(Describer(), 0, 8)):
            seen += len(batch)
            images = set(batch.ravel().tolist())
            for image, positive in batch.tolist():
                q = image - 32
                assert positive in positives[q] and positive != own[q]
                known = {*positives[q].tolist(), *junk[q].tolist(), own[q]}
                assert images & known == {positive}
                # Nor does the image of another query come in that is known to the first.
                assert not known & {own[other - 32] for other, _ in batch.tolist() if other != image}
    assert seen > 20 * 4


def test_judging_an_epoch(oxford: Path) -> None:
    train, val = training_sets(f"oxford5k:{oxford}")
    # The database that is trained on is without the three positives of the query that judges; its junk stays.
    assert (len(train.queries), len(val.queries), len(train.database), len(val.database)) == (1, 1, 5, 8)


def test_the_matches_in_a_report_are_those_that_recall_counts(oxford: Path) -> None:
    from tfplaces.workflows.shown_queries import shown_queries

    queries = np.zeros((2, 8), np.float32)
    queries[0, [3, 0, 7, 1, 2]] = [0.9, 0.8, 0.7, 0.6, 0.5]
    queries[1, [4, 5]] = [0.9, 0.8]
    (first, second), _ = shown_queries(load_dataset(f"oxford5k:{oxford}"), queries, np.eye(8, dtype=np.float32))
    assert (first.correct, second.correct[:2]) == ([False, True, True, False, False], [True, False])
    np.testing.assert_array_equal(first.matches[0], load_image(oxford / "jpg" / f"{OXFORD[7]}.jpg", (120, 160)))


Spoil = Callable[[Path], object]


def gt(name: str, text: str | bytes) -> Spoil:
    data = text if isinstance(text, bytes) else text.encode()
    return lambda root: (root / "gt_files_170407" / name).write_bytes(data)


def remove(*names: str) -> Spoil:
    return lambda root: [(root / name).unlink() for name in names]


QUERY = "gt_files_170407/all_souls_1_query.txt: "


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (remove(*(f"jpg/{name}.jpg" for name in OXFORD)), "no .jpg images there"),
        (remove("jpg/all_souls_000001.jpg", "jpg/radcliffe_camera_000002.jpg"),
         "2 of the 7 images that its ground truth names are missing, first: all_souls_000001.jpg"),
        (remove("jpg/all_souls_000000.jpg"), "1 of the 7 images .* missing, first: all_souls_000000.jpg"),
        (remove("jpg/all_souls_000003.jpg"), "1 of the 7 images .* missing, first: all_souls_000003.jpg"),
        (remove(*(f"gt_files_170407/{q}_query.txt" for q in TRUTH)), "no ground truth .QUERY_query.txt"),
        (remove("gt_files_170407/all_souls_1_junk.txt"),
         "1 of the 6 lists of its ground truth missing, first: gt_files_170407/all_souls_1_junk.txt"),
        (lambda root: write_truth(root / "old", OXFORD, "oxc1_"),
         "ground truth in 2 folders, gt_files_170407 and old; leave one"),
        (lambda root: write_images(root / "images_crop_196", OXFORD[:1]),
         "images_crop_196/all_souls_000000.jpg and jpg/all_souls_000000.jpg have one name; leave one copy"),
        (gt("all_souls_1_query.txt", ""), QUERY + "expected NAME x1 y1 x2 y2, but it has ''"),
        (gt("all_souls_1_query.txt", "oxc1_all_souls_000000 1 2 3"), QUERY + "expected NAME .*all_souls_000000 1 2 3'"),
        (gt("all_souls_1_query.txt", "oxc1_all_souls_000000 1 2 3 4 5"), QUERY + "expected NAME x1 y1 x2 y2"),
        (gt("all_souls_1_query.txt", "oxc1_all_souls_000000 1 2 3 four"), QUERY + "expected NAME x1 y1 x2 y2"),
        (gt("all_souls_1_query.txt", b"\xff\xfe\x00" * 9), QUERY + "expected NAME x1 y1 x2 y2"),
        (gt("all_souls_1_query.txt", "oxc1_all_souls_000000 9 2 9 4"), QUERY + "the box 9 2 9 4 is empty"),
        (gt("all_souls_1_query.txt", "oxc1_all_souls_000000 1 4 3 2"), QUERY + "the box 1 4 3 2 is empty"),
        (gt("all_souls_1_query.txt", "oxc1_all_souls_000000 1 nan 3 4"), QUERY + "the box 1 nan 3 4 is empty"),
        (gt("all_souls_1_query.txt", "oxc1_all_souls_000000 1 1 inf 4"), QUERY + "the box 1 1 inf 4 is empty"),
        (gt("all_souls_1_query.txt", "oxc1_all_souls_000000 500 1 501 4"),
         "jpg/all_souls_000000.jpg: the query's box 500 1 501 4 lies outside its 40 x 30 pixels"),
        (gt("all_souls_1_junk.txt", "all_souls_000001\n"), QUERY + "all_souls_000001 is listed both as junk and"),
        (gt("all_souls_1_ok.txt", "all_souls_000002.jpg\n"), "missing, first: all_souls_000002.jpg.jpg"),
        (gt("all_souls_1_ok.txt", b"\xff\xfe\x00\n"), "1 of the 7 images .* missing"),
        (lambda root: (root / "jpg/all_souls_000000.jpg").write_bytes(b"hello"),
         "jpg/all_souls_000000.jpg: cannot be read as an image"),
    ],
)  # fmt: skip
def test_what_can_be_wrong(spoil: Spoil, message: str, oxford: Path) -> None:
    spoil(oxford)
    with pytest.raises(ValueError, match=f"^(oxford5k:{oxford}: |{oxford}/).*{message}") as error:
        load_dataset(f"oxford5k:{oxford}?receptive_field=0")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["../secret", "../../secret", "jpg/all_souls_000000", "{root}/secret", "..\\secret"])
@pytest.mark.parametrize("file", ["query", "ok"])
def test_names_do_not_lead_outside(name: str, file: str, oxford: Path) -> None:
    """Names are looked up, not opened: not even a file that is there."""
    root = oxford / "set"
    write_images(root / "jpg", OXFORD)
    write_truth(root / "gt", OXFORD, "oxc1_")
    write_images(oxford, ["secret"])
    name = name.format(root=oxford)
    (root / "gt" / f"all_souls_1_{file}.txt").write_text(f"{name} 1 2 3 4" if file == "query" else name)
    with pytest.raises(ValueError, match=r"1 of the [78] images") as error:
        load_dataset(f"oxford5k:{root}")
    assert f"first: {name}.jpg" in str(error.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("protocol=both", "protocol=both is not one of crop, full"),
        ("receptive_field=-1", "receptive_field=-1, but it must be 0 or more"),
        ("receptive_field=big", "receptive_field=big is not a whole number"),
        ("split=test", "unknown option 'split'; oxford5k has protocol, receptive_field"),
    ],
)
def test_options_out_of_range(options: str, message: str, oxford: Path) -> None:
    with pytest.raises(ValueError, match=f"^oxford5k:{oxford}.*: {message}"):
        load_dataset(f"oxford5k:{oxford}?{options}")


def test_no_folder(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"^paris6k:{tmp_path}/nothing: no such folder"):
        load_dataset(f"paris6k:{tmp_path}/nothing")
