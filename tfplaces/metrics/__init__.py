"""Retrieval metrics over the ranks of the positives."""

from tfplaces.metrics.average_precision import PROTOCOLS, oxford_average_precision, plain_average_precision

__all__ = ["PROTOCOLS", "oxford_average_precision", "plain_average_precision"]
