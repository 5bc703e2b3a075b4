# The service: API, database and migrations; no torch, no toolchain, so that a broken one cannot take it down.
FROM python:3.11-slim
RUN useradd --create-home --uid 10001 edgelut
WORKDIR /app
COPY pyproject.toml README.md LICENSE ./
COPY client client
COPY api api
COPY backends backends
COPY db db
COPY migrations migrations
COPY profiler profiler
COPY supernet supernet
RUN pip install --no-cache-dir ./client .
USER edgelut
EXPOSE 8321
CMD ["edgelut", "serve", "--host", "0.0.0.0"]
