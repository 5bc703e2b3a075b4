# Two images of one tree: `service` (API, engine, migrations; no torch, so that a broken toolchain cannot take it down) and
# `agent` (the same with every toolchain, to export and measure).
FROM python:3.11-slim AS service
RUN useradd --create-home --uid 10001 edgelut
WORKDIR /app
COPY pyproject.toml README.md LICENSE ./
COPY client client
COPY api api
COPY backends backends
COPY dashboard dashboard
COPY db db
COPY emulator emulator
COPY jobs jobs
COPY migrations migrations
COPY profiler profiler
COPY search search
COPY supernet supernet
RUN pip install --no-cache-dir ./client ".[dashboard]"
RUN mkdir -p /home/edgelut/.local/share/edgelut && chown -R edgelut /home/edgelut
USER edgelut
EXPOSE 8321 8322
CMD ["edgelut", "serve", "--no-agent", "--no-dashboard", "--host", "0.0.0.0"]

FROM service AS agent
USER root
RUN pip install --no-cache-dir ".[profile]"
USER edgelut
CMD ["edgelut", "agent"]
