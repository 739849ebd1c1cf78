"""What one figure tells of the class: measured by source, against chance."""

import numpy as np

from jaxsound.audit.shortcuts import skill

RNG = np.random.default_rng(0)
LABELS = np.arange(300) % 3
GROUPS = np.arange(300)


def test_a_figure_without_meaning_is_at_chance() -> None:
    found = skill(RNG.random(300), LABELS, GROUPS)
    assert abs(found.accuracy - 1 / 3) < 0.1
    assert found.accuracy <= found.shuffled


def test_a_figure_that_is_the_class_tells_it() -> None:
    found = skill(LABELS + 0.1 * RNG.random(300), LABELS, GROUPS)
    assert found.accuracy > 0.95 > found.shuffled


def test_text_tells_as_numbers_do() -> None:
    codecs = np.where(LABELS == 1, "OGG VORBIS", "WAV PCM_16")
    found = skill(codecs, LABELS, GROUPS)
    assert (found.recall[1], found.precision[1], found.specificity[1]) == (1, 1, 1)
    assert found.recall[0] == 0


def test_a_figure_that_tells_the_source_does_not_tell_the_class() -> None:
    """Thirty sources with a value each, ten clips to a source: a source is never in two folds."""
    groups = np.repeat(np.arange(30), 10)
    values = RNG.permutation(30)[groups] + 0.01 * RNG.random(300)
    found = skill(values, groups % 3, groups)
    assert found.accuracy < 0.6


def test_the_largest_class_is_not_given_away_by_being_large() -> None:
    labels = (np.arange(300) % 20 == 0).astype(int)
    found = skill(RNG.random(300), labels, GROUPS)
    assert found.specificity[0] < 0.5
    assert found.accuracy < 0.7
