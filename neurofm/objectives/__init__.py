"""What is learned: targets, masks, heads and metrics."""

from neurofm.schema.registry import Registry

OBJECTIVES = Registry(
    "objective",
    {
        "alignment": "neurofm.objectives.alignment:Alignment",
        "forecast": "neurofm.objectives.forecast:Forecast",
        "in_context": "neurofm.objectives.in_context:InContextEncoding",
        "next_state": "neurofm.objectives.next_state:NextState",
        "masked_patch": "neurofm.objectives.masked_patch:MaskedPatch",
        "masked_spectrogram": "neurofm.objectives.masked_spectrogram:MaskedSpectrogram",
        "masked_summary": "neurofm.objectives.masked_summary:MaskedSummary",
        "masked_code": "neurofm.objectives.masked_code:MaskedCode",
        "masked_region": "neurofm.objectives.masked_region:MaskedRegion",
        "behaviour": "neurofm.objectives.behaviour:Behaviour",
        "masked_counts": "neurofm.objectives.masked_counts:MaskedCounts",
        "spike_sequence": "neurofm.objectives.spike_sequence:SpikeSequence",
        "supervised": "neurofm.objectives.supervised:Supervised",
        "tokenizer": "neurofm.objectives.tokenizer:Tokenizer",
    },
    base="neurofm.objectives.base:Objective",
)
"""Short name → subclass of `objectives.base.Objective`, built as ``OBJECTIVES.build(name, model, facts, **choices)``."""
