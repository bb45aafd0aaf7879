"""Layers and tensor functions that know nothing of recordings."""
