"""The tool of the paper's grid: its flags reach the workflow, its table is printed, mistakes are one line."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from tfplaces.workflows import paper_grid


def test_flags_reach_the_workflow_and_the_table_is_printed(
    run, made: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def make(*args, **options) -> str:
        calls.append((args, options))
        return "# The table\n"

    monkeypatch.setattr(paper_grid, "make_paper_grid", make)
    assert run(
        "reproduce", "--dataset=folder:x,y,toytown", f"--models={made.keras}", "--output=out", "--epochs=2", "--seed=3",
    ) == (0, "# The table\n", "")  # fmt: skip
    assert run(
        "reproduce", "--dataset=a", "--output=out", "--networks=vgg16", "--overwrite",
        "--whitening_dataset=folder:c,folder:d,e", "--input_size=96x128", "--learning_rate=0.5",
    )[0] == 0  # fmt: skip
    first = {"models": [str(made.keras)], "networks": [], "whitening_datasets": [], "input_size": None, "epochs": 2,
             "learning_rate": 1e-4, "seed": 3, "overwrite": False}  # fmt: skip
    second = {"models": [], "networks": ["vgg16"], "whitening_datasets": ["folder:c", "folder:d,e"],
              "input_size": (96, 128), "epochs": 0, "learning_rate": 0.5, "seed": 0, "overwrite": True}  # fmt: skip
    assert calls == [((["folder:x,y", "toytown"], "out"), first), ((["a"], "out"), second)]


MISTAKES: dict[str, tuple[list[str], str]] = {
    "no dataset": (["--output=out"], "--dataset"),
    "no output": (["--dataset={data}"], "--output"),
    "both": (["--dataset={data}", "--output=out", "--models=a.keras", "--networks=vgg16"], "leave out --networks"),
    "size": (["--dataset={data}", "--output=out", "--models=a.keras", "--input_size=96x96"], "leave out --networks"),
    "bad size": (["--dataset={data}", "--output=out", "--input_size=96"], "expected HEIGHTxWIDTH"),
    "missing model": (["--dataset={data}", "--output=out", "--models=no.keras"], "no.keras: no such model file"),
    "unknown network": (["--dataset={data}", "--output=out", "--networks=resnet"], "'resnet' is none of alexnet"),
    "missing data": (["--dataset=folder:no", "--output=out", "--models={keras}"], "folder:no: no such folder"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_line_and_leaves_nothing(
    mistake: str, run, made: SimpleNamespace, photos: Path, here: Path
) -> None:
    arguments, message = MISTAKES[mistake]
    values = {"data": f"folder:{photos}", "keras": made.keras}
    code, out, err = run("reproduce", *(argument.format(**values) for argument in arguments))
    assert code == 2 and out == "" and err.count("\n") == 1 and message in err
    assert not any(here.iterdir())
