"""Configurations line up, whatever fields a method has."""

from tood.reporting.flat_settings import MAX_LENGTH, differing, flatten, with_same_keys


def test_nested_fields_become_dotted_keys() -> None:
    flat = flatten({"a": {"b": {"c": 1.5}, "d": None}, "e": [1, "x"], "f": True, "g": ""})
    assert flat == {"a.b.c": "1.5", "a.d": "-", "e": '[1, "x"]', "f": "true", "g": "-"}


def test_all_tables_have_the_same_keys() -> None:
    tables = with_same_keys([{"a": 1, "b": {"x": 2}}, {"a": 1, "c": 3}])
    assert [list(table) for table in tables] == [["a", "b.x", "c"]] * 2
    assert tables[1] == {"a": "1", "b.x": "-", "c": "3"}
    assert differing(tables) == ["b.x", "c"]


def test_long_values_are_cut() -> None:
    (value,) = flatten({"a": ["archive"] * 200}).values()
    assert len(value) == MAX_LENGTH
    assert value.endswith("…")
