"""Assembling and training place-recognition networks."""

from tfplaces.training.assembly import initialize_netvlad
from tfplaces.training.trainer import TripletTuning, train
from tfplaces.training.whitening import add_whitening

__all__ = ["TripletTuning", "add_whitening", "initialize_netvlad", "train"]
