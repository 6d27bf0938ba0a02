"""Assembling and training place-recognition networks."""

from tfplaces.training.initialization import add_whitening, initialize_netvlad
from tfplaces.training.trainer import train

__all__ = ["add_whitening", "initialize_netvlad", "train"]
