"""Study files, their plans, and what the Snakefile and its rules ask of them. Needs no torch."""

if __name__ != "robustgap.workflow":
    raise ImportError(f"found import of {__name__!r}, wanted robustgap.workflow")
