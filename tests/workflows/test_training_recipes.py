"""Recipes: their files state their defaults, and what they have no use for is refused."""

from __future__ import annotations

import contextlib
import dataclasses
from pathlib import Path

import pytest
from absl import flags

from tfplaces.common.errors import UserError
from tfplaces.datasets import PlaceDataset, load_dataset
from tfplaces.models import PlaceNet, outline
from tfplaces.tools import train
from tfplaces.workflows.training_recipes import (
    RECIPES,
    PlaceBatchesRecipe,
    TeacherRecipe,
    TrainingRecipe,
    defaults,
    make_recipe,
    options,
)

# The files of the methods; a teacher has none.
FILES = sorted((Path(__file__).parents[2] / "recipes").glob("*.flags"))


def read(*arguments: str) -> TrainingRecipe:
    values = flags.FlagValues()
    train.define_flags(values)
    values(["train", "--dataset=x", "--output=y", *arguments])
    given = {name: values[name].value for name in options() if values[name].present}
    return make_recipe(values.method, given)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_file_states_the_defaults_of_its_recipe(file: Path) -> None:
    """All but what has no value of its own: what depends on the data set, the network or the number of steps."""
    assert read(f"--flagfile={file}") == RECIPES[file.stem]()
    text = file.read_text(encoding="utf-8")
    for field in dataclasses.fields(RECIPES[file.stem]):
        assert (f"--{field.name}" in text or f"--no{field.name}" in text) or field.name == "train_from", field.name


def test_every_recipe_has_a_file_and_the_first_is_the_tools_own() -> None:
    assert {file.stem for file in FILES} == RECIPES.keys() - {"teacher"}
    assert read() == RECIPES["place_batches"]()


def test_what_follows_a_file_goes_before_it() -> None:
    file = f"--flagfile={FILES[-1]}"
    assert read(file, "--epochs=3") == read("--epochs=3", file, "--epochs=3") != read("--epochs=3", file)


@pytest.fixture(scope="module")
def town() -> PlaceDataset:
    return load_dataset("toytown?places=4&split=train")


def check(recipe: TrainingRecipe, town: PlaceDataset) -> None:
    planned = outline(PlaceNet, "squeezenet", cut="fire2", input_size=(32, 48), clusters=2)
    recipe.check(planned, [town, town], random=False, seed=0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"places": "cells"}, "places 'cells' are not known"),
        ({"places": "grid"}, "as its images have none"),
        ({"schedule": "linear"}, "schedule 'linear'"),
        ({"augmentation": "mixup"}, "augmentation 'mixup'"),
        ({"weight_decay": 0.1}, "adam does not decay weights; that is adamw"),
        ({"images_of_place": 1}, "at least 2 of each"),
        ({"train_from": "fire9"}, "layer 'fire9' to train from: squeezenet has none of that name up to fire2"),
        ({"train_from": "head", "places": "truth"}, None),
        ({"versions": 2}, None),
        ({"versions": 2, "train_from": "all"}, "--versions=2 keeps the features of frozen layers, but all are trained"),
    ],
)
def test_what_cannot_be_is_known_before_anything_is_computed(
    change: dict, message: str | None, town: PlaceDataset
) -> None:
    with pytest.raises(UserError, match=message) if message else contextlib.nullcontext():
        check(PlaceBatchesRecipe(**{"places_in_batch": 4, **change}), town)


@pytest.mark.parametrize(
    ("teacher", "change", "message"),
    [
        ({"clusters": 2}, {"train_from": "conv_dw_2"}, None),
        # The student's last convolution, of other channels than the teacher's, is left out.
        ({"clusters": 2}, {"train_from": "conv_pw_2"}, "layer 'conv_pw_2' to train from: .* none of that name up to "),
        ({"clusters": 3}, {"train_from": "conv_pw_2"}, None),
        ({"clusters": 2, "whitening": 0}, {}, None),
        ({"clusters": 5, "whitening": 0}, {}, "a linear layer from the 256 numbers of NetVLAD2 to the teacher's 1,280"),
        ({"clusters": 2}, {"versions": 0}, "--versions=0: with --teacher at least 1"),
    ],
)
def test_what_a_teacher_cannot_teach_is_known_before_anything_is_computed(
    teacher: dict, change: dict, message: str | None, town: PlaceDataset, tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.setattr("tfplaces.training.head_regression._MAX_KERNEL", 100_000)
    large = PlaceNet("squeezenet", cut="fire4", input_size=(32, 48), **{"whitening": 4, **teacher})
    large.save(tmp_path / "large.keras")
    recipe = TeacherRecipe(teacher=str(tmp_path / "large.keras"), **change)
    planned = outline(PlaceNet, "mobilenet_v1", cut="conv_pw_2", input_size=(32, 48), clusters=2)
    with pytest.raises(UserError, match=message) if message else contextlib.nullcontext():
        recipe.check(planned, [town], random=False, seed=0)


def test_batches_with_fewer_places_than_asked_for_are_told(town: PlaceDataset, capsys: pytest.CaptureFixture) -> None:
    model = PlaceNet("squeezenet", cut="fire2", input_size=(32, 48), clusters=2)
    for recipe, told in (
        (PlaceBatchesRecipe(), "4 places; 1 batches an epoch, of up to 4 places, not 30: no more may come together\n"),
        (PlaceBatchesRecipe(places_in_batch=2), "4 places; 2 batches an epoch, of up to 2 places\n"),
    ):
        recipe.make_batches(model, town, seed=0)
        assert capsys.readouterr().err.endswith(told)


@pytest.mark.parametrize(
    ("method", "option", "message"),
    [
        ("place_batches", "margin", "--margin goes with --method=netvlad, not with --method=place_batches"),
        ("netvlad", "places", "--places goes with --method=place_batches, not with --method=netvlad"),
        ("teacher", "patience", "--patience goes with --method=place_batches or --method=netvlad, not with --teacher"),
    ],
)
def test_what_a_recipe_has_no_use_for_is_refused(method: str, option: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        make_recipe(method, {option: 1})


def test_defaults_in_words() -> None:
    assert defaults("accumulate") == " By default 1."
    assert defaults("learning_rate") == " By default 0.0002 with place_batches and teacher, 0.001 with netvlad."
    assert defaults("margin") == " By default 0.1 with netvlad."
    assert defaults("train_from") == ""
