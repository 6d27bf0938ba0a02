"""A missing dependency is named with the extra that brings it; other failed imports stay what they are."""

from __future__ import annotations

import sys

import pytest

from tfplaces.common.extras import MissingExtraError, needed_by
from tfplaces.tools import entry


@pytest.mark.parametrize(
    "module, message",
    [
        ("ai_edge_litert", "tool needs LiteRT: pip install 'tfplaces[lite]'"),
        ("ai_edge_litert.interpreter", "tool needs LiteRT: pip install 'tfplaces[lite]'"),
        ("tensorflow", "tool needs TensorFlow: pip install 'tfplaces[train]'"),
        ("keras", "tool needs TensorFlow: pip install 'tfplaces[train]'"),
        ("matplotlib.figure", "tool needs matplotlib: pip install 'tfplaces[train]'"),
    ],
)
def test_the_extra_is_named_in_one_line(module: str, message: str, monkeypatch, capsys) -> None:
    monkeypatch.setitem(sys.modules, module.partition(".")[0], None)
    monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.setattr(entry, "_quiet_native_logs", lambda: None)

    def main(args) -> None:
        __import__(module)

    with pytest.raises(SystemExit) as exit:
        entry.run(lambda values: None, main, ["tool"])
    assert (exit.value.code, *capsys.readouterr()) == (2, "", message + "\n")


def test_the_innermost_name_counts() -> None:
    with pytest.raises(MissingExtraError) as raised, needed_by("tool"), needed_by("opening a.keras"):
        raise ModuleNotFoundError("No module named 'keras.ops'", name="keras.ops")
    assert str(raised.value) == "opening a.keras needs TensorFlow: pip install 'tfplaces[train]'"


@pytest.mark.parametrize("name", ["tfplaces.nothing", "kerasy", None])
def test_modules_that_no_extra_brings_are_a_fault_of_ours(name: str | None) -> None:
    error = ModuleNotFoundError("No module", name=name)
    with pytest.raises(ModuleNotFoundError) as raised, needed_by("tool"):
        raise error
    assert raised.value is error
