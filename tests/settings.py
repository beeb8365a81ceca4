"""Set a placeholder for the database until the suite has started its own (for mypy, too)."""

from __future__ import annotations

import os

os.environ["DATABASE_URL"] = "postgres://nobody@127.0.0.1:1/none"

from backoffice.settings import *  # noqa: F403
from backoffice.settings import INSTALLED_APPS

INSTALLED_APPS = [*INSTALLED_APPS, "tests.simulation"]  # for its command `simulate_faults`

#: The tests of the second factor ask for it. Others may have live accounts without it.
SECOND_FACTOR = "optional"

#: Each test client makes its own middleware, which would read all static files at once.
WHITENOISE_AUTOREFRESH = True

PASSWORD_HASHERS = [
    "tests.harness.passwords.QuickHasher",
    "django.contrib.auth.hashers.ScryptPasswordHasher",
]
