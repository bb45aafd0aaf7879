"""Saving and loading models: safetensors, JSON, and a card for people."""
