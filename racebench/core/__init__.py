"""The values and rules that every other package builds on: errors, the model, the target, signals, atomic writes."""
