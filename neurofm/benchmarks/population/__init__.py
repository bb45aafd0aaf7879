"""Populations of spiking units: co-smoothing, forward prediction, behaviour."""
