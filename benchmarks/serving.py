"""A served run under load, against a plain FastAPI handler that calls the same model.

    python benchmarks/serving.py runs/quickstart/fold_1 --recordings=DIR
    python benchmarks/serving.py runs/quickstart/fold_1 --recordings=DIR --memory=10000
    python benchmarks/serving.py runs/quickstart/fold_1 --recordings=DIR --hostile=1000

The peers are what FastAPI's documentation leads to: one clip is decoded and classified by the same
library for each request, in FastAPI's thread pool (`def`) or on its event loop (`async def`). All
servers run at the same time, each in its own process, and are asked one after another, in rounds
that go forwards and backwards; clients are `serving_load.py` in a process of its own, on the same
machine. Latencies are the clients'; processor time is that of the server's process.

With --memory the server's resident memory is read as requests go by. With --hostile it gets that
many requests of every kind in `serving_hostile.py`; every answer must be 4xx, and a clip between
them must be answered as before.
"""

import argparse
import asyncio
import collections
import contextlib
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import recordings
from harness import QUIET, ROOT, describe, idle, machine, wait_for_quiet

CLIENTS = (1, 8, 64)
GOAL = 3.0  # times the better peer's throughput at the most clients
CLIPS = 40
WAIT = 300  # seconds for a server to start


def plain(checkpoint: str, port: int, kind: str) -> None:
    """Serves without batching."""
    import uvicorn
    from fastapi import FastAPI, UploadFile

    import jaxsound
    from jaxsound.serving.prediction import Prediction
    from jaxsound.serving.server.recording import as_file

    classifier = jaxsound.load(checkpoint)
    classifier.warm_up()
    app = FastAPI()

    def answer(found: Prediction) -> dict[str, Any]:
        classes = [{"label": name, "probability": p} for name, p in found.top(5)]
        return {"seconds": found.seconds, "label": found.label, "classes": classes}

    def threaded(file: UploadFile) -> dict[str, Any]:
        with as_file([file.file.read()]) as path:
            return answer(classifier.predict_file(path))

    async def on_loop(file: UploadFile) -> dict[str, Any]:
        with as_file([await file.read()]) as path:
            return answer(classifier.predict_file(path))

    app.post("/v1/predict")(threaded if kind == "def" else on_loop)
    app.get("/readyz")(lambda: {})
    uvicorn.run(app, port=port, log_level="warning", access_log=False)


class Server:
    """A process that serves."""

    def __init__(self, name: str, command: Sequence[str], log: Path):
        """Waits until it is ready.

        Args:
          name: shown.
          command: its arguments, without the port.
          log: file for what it says.
        """
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.name = name
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        with log.open("w") as out:
            self.process = subprocess.Popen(
                [sys.executable, *command, f"--port={self.port}"],
                env=environment,
                stdout=out,
                stderr=out,
            )
        end = time.monotonic() + WAIT
        while True:
            with contextlib.suppress(OSError):
                urllib.request.urlopen(f"http://127.0.0.1:{self.port}/readyz").close()
                return
            if self.process.poll() is not None or time.monotonic() > end:
                raise SystemExit(f"{name} does not start; see {log}")
            time.sleep(0.2)

    def resident(self) -> float:
        """MB of memory."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        line = next(line for line in status.splitlines() if line.startswith("VmRSS"))
        return int(line.split()[1]) / 1024

    def processor(self) -> float:
        """Seconds of all cores so far."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def batch(self) -> float:
        """Windows computed together, on average; NaN for a peer."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics") as answer:
                lines = answer.read().decode().splitlines()
        except OSError:
            return float("nan")
        values = dict(line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
        count = float(values["jaxsound_batch_windows_count"])
        return float(values["jaxsound_batch_windows_sum"]) / count

    def close(self) -> None:
        """Ends it; it must end well."""
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(60)


def generate(server: Server, clients: int, seconds: float, clips: Sequence[Path], most: int = 0):
    """What `serving_load.load` returns, from a process of its own, with processor time."""
    script = Path(__file__).with_name("serving_load.py")
    numbers = str(server.port), str(clients), str(seconds)
    before = server.processor()
    done = subprocess.run(
        [sys.executable, script, *numbers, *map(str, clips), f"--most={most}"],
        check=True,
        capture_output=True,
        text=True,
    )
    found: dict[str, Any] = json.loads(done.stdout)
    found["processor"] = (server.processor() - before) / sum(found["statuses"].values())
    if set(found["statuses"]) != {"200"}:
        raise SystemExit(f"{server.name} answered {found['statuses']}")
    return found


def compare(servers: Sequence[Server], clips: Sequence[Path], args: argparse.Namespace) -> Any:
    """For every number of clients and server, the figures of every round."""
    results: dict[str, dict[str, list[Any]]] = {}
    for server in servers:
        for clients in CLIENTS:
            generate(server, clients, 1, clips)
    quiet = wait_for_quiet(args.patience)
    for clients in CLIENTS:
        found = results[str(clients)] = {server.name: [] for server in servers}
        for turn in range(args.rounds):
            for server in servers if turn % 2 == 0 else servers[::-1]:
                time.sleep(0.3)
                found[server.name].append(generate(server, clients, args.seconds, clips))
    return {"idle_before": quiet, "idle_after": idle(), "clients": results}


def table(result: dict[str, Any]) -> str:
    """Markdown: medians over rounds, and ratios to the better peer."""
    lines = [
        "| clients | server | requests/s | p50, ms | p99, ms | processor, ms a request | ratio |",
        "|---|---|---|---|---|---|---|",
    ]
    for clients, found in result["clients"].items():
        rates = {name: _median(rounds, "per_second") for name, rounds in found.items()}
        own, *peers = rates
        for name, rounds in found.items():
            ratio = ""
            if name == own:
                times = rates[own] / max(rates[peer] for peer in peers)
                ratio = f"{times:.2f}x"
                if int(clients) == CLIENTS[-1]:
                    ratio += f" of {GOAL:g}x{'' if times >= GOAL else ', **not reached**'}"
            shown = [1000 * _median(rounds, key) for key in ("p50", "p99", "processor")]
            figures = " | ".join(f"{figure:.1f}" for figure in shown)
            lines.append(f"| {clients} | {name} | {rates[name]:.1f} | {figures} | {ratio} |")
    quiet = min(result["idle_before"], result["idle_after"])
    loud = f"\n\nThe machine was not quiet: {quiet:.0%} idle." if quiet < QUIET else ""
    return "\n".join(lines) + loud


def _median(rounds: Sequence[dict[str, Any]], key: str) -> float:
    return statistics.median(found[key] for found in rounds)


def memory(server: Server, clips: Sequence[Path], requests: int) -> dict[str, float]:
    """Resident MB after so many requests of eight clients."""
    found, done = {"0": server.resident()}, 0
    for part in (requests // 10, requests // 2, requests):
        generate(server, 8, 10**6, clips, part - done)
        done = part
        found[str(done)] = server.resident()
    return found


def hostile(server: Server, clips: Sequence[Path], requests: int) -> dict[str, Any]:
    """Statuses by kind of request, and resident MB before and after."""
    import serving_hostile

    good = clips[0].read_bytes()
    asyncio.run(serving_hostile.attack(server.port, good, requests // 10))
    before = server.resident()
    statuses: dict[str, collections.Counter[str]] = asyncio.run(
        serving_hostile.attack(server.port, good, requests)
    )
    if server.process.poll() is not None:
        raise SystemExit("the server has ended")
    return {"before": before, "after": server.resident(), "statuses": statuses}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("checkpoint", help="a run or a fold")
    parser.add_argument("--recordings", type=Path, help="folder that holds ESC-50-master")
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "bench")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=5.0, help="of a round")
    parser.add_argument("--patience", type=float, default=60, help="seconds to wait for quiet")
    parser.add_argument("--memory", type=int, default=0, metavar="REQUESTS")
    parser.add_argument("--hostile", type=int, default=0, metavar="REQUESTS")
    parser.add_argument("--plain", choices=("def", "async def"), help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.plain:
        plain(args.checkpoint, args.port, args.plain)
        return
    args.out.mkdir(parents=True, exist_ok=True)
    clips = recordings.files(recordings.esc10(args))[:CLIPS]
    report: dict[str, Any] = {"machine": machine(), "checkpoint": args.checkpoint}
    with _servers(args, peers=not (args.memory or args.hostile)) as servers:
        if args.memory:
            report["memory"] = memory(servers[0], clips, args.memory)
            print(*(f"{n} requests: {mb:.0f} MB" for n, mb in report["memory"].items()), sep="\n")
        if args.hostile:
            report["hostile"] = found = hostile(servers[0], clips, args.hostile)
            for name, counted in found["statuses"].items():
                print(f"{name}: {', '.join(f'{n} x {s}' for s, n in counted.items())}")
            print(f"{found['before']:.0f} MB before, {found['after']:.0f} MB after")
        if not (args.memory or args.hostile):
            report["load"] = compare(servers, clips, args)
            report["batch"] = servers[0].batch()
            print(f"{describe(report['machine'])}\n\n{table(report['load'])}")
            print(f"\nWindows computed together, on average: {report['batch']:.1f}")
    name = "serving_memory" if args.memory else "serving_hostile" if args.hostile else "serving"
    (args.out / f"{name}.json").write_text(json.dumps(report, indent=1) + "\n")


@contextlib.contextmanager
def _servers(args: argparse.Namespace, peers: bool) -> Iterator[list[Server]]:
    own = ["-m", "jaxsound.serve", args.checkpoint]
    short = ["--idle-seconds=1", "--body-seconds=2"] if args.hostile else []
    commands = {"jaxsound.serve": [*own, *short]}
    if peers:
        for kind in ("def", "async def"):
            commands[f"plain, {kind}"] = [__file__, args.checkpoint, f"--plain={kind}"]
    with contextlib.ExitStack() as closing:
        servers = []
        for i, (name, command) in enumerate(commands.items()):
            server = Server(name, command, args.out / f"serving_{i}.log")
            closing.callback(server.close)
            servers.append(server)
        yield servers


if __name__ == "__main__":
    main()
