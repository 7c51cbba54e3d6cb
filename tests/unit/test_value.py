"""Values: frozen, compared by what they hold, and the same after a trip through JSON."""

from __future__ import annotations

import copy
import json
import pickle
from collections.abc import Mapping
from enum import Enum
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from longshore._value import Value, free_text


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


class Point(Value):
    x: int
    y: int = 0


class Shape(Value):
    _nested = {"colour": Colour, "corner": Point.from_json, "points": Point.from_json}

    name: str
    colour: Colour = Colour.RED
    corner: Point | None = None
    points: tuple[Point, ...] = ()
    notes: Mapping[str, Any] = {}


class Solid(Shape):
    depth: int


class Same(Shape):
    pass


def test_fields_have_their_order_and_their_defaults() -> None:
    assert Shape._fields == ("name", "colour", "corner", "points", "notes")
    shape = Shape(name="a")
    assert (shape.colour, shape.corner, shape.points) == (Colour.RED, None, ())


def test_a_subclass_has_its_parents_fields_too() -> None:
    assert Solid._fields == (*Shape._fields, "depth")
    assert Same._fields == Shape._fields
    with pytest.raises(TypeError, match="Solid needs depth, name"):
        Solid()  # type: ignore[call-arg]


def test_positional_arguments_are_refused() -> None:
    with pytest.raises(TypeError):
        Point(1)  # type: ignore[misc]


def test_an_unknown_field_is_refused_by_name() -> None:
    with pytest.raises(TypeError, match="Point has no field 'z'"):
        Point(x=1, z=2)  # type: ignore[call-arg]


def test_a_value_cannot_be_changed() -> None:
    point = Point(x=1)
    with pytest.raises(AttributeError, match=r"Point\.x is read-only"):
        point.x = 2  # type: ignore[misc]
    with pytest.raises(AttributeError, match="read-only"):
        point.z = 2  # type: ignore[attr-defined]
    with pytest.raises(AttributeError, match="read-only"):
        del point.x
    assert point == Point(x=1)


def test_replace_makes_another_one() -> None:
    point = Point(x=1, y=2)
    assert point.replace(y=3) == Point(x=1, y=3)
    assert point == Point(x=1, y=2)
    with pytest.raises(TypeError, match="no field"):
        point.replace(z=1)


def test_equal_is_same_class_and_same_fields() -> None:
    assert Point(x=1) == Point(x=1, y=0)
    assert Point(x=1) != Point(x=2)
    assert Shape(name="a") != Same(name="a")
    assert Point(x=1) != (1, 0)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (Point(x=1), Point(x=1, y=0)),
        (Point(x=1), Point(x=1.0)),  # type: ignore[arg-type]
        (Shape(name="a", notes={"p": 1, "q": 2}), Shape(name="a", notes={"q": 2, "p": 1})),
        (Shape(name="a", notes={"p": [1, {}]}), Shape(name="a", notes={"p": [1, {}]})),
        (Shape(name="a", corner=Point(x=1)), Shape(name="a", corner=Point(x=True))),
    ],
)
def test_equal_values_have_equal_hashes(one: Value, other: Value) -> None:
    assert one == other
    assert hash(one) == hash(other)
    assert len({one, other}) == 1


def test_repr_can_be_read() -> None:
    assert repr(Point(x=1)) == "Point(x=1, y=0)"


def test_copies_and_pickles_are_equal() -> None:
    shape = Shape(name="a", corner=Point(x=1), notes={"k": [1]})
    for again in (copy.copy(shape), copy.deepcopy(shape), pickle.loads(pickle.dumps(shape))):
        assert again == shape
        with pytest.raises(AttributeError):
            again.name = "b"


def test_json_leaves_out_what_equals_its_default() -> None:
    assert Shape(name="a", colour=Colour.RED, points=()).to_json() == {"name": "a"}
    assert Point(x=0, y=0).to_json() == {"x": 0}


def test_json_has_plain_types_only() -> None:
    shape = Shape(
        name="a", colour=Colour.BLUE, corner=Point(x=1), points=(Point(x=2, y=3),), notes={"k": ()}
    )
    assert shape.to_json() == {
        "name": "a",
        "colour": "blue",
        "corner": {"x": 1},
        "points": [{"x": 2, "y": 3}],
        "notes": {"k": []},
    }


def test_keys_of_a_newer_version_survive() -> None:
    data = {"name": "a", "corner": {"x": 1, "w": [1, {"deep": None}]}, "taste": "sweet"}
    shape = Shape.from_json(data)
    assert shape == Shape(name="a", corner=Point(x=1))
    assert hash(shape) == hash(Shape(name="a", corner=Point(x=1)))
    assert "taste" not in repr(shape)
    for again in (shape, copy.deepcopy(shape), pickle.loads(pickle.dumps(shape))):
        assert again.to_json() == data
        assert again.replace(name="b").to_json() == data | {"name": "b"}
    assert shape.replace(corner=Point(x=1)).to_json() == data | {"corner": {"x": 1}}


DEEP: Any = 1
for _ in range(150):
    DEEP = [DEEP]


@pytest.mark.parametrize(
    ("data", "why"),
    [
        ([], r"\[\] is no object"),
        (None, "None is no object"),
        ({}, "name: missing"),
        ({"name": None}, "name: None is not text"),
        ({"name": "a\0b"}, "name: there is a NUL byte in it"),
        ({"name": "\ud800"}, "name: .*surrogates not allowed"),
        ({"name": "a", "colour": "green"}, "colour: there is no 'green'"),
        ({"name": "a", "colour": ["red"]}, "colour: unhashable"),
        ({"name": "a", "colour": None}, "colour: there is no None"),
        ({"name": "a", "corner": 5}, "corner: 5 is no object"),
        ({"name": "a", "corner": {"x": True}}, "corner: x: True is not a whole number"),
        ({"name": "a", "corner": {"x": 1.0}}, "corner: x: 1.0 is not a whole number"),
        ({"name": "a", "corner": {"x": 1 << 64}}, "corner: x: 18446744073709551616 is not"),
        ({"name": "a", "points": {}}, r"points: \{\} is no list"),
        ({"name": "a", "points": [{"x": 1}, {}]}, "points: x: missing"),
        ({"name": "a", "notes": []}, r"notes: \[\] is no object"),
        ({"name": "a", "notes": {"x": DEEP}}, "notes: it is nested too deeply"),
        ({"name": "a", "new": DEEP}, "'new': it is nested too deeply"),
        ({"name": "a" * 80 + "\0"}, "name: "),
    ],
)
def test_json_that_makes_no_value_is_an_error(data: object, why: str) -> None:
    with pytest.raises(ValueError, match=f"^{why}"):
        Shape.from_json(data)


class Kinds(Value):
    _nested = {"said": free_text}

    number: float = 0.0
    sure: bool = False
    size: int | None = None
    words: tuple[str, ...] = ()
    table: Mapping[str, str] = {}
    said: str = ""
    secret: frozenset[int] = frozenset()


def test_a_kind_that_json_has_not_is_a_fault_of_the_class() -> None:
    with pytest.raises(KeyError, match="frozenset"):
        Kinds.from_json({})


class Plain(Kinds):
    secret: str = ""  # type: ignore[assignment]


@pytest.mark.parametrize(
    "data",
    [
        {"number": float("inf")}, {"number": float("nan")}, {"number": "1"}, {"number": 10**400},
        {"sure": 1}, {"sure": None}, {"size": False}, {"size": "1"}, {"words": [1]},
        {"words": ["a", None]}, {"words": "ab"}, {"table": {"a": 1}}, {"table": {"a\0": "b"}},
        {"table": None}, {"said": None},
    ],
)  # fmt: skip
def test_only_what_the_annotation_says_is_read(data: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"^{next(iter(data))}: "):
        Plain.from_json(data)


def test_what_is_read_is_what_the_annotation_says() -> None:
    read = Plain.from_json({"number": 3, "size": None, "words": ["b\udcff"], "table": {"a": "é"}})
    assert (read.number, type(read.number)) == (3.0, float)
    assert (read.size, read.words, read.table) == (None, ("b\udcff",), {"a": "é"})


def test_free_text_loses_what_cannot_be_printed() -> None:
    assert Plain.from_json({"said": "é\udcff\0"}).said == "é\udcff\0"
    assert Plain.from_json({"said": "a\ud800b"}).said == "a?b"


whole = st.integers(-1 << 63, (1 << 64) - 1)
text = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
points = st.builds(Point, x=whole, y=whole)
plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)


@given(
    st.builds(
        Shape,
        name=text,
        colour=st.sampled_from(Colour),
        corner=st.none() | points,
        points=st.lists(points).map(tuple),
        notes=st.dictionaries(st.text(), plain),
    )
)
def test_json_round_trip(shape: Shape) -> None:
    again = Shape.from_json(json.loads(json.dumps(shape.to_json())))
    assert again == shape
    assert hash(again) == hash(shape)
