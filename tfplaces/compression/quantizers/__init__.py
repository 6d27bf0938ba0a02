"""Quantizers: what turns a kernel's weights into levels times a scale per output channel, one file each."""

QUANTIZERS = ("kmeans", "rate_distortion")
