"""Boxes from options, JSON and CSV."""

from __future__ import annotations

import json

import pytest

from qmedsam.formats.boxes import NamedBox, parse_box, read_boxes, stack_boxes
from qmedsam.formats.scan import FormatError, LabelNotes


def test_boxes_are_read_from_text(tmp_path):
    assert parse_box("1,2,3.5,4") == NamedBox((1, 2, 3.5, 4))
    assert parse_box("left eye=1,2,3,4") == NamedBox((1, 2, 3, 4), "left eye")
    rows = [[1.0, 2.0, 3.0, 4.0], [5.0, 6.0, 7.0, 8.0]]
    (tmp_path / "a.json").write_text(json.dumps(rows))
    (tmp_path / "b.json").write_text(json.dumps({"boxes": rows}))
    (tmp_path / "c.csv").write_text("x0,y0,x1,y1\n1,2,3,4\n\n5,6,7,8\n")
    for name in ("a.json", "b.json", "c.csv"):
        assert read_boxes(tmp_path / name) == [NamedBox(tuple(row)) for row in rows]


def test_boxes_may_be_named(tmp_path):
    named = [{"box": [1, 2, 3, 4], "name": "disc"}, {"box": [5, 6, 7, 8]}]
    (tmp_path / "a.json").write_text(json.dumps({"boxes": named}))
    (tmp_path / "b.csv").write_text("x0,y0,x1,y1,name\n1,2,3,4,disc\n5,6,7,8,\n")
    for name in ("a.json", "b.csv"):
        assert read_boxes(tmp_path / name) == [
            NamedBox((1.0, 2.0, 3.0, 4.0), "disc"),
            NamedBox((5.0, 6.0, 7.0, 8.0)),
        ]


def test_half_a_letter_in_a_name_is_replaced_wherever_it_is_from(tmp_path):
    (tmp_path / "a.json").write_text('[{"box": [1, 2, 3, 4], "name": "a\\ud800\\ud83d\\ude00"}]')
    assert [box.name for box in read_boxes(tmp_path / "a.json")] == ["a\ufffd\U0001f600"]
    assert parse_box("\udcff=1,2,3,4").name == "\ufffd"  # of an argument that is not in UTF-8
    notes = LabelNotes.from_json(
        '{"made_by": "", "window": "\\ud800", "labels": {"1": "\\udfff", "2": "k\u00f6rper"}}'
    )
    assert notes == LabelNotes("\ufffd", ("\ufffd", "k\u00f6rper"))


def test_a_name_is_called_label_too_and_null_is_none(tmp_path):
    rows = [
        {"box": [1, 2, 3, 4], "label": "disc"},
        {"box": [1, 2, 3, 4], "name": None},
        {"box": [1, 2, 3, 4], "name": None, "label": 7},
        {"box": [1, 2, 3, 4], "name": "cup", "label": "disc"},
    ]
    (tmp_path / "a.json").write_text(json.dumps(rows))
    assert [box.name for box in read_boxes(tmp_path / "a.json")] == ["disc", "", "7", "cup"]
    (tmp_path / "b.csv").write_text("x0,y0,x1,y1,label\n1,2,3,4,disc\n")
    assert [box.name for box in read_boxes(tmp_path / "b.csv")] == ["disc"]


def test_columns_of_a_table_are_read_by_their_names(tmp_path):
    (tmp_path / "a.csv").write_text("name;x_min;x_max;y_min;y_max\ndisc;1;3;2;4\n")
    (tmp_path / "b.csv").write_text("z0,z1,x0,y0,x1,y1\n5,6,1,2,3,4\n")
    assert read_boxes(tmp_path / "a.csv") == [NamedBox((1.0, 2.0, 3.0, 4.0), "disc")]
    assert read_boxes(tmp_path / "b.csv") == [NamedBox((1.0, 2.0, 5.0, 3.0, 4.0, 6.0))]


@pytest.mark.parametrize("text", ["", "1,2,3", "1,2,3,4,5", "a,b,c,d", "a=", "a=1,2,3"])
def test_other_text_is_no_box(text):
    with pytest.raises(FormatError, match="Box must be x0,y0,x1,y1"):
        parse_box(text)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.json", "[1, 2]", "list of boxes"),
        ("a.json", '{"box": []}', "list of boxes"),
        ("a.json", "{", "list of boxes"),
        ("a.json", '["1234"]', "list of boxes"),
        ("a.json", "[[true, 1, 2, 3]]", "list of boxes"),
        ("a.json", '[{"box": [1, 2, 3, 4], "name": ["disc"]}]', "list of boxes"),
        ("a.json", '[{"box": [1, 2, 3, 4], "name": true}]', "list of boxes"),
        ("a.json", f"[[1, 2, 3, 1{'0' * 400}]]", "list of boxes"),
        ("a.json", "[" * 9999, "list of boxes"),
        ("a.csv", "1,2,3,4\n1,2,x,4\n", "line 2: must be numbers"),
        ("a.csv", "10,10,3O,40\n1,2,3,4\n", "line 1: must be numbers"),
        ("a.csv", "left,top,right,bottom\n1,2,3,4\n", "line 1: columns must be x0, y0, x1, y1"),
        ("a.csv", "x0,y0,x1,y1\n1,2,3\n", "line 2: must have 4 values"),
        ("a.csv", "1,2,3," + "4" * 200_000, "line 1: field larger"),
    ],
)
def test_broken_boxes_are_named(tmp_path, name, content, message):
    (tmp_path / name).write_text(content)
    with pytest.raises(FormatError, match=message):
        read_boxes(tmp_path / name)
    with pytest.raises(FormatError, match=r"Boxes must have 6 coordinates .* got \[1, 2\]"):
        stack_boxes([NamedBox((1, 2))], 6)
