"""Plots: names of points stand beside them and meet nothing."""

from __future__ import annotations

import pytest
from matplotlib.text import Text

from tfplaces.report import Row, plots


@pytest.mark.parametrize("same", [True, False])
def test_labels_do_not_overlap(monkeypatch: pytest.MonkeyPatch, same: bool) -> None:
    boxes = []
    place = plots.label_points

    def record(axes, points, names, line):
        place(axes, points, names, line)
        renderer = axes.figure.canvas.get_renderer()
        boxes.extend(Text.get_window_extent(label, renderer) for label in axes.texts)

    monkeypatch.setattr(plots, "label_points", record)
    plots.size_plot(
        [Row(f"network_{i}", 80.0 + i * (not same), 91.7, 0.0, 0.0, 12_412_344, 0.998, 14.23) for i in range(6)]
    )
    assert len(boxes) == 6
    assert not any(box.count_overlaps(boxes[:i]) for i, box in enumerate(boxes))
