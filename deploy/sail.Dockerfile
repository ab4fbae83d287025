# A Sail server, which runs statements of the query service. Build from the root of the repository.
ARG PYTHON_IMAGE=python:3.13.18-slim
FROM ${PYTHON_IMAGE} AS build
WORKDIR /opt/dagfusion
COPY constraints.txt ./
RUN python3 -m venv /opt/uv && /opt/uv/bin/pip install --no-cache-dir --constraint constraints.txt uv && python3 -m venv --without-pip /opt/venv
RUN VIRTUAL_ENV=/opt/venv /opt/uv/bin/uv pip install --no-cache --compile-bytecode --constraints constraints.txt pysail

FROM ${PYTHON_IMAGE}
COPY --from=build /opt/venv /opt/venv
COPY deploy/sail-entry.sh /usr/local/bin/sail-entry.sh
# The user of the query service's image, which writes the token.
RUN useradd --system --uid 10001 sail
# Temporary files in TMPDIR are all that is written.
ENV PATH=/opt/venv/bin:$PATH HOME=/tmp TMPDIR=/tmp
USER 10001
WORKDIR /tmp
EXPOSE 50051
ENTRYPOINT ["/usr/local/bin/sail-entry.sh"]
CMD ["sail", "spark", "server", "--ip", "0.0.0.0", "--port", "50051"]
