"""Backbones, one file per published system; built as ``MODELS.build(name, facts, **choices)``."""

from neurofm.schema.registry import Registry

MODELS = Registry("model", {"mvpformer": "neurofm.models.mvpformer:MVPFormer"})
