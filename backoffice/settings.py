"""Settings, all from the environment (`.env.example` lists every variable with its default)."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import environ
from celery.schedules import schedule
from django.templatetags.static import static
from django.utils.translation import gettext_lazy as _

from backoffice.databases import database_settings
from backoffice.logs import configure_logging
from backoffice.secret_key import own_secret_key

BASE_DIR = Path(__file__).resolve().parent.parent
VAR_DIR = BASE_DIR / "var"

env = environ.Env()
# The second is written by a running `make run`, so that manage.py in another terminal finds its parts.
for _file in (BASE_DIR / ".env", VAR_DIR / "run.env"):
    if _file.exists():
        env.read_env(str(_file))

DEBUG = env.bool("DEBUG", default=False)
SECRET_KEY = env.str("SECRET_KEY", default="") or own_secret_key(VAR_DIR / "secret_key")
ALLOWED_HOSTS = env.list("ALLOWED_HOSTS", default=["localhost", "127.0.0.1", "[::1]"])
CSRF_TRUSTED_ORIGINS = env.list("CSRF_TRUSTED_ORIGINS", default=[])
DEPLOYMENT_ID = env.str("DEPLOYMENT_ID", default="main")
METRICS_TOKEN = env.str("METRICS_TOKEN", default="")

INSTALLED_APPS = [
    "unfold",
    "unfold.contrib.filters",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django_celery_beat",
    "django_structlog",
    "exchanges",
    "orders",
]

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.locale.LocaleMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]

ROOT_URLCONF = "backoffice.urls"
ASGI_APPLICATION = "backoffice.asgi.application"
TEMPLATES: list[dict[str, Any]] = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "backoffice" / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]

# -- Database ------------------------------------------------------------------------------------------------------

DATABASES: dict[str, dict[str, Any]] = {
    "default": database_settings(env.str("DATABASE_URL", default=f"sqlite:///{VAR_DIR / 'backoffice.sqlite3'}"))
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

# -- Language and time ---------------------------------------------------------------------------------------------

LANGUAGE_CODE = env.str("LANGUAGE_CODE", default="en")
LANGUAGES = [("en", "English"), ("ru", "Русский")]
LOCALE_PATHS = [BASE_DIR / "locale"]
USE_I18N = True
TIME_ZONE = "UTC"
USE_TZ = True

# -- HTTP ----------------------------------------------------------------------------------------------------------

STATIC_URL = "static/"
STATIC_ROOT = VAR_DIR / "static"
WHITENOISE_USE_FINDERS = True
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"},
}
LOGIN_URL = "admin:login"
LOGIN_REDIRECT_URL = "admin:index"
SECURE_SSL = env.bool("SECURE_SSL", default=False)
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if SECURE_SSL else None
SECURE_SSL_REDIRECT = SECURE_SSL
SECURE_REDIRECT_EXEMPT = [r"^healthz$", r"^readyz$", r"^metrics$"]
SECURE_HSTS_SECONDS = 31_536_000 if SECURE_SSL else 0
SECURE_HSTS_INCLUDE_SUBDOMAINS = SECURE_SSL
SECURE_HSTS_PRELOAD = SECURE_SSL
SESSION_COOKIE_SECURE = SECURE_SSL
CSRF_COOKIE_SECURE = SECURE_SSL
SESSION_COOKIE_AGE = 12 * 3600
X_FRAME_OPTIONS = "DENY"
PASSWORD_HASHERS = [
    "django.contrib.auth.hashers.PBKDF2PasswordHasher",
    "django.contrib.auth.hashers.ScryptPasswordHasher",
]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator", "OPTIONS": {"min_length": 12}},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
]

# -- Exchange ------------------------------------------------------------------------------------------------------

EXCHANGE_REQUEST_TIMEOUT_MS = env.int("EXCHANGE_REQUEST_TIMEOUT_MS", default=12_000)
EXCHANGE_RECV_WINDOW_MS = env.int("EXCHANGE_RECV_WINDOW_MS", default=5_000)
EXCHANGE_ENGINE_TIMEOUT_MS = env.int("EXCHANGE_ENGINE_TIMEOUT_MS", default=10_000)
EXCHANGE_READ_LAG_MS = env.int("EXCHANGE_READ_LAG_MS", default=5_000)
EXCHANGE_STREAM_SILENCE_SECONDS = env.float("EXCHANGE_STREAM_SILENCE_SECONDS", default=60)
EXCHANGE_STREAM_LONGEST_PAUSE_SECONDS = env.float("EXCHANGE_STREAM_LONGEST_PAUSE_SECONDS", default=30)
SYNC_INTERVAL_SECONDS = env.float("SYNC_INTERVAL_SECONDS", default=15)
SYNC_INTERVAL_STREAMING_SECONDS = env.float("SYNC_INTERVAL_STREAMING_SECONDS", default=60)
RECONCILE_AT_START = env.bool("RECONCILE_AT_START", default=True)
RESOLVE_INTERVAL_SECONDS = env.float("RESOLVE_INTERVAL_SECONDS", default=2)
PLACE_WITHIN_SECONDS = env.float("PLACE_WITHIN_SECONDS", default=30)
MAX_UNSYNCED_SECONDS = env.float("MAX_UNSYNCED_SECONDS", default=120)
BREAKER_FAILURES = env.int("BREAKER_FAILURES", default=10)
BREAKER_WINDOW_SECONDS = env.float("BREAKER_WINDOW_SECONDS", default=30)
BREAKER_OPEN_SECONDS = env.float("BREAKER_OPEN_SECONDS", default=15)
BALANCE_MAX_AGE_SECONDS = 10.0
MONEY_ASSETS = frozenset(
    env.list("MONEY_ASSETS", default=["USDT", "USDC", "FDUSD", "TUSD", "DAI", "USD", "EUR", "GBP", "JPY", "TRY", "BRL"])
)
HALT_UNRESOLVED_ORDERS = env.int("HALT_UNRESOLVED_ORDERS", default=50)
HALT_BREAKER_OPEN_SECONDS = env.float("HALT_BREAKER_OPEN_SECONDS", default=300)

# -- The orchestrator ----------------------------------------------------------------------------------------------

ORDER_EVENTS_TASK = env.str("ORDER_EVENTS_TASK", default="")
ORDER_EVENTS_QUEUE = env.str("ORDER_EVENTS_QUEUE", default="order-events")

# -- Celery --------------------------------------------------------------------------------------------------------

REDIS_URL = env.str("REDIS_URL", default="redis://127.0.0.1:6379/0")
CELERY_BROKER_URL = REDIS_URL
CELERY_RESULT_BACKEND = REDIS_URL
CELERY_TASK_ALWAYS_EAGER = env.bool("CELERY_TASK_ALWAYS_EAGER", default=False)
CELERY_TASK_EAGER_PROPAGATES = True
CELERY_TASK_SERIALIZER = "json"
CELERY_RESULT_SERIALIZER = "json"
CELERY_ACCEPT_CONTENT = ["json"]
CELERY_RESULT_ACCEPT_CONTENT = ["json"]
CELERY_TASK_IGNORE_RESULT = True  # a message that wants its result says ignore_result=False
CELERY_RESULT_EXPIRES = 3600
CELERY_TASK_DEFAULT_QUEUE = "sync"
CELERY_TASK_QUEUES: dict[str, dict[str, Any]] = {"trading": {}, "sync": {}}
CELERY_TASK_ROUTES = {
    "orders.submit_order": {"queue": "trading"},
    "orders.place_order": {"queue": "trading"},
    "orders.cancel_order": {"queue": "trading"},
}
# A message is acknowledged after its work: a killed worker's message comes again. It may come twice, which is safe.
CELERY_TASK_ACKS_LATE = True
CELERY_TASK_REJECT_ON_WORKER_LOST = True
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_WORKER_ENABLE_REMOTE_CONTROL = env.bool("CELERY_REMOTE_CONTROL", default=True)
CELERY_WORKER_HIJACK_ROOT_LOGGER = False
CELERY_WORKER_CANCEL_LONG_RUNNING_TASKS_ON_CONNECTION_LOSS = False
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_BROKER_CONNECTION_MAX_RETRIES = None
# Publishing must fail fast: the order is in the database already and the sweep sends it.
CELERY_TASK_PUBLISH_RETRY = True
CELERY_TASK_PUBLISH_RETRY_POLICY = {"max_retries": 1, "interval_start": 0, "interval_step": 0.1, "interval_max": 0.1}
CELERY_BROKER_TRANSPORT_OPTIONS = {
    "visibility_timeout": 300,
    "socket_timeout": 5,
    "socket_connect_timeout": 2,
    "socket_keepalive": True,
    "health_check_interval": 25,
}
CELERY_REDIS_SOCKET_TIMEOUT = 5.0
CELERY_REDIS_SOCKET_CONNECT_TIMEOUT = 2.0
CELERY_TIMEZONE = "UTC"
CELERY_BEAT_SCHEDULER = "django_celery_beat.schedulers:DatabaseScheduler"
CELERY_BEAT_MAX_LOOP_INTERVAL = 1.0


def _every(seconds: float) -> schedule:
    """The beat's table holds whole seconds; zero would be a loop without a pause."""
    return schedule(float(max(1, round(seconds))))


CELERY_BEAT_SCHEDULE = {
    "resolve-unconfirmed": {
        "task": "orders.resolve_unconfirmed",
        "schedule": _every(RESOLVE_INTERVAL_SECONDS),
        "options": {"expires": max(5.0, RESOLVE_INTERVAL_SECONDS)},
    },
    "send-order-events": {
        "task": "orders.send_order_events",
        "schedule": schedule(RESOLVE_INTERVAL_SECONDS),
        "options": {"expires": max(5.0, RESOLVE_INTERVAL_SECONDS)},
    },
    "apply-halt-rules": {
        "task": "orders.apply_halt_rules",
        "schedule": schedule(5.0),
        "options": {"expires": 5},
    },
    "sync-accounts": {
        "task": "orders.sync_accounts",
        "schedule": _every(SYNC_INTERVAL_SECONDS),
        "options": {"expires": max(5.0, SYNC_INTERVAL_SECONDS)},
    },
    "reconcile-accounts": {
        "task": "orders.reconcile_accounts",
        "schedule": schedule(900.0),
        "options": {"expires": 900},
    },
    "refresh-positions": {
        "task": "orders.refresh_positions",
        "schedule": schedule(60.0),
        "options": {"expires": 60},
    },
    "sync-instruments": {
        "task": "exchanges.sync_all_instruments",
        "schedule": schedule(3600.0),
        "options": {"expires": 3600},
    },
}

# -- Logs ----------------------------------------------------------------------------------------------------------

LOG_LEVEL = env.str("LOG_LEVEL", default="INFO").upper()
LOGGING_CONFIG = None
configure_logging(level=LOG_LEVEL, as_json=env.bool("LOG_JSON", default=not DEBUG))

# -- Admin ---------------------------------------------------------------------------------------------------------

UNFOLD: dict[str, Any] = {
    "SITE_TITLE": _("Trading back office"),
    "SITE_HEADER": _("Trading back office"),
    "SITE_URL": None,
    "SITE_SYMBOL": "swap_vert",
    "SHOW_HISTORY": False,
    "SHOW_VIEW_ON_SITE": False,
    "SHOW_LANGUAGES": True,
    "ENVIRONMENT": "backoffice.navigation.environment_badge",
    "DASHBOARD_CALLBACK": "orders.desk.dashboard.dashboard",
    "STYLES": [lambda request: static("orders/desk.css")],
    "SITE_FAVICONS": [
        {"rel": "icon", "type": "image/svg+xml", "href": lambda request: static("orders/favicon.svg")},
    ],
    "COLORS": {
        "primary": {
            "50": "oklch(96.2% .018 272.314)",
            "100": "oklch(93% .034 272.788)",
            "200": "oklch(87% .065 274.039)",
            "300": "oklch(78.5% .115 274.713)",
            "400": "oklch(67.3% .182 276.935)",
            "500": "oklch(58.5% .233 277.117)",
            "600": "oklch(51.1% .262 276.966)",
            "700": "oklch(45.7% .24 277.023)",
            "800": "oklch(39.8% .195 277.366)",
            "900": "oklch(35.9% .144 278.697)",
            "950": "oklch(25.7% .09 281.288)",
        }
    },
    "SIDEBAR": {
        "show_search": True,
        "show_all_applications": False,
        "navigation": "backoffice.navigation.sidebar",
    },
}

os.environ.setdefault("DJANGO_RUNSERVER_HIDE_WARNING", "true")
