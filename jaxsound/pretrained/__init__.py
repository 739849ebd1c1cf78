"""Weights that others have trained: read, fitted to a network of ours, and written.

`files.py` finds and reads safetensors, `runs.py` runs of our own, `layouts.py` knows what
publishers call each tensor, and `weights.py` puts them into a network and back.
"""
