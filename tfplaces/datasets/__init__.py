"""Data sets: images and which of them show the same place, named by specs, `KIND[:PATH][?key=value&…]`."""

from tfplaces.datasets.base import Concatenation, Images, PlaceDataset, Subset, concatenate, take_queries
from tfplaces.datasets.batches import read_batch, read_batches
from tfplaces.datasets.decoding import load_image, resize
from tfplaces.datasets.folder import Folder
from tfplaces.datasets.ground_truth import GroundTruth
from tfplaces.datasets.images import CachedImages, ImageFiles, cached
from tfplaces.datasets.index_lists import IndexLists
from tfplaces.datasets.oxford_paris import OxfordBuildings, ParisBuildings
from tfplaces.datasets.place_lists import (
    PLACES,
    PlaceList,
    grid_places,
    labelled_places,
    make_places,
    nearby_places,
    truth_places,
)
from tfplaces.datasets.specs import (
    KINDS,
    has_splits,
    load_dataset,
    load_datasets,
    split_specs,
    training_sets,
)
from tfplaces.datasets.splitting import halve_by_place, hold_out
from tfplaces.datasets.toytown import Toytown

__all__ = [
    "KINDS",
    "PLACES",
    "CachedImages",
    "Concatenation",
    "Folder",
    "GroundTruth",
    "ImageFiles",
    "Images",
    "IndexLists",
    "OxfordBuildings",
    "ParisBuildings",
    "PlaceDataset",
    "PlaceList",
    "Subset",
    "Toytown",
    "cached",
    "concatenate",
    "grid_places",
    "halve_by_place",
    "has_splits",
    "hold_out",
    "labelled_places",
    "load_dataset",
    "load_datasets",
    "load_image",
    "make_places",
    "nearby_places",
    "read_batch",
    "read_batches",
    "resize",
    "split_specs",
    "take_queries",
    "training_sets",
    "truth_places",
]
