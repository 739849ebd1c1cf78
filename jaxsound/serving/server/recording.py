"""The recording in a body, and the body as a file that decoders can seek in."""

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from jaxsound.serving.server.settings import Refused

FIELD = "file"  # of a form, that holds the recording
Pieces = Sequence[bytes | memoryview]


def recording(body: Sequence[bytes], content_type: str) -> Pieces:
    """The recording's bytes, without copying them where that can be helped.

    Args:
      body: of a request, in pieces.
      content_type: its header.

    Raises:
      Refused: 422, nothing is there, or no such part.
    """
    pieces: Pieces = body
    if content_type.lower().startswith("multipart/form-data"):
        pieces = _Form(b"".join(body), content_type).file
    if not any(pieces):
        raise Refused(422, "The recording is empty.")
    return pieces


@contextlib.contextmanager
def as_file(pieces: Pieces) -> Iterator[str]:
    """A path that can be opened, of nobody's choice; on Linux in memory."""
    if sys.platform == "linux":
        descriptor = os.memfd_create("recording", os.MFD_CLOEXEC)
        try:
            with open(descriptor, "wb", closefd=False) as file:
                file.writelines(pieces)
            yield f"/proc/self/fd/{descriptor}"
        finally:
            os.close(descriptor)
    else:
        with tempfile.NamedTemporaryFile(prefix="jaxsound_") as file:
            file.writelines(pieces)
            file.flush()
            yield file.name


class _Form:
    """Finds the part of a form that is a file; what it is called is not looked at."""

    def __init__(self, body: bytes, content_type: str):
        self.file: list[memoryview] = []
        self._found = self._inside = False
        self._header: list[bytes] = [b"", b""]
        boundary = parse_options_header(content_type)[1].get(b"boundary")
        if not boundary:
            raise Refused(422, "The form names no boundary.")
        parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._begin,
                "on_part_data": self._data,
                "on_header_field": self._field,
                "on_header_value": self._value,
                "on_header_end": self._header_end,
            },
        )
        try:
            parser.write(body)
            parser.finalize()
        except FormParserError:
            raise Refused(422, "The form is broken.") from None
        if not self._found:
            raise Refused(422, f'The form has no field named "{FIELD}".')

    def _begin(self) -> None:
        self._inside = False
        self._header = [b"", b""]

    def _data(self, data: bytes, start: int, end: int) -> None:
        if self._inside:
            self.file.append(memoryview(data)[start:end])

    def _field(self, data: bytes, start: int, end: int) -> None:
        self._header[0] += data[start:end]

    def _value(self, data: bytes, start: int, end: int) -> None:
        self._header[1] += data[start:end]

    def _header_end(self) -> None:
        name, value = self._header
        self._header = [b"", b""]
        if name.lower() == b"content-disposition" and not self._found:
            self._inside = parse_options_header(value)[1].get(b"name") == FIELD.encode()
            self._found = self._inside
