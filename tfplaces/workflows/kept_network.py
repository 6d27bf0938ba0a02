"""Networks that the stages of a run leave for the next."""

from __future__ import annotations

import os
from collections.abc import Callable

from tfplaces.common.files import replacing
from tfplaces.models import PlaceNet
from tfplaces.opening import load_place_net


def kept_network(file: str, make: Callable[[], PlaceNet]) -> PlaceNet:
    """The network of a stage: as an interrupted run has left it, or made and kept.

    It is read from the file in any case, so that it is of the present `tf.distribute` strategy, whatever that which
    made it.

    Args:
        file: where it is kept.
        make: makes it, unless it is there.
    """
    if not os.path.exists(file):
        made = make()
        with replacing(file) as temporary:
            made.save(temporary)
    return load_place_net(file)
