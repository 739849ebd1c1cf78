"""Codings that are read or not, samples that are no sound, and files that grow when decoded."""

import gzip
from pathlib import Path

import numpy as np
import soundfile

from tests.data.waves import (
    NOISE,
    RATE,
    Kind,
    changed,
    encoded,
    file,
    form,
    mpeg_in_wav,
    riff,
    sound,
    wav,
)

NOT_ONE = "cannot be decoded (not a recording)"
EXPANDS = "expands N times, to N MiB; more than N times is not sound"
UNRECOGNISED = "cannot be decoded (Format not recognised)"
TONE = (8000 * np.sin(np.arange(RATE) / 5)).astype(np.int16)
CLIPPED = riff(form(), sound((np.sign(NOISE) * 32_767).astype("<i2").tobytes()))


def floats(*values: float) -> bytes:
    """A float WAV of quiet noise with these in its middle."""
    samples = (NOISE / 40_000).astype("<f4")
    with np.errstate(over="ignore"):
        samples[500 : 500 + len(values)] = values
    return riff(form(tag=3, bits=32), sound(samples.tobytes()))


def constant(value: int, samples: int = RATE) -> bytes:
    return riff(form(), sound(np.full(samples, value, "<i2").tobytes()))


def silent_hours(seconds: int) -> bytes:
    return riff(form(rate=4000, bits=8), sound(b"\x80" * (4000 * seconds)))


def bomb(name: str, rate: int, channels: int, seconds: int, unknown: bool = False):
    """Silence that an encoder makes almost nothing of."""

    def make(folder: Path) -> Path:
        path = folder / name
        silence = np.zeros((rate, channels), np.int16)
        with soundfile.SoundFile(path, "w", rate, channels) as out:
            for _ in range(seconds):
                out.write(silence)
        if unknown:
            with path.open("r+b") as header:
                header.seek(21)
                fifth = header.read(1)[0] & 0xF0
                header.seek(21)
                header.write(bytes([fifth, 0, 0, 0, 0]))
        return path

    return make


CODINGS = (
    ("alaw", "A-law in WAV", "used", {"format": "WAV", "subtype": "ALAW"}),
    ("ulaw", "mu-law in WAV", "used", {"format": "WAV", "subtype": "ULAW"}),
    ("ms_adpcm", "Microsoft ADPCM in WAV", "used", {"format": "WAV", "subtype": "MS_ADPCM"}),
    ("ima_adpcm", "IMA ADPCM in WAV", "used", {"format": "WAV", "subtype": "IMA_ADPCM"}),
    (
        "gsm610",
        "GSM 6.10 in WAV",
        "cannot be decoded (WAV of GSM610 is not read)",
        {"format": "WAV", "subtype": "GSM610"},
    ),
    (
        "g721",
        "G.721 in WAV",
        "cannot be decoded (WAV of G721_32 is not read)",
        {"format": "WAV", "subtype": "G721_32"},
    ),
    (
        "nms",
        "NMS ADPCM in WAV",
        "cannot be decoded (WAV of NMS_ADPCM_16 is not read)",
        {"format": "WAV", "subtype": "NMS_ADPCM_16"},
    ),
    (
        "alac",
        "ALAC in CAF",
        "cannot be decoded (CAF of ALAC_16 is not read)",
        {"format": "CAF", "subtype": "ALAC_16"},
    ),
    (
        "dwvw",
        "DWVW in AIFF",
        "cannot be decoded (AIFF of DWVW_16 is not read)",
        {"format": "AIFF", "subtype": "DWVW_16"},
    ),
    ("voc", "VOC", NOT_ONE, {"format": "VOC", "subtype": "PCM_16"}),
    ("nist", "NIST Sphere", NOT_ONE, {"format": "NIST", "subtype": "PCM_16"}),
    ("paf", "PAF", NOT_ONE, {"format": "PAF", "subtype": "PCM_16"}),
    ("mat5", "MATLAB", NOT_ONE, {"format": "MAT5", "subtype": "PCM_16"}),
    ("ircam", "IRCAM", NOT_ONE, {"format": "IRCAM", "subtype": "PCM_16"}),
    (
        "svx",
        "Amiga 8SVX",
        "cannot be decoded (SVX of PCM_16 is not read)",
        {"format": "SVX", "subtype": "PCM_16"},
    ),
)

CONTENTS = (
    ("text", "a text", NOT_ONE, b"this is not sound" * 50),
    ("zeros", "zero bytes", NOT_ONE, bytes(4096)),
    ("random", "random bytes", NOT_ONE, NOISE.tobytes()[1:]),
    ("png", "PNG picture", NOT_ONE, b"\x89PNG\r\n\x1a\n" + bytes(900)),
    ("zip", "ZIP archive", NOT_ONE, b"PK\3\4" + bytes(900)),
    ("gzip", "WAV within gzip", NOT_ONE, gzip.compress(wav(), mtime=0)),
    ("html", "web page of a failed download", NOT_ONE, b"<!DOCTYPE html><html>" * 40),
    ("lfs", "Git LFS pointer", NOT_ONE, b"version https://git-lfs.github.com/spec/v1\n"),
    ("m4a", "M4A", NOT_ONE, b"\0\0\0\x20ftypM4A " + bytes(900)),
    ("webm", "WebM", NOT_ONE, b"\x1aE\xdf\xa3" + bytes(900)),
    ("wma", "WMA", NOT_ONE, b"0&\xb2u\x8ef\xcf\x11" + bytes(900)),
    ("midi", "MIDI", NOT_ONE, b"MThd\0\0\0\6" + bytes(900)),
    ("avi", "AVI, a RIFF that is no WAV", UNRECOGNISED, b"RIFF\0\1\0\0AVI LIST" + bytes(900)),
    ("float", "float", "used", floats()),
    ("float_over", "float, 1.5 at its peak: clipped", "used", floats(1.5, -1.5)),
    ("float_tiny", "float, 1e-40 at its least", "used", floats(1e-40, -1e-40)),
    (
        "float_integers",
        "float on the scale of 16-bit numbers",
        "samples reach N, where full scale is N",
        floats(20_000.0, -20_000.0),
    ),
    ("float_nan", "float with NaN", "NaN or infinite samples", floats(np.nan)),
    ("float_infinite", "float with infinity", "NaN or infinite samples", floats(np.inf)),
    ("float_minus", "float with minus infinity", "NaN or infinite samples", floats(-np.inf)),
    ("float_1e30", "float with 1e30", "samples reach N, where full scale is N", floats(1e30)),
    ("one_sample", "one sample", "used", constant(1000, 1)),
    ("silence", "silence", "used", constant(0)),
    ("dc", "a constant", "used", constant(12_000)),
    ("least", "the least value throughout", "used", constant(-32_768)),
    ("clipped", "clipped", "used", CLIPPED),
    (
        "cancels",
        "stereo whose channels cancel out: silence",
        "used",
        riff(form(channels=2), sound(np.stack([NOISE, -NOISE], 1).tobytes())),
    ),
    ("hour", "an hour of silence", "used", silent_hours(3600)),
    ("over_an_hour", "more than an hour", "N s long, more than N s", silent_hours(3601)),
)

BOMBS = (
    (
        "flac_bomb",
        "FLAC bomb: 25 min of silence, 0.3 MB for 288 MB",
        EXPANDS,
        bomb("a.flac", 48_000, 2, 1500),
    ),
    (
        "flac_bomb_unknown",
        "FLAC bomb with no length in its header",
        EXPANDS,
        bomb("a.flac", 48_000, 2, 600, unknown=True),
    ),
    (
        "flac_bomb_wide",
        "FLAC bomb of 8 channels at 192 kHz",
        EXPANDS,
        bomb("a.flac", 192_000, 8, 60),
    ),
    ("ogg_bomb", "OGG Vorbis bomb", EXPANDS, bomb("a.ogg", 48_000, 2, 600)),
    (
        "flac_silence",
        "FLAC of 5 min of silence, which grows as much but little",
        "used",
        bomb("a.flac", 48_000, 2, 300),
    ),
)

KINDS = (
    *(
        Kind(
            name,
            what,
            outcome,
            file(encoded(TONE, 8000 if name in ("gsm610", "nms") else RATE, **kind)),
        )
        for name, what, outcome, kind in CODINGS
    ),
    Kind(
        "mpeg_in_wav",
        "MPEG layer 3 in WAV",
        "used",
        file(changed(encoded(TONE, format="MP3"), mpeg_in_wav)),
    ),
    *(Kind(name, what, outcome, file(content)) for name, what, outcome, content in CONTENTS),
    *(Kind(name, what, outcome, make, slow=True) for name, what, outcome, make in BOMBS),
)
