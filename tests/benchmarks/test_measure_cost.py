"""The files of the cost benchmark are made once, and its rows are those of the models; speeds are not judged."""

from __future__ import annotations

from pathlib import Path

import pytest

from tfplaces.benchmarks import cost
from tfplaces.benchmarks.tables import format_result
from tfplaces.common.errors import UserError


def test_files_are_made_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    measured: list[list[str]] = []

    def measure_models(paths: list[str]) -> list[dict]:
        measured.append(paths)
        if len(measured) == 1:
            raise UserError("stopped")
        memory = {"above_runtime": 2e6, "peak": 3e6}
        return [
            {"latency": [{"ms": 2.0 * k + 1, "ratio": 0.5}], "memory": memory, "file_bytes": Path(path).stat().st_size}
            for k, path in enumerate(paths)
        ]

    monkeypatch.setattr(cost, "measure_models", measure_models)
    monkeypatch.setattr(cost, "PRECISIONS", ("float32", "dynamic_int8"))
    networks = {"squeezenet": 4}
    with pytest.raises(UserError, match="stopped"):
        cost.measure_cost(str(tmp_path), networks, (64, 64))
    made = {path: path.stat().st_mtime_ns for path in (tmp_path / "squeezenet").iterdir()}
    assert sorted(path.name for path in made) == ["dynamic_int8.tflite", "float32.tflite", "model.keras"]
    rows = cost.measure_cost(str(tmp_path), networks, (64, 64))
    assert {path: path.stat().st_mtime_ns for path in made} == made
    assert measured[0] == measured[1] and [Path(path).name for path in measured[0]] == [
        "model.keras", "float32.tflite", "dynamic_int8.tflite",
    ]  # fmt: skip
    assert [(row["backbone"], row["precision"]) for row in rows] == [
        ("squeezenet", "keras"), ("squeezenet", "float32"), ("squeezenet", "dynamic_int8"),
    ]  # fmt: skip
    # An int8 file takes about a quarter of the float one.
    assert rows[2]["file_bytes"] < 0.35 * rows[1]["file_bytes"]
    last = format_result({"cost": rows}).splitlines()[-1]
    assert last.split() == ["squeezenet", "dynamic_int8", "5.0", "0.50", "2", f"{rows[2]['file_bytes'] / 1e6:.1f}"]
