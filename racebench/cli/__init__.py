"""The command line: options, settings, commands and exit codes."""
