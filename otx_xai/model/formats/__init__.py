"""Families of detectors: one file each, told apart once a model."""
