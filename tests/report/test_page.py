"""The report page: it stands alone, escapes what strangers wrote, and says what the rows say."""

import html.parser
import re

import numpy as np
import pytest

from tfplaces import report
from tfplaces.report import Retrieval, format_table, summary, write_report

HOSTILE = "<script>alert('$x$ & \"y\"')</script>"
KEYS = ("name", "map", "recall1", "drop", "pruned", "bytes", "ratio", "ms")
FLOAT = dict(zip(KEYS, ("float32", 86.42, 91.7, 0.0, 0.0, 12_412_344, 0.998, 14.23), strict=True))
EIGHT = dict(zip(KEYS, ("8bit", 86.5, 91.7, -0.08, 12.2, 2_612_344, 4.75, 14.1), strict=True))
FIVE = dict(zip(KEYS, ("5bit", 86.1, 100.0, 0.32, 71.4, 874_344, 14.2, 14.4), strict=True))
PHONE = dict(zip(KEYS, ("tflite_float32", 86.42, 91.7, -0.0, 0.0, 12_398_000, 1.001, 8.9), strict=True))
ROWS = [FLOAT, EIGHT, FIVE, PHONE]


class Page(html.parser.HTMLParser):
    """The elements, attributes and text of a page."""

    def __init__(self, path):
        super().__init__()
        self.source = path.read_text(encoding="utf-8")
        self.tags, self.attributes, self.text = [], [], ""
        self.feed(self.source)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data):
        self.text += data

    def having(self, name):
        return [value for key, value in self.attributes if key == name]


def write(path, **changes):
    random = np.random.default_rng(0)
    before = {"conv1": random.normal(size=(3, 3, 3, 8)), HOSTILE: random.normal(size=(64, 16))}
    after = {name: np.round(weights).astype(np.float32) for name, weights in before.items()}
    photo = random.integers(0, 256, (24, 32, 3), np.uint8)
    arguments = {
        "title": HOSTILE,
        "facts": [("network", HOSTILE)],
        "rows": [*ROWS, {**FIVE, "name": HOSTILE}],
        "weights_before": before,
        "weights_after": after,
        "retrievals": [Retrieval(photo, HOSTILE, [photo, photo[:, ::2]], [True, False])],
    }
    write_report(str(path), **{**arguments, **changes})
    return Page(path)


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    return write(tmp_path_factory.mktemp("report") / "report.html")


def test_page_is_self_contained(page):
    assert "://" not in page.source
    assert "@import" not in page.source
    assert not {"script", "link", "iframe", "object"} & set(page.tags)
    assert all(value.startswith("data:image/jpeg;base64,") for value in page.having("src"))
    assert all(value.startswith("#") for value in page.having("href") + page.having("xlink:href"))
    assert set(re.findall(r"url\((.)", page.source)) <= {"#"}


def test_names_are_escaped(page):
    assert "<script" not in page.source
    # The title twice, the fact, the layer, the row in the table and in the plot, and the query.
    assert page.text.count(HOSTILE) == 7


def test_every_row_and_both_frames_are_shown(page):
    for row in ROWS:
        assert page.text.count(row["name"]) >= 2, "in the table and in the plot"
    assert {"query", "right", "wrong"} <= set(page.having("class"))
    assert "✓ 1" in page.text and "✗ 2" in page.text
    assert all(page.having("alt")) and len(page.having("alt")) == 3
    assert len(page.having("aria-label")) == page.tags.count("svg") == 3


def test_plots_follow_the_colours_of_the_page(page):
    assert "#01010" not in page.source
    assert "var(--accent)" in page.source.partition("<svg")[2]


def test_levels_and_zeros_are_counted(tmp_path):
    weights = np.array([[0, 0, 0, 1], [0, 0, 0, -1]], np.float32)
    page = write(tmp_path / "a.html", weights_before={"w": weights + 0.1}, weights_after={"w": weights})
    assert "2 × 4" in page.text and "3 distinct values before, 3 after" in page.text and "75% are zero" in page.text


def test_best_values_are_marked(page):
    table = page.source[page.source.index("<tbody>") : page.source.index("</tbody>")]
    marked = [re.findall(r'class="best">([^<]*)', row) for row in table.split("</tr>")]
    assert marked[:4] == [[], ["86.5", "−0.1"], ["100.0", "0.87", "14.2"], ["8.9"]]


def test_small_input(tmp_path):
    page = write(tmp_path / "a.html", rows=[FLOAT], facts=[], weights_before={}, weights_after={}, retrievals=[])
    assert "Weights" not in page.text and "Retrieval" not in page.text
    assert 'class="best"' not in page.source


def test_same_page_from_same_input(tmp_path):
    assert write(tmp_path / "a.html").source == write(tmp_path / "b.html").source


def test_file_names_that_are_not_utf8(tmp_path):
    photo = np.zeros((4, 4, 3), np.uint8)
    page = write(tmp_path / "a.html", title="a\udcff", retrievals=[Retrieval(photo, "q\udcff.jpg", [], [])])
    assert "q?.jpg" in page.text


@pytest.mark.parametrize(
    ("change", "message"),
    [({"rows": []}, "at least one row"), ({"weights_after": {"conv1": np.zeros(3)}}, "same layers, see <script>")],
)
def test_errors_leave_no_file(tmp_path, change, message):
    with pytest.raises(ValueError, match=message):
        write(tmp_path / "a.html", **change)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("same", [True, False])
def test_labels_do_not_overlap(monkeypatch, same):
    boxes = []
    place = report._label_points

    def record(axes, points, names, line):
        place(axes, points, names, line)
        renderer = axes.figure.canvas.get_renderer()
        boxes.extend(report.Text.get_window_extent(label, renderer) for label in axes.texts)

    monkeypatch.setattr(report, "_label_points", record)
    report._size_plot([{**FLOAT, "name": f"network_{i}", "map": 80 + i * (not same)} for i in range(6)])
    assert len(boxes) == 6
    assert not any(box.count_overlaps(boxes[:i]) for i, box in enumerate(boxes))


@pytest.mark.parametrize(
    ("rows", "sentence"),
    [
        (ROWS, "5bit is 14.2x smaller than float32 at 0.3 points of mAP."),
        ([FLOAT, EIGHT], "8bit is 4.8x smaller than float32 and gains 0.1 points of mAP."),
        ([FLOAT, {**FIVE, "drop": -0.04}], "5bit is 14.2x smaller than float32 at the same mAP."),
        ([FLOAT, {**FIVE, "drop": 1.04}], "5bit is 14.2x smaller than float32 at 1.0 points of mAP."),
        (
            [FLOAT, {**FIVE, "drop": 9.0}, {**EIGHT, "drop": 2.0}],
            "8bit is 4.8x smaller than float32 but loses 2.0 points of mAP; nothing smaller is within one point.",
        ),
        ([PHONE, FLOAT], "tflite_float32 reaches 86.4 mAP; nothing here is smaller than float32."),
    ],
)
def test_summary(rows, sentence):
    assert summary(rows) == sentence


def test_table():
    assert format_table([FLOAT, EIGHT, {**FIVE, "name": "a|b", "ms": 0.042}]).splitlines() == [
        "| name    |  mAP |   R@1 | drop | pruned % |    MB | ratio |     ms |",
        "| ------- | ---: | ----: | ---: | -------: | ----: | ----: | -----: |",
        "| float32 | 86.4 |  91.7 |  0.0 |      0.0 | 12.41 |   1.0 | 14.230 |",
        "| 8bit    | 86.5 |  91.7 | -0.1 |     12.2 |  2.61 |   4.8 | 14.100 |",
        "| a\\|b    | 86.1 | 100.0 |  0.3 |     71.4 |  0.87 |  14.2 |  0.042 |",
    ]
    assert "-0.0" not in format_table([PHONE])
