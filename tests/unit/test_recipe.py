"""Recipes are found by name, read, and changed."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from otx_xai.engine import Engine
from otx_xai.errors import ConfigError
from otx_xai.recipe import find_recipe, list_recipes, override, read_recipe, recipe_folder


def test_there_are_recipes_for_every_task():
    tasks = {recipe.task for recipe in list_recipes()} - {""}
    assert tasks == {"multi_class_cls", "multi_label_cls", "detection", "instance_segmentation"}
    assert sum(bool(recipe.architecture) for recipe in list_recipes()) >= 12


def test_recipes_of_a_task_or_a_folder():
    assert {recipe.folder for recipe in list_recipes("detection")} == {"detection"}
    assert all(recipe.task == "multi_label_cls" for recipe in list_recipes("multi_label_cls"))
    assert len(list_recipes("classification")) > len(list_recipes("multi_class_cls"))
    assert list_recipes("Multi-Label-Cls") == list_recipes("multi_label_cls")
    with pytest.raises(
        ConfigError, match="no recipes of the task 'cooking'; expected one of classification, detection"
    ):
        list_recipes("cooking")


@pytest.mark.parametrize("recipe", list_recipes(), ids=lambda recipe: recipe.name)
def test_recipes_are_short_and_begin_with_the_command_that_runs_them(recipe):
    lines = recipe.path.read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 30
    assert lines[0].startswith("# otx ")
    assert f"--config {recipe.name} " in lines[0] or str(recipe.path.name) in lines[0]


def test_a_recipe_is_found_by_name_with_its_folder_and_as_a_file(tmp_path: Path):
    path = recipe_folder() / "detection" / "fcos_resnet18.yaml"
    assert find_recipe("fcos_resnet18") == find_recipe("detection/fcos_resnet18") == path
    own = tmp_path / "fcos_resnet18"
    own.write_text("task: detection", encoding="utf-8")
    assert find_recipe(own) == own


def test_an_unknown_name_suggests_close_ones():
    with pytest.raises(ConfigError, match=r"'fcos_resnet19' is no file and no recipe\. Close names: fcos_resnet18"):
        find_recipe("fcos_resnet19")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a: [", "cannot be read"),
        ("- a", "holds list"),
        ("", "holds NoneType"),
        ("\0", "cannot be"),
        (f"a: {'[' * 5000}", "cannot be read"),
        ("a: 2026-13-45", "cannot be read: month must be in"),
    ],
)
def test_what_is_no_configuration(tmp_path: Path, text: str, reason: str):
    path = tmp_path / "broken.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=reason):
        read_recipe(path)


@pytest.mark.parametrize("name", ["trainer", "data"])
def test_a_section_that_holds_no_names(tmp_path: Path, name: str):
    path = tmp_path / "broken.yaml"
    path.write_text(f"task: detection\n{name}: max_e\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=f"The recipe's {name} is 'max_e'; expected names and values below it"):
        Engine.from_config(path)


@pytest.mark.parametrize(
    ("trainer", "reason"),
    [
        ("{1: 2}", "expected names and values below it"),
        ("{data_root: a, device: CPU}", "holds data_root, device, which"),
    ],
)
def test_a_trainer_is_told_its_own_arguments(tmp_path: Path, trainer: str, reason: str):
    path = tmp_path / "other.yaml"
    path.write_text(f"task: detection\ntrainer: {trainer}\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=reason):
        Engine.from_config(path)


def test_overrides_leave_the_recipe_as_it_is():
    recipe = read_recipe("fcos_resnet18")
    before = yaml.safe_dump(recipe)
    changed = override(recipe, {"model.init_args.learning_rate": 0.1, "data": {"batch_size": 2}, "task": "x"})
    assert yaml.safe_dump(recipe) == before
    assert changed["model"]["init_args"] == recipe["model"]["init_args"] | {"learning_rate": 0.1}
    assert changed["data"] == {"batch_size": 2}
    assert changed["task"] == "x"
