"""Time to the first finished training step, after imports, in a fresh process for every run.

    python benchmarks/startup.py

Included: building network, optimiser and state, tracing, compiling, and one step of batch 32 up to
its loss; not included: Python's start and imports. Cold means an empty compilation cache, jaxsound
with its persistent cache on and written; torch.compile runs with its caches off. The second start
finds the cache that an earlier process has left.
"""

import argparse
import functools
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import steps
from harness import Contestant, Row, main, scratch

NETWORKS = ("cnn", "transformer")
ALL = {  # also what compiles in less than a second
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
}


def rows(args: argparse.Namespace) -> Sequence[Row]:
    """For each network: against the peers, and the second start against the first."""
    return [row for network in NETWORKS for row in _rows(network, args.out)]


def _rows(network: str, out: Path) -> Sequence[Row]:
    counts = out / f"{network}_parameters.txt"
    own = functools.partial(_jaxsound, network, counts)
    peer = functools.partial(_torch, network, counts)
    off = {"TORCHINDUCTOR_FORCE_DISABLE_CACHES": "1"}
    shared = {"JAX_COMPILATION_CACHE_DIR": str(out / "compiled")}
    cold = Contestant("jaxsound, cold", functools.partial(own, cold=True), ALL)
    second = Contestant("jaxsound, second start", own, ALL | shared)
    return [
        Row(
            area=f"first training step, {network}",
            unit="s",
            contestants=[
                cold,
                Contestant("torch.compile, cold", functools.partial(peer, compiled=True), off),
                Contestant("torch eager", functools.partial(peer, compiled=False)),
            ],
            goals=(3, 0),
            smaller=True,
            rounds=3,
            warm_up=False,
            fresh=True,
        ),
        Row(
            area=f"second start, {network}",
            unit="s",
            contestants=[second, cold],
            goals=(1 / 0.3,),
            smaller=True,
            rounds=3,
            fresh=True,  # the run before the first round fills the cache
        ),
    ]


def _jaxsound(network: str, counts: Path, cold: bool = False) -> Callable[[], float]:
    import jax

    import jaxsound.experiment  # noqa: F401

    if cold:
        jax.config.update("jax_compilation_cache_dir", str(scratch()))
    return lambda: _seconds(functools.partial(steps.jaxsound_step, network, counts))


def _torch(network: str, counts: Path, *, compiled: bool) -> Callable[[], float]:
    import torch_peers  # noqa: F401

    if compiled:
        import torch._inductor.compile_fx  # noqa: F401
    prepare = functools.partial(steps.torch_step, network, counts, compiled=compiled)
    return lambda: _seconds(prepare)


def _seconds(prepare: Callable[[], steps.Step]) -> float:
    began = time.perf_counter()
    prepare()(1)
    return time.perf_counter() - began


if __name__ == "__main__":
    main("startup", __file__, rows)
