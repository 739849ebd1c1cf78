"""Ends real runs at random moments and compares what they come to with undisturbed ones.

    python tests/reliability/kills.py --kills=200      # SIGKILL
    python tests/reliability/kills.py --signals=20     # SIGTERM and SIGINT by turns

Both models, both ways of feeding, folds one after another and side by side, each with asynchronous
saving, dropout, mixup and averaged weights. Half of the disturbances wait for the next save after
their random moment, since saves are short. Every run is started again until it ends by itself; then
the SHA-256 of all arrays of its last checkpoints and of its predictions must be those of the
undisturbed run. Prints counts; the exit status is 1 if anything was lost. A scratch folder that is
kept has the undisturbed runs' figures for the next time.
"""

import argparse
import collections
import json
import multiprocessing
import os
import random
import re
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

PER_RUN = 4  # disturbances, at most
AIMED = 0.5  # of them come while something is being saved, as far as the run gets to it
LEAVE_SECONDS = 30.0


def parse(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--kills", type=int, default=0, help="how many SIGKILLs")
    parser.add_argument("--signals", type=int, default=0, help="how many SIGTERMs and SIGINTs")
    parser.add_argument("--cases", type=int, default=8, help="of the 8 ways to train, the first")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument("--scratch", type=Path, help="kept afterwards; else a temporary folder")
    return parser.parse_args(argv)


def undisturbed(case: Any, workdir: Path) -> tuple[dict[str, str], float]:
    """Digests of a whole run, and the seconds that a second one takes; both must agree."""
    from tests.reliability import runs

    record = workdir.with_name(f"{case.name}.json")
    if record.exists():
        digests, seconds = json.loads(record.read_text())
        return digests, seconds
    found = []
    for i in range(2):
        place = workdir.with_name(f"{workdir.name}_{i}")
        began = time.monotonic()
        status = runs.wait(runs.start(case, place), 600)
        if status != 0:
            raise SystemExit(f"{case.name}: status {status}\n{log(place)}")
        seconds = time.monotonic() - began
        found.append(json.loads((place / runs.DIGESTS).read_text()))
        shutil.rmtree(place)
    if found[0] != found[1]:
        raise SystemExit(f"{case.name}: two undisturbed runs differ")
    record.write_text(json.dumps([found[0], seconds]))
    return found[0], seconds


def log(workdir: Path) -> str:
    path = Path(f"{workdir}.log")
    return path.read_text(errors="replace") if path.exists() else ""


def disturb(task: dict[str, Any]) -> dict[str, Any]:
    """One run, killed or told to stop up to `task["count"]` times, and then left alone."""
    from tests.reliability import runs

    rng = random.Random(task["seed"])
    case, workdir, seconds = task["case"], task["workdir"], task["seconds"]
    counts: collections.Counter[str] = collections.Counter()
    lost, slowest = [], 0.0
    while counts["disturbed"] < task["count"]:
        pid = runs.start(case, workdir)
        aim = rng.random() < AIMED
        status = runs.wait(pid, rng.uniform(0.2, seconds), workdir if aim else None)
        if status is None:
            number = task["signals"][counts["disturbed"] % len(task["signals"])]
            before = len(log(workdir))
            os.kill(pid, number)
            asked = time.monotonic()
            status = runs.wait(pid, 2 * LEAVE_SECONDS)
            slowest = max(slowest, time.monotonic() - asked)
            if status is None:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
            counts["disturbed"] += 1
            counts["saving"] += runs.saving(workdir)
            if number != signal.SIGKILL:
                lost += _left_badly(task, number, status, log(workdir)[before:])
        elif status == 0:
            lost += _differences(task)
            _clear(workdir)
        else:
            lost.append(f"status {status}: {log(workdir)[-1000:]}")
            _clear(workdir)
            break
    status = runs.wait(runs.start(case, workdir), 600)
    lost += _differences(task) if status == 0 else [f"status {status}: {log(workdir)[-1000:]}"]
    if not lost:
        _clear(workdir)
    return {**counts, "lost": lost, "case": case.name, "slowest": slowest}


def _clear(workdir: Path) -> None:
    shutil.rmtree(workdir, ignore_errors=True)
    Path(f"{workdir}.log").unlink(missing_ok=True)


def _left_badly(task: dict[str, Any], number: int, status: int | None, said: str) -> list[str]:
    """What is wrong with how a run left that was told to."""
    wanted = {signal.SIGTERM: 75, signal.SIGINT: 130}[signal.Signals(number)]
    if status == 0:  # it had just ended
        return []
    if status != wanted:
        return [f"{signal.Signals(number).name}: status {status}, not {wanted}: {said[-1000:]}"]
    lines = [line for line in said.splitlines() if line.startswith("stopped by")]
    if len(lines) != 1 or "Traceback" in said:
        return [f"{signal.Signals(number).name}: {said[-1000:]}"]
    if told := re.search(r"step (\d+) of fold ([\d, ]+) is saved", lines[0]):
        name = "fold_" + told[2].replace(", ", "_")
        if not (task["workdir"] / name / "checkpoints" / told[1]).is_dir():
            return [f"{lines[0]}: and it is not"]
    return []


def _differences(task: dict[str, Any]) -> list[str]:
    """What a finished run has come to that the undisturbed one has not."""
    from tests.reliability import runs

    workdir = task["workdir"]
    found = json.loads((workdir / runs.DIGESTS).read_text())
    wrong = [
        name
        for name in found.keys() | task["digests"]
        if found.get(name) != task["digests"].get(name)
    ]
    problems = [f"{len(wrong)} arrays differ, such as {min(wrong)}"] if wrong else []
    if not runs.curves_whole(workdir):
        problems.append("steps are missing in the curves")
    return problems


def spread(
    options: argparse.Namespace, scratch: Path, known: dict[Any, Any]
) -> list[dict[str, Any]]:
    """The runs to disturb: all cases by turns, `PER_RUN` disturbances in each."""
    total = options.kills or options.signals
    signals = [signal.SIGKILL] if options.kills else [signal.SIGTERM, signal.SIGINT]
    tasks: list[dict[str, Any]] = []
    cases = list(known)
    per_run = min(PER_RUN, -(-total // len(cases)))
    while total > 0:
        case = cases[len(tasks) % len(cases)]
        digests, seconds = known[case]
        count, number = min(per_run, total), len(tasks)
        tasks.append(
            {
                "case": case,
                "workdir": scratch / f"run_{number}",
                "digests": digests,
                "seconds": seconds,
                "count": count,
                "seed": options.seed * 1_000_003 + number,
                "signals": signals[number % len(signals) :] + signals[: number % len(signals)],
            }
        )
        total -= count
    return tasks


def main(argv: list[str]) -> int:
    options = parse(argv)
    if bool(options.kills) == bool(options.signals):
        raise SystemExit("give either --kills=N or --signals=N")
    scratch = options.scratch or Path(tempfile.mkdtemp(prefix="kills-"))
    scratch.mkdir(parents=True, exist_ok=True)
    os.environ |= {
        "JAX_PLATFORMS": "cpu",
        "JAXSOUND_CACHE": str(scratch / "cache"),
        "JAX_COMPILATION_CACHE_DIR": str(scratch / "compiled"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "TF_ENABLE_ONEDNN_OPTS": "0",
    }
    sys.path.insert(0, str(Path(__file__).parents[2]))
    from tests.reliability import runs  # only now: JAX reads the environment when it is imported

    began = time.monotonic()
    known = {case: undisturbed(case, scratch / "whole") for case in runs.CASES[: options.cases]}
    print(f"{2 * len(known)} undisturbed runs: {time.monotonic() - began:.0f} s", flush=True)
    counts: collections.Counter[str] = collections.Counter()
    lost, slowest = [], 0.0
    with multiprocessing.get_context("fork").Pool(options.jobs) as pool:
        for result in pool.imap_unordered(disturb, spread(options, scratch, known)):
            counts.update(runs=1, disturbed=result["disturbed"], saving=result["saving"])
            lost += [f"{result['case']}: {line}" for line in result["lost"]]
            slowest = max(slowest, result["slowest"])
            done = f"{counts['disturbed']} done, {counts['saving']} during a save"
            print(f"{done}, {len(lost)} lost; {time.monotonic() - began:.0f} s", flush=True)
    for line in lost:
        print(f"\nLOST {line}")
    what = "kills" if options.kills else "signals"
    print(
        f"\n{counts['disturbed']} {what}, {counts['saving']} of them during a save, in "
        f"{counts['runs']} runs; {len(lost)} lost; {time.monotonic() - began:.0f} s"
    )
    if options.signals:
        print(f"the slowest left after {slowest:.1f} s")
    if not options.scratch and not lost:
        shutil.rmtree(scratch)
    return int(bool(lost) or slowest > LEAVE_SECONDS)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
