"""The frontend that leaves sound as it is, in rows."""

import numpy as np
import pytest

from jaxsound.features.frontend import FrontendConfig, frontend, own_frames


@pytest.mark.parametrize("samples", [0, 1, 49, 50, 51, 730])
def test_rows_follow_one_another_and_the_last_ends_with_zeros(samples: int) -> None:
    config = FrontendConfig(kind="waveform", hop_length=50)
    rng = np.random.default_rng(0)
    sound = np.full((2, samples + 33), np.nan, np.float32)
    sound[0, :samples] = rng.uniform(-1, 1, samples)
    lengths = np.array([samples, 0], np.int32)
    rows = np.asarray(frontend(config, sound, lengths))
    count = config.frames(samples)
    assert count == max(1, -(-samples // 50)) == own_frames(config, lengths)[0]
    assert rows.shape == (2, config.frames(samples + 33), config.features) == (2, len(rows[0]), 50)
    np.testing.assert_array_equal(rows[0].ravel()[:samples], sound[0, :samples])
    assert (rows[0].ravel()[samples:] == 0).all()
    assert (rows[1] == 0).all()


def test_excerpts_and_padding_are_those_of_every_frontend() -> None:
    config = FrontendConfig(
        kind="waveform",
        hop_length=10,
        sample_rate=1000,
        seconds=0.05,
        excerpt="loudest",
        pad="zero",
    )
    sound = np.zeros((1, 120), np.float32)
    sound[0, 90:] = np.linspace(1, 0.5, 30)
    rows = np.asarray(frontend(config, sound, np.array([120], np.int32)))
    np.testing.assert_array_equal(rows.ravel(), sound[0, 65:115])
    short = np.asarray(frontend(config, sound[:, 90:], np.array([30], np.int32)))
    np.testing.assert_array_equal(short.ravel(), np.pad(sound[0, 90:], (0, 20)))
    assert short.shape == (1, config.frames(30), 10)
