"""Recordings in: decode, downmix, resample. Every error about a bad recording is made here.

libsndfile (through soundfile) reads wav, flac, ogg, mp3 and more, A-law, mu-law and MPEG in WAV
included. It is lenient: it takes header-only files, files cut in half, absurd rates and channel
counts, NaN, and headers that promise gigabytes. So nothing here trusts a header: samples are read
in bounded blocks, and what was promised is compared with what came.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
import soundfile
import soxr

from jaxsound.errors import UserError

MIN_RATE, MAX_RATE = 4_000, 192_000  # Hz
MAX_CHANNELS = 8
MAX_SECONDS = 3600.0  # of one clip; cut longer recordings with the CSV's start and end
MAX_AMPLITUDE = 16.0  # float samples beyond it are not audio on the scale where 1.0 is full
MISSING = 0.05  # of what the header promises may lack; more is a truncated file
# What to take for a recording. Those that cannot be read are listed as broken, not passed over.
SUFFIXES = (
    *(".wav", ".wave", ".w64", ".rf64", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".mpga"),
    *(".aif", ".aiff", ".aifc", ".au", ".snd", ".caf", ".m4a", ".mp4", ".aac", ".wma", ".amr"),
    ".webm",
)
_BLOCK = 1 << 18  # samples, over all channels, decoded at a time


class AudioError(UserError):
    """A recording that cannot be used. `path` names it, `reason` says why in a few words."""

    def __init__(self, path: str | os.PathLike[str], reason: str) -> None:
        super().__init__(str(path), reason)
        self.path = str(path)
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}"


def read(
    path: str | os.PathLike[str], start: float | None = None, end: float | None = None
) -> tuple[np.ndarray, int]:
    """Decodes a recording, or the part of it from `start` to `end` (seconds).

    Returns `(audio, sample_rate)`: int16 `[n]`, n > 0, mono (the mean of the channels) at the
    file's own rate in Hz. 16-bit mono files come back bit for bit. Float samples have 1.0 as full
    scale: those beyond it are clipped, those beyond 16.0 refuse the file. `end` past the last
    sample means the last sample.

    Raises `AudioError` for everything that is wrong with the file: missing, empty, undecodable,
    truncated, non-finite, a rate outside 4-192 kHz, more than 8 channels, longer than an hour.
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

    Yields `(block, sample_rate, seconds)`: int16 `[n]`, Hz, and the length that the file promises.
    """
    with _open(path) as file:
        for block in _blocks(file, path, None, None, most=float("inf")):
            yield block, file.samplerate, file.frames / file.samplerate


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
    if not path.is_file():
        raise AudioError(path, "not a file" if path.exists() else "no such file")
    if path.stat().st_size == 0:
        raise AudioError(path, "empty file")
    try:
        file = soundfile.SoundFile(os.fspath(path))
    except PermissionError as error:
        raise AudioError(path, "cannot be opened (permission denied)") from error
    except (soundfile.SoundFileError, RuntimeError, TypeError, OSError) as error:
        raise AudioError(path, f"cannot be decoded ({_reason(error)})") from error
    try:
        _check_header(file, path)
    except AudioError:
        file.close()
        raise
    return file


def _check_header(file: soundfile.SoundFile, path: Path) -> None:
    if not MIN_RATE <= file.samplerate <= MAX_RATE:
        raise AudioError(
            path, f"sample rate {file.samplerate} Hz is not between {MIN_RATE} and {MAX_RATE}"
        )
    if file.channels > MAX_CHANNELS:
        raise AudioError(path, f"{file.channels} channels, at most {MAX_CHANNELS} are read")
    promised, present = _container_bytes(path)
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
    rate, promised = file.samplerate, file.frames
    most = MAX_SECONDS if most is None else most
    first = round((start or 0.0) * rate)
    if promised <= 0:
        raise AudioError(path, "no samples")
    if first >= promised:
        raise AudioError(path, f"starts at {start} s, but lasts {promised / rate:.3f} s")
    last = promised if end is None else min(promised, round(end * rate))
    wanted = last - first
    if wanted <= 0:
        raise AudioError(path, f"no samples between {start or 0.0} s and {end} s")
    if wanted > most * rate:
        raise AudioError(path, f"{wanted / rate:.0f} s long, more than {most:.0f} s")
    got = 0
    # What is int16 already needs no detour through float32 and its checks.
    plain = file.channels == 1 and file.subtype == "PCM_16"
    try:
        if first:
            file.seek(first)
        while got < wanted:
            size = min(_BLOCK // file.channels, wanted - got)
            block = file.read(size, dtype="int16" if plain else "float32", always_2d=not plain)
            if not len(block):
                break
            got += len(block)
            yield block if plain else _to_int16(block, path)
    except (soundfile.SoundFileError, RuntimeError) as error:
        raise AudioError(path, f"breaks off after {got / rate:.3f} s ({_reason(error)})") from error
    if not got:
        raise AudioError(path, "no samples")
    if got < wanted * (1 - MISSING) and _promises(file, path):
        raise AudioError(path, f"truncated: {got / rate:.3f} of {wanted / rate:.3f} s are there")


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


def _promises(file: soundfile.SoundFile, path: str | os.PathLike[str]) -> bool:
    """False for an MP3 without a Xing or VBRI header, whose length is a guess."""
    if file.format != "MP3":
        return True
    with open(path, "rb") as stream:
        head = stream.read(10)
        if head[:3] == b"ID3":  # a tag, its size in seven-bit bytes
            stream.seek(10 + sum(byte << 7 * place for place, byte in enumerate(head[:5:-1])))
            head = b""
        head += stream.read(512)
    return any(mark in head for mark in (b"Xing", b"Info", b"VBRI"))


def _container_bytes(path: Path) -> tuple[int, int]:
    """`(promised, present)` bytes of sound; (0, 0) where the container makes no promise.

    libsndfile shortens a cut WAV without a word and ends a cut Ogg at its last whole page.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        magic = file.read(12)
        if magic[:4] == b"RIFF" and magic[8:] == b"WAVE":
            streamed = magic[4:8] == b"\xff\xff\xff\xff"  # written to a pipe: sizes unknown
            return (0, 0) if streamed else _wav_bytes(file, size)
        if magic[:4] == b"OggS":
            return _ogg_bytes(file, size)
    return 0, 0


def _wav_bytes(file: BinaryIO, size: int) -> tuple[int, int]:
    while len(header := file.read(8)) == 8:
        promised = int.from_bytes(header[4:], "little")
        if header[:4] == b"data":
            return promised, min(promised, size - file.tell())
        file.seek(promised + promised % 2, os.SEEK_CUR)
    return 0, 0


def _ogg_bytes(file: BinaryIO, size: int) -> tuple[int, int]:
    """A page holds at most 65 307 bytes; a file that was cut ends inside one."""
    file.seek(max(0, size - 65_307))
    tail = file.read()
    page = tail.rfind(b"OggS")
    if page < 0:
        return 0, 0
    segments = tail[page + 27 : page + 27 + tail[page + 26]] if page + 26 < len(tail) else b""
    whole = len(segments) > 0 and page + 27 + len(segments) + sum(segments) <= len(tail)
    return (0, 0) if whole else (size, 0)
