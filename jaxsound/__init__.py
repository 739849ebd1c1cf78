"""jaxsound: train, cross-validate and ship sound classifiers in JAX/Flax."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jaxsound.serving.classifier import load as load

__version__ = "0.1.0"
__all__ = ["__version__", "load"]


def __getattr__(name: str) -> Any:
    """`jaxsound.load`, imported when it is asked for: training and the core do without."""
    if name == "load":
        from jaxsound.serving.classifier import load

        return load
    raise AttributeError(f"module 'jaxsound' has no attribute {name!r}")
