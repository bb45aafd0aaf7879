"""Decoders that `neurofm finetune` left: trials, regions, curves over calibration."""
