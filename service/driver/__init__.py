"""What runs a job: a process over its folder, `python -m ratchet.service.driver FOLDER ATTEMPT`."""
