def report_of(*a): pass
