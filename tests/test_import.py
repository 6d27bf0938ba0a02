"""`import tfplaces` and what a device needs are light; fresh processes show it."""

import subprocess
import sys

import pytest

import tfplaces

HEAVY = ("tensorflow", "keras", "sklearn", "scipy", "PIL", "matplotlib")


@pytest.mark.parametrize(
    ("statement", "kept_out"),
    [
        ("import tfplaces", (*HEAVY, "numpy")),
        ("import tfplaces; dir(tfplaces); tfplaces.__version__", (*HEAVY, "numpy")),
        ("import tfplaces.coding", HEAVY),
        ("import tfplaces.coding", ("ai_edge_litert", "flatbuffers", "absl", "tqdm")),
        ("import tfplaces.describers, tfplaces.evaluation", tuple(m for m in HEAVY if m != "PIL")),
        ("import tfplaces.index", (*(m for m in HEAVY if m != "PIL"), "faiss", "usearch")),
        ("import tfplaces; tfplaces.load_dataset; tfplaces.evaluate", ("tensorflow", "keras")),
    ],
)
def test_stays_light(statement: str, kept_out: tuple[str, ...]) -> None:
    code = f"import sys; {statement}; print([m for m in {kept_out!r} if m in sys.modules])"
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert output.strip() == "[]"


def test_every_public_name_is_there() -> None:
    for name in tfplaces.__all__:
        assert getattr(tfplaces, name) is not None
        assert name in dir(tfplaces)
    assert tfplaces.PlaceNet.__name__ == "PlaceNet"
    assert tfplaces.load_model.__module__ == "tfplaces.opening.models"


def test_other_names_are_not() -> None:
    with pytest.raises(AttributeError, match="module 'tfplaces' has no attribute 'nothing'"):
        _ = tfplaces.nothing
