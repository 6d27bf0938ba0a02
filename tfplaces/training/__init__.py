"""Assembling and training place-recognition networks."""

from tfplaces.training.assembly import assemble, initialize_netvlad
from tfplaces.training.augmentation import Augmentation, CropAndJitter, RandAugment, make_augmentation
from tfplaces.training.batches import ImageBatches, MinedPairs
from tfplaces.training.checkpoint import Checkpoint
from tfplaces.training.described_batches import DescribedBatches
from tfplaces.training.distribution import gpu_strategy
from tfplaces.training.fitting import DivergedError, StopIfDiverged, fit
from tfplaces.training.frozen_features import FeatureBatches, cache_features
from tfplaces.training.head_regression import check_head, fit_head
from tfplaces.training.judging import StopEarly, ValidationMap
from tfplaces.training.local_regression import fit_local, local_form, local_teacher
from tfplaces.training.model_training import ModelTraining
from tfplaces.training.netvlad_batches import NetVLADBatches
from tfplaces.training.partial import first_trained, trained_from
from tfplaces.training.place_batches import PlaceBatches
from tfplaces.training.precision import PRECISIONS
from tfplaces.training.rated_optimizers import RatedAdam, RatedSGD, make_optimizer, rate_factors
from tfplaces.training.schedules import WarmUp, make_schedule
from tfplaces.training.teaching import TeacherBatches, teach
from tfplaces.training.trainer import TripletTuning, train
from tfplaces.training.whitening import add_whitening
from tfplaces.training.work_dir import WorkDir

__all__ = [
    "PRECISIONS",
    "Augmentation",
    "Checkpoint",
    "CropAndJitter",
    "DescribedBatches",
    "DivergedError",
    "FeatureBatches",
    "ImageBatches",
    "MinedPairs",
    "ModelTraining",
    "NetVLADBatches",
    "PlaceBatches",
    "RandAugment",
    "RatedAdam",
    "RatedSGD",
    "StopEarly",
    "StopIfDiverged",
    "TeacherBatches",
    "TripletTuning",
    "ValidationMap",
    "WarmUp",
    "WorkDir",
    "add_whitening",
    "assemble",
    "cache_features",
    "check_head",
    "first_trained",
    "fit",
    "fit_head",
    "fit_local",
    "gpu_strategy",
    "initialize_netvlad",
    "local_form",
    "local_teacher",
    "make_augmentation",
    "make_optimizer",
    "make_schedule",
    "rate_factors",
    "teach",
    "train",
    "trained_from",
]
