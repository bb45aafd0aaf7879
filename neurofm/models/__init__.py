"""Backbones, one file per published system; built as ``MODELS.build(name, facts, **choices)``."""

from neurofm.schema.registry import Registry

MODELS = Registry(
    "model",
    {
        "brainbert": "neurofm.models.brainbert:BrainBERT",
        "lipcot": "neurofm.models.lipcot:LiPCoT",
        "mvpformer": "neurofm.models.mvpformer:MVPFormer",
        "pooled_cnn": "neurofm.models.pooled_cnn:PooledCNN",
        "token_transformer": "neurofm.models.token_transformer:TokenTransformer",
    },
)
