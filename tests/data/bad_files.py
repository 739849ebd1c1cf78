"""What the file system can put in a recording's place, and odd names."""

import os
import socket
from pathlib import Path

from tests.data.waves import Kind, file, wav


def _folder(place: Path) -> Path:
    (place / "a.wav").mkdir()
    return place / "a.wav"


def _link(place: Path) -> Path:
    (place / "a.wav").symlink_to(file(wav(), "b.wav")(place))
    return place / "a.wav"


def _dangling(place: Path) -> Path:
    (place / "a.wav").symlink_to(place / "gone.wav")
    return place / "a.wav"


def _loop(place: Path) -> Path:
    (place / "a.wav").symlink_to(place / "b.wav")
    (place / "b.wav").symlink_to(place / "a.wav")
    return place / "a.wav"


def _pipe(place: Path) -> Path:
    os.mkfifo(place / "a.wav")
    return place / "a.wav"


def _socket(place: Path) -> Path:
    here = Path.cwd()
    os.chdir(place)  # a socket's address may have about a hundred bytes
    try:
        with socket.socket(socket.AF_UNIX) as bound:
            bound.bind("a.wav")
    finally:
        os.chdir(here)
    return place / "a.wav"


def _device(place: Path) -> Path:
    (place / "a.wav").symlink_to("/dev/zero")
    return place / "a.wav"


def _empty(place: Path) -> Path:
    (place / "a.wav").touch()
    return place / "a.wav"


def _forbidden(place: Path) -> Path:
    path = file(wav())(place)
    path.chmod(0)
    return path


NAMES = (
    ("upper", "name in capitals, A.WAV", "A.WAV"),
    ("other_ending", "WAV named .mp3", "a.mp3"),
    ("no_ending", "WAV without an ending", "a"),
    ("unicode", "name of letters from everywhere", "Ünïcødé 犬 🐕 كلب e\u0301.wav"),
    ("not_utf8", "name that is not UTF-8", os.fsdecode(b"h\xfcnd\xff.wav")),
    ("newline", "name with a line break in it", "a\nb\r\t.wav"),
    ("dash", "name that looks like an option", "--help.wav"),
    ("signs", "name of signs", "a %s {0} $HOME 'b' \"c\" <i>&amp;*?.wav"),
    ("invisible", "name with a change of direction and no visible letter", "\u202e\u200b.wav"),
    ("longest", "name of 255 bytes", "a" * 251 + ".wav"),
)

KINDS = (
    Kind("missing", "no file", "no such file", lambda place: place / "a.wav"),
    Kind("empty", "empty file", "empty file", _empty),
    Kind("folder", "folder", "not a file but a folder", _folder),
    Kind("link", "link to a recording", "used", _link),
    Kind("dangling", "link to nothing", "a link to nothing", _dangling),
    Kind("loop", "links in a circle", "a link that leads back to itself", _loop),
    Kind("pipe", "pipe", "not a file but a pipe, a socket or a device", _pipe),
    Kind("socket", "socket", "not a file but a pipe, a socket or a device", _socket),
    Kind("device", "device", "not a file but a pipe, a socket or a device", _device),
    Kind(
        "forbidden",
        "no permission",
        "cannot be opened (permission denied)",
        _forbidden,
        unreadable=True,
    ),
    Kind(
        "too_long",
        "name of 300 bytes",
        "cannot be opened (File name too long)",
        lambda place: place / ("a" * 296 + ".wav"),
    ),
    Kind(
        "zero_byte",
        "name with a zero byte",
        "cannot be opened (embedded null byte)",
        lambda place: place / "a\0.wav",
    ),
    Kind(
        "below_a_file",
        "path below a file",
        "no such file",
        lambda place: file(wav())(place) / "b.wav",
    ),
    *(Kind(name, what, "used", file(wav(), called)) for name, what, called in NAMES),
)
