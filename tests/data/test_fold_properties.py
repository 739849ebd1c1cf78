"""Folds of any labels and sources: no leak, every clip tested once, no source divided."""

import types

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from jaxsound.data import folds
from jaxsound.errors import UserError
from tests.properties import examples

CLIPS = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 12)), min_size=2, max_size=80)


@examples(100)
@given(
    CLIPS,
    st.integers(-1, 9),
    st.floats(0.0, 0.5),
    st.integers(0, 2**31),
    st.booleans(),
    st.booleans(),
)
def test_any_clips_are_split_without_a_leak_or_refused_in_a_line(
    clips: list[tuple[int, int]], k: int, share: float, seed: int, whole: bool, publisher: bool
) -> None:
    labels = np.array([label for label, _ in clips])
    groups = np.array([f"{label * whole}/{source}" for label, source in clips])
    try:
        made = folds.assign(labels, groups, k, seed)
    except UserError:
        assert k < 2 or k > len(set(groups))
        return
    assert set(made) == set(range(1, k + 1))
    table = types.SimpleNamespace(
        labels=labels, groups=groups, folds=made, publisher_folds=publisher
    )
    tested = []
    for fold in range(1, k + 1):
        parts = folds.split(table, fold, validation=share, seed=seed)
        every = np.concatenate([parts.train, parts.validation, parts.test])
        assert sorted(every) == list(range(len(labels)))
        own = [set(groups[part]) for part in (parts.train, parts.validation, parts.test)]
        assert not own[0] & own[1]
        assert not own[2] & (own[0] | own[1])
        assert len(parts.train)
        assert set(labels[parts.train]) == set(labels[made != fold])
        tested += parts.test.tolist()
    assert sorted(tested) == list(range(len(labels)))


@examples(80)
@given(CLIPS, st.lists(st.integers(0, 4), min_size=80, max_size=80), st.floats(0.0, 0.5))
def test_a_publishers_folds_keep_every_crossing_out_of_validation(
    clips: list[tuple[int, int]], given_folds: list[int], share: float
) -> None:
    labels = np.array([label for label, _ in clips])
    groups = np.array([str(source) for _, source in clips])
    numbers = np.array(given_folds[: len(clips)])
    table = types.SimpleNamespace(labels=labels, groups=groups, folds=numbers, publisher_folds=True)
    for fold in sorted(set(numbers) - {folds.ONLY_TRAINS}):
        if set(numbers) == {fold}:
            continue
        parts = folds.split(table, fold, validation=share)
        held = set(groups[parts.validation])
        assert not held & (set(groups[parts.train]) | set(groups[parts.test]))
        listed = {crossing["group"] for crossing in parts.crossings}
        assert set(groups[parts.train]) & set(groups[parts.test]) <= listed
