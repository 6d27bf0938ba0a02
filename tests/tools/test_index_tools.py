"""An index made by the tools and queried by them: the figures of `tfplaces-evaluate`, and careless users."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from tfplaces.index import CODECS, open_index
from tfplaces.tools import index as index_tool


@pytest.fixture(scope="module")
def town(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The photos of six places in the layout of queries and database."""
    folder = tmp_path_factory.mktemp("town")
    for part, taken in (("queries", "0"), ("database", "12")):
        (folder / part).mkdir()
        for place in range(6):
            for k in taken:
                shutil.copy(photos / f"place{place}" / f"{k}.png", folder / part / f"place{place}_{k}.png")
    database = sorted(os.listdir(folder / "database"))
    queries = sorted(os.listdir(folder / "queries"))
    positives = [[i for i, name in enumerate(database) if name[:6] == query[:6]] for query in queries]
    (folder / "gt.json").write_text(json.dumps({"queries": queries, "database": database, "positives": positives}))
    return folder


def test_the_recall_of_evaluate(made, town: Path, run, here: Path) -> None:
    data = f"--dataset=folder:{town}"
    assert run("evaluate", f"--model={made.tflite}", data, "--json=scores.json")[0] == 0
    code, out, err = run("index", f"--model={made.tflite}", data, "--output=town.index", "--thumbnails=24")
    assert code == 0, err
    assert "12 places added, 12 pictures described" in out and "town.index: 12 places, " in out
    assert "6 queries of the data set are left out; --images=all" in out
    # The packed model is the same model.
    code, out, err = run("query", f"--model={made.tflpack}", "--index=town.index", town / "queries", "--matches=2",
                         "--html=found.html", "--json=found.json")  # fmt: skip
    assert (code, err) == (0, "")
    found = json.loads((here / "found.json").read_text())
    assert [set(answer) for answer in found] == [{"photo", "matches", "known", "probability"}] * 6
    assert found[0]["probability"] is None  # of six queries nothing is learnt
    right = sum(Path(a["photo"]).name[:6] == a["matches"][0]["name"][:6] for a in found)
    recall = json.loads((here / "scores.json").read_text())["recall"]["1"]
    assert abs(right - recall * 6 / 100) <= 1
    assert set(found[0]["matches"][0]) == {"name", "score", "latitude", "longitude"} and len(found[0]["matches"]) == 2
    assert out.splitlines()[0] == found[0]["photo"] and found[0]["matches"][0]["name"] in out.splitlines()[1]
    page = (here / "found.html").read_text()
    assert page.count("data:image/jpeg") == 6 * 3 and "place0_0.png" in page and "$" not in page
    assert sorted(os.listdir(here)) == ["found.html", "found.json", "scores.json", "town.index"]


def test_the_flag_names_every_codec() -> None:
    assert set(index_tool.CODECS) == set(CODECS)


def test_places_are_removed_and_added(made, town: Path, run, here: Path) -> None:
    command = ["index", f"--model={made.tflite}", f"--dataset=folder:{town}", "--output=town.index"]
    assert run(*command, "--codec=float16")[0] == 0
    code, _, err = run(*command)
    assert code == 2 and "town.index: exists already; give --add" in err
    code, out, err = run("index", "--output=town.index", "--remove=place0_*", "--remove=place1_1.png")
    assert code == 0 and out.startswith("3 places removed: place0_1.png, place0_2.png, place1_1.png")
    code, out, err = run(*command, "--add")
    assert code == 0 and "3 places added, 3 pictures described" in out
    with open_index("town.index") as index:
        assert len(index) == 12 and index.codec.name == "float16"
    photo = town / "queries" / "place0_0.png"
    code, out, err = run("query", f"--model={made.keras}", "--index=town.index", photo)
    assert code == 2 and "was made by another model" in err and err.count("\n") == 1
    code, out, err = run("query", f"--model={made.keras}", "--index=town.index", "--force", photo)
    assert code == 0 and "scores are lower" in err and err.count("\n") == 1 and "place0_1.png" in out
    code, out, err = run(*command[:1], f"--model={made.keras}", *command[2:], "--add")
    assert code == 0 and "0 places added, 12 pictures described" in out
    assert run("query", f"--model={made.keras}", "--index=town.index", photo)[::2] == (0, "")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ietower", "cambridge_val"])
def test_the_recall_of_evaluate_on_real_photos(name: str, tfplaces_data: Path, run, here: Path) -> None:
    """From the photos to the answers, as a newcomer does it; within one query, as int8 rounds."""
    data = f"--dataset=folder:{tfplaces_data / name}"
    weights = tfplaces_data / "weights" / "mobilenet_v1_1.0_224_to_pw11.npz"
    steps = [
        ["train", data, "--output=run", "--epochs=0", "--backbone=mobilenet_v1", f"--backbone_weights={weights}",
         "--input_size=96x128", "--clusters=16"],
        ["convert", "--model=run/model.keras", "--output=m.tflite", f"--calibration=folder:{tfplaces_data / name}"],
        ["pack", "--model=m.tflite", "--output=m.tflpack"],
        ["evaluate", "--model=m.tflite", data, "--json=scores.json"],
        ["index", "--model=m.tflpack", data, "--output=town.index"],
        ["query", "--model=m.tflpack", "--index=town.index", tfplaces_data / name / "queries", "--json=found.json"],
    ]  # fmt: skip
    for step in steps:
        code, _, err = run(*step)
        assert code == 0, err
    truth = json.loads((tfplaces_data / name / "gt.json").read_text())
    positives = dict(zip(truth["queries"], truth["positives"], strict=True))
    found = {Path(answer["photo"]).name: answer for answer in json.loads((here / "found.json").read_text())}
    asked = [query for query, right in positives.items() if right]
    right = sum(
        found[query]["matches"][0]["name"] in {truth["database"][i] for i in positives[query]} for query in asked
    )
    recall = json.loads((here / "scores.json").read_text())["recall"]["1"]
    assert abs(right - recall * len(asked) / 100) <= 1
    # On the whole the answers are as sure as they are right.
    probabilities = [found[query]["probability"] for query in asked]
    assert sum(probabilities) == pytest.approx(right, rel=0.05)
    assert all(found[query]["known"] == (found[query]["probability"] >= 0.5) for query in asked)
    known = found[asked[0]]["matches"][0]["latitude"]
    assert (known is None) == (name == "ietower") and (known is None or 52.1 < known < 52.3)
