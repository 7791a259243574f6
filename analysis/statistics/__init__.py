"""The statistics of a study, one file each, named after its CSV; helpers start with an underscore."""
