"""Recordings in: decode, downmix, resample. Every error about a bad recording is made here.

libsndfile (through soundfile) reads wav, flac, ogg, mp3 and more, A-law, mu-law and MPEG in WAV
included. It is lenient: it takes header-only files, files cut in half, absurd rates and channel
counts, NaN, and headers that promise gigabytes. So nothing here trusts a header: samples are read
in bounded blocks, and what was promised is compared with what came. docs/recordings.md has the
outcome of every kind of bad recording that the tests make.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import soundfile
import soxr

from jaxsound.data import container
from jaxsound.errors import UserError

MIN_RATE, MAX_RATE = 4_000, 192_000  # Hz
MAX_CHANNELS = 8
MAX_SECONDS = 3600.0  # of one clip; cut longer recordings with the CSV's start and end
MAX_AMPLITUDE = 16.0  # float samples beyond it are not audio on the scale where 1.0 is full
MISSING = 0.05  # of what the header promises may lack; more is a truncated file
MAX_EXPANSION = 200  # 16-bit sound over its file, in bytes; speech coded for telephones has 30
FREE_EXPANSION = 64 * 2**20  # bytes of sound up to which any expansion is taken
# What to take for a recording. Those that cannot be read are listed as broken, not passed over.
SUFFIXES = (
    *(".wav", ".wave", ".w64", ".rf64", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".mpga"),
    *(".aif", ".aiff", ".aifc", ".au", ".snd", ".caf", ".m4a", ".mp4", ".aac", ".wma", ".amr"),
    ".webm",
)
_BLOCK = 1 << 18  # samples, over all channels, decoded at a time
_UNKNOWN = 2**62  # frames: what libsndfile makes of a header that names no length is more


class AudioError(UserError):
    """A recording that cannot be used. `path` names it, `reason` says why in a few words."""

    def __init__(self, path: str | os.PathLike[str], reason: str) -> None:
        super().__init__(str(path), reason)
        self.path = str(path)
        self.reason = reason

    def __str__(self) -> str:
        return f"{printable(self.path)}: {self.reason}"


def printable(name: str | os.PathLike[str]) -> str:
    """A name for one line of UTF-8: control characters and bytes of no encoding are escaped."""
    shown = os.fsencode(name).decode("utf-8", "backslashreplace")
    return "".join(x if x.isprintable() else x.encode("unicode_escape").decode() for x in shown)


def read(
    path: str | os.PathLike[str], start: float | None = None, end: float | None = None
) -> tuple[np.ndarray, int]:
    """Decodes a recording, or the part of it from `start` to `end` (seconds).

    Returns `(audio, sample_rate)`: int16 `[n]`, n > 0, mono (the mean of the channels) at the
    file's own rate in Hz. 16-bit mono files come back bit for bit. Float samples have 1.0 as full
    scale: those beyond it are clipped, those beyond 16.0 refuse the file. `end` past the last
    sample means the last sample.

    Raises `AudioError` for everything that is wrong with the file: missing, empty, undecodable,
    truncated, non-finite, a format or coding beyond `container`'s, a rate outside 4-192 kHz, more
    than 8 channels, longer than an hour, or a small file that would be hundreds of times its size.
    """
    with _open(path) as file:
        return np.concatenate(list(_blocks(file, path, start, end))), file.samplerate


def check(
    path: str | os.PathLike[str], start: float | None = None, end: float | None = None
) -> None:
    """Decodes as `read` does and raises what it raises, in the memory of one block."""
    with _open(path) as file:
        for _ in _blocks(file, path, start, end):
            pass


def stream(path: str | os.PathLike[str]) -> Iterator[tuple[np.ndarray, int, float]]:
    """Decodes a recording of any length block by block, as `read` does the whole of it.

    Yields `(block, sample_rate, seconds)`: int16 `[n]`, Hz, and the length that the file promises,
    0.0 if it promises none.
    """
    with _open(path) as file:
        seconds = file.frames / file.samplerate if file.frames < _UNKNOWN else 0.0
        for block in _blocks(file, path, None, None, most=float("inf")):
            yield block, file.samplerate, seconds


def downmix(audio: np.ndarray) -> np.ndarray:
    """Mean over channels: float32 `[n, channels]` (or `[n]`, returned as is) -> float32 `[n]`."""
    if audio.ndim == 1:
        return audio
    return audio[:, 0] if audio.shape[1] == 1 else audio.mean(axis=1, dtype=np.float32)


def resample(audio: np.ndarray, from_rate: int, to_rate: int) -> np.ndarray:
    """Band-limited resampling (soxr, quality HQ) of float32 `[n]` -> `[~ n * to / from]`."""
    if from_rate == to_rate:
        return audio
    return soxr.resample(audio, from_rate, to_rate, quality="HQ")


def _open(path: str | os.PathLike[str]) -> soundfile.SoundFile:
    path = Path(path)
    if reason := container.why_not(path):
        raise AudioError(path, reason)
    try:
        file = soundfile.SoundFile(os.fsencode(path))  # bytes: a name need not be UTF-8
    except (soundfile.SoundFileError, RuntimeError, TypeError, ValueError, OSError) as error:
        raise AudioError(path, f"cannot be decoded ({_reason(error)})") from error
    try:
        _check_header(file, path)
    except AudioError:
        file.close()
        raise
    return file


def _check_header(file: soundfile.SoundFile, path: Path) -> None:
    if file.format not in container.FORMATS or file.subtype not in container.SUBTYPES:
        raise AudioError(path, f"cannot be decoded ({file.format} of {file.subtype} is not read)")
    if not MIN_RATE <= file.samplerate <= MAX_RATE:
        raise AudioError(
            path, f"sample rate {file.samplerate} Hz is not between {MIN_RATE} and {MAX_RATE}"
        )
    if file.channels > MAX_CHANNELS:
        raise AudioError(path, f"{file.channels} channels, at most {MAX_CHANNELS} are read")
    promised, present = container.sound_bytes(path)
    if present < promised * (1 - MISSING):
        raise AudioError(path, f"truncated: {present} of {promised} bytes of sound are there")


def _blocks(
    file: soundfile.SoundFile,
    path: str | os.PathLike[str],
    start: float | None,
    end: float | None,
    most: float | None = None,
) -> Iterator[np.ndarray]:
    """Yields int16 mono blocks `[<= _BLOCK / channels]`; raises once the file proves bad."""
    most = MAX_SECONDS if most is None else most
    first, wanted = _span(file, path, start, end)
    whole = not first and end is None
    if file.format == "OGG" and whole and (damage := container.ogg_damage(Path(path))):
        raise AudioError(path, f"damaged: {damage}")
    known = file.frames < _UNKNOWN
    if not known:
        file.seekable = lambda: False  # soundfile would seek to the end, which libsndfile refuses
    got = 0
    # What is int16 already needs no detour through float32 and its checks.
    plain = file.channels == 1 and file.subtype == "PCM_16"
    try:
        if first:
            file.seek(first)
        while got < wanted:
            _check_length(file, path, wanted if known else got, most)
            size = min(_BLOCK // file.channels, wanted - got)
            block = file.read(size, dtype="int16" if plain else "float32", always_2d=not plain)
            if not len(block):
                break
            got += len(block)
            yield block if plain else _to_int16(block, path)
    # ValueError: in broken Opus libsndfile may be past the end, and soundfile asks for -1 samples.
    except (soundfile.SoundFileError, RuntimeError, ValueError) as error:
        at = got / file.samplerate
        raise AudioError(path, f"breaks off after {at:.3f} s ({_reason(error)})") from error
    if not got:
        raise AudioError(path, "no samples")
    exact = known and container.promises_length(file.format, Path(path))
    if exact and got < wanted * (1 - MISSING):
        there, all_of_it = got / file.samplerate, wanted / file.samplerate
        raise AudioError(path, f"truncated: {there:.3f} of {all_of_it:.3f} s are there")


def _span(
    file: soundfile.SoundFile,
    path: str | os.PathLike[str],
    start: float | None,
    end: float | None,
) -> tuple[int, int]:
    """First sample, and how many from there on, by what the header promises."""
    rate, promised = file.samplerate, file.frames
    first = round((start or 0.0) * rate)
    if promised <= 0:
        raise AudioError(path, "no samples")
    if first >= promised:
        raise AudioError(path, f"starts at {start} s, but lasts {promised / rate:.3f} s")
    last = promised if end is None else min(promised, round(end * rate))
    if last <= first:
        raise AudioError(path, f"no samples between {start or 0.0} s and {end} s")
    return first, last - first


def _check_length(
    file: soundfile.SoundFile, path: str | os.PathLike[str], frames: int, most: float
) -> None:
    if frames > most * file.samplerate:
        raise AudioError(path, f"{frames / file.samplerate:.0f} s long, more than {most:.0f} s")
    size, sound = os.path.getsize(path), frames * file.channels * 2
    if sound > max(FREE_EXPANSION, size * MAX_EXPANSION):
        times = f"{sound / size:.0f} times, to {sound / 2**20:.0f} MiB"
        raise AudioError(path, f"expands {times}; more than {MAX_EXPANSION} times is not sound")


def _to_int16(block: np.ndarray, path: str | os.PathLike[str]) -> np.ndarray:
    peak = np.abs(block).max()
    if not np.isfinite(peak):
        raise AudioError(path, "NaN or infinite samples")
    if peak > MAX_AMPLITUDE:
        raise AudioError(path, f"samples reach {peak:.3g}, where full scale is 1")
    return np.clip(np.rint(downmix(block) * 32768.0), -32768, 32767).astype(np.int16)


def _reason(error: Exception) -> str:
    """libsndfile's own words, without the path and the prefix that soundfile adds."""
    text = getattr(error, "error_string", None) or str(error)
    if "does not exist" in text:  # what it says of a file that is there and no recording at all
        return "not a recording"
    return text.strip().rstrip(".").splitlines()[0] if text.strip() else type(error).__name__
