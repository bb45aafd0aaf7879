"""A model fitted on one part of a dataset and scored on another, fold by fold."""
