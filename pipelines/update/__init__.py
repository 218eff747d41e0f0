"""An update from its spec to a registered, judged version."""
