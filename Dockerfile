# One image for web, workers, beat and listener; compose.yaml says which is which. Holds no secret: they come at run time.
FROM python:3.11.14-slim-bookworm AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python -m venv /venv
COPY requirements.txt /tmp/
RUN /venv/bin/pip install --require-hashes -r /tmp/requirements.txt

FROM python:3.11.14-slim-bookworm
ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 PATH=/venv/bin:$PATH STATIC_COLLECTED=on
RUN useradd --system --uid 10001 --home-dir /app backoffice
WORKDIR /app
COPY --from=build /venv /venv
COPY manage.py ./
COPY locale ./locale
COPY backoffice ./backoffice
COPY exchanges ./exchanges
COPY orders ./orders
# Key and address are only needed to load the settings here; they are not kept.
RUN mkdir var && SECRET_KEY=while-building DATABASE_URL=postgres://while-building/none python manage.py collectstatic --noinput \
    && chown -R backoffice var
USER backoffice
EXPOSE 8000
HEALTHCHECK NONE
CMD ["uvicorn", "backoffice.asgi:application", "--host", "0.0.0.0", "--port", "8000", "--timeout-graceful-shutdown", "10", "--no-access-log", "--no-proxy-headers", "--lifespan", "off"]
