"""Full speed: worker processes, a live consumer beside them, and the driver that runs both."""
