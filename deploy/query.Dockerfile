# The query service, without Dagster. Build from the root of the repository.
ARG PYTHON_IMAGE=python:3.13.18-slim
FROM ${PYTHON_IMAGE} AS build
WORKDIR /opt/dagfusion
COPY constraints.txt ./
RUN python3 -m venv /opt/uv && /opt/uv/bin/pip install --no-cache-dir --constraint constraints.txt uv && python3 -m venv --without-pip /opt/venv
COPY packages/contract packages/contract
COPY packages/client packages/client
COPY packages/query packages/query
COPY packages/interop packages/interop
COPY packages/server packages/server
COPY packages/cli packages/cli
# `otel` is for traces, `aws` for secrets in AWS Secrets Manager and for `dagfusion doctor`, `spark` for a Spark Connect server.
ARG EXTRAS=server,aws,otel,spark
RUN VIRTUAL_ENV=/opt/venv /opt/uv/bin/uv pip install --no-cache --compile-bytecode --constraints constraints.txt \
      --build-constraints constraints.txt ./packages/contract ./packages/client ./packages/interop ./packages/server ./packages/cli \
      "./packages/query[${EXTRAS}]"

FROM ${PYTHON_IMAGE}
COPY --from=build /opt/venv /opt/venv
COPY deploy/query-entry.sh /usr/local/bin/query-entry.sh
RUN useradd --system --uid 10001 dagfusion && install -d -m 700 -o dagfusion -g dagfusion /run/dagfusion && install -d -m 700 -o dagfusion -g dagfusion /var/lib/dagfusion
# All that is written lies in one folder, so that the rest of the file system can be read-only.
ENV PATH=/opt/venv/bin:$PATH PYTHONUNBUFFERED=1 HOME=/var/lib/dagfusion TMPDIR=/var/lib/dagfusion/tmp \
    DAGFUSION_STATE_DIR=/var/lib/dagfusion/state
USER 10001
VOLUME /var/lib/dagfusion
WORKDIR /var/lib/dagfusion
EXPOSE 8080 8081
ENTRYPOINT ["/usr/local/bin/query-entry.sh"]
CMD ["dagfusion", "serve", "--http-address", "0.0.0.0:8080", "--flight-address", "0.0.0.0:8081"]
