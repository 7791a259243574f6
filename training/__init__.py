"""Training of image classifiers under attack, and their outcomes. Importing this package imports no torch."""

if __name__ != "robustgap.training":
    raise ImportError(f"found import of {__name__!r}, wanted robustgap.training")
