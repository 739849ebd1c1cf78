"""Copies are found through every change that leaves a recording what it is; others are not."""

import io
from collections.abc import Callable

import numpy as np
import pytest
import soundfile

from jaxsound.audit import duplicates, fingerprint
from jaxsound.audit.clips import listen
from jaxsound.data import audio, synthetic

Sound = tuple[np.ndarray, int]
# One class of each family: a steady tone backwards is the tone. No tremolo: one is like another.
NAMES = [names[0] for family, (_, names) in synthetic.FAMILIES.items() if family != "tremolo"]


def gain(samples: np.ndarray, rate: int) -> Sound:
    return samples * 10 ** (-12 / 20), rate


def low_rate(samples: np.ndarray, rate: int) -> Sound:
    return audio.resample(samples, rate, 11_025), 11_025


def late(samples: np.ndarray, rate: int) -> Sound:
    return np.concatenate([np.zeros(round(0.2 * rate) + 37, np.float32), samples]), rate


def early(samples: np.ndarray, rate: int) -> Sound:
    return samples[round(0.113 * rate) :], rate


def noisy(samples: np.ndarray, rate: int) -> Sound:
    noise = np.random.default_rng(0).standard_normal(len(samples)).astype(np.float32)
    return samples + noise * np.sqrt(np.mean(samples**2)) * 10 ** (-30 / 20), rate


def upside_down(samples: np.ndarray, rate: int) -> Sound:
    return -samples, rate


def through(kind: str, coding: str) -> Callable[[np.ndarray, int], Sound]:
    def change(samples: np.ndarray, rate: int) -> Sound:
        file = io.BytesIO()
        soundfile.write(file, samples, rate, format=kind, subtype=coding)
        file.seek(0)
        decoded, rate = soundfile.read(file, dtype="float32")
        return decoded, rate

    return change


CHANGES = {
    "gain": gain,
    "low_rate": low_rate,
    "late": late,
    "early": early,
    "noisy": noisy,
    "upside_down": upside_down,
    "ogg": through("OGG", "VORBIS"),
    "mp3": through("MP3", "MPEG_LAYER_III"),
    "all": lambda s, r: through("OGG", "VORBIS")(*low_rate(*late(*gain(*noisy(s, r))))),
}


def as_int16(samples: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(samples * 32768), -32768, 32767).astype(np.int16)


@pytest.fixture(scope="module")
def originals() -> list[Sound]:
    """Up to four sources of each class, of a second or more."""
    made = [synthetic.sound(name, source, 0) for name in NAMES for source in range(4)]
    return [(s.astype(np.float32) / 32768, rate) for s, rate in made if len(s) > rate][:18]


def pairs_of(sounds: list[np.ndarray]) -> dict[tuple[int, int], str]:
    """What the fingerprints propose and the comparison confirms."""
    found = fingerprint.match([fingerprint.keys(sound) for sound in sounds])
    kinds = {}
    for first, second, shift in zip(found.first, found.second, found.shift, strict=True):
        kind = duplicates.compare(sounds[first], sounds[second], int(shift) * fingerprint.HOP)[0]
        if kind:
            kinds[int(first), int(second)] = kind
    return kinds


@pytest.mark.parametrize("name", CHANGES)
def test_a_changed_copy_is_found_and_nothing_else(name: str, originals: list[Sound]) -> None:
    sounds = [listen(as_int16(samples), rate) for samples, rate in originals]
    for samples, rate in originals:
        changed, rate = CHANGES[name](samples, rate)
        sounds.append(listen(as_int16(changed), rate))
    count = len(originals)
    pairs = pairs_of(sounds)
    assert set(pairs) == {(place, place + count) for place in range(count)}
    assert list(pairs.values()).count("copy") >= 0.8 * count


def test_cuts_share_as_much_as_they_share() -> None:
    noise = np.random.default_rng(1).uniform(-0.3, 0.3, 7 * 16_000).astype(np.float32)
    first, second = noise[: 4 * 16_000], noise[round(2.5 * 16_000) : 6 * 16_000]
    found = fingerprint.match([fingerprint.keys(first), fingerprint.keys(second)])
    assert len(found.shift) == 1
    kind, seconds, correlation, shift = duplicates.compare(
        first, second, int(found.shift[0]) * fingerprint.HOP
    )
    assert kind == "overlap"
    assert seconds == pytest.approx(1.5, abs=0.1)
    assert correlation > 0.99
    assert shift == pytest.approx(2.5, abs=1e-4)


def test_a_loud_stretch_that_differs_does_not_hide_a_faint_one_that_agrees() -> None:
    rng = np.random.default_rng(2)
    common, *loud = rng.uniform(-0.005, 0.005, (3, 2 * 16_000)).astype(np.float32)
    first, second = (np.concatenate([common, 60 * other]) for other in loud)
    assert duplicates.compare(first, second, 0)[:2] == ("overlap", 2.0)


def test_silence_has_no_keys() -> None:
    assert len(fingerprint.keys(np.zeros(16_000, np.float32))[0]) == 0
    assert len(fingerprint.keys(np.zeros(10, np.float32))[0]) == 0
    assert len(fingerprint.match([]).hits) == 0


def test_a_key_is_of_three_peaks_and_there_once() -> None:
    bursts = np.zeros(8_000, np.float32)
    for place, pitch in enumerate((500, 900, 1300, 1700)):
        start = 500 + 1_500 * place
        tone = np.sin(2 * np.pi * pitch * np.arange(1_400) / 16_000)
        bursts[start : start + 1_400] = np.hanning(1_400) * tone
    key, frame = fingerprint.keys(bursts)
    assert len(key)
    assert len(set(zip(key.tolist(), frame.tolist(), strict=True))) == len(key)


def test_work_grows_with_the_clips_and_not_with_their_pairs() -> None:
    noise = np.random.default_rng(3).uniform(-0.3, 0.3, 16_000).astype(np.float32)
    copies = 200
    found = fingerprint.match([fingerprint.keys(noise)] * copies)
    assert len(found.hits) <= copies * fingerprint.MEETINGS
    assert set(found.first) | set(found.second) == set(range(copies))
    assert not found.shift.any()
