"""Learns how sure an index's answers are, from queries whose places are known, and stores it in the index."""

from __future__ import annotations

import os

import numpy as np

from tfplaces.datasets import PlaceDataset, Subset
from tfplaces.describers import Describer, describe_images
from tfplaces.evaluation.unit_descriptors import UnitDescriptors
from tfplaces.index import open_index, put_settings
from tfplaces.index.confidence import LOOKED_AT, SETTING, Confidence, fit_confidence, lead_of
from tfplaces.index.dataset_places import places_of
from tfplaces.index.scanning import best_matches
from tfplaces.workflows.index_model import check_model, identify
from tfplaces.workflows.indexing import at_work

# Queries that are enough: two weights and a constant are learnt.
_QUERIES = 1000


def calibrate_index(
    output: str | os.PathLike, model: str | os.PathLike, describer: Describer, dataset: PlaceDataset, seed: int = 0
) -> Confidence:
    """Fits the probability that a best match is right, and puts it into the index.

    Where the index has all database images of the data set, by their names, the queries are looked for in the index
    itself; else in the database images of the data set, which are described for it.

    Args:
        output: the index.
        model: the file of the model.
        describer: the model.
        dataset: queries whose places are known; a thousand of them are drawn where there are more.
        seed: draws them.

    Raises:
        UserError: the model is not that of the index, there are too few right or wrong answers to learn from, there is
            no room on the disk, or another run is at work on the index.
    """
    asked = np.array(dataset.answerable(), np.int64)
    if len(asked) > _QUERIES:
        asked = np.sort(np.random.default_rng(seed).choice(asked, _QUERIES, replace=False))
    with at_work(output):
        with open_index(output) as index:
            check_model(index, identify(model, describer), describer, force=False)
            codec = index.codec
            queries = UnitDescriptors(describe_images(describer, Subset(dataset.queries, asked), "queries"))
            rows = {name: row for row, name in enumerate(index.names())}
            images = dataset.database.names
            if all(name in rows for name in images):
                known = {rows[name]: image for image, name in enumerate(images)}
                blocks, places = index.blocks(), None
            else:
                known = {image: image for image in range(len(images))}
                vectors = UnitDescriptors(describe_images(describer, dataset.database, "its places"))
                blocks, places = iter([(0, codec.encode(vectors[0 : len(vectors)]))]), places_of(dataset)
            found, scores = best_matches(codec, queries[0 : len(queries)], blocks, LOOKED_AT)
            right = np.array([
                known.get(int(of[0]), -1) in dataset.truth.others(int(q)) for of, q in zip(found, asked, strict=True)
            ], bool)  # fmt: skip
            leads = [
                lead_of(index.places(of) if places is None else [places[row] for row in of], score)
                for of, score in zip(found, scores, strict=True)
            ]
        confidence = fit_confidence(scores[:, :1].ravel(), np.array(leads), right, dataset.spec)
        put_settings(output, {SETTING: confidence.to_json()})
    return confidence


def can_calibrate(dataset: PlaceDataset) -> bool:
    """Whether a data set has queries to learn from that are not in its database too."""
    return dataset.own_images is None and len(dataset.answerable()) > 0
