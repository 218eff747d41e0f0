"""What `ratchet doctor` looks at: the machine, and the service where there is one."""
