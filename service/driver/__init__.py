"""What runs a job: a process over a job's folder, `python -m service.driver JOB_FOLDER ATTEMPT`."""
