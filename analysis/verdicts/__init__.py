"""Statements about measures, and one verdict on each measure by a written rule."""
