# syntax=docker/dockerfile:1
# One image for every service; the command chooses: docker run episodeflow converter -c config/storage.yaml

FROM python:3.11.9-slim-bookworm AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /src

# What changes seldom comes first: the layer of the libraries is built anew only when a lock file changes.
COPY requirements-build.lock requirements-prod.lock ./
RUN python -m venv /build && /build/bin/pip install --require-hashes -r requirements-build.lock
RUN python -m venv /opt/episodeflow && /opt/episodeflow/bin/pip install --require-hashes -r requirements-prod.lock

COPY pyproject.toml README.md LICENSE ./
COPY cli cli
COPY services services
COPY shared shared
RUN /build/bin/pip wheel --no-deps --no-build-isolation -w /wheels . \
    && /opt/episodeflow/bin/pip install --no-deps --no-index /wheels/*.whl


FROM python:3.11.9-slim-bookworm
LABEL org.opencontainers.image.title="episodeflow" org.opencontainers.image.licenses="Apache-2.0"
RUN groupadd --gid 10001 episodeflow \
    && useradd --uid 10001 --gid 10001 --home-dir /var/lib/episodeflow --shell /usr/sbin/nologin episodeflow \
    && install -d -o 10001 -g 10001 -m 0750 /var/lib/episodeflow
COPY --from=build /opt/episodeflow /opt/episodeflow
COPY config /app/config
ENV PATH=/opt/episodeflow/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    LEROBOT_TEMP_DIR=/var/lib/episodeflow \
    METRICS_HOST=0.0.0.0 \
    METRICS_PORT=9600
WORKDIR /app
USER 10001:10001
VOLUME /var/lib/episodeflow
EXPOSE 9600
ENTRYPOINT ["episodeflow"]
CMD ["--help"]
