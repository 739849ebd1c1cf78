"""What every benchmark shares: a process for each contestant, interleaved runs, a table, JSON.

A benchmark's file calls `main` with its rows. Started without --worker it starts itself once for
each contestant; the workers prepare, then wait. Rounds go around: every contestant runs once,
alone, while the others sleep, and the next round goes the other way, so that what the machine does
meanwhile falls on all alike. A worker's run returns a figure; larger is better unless said.
"""

import argparse
import atexit
import contextlib
import dataclasses
import datetime
import importlib.metadata
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
QUIET = 0.94  # share of idle time above which a machine counts as quiet
PATIENCE = 60  # seconds that a benchmark waits for it
SETTLE = 0.3  # seconds between runs, for threads that spin after their work
# Kept out of both sides: fresh pages from the system cost a frontend more than its arithmetic.
# What jaxsound sets for itself while it trains (allocator.py).
MALLOC = {
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": str(2**40),
    "MALLOC_TOP_PAD_": str(2**28),
}
PACKAGES = ("jax", "flax", "grain", "numpy", "librosa", "soundfile", "soxr", "torch")


@dataclasses.dataclass(frozen=True)
class Contestant:
    """One side of a comparison.

    Attributes:
      name: shown in the table; jaxsound's own begins with "jaxsound".
      prepare: in the worker's process, returns the function that is measured: called once for
        each round, it returns a figure. It may call `note`, and raise SystemExit to refuse.
      environment: variables of the process beside those that all have.
    """

    name: str
    prepare: Callable[[], Callable[[], float]]
    environment: dict[str, str] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Row:
    """One comparison: contestants[0] is jaxsound's, the others are its peers.

    Attributes:
      area: what is measured.
      unit: of the figures.
      contestants: those that are compared.
      goals: the wanted ratio to each peer, in the order of the peers; 0 for none.
      smaller: whether a smaller figure is better (seconds).
      rounds: how many.
      warm_up: whether a run before the first round does not count.
      fresh: a new process for every run, of which only what the run itself returns counts.
      together: all contestants in one process, for differences that are smaller than those
        between two processes of the same program.
    """

    area: str
    unit: str
    contestants: Sequence[Contestant]
    goals: Sequence[float]
    smaller: bool = False
    rounds: int = 7
    warm_up: bool = True
    fresh: bool = False
    together: bool = False


def note(text: str) -> None:
    """Called while a worker prepares or runs: a line below the table."""
    print(f"NOTE {text}", flush=True)


def scratch() -> Path:
    """A new folder that goes when this process ends."""
    folder = Path(tempfile.mkdtemp(prefix="jaxsound_bench_"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


class Worker:
    """One or more contestants in a process of their own."""

    def __init__(self, script: str, row: int, contestants: dict[int, Contestant], log: Path):
        environment = os.environ | MALLOC | {"PYTHONPATH": str(ROOT)}
        for contestant in contestants.values():
            environment |= contestant.environment
        command = [sys.executable, script, "--worker", str(row), ",".join(map(str, contestants))]
        self.names = {number: contestant.name for number, contestant in contestants.items()}
        self.notes: list[str] = []
        self.log = log
        with log.open("a") as errors:
            self.process = subprocess.Popen(
                [*command, *sys.argv[1:]],
                env=environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )
        self._answer(f"{' and '.join(self.names.values())}, preparing,")

    def run(self, number: int) -> float:
        """Runs one of its contestants once."""
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(f"{number}\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            pass  # it has ended; its log says why
        return self._answer(self.names[number])

    def _answer(self, who: str) -> float:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            kind, _, rest = line.strip().partition(" ")
            if kind == "FIGURE":
                return float(rest)
            if kind == "NOTE":
                self.notes.append(rest)
        self.close()
        tail = self.log.read_text().strip().splitlines()[-1:]
        raise SystemExit(f"{who} ended early: {' '.join(tail) or 'no word'}; see {self.log}")

    def close(self) -> None:
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        self.process.wait()


def main(name: str, script: str, rows: Callable[[argparse.Namespace], Sequence[Row]]) -> None:
    """Runs a benchmark, or one worker of it.

    Args:
      name: of the JSON file, `OUT/name.json`.
      script: the benchmark's file.
      rows: its comparisons, from the parsed arguments; made anew in every worker.
    """
    parser = argparse.ArgumentParser(
        description=sys.modules["__main__"].__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--recordings", type=Path, help="folder that holds ESC-50-master")
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "bench")
    parser.add_argument("--rounds", type=int, default=0, help="instead of each row's own")
    parser.add_argument("--only", default="", help="rows whose area holds this text")
    parser.add_argument("--without", metavar="TEXT", help="leave out peers whose name holds it")
    parser.add_argument(
        "--patience", type=float, default=PATIENCE, help="seconds to wait for quiet"
    )
    parser.add_argument("--worker", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    args.out = args.out.absolute()
    args.out.mkdir(parents=True, exist_ok=True)
    comparisons = rows(args)
    if args.worker:
        row, numbers = int(args.worker[0]), map(int, args.worker[1].split(","))
        _serve({number: comparisons[row].contestants[number] for number in numbers})
        return
    results = []
    for number, row in enumerate(comparisons):
        if args.only in row.area:
            print(f"{name}: {row.area} ...", file=sys.stderr)
            log = args.out / f"{name}_{number}.log"
            log.unlink(missing_ok=True)
            results.append(_measure(script, number, row, args, log))
    report = {"machine": machine(), "rows": results}
    (args.out / f"{name}.json").write_text(json.dumps(report, indent=1) + "\n")
    print(f"\n{name}: {describe(report['machine'])}\n\n{table(results)}")


def _serve(contestants: dict[int, Contestant]) -> None:
    runs = {number: contestant.prepare() for number, contestant in contestants.items()}
    print("FIGURE 0", flush=True)  # prepared
    for line in sys.stdin:
        print(f"FIGURE {runs[int(line)]()}", flush=True)


def _measure(
    script: str, number: int, row: Row, args: argparse.Namespace, log: Path
) -> dict[str, Any]:
    numbered = {
        i: contestant
        for i, contestant in enumerate(row.contestants)
        if i == 0 or not args.without or args.without not in contestant.name
    }
    figures: dict[str, list[float]] = {contestant.name: [] for contestant in numbered.values()}
    notes: dict[str, None] = {}  # a set that keeps its order

    def start(contestants: dict[int, Contestant]) -> Worker:
        return Worker(script, number, contestants, log)

    def run(worker: Worker, i: int) -> float:
        time.sleep(SETTLE)
        figure = worker.run(i)
        notes.update(dict.fromkeys(worker.notes))
        return figure

    def run_fresh(i: int) -> float:
        with contextlib.closing(start({i: numbered[i]})) as worker:
            return run(worker, i)

    with contextlib.ExitStack() as closing:
        if row.fresh:
            ask: Callable[[int], float] = run_fresh
        else:
            groups = [numbered] if row.together else [{i: c} for i, c in numbered.items()]
            workers = {}
            for group in groups:  # one prepares and is done before the next one starts
                worker = closing.enter_context(contextlib.closing(start(group)))
                workers |= dict.fromkeys(group, worker)

            def ask(i: int) -> float:
                return run(workers[i], i)

        if row.warm_up:
            for i in numbered:
                ask(i)
        before = wait_for_quiet(args.patience)
        for turn in range(args.rounds or row.rounds):
            for i in sorted(numbered, reverse=turn % 2 == 1):
                figures[numbered[i].name].append(ask(i))
        time.sleep(SETTLE)
        after = idle()
    best = min if row.smaller else max
    return {
        "area": row.area,
        "unit": row.unit,
        "smaller": row.smaller,
        "goals": [row.goals[i - 1] for i in numbered if i],
        "idle_before": round(before, 3),
        "idle_after": round(after, 3),
        "best": {name: best(found) for name, found in figures.items()},
        "median": {name: statistics.median(found) for name, found in figures.items()},
        "figures": figures,
        "notes": list(notes),
    }


def idle(seconds: float = 1.0) -> float:
    """Share of time that the machine's cores are idle, of which this process takes none."""

    def read() -> tuple[int, int]:
        fields = [int(x) for x in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
        return fields[3] + fields[4], sum(fields)

    if not Path("/proc/stat").exists():
        return float("nan")
    before = read()
    time.sleep(seconds)
    after = read()
    return (after[0] - before[0]) / max(after[1] - before[1], 1)


def wait_for_quiet(patience: float = PATIENCE) -> float:
    """Waits up to `patience` seconds for a quiet machine; returns how idle it was in the end."""
    end = time.monotonic() + patience
    while (share := idle()) < QUIET and time.monotonic() < end:
        time.sleep(2)
    return share


def machine() -> dict[str, Any]:
    """Where and with what the figures were made."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return {
        "processor": names[0] if names else "unknown",
        "cores": len(os.sched_getaffinity(0)),
        "python": sys.version.split()[0],
        "date": datetime.date.today().isoformat(),
        "versions": versions,
    }


def describe(found: dict[str, Any]) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in found["versions"].items())
    return f"{found['cores']} cores, {found['processor']}, {found['date']}; {versions}"


def table(results: Sequence[dict[str, Any]]) -> str:
    """Markdown: for each comparison and peer the figures, the ratio of medians and the goal.

    A ratio says how many times better jaxsound is, whether figures are speeds or seconds.
    """
    lines = [
        "| area | contestant | best | median | jaxsound / peer | goal |",
        "|---|---|---|---|---|---|",
    ]
    for result in results:
        (own, own_median), *peers = result["median"].items()
        quiet = min(result["idle_before"], result["idle_after"])
        loud = f" (machine not quiet: {quiet:.0%} idle)" if quiet < QUIET else ""
        area = f"{result['area']}, {result['unit']}{loud}"
        lines.append(f"| {area} | {own} | {result['best'][own]:.4g} | {own_median:.4g} | | |")
        for (name, median), goal in zip(peers, result["goals"], strict=True):
            ratio = median / own_median if result["smaller"] else own_median / median
            verdict = "reached" if ratio >= goal else "**not reached**"
            wanted = f"{goal:.3g}x, {verdict}" if goal else "context"
            lines.append(
                f"| | {name} | {result['best'][name]:.4g} | {median:.4g} | {ratio:.2f}x "
                f"| {wanted} |"
            )
    notes = [f"- {result['area']}: {note}" for result in results for note in result["notes"]]
    return "\n".join([*lines, *([""] if notes else []), *notes])
