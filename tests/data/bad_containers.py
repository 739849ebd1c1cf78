"""WAV headers and chunks that lie, and the other containers, whole and cut."""

import struct

import numpy as np

from tests.data.waves import (
    NOISE,
    RATE,
    Kind,
    changed,
    chunk,
    encoded,
    file,
    flipped,
    form,
    kept,
    patched,
    riff,
    sound,
    wav,
)

NO_SOUND = "cannot be decoded (Error in WAV file. No 'data' chunk marker)"
MALFORMED = "cannot be decoded (Error in WAV/W64/RF64 file. Malformed 'fmt ' chunk)"
SHORT = "cannot be decoded (Error in WAV/W64/RF64 file. Short 'fmt ' chunk)"
BROKEN = "cannot be decoded (Supported file format but file is malformed)"
UNKNOWN_CODING = "cannot be decoded (File contains data in an unimplemented format)"
INCOMPLETE = "cannot be decoded (Internal error : SF_INFO struct incomplete)"
OTHER_RATE = "sample rate N Hz is not between N and N"
TOO_MANY = "N channels, at most N are read"
TRUNCATED = "truncated: N of N bytes of sound are there"
NOT_ONE = "cannot be decoded (not a recording)"
UNRECOGNISED = "cannot be decoded (Format not recognised)"
BODY = NOISE.tobytes()
FULL = (1 << 32) - 1


def _extensible(bits: int, tag: int = 1) -> bytes:
    guid = struct.pack("<H", tag) + b"\0\0\0\0\x10\0\x80\0\0\xaa\0\x38\x9b\x71"
    return form(tag=0xFFFE, bits=bits, extra=struct.pack("<HHI", 22, bits, 4) + guid)


def _rifx() -> bytes:
    body = NOISE.astype(">i2").tobytes()
    fields = struct.pack(">HHIIHH", 1, 1, RATE, 2 * RATE, 2, 16)
    head = b"WAVEfmt " + struct.pack(">I", 16) + fields + b"data" + struct.pack(">I", len(body))
    return b"RIFX" + struct.pack(">I", len(head) + len(body)) + head + body


HEADERS = (
    ("header_only", "WAV, header only", TRUNCATED, riff(form(), sound())[:44]),
    ("half_a_header", "WAV, half a header", MALFORMED, wav()[:20]),
    ("no_data", "WAV without a data chunk", NO_SOUND, riff(form())),
    ("no_fmt", "WAV without a fmt chunk", NO_SOUND, riff(sound())),
    ("no_samples", "WAV of zero samples", "no samples", riff(form(), sound(b""))),
    ("half", "WAV cut in half", TRUNCATED, wav()[: len(wav()) // 2]),
    ("two_percent", "WAV that lacks 2 % at its end", "used", wav()[: int(len(wav()) * 0.98)]),
    ("promises_2gib", "WAV, data size 2 GiB", TRUNCATED, riff(form(), sound(BODY, 2**31 - 2))),
    ("promises_4gib", "WAV, data size 4 GiB", TRUNCATED, riff(form(), sound(BODY, FULL - 1))),
    ("riff_size_0", "WAV, RIFF size 0", "used", riff(form(), sound(), size=0)),
    ("riff_size_large", "WAV, RIFF size 2 GiB", "used", riff(form(), sound(), size=2**31)),
    (
        "data_size_0",
        "WAV, data size 0 before a second of sound",
        "no samples",
        riff(form(), sound(BODY, 0)),
    ),
    (
        "data_size_small",
        "WAV, data size a half of what follows",
        "used",
        riff(form(), sound(BODY, len(BODY) // 2)),
    ),
    (
        "streamed",
        "WAV written to a pipe, sizes unknown",
        "used",
        riff(form(), sound(BODY, FULL), size=FULL),
    ),
    ("rate_0", "rate 0 Hz", INCOMPLETE, wav(rate=0)),
    ("rate_1", "rate 1 Hz", OTHER_RATE, wav(rate=1)),
    ("rate_3999", "rate 3999 Hz", OTHER_RATE, wav(rate=3999)),
    ("rate_4000", "rate 4000 Hz", "used", wav(rate=4000)),
    ("rate_192000", "rate 192 kHz", "used", wav(rate=192_000)),
    ("rate_192001", "rate 192 001 Hz", OTHER_RATE, wav(rate=192_001)),
    ("rate_2_31", "rate 2^31 - 1 Hz", OTHER_RATE, wav(rate=2**31 - 1)),
    ("rate_2_32", "rate 2^32 - 1 Hz", INCOMPLETE, wav(rate=FULL)),
    ("channels_0", "0 channels", "cannot be decoded (Channel count is zero)", wav(channels=0)),
    ("channels_8", "8 channels", "used", wav(channels=8)),
    ("channels_9", "9 channels", TOO_MANY, wav(channels=9)),
    ("channels_1024", "1024 channels", TOO_MANY, wav(channels=1024)),
    (
        "channels_65535",
        "65 535 channels",
        "cannot be decoded (Too many channels specified)",
        wav(channels=65_535),
    ),
    ("align_0", "block align 0", "used", wav(align=0)),
    ("align_wrong", "block align 7 of 16-bit mono", "used", wav(align=7)),
    ("bits_0", "0 bits", UNKNOWN_CODING, wav(bits=0)),
    ("bits_8", "8-bit", "used", wav(bits=8)),
    ("bits_13", "13-bit", "used", wav(bits=13)),
    ("bits_24", "24-bit", "used", riff(form(bits=24), sound(NOISE[:9000].tobytes()))),
    ("bits_32", "32-bit", "used", wav(bits=32)),
    ("bits_64", "64-bit whole numbers", UNKNOWN_CODING, wav(bits=64)),
    ("extensible", "WAVE_FORMAT_EXTENSIBLE, 16-bit", "used", riff(_extensible(16), sound())),
    (
        "extensible_odd",
        "WAVE_FORMAT_EXTENSIBLE of an unknown coding",
        UNKNOWN_CODING,
        riff(_extensible(16, 0x1234), sound()),
    ),
    ("tag_unknown", "WAV of an unknown coding", MALFORMED, wav(tag=0x1234)),
    ("rifx", "WAV in big-endian order (RIFX)", "used", _rifx()),
    (
        "junk_first",
        "WAV, junk chunk before the sound",
        "used",
        riff(form(), chunk(b"JUNK", bytes(501)), sound()),
    ),
    (
        "junk_huge",
        "WAV, junk chunk of 2 GiB before the sound",
        NO_SOUND,
        riff(form(), chunk(b"JUNK", b"", 2**31), sound()),
    ),
    ("fmt_last", "WAV, fmt chunk after the sound", NO_SOUND, riff(sound(), form())),
    (
        "fmt_twice",
        "WAV, two fmt chunks that differ",
        NO_SOUND,
        riff(form(), form(rate=8000, channels=2), sound()),
    ),
    ("fmt_short", "WAV, fmt chunk of 4 bytes", SHORT, riff(chunk(b"fmt ", b"\1\0\1\0"), sound())),
    (
        "list_huge",
        "WAV, LIST chunk of 4 GiB",
        NO_SOUND,
        riff(form(), chunk(b"LIST", b"INFO", FULL), sound()),
    ),
    (
        "cue_huge",
        "WAV, 2^31 cue points",
        "used",
        riff(form(), chunk(b"cue ", struct.pack("<I", 2**31 - 1)), sound()),
    ),
    (
        "chunks_many",
        "WAV, 50 000 empty chunks",
        NO_SOUND,
        riff(form(), chunk(b"note", b"") * 50_000, sound()),
    ),
    ("tail", "WAV, 1 kB of anything behind the sound", "used", wav() + bytes(range(250)) * 4),
)

WHOLE = {
    "aiff": ("AIFF", {"format": "AIFF", "subtype": "PCM_16"}),
    "aifc": ("AIFC, float", {"format": "AIFF", "subtype": "FLOAT"}),
    "au": ("AU", {"format": "AU", "subtype": "PCM_16"}),
    "caf": ("CAF", {"format": "CAF", "subtype": "PCM_16"}),
    "w64": ("W64", {"format": "W64", "subtype": "PCM_16"}),
    "rf64": ("RF64", {"format": "RF64", "subtype": "PCM_16"}),
    "flac": ("FLAC", {"format": "FLAC"}),
    "vorbis": ("OGG Vorbis", {"format": "OGG", "subtype": "VORBIS"}),
    "opus": ("OGG Opus", {"format": "OGG", "subtype": "OPUS"}),
    "mp3": ("MP3", {"format": "MP3"}),
}
LOSSY = ("vorbis", "opus", "mp3")
LONG = np.tile(NOISE, 4)


def _without_a_page(whole: bytes) -> bytes:
    """Leaves out the last but one."""
    pages = whole.split(b"OggS")
    return b"OggS".join([*pages[:-2], pages[-1]])


CUT = {
    "caf": BROKEN,
    "flac": "breaks off after N s (Error : flac decoder lost sync)",
    "mp3": "truncated: N of N s are there",
}

CODED = (
    (
        "flac_header",
        "FLAC, header only",
        "breaks off after N s (Error : flac decoder lost sync)",
        {"format": "FLAC"},
        kept(0.001),
    ),
    (
        "flac_flip",
        "FLAC, one byte inverted in the sound",
        "breaks off after N s (Error : unknown error in flac decoder)",
        {"format": "FLAC"},
        flipped(0.5),
    ),
    (
        "flac_streaminfo",
        "FLAC, its first block inverted in part",
        "used",
        {"format": "FLAC"},
        patched(8, b"\xff" * 6),
    ),
    (
        "flac_unknown",
        "FLAC that names no length",
        "used",
        {"format": "FLAC"},
        patched(21, b"\xf0\0\0\0\0"),
    ),
    (
        "flac_endless",
        "FLAC that promises 2^36 - 1 samples",
        "N s long, more than N s",
        {"format": "FLAC"},
        patched(21, b"\xff" * 5),
    ),
    (
        "flac_md5",
        "FLAC, checksum of the sound wrong",
        "used",
        {"format": "FLAC"},
        patched(26, b"\x55" * 16),
    ),
    ("ogg_header", "OGG, first page only", BROKEN, {"format": "OGG"}, lambda b: b[:58]),
    (
        "ogg_flip",
        "OGG Vorbis, one byte inverted in the sound",
        "damaged: page N fails its checksum",
        {"format": "OGG"},
        flipped(0.6),
    ),
    (
        "ogg_lost",
        "OGG Vorbis, one page missing",
        "damaged: before page N there is one missing",
        {"format": "OGG"},
        _without_a_page,
    ),
    (
        "ogg_flip_head",
        "OGG Vorbis, one byte inverted in its tables",
        BROKEN,
        {"format": "OGG"},
        patched(300, b"\xa5\x5a"),
    ),
    (
        "ogg_chained",
        "OGG Vorbis, two one after another",
        "used",
        {"format": "OGG"},
        lambda b: b + b,
    ),
    ("mp3_header", "MP3, first 20 bytes", NOT_ONE, {"format": "MP3"}, lambda b: b[:20]),
    ("mp3_flip", "MP3, one byte inverted", "used", {"format": "MP3"}, flipped(0.5)),
    (
        "mp3_hole",
        "MP3, zeros in the middle",
        "used",
        {"format": "MP3"},
        lambda b: b[: len(b) // 2] + bytes(400) + b[len(b) // 2 + 400 :],
    ),
    (
        "mp3_tag",
        "MP3 behind an ID3 tag",
        "used",
        {"format": "MP3"},
        lambda b: b"ID3\4\0\0\0\0\7\x68" + bytes(1000) + b,
    ),
    (
        "mp3_tag_huge",
        "MP3, ID3 tag of 256 MiB promised",
        UNRECOGNISED,
        {"format": "MP3"},
        lambda b: b"ID3\4\0\0\x7f\x7f\x7f\x7f" + b,
    ),
)

KINDS = (
    *(Kind(name, what, outcome, file(content)) for name, what, outcome, content in HEADERS),
    *(
        Kind(f"{name}_as_wav", f"{what}, named .wav", "used", file(encoded(**kind)))
        for name, (what, kind) in WHOLE.items()
    ),
    *(
        Kind(
            f"{name}_half",
            f"{what} cut in half",
            CUT.get(name, TRUNCATED),
            file(changed(encoded(LONG, **kind), kept(0.5)), f"a.{name}"),
        )
        for name, (what, kind) in WHOLE.items()
    ),
    *(
        Kind(name, what, outcome, file(changed(encoded(LONG, **kind), change)))
        for name, what, outcome, kind, change in CODED
    ),
)
