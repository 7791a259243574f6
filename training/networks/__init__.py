"""Image classifiers, and the memory layout and precision in which they compute."""
