"""One file over HTTP: goes on where it broke off, and is never put together from two versions.

A part is kept beside the target with what its server calls that version (a strong `ETag`, or
`Last-Modified`). The next request asks for the rest under that condition (RFC 9110, If-Range), so
a server that has another version by now sends all of it, and the part begins anew.
"""

import re
import time
from pathlib import Path

import requests
from tqdm import tqdm

from jaxsound.bars import bar

PATIENCE = 20.0  # seconds to wait for an answer, and for each block of it
PAUSES = (1.0, 2.0, 4.0, 8.0)  # seconds before each new try; bytes that came start them again
MOST = 256 * 2**30  # bytes of a file whose publisher names no size
_BLOCK = 2**14  # bytes; of one that breaks off nothing is kept


class TransferError(Exception):
    """Why a file cannot be had, in a few words."""


class OtherFileError(TransferError):
    """What comes is not of the size that it should have."""


def get(url: str, target: Path, size: int | None = None) -> None:
    """Downloads `url` to `target`, which appears once it is whole.

    Args:
      url: http or https.
      target: where to; its folder is there. Beside it lie `NAME.part` and `NAME.version` meanwhile,
        from which the next call goes on.
      size: bytes there must be, where that is known.

    Raises:
      OtherFileError: more or fewer bytes than `size`; nothing is kept.
      TransferError: no connection, an answer that is none, or a connection that broke off time and
        again.
    """
    part, pauses = _Part(target), list(PAUSES)
    first = part.length()
    with bar(desc=target.name, unit="B", unit_scale=True) as received:
        while True:
            before = part.length()
            try:
                if _rest(url, part, size, received):
                    break
                why = "the part that is here does not fit"
            except requests.ConnectionError as error:
                if part.length() == first == before and pauses == list(PAUSES):
                    raise TransferError("no connection") from error
                why = "the connection broke off"
            except requests.RequestException as error:
                why = f"the connection broke off: {type(error).__name__}"
            if part.length() > before:
                pauses = list(PAUSES)
            if not pauses:
                kept = f"; the same command goes on from byte {part.length()}"
                raise TransferError(f"{why} {len(PAUSES)} times{kept * bool(part.length())}")
            time.sleep(pauses.pop(0))
    if size is not None and part.length() != size:
        got = part.length()
        part.drop()
        raise OtherFileError(f"{got} bytes instead of {size}")
    part.finish()


class _Part:
    """What is here of a file, and of which version of it."""

    def __init__(self, target: Path):
        self.target = target
        self.path = target.with_name(f"{target.name}.part")
        self.version = target.with_name(f"{target.name}.version")

    def length(self) -> int:
        return self.path.stat().st_size if self.path.exists() else 0

    def condition(self) -> dict[str, str]:
        """The headers that ask for the rest; none where all of it must come."""
        if not self.length() or not self.version.exists():
            return {}
        version = self.version.read_text(encoding="latin-1")
        return {"Range": f"bytes={self.length()}-", "If-Range": version} if version else {}

    def begin(self, response: requests.Response) -> None:
        """Forgets what is here; a version without a strong name cannot be gone on with."""
        self.drop()
        tag = response.headers.get("ETag", "")
        name = response.headers.get("Last-Modified", "") if tag[:1] != '"' else tag
        self.version.write_text(name, encoding="latin-1")

    def drop(self) -> None:
        for file in (self.path, self.version):
            file.unlink(missing_ok=True)

    def finish(self) -> None:
        self.path.replace(self.target)
        self.version.unlink(missing_ok=True)


def _rest(url: str, part: _Part, size: int | None, received: tqdm) -> bool:
    """One request for what is missing; False where the part was dropped and it takes another."""
    headers = {"Accept-Encoding": "identity"} | part.condition()
    with requests.get(url, headers=headers, stream=True, timeout=PATIENCE) as response:
        have = part.length() if response.status_code in (206, 416) else 0
        answered = response.headers.get("Content-Range", "")
        if response.status_code == 416:
            if answered == f"bytes */{have}":
                return True
            part.drop()
            return False
        if response.status_code not in (200, 206):
            raise TransferError(f"HTTP code: {response.status_code}")
        if response.headers.get("Content-Encoding", "identity") != "identity":
            raise TransferError("it comes compressed, which was not asked for")
        if have and not re.match(rf"bytes {have}-\d+/", answered):
            part.drop()
            return False
        if not have:
            part.begin(response)
        announced = response.headers.get("Content-Length", "")
        whole = have + int(announced) if announced.isdecimal() else None
        if size is not None and whole is not None and whole != size:
            part.drop()
            raise OtherFileError(f"{whole} bytes instead of {size}")
        received.total, received.n = whole or size, have
        _append(response, part, size or whole or MOST, received)
    return True


def _append(response: requests.Response, part: _Part, most: int, received: tqdm) -> None:
    have = part.length()
    with part.path.open("ab") as file:
        for block in response.iter_content(_BLOCK):
            have += len(block)
            if have > most:
                file.close()
                part.drop()
                raise OtherFileError(f"more than {most} bytes")
            file.write(block)
            received.update(len(block))
