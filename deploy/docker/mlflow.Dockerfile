# syntax=docker/dockerfile:1
# MLflow with what it needs to keep its tables in PostgreSQL and its artifacts on S3, and no more.
#   docker build -f deploy/docker/mlflow.Dockerfile -t ratchet-mlflow .
FROM python:3.11-slim-bookworm
COPY constraints.txt /tmp/
RUN pip install --no-cache-dir --disable-pip-version-check -c /tmp/constraints.txt \
        "mlflow[auth]" "psycopg[binary]" boto3 \
    && useradd --uid 10001 --user-group --create-home mlflow
USER 10001:10001
WORKDIR /home/mlflow
ENV MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false \
    MLFLOW_DISABLE_TELEMETRY=true \
    PYTHONUNBUFFERED=1
EXPOSE 5000
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=6 \
    CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:5000/health', timeout=4)"]
ENTRYPOINT ["mlflow", "server"]
CMD ["--host", "0.0.0.0", "--port", "5000", "--workers", "1"]
