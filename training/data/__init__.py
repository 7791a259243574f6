"""Images: public data sets, their files and formats, splits, extra images, and the batches of an epoch."""
