"""The report page: it stands alone, escapes what strangers wrote, and says what the rows say."""

import dataclasses
import html.parser
import re

import numpy as np
import pytest

from tfplaces.report import Retrieval, Row, write_report

HOSTILE = "<script>alert('$x$ & \"y\"')</script>"
FLOAT = Row("float32", 86.42, 91.7, 0.0, 0.0, 12_412_344, 0.998, 14.23)
EIGHT = Row("8bit", 86.5, 91.7, -0.08, 12.2, 2_612_344, 4.75, 14.1)
FIVE = Row("5bit", 86.1, 100.0, 0.32, 71.4, 874_344, 14.2, 14.4)
PHONE = Row("tflite_float32", 86.42, 91.7, -0.0, 0.0, 12_398_000, 1.001, 8.9)
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
        "rows": [*ROWS, dataclasses.replace(FIVE, name=HOSTILE)],
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
        assert page.text.count(row.name) >= 2, "in the table and in the plot"
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
    assert marked[:4] == [[], ["86.5"], ["100.0", "0.87", "14.2"], ["8.9"]]


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


def test_intervals_have_a_column_where_they_are_known(tmp_path):
    rows = [FLOAT, dataclasses.replace(FIVE, drop_interval=(-0.81, 1.5))]
    page = write(tmp_path / "a.html", rows=rows)
    assert "<td></td>" in page.source and "<td>−0.8 to 1.5</td>" in page.source
    assert "its drop of 0.3 points of mAP (95 % interval -0.8 to 1.5) may be chance." in page.text
    assert "95 %" not in write(tmp_path / "b.html", rows=[FLOAT, FIVE]).text
