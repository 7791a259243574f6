"""The statistics of a study, a file each, called as the CSV that holds it; helpers start with an underscore."""
