"""A trained run behind HTTP and WebSocket: see `jaxsound.serve` and docs/serving.md."""
