"""Predicts an outcome from the settings, out of fold, and how much a measure improves the prediction."""
