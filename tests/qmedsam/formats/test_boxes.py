"""Boxes from options, JSON and CSV."""

from __future__ import annotations

import json

import pytest

from qmedsam.formats.boxes import NamedBox, parse_box, read_boxes, stack_boxes
from qmedsam.formats.label_notes import LabelNotes
from qmedsam.formats.scan import FormatError


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


def test_a_name_may_come_after_the_numbers_of_a_row(tmp_path):
    (tmp_path / "a.csv").write_text("1,2,3,4,disc\n5,6,7,8\n")
    (tmp_path / "b.csv").write_text("1,2,3,4,5,6,liver\n")
    assert read_boxes(tmp_path / "a.csv") == [
        NamedBox((1.0, 2.0, 3.0, 4.0), "disc"),
        NamedBox((5.0, 6.0, 7.0, 8.0)),
    ]
    assert read_boxes(tmp_path / "b.csv") == [NamedBox((1.0, 2.0, 3.0, 4.0, 5.0, 6.0), "liver")]


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
        ("a.json", "[1, 2]", "box 1, must be a list of numbers, got 1"),
        ("a.json", "5", "must be JSON with a list of boxes, got 5"),
        ("a.json", '{"box": []}', "must be JSON with a list of boxes, got {'box': "),
        ("a.json", '{"boxes": []}', "must have a box, got none"),
        ("a.json", '[[1, 2, 3, 4], {"name": "a"}]', "box 2, must be a list of numbers, got {'name"),
        ("a.json", "{", "must be JSON with a list of boxes, got: Expecting"),
        ("a.json", '["1234"]', "box 1, must be a list of numbers, got '1234'"),
        ("a.json", "[[true, 1, 2, 3]]", r"box 1, must be a list of numbers, got \[True, 1"),
        ("a.json", '[{"box": [1, 2, 3, 4], "name": ["disc"]}]', "box 1, must have text for a name"),
        ("a.json", '[{"box": [1, 2, 3, 4], "name": true}]', "must have text for a name, got True"),
        ("a.json", f"[[1, 2, 3, 1{'0' * 400}]]", "box 1, must be numbers of 64 bits, got: int too"),
        ("a.json", "[" * 9999, "must be JSON with a list of boxes, got: "),
        ("a.csv", "x0,y0,x1,y1\n", "must have a box, got none"),
        ("a.csv", "1,2,3,4\n1,2,x,4\n", "line 2: must be numbers"),
        ("a.csv", "10,10,3O,40\n1,2,3,4\n", "line 1: must be numbers"),
        ("a.csv", "left,top,right,bottom\n1,2,3,4\n", "line 1: columns must be x0, y0, x1, y1"),
        ("a.csv", "x0,y0,x1,y1\n1,2,3\n", "line 2: must have 4 values"),
        ("a.csv", "1,2,3," + "4" * 200_000, "line 1: field larger"),
    ],
)
def test_broken_boxes_are_named(tmp_path, name, content, message):
    (tmp_path / name).write_text(content)
    with pytest.raises(FormatError, match=message) as refused:
        read_boxes(tmp_path / name)
    assert str(refused.value).startswith(str(tmp_path / name))


def test_a_box_of_another_length_is_named_by_where_it_was_written(tmp_path):
    (tmp_path / "a.json").write_text("[[1, 2, 3, 4], [1, 2, 0, 3.5, 4, 0]]")
    (tmp_path / "b.csv").write_text("x0,y0,x1,y1\n\n1,2,3,4\n")
    (tmp_path / "c.csv").write_text("1,2,3,4\n1,2,3\n")
    four, six = "4 numbers (x0, y0, x1, y1)", "6 numbers (x0, y0, z0, x1, y1, z1)"
    for boxes, columns, message in (
        (
            read_boxes(tmp_path / "a.json"),
            4,
            f"{tmp_path / 'a.json'}, box 2, must have {four} here, got 6: 1, 2, 0, 3.5, 4, 0",
        ),
        (
            read_boxes(tmp_path / "b.csv"),
            6,
            f"{tmp_path / 'b.csv'}, line 3, must have {six} here, got 4: 1, 2, 3, 4",
        ),
        (
            read_boxes(tmp_path / "c.csv"),
            4,
            f"{tmp_path / 'c.csv'}, line 2, must have {four} here, got 3: 1, 2, 3",
        ),
        ([parse_box("a=1,2,3,4")], 6, f"--box a=1,2,3,4 must have {six} here, got 4: 1, 2, 3, 4"),
        ([NamedBox((1, 2))], 4, f"Box must have {four} here, got 2: 1, 2"),
    ):
        with pytest.raises(FormatError) as refused:
            stack_boxes(boxes, columns, "here")
        assert str(refused.value) == message
