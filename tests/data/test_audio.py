"""audio.py: good recordings come through exactly, bad ones with one line and little memory."""

import pickle
import struct
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import soundfile

from jaxsound.data import audio
from jaxsound.errors import UserError

RATE = 16_000
NOISE = np.random.default_rng(0).integers(-20_000, 20_000, 4 * RATE).astype(np.int16)


def wav(path: Path, samples: np.ndarray = NOISE, rate: int = RATE, **kind: str) -> Path:
    soundfile.write(path, samples, rate, **kind)
    return path


def raw_wav(path: Path, *, rate: int = RATE, channels: int = 1, promised: int, body: bytes) -> Path:
    """A 16-bit WAV whose header says whatever one likes."""
    header = struct.pack(
        "<4sI4s4sIHHIIHH4sI", b"RIFF", (36 + promised) % 2**32, b"WAVE", b"fmt ", 16, 1, channels,
        rate, (rate * channels * 2) % 2**32, channels * 2 % 2**16, 16, b"data", promised,
    )  # fmt: skip
    path.write_bytes(header + body)
    return path


def refused(path: Path, words: str, **span: float) -> None:
    for function in (audio.read, audio.check):
        with pytest.raises(audio.AudioError, match=words) as error:
            function(path, **span)
        assert isinstance(error.value, UserError)
        assert str(path) in str(error.value)
        assert "\n" not in str(error.value)


def test_sixteen_bit_mono_is_exact(tmp_path: Path) -> None:
    for name in ("a.wav", "a.flac", "a.aiff"):
        samples, rate = audio.read(wav(tmp_path / name, subtype="PCM_16"))
        assert rate == RATE
        assert samples.dtype == np.int16
        np.testing.assert_array_equal(samples, NOISE)


def test_stereo_becomes_the_mean(tmp_path: Path) -> None:
    stereo = np.stack([NOISE, np.roll(NOISE, 7)], axis=1)
    samples, _ = audio.read(wav(tmp_path / "a.wav", stereo, subtype="PCM_16"))
    np.testing.assert_allclose(samples, stereo.mean(axis=1), atol=0.5)


@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_24", "FLOAT", "ALAW", "ULAW", "MS_ADPCM"])
def test_wav_encodings_are_close(tmp_path: Path, subtype: str) -> None:
    tone = (8000 * np.sin(np.arange(RATE) / 5)).astype(np.int16)
    samples, _ = audio.read(wav(tmp_path / "a.wav", tone / np.float32(32768), subtype=subtype))
    np.testing.assert_allclose(samples[: len(tone)], tone, atol=800)


@pytest.mark.parametrize("name", ["a.ogg", "a.mp3"])
def test_compressed_formats_are_read(tmp_path: Path, name: str) -> None:
    samples, rate = audio.read(wav(tmp_path / name))
    assert rate == RATE
    assert abs(len(samples) - len(NOISE)) < RATE // 10


def test_a_part_is_the_same_samples(tmp_path: Path) -> None:
    path = wav(tmp_path / "a.wav", subtype="PCM_16")
    np.testing.assert_array_equal(audio.read(path, 1.0, 1.5)[0], NOISE[RATE : RATE * 3 // 2])
    np.testing.assert_array_equal(audio.read(path, 3.5, 9.0)[0], NOISE[RATE * 7 // 2 :])
    refused(path, "starts at 4.0 s, but lasts 4.000 s", start=4.0)
    refused(path, "no samples between", start=1.0, end=1.0)


def test_floats_beyond_full_scale_clip_and_far_beyond_refuse(tmp_path: Path) -> None:
    loud = np.array([0.5, 1.5, -1.5, 0.25] * 100, np.float32)
    samples, _ = audio.read(wav(tmp_path / "a.wav", loud, subtype="FLOAT"))
    assert samples[:4].tolist() == [16384, 32767, -32768, 8192]
    for value, words in ((np.nan, "NaN"), (np.inf, "NaN or inf"), (1e30, "full scale"), (99, "99")):
        loud[50] = value
        refused(wav(tmp_path / "b.wav", loud, subtype="FLOAT"), words)


def test_not_a_recording(tmp_path: Path) -> None:
    refused(tmp_path / "none.wav", "no such file")
    refused(tmp_path, "not a file")
    (tmp_path / "empty.wav").touch()
    refused(tmp_path / "empty.wav", "empty file")
    (tmp_path / "text.wav").write_text("this is not sound" * 50)
    refused(tmp_path / "text.wav", "cannot be decoded")
    refused(wav(tmp_path / "silent.wav", NOISE[:0]), "no samples")


def test_an_mp3_without_a_length_is_not_held_to_a_guess(tmp_path: Path) -> None:
    path = wav(tmp_path / "a.mp3")
    frames = path.read_bytes()[len(path.read_bytes()) // 3 :]
    path.write_bytes(frames)
    assert len(audio.read(path)[0]) > 2 * RATE
    tag = b"ID3\4\0\0" + bytes([0, 0, 1000 >> 7, 1000 & 127]) + bytes(1000)
    whole = wav(tmp_path / "b.mp3").read_bytes()
    (tmp_path / "b.mp3").write_bytes(tag + whole[: len(whole) // 2])
    refused(tmp_path / "b.mp3", "truncated|breaks off")


@pytest.mark.parametrize("name", ["a.wav", "a.flac", "a.ogg", "a.mp3"])
def test_a_file_cut_in_half_is_refused(tmp_path: Path, name: str) -> None:
    whole = wav(tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(whole[: len(whole) // 2])
    refused(tmp_path / name, "truncated|breaks off|cannot be decoded")


def test_header_only_is_refused(tmp_path: Path) -> None:
    for name, keep in (("a.wav", 44), ("a.flac", 86), ("a.mp3", 20)):
        (tmp_path / name).write_bytes(wav(tmp_path / name).read_bytes()[:keep])
        refused(tmp_path / name, "truncated|no samples|cannot be decoded|breaks off")


def test_false_headers_are_refused_without_allocating(tmp_path: Path) -> None:
    body = NOISE[:1000].tobytes()
    cases = [
        ({"promised": 2**31 - 2}, "truncated"),
        ({"promised": 2000, "rate": 2**31 - 1}, "sample rate"),
        ({"promised": 2000, "rate": 1}, "sample rate"),
        ({"promised": 2000, "channels": 1024}, "1024 channels|cannot be decoded"),
    ]
    tracemalloc.start()
    for case, words in cases:
        refused(raw_wav(tmp_path / "a.wav", body=body, **case), words)
    assert tracemalloc.get_traced_memory()[1] < 20e6
    tracemalloc.stop()


def test_a_streamed_wav_has_no_size_to_hold_it_to(tmp_path: Path) -> None:
    path = raw_wav(tmp_path / "a.wav", promised=2**32 - 1, body=NOISE.tobytes())
    path.write_bytes(path.read_bytes()[:4] + b"\xff" * 4 + path.read_bytes()[8:])
    np.testing.assert_array_equal(audio.read(path)[0], NOISE)


def test_a_long_recording_is_refused_before_it_is_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audio, "MAX_SECONDS", 3.0)
    path = wav(tmp_path / "a.wav")
    refused(path, "4 s long, more than 3 s")
    assert len(audio.read(path, 1.0, 3.5)[0]) == 2.5 * RATE


def test_check_holds_no_more_than_a_block(tmp_path: Path) -> None:
    path = wav(tmp_path / "a.flac", np.zeros((60 * 48_000, 2), np.int16), 48_000)
    tracemalloc.start()
    audio.check(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8e6 < 60 * 48_000 * 2 * 4


def test_an_audio_error_survives_a_process_boundary() -> None:
    error = pickle.loads(pickle.dumps(audio.AudioError("a.wav", "empty file")))
    assert (error.path, error.reason, str(error)) == ("a.wav", "empty file", "a.wav: empty file")


def test_resample_keeps_a_tone_and_removes_what_would_alias() -> None:
    time = np.arange(2 * 44_100) / 44_100
    low, high = (np.sin(2 * np.pi * hertz * time).astype(np.float32) for hertz in (1000, 10_000))
    out = audio.resample(low, 44_100, 16_000)
    expected = np.sin(2 * np.pi * 1000 * np.arange(2 * 16_000) / 16_000)
    assert out.dtype == np.float32
    assert len(out) == len(expected)
    np.testing.assert_allclose(out[500:-500], expected[500:-500], atol=1e-3)
    assert np.abs(audio.resample(high, 44_100, 16_000)[500:-500]).max() < 1e-3
    assert audio.resample(low, 8000, 8000) is low


def test_a_decoder_past_its_end_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As libsndfile is now and then in broken Opus, which soundfile does not expect."""
    path = tmp_path / "a.opus"
    soundfile.write(path, np.zeros(4800), 48000, format="OGG", subtype="OPUS")
    monkeypatch.setattr(soundfile.SoundFile, "tell", lambda file: file.frames + 1)
    with pytest.raises(audio.AudioError, match="breaks off after 0"):
        audio.read(path)
