"""The endpoint on Ray Serve: ingress, replicas, and the watch over aliases."""
