"""The errors that a user can mend; everything else that is raised is a fault of this library."""

from __future__ import annotations


class UserError(ValueError):
    """Something the user brought cannot be used: the message says what, where, and how to mend it.

    The command-line tools print the message as one line and exit with code 2. Any other exception is a bug of this
    library and is shown with its trace.
    """


class DataWarning(UserWarning):
    """Something about the user's data should be known, though it can be used: what was left out, and why."""
