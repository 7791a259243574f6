"""What the jobs of a study do: plans, runs on disk with their locks and records, outcomes."""
