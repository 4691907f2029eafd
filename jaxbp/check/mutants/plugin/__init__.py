"""The folder of the pytest plugin that mutates rules; on the path of the child processes alone."""
