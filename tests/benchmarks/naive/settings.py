"""Settings of the naive project. The benchmark sets the environment."""

from __future__ import annotations

import os

import environ

SECRET_KEY = "naive"
INSTALLED_APPS = ["tests.benchmarks.naive"]
DATABASES = {"default": environ.Env.db_url_config(os.environ["DATABASE_URL"])}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
USE_TZ = True
CELERY_BROKER_URL = os.environ["REDIS_URL"]
CELERY_TASK_IGNORE_RESULT = True
