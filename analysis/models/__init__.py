"""Prepares the models of a study for statistics: design, checkpoints, flags, baselines, and shared image noise."""
