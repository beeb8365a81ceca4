"""Read settings from environment variables, literally, and refuse values that aren't understood.

Every refusal is an `ImproperlyConfigured` that names the variable. Its text never shows the value,
which may be a secret. An empty number, duration or switch means its default.
"""

from __future__ import annotations

import builtins
import math
import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

import environ
from celery.app.backends import BACKEND_ALIASES
from django.core.exceptions import ImproperlyConfigured
from kombu.transport import TRANSPORT_ALIASES

from exchanges.limits.redis_url import REDIS_SCHEMES, canonical_redis_url
from exchanges.limits.sentinel_url import is_sentinel

_TRUE = frozenset({"on", "true", "yes", "y", "1"})
_FALSE = frozenset({"off", "false", "no", "n", "0"})
_WHOLE = re.compile(r"[0-9]{1,12}")
_NUMBER = re.compile(r"[0-9]{1,12}(\.[0-9]{1,9})?")
_LINE = re.compile(r"(?:export )?[A-Za-z_][A-Za-z_0-9]*=.*|#.*|")
_LOG_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
_LONGEST_SECONDS = 366 * 86_400


class Environment:
    """Read typed values of variables, which are taken as they are: a leading `$` means itself."""

    def __init__(self, variables: Mapping[builtins.str, builtins.str] = os.environ) -> None:
        self._variables = variables

    def str(self, name: builtins.str, *, default: builtins.str = "") -> builtins.str:
        return self._variables.get(name, default)

    def bool(self, name: builtins.str, *, default: builtins.bool) -> builtins.bool:
        text = self.str(name).strip().lower()
        if not text:
            return default
        if text not in _TRUE | _FALSE:
            raise ImproperlyConfigured(f"{name} must be on or off.")
        return text in _TRUE

    def int(self, name: builtins.str, *, default: builtins.int) -> builtins.int:
        """Read a whole number, 0 or more."""
        text = self.str(name).strip()
        if not text:
            return default
        if not _WHOLE.fullmatch(text):
            raise ImproperlyConfigured(f"{name} must be a whole number, 0 or more.")
        return builtins.int(text)

    def positive_int(
        self, name: builtins.str, *, default: builtins.int, most: builtins.int | None = None
    ) -> builtins.int:
        """Read a whole number, 1 or more."""
        number = self.int(name, default=default)
        if not number:
            raise ImproperlyConfigured(f"{name} must be a whole number, 1 or more.")
        if most is not None and number > most:
            raise ImproperlyConfigured(f"{name} must be a whole number, at most {most}.")
        return number

    def float(self, name: builtins.str, *, default: builtins.float) -> builtins.float:
        """Read a decimal number, 0 or more, such as seconds where 0 means never."""
        text = self.str(name).strip()
        if not text:
            return default
        if not _NUMBER.fullmatch(text) or not math.isfinite(number := builtins.float(text)):
            raise ImproperlyConfigured(f"{name} must be a decimal number, 0 or more, such as 2.5.")
        return number

    def seconds(self, name: builtins.str, *, default: builtins.float) -> builtins.float:
        """Read a duration of more than zero and at most a year."""
        number = self.float(name, default=default)
        if not 0 < number <= _LONGEST_SECONDS:
            raise ImproperlyConfigured(
                f"{name} must be a number of seconds, more than 0 and at most a year."
            )
        return number

    def list(
        self, name: builtins.str, *, default: Sequence[builtins.str]
    ) -> builtins.list[builtins.str]:
        """Read texts that commas separate."""
        if name not in self._variables:
            return [*default]
        items = [item.strip() for item in self.str(name).split(",")]
        if len(items) > 1 and not all(items):
            raise ImproperlyConfigured(f"{name} has an empty item: put one comma between items.")
        return [item for item in items if item]

    def origins(
        self, name: builtins.str, *, default: Sequence[builtins.str]
    ) -> builtins.list[builtins.str]:
        """Read origins such as `https://backoffice.example`."""
        origins = self.list(name, default=default)
        for origin in origins:
            parts = _split(name, origin)
            if parts.scheme not in ("http", "https") or not parts.netloc or parts.path.strip("/"):
                raise ImproperlyConfigured(
                    f"{name} must list origins such as https://backoffice.example."
                )
        return origins

    def http_url(self, name: builtins.str, *, default: builtins.str) -> builtins.str:
        """Read an address that begins with http or https."""
        text = self.str(name).strip() or default
        if text:
            parts = _split(name, text)
            if parts.scheme not in ("http", "https") or not parts.netloc:
                raise ImproperlyConfigured(f"{name} must be an address of http or https.")
        return text

    def asset_codes(
        self, name: builtins.str, *, default: Sequence[builtins.str]
    ) -> frozenset[builtins.str]:
        codes = self.list(name, default=default)
        if any(re.search(r"[\s\x00-\x1f]", code) or code != code.upper() for code in codes):
            raise ImproperlyConfigured(
                f"{name} must list assets in upper case, separated by commas, such as USDT,EUR."
            )
        return frozenset(codes)

    def log_level(self, name: builtins.str, *, default: builtins.str) -> builtins.str:
        level = self.str(name).strip().upper() or default
        if level not in _LOG_LEVELS:
            raise ImproperlyConfigured(f"{name} must be one of {', '.join(_LOG_LEVELS)}.")
        return level

    def language(self, name: builtins.str, *, default: builtins.str) -> builtins.str:
        code = self.str(name).strip() or default
        if code not in ("en", "ru"):
            raise ImproperlyConfigured(f"{name} must be en or ru.")
        return code

    def second_factor(self, name: builtins.str, *, default: builtins.str) -> builtins.str:
        """Read when the staff needs a second factor."""
        when = self.str(name).strip().lower() or default
        if when not in ("live", "always", "optional"):
            raise ImproperlyConfigured(f"{name} must be live, always or optional.")
        return when

    def identifier(self, name: builtins.str, *, default: builtins.str) -> builtins.str:
        """Read a text on one line that isn't empty: ids are made from it."""
        text = self.str(name, default=default)
        if not text.strip() or not text.isprintable():
            raise ImproperlyConfigured(f"{name} must be one line of text, and not empty.")
        return text

    def redis_url(self, name: builtins.str, *, default: builtins.str) -> builtins.str:
        return canonical_redis_url(name, self.str(name).strip() or default)

    def broker_url(self, name: builtins.str, *, default: builtins.str) -> builtins.str:
        """Read a URL that Celery's broker understands. Semicolons separate alternatives.

        A Sentinel URL keeps our spelling, which `celery_url` translates.
        """
        return self._urls(name, default, knows=lambda scheme: scheme in TRANSPORT_ALIASES)

    def result_backend(self, name: builtins.str, *, default: builtins.str) -> builtins.str:
        """Read a URL that Celery's result store understands."""
        return self._urls(
            name, default, knows=lambda scheme: scheme.split("+")[0] in BACKEND_ALIASES
        )

    def _urls(
        self,
        name: builtins.str,
        default: builtins.str,
        *,
        knows: Callable[[builtins.str], builtins.bool],
    ) -> builtins.str:
        text = self.str(name).strip()
        if not text:
            return default
        if is_sentinel(text):
            return canonical_redis_url(name, text)
        return ";".join(_celery_url(name, url.strip(), knows) for url in text.split(";"))


def _celery_url(name: str, url: str, knows: Callable[[str], bool]) -> str:
    scheme, separator, rest = url.partition("://")
    if scheme.lower() in REDIS_SCHEMES and separator:
        return canonical_redis_url(name, url)
    _split(name, f"http://{rest}")  # a port that is no number
    if not separator or not knows(scheme):
        raise ImproperlyConfigured(f"{name} must be a URL such as redis://127.0.0.1:6379/0.")
    return url


def _split(name: str, url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        raise ImproperlyConfigured(f"{name} is not a well-formed URL.") from None
    return parts


def read_env_file(file: Path) -> None:
    """Take variables from a file unless the environment has them.

    Raise ImproperlyConfigured for a line that is neither `NAME=value` nor a comment.
    """
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), start=1):
        if not _LINE.fullmatch(line):
            raise ImproperlyConfigured(f"{file.name}, line {number}: must be NAME=value.")
    environ.Env.read_env(str(file))
