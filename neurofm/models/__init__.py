"""Backbones, one file per published system; built as ``MODELS.build(name, facts, **choices)``."""

from neurofm.schema.registry import Registry

MODELS = Registry(
    "model",
    {
        "mvpformer": "neurofm.models.mvpformer:MVPFormer",
        "ndt": "neurofm.models.ndt:NDT",
        "neuroformer": "neurofm.models.neuroformer:Neuroformer",
        "pooled_cnn": "neurofm.models.pooled_cnn:PooledCNN",
        "population_decoder": "neurofm.models.population_decoder:PopulationDecoder",
        "token_transformer": "neurofm.models.token_transformer:TokenTransformer",
    },
)
