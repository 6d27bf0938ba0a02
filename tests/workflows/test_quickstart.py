"""The quickstart in miniature: a real run that is interrupted and goes on, what it leaves, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

import tfplaces
from tfplaces.common.errors import UserError
from tfplaces.report.rows import summary
from tfplaces.workflows.plan import Plan
from tfplaces.workflows.quickstart import FILES, quickstart

PLAN = Plan(
    size=(64, 64), clusters=4, epochs=1, whitening=4, tuning_images=8, tuning_epochs=1, learning_rate=1e-3, margin=0.1
)
DATASET = "toytown?places=6"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """A run that is interrupted when the network and the first compressed one are there, and the same call once more.

    The folder held an older run, which is replaced.
    """
    from tfplaces.workflows.quickstart_stages import Stages

    output = tmp_path_factory.mktemp("quickstart") / "out"
    output.mkdir()
    for name in ("report.html", "results.json", "model.keras", "run.json"):
        (output / name).write_text("older")
    (output / "notes.txt").write_text("mine")
    compress = Stages.compress

    def interrupt(self, source: str, path: str, bits: int) -> None:
        if bits == 5:
            raise KeyboardInterrupt
        compress(self, source, path, bits)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Stages, "compress", interrupt)
        with pytest.raises(KeyboardInterrupt):
            quickstart(DATASET, str(output), overwrite=True, plan=PLAN)
    interrupted = {path.name: path.stat().st_mtime_ns for path in output.iterdir()}
    result = quickstart(DATASET, str(output), plan=PLAN)
    return SimpleNamespace(output=output, interrupted=interrupted, result=result)


def test_an_interrupted_run_leaves_nothing_of_an_older_one_and_goes_on(made: SimpleNamespace) -> None:
    assert set(made.interrupted) == {"notes.txt", "run.json", "model.keras", "8bit.places"}
    for name in ("model.keras", "8bit.places"):
        assert (made.output / name).stat().st_mtime_ns == made.interrupted[name]
    assert {path.name for path in made.output.iterdir()} == {
        "notes.txt", "run.json", "results.json", "table.md", "report.html", "float32.json", "mixed_int8.json",
        *(file for file, _ in FILES.values()),
    }  # fmt: skip


def test_the_results_are_of_the_files(made: SimpleNamespace) -> None:
    rows = json.loads((made.output / "results.json").read_text())
    assert [row["name"] for row in rows] == list(FILES)
    dataset = tfplaces.load_dataset(DATASET, "test")
    for row, (file, compressed) in zip(rows, FILES.values(), strict=True):
        assert row["bytes"] == (made.output / file).stat().st_size and row["ms"] > 0
        assert row["drop"] == pytest.approx(rows[0]["map"] - row["map"])
        if file.endswith(".tflite"):
            scores = tfplaces.evaluate(tfplaces.load_describer(made.output / file), dataset)
            assert (scores.map, scores.recall[1]) == (pytest.approx(row["map"]), pytest.approx(row["recall1"]))
        assert (row["pruned"] >= 49.9) if compressed else row["pruned"] == 0
    assert rows[0]["drop_interval"] is None
    for row in rows[1:]:
        low, high = row["drop_interval"]
        assert low <= row["drop"] + 1e-9 and row["drop"] - 1e-9 <= high
    assert rows[3]["drop"] == pytest.approx(0, abs=1)  # the float network in LiteRT
    assert rows[0]["bytes"] > 2 * rows[4]["bytes"] > 2 * rows[1]["bytes"] > 2 * rows[2]["bytes"]


def test_the_page_and_the_table_say_the_same(made: SimpleNamespace) -> None:
    page, table = ((made.output / name).read_text() for name in ("report.html", "table.md"))
    assert summary(made.result.rows) in page
    facts = dict(made.result.facts)
    assert facts["Input"] == "64x64" and facts["Network"].startswith("alexnet + NetVLAD4 + whitening 4, ")
    assert facts["Training"].startswith("2 epochs on toytown?places=6")
    assert facts["Data set"] == f"{DATASET}: 18 queries, 24 database images"
    for row in made.result.rows:
        assert f"| {row.name} " in table and row.name in page
    assert page.count("<article>") == 8  # queries with their matches


def test_a_run_that_is_done_is_not_done_again(made: SimpleNamespace) -> None:
    before = {path.name: path.stat().st_mtime_ns for path in made.output.iterdir()}
    assert quickstart(DATASET, str(made.output), plan=PLAN).rows == made.result.rows
    after = {path.name: path.stat().st_mtime_ns for path in made.output.iterdir()}
    assert {name for name in before if before[name] != after[name]} <= {"run.json"}


@pytest.mark.parametrize(
    ("changes", "key"),
    [({"seed": 1}, "seed"), ({"backbone": "vgg16"}, "backbone"), ({"input_size": (96, 96)}, "input_size")],
)
def test_another_run_is_refused(made: SimpleNamespace, changes: dict, key: str) -> None:
    with pytest.raises(UserError, match=f"holds a run with another --{key}; give --overwrite to start anew"):
        quickstart(DATASET, str(made.output), plan=PLAN, **changes)


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "photo.jpg").write_bytes(b"")
    with pytest.raises(UserError, match="is not empty and holds no run of this tool; give --overwrite"):
        quickstart(DATASET, str(tmp_path), plan=PLAN)
    assert [path.name for path in tmp_path.iterdir()] == ["photo.jpg"]
