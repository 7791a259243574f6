"""The models of a study, ready for statistics: design, checkpoints, flags, baselines, and the images that all share."""
