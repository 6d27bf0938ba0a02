"""Measurements in a process of their own, whose memory and whose Keras are nobody else's."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

from tfplaces.common.errors import UserError


def in_fresh_process(module: str, arguments: Sequence[Any], what: str, legacy_keras: bool = False) -> Any:
    """What a module prints last, as JSON, when it is run with arguments as JSON.

    Args:
        module: the name of the module to run, which is given the arguments as one string.
        arguments: values that JSON has.
        what: what fails if the process does, for the message.
        legacy_keras: whether TensorFlow is to take `tf_keras` for Keras there.

    Raises:
        UserError: the process failed; the last line of what it said is the reason.
    """
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    environment.pop("TF_USE_LEGACY_KERAS", None)
    if legacy_keras:
        environment["TF_USE_LEGACY_KERAS"] = "1"
    command = [sys.executable, "-m", module, json.dumps(arguments)]
    process = subprocess.run(command, capture_output=True, text=True, env=environment)
    if process.returncode:
        reason = process.stderr.strip().splitlines() or ["it was killed, most likely for want of memory"]
        raise UserError(f"{what} failed: {reason[-1]}")
    return json.loads(process.stdout.splitlines()[-1])
