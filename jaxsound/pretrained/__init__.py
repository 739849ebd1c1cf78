"""Weights that others have trained: read, fitted to a network of ours, and written.

`files.py` finds and reads safetensors, `layouts.py` knows what their publishers call each tensor,
and `weights.py` puts them into a network and back.
"""
