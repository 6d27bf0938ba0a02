"""Losses for place recognition: Keras losses for anybody's `fit`.

All take descriptors, float `[batch, dim]`. `CosineDistance` takes the vectors to be learned beside them, and
`TupleTripletLoss` training tuples, whose queries are named and have negatives of their own. The others take place
labels, whole numbers `[batch]` or `[batch, 1]`: images of one label show one place; every image of the batch is a query
in turn. Keras gives a loss its labels as float32, which tells whole numbers apart up to 2^24: number the places of a
batch from 0 where labels are larger.
"""

from tfplaces.losses.batch_loss import BatchLoss
from tfplaces.losses.cosine_distance import CosineDistance
from tfplaces.losses.multi_similarity import MultiSimilarityLoss, MultiSimilarityMiner
from tfplaces.losses.triplets import TripletRankingLoss, TupleTripletLoss, WeaklySupervisedTripletLoss

__all__ = [
    "BatchLoss",
    "CosineDistance",
    "MultiSimilarityLoss",
    "MultiSimilarityMiner",
    "TripletRankingLoss",
    "TupleTripletLoss",
    "WeaklySupervisedTripletLoss",
]
