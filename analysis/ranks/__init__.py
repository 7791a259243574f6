"""Rank statistics of arrays: Kendall's tau with bootstrap and influence, Spearman's rho, discordant pairs."""
