"""Keep the pages of a person to the accounts that were granted to the person."""

from __future__ import annotations

from typing import Any

from django.db.models import QuerySet
from django.http import HttpRequest

from backoffice.people.grants import accounts_of, has_every_account, may_act_on, narrow
from exchanges.models import ExchangeAccount


class AccountRows:
    """Mixin for a ModelAdmin, left of it: lists, pages, searches and verbs see granted rows only.

    `account_path` leads from a row to its account, and is empty for the accounts themselves.
    """

    account_path = "account"

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        rows: QuerySet[Any] = super().get_queryset(request)  # type: ignore[misc]
        return narrow(rows, request.user, path=self.account_path)

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        allowed = bool(super().has_view_permission(request, obj))  # type: ignore[misc]
        return allowed and (obj is None or self._is_granted(request, obj))

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        allowed = bool(super().has_change_permission(request, obj))  # type: ignore[misc]
        return allowed and (obj is None or self._is_granted(request, obj))

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        allowed = bool(super().has_delete_permission(request, obj))  # type: ignore[misc]
        return allowed and (obj is None or self._is_granted(request, obj))

    def formfield_for_foreignkey(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        """Offer the person's accounts, and accept no other."""
        if db_field.related_model is ExchangeAccount:
            kwargs["queryset"] = accounts_of(request.user)
        return super().formfield_for_foreignkey(db_field, request, **kwargs)  # type: ignore[misc]

    def _is_granted(self, request: HttpRequest, obj: Any) -> bool:
        """Return whether the row is of a granted account. One without an account is of all."""
        account_id = self._account_id(obj)
        if account_id is None:
            return has_every_account(request.user)
        return may_act_on(request.user, account_id)

    def _account_id(self, obj: Any) -> int | None:
        if not self.account_path:
            return int(obj.pk)
        *steps, last = self.account_path.split("__")
        for step in steps:
            obj = getattr(obj, step)
        account_id: int | None = getattr(obj, f"{last}_id")
        return account_id
