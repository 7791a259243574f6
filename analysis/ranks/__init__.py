"""Rank statistics of arrays: Kendall's tau with bootstrap and influence, Spearman's rho, pairs of models and their
signs, picking by a score."""
