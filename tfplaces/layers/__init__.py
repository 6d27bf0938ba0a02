"""Keras layers of place-recognition networks; each is registered and round-trips through `.keras`."""

from tfplaces.layers.netvlad import NetVLAD
from tfplaces.layers.normalization import L2Normalization, LocalResponseNormalization, l2_normalize
from tfplaces.layers.whitening import PCAWhitening

__all__ = ["L2Normalization", "LocalResponseNormalization", "NetVLAD", "PCAWhitening", "l2_normalize"]
