"""Frozen encoders of images, sound and text; what they say of a dataset's stimuli is stored beside its shards."""

from neurofm.schema.registry import Registry

ENCODERS = Registry(
    "encoder",
    {
        "audio_folder": "neurofm.stimuli.transformers_audio:AudioFolder",
        "efficientnet_lite0": "neurofm.stimuli.efficientnet:EfficientNetLite0",
        "image_folder": "neurofm.stimuli.transformers_image:ImageFolder",
        "resemblyzer": "neurofm.stimuli.resemblyzer:Resemblyzer",
        "speech_onnx": "neurofm.stimuli.speech_onnx:SpeechOnnx",
        "spectrogram": "neurofm.stimuli.spectrogram:Spectrogram",
        "text_folder": "neurofm.stimuli.transformers_text:TextFolder",
    },
)
