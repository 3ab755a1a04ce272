"""The vocabulary reads what users write, and says what it expects."""

import pytest

from otx_xai.errors import ConfigError
from otx_xai.records import DumpContent, ExplainConfig, InputOptions, Method, ResizeType, Task


def test_words_are_read_without_case_and_punctuation():
    assert Task("INSTANCE_SEGMENTATION") is Task("instance segmentation") is Task.INSTANCE_SEGMENTATION
    assert Task("MULTI_CLASS_CLS") is Task.MULTI_CLASS_CLS
    assert Method("ViT-ReciproCAM") is Method.VITRECIPROCAM


def test_records_turn_words_into_members():
    assert ExplainConfig(content="Sheet").content is DumpContent.SHEET
    assert InputOptions(resize_type="CROP").resize_type is ResizeType.CROP
    assert InputOptions().resize_type is None


@pytest.mark.parametrize(
    "build",
    [
        lambda: Task("cooking"),
        lambda: ExplainConfig(content="film"),
        lambda: ExplainConfig(target_explain_group="SOME"),
        lambda: InputOptions(resize_type="fold"),
    ],
)
def test_unknown_words_list_the_known(build):
    with pytest.raises(ConfigError, match="expected one of"):
        build()


@pytest.mark.parametrize("name", ["predicted_maps_conf_thr", "overlay_weight"])
@pytest.mark.parametrize("value", [-0.1, 1.1, float("nan")])
def test_shares_are_from_0_to_1(name, value):
    with pytest.raises(ConfigError, match=rf"explain_config\.{name} is .*; expected a number from 0 to 1"):
        ExplainConfig(**{name: value})
