"""How accelerator.py measures: processes, rounds, JSON and the table."""

import contextlib
import dataclasses
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import accelerator_recipe as recipe
import harness

Result = dict[str, Any]

SCRIPT = Path(__file__).with_name("accelerator.py")
PEAKS = {  # bfloat16, dense, by the vendors' data sheets; the first that a device's name holds
    "H100 PCIe": 756e12,
    "H100 NVL": 835e12,
    "H100": 989e12,
    "H200": 989e12,
    "B200": 2250e12,
    "A100": 312e12,
    "L40S": 362e12,
    "L40": 181e12,
    "L4": 121e12,
    "TPU v4": 275e12,
    "TPU v5 lite": 197e12,
    "TPU v5": 459e12,
    "TPU v6 lite": 918e12,
}
SHARE = 0.35  # of the peak, wanted


@dataclasses.dataclass(frozen=True)
class Side:
    """A contestant: what its worker does, and the wanted ratio of the row's first side to it."""

    name: str
    framework: str
    task: str
    options: dict[str, Any]
    goal: float = 0.0


@dataclasses.dataclass(frozen=True)
class Row:
    """One comparison; sides[0] is jaxsound's.

    Attributes:
      number: by which --rows asks for it.
      area: what is measured.
      unit: of the figures; seconds are better smaller.
      cold: every round is a new process, and the figure its seconds from start to answer.
      under: seconds wanted of sides[0]; 0 for none.
    """

    number: int
    area: str
    unit: str
    sides: tuple[Side, ...]
    cold: bool = False
    under: float = 0.0


class Ended(Exception):
    """A worker's process ended without an answer."""


class Worker:
    """A side in a process of its own; it answers once when prepared, then for every run."""

    def __init__(self, side: Side, bench: "Bench", *, cold: bool = False):
        """Starts it; with `cold`, with empty caches of its own."""
        spec = [side.framework, side.task, side.options, bench.small, str(bench.store)]
        environment = os.environ | harness.MALLOC | {"PYTHONPATH": str(SCRIPT.parents[1])}
        environment |= {"JAX_ENABLE_COMPILATION_CACHE": "false"}
        if side.framework == "torch":
            environment["JAX_PLATFORMS"] = "cpu"  # its mel filters are jaxsound's
        if bench.small:  # threads that wait for work of this size would take each other's cores
            environment["OMP_WAIT_POLICY"] = "PASSIVE"
        self.folder = tempfile.TemporaryDirectory() if cold else None
        if self.folder:
            caches = ("TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR")
            environment |= {name: f"{self.folder.name}/{name}" for name in caches}
        else:  # several wait on one device
            environment["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"
        self.log = bench.out / "accelerator.log"
        with self.log.open("a") as errors:
            print(f"\n{spec}", file=errors, flush=True)
            self.process = subprocess.Popen(
                [sys.executable, str(SCRIPT), "--worker", json.dumps(spec)],
                env=environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )
        self.late = False
        self.timer = threading.Timer(max(bench.left(), 0), self._stop)
        self.timer.start()

    def _stop(self) -> None:
        self.late = True
        self.process.kill()

    def receive(self) -> Result:
        """The next answer.

        Raises:
          Ended: there is none.
        """
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith("ANSWER "):
                return json.loads(line.removeprefix("ANSWER "))
        said = [line for line in self.log.read_text().splitlines() if line.strip()]
        errors = [line for line in said if "Error: " in line.split(" ", 2)[0] + " "]
        raise Ended("the budget was spent" if self.late else (errors or said)[-1][:200])

    def ask(self) -> Result:
        """Has it run once."""
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # receive says why
            self.process.stdin.write("run\n")
            self.process.stdin.flush()
        return self.receive()

    def close(self) -> None:
        self.timer.cancel()
        self.process.kill()
        self.process.communicate()
        if self.folder:
            self.folder.cleanup()


class Bench:
    """Measures rows until the budget is spent, and keeps what was found on disk."""

    def __init__(self, out: Path, *, store: Path | None, small: bool, rounds: int, budget: float):
        """Looks at the devices, and makes clips up where no store is given."""
        self.out, self.rounds, self.small = out, rounds, small
        self.store = store or out / "clips"
        self.end = time.monotonic() + budget
        out.mkdir(parents=True, exist_ok=True)
        (out / "accelerator.log").write_text("")
        self.machine = harness.machine() | {"devices": {}}
        for framework in ("jax", "torch"):
            self.machine["devices"][framework] = self._probe(framework)
        found = self.machine["devices"]["jax"]
        if not found["accelerator"] and not small:
            print("jax sees no accelerator: the sizes are those of --small", file=sys.stderr)
            self.small = True
        if store is None:
            recipe.write_synthetic(self.store, recipe.SMALL if self.small else recipe.FULL)

    def left(self) -> float:
        """Seconds of the budget."""
        return self.end - time.monotonic()

    @property
    def judges(self) -> bool:
        """Whether the goals, which are an accelerator's, say anything about this run."""
        return not self.small and self.machine["devices"]["jax"]["accelerator"]

    def _probe(self, framework: str) -> Result:
        worker = Worker(Side(framework, framework, "", {}), self)
        try:
            return worker.receive()
        except Ended as error:
            return {"device": str(error), "accelerator": False}  # no versions: no framework
        finally:
            worker.close()

    def measure(self, row: Row) -> Result:
        """Figures of every side that could be measured, and why the others could not."""
        sides: list[Result] = [
            {"name": side.name, "goal": side.goal, "figures": [], "details": {}, "note": ""}
            for side in row.sides
        ]
        idle = harness.idle()
        (self._cold if row.cold else self._warm)(row, sides)
        for side in sides:
            if side["figures"]:
                side["best"] = (min if row.unit == "s" else max)(side["figures"])
                side["median"] = statistics.median(side["figures"])
        sizes = {side["details"].get("parameters") for side in sides if side["figures"]}
        row_ = {key: value for key, value in dataclasses.asdict(row).items() if key != "sides"}
        note = "" if len(sizes) < 2 else f"not the same network: {sizes} parameters"
        return row_ | {"idle_before": round(idle, 3), "note": note, "sides": sides}

    def _left_out(self, side: Side) -> str:
        """Why a side is not measured; empty if it is."""
        jax, peer = self.machine["devices"]["jax"], self.machine["devices"]["torch"]
        if self.left() <= 0:
            return "the budget was spent"
        if side.framework == "torch" and "versions" not in peer:
            return peer["device"]
        if side.framework == "torch" and jax["accelerator"] and not peer["accelerator"]:
            return "torch sees no accelerator"
        return ""

    def _warm(self, row: Row, sides: list[Result]) -> None:
        workers: dict[int, Worker] = {}
        for i, side in enumerate(row.sides):
            sides[i]["note"] = self._left_out(side)
            if not sides[i]["note"]:
                print(f"{row.number}: {row.area}: preparing {side.name}", file=sys.stderr)
                worker = Worker(side, self)
                try:
                    worker.receive()  # compiled and warm before the next one starts
                    workers[i] = worker
                except Ended as error:
                    sides[i]["note"] = str(error)
                    worker.close()
        for _ in range(self.rounds or (3 if self.small else 5)):
            for i, worker in list(workers.items()):
                try:
                    _keep(sides[i], worker.ask())
                except Ended as error:
                    sides[i]["note"] = str(error)
                    workers.pop(i).close()
        for worker in workers.values():
            worker.close()

    def _cold(self, row: Row, sides: list[Result]) -> None:
        for _ in range(self.rounds or 1):
            for i, side in enumerate(row.sides):
                sides[i]["note"] = self._left_out(side)
                if sides[i]["note"]:
                    continue
                print(f"{row.number}: {row.area}: {side.name}", file=sys.stderr)
                began = time.monotonic()
                worker = Worker(side, self, cold=True)
                try:
                    worker.receive()
                    answer = worker.ask()
                    _keep(sides[i], answer | {"figure": time.monotonic() - began})
                except Ended as error:
                    sides[i]["note"] = str(error)
                finally:
                    worker.close()

    def write(self, results: Sequence[Result]) -> None:
        """accelerator.json, after every row."""
        report = {"machine": self.machine, "small": self.small, "rows": list(results)}
        (self.out / "accelerator.json").write_text(json.dumps(report, indent=1) + "\n")

    def describe(self) -> str:
        """Devices, versions and size in a few lines."""
        lines = [f"accelerator: {harness.describe(self.machine)}"]
        for framework, found in self.machine["devices"].items():
            lines.append(f"{framework}: {found['device']}")
        lines.append("sizes of --small: no goal is judged" if self.small else "full sizes")
        return "\n".join(lines)


def _keep(side: Result, answer: Result) -> None:
    side["figures"].append(answer.pop("figure"))
    side["details"] = answer


def peak(device: str) -> float:
    """bfloat16 operations per second of a device, dense; 0 where they are not known."""
    return next((rate for name, rate in PEAKS.items() if name in device), 0.0)


def table(results: Sequence[Result], *, judge: bool) -> str:
    """Markdown: for each side best and median, how many times as fast jaxsound is, and remarks."""
    lines = [
        "| row | contestant | best | median | jaxsound / it | goal | remarks |",
        "|---|---|---|---|---|---|---|",
    ]
    for result in results:
        own = result["sides"][0]
        head = f"{result['number']}. {result['area']}, {result['unit']}"
        for i, side in enumerate(result["sides"]):
            remarks = [side["note"], result["note"] if not i else "", *_remarks(side, judge)]
            text = "; ".join(filter(None, remarks))
            figures = "not measured | "
            if side["figures"]:
                figures = f"{side['best']:.4g} | {side['median']:.4g}"
            ratio, goal = _ratio(result, own, side, judge) if i else ("", _under(result, judge))
            lines.append(
                f"| {'' if i else head} | {side['name']} | {figures} | {ratio} | {goal} | {text} |"
            )
    return "\n".join(lines)


def _ratio(result: Result, own: Result, side: Result, judge: bool) -> tuple[str, str]:
    goal = f"{side['goal']:.3g}x" if side["goal"] else ""
    if not own["figures"] or not side["figures"]:
        return "", goal
    ratio = own["median"] / side["median"]
    ratio = 1 / ratio if result["unit"] == "s" else ratio
    return f"{ratio:.3g}x", _verdict(goal, ratio >= side["goal"], judge)


def _under(result: Result, judge: bool) -> str:
    own = result["sides"][0]
    if not result["under"]:
        return ""
    goal = f"under {result['under']:g} s"
    return _verdict(goal, own["median"] < result["under"], judge) if own["figures"] else goal


def _verdict(goal: str, reached: bool, judge: bool) -> str:
    if not goal or not judge:
        return goal
    return f"{goal}, {'reached' if reached else '**not reached**'}"


def _remarks(side: Result, judge: bool) -> list[str]:
    found = dict(side["details"])
    remarks = []
    if side["figures"] and "flops" in found:
        rate = found.pop("flops") * side["median"]
        top = peak(found["device"])
        share = f", {rate / top:.1%} of the peak" if top else ""
        wanted = f" (wanted {SHARE:.0%})" if top and judge else ""
        remarks.append(f"{rate / 1e12:.3g} TFLOP/s{share}{wanted}")
    hidden = ("device", "accelerator", "versions", "flops")
    remarks += [f"{name} {value}" for name, value in found.items() if name not in hidden]
    return remarks
