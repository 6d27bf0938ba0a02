"""The doctor of data sets: each kind of damage is named, and of a sound set nothing is."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tfplaces.datasets import load_dataset
from tfplaces.tools import check_data, entry
from tfplaces.workflows.data_check import check_dataset
from tfplaces.workflows.findings import NOTE, OK, WRONG, Finding

pytestmark = pytest.mark.filterwarnings("ignore::tfplaces.common.errors.DataWarning")

Table = Callable[..., Path]
HEAD = "path,easting,northing,role,sequence,time"


def rows() -> list[list[str]]:
    """Two drives along one street of 20 photos, ten metres apart, a second apart."""
    return [
        [f"{role}{k:02}.png", f"{300_000 + 10 * k}", f"{5_000_000 + k % 3}", role, f"drive {role}", f"{day + k}"]
        for role, day in (("query", 1000), ("database", 2000))
        for k in range(20)
    ]


@pytest.fixture
def write_table(write_photos: Callable[..., Path]) -> Table:
    def write(change: Callable[[list[list[str]]], object] = lambda table: None) -> Path:
        table = rows()
        root = write_photos(*(row[0] for row in table))
        change(table)
        (root / "photos.csv").write_text("\n".join([HEAD, *map(",".join, table)]))
        return root

    return write


def findings(spec: str, quick: bool = False) -> dict[str, Finding]:
    return {finding.check: finding for finding in check_dataset(load_dataset(spec), quick)}


def wrong(found: dict[str, Finding]) -> dict[str, tuple[str, ...]]:
    return {finding.check: finding.images for finding in found.values() if finding.level == WRONG}


@pytest.mark.parametrize("quick", [True, False])
def test_a_sound_set(write_table: Table, quick: bool) -> None:
    found = findings(f"csv:{write_table()}/photos.csv", quick)
    assert not wrong(found)
    assert {check for check, finding in found.items() if finding.level == NOTE} == {"data set"}
    assert found["images"].text == "20 queries, 20 database images"
    assert found["sizes"].text == "40 of 40 are 16 x 12 pixels"
    assert found["aspect ratio"].text == "1.33 (width by height)"
    # Within 25 m along the street: 2 on either side, at its ends on one.
    assert found["positives"].text == "3 to 5 for a query, median 5"
    assert found["positions"].text == "over 0.19 x 0.00 km"
    for check in ("missing files", "damaged files", "shared sequences", "far away", "order of frames", "times"):
        assert (found[check].level, found[check].text) == (OK, "none")


@pytest.mark.parametrize(
    "change, named",
    [
        (lambda t: t[3].__setitem__(1, "900000"), {"far away": ("query03.png",)}),
        (lambda t: (t[5].__setitem__(1, "300150"), t[15].__setitem__(1, "300050")),
         {"order of frames": ("query05.png", "query15.png")}),
        (lambda t: t[30].__setitem__(5, "2003"), {"times": ("database10.png",)}),
        (lambda t: [row.__setitem__(4, "drive query") for row in t[20:]],
         {"shared sequences": tuple(f"query{k:02}.png" for k in range(20))}),
        # The street lies 200 km west of the middle of its zone; the next zone's eastings begin 200 km east of it.
        (lambda t: [row.__setitem__(1, f"{700_000 + k}") for k, row in enumerate(t[36:])],
         {"UTM zones": tuple(f"database{k}.png" for k in range(16, 20))}),
        (lambda t: [row.__setitem__(2, "5000500") for row in t[20:]], {"without positives": ()}),
    ],
)  # fmt: skip
def test_what_is_said_wrongly_is_named(write_table: Table, change: Callable, named: dict) -> None:
    assert wrong(findings(f"csv:{write_table(change)}/photos.csv")) == named


def test_what_is_wrong_with_files_is_named(write_table: Table) -> None:
    root = write_table()
    dataset = load_dataset(f"csv:{root}/photos.csv")
    (root / "query02.png").unlink()
    (root / "query04.png").write_bytes((root / "query04.png").read_bytes()[:-200])
    (root / "database07.png").write_text("no image")
    with Image.open(root / "database03.png") as image:  # the same picture in another file
        image.save(root / "query03.png", compress_level=0)
    shutil.copy(root / "database01.png", root / "database11.png")
    Image.new("RGB", (16, 12)).save(root / "database12.png")
    Image.new("RGB", (16, 16), "red").save(root / "database13.png")
    found = {finding.check: finding for finding in check_dataset(dataset)}
    assert wrong(found) == {
        "missing files": ("query02.png",),
        "damaged files": ("query04.png", "database07.png"),
        "queries in database": ("query03.png",),
    }
    assert "query04.png: cannot be read as an image" in found["damaged files"].text
    notes = {check: finding.images for check, finding in found.items() if finding.level == NOTE and finding.images}
    assert notes == {
        "repeats in database": ("database01.png", "database11.png"),
        "blank pictures": ("database12.png", "database13.png"),
    }
    assert found["sizes"].text == "36 of 37 are 16 x 12 pixels; 2 sizes, from 16 to 16 wide and from 12 to 16 high"
    assert found["aspect ratio"].level == NOTE and "; 1 of 37 differ" in found["aspect ratio"].text


def test_copies_of_files_are_found_without_decoding(write_table: Table) -> None:
    root = write_table()
    shutil.copy(root / "database03.png", root / "query03.png")
    found = findings(f"csv:{root}/photos.csv", quick=True)
    assert wrong(found) == {"queries in database": ()}
    assert found["queries in database"].text == "copies of database files, byte by byte: 1"


def test_queries_that_have_nothing_to_be_found(write_table: Table) -> None:
    found = findings(f"csv:{write_table(lambda t: t[0].__setitem__(2, '5000400'))}/photos.csv")
    assert found["without positives"].level == NOTE and found["without positives"].images == ("query00.png",)


def test_photos_that_are_queries_among_each_other(write_photos: Callable[..., Path]) -> None:
    """Each is in the database itself, and that is no fault; a copy in another panorama is."""
    names = [f"@{300_000 + 5 * k}@5000000@@@@@{k // 2}@@.png" for k in range(12)]
    root = write_photos(*names)
    assert not wrong(findings(f"utm:{root}"))
    shutil.copy(root / names[3], root / names[8])
    found = findings(f"utm:{root}")
    assert wrong(found) == {"queries in database": (names[3], names[8])}
    assert found["sizes"].text == "12 of 12 are 16 x 12 pixels"  # each is read once
    assert findings(f"utm:{root}", quick=True)["queries in database"].level == NOTE


def test_photos_without_queries_and_drawn_ones(write_photos: Callable[..., Path]) -> None:
    root = write_photos("a.png", "b.png")
    assert findings(f"folder:{root}")["positives"].level == NOTE
    assert not wrong(findings("toytown?places=2"))


def test_real_sets(tfplaces_data: Path) -> None:
    """Two panoramas of Cambridge, four cut-outs each, are in queries and database; `md5sum` counts the same eight."""
    assert not wrong(findings(f"folder:{tfplaces_data}/corridor"))
    named = wrong(findings(f"utm:{tfplaces_data}/cambridge_val"))
    assert named.keys() == {"queries in database"} and len(named["queries in database"]) == 8


def run(capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> tuple[int, str, str]:
    monkeypatch.setattr(entry, "_quiet_native_logs", lambda: None)
    with pytest.raises(SystemExit) as exit:
        check_data.run(["tfplaces-check-data", *arguments])
    return (exit.value.code, *capsys.readouterr())  # type: ignore[return-value]


def test_the_tool(write_table: Table, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    root = write_table()
    outputs = [f"--sheet={root}/sheet.jpg", f"--json={root}/check.json"]
    code, out, err = run(capsys, monkeypatch, f"--dataset=csv:{root}/photos.csv", *outputs)
    assert (code, err) == (0, "") and out.splitlines()[-1] == "sound: nothing is wrong (notes: 1)"
    assert all(line[:5].strip() in (OK, NOTE) for line in out.splitlines()[:-2])
    with Image.open(root / "sheet.jpg") as sheet:
        assert np.asarray(sheet).std() > 10
    told = json.loads((root / "check.json").read_text())
    assert told["sound"] and told["findings"][0]["text"] == "20 queries, 20 database images"

    (root / "query04.png").write_text("no image")
    code, out, err = run(capsys, monkeypatch, f"--dataset=csv:{root}/photos.csv")
    assert (code, err) == (3, "") and out.splitlines()[-1] == "not sound: damaged files"
    # A table whose photos are not there is opened by no tool; that is a finding too.
    (root / "query05.png").unlink()
    code, out, err = run(capsys, monkeypatch, f"--dataset=csv:{root}/photos.csv", *outputs, "--overwrite")
    assert (code, err) == (3, "") and "first: query05.png; lines 7" in out
    assert json.loads((root / "check.json").read_text())["verdict"] == "not sound: missing files"
    code, out, err = run(capsys, monkeypatch, f"--dataset=csv:{root}/none.csv")
    assert (code, out) == (2, "") and err.count("\n") == 1
