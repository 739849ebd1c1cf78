"""Start one command N times on this machine, as the processes of one jax.distributed job.

    python launch/local.py 2 -- python -m jaxsound.main --config=... --workdir=...

Every line of output starts with its process. When one process fails the others are stopped, and
the exit status is that of the first that failed. Told to stop by SIGTERM, it passes that on; when
the processes have saved and left with status 75, so does it.
"""

import argparse
import contextlib
import os
import shutil
import signal
import socket
import sys
import threading
import time
from subprocess import PIPE, STDOUT, Popen

GRACE_SECONDS = 30.0  # from asking a process to stop until killing it: it saves a checkpoint
REQUEUE = 75  # of a process that was told to stop and has saved: the same command goes on


def parse(argv: list[str]) -> tuple[argparse.Namespace, list[str]]:
    """The launcher's own options, and the command: everything after `--`."""
    parser = argparse.ArgumentParser(usage="python launch/local.py N [--gpus G] -- COMMAND ...")
    parser.add_argument("processes", type=int, nargs="?", metavar="N", help="how many processes")
    parser.add_argument("--processes", type=int, dest="named", metavar="N", help="the same")
    parser.add_argument("--gpus", type=int, default=0, metavar="G", help="GPUs for each process")
    cut = argv.index("--") if "--" in argv else len(argv)
    options, command = parser.parse_args(argv[:cut]), argv[cut + 1 :]
    options.processes = options.processes or options.named or 0
    if options.processes < 1 or options.gpus < 0:
        parser.error("N must be 1 or more, and G not negative")
    if not command or not shutil.which(command[0]):
        parser.error(f"no program {command[:1]}: write the command after --")
    return options, command


def environment(i: int, options: argparse.Namespace, coordinator: str) -> dict[str, str]:
    """What process `i` finds in its environment; jaxsound.main reads the three JAXSOUND names."""
    env = os.environ | {
        "JAXSOUND_COORDINATOR": coordinator,
        "JAXSOUND_NUM_PROCESSES": str(options.processes),
        "JAXSOUND_PROCESS_ID": str(i),
        "PYTHONUNBUFFERED": "1",  # lines come when they are written, not when a pipe is full
    }
    if options.gpus:
        mine = range(i * options.gpus, (i + 1) * options.gpus)
        env["CUDA_VISIBLE_DEVICES"] = ",".join(map(str, mine))
    return env


def start(i: int, command: list[str], env: dict[str, str]) -> Popen[bytes]:
    """Process `i`, leader of a process group of its own, with a thread that echoes its output."""
    process = Popen(command, env=env, stdout=PIPE, stderr=STDOUT, start_new_session=True)

    def echo() -> None:
        for line in process.stdout or ():
            text = line.decode(errors="replace").rstrip()
            print(f"[{i}] {text}\n", end="", flush=True)  # one write: lines never interleave

    threading.Thread(target=echo).start()
    return process


def wait(processes: list[Popen[bytes]]) -> int:
    """0 when all ended well; else the status of the first that failed, 128 + n for signal n."""
    while None in (codes := [process.poll() for process in processes]) and not any(codes):
        time.sleep(0.05)
    if REQUEUE in codes:  # the others have been told as well, or will be by `stop`
        deadline = time.monotonic() + GRACE_SECONDS
        while None in [process.poll() for process in processes] and time.monotonic() < deadline:
            time.sleep(0.05)
        codes = [process.poll() for process in processes]
    failed = [(i, code) for i, code in enumerate(codes) if code]
    if not failed:
        return 0
    i, code = failed[0]
    status = code if code > 0 else 128 - code
    print(f"process {i} failed with status {status}: stopping the others", flush=True)
    return status


def stop(processes: list[Popen[bytes]]) -> None:
    """End every process and whatever it started: ask, wait for GRACE_SECONDS, kill."""
    deadline = time.monotonic() + GRACE_SECONDS
    # One that ended well is let be: its number may be another program's by now.
    processes = [process for process in processes if process.poll() != 0]
    for sign in (signal.SIGTERM, signal.SIGKILL):
        for process in processes:
            with contextlib.suppress(ProcessLookupError, PermissionError):  # its group is empty
                os.killpg(process.pid, sign)
        while None in [process.poll() for process in processes] and time.monotonic() < deadline:
            time.sleep(0.05)


def main(argv: list[str]) -> int:
    options, command = parse(argv)
    with socket.create_server(("localhost", 0)) as probe:  # a port that nobody else listens on
        coordinator = f"localhost:{probe.getsockname()[1]}"
    for sign in (signal.SIGINT, signal.SIGTERM):
        signal.signal(sign, lambda number, _: sys.exit(128 + number))
    status = 1
    processes: list[Popen[bytes]] = []
    try:
        for i in range(options.processes):
            processes.append(start(i, command, environment(i, options, coordinator)))
        status = wait(processes)
    except SystemExit as told:
        status = int(told.code or 0)
    finally:
        stop(processes)
    saved = {process.returncode for process in processes} in ({REQUEUE}, {0, REQUEUE})
    return REQUEUE if saved and status == 128 + signal.SIGTERM else status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
