"""Estimates what a study takes: hours, on this machine or on benchmarked devices, and disk. Needs no torch."""
