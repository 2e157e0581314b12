# The image of Penstock: one folder of Python packages on a base with Python 3.11, for a user without rights.
#   docker build -t penstock --build-arg BASE=debian:bookworm-slim@sha256:... .
ARG BASE=debian:bookworm-slim

FROM ${BASE} AS build
RUN apt-get update && apt-get install -y --no-install-recommends python3 python3-venv
WORKDIR /src
COPY requirements requirements
RUN python3 -m venv /venv \
 && /venv/bin/pip install --require-hashes -r requirements/serve.txt \
 && /venv/bin/pip install --require-hashes -r requirements/serve.txt --target /opt/penstock/lib
COPY . .
RUN /venv/bin/pip install --no-deps --no-build-isolation --target /opt/penstock/lib .

FROM ${BASE}
RUN apt-get update \
 && apt-get install -y --no-install-recommends python3.11-minimal libpython3.11-stdlib ca-certificates tzdata \
 && rm -rf /var/lib/apt/lists/*
COPY --from=build /opt/penstock /opt/penstock
ENV PYTHONPATH=/opt/penstock/lib PYTHONDONTWRITEBYTECODE=1 PENSTOCK_DATA=/var/lib/penstock
USER 65532:65532
ENTRYPOINT ["python3.11", "-m", "broker"]
CMD ["serve"]
