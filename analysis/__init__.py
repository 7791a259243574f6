"""From a ledger (or any table with one row per model) to statistics, figures and a report. Needs no torch."""
