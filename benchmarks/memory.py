"""Peak memory of one training step of a config, at its own batch size.

    python benchmarks/memory.py configs/seeds/s1_resnet50.py --classes=50
    python benchmarks/memory.py configs/seeds/s2_transformer.py --classes=10 --frames=1501

Compiles the step for random features of the config's shape, prints what XLA sets aside for it,
runs it once, and prints the process's peak resident memory (parameters, optimiser, features and
the compiler itself included). `--accumulate=1 --no-remat --compile-only` shows what the author met.
"""

import argparse
import importlib.util
import resource
import time
from pathlib import Path

import jax
import jax.numpy as jnp

from jaxsound.experiment import input_shape
from jaxsound.training import optim, sharding, state, step


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("config", type=Path)
    parser.add_argument("--classes", type=int, default=10)
    parser.add_argument("--frames", type=int, default=0, help="instead of the config's own")
    parser.add_argument("--accumulate", type=int, default=0, help="instead of the config's own")
    parser.add_argument("--no-remat", action="store_true")
    parser.add_argument("--compile-only", action="store_true")
    args = parser.parse_args()
    spec = importlib.util.spec_from_file_location("config", args.config)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    config = module.get_config()
    config.optimizer.accumulate = args.accumulate or config.optimizer.accumulate
    config.model.remat = config.model.remat and not args.no_remat

    frames, bins = input_shape(config, longest=10**9)
    frames = args.frames or frames
    network, params, stats = state.build_network(
        config.model, features=bins, classes=args.classes, frames=frames, key=jax.random.key(0)
    )
    optimizer = optim.make_optimizer(config.optimizer, 100, 10)
    zeros, ones = jnp.zeros(bins), jnp.ones(bins)
    begin = state.create_state(
        params,
        stats,
        optimizer,
        mean=zeros,
        std=ones,
        class_weight=jnp.ones(args.classes),
        ema=False,
    )
    shape = (config.batch_size, frames, bins)
    batch = {
        "features": jax.random.normal(jax.random.key(1), shape),
        "length": jnp.full(shape[0], frames, jnp.int32),
        "label": jnp.arange(shape[0], dtype=jnp.int32) % args.classes,
    }
    placement = sharding.Placement(sharding.make_mesh(config.batch_size), stacked=False)
    train_step = placement.jit_train(step.make_train_step(network, optimizer, config, frames))
    began = time.monotonic()
    compiled = train_step.lower(begin, batch, jax.random.key(2)).compile()
    size = compiled.memory_analysis()
    print(f"{args.config.stem}: batch {shape}, {config.optimizer.accumulate} parts")
    print(f"compiled in {time.monotonic() - began:.0f} s")
    print(f"set aside for the step: {size.temp_size_in_bytes / 2**30:.2f} GiB")
    if not args.compile_only:
        began = time.monotonic()
        _, metrics = compiled(begin, batch, jax.random.key(2))
        print(f"loss {float(metrics['loss']):.3f}, {time.monotonic() - began:.0f} s a step")
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        print(f"peak of the process: {peak / 2**20:.2f} GiB")


if __name__ == "__main__":
    main()
