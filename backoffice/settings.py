"""Read all settings from the environment. `.env.example` lists every variable with its default."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from celery.schedules import schedule
from csp.constants import NONE, SELF, UNSAFE_EVAL, UNSAFE_INLINE
from django.templatetags.static import static
from django.urls import reverse_lazy
from django.utils.translation import gettext_lazy as _

from backoffice import tuning
from backoffice.databases import database_settings
from backoffice.environment import Environment, read_env_file
from backoffice.local.running import env_files
from backoffice.logs import configure_logging
from backoffice.queues import settings_of
from backoffice.secret_key import own_secret_key
from backoffice.web.body_limit import LIMIT_BYTES
from exchanges.duties import repeated
from exchanges.limits.sentinel_url import celery_options, celery_url

BASE_DIR = Path(__file__).resolve().parent.parent
VAR_DIR = BASE_DIR / "var"

env = Environment()
# The environment wins over the files, and a running demo over `.env`.
for _file in env_files(BASE_DIR):
    read_env_file(_file)

DEBUG = env.bool("DEBUG", default=False)
SECRET_KEY = env.str("SECRET_KEY", default="") or own_secret_key(VAR_DIR / "secret_key")
ALLOWED_HOSTS = env.list("ALLOWED_HOSTS", default=["localhost", "127.0.0.1", "[::1]"])
CSRF_TRUSTED_ORIGINS = env.origins("CSRF_TRUSTED_ORIGINS", default=[])
DEPLOYMENT_ID = env.identifier("DEPLOYMENT_ID", default="main")
METRICS_TOKEN = env.str("METRICS_TOKEN", default="")
METRICS_OPEN = env.bool("METRICS_OPEN", default=False)
tuning.turn_off(env.list("TUNING_OFF", default=[]))
UNFLUSHED_COMMITS = tuning.is_on("unflushed_commits")

INSTALLED_APPS = [
    "backoffice.desk",  # before the theme: one of its templates replaces the theme's
    "backoffice.desk.live",
    "backoffice.people",
    "unfold",
    "unfold.contrib.filters",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django_structlog",
    "django_otp",
    "django_otp.plugins.otp_static",
    "django_otp.plugins.otp_totp",
    "django_otp_webauthn",
    "exchanges",
    "orders",
]

MIDDLEWARE = [
    "backoffice.health.answer_health_first",  # before any middleware that validates the host
    "backoffice.web.null_bytes.refuse_null_bytes",
    "django.middleware.security.SecurityMiddleware",
    "csp.middleware.CSPMiddleware",
    "backoffice.web.browser_rules.limit_browsers",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "backoffice.web.compression.CompressPages",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.locale.LocaleMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "backoffice.people.factors.SecondFactorMiddleware",
    "backoffice.people.sessions.note_activity",
    "backoffice.people.origins.act_as_person",
    "django.contrib.messages.middleware.MessageMiddleware",
    "backoffice.desk.zones.activate_zone",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]

ROOT_URLCONF = "backoffice.urls"
ASGI_APPLICATION = "backoffice.asgi.application"
TEMPLATES: list[dict[str, Any]] = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
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

# -- Database -------------------------------------------------------------------------------------

DATABASES: dict[str, dict[str, Any]] = {
    "default": database_settings(env.str("DATABASE_URL", default=""))
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
# For `make_database_roles` only.
DATABASE_APPLICATION_PASSWORD = env.str("DATABASE_APPLICATION_PASSWORD", default="")
DATABASE_WEB_PASSWORD = env.str("DATABASE_WEB_PASSWORD", default="")
DATABASE_READER_PASSWORD = env.str("DATABASE_READER_PASSWORD", default="")

# -- Language and time ----------------------------------------------------------------------------

LANGUAGE_CODE = env.language("LANGUAGE_CODE", default="en")
LANGUAGES = [("en", "English"), ("ru", "Русский")]
LOCALE_PATHS = [BASE_DIR / "locale"]
USE_I18N = True
TIME_ZONE = "UTC"
USE_TZ = True

# -- HTTP -----------------------------------------------------------------------------------------

STATIC_URL = "static/"
STATIC_ROOT = VAR_DIR / "static"
# Gathered files are compressed, and browsers keep them always, because a change has another name.
STATIC_COLLECTED = env.bool("STATIC_COLLECTED", default=False)
WHITENOISE_USE_FINDERS = not STATIC_COLLECTED
_STATIC_STORAGE = (
    "whitenoise.storage.CompressedManifestStaticFilesStorage"
    if STATIC_COLLECTED
    else "django.contrib.staticfiles.storage.StaticFilesStorage"
)
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": _STATIC_STORAGE},
}
LOGIN_URL = "admin:login"
LOGIN_REDIRECT_URL = "admin:index"
SECURE_SSL = env.bool("SECURE_SSL", default=False)
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if SECURE_SSL else None
SECURE_SSL_REDIRECT = SECURE_SSL
SECURE_REDIRECT_EXEMPT = [r"^healthz$", r"^readyz$", r"^metrics$"]
SECURE_HSTS_SECONDS = 31_536_000  # only answers over HTTPS have the header
SECURE_HSTS_INCLUDE_SUBDOMAINS = True
SECURE_HSTS_PRELOAD = True
# Not by SECURE_SSL, which also trusts a header: that is safe behind a proxy only.
PLAIN_HTTP = env.bool("PLAIN_HTTP", default=DEBUG)
SESSION_COOKIE_SECURE = not PLAIN_HTTP
CSRF_COOKIE_SECURE = not PLAIN_HTTP
# Browsers take a cookie of this name from this very host only, and only over HTTPS.
_COOKIE_PREFIX = "__Host-" if SECURE_SSL else ""
SESSION_COOKIE_NAME = f"{_COOKIE_PREFIX}sessionid"
CSRF_COOKIE_NAME = f"{_COOKIE_PREFIX}csrftoken"
CSRF_COOKIE_HTTPONLY = True  # pages read the token from their forms
LANGUAGE_COOKIE_SECURE = not PLAIN_HTTP
LANGUAGE_COOKIE_SAMESITE = "Lax"
SESSION_ENGINE = "backoffice.people.session_store"
SESSION_COOKIE_AGE = env.positive_int("SESSION_SECONDS", default=28_800)
SESSION_IDLE_SECONDS = env.positive_int("SESSION_IDLE_SECONDS", default=1_800)
STEP_UP_SECONDS = env.positive_int("STEP_UP_SECONDS", default=300)
DRAFT_SECONDS = env.positive_int("DRAFT_SECONDS", default=86_400)
TRUSTED_PROXIES = env.int("TRUSTED_PROXIES", default=0)
SECOND_FACTOR = env.second_factor("SECOND_FACTOR", default="live")
SECOND_FACTOR_KEY = env.str("SECOND_FACTOR_KEY", default="") or SECRET_KEY
OTP_TOTP_ISSUER = "Trading back office"
OTP_WEBAUTHN_HELPER_CLASS = "backoffice.people.passkeys.Helper"
OTP_WEBAUTHN_ALLOW_PASSWORDLESS_LOGIN = False
# The helper takes host, origin and name from each request, so these settings stay empty.
SILENCED_SYSTEM_CHECKS = ["otp_webauthn.E010", "otp_webauthn.E011", "otp_webauthn.E030"]
AUTHENTICATION_BACKENDS = ["backoffice.people.throttle.ThrottledBackend"]
LOGIN_ATTEMPTS_OF_A_PERSON = env.positive_int("LOGIN_ATTEMPTS_OF_A_PERSON", default=5)
LOGIN_ATTEMPTS_OF_AN_ADDRESS = env.positive_int("LOGIN_ATTEMPTS_OF_AN_ADDRESS", default=20)
LOGIN_ATTEMPTS_A_MINUTE = env.positive_int("LOGIN_ATTEMPTS_A_MINUTE", default=60)
LOGIN_LOCK_OUT_SECONDS = env.positive_int("LOGIN_LOCK_OUT_SECONDS", default=900)
X_FRAME_OPTIONS = "DENY"
DATA_UPLOAD_MAX_MEMORY_SIZE = LIMIT_BYTES
# The theme's Alpine evaluates its attributes, and the theme sets styles in attributes. Nothing else
# may run that isn't a file of ours, and nothing may be loaded from elsewhere.
CONTENT_SECURITY_POLICY: dict[str, Any] = {
    "DIRECTIVES": {
        "default-src": [NONE],
        "script-src": [SELF, UNSAFE_EVAL],
        "style-src": [SELF, UNSAFE_INLINE],
        "img-src": [SELF, "data:"],
        "font-src": [SELF],
        "connect-src": [SELF],
        "manifest-src": [SELF],
        "form-action": [SELF],
        "base-uri": [NONE],
        "frame-ancestors": [NONE],
    }
}
PASSWORD_HASHERS = [
    "django.contrib.auth.hashers.PBKDF2PasswordHasher",
    "django.contrib.auth.hashers.ScryptPasswordHasher",
]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {
        "NAME": "django.contrib.auth.password_validation.MinimumLengthValidator",
        "OPTIONS": {"min_length": 12},
    },
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
    {"NAME": "backoffice.people.passwords.KnownPartsValidator"},
    {"NAME": "django.contrib.auth.password_validation.NumericPasswordValidator"},
]

# -- Exchange -------------------------------------------------------------------------------------

EXCHANGE_REQUEST_TIMEOUT_MS = env.positive_int("EXCHANGE_REQUEST_TIMEOUT_MS", default=12_000)
# The exchange refuses every request with a longer one.
EXCHANGE_RECV_WINDOW_MS = env.positive_int("EXCHANGE_RECV_WINDOW_MS", default=5_000, most=60_000)
EXCHANGE_ENGINE_TIMEOUT_MS = env.int("EXCHANGE_ENGINE_TIMEOUT_MS", default=10_000)
EXCHANGE_READ_LAG_MS = env.int("EXCHANGE_READ_LAG_MS", default=5_000)
EXCHANGE_STREAM_SILENCE_SECONDS = env.seconds("EXCHANGE_STREAM_SILENCE_SECONDS", default=60)
EXCHANGE_STREAM_LONGEST_PAUSE_SECONDS = env.seconds(
    "EXCHANGE_STREAM_LONGEST_PAUSE_SECONDS", default=30
)
SYNC_INTERVAL_SECONDS = env.seconds("SYNC_INTERVAL_SECONDS", default=15)
SYNC_INTERVAL_STREAMING_SECONDS = env.seconds("SYNC_INTERVAL_STREAMING_SECONDS", default=60)
MID_INTERVAL_SECONDS = env.seconds("MID_INTERVAL_SECONDS", default=5)
RECONCILE_AT_START = env.bool("RECONCILE_AT_START", default=True)
RESOLVE_INTERVAL_SECONDS = env.seconds("RESOLVE_INTERVAL_SECONDS", default=2)
PLACE_WITHIN_SECONDS = env.seconds("PLACE_WITHIN_SECONDS", default=30)
MAX_UNSYNCED_SECONDS = env.seconds("MAX_UNSYNCED_SECONDS", default=120)
MAX_DUTY_AGE_SECONDS = env.seconds("MAX_DUTY_AGE_SECONDS", default=60)
BREAKER_FAILURES = env.positive_int("BREAKER_FAILURES", default=10)
BREAKER_WINDOW_SECONDS = env.seconds("BREAKER_WINDOW_SECONDS", default=30)
BREAKER_OPEN_SECONDS = env.seconds("BREAKER_OPEN_SECONDS", default=15)
BALANCE_MAX_AGE_SECONDS = 10.0
MONEY_ASSETS = env.asset_codes("MONEY_ASSETS", default=[])
DEMO_TOUR = env.bool("DEMO_TOUR", default=False)
KEY_MAX_AGE_DAYS = env.int("KEY_MAX_AGE_DAYS", default=365)
HALT_UNRESOLVED_ORDERS = env.int("HALT_UNRESOLVED_ORDERS", default=50)
HALT_BREAKER_OPEN_SECONDS = env.float("HALT_BREAKER_OPEN_SECONDS", default=300)

# -- The journal ----------------------------------------------------------------------------------

JOURNAL_ANCHOR_FILE = env.str("JOURNAL_ANCHOR_FILE", default="")
JOURNAL_ANCHOR_URL = env.http_url("JOURNAL_ANCHOR_URL", default="")

# -- The orchestrator -----------------------------------------------------------------------------

ORDER_EVENTS_TASK = env.str("ORDER_EVENTS_TASK", default="")
ORDER_EVENTS_QUEUE = env.str("ORDER_EVENTS_QUEUE", default="order-events")

# -- Celery ---------------------------------------------------------------------------------------

REDIS_URL = env.redis_url("REDIS_URL", default="redis://127.0.0.1:6379/0")
_BROKER_URL = env.broker_url("CELERY_BROKER_URL", default="") or REDIS_URL
_RESULTS_URL = env.result_backend("CELERY_RESULT_BACKEND", default="") or REDIS_URL
CELERY_BROKER_URL = celery_url("CELERY_BROKER_URL", _BROKER_URL)
CELERY_RESULT_BACKEND = celery_url("CELERY_RESULT_BACKEND", _RESULTS_URL)
CELERY_RESULT_BACKEND_TRANSPORT_OPTIONS = celery_options("CELERY_RESULT_BACKEND", _RESULTS_URL)
CELERY_TASK_ALWAYS_EAGER = env.bool("CELERY_TASK_ALWAYS_EAGER", default=False)
CELERY_TASK_EAGER_PROPAGATES = True
CELERY_TASK_SERIALIZER = "json"
CELERY_RESULT_SERIALIZER = "json"
CELERY_ACCEPT_CONTENT = ["json"]
CELERY_RESULT_ACCEPT_CONTENT = ["json"]
CELERY_TASK_IGNORE_RESULT = True  # a message that wants its result says ignore_result=False
CELERY_RESULT_EXPIRES = 3600
CELERY_TASK_DEFAULT_QUEUE = "sync"
_QUEUES = settings_of(_BROKER_URL)
CELERY_TASK_QUEUES: dict[str, dict[str, Any]] = _QUEUES["task_queues"]
CELERY_TASK_CREATE_MISSING_QUEUE_TYPE = _QUEUES["task_create_missing_queue_type"]
CELERY_TASK_ROUTES = {
    "orders.submit_order": {"queue": "trading"},
    "orders.place_order": {"queue": "trading"},
    "orders.cancel_order": {"queue": "cancel"},
    "orders.drive_cancels": {"queue": "cancel"},
    "exchanges.check_key": {"queue": "cancel"},
    "orders.resolve_unconfirmed": {"queue": "duties"},
    "orders.sweep_account": {"queue": "duties"},
    "orders.apply_halt_rules": {"queue": "duties"},
    "orders.send_order_events": {"queue": "duties"},
    "people.anchor_journal": {"queue": "duties"},
}
# A message is acknowledged after its work, so the message of a killed worker comes again. It may
# come twice, which is safe.
CELERY_TASK_ACKS_LATE = True
CELERY_TASK_REJECT_ON_WORKER_LOST = True
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
# Whoever reaches the broker could stop consumers and read arguments by it.
CELERY_WORKER_ENABLE_REMOTE_CONTROL = env.bool("CELERY_REMOTE_CONTROL", default=False)
HEARTBEAT_FILE = env.str("HEARTBEAT_FILE", default="")
CELERY_WORKER_HIJACK_ROOT_LOGGER = False
CELERY_WORKER_CANCEL_LONG_RUNNING_TASKS_ON_CONNECTION_LOSS = False
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_BROKER_CONNECTION_MAX_RETRIES = None
# Publishing must fail fast, because the order is in the database already and the sweep sends it.
CELERY_TASK_PUBLISH_RETRY = True
CELERY_TASK_PUBLISH_RETRY_POLICY = {
    "max_retries": 1,
    "interval_start": 0,
    "interval_step": 0.1,
    "interval_max": 0.1,
}
CELERY_BROKER_TRANSPORT_OPTIONS = {
    "visibility_timeout": 300,
    "socket_timeout": 5,
    "socket_connect_timeout": 2,
    "socket_keepalive": True,
    "health_check_interval": 25,
    "confirm_publish": True,  # RabbitMQ alone knows it: a message is sent when it is stored
    **celery_options("CELERY_BROKER_URL", _BROKER_URL),
}
CELERY_REDIS_SOCKET_TIMEOUT = 5.0
CELERY_REDIS_SOCKET_CONNECT_TIMEOUT = 2.0
CELERY_TIMEZONE = "UTC"
CELERY_BEAT_SCHEDULER = "backoffice.beat:DueAtStart"
CELERY_BEAT_MAX_LOOP_INTERVAL = 1.0


def _every(task: str, seconds: float, **options: Any) -> dict[str, Any]:
    """Return a row of the schedule. More often than once a second would only fill the queue."""
    seconds = max(1.0, float(seconds))
    return {"task": task, "schedule": schedule(seconds), "options": repeated(seconds) | options}


CELERY_BEAT_SCHEDULE: dict[str, dict[str, Any]] = {
    "resolve-unconfirmed": _every("orders.resolve_unconfirmed", RESOLVE_INTERVAL_SECONDS),
    "send-order-events": _every("orders.send_order_events", RESOLVE_INTERVAL_SECONDS),
    "apply-halt-rules": _every("orders.apply_halt_rules", 5),
    "sync-accounts": _every("orders.sync_accounts", SYNC_INTERVAL_SECONDS),
    "reconcile-accounts": _every("orders.reconcile_accounts", 900),
    "refresh-mids": _every("orders.refresh_mids", MID_INTERVAL_SECONDS),
    "refresh-positions": _every("orders.refresh_positions", 60),
    "sync-instruments": _every("exchanges.sync_all_instruments", 3600),
    "read-keys": _every("exchanges.read_keys", 3600),
    "continue-bulk": _every("desk.continue_bulk", 15),
    "anchor-journal": _every("people.anchor_journal", 60),
    # Shows whether any worker consumes the queue.
    **{
        f"heartbeat-{queue}": _every("exchanges.heartbeat", 5, queue=queue) | {"args": (queue,)}
        for queue in CELERY_TASK_QUEUES
    },
}

# -- Logs -----------------------------------------------------------------------------------------

LOG_LEVEL = env.log_level("LOG_LEVEL", default="INFO")
LOGGING_CONFIG = None
configure_logging(level=LOG_LEVEL, as_json=env.bool("LOG_JSON", default=not DEBUG))

# -- Admin ----------------------------------------------------------------------------------------

# The theme would cache the palette's results for five minutes, even if the person loses rights
# meanwhile. Nothing else uses Django's cache.
CACHES = {"default": {"BACKEND": "django.core.cache.backends.dummy.DummyCache"}}

UNFOLD: dict[str, Any] = {
    "SITE_TITLE": _("Trading back office"),
    "SITE_HEADER": _("Trading back office"),
    "SITE_URL": None,
    "SITE_SYMBOL": "swap_vert",
    "SHOW_HISTORY": False,
    "SHOW_VIEW_ON_SITE": False,
    "SHOW_LANGUAGES": True,
    "LOGIN": {"form": "backoffice.people.sign_in.SignInForm"},
    "ENVIRONMENT": "backoffice.desk.sidebar.environment_badge",
    "ENVIRONMENT_TITLE_PREFIX": "backoffice.desk.sidebar.title_prefix",
    "DASHBOARD_CALLBACK": "backoffice.desk.pages.dashboard.dashboard",
    "SCRIPTS": [
        lambda request: static("people/htmx-config.js"),
        lambda request: static("desk/keys.js"),
        lambda request: static("desk/live.js"),
        lambda request: static("desk/stop.js"),
    ],
    "COMMAND": {"search_callback": "backoffice.desk.pages.palette.search"},
    "STYLES": [
        lambda request: static("desk/desk.css"),
        lambda request: static("people/people.css"),
    ],
    "ACCOUNT": {
        "navigation": [
            {"title": _("Sign-in and sessions"), "link": reverse_lazy("my_sign_in")},
        ]
    },
    "SITE_FAVICONS": [
        {
            "rel": "icon",
            "type": "image/svg+xml",
            "href": lambda request: static("desk/favicon.svg"),
        },
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
        "command_search": True,
        "show_all_applications": False,
        "navigation": "backoffice.desk.sidebar.sidebar",
    },
}

os.environ.setdefault("DJANGO_RUNSERVER_HIDE_WARNING", "true")
