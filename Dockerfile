# The image of workers and gateway: the extras worker, gateway and postgres, and no tools. The locked dependencies come
# first: they change less often than the packages. `make lock` writes requirements-worker.lock.
FROM python:3.12-slim

ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
WORKDIR /app

COPY requirements-worker.lock ./
RUN pip install --quiet --require-hashes --requirement requirements-worker.lock

COPY pyproject.toml README.md LICENSE ./
COPY producer producer
COPY worker worker
RUN pip install --quiet --no-deps --no-build-isolation .

RUN useradd --create-home --uid 1000 nightmill && install --directory --owner nightmill /data
USER nightmill
VOLUME /data
ENV NIGHTMILL_DATA_DIR=/data

ENTRYPOINT ["nightmill"]
