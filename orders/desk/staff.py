"""People, groups and the beat's schedule: the pages of other apps, in this admin's dress."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.contrib.auth.admin import GroupAdmin as DjangoGroupAdmin
from django.contrib.auth.admin import UserAdmin as DjangoUserAdmin
from django.contrib.auth.models import Group, User
from django.utils.translation import gettext_lazy as _
from django_celery_beat import admin as beat
from django_celery_beat import models as beat_models
from unfold.admin import ModelAdmin
from unfold.forms import AdminPasswordChangeForm, UserChangeForm, UserCreationForm
from unfold.widgets import UnfoldAdminSelectWidget, UnfoldAdminTextInputWidget


class UserAdmin(DjangoUserAdmin, ModelAdmin):  # type: ignore[type-arg]
    form = UserChangeForm
    add_form = UserCreationForm
    change_password_form = AdminPasswordChangeForm


class GroupAdmin(DjangoGroupAdmin, ModelAdmin):
    pass


class TaskSelect(UnfoldAdminSelectWidget, beat.TaskSelectWidget):
    """The names of the registered tasks, in this admin's dress."""


class PeriodicTaskForm(beat.PeriodicTaskForm):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["task"].widget = UnfoldAdminTextInputWidget()
        self.fields["regtask"].widget = TaskSelect()


class PeriodicTaskAdmin(beat.PeriodicTaskAdmin, ModelAdmin):
    form = PeriodicTaskForm


class ScheduleAdmin(ModelAdmin):
    pass


class CrontabScheduleAdmin(beat.CrontabScheduleAdmin, ModelAdmin):
    pass


def dress() -> None:
    """Register them anew; called once, when the admin is discovered."""
    admin.site.index_title = _("Overview")
    for model, page in (
        (User, UserAdmin),
        (Group, GroupAdmin),
        (beat_models.PeriodicTask, PeriodicTaskAdmin),
        (beat_models.IntervalSchedule, ScheduleAdmin),
        (beat_models.CrontabSchedule, CrontabScheduleAdmin),
        (beat_models.ClockedSchedule, ScheduleAdmin),
        (beat_models.SolarSchedule, ScheduleAdmin),
    ):
        if admin.site.is_registered(model):
            admin.site.unregister(model)
        admin.site.register(model, page)
