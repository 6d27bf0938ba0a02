"""The sentence on top of the report: judged as the table shows it, and no gain is claimed where it may be chance."""

from __future__ import annotations

import dataclasses

import pytest

from tfplaces.report import Row, summary

FLOAT = Row("float32", 86.42, 91.7, 0.0, 0.0, 12_412_344, 0.998, 14.23)
EIGHT = Row("8bit", 86.5, 91.7, -0.08, 12.2, 2_612_344, 4.75, 14.1)
FIVE = Row("5bit", 86.1, 100.0, 0.32, 71.4, 874_344, 14.2, 14.4)
PHONE = Row("tflite_float32", 86.42, 91.7, -0.0, 0.0, 12_398_000, 1.001, 8.9)


def changed(row: Row, **changes) -> Row:
    return dataclasses.replace(row, **changes)


@pytest.mark.parametrize(
    ("rows", "sentence"),
    [
        ([FLOAT, EIGHT, FIVE, PHONE], "5bit is 14.2x smaller than float32 and loses 0.3 points of mAP."),
        ([FLOAT, EIGHT], "8bit is 4.8x smaller than float32 and loses no mAP."),
        ([FLOAT, changed(FIVE, drop=-5.4)], "5bit is 14.2x smaller than float32 and loses no mAP."),
        ([FLOAT, changed(FIVE, drop=1.04)], "5bit is 14.2x smaller than float32 and loses 1.0 points of mAP."),
        (
            [FLOAT, changed(FIVE, drop=9.0), changed(EIGHT, drop=2.0)],
            "8bit is 4.8x smaller than float32 but loses 2.0 points of mAP; nothing smaller is within one point.",
        ),
        (
            [FLOAT, changed(FIVE, drop=2.0, drop_interval=(-0.5, 4.0))],
            "5bit is 14.2x smaller than float32 but loses 2.0 points of mAP (95 % interval -0.5 to 4.0); nothing "
            "smaller is within one point.",
        ),
        (
            [FLOAT, changed(FIVE, drop=-1.2, drop_interval=(-2.61, 0.14))],
            "5bit is 14.2x smaller than float32; its drop of -1.2 points of mAP (95 % interval -2.6 to 0.1) may be "
            "chance.",
        ),
        (
            [FLOAT, changed(FIVE, drop=-0.04, drop_interval=(-0.3, 0.3))],
            "5bit is 14.2x smaller than float32; its drop of 0.0 points of mAP (95 % interval -0.3 to 0.3) may be "
            "chance.",
        ),
        (
            [FLOAT, changed(FIVE, drop=-1.2, drop_interval=(-2.0, -0.4))],
            "5bit is 14.2x smaller than float32 and gains 1.2 points of mAP (95 % interval -2.0 to -0.4).",
        ),
        (
            [FLOAT, changed(FIVE, drop=0.8, drop_interval=(0.3, 1.3))],
            "5bit is 14.2x smaller than float32 and loses 0.8 points of mAP (95 % interval 0.3 to 1.3).",
        ),
        ([PHONE, FLOAT], "tflite_float32 reaches 86.4 mAP; nothing here is smaller than float32."),
    ],
)
def test_summary(rows: list[Row], sentence: str) -> None:
    assert summary(rows) == sentence


def test_a_row_as_json() -> None:
    assert FLOAT.to_json() == {
        "name": "float32", "map": 86.42, "recall1": 91.7, "drop": 0.0, "pruned": 0.0, "bytes": 12_412_344,
        "ratio": 0.998, "ms": 14.23, "drop_interval": None,
    }  # fmt: skip
    assert changed(FIVE, drop_interval=(0.5, 1.0)).to_json()["drop_interval"] == [0.5, 1.0]
