"""Training of image classifiers under attack, and their outcomes. Importing this package imports no torch."""
