"""What happens in an update, in MLflow: through an outbox that outlives an absent server."""
