"""Models of RobustBench, and what the installed package needs before it can be imported."""
