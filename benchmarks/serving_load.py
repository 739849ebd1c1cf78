"""The load generator of `serving.py`: clients that ask again as soon as they are answered.

    python benchmarks/serving_load.py PORT CLIENTS SECONDS FILE...

Each client has one connection, kept open, and sends the files in turn as multipart forms. Bytes are
made before the clock runs and answers are only counted, so that the cores are left to the server.
Prints one JSON object: requests by status, requests a second, latencies in seconds.
"""

import argparse
import asyncio
import collections
import itertools
import json
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

PATH = "/v1/predict"


def form(recording: bytes, name: str = "clip.wav", path: str = PATH) -> bytes:
    """A whole POST request with one file."""
    body = (
        b'--xyz\r\nContent-Disposition: form-data; name="file"; filename="%b"\r\n'
        b"Content-Type: audio/wav\r\n\r\n%b\r\n--xyz--\r\n" % (name.encode(), recording)
    )
    head = (
        f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n"
        "Content-Type: multipart/form-data; boundary=xyz\r\n\r\n"
    )
    return head.encode() + body


async def ask(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes
) -> tuple[int, bytes]:
    """Sends a request; returns the status and the body of the answer."""
    writer.write(request)
    head = await reader.readuntil(b"\r\n\r\n")
    fields = dict(line.split(b": ", 1) for line in head.lower().split(b"\r\n")[1:-2])
    return int(head[9:12]), await reader.readexactly(int(fields[b"content-length"]))


async def load(
    port: int, clients: int, seconds: float, requests: Sequence[bytes], most: int = 0
) -> dict[str, Any]:
    """Keeps `clients` busy for `seconds`, or until `most` requests are answered.

    Returns:
      `statuses`, `per_second`, `p50` and `p99` in seconds.
    """
    statuses: collections.Counter[int] = collections.Counter()
    latencies: list[float] = []
    began = time.perf_counter()

    async def client(first: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for number in itertools.count(first):
            sent = time.perf_counter()
            if sent - began >= seconds or (most and len(latencies) >= most):
                break
            status, _ = await ask(reader, writer, requests[number % len(requests)])
            latencies.append(time.perf_counter() - sent)
            statuses[status] += 1
        writer.close()

    await asyncio.gather(*[client(7 * i) for i in range(clients)])
    spent = time.perf_counter() - began
    cuts = statistics.quantiles(latencies, n=100, method="inclusive")
    return {
        "statuses": dict(statuses),
        "per_second": len(latencies) / spent,
        "p50": cuts[49],
        "p99": cuts[98],
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("port", type=int)
    parser.add_argument("clients", type=int)
    parser.add_argument("seconds", type=float)
    parser.add_argument("files", type=Path, nargs="+")
    parser.add_argument("--most", type=int, default=0, help="requests, instead of seconds")
    args = parser.parse_args()
    requests = [form(path.read_bytes()) for path in args.files]
    print(json.dumps(asyncio.run(load(args.port, args.clients, args.seconds, requests, args.most))))


if __name__ == "__main__":
    main()
