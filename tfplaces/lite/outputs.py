"""The names of the files that a conversion writes."""

from __future__ import annotations

import os


def report_path(model: str) -> str:
    """The path of the report that stands beside a `.tflite`, or beside one that is rejected."""
    return f"{model}.json" if model.endswith(".rejected") else os.path.splitext(model)[0] + ".json"


def output_paths(model: str, may_be_rejected: bool) -> list[str]:
    """The paths that a conversion may write to: the model and its report, and those of a model that is rejected."""
    rejected = f"{model}.rejected"
    return [model, report_path(model), *([rejected, report_path(rejected)] if may_be_rejected else [])]
