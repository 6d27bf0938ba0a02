"""Assembling and training place-recognition networks."""

from tfplaces.training.assembly import add_whitening, initialize_netvlad
from tfplaces.training.trainer import TripletTuning, train

__all__ = ["TripletTuning", "add_whitening", "initialize_netvlad", "train"]
