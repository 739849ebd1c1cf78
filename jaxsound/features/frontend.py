"""Placeholder until the frontend moves here."""

from jaxsound.features.spectral import FrontendConfig, frontend

__all__ = ["FrontendConfig", "frontend"]
