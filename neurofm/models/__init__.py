"""Backbones, one file per published system; built as ``MODELS.build(name, facts, **choices)``."""

from neurofm.schema.registry import Registry

MODELS = Registry(
    "model",
    {
        "brainbert": "neurofm.models.brainbert:BrainBERT",
        "braindecode": "neurofm.models.braindecode:Braindecode",
        "cbramod": "neurofm.models.cbramod:CBraMod",
        "du_in": "neurofm.models.du_in:DuIN",
        "du_in_tokenizer": "neurofm.models.du_in_tokenizer:DuINTokenizer",
        "labram": "neurofm.models.labram:LaBraM",
        "labram_tokenizer": "neurofm.models.labram_tokenizer:LaBraMTokenizer",
        "lipcot": "neurofm.models.lipcot:LiPCoT",
        "mvpformer": "neurofm.models.mvpformer:MVPFormer",
        "neurorvq_backbone": "neurofm.models.neurorvq:NeuroRVQBackbone",
        "neurorvq_tokenizer": "neurofm.models.neurorvq_tokenizer:NeuroRVQTokenizer",
        "parcel_tokenizer": "neurofm.models.parcel_tokenizer:ParcelTokenizer",
        "pooled_cnn": "neurofm.models.pooled_cnn:PooledCNN",
        "token_transformer": "neurofm.models.token_transformer:TokenTransformer",
    },
)
