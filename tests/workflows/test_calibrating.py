"""How sure an index's answers are, learnt from queries whose places are known."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from index_files import PixelDescriber, write_model
from PIL import Image

from tfplaces.datasets import ImageFiles, PlaceDataset, load_dataset, take_queries
from tfplaces.index import Place, open_index
from tfplaces.workflows import calibrating, indexing, querying

PLACES = 60


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database image of each place, and a query that is the noisier the later the place."""
    folder = tmp_path_factory.mktemp("town")
    for part in ("database", "queries"):
        (folder / part).mkdir()
    names = [f"{number}.png" for number in range(PLACES)]
    for number, name in enumerate(names):
        rng = np.random.default_rng(number)
        pixels = rng.integers(0, 256, (8, 8, 3))
        Image.fromarray(pixels.astype(np.uint8)).save(folder / "database" / name)
        noisy = pixels + rng.normal(0, 12 * number, pixels.shape)
        Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8)).save(folder / "queries" / name)
    truth = {"queries": names, "database": names, "positives": [[number] for number in range(PLACES)]}
    (folder / "gt.json").write_text(json.dumps(truth))
    write_model(folder)
    return folder


def build(town: Path, output: Path, dataset: PlaceDataset) -> None:
    indexing.build_index(output, town / "model.keras", PixelDescriber(), dataset, "int8")


def test_answers_are_as_sure_as_they_are_right(town: Path, tmp_path: Path) -> None:
    dataset, output = load_dataset(f"folder:{town}"), tmp_path / "a.index"
    build(town, output, dataset)
    learnt = calibrating.calibrate_index(output, town / "model.keras", PixelDescriber(), dataset)
    assert (learnt.photos, learnt.fitted_on) == (PLACES, dataset.spec)
    photos = ImageFiles("", [str(town / "queries" / name) for name in dataset.queries.names])
    with open_index(output) as index:
        answers = list(querying.answers(index, PixelDescriber(), photos, 2))
    right = [answer.matches[0].place.name == Path(answer.photo).name for answer in answers]
    sure = [answer.probability for answer in answers]
    assert sum(sure) == pytest.approx(sum(right), abs=1)
    assert np.mean(np.array(sure)[right]) > np.mean(np.array(sure)[~np.array(right)]) + 0.2
    assert [answer.known for answer in answers] == [p >= 0.5 for p in sure]
    assert all(len(answer.matches) == 2 for answer in answers)
    assert answers[0].to_json()["known"] is True and "known" in answers[0].verdict
    # The queries of places that the index does not have are looked for in their own data set.
    indexing.remove_places(output, ["1*.png"])
    again = calibrating.calibrate_index(output, town / "model.keras", PixelDescriber(), dataset)
    assert again.score == pytest.approx(learnt.score, rel=1e-3)


def test_too_few_to_learn_from(town: Path, tmp_path: Path) -> None:
    dataset, output = load_dataset(f"folder:{town}"), tmp_path / "a.index"
    build(town, output, dataset)
    before = output.read_bytes()
    few = dataclasses.replace(take_queries(dataset, [0]), spec="few")
    with pytest.raises(calibrating.TooFewError, match="few: of 1 photos 1 are found"):
        calibrating.calibrate_index(output, town / "model.keras", PixelDescriber(), few)
    assert output.read_bytes() == before


@pytest.mark.parametrize(
    ("others", "lead"),
    [
        ([Place("b"), Place("c")], 0.1),  # nothing is known: any other photo
        ([Place("b", group="x"), Place("c", group="y")], 0.3),
        ([Place("b", group="x"), Place("c", group="x")], 0.3),  # none: the last one
        ([Place("b", 52.0, 0.0001), Place("c", 52.0, 0.001)], 0.3),  # 7 m and 69 m away
    ],
)
def test_the_lead_is_over_another_place(others: list[Place], lead: float) -> None:
    first = Place("a", 52.0, 0.0, group="x" if others[0].group else None)
    assert calibrating.lead_of([first, *others], np.array([0.9, 0.8, 0.6])) == pytest.approx(lead)
