"""Where workers run. An executor is given a function and tasks and is ignorant of SQL."""
