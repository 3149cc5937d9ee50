"""Runs strategies under load: worker processes, live consumers, and the driver that runs both."""
