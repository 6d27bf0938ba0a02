"""What the tools are called."""

from __future__ import annotations


def command_of(tool: str) -> str:
    """The console command of a tool; no file can be called import.py, as that is a word of the language."""
    return f"tfplaces-{tool.removesuffix('_network').replace('_', '-')}"
