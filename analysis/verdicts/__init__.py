"""Statements about measures, and one verdict per measure by a written rule."""
