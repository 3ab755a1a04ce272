"""Hints are joined field by field."""

from __future__ import annotations

from dataclasses import replace

from otx_xai.neighbours import Hints, merged, source_of
from otx_xai.records import Task


def test_the_first_counts_field_by_field():
    first = Hints(task=Task.DETECTION, mean=(1.0,), said={"a": "1"}, source="x", files=("f",), assumed=("mean",))
    second = Hints(mean=(2.0,), scale=(3.0,), crop=0.5, said={"a": "2", "b": "3"}, source="y", files=("f", "g"))
    both = merged(first, replace(second, assumed=("mean", "crop")))
    assert (both.task, both.mean, both.scale, both.crop, both.labels) == (Task.DETECTION, (1.0,), (3.0,), 0.5, None)
    assert (both.said, both.source, both.files) == ({"a": "1", "b": "3"}, "x, y", ("f", "g"))
    told = {name: source_of(both, name) for name in ("task", "mean", "scale", "crop")}
    assert told == {"task": "x", "mean": "assumption: x", "scale": "y", "crop": "assumption: y"}
    third = merged(both, Hints(size=(1, 2), source="z"))
    assert (source_of(third, "scale"), source_of(third, "size")) == ("y", "z")
    assert merged(first, Hints()).mean == merged(Hints(), first).mean == (1.0,)


def test_false_and_zero_are_said():
    both = merged(Hints(reverse_input_channels=False, pad_value=0), Hints(reverse_input_channels=True, pad_value=9))
    assert (both.reverse_input_channels, both.pad_value) == (False, 0)
