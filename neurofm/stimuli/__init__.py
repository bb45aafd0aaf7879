"""Frozen image, audio and text encoders. Empty so far."""
