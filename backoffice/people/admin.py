"""Pages of users and groups, in the theme of the rest of the admin."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from django.contrib import admin
from django.contrib.auth.admin import GroupAdmin as DjangoGroupAdmin
from django.contrib.auth.admin import UserAdmin as DjangoUserAdmin
from django.contrib.auth.models import Group, Permission, User
from django.db import transaction
from django.db.models import Q, QuerySet
from django.http import HttpRequest, HttpResponse
from django.utils.translation import gettext_lazy
from django_otp.plugins.otp_static.admin import StaticDevice
from django_otp.plugins.otp_totp.admin import TOTPDevice
from unfold.admin import ModelAdmin
from unfold.forms import AdminPasswordChangeForm, UserChangeForm, UserCreationForm

from backoffice.people.admin_journal import JournaledAdmin
from backoffice.people.factor_reset import FactorReset
from backoffice.people.models import LinkedLogin
from backoffice.people.roles import ROLES
from backoffice.people.session_admin import PersonSessionAdmin
from backoffice.people.step_up import RecentFactorToChange, requires_recent_factor
from exchanges.acts import record_act

__all__ = ["GroupAdmin", "PersonSessionAdmin", "UserAdmin"]

# Importing Django's own pages has registered them. Those of the library would show seeds.
admin.site.unregister([User, Group, TOTPDevice, StaticDevice])


@admin.register(User)
class UserAdmin(
    FactorReset,
    RecentFactorToChange,
    JournaledAdmin,
    DjangoUserAdmin,  # type: ignore[type-arg]
    ModelAdmin,
):
    form = UserChangeForm
    add_form = UserCreationForm
    change_password_form = AdminPasswordChangeForm

    def subject_of(self, obj: User) -> str:
        return f"user:{obj.get_username()}"

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Refuse. A person who leaves is deactivated, because records name the person."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Refuse to change a person with rights above one's own, who could sign in as them."""
        if obj is not None and not _rights_of(obj) <= _rights_of(request.user):
            return False
        return super().has_change_permission(request, obj)

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        """Let only superusers give the rights that no role has, and nobody rename a login.

        Records name people by their login, so a maker with another name would be another person.
        """
        fields = (*super().get_readonly_fields(request, obj), *(["username"] if obj else []))
        return fields if _is_superuser(request) else (*fields, "is_superuser", "user_permissions")

    def formfield_for_manytomany(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        """Offer only the roles whose rights this person has."""
        if db_field.name == "groups":
            kwargs["queryset"] = _roles_within(_rights_of(request.user))
        return super().formfield_for_manytomany(db_field, request, **kwargs)

    @requires_recent_factor
    def user_change_password(
        self,
        request: HttpRequest,
        id: str,  # noqa: A002  Django's own name
        form_url: str = "",
    ) -> HttpResponse:
        """Record that a person set the password of another."""
        with transaction.atomic():
            before = _password(id)
            response: HttpResponse = super().user_change_password(request, id, form_url)
            if before != _password(id):
                user = User.objects.get(pk=id)
                record_act(
                    "change_password",
                    actor=request.user.get_username(),
                    subject=self.subject_of(user),
                )
        return response


def _rights_of(user: Any) -> set[str]:
    """Return the permissions of a person, who may be inactive at the moment."""
    if user.is_superuser:
        return {*_names(Permission.objects.all()), "superuser"}
    own, by_role = Q(user=user), Q(group__user=user)
    return set(_names(Permission.objects.filter(own | by_role)))


def _names(permissions: QuerySet[Permission]) -> Iterator[str]:
    for app, codename in permissions.values_list("content_type__app_label", "codename"):
        yield f"{app}.{codename}"


def _roles_within(rights: set[str]) -> QuerySet[Group]:
    roles = Group.objects.prefetch_related("permissions__content_type")
    within = [role.pk for role in roles if set(_names(role.permissions.all())) <= rights]
    return Group.objects.filter(pk__in=within)


def _is_superuser(request: HttpRequest) -> bool:
    return bool(getattr(request.user, "is_superuser", False))


def _password(key: str) -> str | None:
    rows = User.objects.filter(pk=key) if key.isdecimal() else User.objects.none()
    return rows.values_list("password", flat=True).first()


@admin.register(Group)
class GroupAdmin(RecentFactorToChange, JournaledAdmin, DjangoGroupAdmin, ModelAdmin):
    def subject_of(self, obj: Group) -> str:
        return f"role:{obj.name}"

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Refuse to change a role with rights above one's own, or a role of ours."""
        if obj is not None and obj.name in ROLES:
            return False  # `migrate` would give it its permissions back
        if obj is not None and not set(_names(obj.permissions.all())) <= _rights_of(request.user):
            return False
        return super().has_change_permission(request, obj)

    def formfield_for_manytomany(  # type: ignore[override]
        self, db_field: Any, request: HttpRequest, **kwargs: Any
    ) -> Any:
        """Offer only the rights that this person has."""
        if db_field.name == "permissions" and not _is_superuser(request):
            rights = _rights_of(request.user)
            own = [
                row.pk
                for row in Permission.objects.select_related("content_type")
                if f"{row.content_type.app_label}.{row.codename}" in rights
            ]
            kwargs["queryset"] = Permission.objects.filter(pk__in=own)
        return super().formfield_for_manytomany(db_field, request, **kwargs)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        if obj is not None and obj.name in ROLES:
            return False
        return super().has_delete_permission(request, obj)


@admin.register(LinkedLogin)
class LinkedLoginAdmin(RecentFactorToChange, JournaledAdmin, ModelAdmin):
    empty_text = gettext_lazy("No linked logins")
    empty_hint = gettext_lazy(
        "Link the logins of one human being, so that they can't be their own second person."
    )
    list_display = ("login", "human")
    list_select_related = ("login",)
    fields = ("login", "human")
    sortable_by = ()

    def subject_of(self, obj: LinkedLogin) -> str:
        return f"user:{obj.login.get_username()}"
