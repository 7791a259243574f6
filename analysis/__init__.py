"""From a ledger (or any table with one row per model) to statistics, figures and a report. Needs no torch."""

if __name__ != "robustgap.analysis":
    raise ImportError(f"found import of {__name__!r}, wanted robustgap.analysis")
