"""Whatever stands on the command line, it is accepted or refused in one line."""

import sys
from pathlib import Path
from typing import Any

import ml_collections
import pytest
from absl import flags
from hypothesis import given
from hypothesis import strategies as st
from ml_collections import config_flags

from jaxsound.config import KEYS, apply_argument, default_config, in_one_line, validate
from jaxsound.errors import UserError
from jaxsound.keys import MODELS
from tests.properties import examples

ROOT = Path(__file__).parents[1]
CONFIG = ROOT / "configs" / "esc50_transformer.py"
NAMES = sorted(KEYS)
NUMBERS = st.one_of(st.integers(), st.floats(), st.integers(-(10**400), 10**400))
ODD = (
    *("True", "False", "None", "()", "(1,)", "[]", "{}", "''", '""', "nan", "inf", "-inf", "1e999"),
    *("0x10", "1_0", "1j", "b'a'", "(1,'a')", "((1,),)", "(True,)", "...", "lambda:0", "1+1"),
    *("__import__('os')", "a.b", ",,,", "=", "--", "--config", "\\", "\0"),
)
TEXTS = st.one_of(
    NUMBERS.map(str),
    st.text(max_size=20),
    st.sampled_from(ODD),
    st.recursive(st.one_of(NUMBERS, st.text(max_size=3), st.booleans()), st.tuples).map(repr),
)


def one_line(error: UserError) -> None:
    assert str(error)
    assert len(str(error).splitlines()) == 1


def accepted(argv: list[str]) -> ml_collections.ConfigDict | None:
    """What `jaxsound.main` makes of a command line; None if it ends with one line."""
    values = flags.FlagValues()
    config_flags.DEFINE_config_file("config", None, "", flag_values=values)
    before, sys.argv = sys.argv, argv
    try:
        with in_one_line(argv):
            values(argv)
            config = values["config"].value
        validate(config)
    except UserError as error:
        one_line(error)
        return None
    finally:
        sys.argv = before
    return config


@examples(100)
@given(st.lists(st.tuples(st.sampled_from(NAMES), TEXTS), min_size=1, max_size=3))
def test_any_text_for_any_key(overrides: list[tuple[str, str]]) -> None:
    argv = ["main", f"--config={CONFIG}", *(f"--{key}={text}" for key, text in overrides)]
    accepted(argv)


@examples(80)
@given(st.lists(st.text(max_size=30), max_size=3))
def test_any_words_at_all(words: list[str]) -> None:
    accepted(["main", f"--config={CONFIG}", *(f"--config{word}" for word in words)])
    accepted(["main", *words])


@examples(80)
@given(st.text(max_size=30), st.sampled_from(["fold=", "subset=", "as_coded,", "fold=1,", ""]))
def test_any_argument_behind_the_colon(text: str, before: str) -> None:
    try:
        apply_argument(default_config("cnn"), before + text, subset="data.subset")
    except UserError as error:
        one_line(error)
    accepted(["main", f"--config={CONFIG}:{before}{text}"])


VALUES = st.one_of(
    st.none(),
    st.booleans(),
    NUMBERS,
    st.text(max_size=8),
    st.lists(NUMBERS, max_size=3).map(tuple),
    st.lists(st.text(max_size=8), max_size=3).map(tuple),
)


@examples(150)
@given(st.sampled_from(sorted(MODELS)), st.sampled_from(NAMES), VALUES)
def test_any_value_of_any_type_in_a_config_file(model: str, name: str, value: Any) -> None:
    config = default_config(model)
    section, _, key = name.removeprefix("config.").rpartition(".")
    place = config[section] if section else config
    if key not in place:
        return
    with config.unlocked():
        del place[key]
        place[key] = value
    try:
        validate(config)
    except UserError as error:
        one_line(error)


@pytest.mark.parametrize("name", NAMES)
def test_a_text_where_it_does_not_belong_names_the_key(name: str) -> None:
    assert accepted(["main", f"--config={CONFIG}", f"--{name}=((("]) is None or name.endswith(
        ("manual_dir", "cache_dir", "wandb")
    )
