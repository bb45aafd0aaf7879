"""Backbones, one file per published system; built as ``MODELS.build(name, facts, **choices)``. See `base.Backbone`."""

from neurofm.schema.registry import Registry

MODELS = Registry(
    "model",
    {
        "atm": "neurofm.models.atm:ATM",
        "brainbert": "neurofm.models.brainbert:BrainBERT",
        "braincorl": "neurofm.models.braincorl:BraInCoRL",
        "braindecode": "neurofm.models.braindecode:Braindecode",
        "cbramod": "neurofm.models.cbramod:CBraMod",
        "du_in": "neurofm.models.du_in:DuIN",
        "du_in_tokenizer": "neurofm.models.du_in_tokenizer:DuINTokenizer",
        "eegnet": "neurofm.models.eegnet:EEGNet",
        "labram": "neurofm.models.labram:LaBraM",
        "labram_tokenizer": "neurofm.models.labram_tokenizer:LaBraMTokenizer",
        "lipcot": "neurofm.models.lipcot:LiPCoT",
        "log_covariance": "neurofm.models.log_covariance:LogCovariance",
        "loongx": "neurofm.models.loongx:LoongX",
        "meg_image": "neurofm.models.meg_image:MEGImage",
        "mindbridge": "neurofm.models.mindbridge:MindBridge",
        "mindeye": "neurofm.models.mindeye:MindEye",
        "mtam": "neurofm.models.mtam:MTAM",
        "mvpformer": "neurofm.models.mvpformer:MVPFormer",
        "ndt": "neurofm.models.ndt:NDT",
        "neuroformer": "neurofm.models.neuroformer:Neuroformer",
        "neurorvq_backbone": "neurofm.models.neurorvq_backbone:NeuroRVQBackbone",
        "neurorvq_tokenizer": "neurofm.models.neurorvq_tokenizer:NeuroRVQTokenizer",
        "nice": "neurofm.models.nice:NICE",
        "parcel_tokenizer": "neurofm.models.parcel_tokenizer:ParcelTokenizer",
        "pooled_cnn": "neurofm.models.pooled_cnn:PooledCNN",
        "population_decoder": "neurofm.models.population_decoder:PopulationDecoder",
        "speech_decoder": "neurofm.models.speech_decoder:SpeechDecoder",
        "stimulus_filters": "neurofm.models.stimulus_filters:StimulusFilters",
        "token_transformer": "neurofm.models.token_transformer:TokenTransformer",
    },
    base="neurofm.models.base:Backbone",
)
