"""The paper's grid in miniature: what the table holds, that a run goes on where it stopped, and what is refused."""

from __future__ import annotations

import itertools
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

import tfplaces
from tfplaces import compression
from tfplaces.common.errors import UserError
from tfplaces.compression import find_kernels, load_places, places_statistics
from tfplaces.models import PlaceNet, outline
from tfplaces.workflows import paper, paper_grid
from tfplaces.workflows.paper_grid import make_paper_grid

# Of the second network some rows are enough.
ROWS = {**paper.RESULTS, "alexnet": paper.RESULTS["alexnet"][::3]}


def write_places(folder: Path, places: int, seed: int) -> None:
    """Three photos of each place that differ by noise."""
    for place in range(places):
        rng = np.random.default_rng([seed, place])
        pattern = Image.fromarray(rng.integers(0, 256, (6, 8, 3), np.uint8)).resize((64, 48), Image.Resampling.BICUBIC)
        (folder / f"place{place}").mkdir(parents=True)
        for k in range(3):
            pixels = np.clip(np.asarray(pattern) + rng.normal(0, 60, (48, 64, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / f"place{place}" / f"{k}.png")


@pytest.fixture(scope="module")
def grid(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """A run on two networks that is interrupted in its fifth row, and the same command once more."""
    folder = tmp_path_factory.mktemp("grid")
    write_places(folder / "yard", 5, 0)
    write_places(folder / "hall", 6, 1)
    tiny = {"clusters": 4, "whitening": 6, "input_size": (48, 64)}
    rng = np.random.default_rng(0)
    for name, backbone, cut in (("squeeze", "squeezenet", "fire2"), ("faint", "alexnet", "conv1")):
        model = PlaceNet(backbone, cut=cut, **tiny)
        for kernel in find_kernels(model):
            kernel.variable.assign(rng.normal(0, 0.02, kernel.variable.shape))
        if name == "faint":  # all of the first kernel is below the two largest thresholds
            kernel = model.get_layer("conv1").kernel
            kernel.assign(rng.uniform(-0.007, 0.007, kernel.shape))
        model.save(folder / f"{name}.keras")
    sets = [f"folder:{folder}/yard", f"folder:{folder}/hall"]
    models = [f"{folder}/squeeze.keras", f"{folder}/faint.keras"]
    output = folder / "out"
    made: list[list[str]] = [[], []]
    save_places = compression.save_places

    def counted(attempt: int, limit: int) -> Callable:
        def save(path, compressed):
            if len(made[attempt]) == limit:
                raise KeyboardInterrupt
            made[attempt].append(Path(path).name)
            return save_places(path, compressed)

        return save

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(paper_grid, "RESULTS", ROWS)
        patch.setattr(compression, "save_places", counted(0, 3))
        with pytest.raises(KeyboardInterrupt):
            make_paper_grid(sets, str(output), models=models)
        interrupted = json.loads((output / "results.json").read_text())
        patch.setattr(compression, "save_places", counted(1, 100))
        text = make_paper_grid(sets, str(output), models=models)
    return SimpleNamespace(
        folder=folder, sets=sets, models=models, made=made, interrupted=interrupted, text=text,
        results=json.loads((output / "results.json").read_text()),
    )  # fmt: skip


def test_an_interrupted_run_goes_on(grid: SimpleNamespace) -> None:
    # The base row and three more were done, and are not done again.
    assert [row["name"] for row in grid.interrupted["rows"]] == [row["name"] for row in grid.results["rows"][:4]]
    assert grid.interrupted["rows"] == grid.results["rows"][:4]
    assert len(grid.made[0]) == 3 and not set(grid.made[0]) & set(grid.made[1])
    files = sorted(path.name for path in (grid.folder / "out").glob("*"))
    assert files == sorted([*grid.made[0], *grid.made[1], "plot.png", "results.json", "table.md"])


def test_the_rows_are_the_papers(grid: SimpleNamespace) -> None:
    rows = grid.results["rows"]
    assert len(rows) == (1 + 6 * 2) + (1 + 2 * 2)
    for name, network in (("squeeze", "vgg16"), ("faint", "alexnet")):
        base, *ours = [row for row in rows if row["network"] == name]
        assert base["pruned_by"] is None and base["paper"] == vars(ROWS[network][0])
        for expected, pair in zip(ROWS[network][1:], zip(ours[::2], ours[1::2], strict=True), strict=True):
            assert [row["pruned_by"] for row in pair] == ["threshold", "share"]
            for row in pair:
                assert row["paper"] == vars(expected)
                assert (row["bits"], row["threshold"]) == (expected.bits, expected.threshold)


def test_figures_are_of_the_files(grid: SimpleNamespace) -> None:
    for name, net in grid.results["networks"].items():
        base, *ours = [row for row in grid.results["rows"] if row["network"] == name]
        size = (grid.folder / f"{name}.keras").stat().st_size
        assert base["file_mb"] == size / 1e6 and base["pruned"] == 0
        assert base["paper_mb"] == net["float32_mb"] == 4 * net["parameters"] / 1e6
        assert base["drop"] == {"yard": 0, "hall": 0} and min(base["map"].values()) > 50
        for row in ours:
            if "failure" in row:
                continue
            path = Path(row["file"])
            model = load_places(path)
            zeros = sum(kernel.size - np.count_nonzero(kernel.variable.numpy()) for kernel in find_kernels(model))
            assert row["file_mb"] == path.stat().st_size / 1e6
            assert row["pruned"] == pytest.approx(100 * zeros / net["parameters"])
            assert row["paper_mb"] == pytest.approx((net["parameters"] - zeros) * row["bits"] / 8 / 1e6)
            assert row["entropy_mb"] == places_statistics(path).total.entropy_bytes / 1e6
            for label in ("yard", "hall"):
                assert row["drop"][label] == base["map"][label] - row["map"][label]
            if row["pruned_by"] == "share":
                # Sharing may round a few more weights to zero.
                assert row["paper"]["pruned"] - 0.01 <= row["pruned"] < row["paper"]["pruned"] + 5


def test_maps_are_those_of_evaluate(grid: SimpleNamespace) -> None:
    row = grid.results["rows"][-1]
    describer = tfplaces.load_describer(row["file"])
    for label, spec in zip(("yard", "hall"), grid.sets, strict=True):
        found = tfplaces.evaluate(describer, tfplaces.load_dataset(spec))
        assert found.map == pytest.approx(row["map"][label])


def test_a_threshold_that_leaves_nothing_is_said_so(grid: SimpleNamespace) -> None:
    failed = [row["name"] for row in grid.results["rows"] if "failure" in row]
    # Whitenings are kept at an RMS of 0.01: of a small one nothing is above 0.05.
    assert failed == [
        "squeeze-8bit-threshold0.05",
        *(f"faint-{row}" for row in ("8bit-threshold0.01", "5bit-threshold0.01")),
    ]
    text = (grid.folder / "out" / "table.md").read_text()
    for name in failed:
        assert f"- {name}: pruning below 0.0" in text and not (grid.folder / "out" / f"{name}.places").exists()


def test_the_table(grid: SimpleNamespace) -> None:
    text = (grid.folder / "out" / "table.md").read_text()
    assert text == grid.text
    assert max(len(line) for line in text.splitlines() if line.startswith("|")) <= 200
    tables = [part for part in text.split("\n\n") if part.startswith("|")]
    assert len(tables) == 2
    for table, name in zip(tables, ("squeeze", "faint"), strict=True):
        head, _, *lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()]
        assert head == [
            "bits", "threshold", "pruned by", "pruned %", "(paper)", "drop yard", "drop hall", "(Oxford)", "(Paris)",
            "paper_mb", "file_mb", "entropy_mb", "(paper MB)",
        ]  # fmt: skip
        rows = [row for row in grid.results["rows"] if row["network"] == name]
        for cells, row in zip(lines, rows, strict=True):
            shown = dict(zip(head, cells, strict=True))
            assert shown["(paper MB)"] == f"{row['paper']['mb']:.1f}" and shown["bits"] == str(row["bits"])
            if "failure" in row:
                assert shown["file_mb"] == shown["pruned %"] == shown["drop yard"] == "-"
            else:
                assert float(shown["file_mb"]) == pytest.approx(row["file_mb"], abs=5e-4)
                assert float(shown["drop hall"]) == pytest.approx(row["drop"]["hall"], abs=0.051)
    with Image.open(grid.folder / "out" / "plot.png") as plot:
        assert plot.format == "PNG" and plot.width > plot.height > 400


def test_a_run_that_is_done_is_not_done_again(grid: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paper_grid, "RESULTS", ROWS)
    monkeypatch.setattr(paper_grid._Grid, "_row", None)  # to be measured again would fail
    assert make_paper_grid(grid.sets, str(grid.folder / "out"), models=grid.models) == grid.text


@pytest.mark.parametrize(
    ("changes", "name"), [({"epochs": 1}, "epochs"), ({"seed": 1}, "seed"), ({"datasets": ["toytown"]}, "dataset")]
)
def test_another_run_is_refused(grid: SimpleNamespace, changes: dict, name: str) -> None:
    before = (grid.folder / "out" / "results.json").read_bytes()
    arguments = {"datasets": grid.sets, "output": str(grid.folder / "out"), "models": grid.models, **changes}
    with pytest.raises(UserError, match=f"out: holds a run with another --{name}; give --overwrite to start anew"):
        make_paper_grid(**arguments)
    assert (grid.folder / "out" / "results.json").read_bytes() == before


@pytest.mark.slow
def test_overwrite_leaves_nothing_of_an_older_run_and_fine_tunes(
    grid: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed after the first row it holds that row alone; the network that it begins with stays, wherever it is."""
    base, row = paper.RESULTS["vgg16"][:2]
    monkeypatch.setattr(paper_grid, "planned_rows", lambda network: [(base, None), (row, "share")])
    older = ("table.md", "plot.png", "results.json", "old-8bit-share25.52.places", "alexnet.keras")
    for name in (*older, "notes.txt", "mine.places"):
        (tmp_path / name).write_text("older")
    shutil.copy(grid.models[0], tmp_path / "vgg16.keras")  # as a run that assembles would have called it
    arguments = {"datasets": grid.sets[:1], "output": str(tmp_path), "models": [str(tmp_path / "vgg16.keras")]}
    with pytest.raises(UserError, match="is not empty and holds no run of this tool"):
        make_paper_grid(**arguments)
    arguments |= {"epochs": 1, "learning_rate": 1e-3}
    with monkeypatch.context() as patch:
        patch.setattr(compression, "save_places", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            make_paper_grid(**arguments, overwrite=True)
    left = {path.name for path in tmp_path.iterdir()} - {"vgg16-8bit-share25.52.places.work"}
    assert left == {"notes.txt", "mine.places", "vgg16.keras", "results.json"}
    assert "Fine-tuning: 1 epochs after pruning" in make_paper_grid(**arguments)
    tuned = json.loads((tmp_path / "results.json").read_text())["rows"]
    untuned = grid.results["rows"][0:3:2]
    assert [row["name"].split("-", 1)[1] for row in tuned] == [row["name"].split("-", 1)[1] for row in untuned]
    assert tuned[1]["file_mb"] != untuned[1]["file_mb"]
    assert not list(tmp_path.glob("*.work"))


def test_mistakes_are_known_before_anything_is_made(grid: SimpleNamespace, tmp_path: Path) -> None:
    mistakes: list[tuple[dict, str]] = [
        ({"networks": ["resnet"]}, "'resnet' is none of alexnet"),
        ({"models": [grid.models[0]] * 2}, "two are called 'squeeze'"),
        ({"whitening_datasets": grid.sets[:1]}, "takes more than 4096 database images, here are 22"),
        ({"datasets": ["folder:no"], "models": grid.models}, "folder:no: no such folder"),
        ({"datasets": [f"{grid.sets[0]}/place0"], "models": grid.models}, "no query has a positive"),
    ]
    for changes, message in mistakes:
        with pytest.raises(UserError, match=message):
            make_paper_grid(**{"datasets": grid.sets, "output": str(tmp_path / "out"), **changes})
    assert not any(tmp_path.iterdir())


def test_the_papers_table() -> None:
    """Its 14 rows; ever more is pruned and lost, in ever fewer MB, as the threshold rises."""
    assert [len(rows) for rows in paper.RESULTS.values()] == [7, 7]
    for rows in paper.RESULTS.values():
        for bits in (8, 5):
            figures = [(r.threshold, r.pruned, r.drop_oxford, -r.mb) for r in rows if r.bits == bits]
            assert all(
                a <= b for lower, higher in itertools.pairwise(figures) for a, b in zip(lower, higher, strict=True)
            )


def test_the_papers_networks_have_its_sizes() -> None:
    """The totals that PAPER counts: 69.5 M and 149.0 M parameters."""
    for name, millions in (("alexnet", 69.5), ("vgg16", 149.0)):
        model = outline(PlaceNet, paper.BACKBONES[name], clusters=paper.CLUSTERS, whitening=paper.WHITENING)
        assert model.count_params() / 1e6 == pytest.approx(millions, abs=0.06)
