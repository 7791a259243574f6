"""Predicting an outcome from the settings, out of fold, and how much better it is predicted with a measure."""
