"""What clients hand in, checked and kept: uploads, addresses of data, paths of a spec."""
