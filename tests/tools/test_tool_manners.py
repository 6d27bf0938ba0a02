"""What the tools do with mistakes: one line, exit code 2, nothing left behind; and early, where that is possible."""

from __future__ import annotations

import configparser
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from absl import flags
from commands import command_of

import tfplaces
from tfplaces.common.errors import UserError
from tfplaces.tools import entry, flag_values

ROOT = Path(__file__).parents[2]
ALL = sorted(p.stem for p in (ROOT / "tools").glob("*.py") if p.stem not in ("__init__", "entry", "flag_values"))
TOOLS = (
    "train", "compress", "convert", "check_data", "describe", "evaluate", "summarize", "benchmark", "reproduce", "pack",
    "import_network", "index", "query",
)  # fmt: skip


def test_every_tool_has_a_console_command_and_a_name_of_its_own() -> None:
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    lines = config["options.entry_points"]["console_scripts"].split("\n")
    scripts = dict(line.replace(" ", "").split("=") for line in lines if line)
    assert scripts == {command_of(tool): f"tfplaces.tools.{tool}:run" for tool in ALL}
    # `python tools/TOOL.py` puts tools/ first on the path.
    assert not {p.stem for p in (ROOT / "tools").glob("*.py")} & (set(sys.stdlib_module_names) | {"absl", "tfplaces"})


@pytest.mark.parametrize("tool", TOOLS)
def test_help_and_version(tool: str, run) -> None:
    command = command_of(tool)
    for flag in ("--help", "-h", "-help"):
        code, out, err = run(tool, flag, "--nonsense")
        assert (code, err) == (0, "") and out.startswith(f"{command}: ")
    described = [line.split(":")[0].strip() for line in out.splitlines() if line.startswith("  --")]
    assert described == sorted(described) and {"--overwrite", "--seed", "--version", "--help"} <= set(described)
    assert f"{command} " in out  # an example
    assert run(tool, "--version") == (0, f"tfplaces {tfplaces.__version__}\n", "")


# What is wrong, the tool, its arguments and what the line says. {data}, {model} and so on are good ones.
EARLY: dict[str, tuple[str, list[str], str]] = {
    "unknown flag": ("evaluate", ["--model={model}", "--dataset={data}", "--colour=red"], "Unknown command line flag"),
    "argument": ("evaluate", ["--model={model}", "--dataset={data}", "red"], "unexpected argument 'red'"),
    "seed": ("train", ["--dataset={data}", "--output=run", "--seed=-1"], "--seed=-1"),
    "epochs": ("train", ["--dataset={data}", "--output=run", "--epochs=x"], "--epochs=x"),
    **{
        f"{flag}={value}": (
            tool, [*arguments, f"--{flag}={value}"], f"--{flag}={value}: expected a finite number",
        )
        for tool, arguments, names in (
            ("train", ["--dataset={data}", "--output=run"], ("learning_rate", "weight_decay", "sharpness")),
            ("compress", ["--model={model}", "--output=m.places"], ("threshold", "learning_rate", "target_drop")),
            ("convert", ["--model={model}", "--output=m.tflite", "--precision=float32"], ("max_drop",)),
        )
        for flag in names
        for value in ("nan", "inf")
    },
    "clusters": ("train", ["--dataset={data}", "--output=run", "--clusters=0"], "--clusters=0"),
    "bits": ("compress", ["--model={model}", "--output=m.places", "--bits=9"], "--bits=9"),
    "sparsity": ("compress", ["--model={model}", "--output=m.places", "--sparsity=1.5"], "--sparsity=1.5"),
    "precision": ("convert", ["--model={model}", "--output=m.tflite", "--precision=int4"], "--precision=int4"),
    "power of no whitening": ("train", ["--dataset={data}", "--output=run", "--whitening_power=0.5"], "--whitening"),
    **{
        f"whitening power {text}": (
            "train", ["--dataset={data}", "--output=run", f"--whitening_power={text}"], f"--whitening_power={text}: ",
        )
        for text in ("0.6", "-1", "nan", "half")
    },
    "no dataset": ("train", ["--output=run"], "--dataset"),
    "no train output": ("train", ["--dataset={data}"], "--output"),
    "no model": ("compress", ["--output=m.places"], "--model"),
    "no output": ("convert", ["--model={model}"], "--output"),
    "no evaluate model": ("evaluate", ["--dataset={data}"], "--model"),
    "neither": ("summarize", [], "--model=FILE or --backbone=NAME"),
    "both": ("summarize", ["--model={model}", "--backbone=vgg16"], "--model=FILE or --backbone=NAME"),
    "both shares": (
        "compress", ["--model={model}", "--output=m.places", "--threshold=1", "--sparsity=0.5"], "not both",
    ),
    "no calibration": ("convert", ["--model={model}", "--output=m.tflite"], "needs --calibration"),
    "places ending": ("compress", ["--model={model}", "--output=m.keras"], "is named .places"),
    "tflite ending": ("convert", ["--model={model}", "--output=m.bin", "--calibration={data}"], "is named .tflite"),
    "missing model": ("compress", ["--model=no.keras", "--output=m.places"], "no.keras: no such model file"),
    "missing model to convert": (
        "convert", ["--model=no.places", "--output=m.tflite", "--precision=float32"], "no.places: no such model file",
    ),
    "missing model to evaluate": ("evaluate", ["--model=no.tflite", "--dataset={data}"], "no such model file"),
    "missing model to summarize": ("summarize", ["--model=no.keras"], "no such model file"),
    "a folder as model": ("evaluate", ["--model=.", "--dataset={data}"], ".: no such model file"),
    "a text as model": ("evaluate", ["--model={bad}/notes.txt", "--dataset={data}"], "notes.txt: not a model"),
    "tflite to compress": ("compress", ["--model={tflite}", "--output=m.places"], "m.tflite: not a model"),
    "tflite to convert": (
        "convert", ["--model={tflite}", "--output=a.tflite", "--calibration={data}"], "m.tflite: not a model",
    ),
    "missing data": ("train", ["--dataset=folder:none", "--output=run"], "folder:none: no such folder"),
    "missing data to evaluate": ("evaluate", ["--model={model}", "--dataset=folder:none"], "no such folder"),
    "missing calibration": (
        "convert", ["--model={model}", "--output=m.tflite", "--calibration=folder:none"], "no such folder",
    ),
    "missing tuning": (
        "compress", ["--model={model}", "--output=m.places", "--dataset=folder:none"], "no such folder",
    ),
    "unknown data": ("evaluate", ["--model={model}", "--dataset=oxford"], "names no data set"),
    "garbage tflite": ("evaluate", ["--model={bad}/garbage.tflite", "--dataset={data}"], "cut short or damaged"),
    "truncated tflite": ("evaluate", ["--model={bad}/truncated.tflite", "--dataset={data}"], "truncated.tflite"),
    "empty tflite": ("evaluate", ["--model={bad}/empty.tflite", "--dataset={data}"], "not a TFLite model"),
    "size of tflite": (
        "evaluate", ["--model={tflite}", "--dataset={data}", "--input_size=32x32"], "takes images of 48x64 only",
    ),
    "no folder for json": ("evaluate", ["--model={tflite}", "--dataset={data}", "--json=no/a.json"], "does not exist"),
    "no folder for queries": (
        "evaluate", ["--model={tflite}", "--dataset={data}", "--per_query=no/a.csv"], "does not exist",
    ),
    "nothing to compare": (
        "evaluate", ["--model={tflite}", "--dataset={data}", "--compare=no.keras"], "no.keras: no such model file",
    ),
    "ending of descriptors": ("describe", ["--model={tflite}", "--dataset={data}", "--output=x.txt"], "named .npy, or"),
    "pairs of an array": (
        "describe", ["--model={tflite}", "--dataset={data}", "--output=x.npy", "--pairs=p.txt"], "--pairs goes with",
    ),
    "nearest of no pairs": (
        "describe", ["--model={tflite}", "--dataset={data}", "--output=x.h5", "--nearest=3"], "--nearest goes with",
    ),
    "nothing to describe": (
        "describe", ["--model={tflite}", "--dataset=folder:none", "--output=x.npy"], "no such folder",
    ),
    "no folder for descriptors": (
        "describe", ["--model={tflite}", "--dataset={data}", "--output=no/x.npy"], "does not exist",
    ),
    "garbage to describe with": (
        "describe", ["--model={bad}/garbage.tflite", "--dataset={data}", "--output=x.npy"], "cut short or damaged",
    ),
    "ending of an index": ("index", ["--model={tflite}", "--dataset={data}", "--output=a.db"], "named .index"),
    "no model for an index": ("index", ["--dataset={data}", "--output=a.index"], "made with --model and --dataset"),
    "no index to add to": (
        "index", ["--model={tflite}", "--dataset={data}", "--output=a.index", "--add"], "no such index to add to",
    ),
    "no index to remove from": ("index", ["--output=a.index", "--remove=x"], "no such index to remove places from"),
    "removing with a model": (
        "index", ["--output=a.index", "--remove=x", "--model={tflite}"], "--remove goes without --model",
    ),
    "no data to index": ("index", ["--model={tflite}", "--dataset=folder:none", "--output=a.index"], "no such folder"),
    "garbage to index with": (
        "index", ["--model={bad}/garbage.tflite", "--dataset={data}", "--output=a.index"], "cut short or damaged",
    ),
    "no index": ("query", ["--model={tflite}", "--index=a.index", "{data_photo}"], "a.index: no such file"),
    "a text as index": ("query", ["--model={tflite}", "--index={bad}/notes.txt", "{data_photo}"], "no index of places"),
    "no photo": ("query", ["--model={tflite}", "--index=a.index", "none.jpg"], "none.jpg: no such photo"),
    "no photos": ("query", ["--model={tflite}", "--index=a.index"], "no photos to find the places of"),
    "within of nothing": (
        "query", ["--model={tflite}", "--index=a.index", "--within=5", "{data_photo}"], "--within goes with --near",
    ),
    **{
        f"near {text}": (
            "query", ["--model={tflite}", "--index=a.index", f"--near={text}", "{data_photo}"], f"--near={text}: ",
        )
        for text in ("52.2", "a,b", "1,2,3", "nan,0")
    },
    "nothing to check": ("check_data", [], "--dataset"),
    "missing data to check": ("check_data", ["--dataset=folder:none"], "folder:none: no such folder"),
    "ending of a sheet": ("check_data", ["--dataset={data}", "--sheet=a.pdf"], "named .jpg or .png"),
    "no folder for a sheet": ("check_data", ["--dataset={data}", "--sheet=no/a.jpg"], "does not exist"),
    "no queries to draw": ("check_data", ["--dataset=folder:{data_place}", "--sheet=a.jpg"], "has no queries to draw"),
    "no model to pack": ("pack", ["--output=m.tflpack"], "--model"),
    "missing model to pack": ("pack", ["--model=no.tflite", "--output=m.tflpack"], "no.tflite: no such model file"),
    "tflpack ending": ("pack", ["--model={tflite}", "--output=m.zip"], "what is packed is named .tflpack"),
    "tflite ending of unpacked": (
        "pack", ["--unpack", "--model={bad}/empty.tflpack", "--output=m.tflpack"], "what is unpacked is named .tflite",
    ),
    "places to pack": ("pack", ["--model={bad}/empty.places", "--output=m.tflpack"], "empty.places: not a model"),
    "tflite to unpack": ("pack", ["--unpack", "--model={tflite}", "--output=a.tflite"], "m.tflite: not a model"),
    **{
        f"{name}.tflite to pack": ("pack", [f"--model={{bad}}/{name}.tflite", "--output=m.tflpack"], f"{name}.tflite: ")
        for name in ("garbage", "truncated", "empty")
    },
    **{
        f"{name}.tflpack to unpack": (
            "pack", ["--unpack", f"--model={{bad}}/{name}.tflpack", "--output=a.tflite"], f"{name}.tflpack: ",
        )
        for name in ("garbage", "truncated", "empty")
    },
    "garbage tflpack": ("evaluate", ["--model={bad}/garbage.tflpack", "--dataset={data}"], "not a .tflpack file"),
    "no checkpoint to import": ("import_network", ["--output=m.keras"], "--checkpoint"),
    "nowhere to import to": ("import_network", ["--checkpoint={bad}/notes.txt"], "--output"),
    "missing checkpoint": ("import_network", ["--checkpoint=no.pth", "--output=m.keras"], "no.pth: no such file"),
    "ending of what is imported": (
        "import_network", ["--checkpoint={bad}/notes.txt", "--output=m.places"], "what is imported is named .keras",
    ),
    "no folder to import to": (
        "import_network", ["--checkpoint={bad}/notes.txt", "--output=no/m.keras"], "does not exist",
    ),
    "nothing to measure": ("benchmark", [], "--what, one of accuracy, coding, cost, models"),
    "no model to whiten": ("benchmark", ["--what=whitening", "--dataset={data}"], "needs --model, see --help"),
    "whitening dimensions": (
        "benchmark", ["--what=whitening", "--model={model}", "--dataset={data}", "--dimensions=0"],
        "--dimensions=0: expected numbers",
    ),
    "two to measure": ("benchmark", ["--models={tflite}", "--what=coding"], "--models goes with --what=accuracy and"),
    "nowhere to keep accuracy": (
        "benchmark", ["--what=accuracy", "--models={model}", "--dataset={data}"], "--what=accuracy needs --json",
    ),
    "nowhere to keep cost": ("benchmark", ["--what=cost"], "--what=cost needs --json"),
    "accuracy of a tflite": (
        "benchmark", ["--what=accuracy", "--models={tflite}", "--dataset={data}", "--json=a.json"],
        "not a model that this tool opens; it opens .keras, .places",
    ),
    "accuracy on no data": (
        "benchmark", ["--what=accuracy", "--models={model}", "--dataset=folder:no", "--json=a.json"], "folder:no",
    ),
    "seeds of models": ("benchmark", ["--models={tflite}", "--seeds=2"], "--seeds goes with --what=accuracy"),
    "threads of coding": ("benchmark", ["--what=coding", "--threads=1"], "--threads goes with --what=models, not with"),
    "size of a network": ("benchmark", ["--what=network", "--input_size=8x8"], "--input_size goes with --what=models"),
    "symbols of models": ("benchmark", ["--models={tflite}", "--symbols=9999"], "--symbols goes with --what=coding"),
    **{
        f"threads {text}": ("benchmark", ["--models={tflite}", f"--threads={text}"], f"--threads={text}: expected")
        for text in ("0", "1,", "two", "-1", "65", "²")
    },
    "missing model to measure": ("benchmark", ["--models={tflite},no.keras"], "no.keras: no such model file"),
    "a text to measure": ("benchmark", ["--models={tflite},{bad}/notes.txt"], "notes.txt: not a model"),
    "garbage to measure": (
        "benchmark", ["--models={model},{bad}/garbage.tflite"], "a TFLite model cut short or damaged",
    ),
    "truncated to measure": ("benchmark", ["--models={model},{bad}/truncated.tflpack"], "truncated.tflpack"),
    "other size to measure": (
        "benchmark", ["--models={model},{tflite}", "--input_size=32x32"], "takes images of 48x64 only",
    ),
    "no folder for models": ("benchmark", ["--models={tflite}", "--json=no/a.json"], "does not exist"),
    "unknown to measure": ("benchmark", ["--what=speed"], "--what=speed"),
    "no folder for tables": ("benchmark", ["--what=coding", "--json=no/a.json"], "does not exist"),
    "no folder": ("compress", ["--model={model}", "--output=no/m.places"], "does not exist"),
    **{
        f"size {text} to {tool}": (
            tool, [*arguments, f"--input_size={text}"], f"--input_size={text}: expected HEIGHTxWIDTH",
        )
        for tool, arguments in {
            "train": ["--dataset={data}", "--output=run"],
            "convert": ["--model={model}", "--output=m.tflite", "--calibration={data}"],
            "evaluate": ["--model={model}", "--dataset={data}"],
            "summarize": ["--model={model}"],
            "benchmark": ["--models={model}"],
            "import_network": ["--checkpoint={bad}/notes.txt", "--output=m.keras"],
        }.items()
        for text in ("224", "0x5", "-1x5", "axb", "9000x9", "1x2x3", "x", "²x5")
    },
}  # fmt: skip

# Known only when TensorFlow has opened the model or built the network.
LATE: dict[str, tuple[str, list[str], str]] = {
    "unknown backbone": ("train", ["--dataset={data}", "--output=run", "--backbone=resnet"], "'resnet' is not known"),
    "a text to import": ("import_network", ["--checkpoint={bad}/notes.txt", "--output=m.keras"], "notes.txt: "),
    "a model to import": ("import_network", ["--checkpoint={model}", "--output=a.keras"], "of something else"),
    "unknown kind": (
        "import_network", ["--checkpoint={bad}/notes.txt", "--output=m.keras", "--kind=resnet"],
        "kind 'resnet' is not known; there are cosplace,",
    ),
    "long licence": (
        "import_network", ["--checkpoint={bad}/notes.txt", "--output=m.keras", "--licence=" + 161 * "a"],
        "expected 1 to 160 printable characters",
    ),
    "unknown cut": ("train", ["--dataset={data}", "--output=run", "--cut=pool99"], "no layer 'pool99'"),
    "missing weights": (
        "train", ["--dataset={data}", "--output=run", "--backbone_weights=no.npz"], "no.npz: no such file",
    ),
    "whitening": (
        "train", ["--dataset={data}", "--output=run", "--whitening=4096"], "cannot be fitted on 12 images: at most 11",
    ),
    "backbone to summarize": ("summarize", ["--backbone=resnet"], "'resnet' is not known"),
    "too small to summarize": ("summarize", ["--backbone=alexnet", "--input_size=8x8"], "too small for alexnet"),
    **{
        f"{name} to {tool}": (tool, [f"--model={{bad}}/{name}", *arguments], name)
        for tool, arguments in {
            "compress": ["--output=m.places"],
            "convert": ["--output=m.tflite", "--precision=float32"],
            "evaluate": ["--dataset={data}", "--json=scores.json"],
            "summarize": [],
        }.items()
        for name in (
            "garbage.keras", "garbage.places", "truncated.keras", "truncated.places", "empty.keras", "empty.places",
            "renamed.keras", "renamed.places", "dense.keras",
        )
    },
    "renamed.places to measure": ("benchmark", ["--models={tflite},{bad}/renamed.places"], "renamed.places"),
    "dense.keras to measure": ("benchmark", ["--models={bad}/dense.keras,{tflite}", "--json=b.json"], "dense.keras"),
    "conv.keras to compress": (
        "compress", ["--model={bad}/conv.keras", "--output=m.places"], "conv.keras: holds a Sequential, not a PlaceNet",
    ),
    "no descriptors": (
        "evaluate", ["--model={bad}/conv.keras", "--dataset={data}", "--json=scores.json"], "",
    ),
    "too much": ("compress", ["--model={model}", "--output=m.places", "--threshold=100"], "leaves nothing of"),
    "too large a share": ("compress", ["--model={model}", "--output=m.places", "--sparsity=1"], "below 1"),
    "too small to convert": (
        "convert", ["--model={model}", "--output=m.tflite", "--precision=float32", "--input_size=1x1"], "",
    ),
    "too small to evaluate": (
        "evaluate", ["--model={model}", "--dataset={data}", "--input_size=1x1", "--json=scores.json"], "",
    ),
}  # fmt: skip


def fill(arguments: list[str], made, bad_models: Path, photos: Path) -> list[str]:
    values = {
        "data": f"folder:{photos}",
        "data_place": photos / "place0",
        "data_photo": photos / "place0" / "0.png",
        "model": made.keras,
        "tflite": made.tflite,
        "bad": bad_models,
    }
    return [argument.format(**values) for argument in arguments]


@pytest.mark.parametrize("mistake", [*EARLY, *LATE])
def test_a_mistake_is_one_line_and_leaves_nothing(mistake: str, run, made, bad_models, photos, here: Path) -> None:
    tool, arguments, message = {**EARLY, **LATE}[mistake]
    code, out, err = run(tool, *fill(arguments, made, bad_models, photos))
    assert code == 2 and out == ""
    command = command_of(tool)
    assert err.startswith(f"{command}: ") and err.count("\n") == 1 and err.endswith("\n"), err
    assert message in err and "Traceback" not in err
    assert not any(here.iterdir())


@pytest.mark.parametrize(
    "tool, name, arguments",
    [
        ("train", "run/model.keras", ["--dataset={data}", "--output=run"]),
        ("compress", "m.places", ["--model={model}", "--output=m.places"]),
        ("convert", "m.tflite", ["--model={model}", "--output=m.tflite", "--calibration={data}"]),
        ("evaluate", "s.json", ["--model={model}", "--dataset={data}", "--json=s.json"]),
        ("evaluate", "q.csv", ["--model={model}", "--dataset={data}", "--per_query=q.csv"]),
        ("describe", "x.npy", ["--model={model}", "--dataset={data}", "--output=x.npy"]),
        ("describe", "x.names.csv", ["--model={model}", "--dataset={data}", "--output=x.npy"]),
        ("describe", "p.txt", ["--model={model}", "--dataset={data}", "--output=x.h5", "--pairs=p.txt"]),
        ("check_data", "s.jpg", ["--dataset={data}", "--sheet=s.jpg"]),
        ("check_data", "c.json", ["--dataset={data}", "--json=c.json"]),
        ("summarize", "s.json", ["--model={model}", "--json=s.json"]),
        ("pack", "m.tflpack", ["--model={tflite}", "--output=m.tflpack"]),
        ("benchmark", "b.json", ["--models={tflite}", "--json=b.json"]),
        ("import_network", "a.keras", ["--checkpoint={bad}/notes.txt", "--output=a.keras"]),
    ],
)
def test_an_output_that_exists_is_refused_and_untouched(tool, name, arguments, run, made, bad_models, photos, here):
    path = here / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"before")
    code, out, err = run(tool, *fill(arguments, made, bad_models, photos))
    assert (code, out) == (2, "") and err.count("\n") == 1
    assert f"{name}: exists already; give --overwrite to replace it" in err
    assert path.read_bytes() == b"before" and os.listdir(path.parent) == [path.name]


def test_a_failure_with_overwrite_keeps_what_was_there(run, made, bad_models: Path, photos: Path, here: Path) -> None:
    for tool, name, arguments in (
        ("compress", "m.places", ["--model={bad}/dense.keras", "--output=m.places"]),
        ("convert", "m.tflite", ["--model={bad}/dense.keras", "--output=m.tflite", "--precision=float32"]),
        ("evaluate", "s.json", ["--model={bad}/garbage.tflite", "--dataset={data}", "--json=s.json"]),
        ("pack", "m.tflpack", ["--model={bad}/truncated.tflite", "--output=m.tflpack"]),
    ):
        (here / name).write_bytes(b"before")
        assert run(tool, *fill(arguments, made, bad_models, photos), "--overwrite")[0] == 2
        assert (here / name).read_bytes() == b"before"
    assert sorted(os.listdir(here)) == ["m.places", "m.tflite", "m.tflpack", "s.json"]


EARLY_SCRIPT = """
import importlib, json, sys
from tfplaces.tools import entry, flag_values
entry._quiet_native_logs = lambda: None
for tool, arguments in json.load(sys.stdin):
    try:
        importlib.import_module(f"tfplaces.tools.{tool}").run([tool, *arguments])
    except SystemExit as exit:
        print(exit.code, "tensorflow" in sys.modules, "keras" in sys.modules)
"""


def test_what_can_be_known_before_tensorflow_is_imported_is(made, bad_models: Path, photos: Path, here: Path) -> None:
    import json

    cases = [[tool, fill(arguments, made, bad_models, photos)] for tool, arguments, _ in EARLY.values()]
    script = [sys.executable, "-c", EARLY_SCRIPT]
    process = subprocess.run(script, input=json.dumps(cases), capture_output=True, text=True, cwd=here, timeout=120)
    assert process.stdout.splitlines() == ["2 False False"] * len(cases), process.stderr[-2000:]


def test_what_is_to_be_known_of_the_data_is_one_line(run, made, photos: Path, here: Path) -> None:
    """And it is said every time, by every tool, for every data set."""
    known = here / "known"
    for part in ("queries", "database"):
        (known / part).mkdir(parents=True)
        for place in (0, 1):
            os.link(photos / f"place{place}" / "0.png", known / part / f"{place}.png")
    (known / "gt.json").write_text(
        '{"queries": ["0.png", "1.png"], "database": ["0.png", "1.png"], "positives": [[0], [1]]}'
    )
    note = f"folder:{known}: 2 of 2 queries are in the database too, byte by byte: finding those shows nothing"
    for _ in range(2):
        code, out, err = run("evaluate", f"--model={made.tflite}", f"--dataset=folder:{known}")
        assert code == 0 and "100.00" in out
        assert err.splitlines().count(f"tfplaces-evaluate: {note}") == 1 and "DataWarning" not in err
    _, _, err = run("convert", f"--model={made.keras}", "--output=m.tflite", "--precision=float32",
                    f"--verify=folder:{known}")  # fmt: skip
    assert f"tfplaces-convert: {note}" in err.splitlines()


def run_entry(main, capsys, *arguments: str) -> tuple:
    with pytest.raises(SystemExit) as exit:
        entry.run(lambda values: None, main, ["/somewhere/tool.py", *arguments])
    return (exit.value.code, *capsys.readouterr())


@pytest.mark.parametrize(
    "error, code, line",
    [
        (UserError("a\n  b"), 2, "tool: a b\n"),
        (UserError("a\x1b[2Jb"), 2, "tool: a\\x1b[2Jb\n"),
        (UserError(), 2, "tool: UserError\n"),
        (MemoryError(), 2, "tool: not enough memory\n"),
        (FileNotFoundError(2, "No such file or directory", "a.npz"), 2, "tool: a.npz: No such file or directory\n"),
        (OSError(28, "No space left on device"), 2, "tool: No space left on device\n"),
        (KeyboardInterrupt(), 130, "tool: interrupted\n"),
    ],
)
def test_errors_of_a_tool(error, code: int, line: str, capsys, monkeypatch: pytest.MonkeyPatch) -> None:
    def main(args) -> None:
        raise error

    monkeypatch.setattr(entry, "_quiet_native_logs", lambda: None)
    assert run_entry(main, capsys) == (code, "", line)
    # To look into one, it is raised.
    monkeypatch.setenv("TFPLACES_DEBUG", "1")
    if code == 2:
        with pytest.raises(type(error)):
            entry.run(lambda values: None, main, ["tool"])


@pytest.mark.parametrize("kind", [TypeError, ValueError, RuntimeError, KeyError])
def test_bugs_of_a_tool_are_not_hidden(kind: type[Exception], monkeypatch: pytest.MonkeyPatch) -> None:
    def main(args) -> None:
        raise kind("a bug")

    monkeypatch.setattr(entry, "_quiet_native_logs", lambda: None)
    with pytest.raises(kind, match="a bug"):
        entry.run(lambda values: None, main, ["tool"])


def test_what_a_tool_prints_cannot_command_the_terminal(capsys, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(entry, "_quiet_native_logs", lambda: None)
    assert run_entry(lambda args: print("layer \x1b]0;mine\x07"), capsys) == (0, "layer \\x1b]0;mine\\x07\n", "")


def test_home_is_expanded_in_every_flag(capsys, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(entry, "_quiet_native_logs", lambda: None)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    seen = []

    def define(values) -> None:
        flags.DEFINE_string("models", None, "", flag_values=values)

    for given, expected in (
        ("~/a.keras", f"{tmp_path}/a.keras"),
        ("a,~/b,c~d", f"a,{tmp_path}/b,c~d"),
        ("~", str(tmp_path)),
        ("~nobody-of-that-name/a", "~nobody-of-that-name/a"),
        ("~there", "~there"),
    ):
        (tmp_path / "~there").touch()
        with pytest.raises(SystemExit):
            entry.run(define, lambda args: seen.append(args.models), ["tool", f"--models={given}"])
        assert seen[-1] == expected


@pytest.mark.skipif(os.geteuid() != 0, reason="making a device takes root")
def test_a_device_is_never_replaced(tmp_path: Path) -> None:
    try:
        os.mknod(tmp_path / "null", 0o666 | stat.S_IFCHR, os.makedev(1, 3))
    except PermissionError:
        pytest.skip("no devices can be made here")
    with pytest.raises(UserError, match="is a device or a pipe"):
        entry.check_output(str(tmp_path / "null"), overwrite=True)


def test_outputs_that_cannot_be_written_are_found_before_the_work(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path, message in (
        (tmp_path / "none" / "a.json", "does not exist"),
        (tmp_path, "is a folder"),
        (tmp_path / ("n" * 256), "at most 255 are possible"),
    ):
        with pytest.raises(UserError, match=message):
            entry.check_output(str(path), overwrite=True)
    for path, message in (
        (tmp_path / "file", "is no folder"),
        (tmp_path / "file" / "run", "is no folder"),
        (tmp_path / ("n" * 256) / "run", "at most 255 are possible"),
    ):
        with pytest.raises(UserError, match=message):
            entry.check_output_folder(str(path))
    entry.check_output_folder(str(tmp_path / "new" / "run"))
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.parametrize("closed", ["2>&-", ">&-", "<&-", "2>&- >&- <&-"])
def test_closed_standard_streams(closed: str, tmp_path: Path) -> None:
    script = tmp_path / "tool.py"
    script.write_text(
        "import sys\nfrom tfplaces.tools import entry\n"
        "def main(args):\n"
        "    file = open(args.to, 'w')\n"
        "    print('to stdout'); print('to stderr', file=sys.stderr); file.write('content'); file.close()\n"
        "def define(values):\n"
        "    from absl import flags\n"
        "    flags.DEFINE_string('to', None, '', flag_values=values)\n"
        "entry.run(define, main)\n"
    )
    command = f"{sys.executable} {script} --to={tmp_path}/out {closed}"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True)
    assert done.returncode == 0 and (tmp_path / "out").read_text() == "content"
    assert done.stdout == ("" if ">&-" in closed.replace("2>&-", "") else "to stdout\n")


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_kill_goes_through_the_clean_up(signum: int, tmp_path: Path) -> None:
    script = tmp_path / "tool.py"
    script.write_text(
        "import time\nfrom tfplaces.tools import entry\nfrom tfplaces.common.files import replacing\n"
        "def main(args):\n"
        f"    with replacing({str(tmp_path / 'out')!r}) as path:\n"
        "        open(path, 'w').write('half'); print('ready', flush=True); time.sleep(60)\n"
        "entry.run(lambda values: None, main)\n"
    )

    def as_in_a_terminal() -> None:  # whatever runs the tests may have it ignored
        for each in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(each, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)

    with subprocess.Popen(
        [sys.executable, script], stdout=subprocess.PIPE, text=True, preexec_fn=as_in_a_terminal
    ) as process:
        assert process.stdout and process.stdout.readline() == "ready\n"
        process.send_signal(signum)
        assert process.wait(30) == 128 + signum
    assert os.listdir(tmp_path) == ["tool.py"]


@pytest.mark.parametrize("result, code", [(None, 0), (0, 0), (3, 3)])
def test_exit_codes(result, code: int, capsys, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(entry, "_quiet_native_logs", lambda: None)
    assert run_entry(lambda args: result, capsys, "--seed=7") == (code, "", "")


@pytest.mark.parametrize(
    "text, size", [(None, None), ("224x320", (224, 320)), ("48X64", (48, 64)), ("1x8192", (1, 8192))]
)
def test_sizes(text: str | None, size: tuple[int, int] | None) -> None:
    assert flag_values.size(text) == size
