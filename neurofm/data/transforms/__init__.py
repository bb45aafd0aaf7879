"""What is done to a window after reading: fitted on what may be looked at, saved with the model."""
