"""Making a pretrained model a new subject's own."""

from neurofm.schema.registry import Registry

ADAPT = Registry(
    "strategy",
    {
        "full": "neurofm.adapt.strategies:full",
        "probe": "neurofm.adapt.strategies:probe",
        "lora": "neurofm.adapt.lora:lora",
        "bitfit": "neurofm.adapt.strategies:bitfit",
        "cnn": "neurofm.adapt.cnn:cnn",
        "in_context": "neurofm.adapt.in_context:in_context",
        "norm": "neurofm.adapt.strategies:norm",
        "unit_embedding": "neurofm.adapt.strategies:unit_embedding",
        "reset": "neurofm.adapt.reset:reset",
        "scratch": "neurofm.adapt.strategies:scratch",
        "subject_layer": "neurofm.adapt.subject_layer:subject_layer",
    },
)
"""Short name → strategy(loaded, facts, objective, **choices) → Adapted."""
