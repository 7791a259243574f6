"""What a study will take: hours, on this machine or measured devices, and disk. Needs no torch."""
