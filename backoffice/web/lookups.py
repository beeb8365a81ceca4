"""Allow only the filters that a list declares in its address."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest

# The endings that Django's and the theme's filters add to the name of their field.
_ENDINGS = ("", "__exact", "__id__exact", "__isnull")
_RANGE_ENDINGS = ("_from", "_to", "_from_0", "_from_1", "_to_0", "_to_1")


class DeclaredLookups:
    """Mixin for a ModelAdmin: any other lookup in the address of its list answers 400.

    Django allows every lookup on the model's own fields, such as a regular expression on a reason
    or on a password's hash, which reads whole tables and answers a secret bit by bit.
    """

    def lookup_allowed(self, lookup: str, value: str, request: HttpRequest) -> bool:
        return lookup in {
            f"{name}{ending}"
            for name in map(_name, self.get_list_filter(request))  # type: ignore[attr-defined]
            for ending in (*_ENDINGS, *_RANGE_ENDINGS)
        }


def _name(declared: Any) -> str:
    """Return the field of a filter, or the parameter of a filter without a field."""
    if isinstance(declared, tuple | list):
        return str(declared[0])
    return declared if isinstance(declared, str) else str(declared.parameter_name)
