"""Backbones, one file per published system; built as ``MODELS.build(name, facts, **choices)``."""

from neurofm.schema.registry import Registry

MODELS = Registry(
    "model",
    {
        "atm": "neurofm.models.atm:ATM",
        "braincorl": "neurofm.models.braincorl:BraInCoRL",
        "loongx": "neurofm.models.loongx:LoongX",
        "meg_image": "neurofm.models.meg_image:MEGImage",
        "mindbridge": "neurofm.models.mindbridge:MindBridge",
        "mindeye": "neurofm.models.mindeye:MindEye",
        "mtam": "neurofm.models.mtam:MTAM",
        "mvpformer": "neurofm.models.mvpformer:MVPFormer",
        "ndt": "neurofm.models.ndt:NDT",
        "neuroformer": "neurofm.models.neuroformer:Neuroformer",
        "nice": "neurofm.models.nice:NICE",
        "pooled_cnn": "neurofm.models.pooled_cnn:PooledCNN",
        "population_decoder": "neurofm.models.population_decoder:PopulationDecoder",
        "speech_decoder": "neurofm.models.speech_decoder:SpeechDecoder",
        "token_transformer": "neurofm.models.token_transformer:TokenTransformer",
    },
)
