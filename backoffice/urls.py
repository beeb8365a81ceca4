"""Map the back office's URLs to its views."""

from __future__ import annotations

from django.contrib import admin
from django.urls import include, path
from django.views.generic import RedirectView

from backoffice.desk.bulk.pages import admin_bulk_run
from backoffice.desk.live.views import stream
from backoffice.desk.order_page.prices import admin_prices
from backoffice.desk.pages.dashboard import admin_part
from backoffice.desk.pages.stop import admin_ask_again, admin_stop
from backoffice.desk.pages.tour import admin_go_on
from backoffice.health import healthz, readyz
from backoffice.metrics import metrics
from backoffice.people.urls import urlpatterns as people_urls

handler500 = "backoffice.health.unavailable_or_error"

urlpatterns = [
    path("", RedirectView.as_view(pattern_name="admin:index")),
    *people_urls,
    path("admin/live/", stream, name="live"),
    path("admin/live/<slug:part>/", admin_part, name="desk_part"),
    path("admin/desk/order/<uuid:order_id>/prices/", admin_prices, name="order_prices"),
    path("admin/stop/", admin_stop, name="stop"),
    path("admin/stop/ask/", admin_ask_again, name="stop_ask"),
    path("admin/tour/", admin_go_on, name="tour"),
    path("admin/bulk/<uuid:key>/", admin_bulk_run, name="bulk_run"),
    path("admin/", admin.site.urls),
    path("i18n/", include("django.conf.urls.i18n")),
    path("healthz", healthz, name="healthz"),
    path("readyz", readyz, name="readyz"),
    path("metrics", metrics, name="metrics"),
]
