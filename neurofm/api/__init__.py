"""neurofm in Python: `neurofm.load("runs/…/model").embed(raw)`."""

from neurofm.api.pretrained import Pretrained, load
from neurofm.api.results import Embedding, Prediction

__all__ = ["Embedding", "Prediction", "Pretrained", "load"]
