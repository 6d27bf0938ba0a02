"""The paper's grid in miniature: what the table holds, that a run goes on where it stopped, and what is refused."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from tfplaces import compression
from tfplaces.compression import find_kernels, load_places, places_statistics
from tfplaces.models import PlaceNet, outline
from tfplaces.tools import entry, reproduce
from tfplaces.workflows import paper

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
    arguments = [
        f"--models={folder}/squeeze.keras,{folder}/faint.keras",
        f"--dataset=folder:{folder}/yard,folder:{folder}/hall",
        f"--output={folder}/out",
    ]
    made: list[list[str]] = [[], []]
    save_places = compression.save_places

    def counted(attempt: int, limit: int) -> Callable:
        def save(path, compressed):
            if len(made[attempt]) == limit:
                raise KeyboardInterrupt
            made[attempt].append(Path(path).name)
            return save_places(path, compressed)

        return save

    codes, results = [], []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reproduce, "RESULTS", ROWS)
        patch.setattr(entry, "_quiet_native_logs", lambda: None)
        for attempt, limit in enumerate((3, 100)):
            patch.setattr(compression, "save_places", counted(attempt, limit))
            with pytest.raises(SystemExit) as exit:
                reproduce.run(["tfplaces-reproduce", *arguments])
            codes.append(exit.value.code)
            results.append(json.loads((folder / "out" / "results.json").read_text()))
    return SimpleNamespace(
        folder=folder, arguments=arguments, made=made, codes=codes, interrupted=results[0], results=results[1]
    )


def test_an_interrupted_run_goes_on(grid: SimpleNamespace) -> None:
    assert grid.codes == [130, 0]
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


def test_maps_are_those_of_evaluate(grid: SimpleNamespace, run, here: Path) -> None:
    row = grid.results["rows"][-1]
    for label in ("yard", "hall"):
        data = f"--dataset=folder:{grid.folder}/{label}"
        assert run("evaluate", f"--model={row['file']}", data, "--json=s.json", "--overwrite")[0] == 0
        assert json.loads((here / "s.json").read_text())["map"] == pytest.approx(row["map"][label])


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


def test_the_table(grid: SimpleNamespace, run) -> None:
    text = (grid.folder / "out" / "table.md").read_text()
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


def test_a_run_that_is_done_prints_its_table(grid: SimpleNamespace, run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reproduce, "RESULTS", ROWS)
    monkeypatch.setattr(reproduce._Grid, "row", None)  # to be measured again would fail
    code, out, _ = run("reproduce", *grid.arguments)
    assert code == 0 and out == (grid.folder / "out" / "table.md").read_text()


def test_other_arguments_are_refused(grid: SimpleNamespace, run) -> None:
    before = (grid.folder / "out" / "results.json").read_bytes()
    for more, name in (("--epochs=1", "epochs"), ("--seed=1", "seed"), (grid.arguments[1] + "?x=1", "dataset")):
        code, out, err = run("reproduce", *grid.arguments, more)
        assert code == 2 and out == "" and err.count("\n") == 1
        assert f"out: holds a run with another --{name}; give --overwrite to start anew" in err
    assert (grid.folder / "out" / "results.json").read_bytes() == before


def test_overwrite_starts_anew_and_fine_tunes(grid: SimpleNamespace, run, here, monkeypatch) -> None:
    base, row = paper.RESULTS["vgg16"][:2]
    monkeypatch.setattr(reproduce, "_plan", lambda network: [(base, None), (row, "share")])
    (here / "notes.txt").write_text("not a run")
    arguments = [f"--models={grid.folder}/squeeze.keras", grid.arguments[1], "--output=."]
    code, out, err = run("reproduce", *arguments)
    assert code == 2 and ".: is not empty and holds no run of this tool" in err
    code, out, err = run("reproduce", *arguments, "--epochs=1", "--learning_rate=1e-3", "--overwrite")
    assert code == 0 and "Fine-tuning: 1 epochs after pruning" in out, err
    tuned = json.loads((here / "results.json").read_text())["rows"]
    untuned = grid.results["rows"][0:3:2]
    assert [row["name"] for row in tuned] == [row["name"] for row in untuned]
    assert tuned[1]["file_mb"] != untuned[1]["file_mb"]
    assert not list(here.glob("*.work")) and (here / "notes.txt").exists()


MISTAKES: dict[str, tuple[list[str], str]] = {
    "no dataset": (["--output=out"], "--dataset"),
    "no output": (["--dataset={yard}"], "--output"),
    "unknown network": (["--dataset={yard}", "--output=out", "--networks=resnet"], "'resnet' is none of alexnet"),
    "too few images": (
        ["--dataset={yard},{hall}", "--output=out", "--whitening_dataset={yard}"],
        "takes more than 4096 database images, here are 22: name more data sets with --whitening_dataset",
    ),
    "both": (["--dataset={yard}", "--output=out", "--models=a.keras", "--networks=vgg16"], "leave out --networks"),
    "size": (["--dataset={yard}", "--output=out", "--models=a.keras", "--input_size=96x96"], "leave out --networks"),
    "bad size": (["--dataset={yard}", "--output=out", "--input_size=96"], "expected HEIGHTxWIDTH"),
    "missing model": (["--dataset={yard}", "--output=out", "--models=no.keras"], "no.keras: no such model file"),
    "alike": (["--dataset={yard}", "--output=out", "--models={squeeze},{squeeze}"], "two are called 'squeeze'"),
    "missing data": (["--dataset=folder:no", "--output=out", "--models={squeeze}"], "folder:no: no such folder"),
    "no queries": (["--dataset={flat}", "--output=out", "--models={squeeze}"], "no query has a positive"),
}  # fmt: skip


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_line_and_leaves_nothing(mistake: str, grid: SimpleNamespace, run, here: Path) -> None:
    arguments, message = MISTAKES[mistake]
    values = {
        "yard": f"folder:{grid.folder}/yard", "hall": f"folder:{grid.folder}/hall",
        "flat": f"folder:{grid.folder}/yard/place0", "squeeze": f"{grid.folder}/squeeze.keras",
    }  # fmt: skip
    code, out, err = run("reproduce", *(argument.format(**values) for argument in arguments))
    assert code == 2 and out == "" and err.count("\n") == 1 and message in err
    assert not any(here.iterdir())


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
        model = outline(PlaceNet, reproduce.BACKBONES[name], clusters=reproduce.CLUSTERS, whitening=reproduce.WHITENING)
        assert model.count_params() / 1e6 == pytest.approx(millions, abs=0.06)
