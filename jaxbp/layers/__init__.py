"""Layers, one family a file: params tuple, forward, backward, constructor."""
