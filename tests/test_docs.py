"""The pages: their links lead somewhere, and every tool and flag that their commands name exists."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest
from absl import flags

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "BUILD.md", *sorted((ROOT / "docs").glob("*.md")), ROOT / "deploy/linux/README.md"]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        there = page.parent / path if path else page
        assert there.exists(), target
        if anchor:
            heads = re.findall(r"^#+ (.*)$", there.read_text(encoding="utf-8"), re.MULTILINE)
            assert anchor in {re.sub(r"[^\w -]", "", head.lower()).replace(" ", "-") for head in heads}, target


def commands(page: Path) -> list[tuple[str, list[str]]]:
    """Tool and flags of each command in the blocks of a page."""
    found = []
    for block in re.findall(r"```sh\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL):
        for line in block.replace("\\\n", " ").splitlines():
            words = re.match(r"\s*(?:tfplaces-([\w-]+)|python tools/(\w+)\.py)\b(.*)", line)
            if words:
                found.append(
                    ((words[1] or words[2]).replace("-", "_"), re.findall(r"--(\w+)", words[3].partition("#")[0]))
                )
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_name_tools_and_flags_that_there_are(page: Path) -> None:
    for tool, given in commands(page):
        values = flags.FlagValues()
        module = {"import": "import_network"}.get(tool, tool)
        importlib.import_module(f"tfplaces.tools.{module}").define_flags(values)
        known = {*values, "overwrite", "seed", "help", "version", "flagfile"}
        assert set(given) <= known, f"{tool}: {sorted(set(given) - known)}"


def test_there_are_commands_to_check() -> None:
    assert len(commands(ROOT / "README.md")) >= 6


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_python_on_the_pages_can_be_parsed(page: Path) -> None:
    for block in re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL):
        compile(block, page.name, "exec")
        for module, names in re.findall(r"^from (tfplaces[\w.]*) import ([\w, ]+)$", block, re.MULTILINE):
            for name in names.split(","):
                assert hasattr(importlib.import_module(module), name.strip()), f"{module}.{name}"
