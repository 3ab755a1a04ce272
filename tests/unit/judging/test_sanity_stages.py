"""Which layers are made random, how far a stopped check has come, and what counts as unchanged."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from otx_xai.data import find_images
from otx_xai.judging.cases import JudgedCase, Network
from otx_xai.judging.map_makers import MapMaker
from otx_xai.judging.redrawn import count_layers, redrawn
from otx_xai.judging.sanity import Sanity, check_sanity, passes_of, stages_of
from otx_xai.metrics import Stopped
from otx_xai.model import Model, open_model

METHODS = ["reciprocam", "activationmap"]


@pytest.fixture(scope="module")
def opened(model: Path) -> Model:
    return open_model(model)


@pytest.fixture(scope="module")
def cases(opened: Model, photos: Path) -> list[JudgedCase]:
    found = Network(opened, "CPU").cases(find_images(photos)[:3], {}, truth=False)
    return [case for _, case in found if isinstance(case, JudgedCase)]


def check(opened: Model, cases: list[JudgedCase], most: int | None = None) -> tuple[Sanity, int]:
    """Check, and stop after so many maps."""
    made = []

    def advance() -> None:
        made.append(1)
        if len(made) == most:
            raise Stopped

    found = check_sanity(opened, METHODS, cases, lambda model, name: MapMaker(model, name, {}), advance=advance)
    return found, len(made)


def test_stages_begin_with_the_last_layer_and_end_with_all() -> None:
    for layers in (1, 2, 7, 8, 9, 53, 200):
        stages = stages_of(layers)
        assert (stages[0], stages[-1]) == (1, layers)
        assert len(stages) == min(layers, 8)
        assert sorted(set(stages)) == list(stages)
    assert stages_of(0) == ()


def test_as_many_maps_as_are_announced(opened: Model, cases: list[JudgedCase]) -> None:
    found, made = check(opened, cases)
    assert made == passes_of(opened, len(METHODS), len(cases))
    assert found.stages == stages_of(count_layers(opened))
    assert found.methods["activationmap"].unchanged == ("labels",)
    assert len(found.warnings()) == 1


def test_a_check_that_is_stopped_does_not_speak_of_what_it_has_not_seen(opened: Model, cases: list[JudgedCase]) -> None:
    """The last layer alone changes no activation map, and no verdict on all layers follows."""
    stages = len(stages_of(count_layers(opened)))
    assert stages == 2
    found, made = check(opened, cases, most=len(cases) * len(METHODS) * 3 + 1)
    assert made < passes_of(opened, len(METHODS), len(cases))
    assert found.stages == (1,)
    own = found.methods["activationmap"]
    assert own.layers[0].is_unchanged
    assert own.unchanged == ("labels",)
    nothing, _ = check(opened, cases, most=1)
    assert (nothing.stages, dict(nothing.methods)) == ((), {})


def test_maps_of_a_redrawn_model_are_those_of_its_graph(opened: Model, cases: list[JudgedCase]) -> None:
    """The branch reads the random weights, not a copy of the old ones; the model itself stays what it is."""
    makers = {count: MapMaker(redrawn(opened, count, 0), "reciprocam", {}) for count in (0, 2)}
    plain = MapMaker(opened, "reciprocam", {})
    for maker in (*makers.values(), plain):
        maker.prepare([case.target for case in cases])
    before, same, changed = plain(cases), makers[0](cases), makers[2](cases)
    np.testing.assert_array_equal(same, before)
    assert np.abs(changed - before).max() > 0.5
    again = MapMaker(opened, "reciprocam", {})
    again.prepare([case.target for case in cases])
    np.testing.assert_array_equal(again(cases), before)


def test_where_nothing_can_be_compared_the_table_says_so(opened: Model, cases: list[JudgedCase]) -> None:
    def nothing(model: Model, name: str) -> MapMaker:
        maker = MapMaker(model, name, {})
        if model is not opened:
            maker.explain = lambda case: None  # type: ignore[method-assign]
        return maker

    found = check_sanity(opened, METHODS, cases, nothing)
    assert found.methods["reciprocam"].untold
    assert found.methods["reciprocam"].unchanged == ()
    row = next(line for line in found.lines() if line.startswith("activationmap"))
    assert row.endswith("labels, (layers: no maps)")
    assert found.content()["methods"][0]["layers"][0]["rank_correlation"]["images"] == 0
